"""Nash-MD and what belongs to it: worked examples, invariances, batches, policy gradients."""

import itertools
import math

import cvxpy as cp
import pytest
import torch

from mdtheory.data import load_judges
from mdtheory.nlhf import nash_md as nm
from tests.polish import best_mixture, guessed, polished

F64 = torch.float64


def even(n):
    return torch.full((n,), -math.log(n), dtype=F64)


def game(n, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    preference = nm.random_preference(n, generator, batch)
    return preference, torch.randn(*batch, n, generator=generator, dtype=F64).log_softmax(-1)


def table(first, second, third):
    """Three answers by their preferences: 2 over 1, 3 over 1, 3 over 2."""
    preference = torch.full((3, 3), 0.5, dtype=F64)
    for row, column, value in ((1, 0, first), (2, 0, second), (2, 1, third)):
        preference[row, column], preference[column, row] = value, 1 - value
    return preference


# ------------------------------------------------------------------ the worked examples


@pytest.mark.parametrize("e", [0.1, 0.01, -0.01])
def test_a_small_change_turns_the_reward_over_but_not_the_equilibrium(e):
    preference = table(2 / 3 - e / 2, 1 / 3 - e / 4, 2 / 3 + e / 4)
    expected = torch.tensor([1 / 3 + e / 2, 1 / 3 + e / 2, 1 / 3 - e], dtype=F64)
    found, value = best_mixture(preference)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert value == pytest.approx(0.5, abs=1e-12)
    cold = nm.regularized_nash(nm.PreferenceGame(preference, even(3), 1e-5)).exp()
    torch.testing.assert_close(cold, expected, atol=1e-4, rtol=0)
    if abs(e) < 0.05:
        reward = nm.bradley_terry(preference)
        torch.testing.assert_close(reward, torch.tensor([e, -e, 0.0], dtype=F64), atol=1e-4, rtol=0)


def test_the_policy_of_the_best_reward_can_lose():
    reward = torch.tensor([1.0, 9.0, 2.0], dtype=F64).log()
    preference = nm.bradley_terry_preference(reward)
    torch.testing.assert_close(preference, table(0.9, 2 / 3, 2 / 11))
    shares = torch.linspace(0, 1 / 3, 101, dtype=F64)[:, None]
    policies = torch.cat([2 * shares, shares, 1 - 3 * shares], -1)  # y1 twice as often as y2
    assert (policies @ reward).argmax() == 100
    worst = (policies @ preference @ policies.T).amin(1)
    assert worst.argmax() == 0
    assert preference[2] @ policies[100] == pytest.approx(50 / 99)


def test_dice_beat_each_other_in_a_circle():
    preference = nm.dice_preference([[2, 4, 9], [1, 6, 8], [3, 5, 7]])
    for first, second in ((0, 1), (1, 2), (2, 0)):
        assert max(preference[first, second], preference[second, first]) == pytest.approx(5 / 9)
    assert len(nm.three_cycles(preference)) == 1
    # One throw of the three shared outcomes (three people with fixed tastes): two in three.
    tastes = torch.tensor([[2.0, 1, 3], [4, 6, 5], [9, 8, 7]], dtype=F64).T
    shared = nm.criteria_preference(tastes)
    assert sorted(shared[~torch.eye(3, dtype=torch.bool)].tolist())[-1] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("circular", "moves"), [(True, True), (False, False)])
def test_the_reward_depends_on_the_pairs_only_without_a_true_one(circular, moves):
    preference = (
        nm.cyclic_preference(1 / 6)
        if circular
        else nm.bradley_terry_preference(torch.tensor([0.3, -0.5, 0.2], dtype=F64))
    )
    weights = torch.tensor([[0, 9.0, 1], [9, 0, 1], [1, 1, 0]], dtype=F64)
    change = (nm.bradley_terry(preference, weights) - nm.bradley_terry(preference)).abs().max()
    assert bool(change > 0.1) == moves
    assert moves or change < 1e-9


