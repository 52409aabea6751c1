"""Games as lists of ends, their values by other means, and what a search plays."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import dual_step
from mdtheory.nlhf import decision_time_planning as dtp
from mdtheory.nlhf import games
from mdtheory.nlhf.decision_time_planning.ends import ends_of
from mdtheory.nlhf.games.walk import walk
from mdtheory.runs import check_identity
from tests.nlhf.decision_time_planning_cases import (
    F64,
    Node,
    describe,
    draws,
    policy,
    relay,
    searched_by_hand,
    tiny,
)
from tests.refused import fails, identity


def by_gradient(game, log_policy):
    """Action values as the gradient of the return by that of the total probability."""
    probabilities = tuple(law.exp().requires_grad_() for law in log_policy)
    joint = torch.cat(probabilities, -2)
    path = game.ends.chance * game.ends.taken(joint).prod(-1)
    top = torch.autograd.grad((path * game.payoff).sum(), probabilities, retain_graph=True)
    low = torch.autograd.grad(path.sum(), probabilities)
    return tuple(torch.where(b > 0, a / b, 0.0) for a, b in zip(top, low, strict=True))


def small_tree():
    return dtp.CommonPayoffGame.from_tree(Node(None), describe)


# ------------------------------------------------------------------------------------ equivalence


@pytest.mark.theorem("prop-search-equivalence", "equality")
@pytest.mark.parametrize("seed", range(3))
def test_searches_row_by_row_are_one_step(seed):
    """Posterior and play by hand in every row, against the sums over ends."""
    game, generator = small_tree(), draws(seed)
    law = policy(game, generator)
    *_, names, _ = walk(Node(None), describe, F64, None)
    named = {
        name: law[player][row].exp().tolist()
        for player in (0, 1)
        for row, name in enumerate(names[player])
    }
    played = dtp.exact_search_policy(game, law, 3.0)
    for player in (0, 1):
        for row, name in enumerate(names[player]):
            values = searched_by_hand(Node(None), named, (player, name))
            count = len(values)
            here = law[player][row, :count]
            step = (here + 3.0 * torch.tensor(values, dtype=F64)).softmax(-1)
            check_identity("prop-search-equivalence", played[player][row, :count].exp(), step)
            assert (played[player][row, count:] == -math.inf).all()


@pytest.mark.theorem("prop-search-equivalence", "equality")
def test_action_values_are_a_quotient_of_gradients():
    for rounds, cards in ((2, 3), (3, 2), (4, 2), (6, 1)):
        generator = draws(rounds)
        game = relay(rounds, cards, 2, generator, (5,))
        law = policy(game, generator, (5,))
        for ours, theirs in zip(game.action_values(law), by_gradient(game, law), strict=True):
            check_identity("prop-search-equivalence", ours, theirs)
    generator = draws(4)
    game = tiny(generator, (7,))
    law = policy(game, generator, (7,))
    one = tiny(draws(5))
    first, second = one.action_values(one.uniform())
    tree = one.tree()
    even = torch.nn.functional.pad(one.uniform()[0], (0, 1), value=-math.inf)
    flat = tree.action_values((even, one.uniform()[1].flatten(0, 1)))
    check_identity("prop-search-equivalence", first, flat[0][:, :2])
    check_identity("prop-search-equivalence", second.flatten(0, 1), flat[1])
    assert (game.value(law) >= 0).all()


@pytest.mark.theorem("prop-search-equivalence", "equality")
@pytest.mark.parametrize("name", ["kuhn", "leduc"])
def test_search_in_every_row_is_one_magnetic_step(name):
    game = games.kuhn_poker() if name == "kuhn" else games.leduc_poker()
    generator = draws(1)
    law, magnet = policy(game, generator), policy(game, generator)
    for temperature, pull in ((0.0, None), (0.3, None), (0.3, magnet)):
        wanted = games.magnetic_mirror_descent(
            game, 1, temperature, 2.0, start=law, magnet=pull, form="behavioural"
        )
        found = dtp.exact_search_policy(game, law, 2.0, temperature=temperature, magnet=pull)
        for ours, theirs in zip(found, wanted, strict=True):
            check_identity("prop-search-equivalence", ours.exp(), theirs.exp())
    # The same values from the list of the ends.
    ends, owner = ends_of(game), torch.tensor([1.0, -1.0], dtype=F64)
    whose = owner[ends.owner[ends.choices.clamp(min=0) // ends.actions]].T
    values = ends.values(torch.cat(law).exp(), game.payoff * whose).split(game.rows)
    for ours, theirs in zip(values, game.action_values(law), strict=True):
        check_identity("prop-search-equivalence", ours, theirs)


@pytest.mark.theorem("prop-search-equivalence", "equality")
def test_search_in_matrix_games_is_the_step_that_converges():
    generator = draws(2)
    game = games.MatrixGame(torch.randn(6, 3, 4, generator=generator, dtype=F64))
    law = tuple(torch.randn(6, n, generator=generator, dtype=F64).log_softmax(-1) for n in (3, 4))
    tau = torch.linspace(0.1, 1, 6, dtype=F64)
    wanted = games.magnetic_mirror_descent(game, 1, tau, 0.2, start=law)
    found = dtp.exact_search_policy(game, law, 0.2, temperature=tau)
    for ours, theirs in zip(found, wanted, strict=True):
        check_identity("prop-search-equivalence", ours, theirs)


@pytest.mark.theorem("prop-search-equivalence", "mutant")
def test_prior_and_counterfactual_values_are_other_steps():
    generator = draws(3)
    game = tiny(generator, (20,))
    law = policy(game, generator, (20,))
    played = dtp.exact_search_policy(game, law, 5.0)[1]
    x = game.payoff.shape[-4]
    behind = game.prior[..., None] * law[0].exp()[..., :, None, :]
    posterior = behind / behind.sum(-3, keepdim=True)
    prior = (game.prior / game.prior.sum(-2, keepdim=True))[..., None].expand_as(posterior)
    counterfactual = behind / behind.sum((-3, -2), keepdim=True) * x

    def step(weights):
        values = (weights[..., None] * game.payoff).sum(-4)
        return (law[1] + 5.0 * values).log_softmax(-1)

    for wrong in (prior, counterfactual):
        fails(identity("prop-search-equivalence"), played, step(wrong),
              true=[played, step(posterior)])  # fmt: skip


# ----------------------------------------------------------------------------------- what is played


def test_the_step_is_that_of_the_first_chapter():
    generator = draws(4)
    law = torch.randn(5, 4, generator=generator, dtype=F64).log_softmax(-1)
    values = torch.randn(5, 4, generator=generator, dtype=F64)
    magnet = torch.randn(5, 4, generator=generator, dtype=F64).log_softmax(-1)
    eta = torch.linspace(0.1, 3, 5, dtype=F64)
    wanted = dual_step(law, -values, eta[:, None], magnet, 0.3).log_softmax(-1)
    found = dtp.magnetic_search(law, values, eta, 0.3, magnet)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
    direct = law.exp() * (eta[:, None] * values).exp() * magnet.exp() ** (0.3 * eta[:, None])
    direct = direct ** (1 / (1 + 0.3 * eta[:, None]))
    torch.testing.assert_close(found.exp(), direct / direct.sum(-1, keepdim=True))
    plain = dtp.mirror_descent_search(law, values, eta)
    torch.testing.assert_close(plain, dtp.magnetic_search(law, values, eta, 0.0))
    with_tensor = dtp.magnetic_search(law, values, eta, torch.zeros(5, dtype=F64))
    torch.testing.assert_close(plain, with_tensor)


def test_infinite_steps_ties_and_illegal_actions():
    law = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=F64).log()
    values = torch.tensor([1.0, 2.0, 2.0, 9.0], dtype=F64)
    greedy = dtp.mirror_descent_search(law, values, math.inf).exp()
    torch.testing.assert_close(greedy, torch.tensor([0.0, 0.6, 0.4, 0.0], dtype=F64))
    mixed = dtp.mirror_descent_search(law, values, torch.tensor([1.0, math.inf], dtype=F64))
    torch.testing.assert_close(mixed[1].exp(), greedy)
    torch.testing.assert_close(mixed[0], dtp.mirror_descent_search(law, values, 1.0))
    # An endless step is held by a magnet: the quantal response.
    held = dtp.magnetic_search(law, values, math.inf, 0.5)
    wanted = torch.where(law > -math.inf, values / 0.5, -math.inf).log_softmax(-1)
    torch.testing.assert_close(held, wanted)
    # The blueprint decides a tie, and then the first.
    one = dtp.mirror_descent_search(law, values, math.inf, play="argmax").exp()
    assert one.tolist() == [0, 1, 0, 0]
    even = torch.full((3,), 1 / 3, dtype=F64).log()
    nothing = torch.zeros(3, dtype=F64)
    assert dtp.mirror_descent_search(even, nothing, 2.0, play="argmax").exp().tolist() == [1, 0, 0]
    # Rewards far below 0 beat nothing that is not legal: no start from a number such as -1.
    low = torch.tensor([-50.0, -40.0, -45.0, 0.0], dtype=F64)
    assert dtp.mirror_descent_search(law, low, 9.0, play="argmax").argmax() == 1


def test_who_searches():
    generator = draws(6)
    game = tiny(generator)
    law = policy(game, generator)
    both = dtp.exact_search_policy(game, law, 2.0)
    for players, searching in ((0, (0,)), (1, (1,)), ([0, 1], (0, 1)), ((), ())):
        found = dtp.exact_search_policy(game, law, 2.0, players=players)
        for k in (0, 1):
            assert torch.equal(found[k], both[k] if k in searching else law[k])
            assert found[k].data_ptr() != law[k].data_ptr()
    steps = torch.tensor([0.1, 5.0], dtype=F64)
    batch = dtp.exact_search_policy(game, law, steps)
    for row, eta in enumerate(steps.tolist()):
        alone = dtp.exact_search_policy(game, law, eta)
        for ours, theirs in zip(batch, alone, strict=True):
            torch.testing.assert_close(ours[row], theirs)


# -------------------------------------------------------------------------------- the tiny game


def test_the_optimum_is_that_of_all_deterministic_pairs():
    import itertools

    game = tiny(draws(7), (3,), x=2, y=2, a=2, b=2)
    best = torch.full((3,), -math.inf, dtype=F64)
    for first in itertools.product(range(2), repeat=2):
        for second in itertools.product(range(2), repeat=4):
            one = torch.nn.functional.one_hot(torch.tensor(first), 2).double().log()
            two = torch.nn.functional.one_hot(torch.tensor(second).reshape(2, 2), 2).double().log()
            best = torch.maximum(best, game.value((one, two)))
    torch.testing.assert_close(game.optimum(), best)
    wide = tiny(draws(8), x=7, a=3)
    assert wide.optimum() >= wide.value(policy(wide, draws(1)))


def test_the_tiny_game_as_a_tree():
    generator = draws(8)
    prior = torch.tensor([[0.5, 0.0], [0.2, 0.3]], dtype=F64)
    game = dtp.TinyHanabi(torch.rand(4, 2, 2, 3, 2, generator=generator, dtype=F64), prior)
    law = policy(game, generator, (4,))
    tree = game.tree()
    assert tree.rows == (2, 6)
    wide = (law[0], torch.nn.functional.pad(law[1].flatten(1, 2), (0, 1), value=-math.inf))
    check_identity("prop-search-equivalence", game.value(law), tree.value(wide))
    for ours, theirs in zip(game.action_values(law), tree.action_values(wide), strict=True):
        check_identity("prop-search-equivalence", ours.flatten(1, -2),
                       theirs[..., : ours.shape[-1]])  # fmt: skip
    assert game.decisions == tree.decisions == 2
    assert torch.equal(game.reward_range, tree.reward_range)
    several = dtp.TinyHanabi(game.payoff, prior.expand(4, 2, 2).clone().index_put(
        (torch.tensor(0),), torch.full((2, 2), 0.25, dtype=F64)))  # fmt: skip
    with pytest.raises(ValueError, match=r"^prior: expected one law"):
        several.tree()


def test_a_tree_and_its_reach():
    game = small_tree()
    assert repr(game) == "CommonPayoffGame(8 and 4 information sets, 32 ends)"
    law = game.uniform()
    reach = game.reach(law)
    for chance in (0.3, 0.7):
        assert (reach[0] - chance).abs().min() < 1e-12
    assert abs(reach[1].sum() - 1) < 1e-12
    assert game.decisions == 3


# ------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("kind", ["tiny", "ends", "kuhn"])
def test_sampled_values_have_no_bias(kind):
    generator = draws(9)
    game = {"tiny": lambda: tiny(generator), "ends": small_tree, "kuhn": games.kuhn_poker}[kind]()
    law = policy(game, generator)
    many = tuple(side.expand(400, *side.shape) for side in law)
    found = dtp.sampled_action_values(game, many, 20, generator)
    for ours, theirs in zip(found, dtp.action_values(game, law), strict=True):
        error = ours.std(0) / 20 + 1e-12
        assert ((ours.mean(0) - theirs).abs() / error).max() < 5
        # A sample of twenty has a twentieth of the variance of one.
        assert ours.std(0).max() < 0.5 * (4 if kind == "kuhn" else 1)


def test_all_actions_of_a_row_meet_the_same_history():
    """With a payoff that the choices do not touch, the noise of all actions is the same."""
    generator = draws(10)
    x = torch.rand(4, 3, 1, 1, generator=generator, dtype=F64)
    game = dtp.TinyHanabi(x.expand(4, 3, 2, 2).clone())
    law = policy(game, generator)
    for found in (
        dtp.sampled_action_values(game, law, 3, generator),
        dtp.sampled_action_values(game.tree(), (law[0], law[1].flatten(0, 1)), 3, generator),
    ):
        for values in found:
            assert (values[..., 0] - values[..., 1]).abs().max() < 1e-14
    opening = dtp.sampled_action_values(game, law, 3, generator)[0]
    assert opening.std() > 1e-3


def test_rows_that_are_not_reached_have_no_value():
    law = (torch.tensor([[0.0, -math.inf]] * 2, dtype=F64),
           torch.zeros(2, 2, 2, dtype=F64).log_softmax(-1))  # fmt: skip
    game = dtp.TinyHanabi(1 + torch.rand(2, 2, 2, 2, generator=draws(1), dtype=F64))
    sampled = dtp.sampled_action_values(game, law, 4, draws(2))
    for values in (game.action_values(law), sampled):
        assert (values[1][:, 1] == 0).all()
        assert (values[1][:, 0] >= 1).all()
        assert (values[0] >= 1).all()  # his own past does not count
    tree = game.tree()
    flat = (law[0], law[1].flatten(0, 1))
    for values in (tree.action_values(flat), dtp.sampled_action_values(tree, flat, 4, draws(2))):
        assert (values[1][1::2] == 0).all()
        assert (values[1][::2] >= 1).all()
