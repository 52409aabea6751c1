"""The labelled statements about search: bound, equality, mutant, tight instance."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import kl
from mdtheory.nlhf import decision_time_planning as dtp
from mdtheory.nlhf.decision_time_planning import bounds
from mdtheory.runs import check_bound, check_identity
from tests.nlhf.decision_time_planning_cases import (
    F64,
    anti_coordination,
    draws,
    once,
    policy,
    relay,
    tiny,
)
from tests.refused import bound, fails, identity

STEPS = torch.tensor([0.3, 3.0, 30.0], dtype=F64)


def steps_and_games(depth, batch=100, cards=3):
    """A relay, random blueprints, and the steps in front of them."""
    generator = draws(depth)
    game = relay(depth, cards, 2, generator)
    return game, policy(game, generator, (batch,))


def gain(game, law, played):
    return game.value(played) - game.value(law)


# ---------------------------------------------------------------------------------- one searcher


@pytest.mark.theorem("thm-one-searcher", "equality")
@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_one_searcher_gains_its_divergences(depth):
    game, law = steps_and_games(depth, cards=2 if depth == 6 else 3)
    for eta in STEPS.tolist():
        for player in (0, 1):
            played = dtp.exact_search_policy(game, law, eta, players=player)
            claim = bounds.search_gain(game, law, played, played, eta)
            assert (claim >= 0).all()
            check_identity("thm-one-searcher", gain(game, law, played), claim)


@pytest.mark.theorem("thm-one-searcher", "equality")
def test_one_searcher_in_tiny_games_and_among_three():
    generator = draws(3)
    game = tiny(generator, (50,))
    law = policy(game, generator, (50,))
    eta = torch.linspace(0.1, 20, 50, dtype=F64)
    first = dtp.exact_search_policy(game, law, eta, players=0)
    both_ways = bounds.jeffreys(law[0], first[0])
    claim = (game.prior.sum(-1) * both_ways).sum(-1) / eta
    check_identity("thm-one-searcher", game.value(first) - game.value(law), claim)
    three = once(3, 2, 3, draws(2))
    law = policy(three, generator, (50,))
    for player in range(3):
        played = dtp.exact_search_policy(three, law, 4.0, players=player)
        claim = bounds.search_gain(three, law, played, played, 4.0)
        check_identity("thm-one-searcher", gain(three, law, played), claim)


@pytest.mark.theorem("thm-one-searcher", "mutant")
def test_the_blueprints_reach_and_one_divergence_are_not_enough():
    game, law = steps_and_games(4)
    played = dtp.exact_search_policy(game, law, 3.0, players=0)
    true = [gain(game, law, played), bounds.search_gain(game, law, played, played, 3.0)]
    blueprint = bounds.search_gain(game, law, played, law, 3.0)
    one = sum(
        (reach * kl(new, old)).sum(-1)
        for reach, old, new in zip(game.reach(played), law, played, strict=True)
    )
    for wrong in (blueprint, one / 3.0, 2 * one / 3.0):
        fails(identity("thm-one-searcher"), true[0], wrong, true=true)


# ------------------------------------------------------------------- all search, each acting once


def first_order(game, law, eta):
    played = dtp.exact_search_policy(game, law, eta)
    return played, bounds.search_gain(game, law, played, law, eta)


@pytest.mark.theorem("thm-all-search-once", "bound")
@pytest.mark.parametrize("players", [2, 3, 4])
@pytest.mark.parametrize("types", [1, 2])
def test_all_search_once(players, types):
    if types == 2 and players == 4:
        types = 1
    for seed in (1, 2):
        generator = draws(seed)
        game = once(players, types, 2, generator, (150,))
        law = policy(game, generator, (150,), spread=0.5)
        safe = dtp.safe_step(1.0, players, players=players)
        for share in (0.2, 0.7, 1.0):
            eta = share * safe
            played, promised = first_order(game, law, eta)
            low = bounds.simultaneous_gain_bound(promised, eta, 1.0, players)
            check_bound("thm-all-search-once", low, gain(game, law, played))
            assert (low >= -1e-15).all()


@pytest.mark.theorem("thm-all-search-once", "bound")
def test_the_bound_is_attained_by_two_who_should_differ():
    """Near even play the gain is the bound, at every step below the largest one."""
    z = torch.tensor([1e-2, 1e-3], dtype=F64)
    game, law = anti_coordination(z)
    for eta in (0.5, 2.0, 3.5):
        played, promised = first_order(game, law, eta)
        low = bounds.simultaneous_gain_bound(promised, eta, 1.0, 2)
        check_bound("thm-all-search-once", low, gain(game, law, played))
        assert (low / gain(game, law, played)).min() > 0.999
    # And the step cannot be longer.
    for eta, sign in ((4 * 0.999, 1), (4 * 1.001, -1)):
        played, _ = first_order(game, law, eta)
        assert (sign * gain(game, law, played) > 0).all()


@pytest.mark.theorem("thm-all-search-once", "equality")
def test_two_players_first_order_and_one_cross_term():
    generator = draws(4)
    payoff = torch.rand(3, 2, 3, 2, generator=generator, dtype=F64)  # type, act, type, act
    game = once(2, 3, 2, generator, payoff=payoff[:, :, :, :].reshape(-1)[: 3 * 2 * 3 * 2])
    law = policy(game, generator, (40,))
    played, promised = first_order(game, law, 5.0)
    moved = [new.exp() - old.exp() for old, new in zip(law, played, strict=True)]
    table = game.payoff.reshape(3, 2, 3, 2)
    cross = 0
    for end in range(len(game.ends.chance)):
        first, second = (game.ends.choices[end] - torch.tensor([0, 6])).tolist()
        u = table.flatten()[end]
        cross = cross + u * moved[0].flatten(-2)[..., first] * moved[1].flatten(-2)[..., second] / 9
    check_identity("thm-all-search-once", gain(game, law, played), promised + cross)


@pytest.mark.theorem("thm-all-search-once", "mutant")
def test_the_first_order_alone_promises_too_much():
    z = torch.linspace(0.1, 2, 30, dtype=F64)
    game, law = anti_coordination(z)
    played, promised = first_order(game, law, 3.5)
    low = bounds.simultaneous_gain_bound(promised, 3.5, 1.0, 2)
    got = gain(game, law, played)
    fails(bound("thm-all-search-once"), promised, got, true=[low, got])


# ----------------------------------------------------------------------------- the sharp threshold


def moved_logit(z, eta):
    return z - eta * (z / 2).tanh()


def threshold(z):
    return 2 * z / (z / 2).tanh()


@pytest.mark.theorem("prop-search-threshold", "equality")
@pytest.mark.theorem("prop-search-threshold", "mutant")
def test_the_threshold_of_two_who_should_differ():
    z = torch.linspace(-3, 3, 60, dtype=F64)
    game, law = anti_coordination(z)
    for eta in (0.5, 3.9, 4.1, 5.0, 9.0):
        played = dtp.exact_search_policy(game, law, eta)
        after = moved_logit(z, eta)
        check_identity(
            "prop-search-threshold", played[0][..., 0, 0], torch.nn.functional.logsigmoid(after)
        )
        claim = ((z / 2).tanh() ** 2 - (after / 2).tanh() ** 2) / 2
        got = gain(game, law, played)
        check_identity("prop-search-threshold", got, claim)
        better = (got > 0).double()
        true = [better, (threshold(z) > eta).double()]
        check_identity("prop-search-threshold", *true)
        # Mutant: the limit 4 for every start.
        if eta in (4.1, 5.0):
            always = torch.full_like(z, float(eta < 4))
            fails(identity("prop-search-threshold"), better, always, true=true)


# --------------------------------------------------------------------------- all search, in turns


@pytest.mark.theorem("thm-all-search", "bound")
@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_all_search_in_turns(depth):
    safe = dtp.safe_step(1.0, depth)
    for coarse in (False, True):
        generator = draws(depth + 10 * coarse)
        game = relay(depth, 2, 2, generator, (60,), coarse)
        law = policy(game, generator, (60,))
        for eta in (safe / 100, 0.1, safe / 2, safe):
            played = dtp.exact_search_policy(game, law, eta)
            moved = bounds.chi_square(game, law, played)
            low = bounds.sequential_gain_bound(moved, eta, 1.0, depth)
            got = gain(game, law, played)
            check_bound("thm-all-search", low, got)
            assert (low >= -1e-12).all()
            if eta == safe / 100:
                assert (low / got).min() > 0.9


@pytest.mark.theorem("thm-all-search", "equality")
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_slope_and_the_constant(depth):
    """The slope of the return towards what is played, by automatic differentiation."""
    game, law = steps_and_games(depth, 30, 2)
    played, promised = first_order(game, law, 2.0)
    theta = torch.zeros(30, dtype=F64, requires_grad=True)
    old, new = torch.cat(law, -2).exp(), torch.cat(played, -2).exp()
    taken = game.ends.taken(old + theta[:, None, None] * (new - old)).prod(-1)
    value = (game.ends.chance * game.payoff * taken).sum()
    (slope,) = torch.autograd.grad(value, theta)
    check_identity("thm-all-search", slope, promised)
    c = dtp.safe_step(1.0, depth)
    root = torch.tensor(math.expm1(c) * math.exp(c * (depth - 2)) * (depth - 1), dtype=F64)
    check_identity("thm-all-search", root, torch.tensor(4.0, dtype=F64))
    assert 0.95 / depth <= c
    if depth == 2:
        assert abs(c - math.log(5)) < 1e-12


@pytest.mark.theorem("thm-all-search", "mutant")
def test_the_slope_alone_promises_too_much():
    generator = draws(5)
    game = relay(3, 1, 2, generator, (300,), True)
    law = policy(game, generator, (300,))
    eta = dtp.safe_step(1.0, 3)
    played, promised = first_order(game, law, eta)
    moved = bounds.chi_square(game, law, played)
    low = bounds.sequential_gain_bound(moved, eta, 1.0, 3)
    got = gain(game, law, played)
    fails(bound("thm-all-search"), promised, got, true=[low, got])


def test_two_decisions_are_safe_a_little_further():
    """Each derivative in its own currency, where c (e^c - 1) is at most 16."""
    low, high = 1.0, 3.0
    for _ in range(60):
        c = (low + high) / 2
        low, high = (c, high) if c * math.expm1(c) < 16 else (low, c)
    assert c > 1.3 * math.log(5)
    generator = draws(12)
    game = relay(2, 2, 2, generator, (300,))
    law = policy(game, generator, (300,))
    played, promised = first_order(game, law, c)
    first = bounds.chi_square(game, law, (played[0], law[1]))
    second = c * bounds.search_gain(game, law, (law[0], played[1]), law, c)
    least = (first * c / math.expm1(c) + second) / c - (first * second).sqrt() / 2
    got = gain(game, law, played)
    check_bound("thm-all-search", least, got)
    assert (least >= -1e-12).all()
    assert ((got - promised).abs() <= (first * second).sqrt() / 2 + 1e-12).all()
    # The bound of the theorem says nothing here.
    moved = bounds.chi_square(game, law, played)
    assert (bounds.sequential_gain_bound(moved, c, 1.0, 2) < 0).all()


def test_safe_steps():
    assert dtp.safe_step(2.0, 1) == math.inf
    assert dtp.safe_step(0.0, 3) == math.inf
    assert dtp.safe_step(2.0, 2, players=2) == 2.0
    assert dtp.safe_step(1.0, 3, players=3) == 2.0
    ranges = torch.tensor([0.0, 1.0, 2.0], dtype=F64)
    steps = dtp.safe_step(ranges, 2)
    assert steps[0] == math.inf
    torch.testing.assert_close(steps[1:], math.log(5) / ranges[1:])
    wanted = {2: 1.609, 3: 0.693, 4: 0.440, 6: 0.254}
    for depth, value in wanted.items():
        assert abs(dtp.safe_step(1.0, depth) - value) < 6e-4


# -------------------------------------------------------------------------------------- sampling


def noisy(count=2000, actions=4):
    generator = draws(6)
    law = (2 * torch.randn(count, actions, generator=generator, dtype=F64)).log_softmax(-1)
    values = torch.rand(count, actions, generator=generator, dtype=F64)
    errors = torch.randn(count, actions, generator=generator, dtype=F64)
    eta = torch.rand(count, generator=generator, dtype=F64) * 10 + 0.01
    return law, values, errors, eta


def change(law, values, played):
    return ((played.exp() - law.exp()) * values).sum(-1)


@pytest.mark.theorem("thm-sampled-search", "bound")
@pytest.mark.theorem("thm-sampled-search", "equality")
@pytest.mark.theorem("thm-sampled-search", "mutant")
def test_what_errors_cost_in_a_row():
    law, values, errors, eta = noisy()
    played = dtp.mirror_descent_search(law, values + errors, eta)
    got = change(law, values, played)
    lost = bounds.sampling_loss(errors, eta)
    check_bound("thm-sampled-search", -got, lost)
    # The account, and the second way to the same number.
    moved = bounds.jeffreys(law, played) / eta - change(law, errors, played)
    check_identity("thm-sampled-search", got, moved)
    # Mutants: as good as with exact values; and the best entry of what was estimated.
    exact = change(law, values, dtp.mirror_descent_search(law, values, eta))
    assert (exact >= 0).all()
    fails(bound("thm-sampled-search"), -got, -exact, true=[-got, lost])
    small = torch.full_like(eta, 0.05)
    greedy = change(law, values, dtp.mirror_descent_search(law, values + errors, math.inf))
    step = change(law, values, dtp.mirror_descent_search(law, values + errors, small))
    lost = bounds.sampling_loss(errors, small)
    fails(bound("thm-sampled-search"), -greedy, lost, true=[-step, lost])


@pytest.mark.theorem("thm-sampled-search", "bound")
def test_the_loss_is_attained():
    s = eta = torch.tensor([0.1, 0.03], dtype=F64)
    law = torch.full((2, 2), 0.5, dtype=F64).log()
    nothing = torch.zeros(2, dtype=F64)
    values = torch.stack([-s / 2, nothing], -1)
    errors = torch.stack([s, nothing], -1)
    played = dtp.mirror_descent_search(law, values + errors, eta)
    loss, most = -change(law, values, played), bounds.sampling_loss(errors, eta)
    check_bound("thm-sampled-search", loss, most)
    assert (loss / most).min() > 0.99999


@pytest.mark.theorem("thm-sampled-search", "bound")
@pytest.mark.parametrize(("samples", "eta"), [(1, 1.0), (1, 10.0), (10, 10.0)])
def test_what_one_searcher_loses_on_average(samples, eta):
    generator = draws(7)
    game = relay(4, 2, 3, generator)
    law = policy(game, generator)
    many = tuple(side.expand(300, *side.shape) for side in law)
    values = dtp.sampled_action_values(game, many, samples, generator)
    played = (dtp.mirror_descent_search(many[0], values[0], eta), many[1])
    lost = game.value(law) - game.value(played).mean()
    most = torch.tensor(bounds.sampled_search_loss(1.0, 2, 3, samples, eta), dtype=F64)
    check_bound("thm-sampled-search", lost, most)


def coin_search(samples, eta, chance, logit):
    """Loss of guessing a hidden coin: the exact mean over all samples, not a simulation."""
    heads = torch.arange(samples + 1, dtype=F64)
    ways = torch.tensor([math.comb(samples, k) for k in range(samples + 1)], dtype=F64)
    chance, logit = chance[..., None], logit[..., None]
    weight = ways * chance**heads * (1 - chance) ** (samples - heads)
    law = torch.stack([logit, torch.zeros_like(logit)], -1).log_softmax(-1)
    estimates = torch.stack([heads, samples - heads], -1) / samples
    played = dtp.mirror_descent_search(law, estimates, eta)
    values = torch.stack([chance, 1 - chance], -1)
    return -(weight * change(law, values, played)).sum(-1)


@pytest.mark.theorem("thm-sampled-search", "bound")
@pytest.mark.theorem("thm-sampled-search", "mutant")
def test_a_search_that_loses_on_average():
    """The better action already has most of the blueprint's mass; the numbers are of a grid."""
    samples, eta = 10, 10.0
    lost = coin_search(samples, eta, torch.tensor(0.56, dtype=F64), torch.tensor(2.6, dtype=F64))
    assert abs(lost - 0.00952) < 1e-5
    most = torch.tensor(bounds.sampled_search_loss(1.0, 1, 2, samples, eta), dtype=F64)
    check_bound("thm-sampled-search", lost, most)
    # Mutants: estimates without bias cost nothing; a loss quadratic in 1 / M.
    for wrong in (torch.zeros_like(lost), most / samples):
        fails(bound("thm-sampled-search"), lost, wrong, true=[lost, most])