def test_the_circles_of_the_judges():
    judges = load_judges()
    votes = nm.criteria_preference(judges.ratings)
    cycles = nm.three_cycles(votes)
    assert len(cycles) == 6
    assert len(list(itertools.combinations(range(43), 3))) == 12_341
    brute = [
        triple
        for triple in itertools.permutations(range(43), 3)
        if triple[0] == min(triple)
        and all(votes[a, b] > 0.5 for a, b in zip(triple, (*triple[1:], triple[0]), strict=True))
    ]
    assert brute == [tuple(cycle) for cycle in cycles.tolist()]
    [leader] = ((votes > 0.5).sum(-1) == 42).nonzero().flatten().tolist()
    assert judges.names[leader].startswith("RUBINOW")
    expected = {
        "ALEX": (1 / 7, 1 / 7, 5 / 7), "DANN": (1 / 4, 1 / 4, 1 / 2), "PASK": (1 / 7, 2 / 7, 4 / 7),
    }  # fmt: skip
    for cycle in cycles:
        shares = expected.get(judges.names[int(cycle[0])][:4])
        sub = votes[cycle][:, cycle]
        found = nm.regularized_nash(nm.PreferenceGame(sub, even(3), 1e-6)).exp()
        if shares:
            torch.testing.assert_close(found, torch.tensor(shares, dtype=F64), atol=1e-4, rtol=0)
        assert (sub @ found - 0.5).abs().max() < 1e-5
    everything = torch.cat([judges.ratings, judges.contacts[:, None]], 1)
    assert len(nm.three_cycles(nm.criteria_preference(everything))) == 3


# ------------------------------------------------------------------ the algorithm


@pytest.mark.parametrize("n", [4, 20])
def test_the_schedule_comes_close_to_the_equilibrium_in_one_batched_call(n):
    """The full run of 4 x 200 games and six temperatures is recorded in nash_md_games."""
    preference, reference = game(n, 20, seed=n)
    tau = torch.tensor([[0.2], [0.5], [1.0]], dtype=F64).expand(3, 20)
    last = nm.nash_md(nm.PreferenceGame(preference, reference, tau), 3000)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, tau))
    far = nm.kl(nash, last)
    assert far[1:].max() < 1e-8
    assert far[0].max() < 5e-7
    alone = nm.nash_md(nm.PreferenceGame(preference[3], reference[3], 0.5), 3000)
    torch.testing.assert_close(last[1, 3], alone, rtol=0, atol=1e-11)


def test_the_first_mixture_is_the_reference_so_the_start_does_not_matter():
    preference, reference = game(5)
    first = nm.nash_md(nm.PreferenceGame(preference, reference, 0.3), 1)
    expected = (reference + preference @ reference.exp() / 0.3).log_softmax(-1)
    torch.testing.assert_close(first, expected)


def test_the_last_policy_is_the_last_of_the_iterates():
    preference, reference = game(6, 4)
    for step in (None, 0.4, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)):
        run = list(nm.nash_md_iterates(nm.PreferenceGame(preference, reference, 0.5), 50, step))
        assert len(run) == 51
        torch.testing.assert_close(run[0], reference)
        last = nm.nash_md(nm.PreferenceGame(preference, reference, 0.5), 50, step)
        torch.testing.assert_close(run[-1], last, rtol=0, atol=1e-12)


def test_the_step_is_the_maximiser_of_its_objective():
    preference, reference = game(4, seed=3)
    policy = list(nm.nash_md_iterates(nm.PreferenceGame(preference, reference, 0.4), 3, 0.9))
    mixed = nm.mixture(policy[2], reference, 0.36)
    p = cp.Variable(4, nonneg=True)
    gain = (preference @ mixed.exp()).numpy()
    objective = 0.9 * gain @ p - cp.sum(cp.kl_div(p, mixed.exp().numpy()))
    guessed(cp.Problem(cp.Maximize(objective), [cp.sum(p) == 1]))

    def loss(x):
        return (torch.xlogy(x, x) - x * mixed).sum() - 0.9 * torch.from_numpy(gain) @ x

    best = polished(loss, p.value, equal=lambda x: x.sum()[None] - 1)
    torch.testing.assert_close(policy[3].exp(), best, rtol=0, atol=1e-12)


def test_self_play_is_the_magnetic_step_and_hedge_circles():
    preference, reference = game(5, seed=1)
    eta, tau = 0.4, 0.5
    run = list(nm.self_play_iterates(nm.PreferenceGame(preference, reference, tau), 20, eta))
    policy = reference
    for now in run:
        assert nm.span(now - policy) < 1e-12
        policy = nm.magnetic_step(
            nm.PreferenceGame(preference, reference, tau), policy, policy, eta / (1 - eta * tau)
        )
    circle = nm.cyclic_preference(0.4)
    start = torch.tensor([0.5, 0.3, 0.2], dtype=F64).log()
    hedge = list(nm.self_play_iterates(nm.PreferenceGame(circle, start, 0.0), 400, 0.2))
    away = [nm.kl(even(3), policy).item() for policy in hedge]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(away))
    assert away[-1] > 2 * away[0]


def test_relabelled_answers_give_relabelled_policies():
    preference, reference = game(7, seed=2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    for function in (
        lambda p, m: nm.nash_md(nm.PreferenceGame(p, m, 0.2), 100),
        lambda p, m: nm.regularized_nash(nm.PreferenceGame(p, m, 0.2)),
    ):
        ours = function(preference, reference)[order]
        theirs = function(preference[order][:, order], reference[order])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_an_answer_twice_shares_as_the_reference_does():
    preference, _ = game(4, seed=5)
    index = torch.tensor([0, 1, 2, 3, 3])
    doubled = preference[index][:, index]
    reference = torch.tensor([0.3, 0.2, 0.1, 0.3, 0.1], dtype=F64).log()
    nash = nm.regularized_nash(nm.PreferenceGame(doubled, reference, 0.1))
    assert (nash[3] - nash[4]).exp() == pytest.approx(3.0)
    merged = torch.tensor([0.3, 0.2, 0.1, 0.4], dtype=F64).log()
    alone = nm.regularized_nash(nm.PreferenceGame(preference, merged, 0.1)).exp()
    torch.testing.assert_close(nash.exp()[:3], alone[:3])


def test_even_preferences_stay_at_the_reference_and_a_dominated_answer_vanishes():
    reference = torch.tensor([0.6, 0.3, 0.1], dtype=F64).log()
    flat = torch.full((3, 3), 0.5, dtype=F64)
    torch.testing.assert_close(nm.nash_md(nm.PreferenceGame(flat, reference, 0.1), 50), reference)
    torch.testing.assert_close(
        nm.regularized_nash(nm.PreferenceGame(flat, reference, 0.1)), reference
    )
    dominated = table(0.7, 0.2, 0.1)  # the third loses to both
    cold = nm.regularized_nash(nm.PreferenceGame(dominated, reference, 0.01)).exp()
    assert cold[2] < 1e-10
    hot = nm.regularized_nash(nm.PreferenceGame(dominated, reference, 1e6))
    torch.testing.assert_close(hot, reference, rtol=0, atol=1e-6)


def test_contexts_are_a_leading_axis():
    circle = nm.cyclic_preference(0.3)
    both = torch.stack([circle, circle.mT])
    reference = torch.tensor([0.6, 0.3, 0.1], dtype=F64).log()
    together = nm.nash_md(nm.PreferenceGame(both, reference, 0.2), 200)
    for context, preference in zip(together, both, strict=True):
        alone = nm.nash_md(nm.PreferenceGame(preference, reference, 0.2), 200)
        torch.testing.assert_close(context, alone)


def test_rewards_with_a_temperature_do_not_give_the_equilibrium():
    reward = torch.tensor([0.0, 1.0, 2.5], dtype=F64)
    preference = nm.bradley_terry_preference(reward)
    rlhf = (even(3) + reward / 0.3).log_softmax(-1)
    assert (
        rlhf - nm.regularized_nash(nm.PreferenceGame(preference, even(3), 0.3))
    ).abs().max() > 0.1


# ------------------------------------------------------------------ sequences


def small():
    space = nm.SequenceSpace(3, 2)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(space.prefixes, 3, generator=generator, dtype=F64)
    reference = torch.randn(space.prefixes, 3, generator=generator, dtype=F64)
    return space, logits, reference


def test_the_gradient_of_the_first_token_in_numbers():
    """The divergence alone: the whole gradient, and what the token-local shortcut makes of it."""
    space, logits, reference = small()
    half = torch.full((9,), 0.5, dtype=F64)
    exact = nm.objective_gradient(space, logits, reference, half, 1.0)[0]
    togo = nm.expected_gradient(space, logits, reference, half, 1.0)[0]
    local = nm.expected_gradient(space, logits, reference, half, 1.0, "local")[0]
    torch.testing.assert_close(togo, exact)
    found = [[round(x, 3) for x in g.tolist()] for g in (exact, local)]
    assert found == [[0.412, -0.579, 0.166], [-0.084, -0.171, 0.255]]
    assert (exact @ local) > 0
    assert exact[0] * local[0] < 0


def test_the_two_mixtures_in_numbers():
    space, logits, reference = small()
    tokens = space.log_probs(space.token_mixture(logits, reference, 0.5)).exp()
    whole = nm.mixture(space.log_probs(logits), space.log_probs(reference), 0.5).exp()
    assert (tokens - whole).abs().sum() / 2 == pytest.approx(0.105, abs=5e-4)


def test_the_shortcut_can_be_wrong_by_more_than_the_gradients_length():
    space = nm.SequenceSpace(3, 2)
    generator = torch.Generator().manual_seed(0)
    logits, reference = torch.randn(2, 500, space.prefixes, 3, generator=generator, dtype=F64)
    half = torch.full((9,), 0.5, dtype=F64)
    exact = nm.objective_gradient(space, logits, reference, half, 1.0).flatten(1)
    local = nm.expected_gradient(space, logits, reference, half, 1.0, "local").flatten(1)
    assert ((local - exact).norm(dim=1) / exact.norm(dim=1)).max() > 1.49


def test_sampled_estimates_have_the_mean_of_the_enumeration():
    space, logits, reference = small()
    preferred = torch.linspace(0.1, 0.9, 9, dtype=F64)
    draws = space.sample(logits, 40_000, torch.Generator().manual_seed(3))
    leaf = logits.clone().requires_grad_()
    tokens = space.token_log_probs(leaf)[draws]
    other = space.token_log_probs(reference)[draws]
    each = nm.policy_gradient_surrogate(tokens, other, preferred[draws], 0.5)
    [found] = torch.autograd.grad(each.mean(), leaf)
    exact = nm.objective_gradient(space, logits, reference, preferred, 0.5)
    assert (found - exact).abs().max() < 0.015


def class_game(space, seed=0):
    generator = torch.Generator().manual_seed(seed)
    held = torch.nn.functional.one_hot(space.sequences, 3).sum(1).argmax(-1)
    odds = torch.tensor([[0.0, 2, -2], [-2, 0, 2], [2, -2, 0]], dtype=F64)[held][:, held]
    logits = 0.5 * torch.randn(space.prefixes, 3, generator=generator, dtype=F64)
    return odds.sigmoid(), logits


def test_short_steps_of_self_play_find_the_equilibrium_over_sequences():
    space = nm.SequenceSpace(3, 3)
    preference, logits = class_game(space)
    reference = space.log_probs(logits)
    weights = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    trained = nm.nash_md_pg(
        space,
        nm.PreferenceGame(preference, space.log_probs(logits), 0.3),
        800,
        weights,
        learning_rate=0.005,
    )
    policies = space.log_probs(trained)
    gain = nm.exploitability(nm.PreferenceGame(preference, reference, 0.3), policies)
    assert gain[0] < 1e-4
    assert gain[2] > gain[1] > gain[0]
    # Weight 1 is the best response to the reference.
    best = nm.best_response(nm.PreferenceGame(preference, reference, 0.3), reference)
    torch.testing.assert_close(policies[2].exp(), best.exp(), rtol=0, atol=1e-3)


def test_a_grid_of_weights_is_as_many_single_runs():
    """On a generic game: where a gradient vanishes, Adam magnifies its rounding."""
    space = nm.SequenceSpace(3, 2)
    preference, _ = game(space.count, seed=8)
    _, logits = class_game(space)
    weights = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    trained = nm.nash_md_pg(
        space, nm.PreferenceGame(preference, space.log_probs(logits), 0.3), 10, weights
    )
    for policy, weight in zip(trained, weights.tolist(), strict=True):
        alone = nm.nash_md_pg(
            space, nm.PreferenceGame(preference, space.log_probs(logits), 0.3), 10, weight
        )
        torch.testing.assert_close(policy, alone, rtol=0, atol=1e-6)


def test_the_averages_limits_are_self_play_and_the_start():
    space = nm.SequenceSpace(3, 2)
    preference, logits = class_game(space)
    decays = torch.tensor([0.0, 1.0], dtype=F64)
    averaged = nm.nash_ema_pg(
        space, nm.PreferenceGame(preference, space.log_probs(logits), 0.3), 50, decays
    )
    mixed = nm.nash_md_pg(
        space, nm.PreferenceGame(preference, space.log_probs(logits), 0.3), 50, decays
    )
    torch.testing.assert_close(averaged, mixed)


def test_rlhf_over_sequences_reaches_its_closed_form():
    space = nm.SequenceSpace(3, 2)
    _, logits = class_game(space)
    reward = torch.linspace(0, 1, 9, dtype=F64)
    found = space.log_probs(nm.reward_pg(space, reward, logits, 0.5, 600))
    expected = (space.log_probs(logits) + reward / 0.5).log_softmax(-1)
    torch.testing.assert_close(found.exp(), expected.exp(), rtol=0, atol=1e-4)


def test_samples_are_repeatable_and_improve():
    space = nm.SequenceSpace(3, 2)
    preference, logits = class_game(space)
    reference = space.log_probs(logits)

    def train(seed):
        return nm.nash_md_pg(
            space, nm.PreferenceGame(preference, space.log_probs(logits), 0.3), 150, 0.25,
            learning_rate=0.02, samples=64, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

    assert torch.equal(train(0), train(0))
    gain = [
        nm.exploitability(nm.PreferenceGame(preference, reference, 0.3), space.log_probs(x))
        for x in (logits, train(0))
    ]
    assert gain[1] < gain[0] / 3