@pytest.mark.theorem("thm-sampled-search", "bound")
def test_the_order_of_what_one_searcher_loses():
    """The worst coin: as the bound along eta = sqrt(M), as 1 / M^2 for a fixed step."""
    offset = torch.logspace(-4, -0.5, 120, dtype=F64)[:, None]
    logit = torch.linspace(0.2, 6, 60, dtype=F64)
    chance, logit = torch.broadcast_tensors(0.5 + offset, logit)

    def worst(samples, eta):
        lost = coin_search(samples, eta, chance, logit)
        most = torch.tensor(bounds.sampled_search_loss(1.0, 1, 2, samples, eta), dtype=F64)
        check_bound("thm-sampled-search", lost, most.expand_as(lost))
        return lost.max().item(), (lost / most).max().item()

    for samples in (1, 9, 100):
        assert 0.04 < worst(samples, samples**0.5)[1] < 0.06
    fixed = {samples: worst(samples, 1.0)[0] for samples in (10, 30, 100)}
    for few, many in ((10, 30), (30, 100)):
        power = math.log(fixed[few] / fixed[many]) / math.log(many / few)
        assert abs(power - 2) < 0.05


# ---------------------------------------------------------------------------------------- argmax


@pytest.mark.theorem("prop-argmax-search", "bound")
@pytest.mark.theorem("prop-argmax-search", "mutant")
def test_the_largest_entry_may_lose():
    law, values, _, eta = noisy()
    played = dtp.mirror_descent_search(law, values, eta, play="argmax")
    lost = -change(law, values, played)
    most = bounds.argmax_loss(law, played.argmax(-1), eta)
    check_bound("prop-argmax-search", lost, most)
    # Mutant: what is played by drawing never loses, so the largest entry does not either.
    drawn = -change(law, values, dtp.mirror_descent_search(law, values, eta))
    assert (drawn <= 1e-15).all()
    fails(bound("prop-argmax-search"), lost, drawn, true=[lost, most])


@pytest.mark.theorem("prop-argmax-search", "equality")
def test_the_loss_is_attained_at_a_tie():
    p = torch.tensor([0.6, 0.9, 0.99], dtype=F64)
    law = torch.stack([p, 1 - p], -1).log()
    eta = 2.0
    values = torch.stack([torch.zeros_like(p), (p / (1 - p)).log() / eta], -1)
    played = dtp.mirror_descent_search(law, values - 1e-15, eta, play="argmax")
    choice = torch.zeros(3, dtype=torch.int64)
    most = bounds.argmax_loss(law, choice, eta)
    check_identity("prop-argmax-search", (law.exp() * values).sum(-1), most)
    assert played.shape == law.shape
    # The example of the page.
    law = torch.tensor([0.9, 0.1], dtype=F64).log()
    values = torch.tensor([0.0, 1.0], dtype=F64)
    played = dtp.mirror_descent_search(law, values, 1.0, play="argmax").exp()
    assert played.tolist() == [1, 0]


def greedy_of(law):
    best = law.argmax(-1, keepdim=True)
    return torch.full_like(law, -math.inf).scatter(-1, best, 0.0)


@pytest.mark.theorem("prop-argmax-search", "bound")
@pytest.mark.theorem("prop-argmax-search", "mutant")
def test_rollouts_of_the_likeliest_moves_make_the_largest_entry_safe():
    generator = draws(8)
    game = relay(4, 3, 2, generator, (300,))
    law = policy(game, generator, (300,))
    sure = tuple(map(greedy_of, law))
    values = game.action_values(sure)
    eta = torch.rand(300, 1, generator=generator, dtype=F64) * 20 + 0.1
    searched = dtp.mirror_descent_search(law[0], values[0], eta, play="argmax")
    safe = game.value((searched, sure[1]))
    check_bound("prop-argmax-search", game.value(sure), safe)
    # Mutant: values of the blueprint that draws, in a team that plays the likeliest moves.
    drawn = game.action_values(law)
    wrong = dtp.mirror_descent_search(law[0], drawn[0], eta, play="argmax")
    fails(bound("prop-argmax-search"), game.value(sure), game.value((wrong, sure[1])),
          true=[game.value(sure), safe])  # fmt: skip
