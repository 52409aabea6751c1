"""Statements about the regularised leader and Hedge."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    Entropy,
    Euclidean,
    Simplex,
)
from mdtheory.convex.online_learning import (
    Adversary,
    FollowTheRegularizedLeader,
    Hedge,
    LinearLosses,
    bounds,
    play,
    punish_heaviest,
    regret,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.online_learning_cases import (
    EVERY,
    F64,
    GEOMETRIES,
    SEEDS,
    D,
    T,
    environment,
    normal,
    norms,
    simplex_points,
    streams,
    uniform,
)
from tests.polish import guessed, polished
from tests.refused import bound, fails

# --- thm-ftrl --------------------------------------------------------------------------------


@pytest.mark.theorem("thm-ftrl", "bound")
@EVERY
@pytest.mark.parametrize("falling", [False, True])
def test_the_regularised_leader_keeps_its_bound(name, falling):
    mirror_map, points = GEOMETRIES[name]
    step = (lambda t: 0.5 / math.sqrt(t)) if falling else 0.1
    for _, stream in streams(mirror_map):
        for centred in (True, False):
            start = points(1) if centred else tuple(points(1).shape)
            learner = FollowTheRegularizedLeader(mirror_map, start, step)
            first = learner.decision
            record = play(learner, environment(mirror_map, stream), T)
            comparator = points(2)
            reach = (
                mirror_map.divergence(comparator, first)
                if centred
                else mirror_map.potential(comparator) - mirror_map.potential(first)
            )
            bound = bounds.follow_the_leader(
                reach, record.step_sizes, norms(mirror_map, record), mirror_map.strong_convexity
            )
            check_bound("thm-ftrl", regret(record, comparator), bound)


@pytest.mark.theorem("thm-ftrl", "equality")
def test_the_last_point_attains_the_bound_of_the_leader():
    for start in (normal(SEEDS, D, seed=1), (SEEDS, D)):
        learner = FollowTheRegularizedLeader(Euclidean(), start, 0.2)
        first = learner.decision
        record = play(learner, LinearLosses(normal(T, SEEDS, D, seed=2)), T)
        comparator = learner.decision
        reach = Euclidean().divergence(comparator, first)
        bound = bounds.follow_the_leader(reach, 0.2, norms(Euclidean(), record), 1.0)
        check_identity("thm-ftrl", regret(record, comparator), bound, tolerance=1e-9)


@pytest.mark.theorem("thm-ftrl", "equality")
def test_the_leader_minimises_what_it_says():
    cvxpy = pytest.importorskip("cvxpy")
    losses, steps = normal(4, D, seed=2), [0.7, 0.5, 0.4, 0.2]
    learner = FollowTheRegularizedLeader(Euclidean(Ball(1.5)), normal(D, seed=1) / 9, steps)
    start = learner.decision
    for t, (loss, step) in enumerate(zip(losses, steps, strict=True)):
        learner.update(loss)
        x = cvxpy.Variable(D)
        total = losses[: t + 1].sum(0).numpy()
        objective = total @ x + cvxpy.sum_squares(x - start.numpy()) / (2 * step)
        guessed(cvxpy.Problem(cvxpy.Minimize(objective), [cvxpy.norm(x) <= 1.5]))
        pull = losses[: t + 1].sum(0)
        expected = polished(
            lambda y, pull=pull, step=step: pull @ y + (y - start).square().sum() / (2 * step),
            x.value, inside=lambda y: 2.25 - y.square().sum()[None],
        )  # fmt: skip
        check_identity("thm-ftrl", learner.decision, expected, tolerance=1e-11)


@pytest.mark.theorem("thm-ftrl", "mutant")
@pytest.mark.parametrize("mutant", ["growing steps", "half", "no gradients"])
def test_mutants_of_the_bound_of_the_leader_break(mutant):
    ball, alternating = Euclidean(Ball(1.0)), torch.tensor([1.0, -1.0] * 100, dtype=F64)
    reach = torch.tensor(0.5, dtype=F64)

    def sides(losses, steps):
        record = play(
            FollowTheRegularizedLeader(ball, (1,), steps), LinearLosses(losses), len(losses)
        )
        result = torch.stack([regret(record, torch.tensor([u], dtype=F64)) for u in (-1.0, 1.0)])
        right = bounds.follow_the_leader(reach, record.step_sizes, norms(ball, record), 1.0)
        return result, right.expand(2)

    if mutant == "growing steps":  # all is lost before the step is large
        losses = torch.tensor([[1.0], [0.0], [0.0]], dtype=F64)
        true, wrong = sides(losses, [0.01] * 3), sides(losses, [0.01, 10.0, 10.0])
        order = "the regret is the same, and the bound of these steps is a hundredth"
        fails(bound("thm-ftrl"), *wrong, true=true, scaled=order)
        return
    losses = alternating.reshape(200, 1).clone()
    losses[0] = 0.5
    result, right = sides(losses, [3.0] * 200)
    wrong = right / 2 if mutant == "half" else (reach / 3.0).expand(2)
    fails(
        bound("thm-ftrl"), result, wrong, true=(result, right),
        scaled="" if mutant == "half" else "the sum of the gradients is dropped",
    )  # fmt: skip


# --- thm-hedge -------------------------------------------------------------------------------


def hedge_streams(rounds, experts):
    yield LinearLosses(uniform(rounds, SEEDS, experts))
    coins = (uniform(rounds, SEEDS, experts, seed=1) < 0.5).to(F64)
    yield LinearLosses(coins)
    yield Adversary(punish_heaviest)
    fixed = torch.zeros(rounds, SEEDS, experts, dtype=F64)
    fixed[..., 1:] = 1.0
    yield LinearLosses(fixed)
    yield Adversary(lambda t, p, total: (p >= p.median(-1, keepdim=True).values).to(p.dtype))


@pytest.mark.theorem("thm-hedge", "bound")
@pytest.mark.parametrize("rounds", [1, 30, 300])
@pytest.mark.parametrize("experts", [1, 2, 10])
def test_hedge_keeps_its_bounds(rounds, experts):
    start = torch.full((SEEDS, experts), 1 / experts, dtype=F64)
    tuned = math.sqrt(8 * math.log(max(experts, 2)) / rounds)
    for step_size in (tuned, 0.05, 2.0):
        for played in hedge_streams(rounds, experts):
            record = play(Hedge(start, step_size), played, rounds)
            best = Simplex().minimize_linear(record.total_gradient)
            result = regret(record, best)
            bound = bounds.hedge(experts, rounds, step_size)
            check_bound("thm-hedge", result, result.new_tensor(bound))
            if step_size == tuned and experts > 1:
                bound = bounds.hedge(experts, rounds)
                check_bound("thm-hedge", result, result.new_tensor(bound))
            ranges = record.gradients.amax(-1) - record.gradients.amin(-1)
            apart = math.log(experts)
            check_bound("thm-hedge", result, bounds.hedge_ranges(apart, step_size, ranges))
            second = bounds.hedge_second_order(apart, step_size, record.decisions, record.gradients)
            check_bound("thm-hedge", result, second)


@pytest.mark.theorem("thm-hedge", "bound")
def test_the_second_bound_of_hedge_asks_only_that_losses_are_not_negative():
    losses = 50 * uniform(T, SEEDS, D) ** 4
    record = play(Hedge(simplex_points(1), 0.3), LinearLosses(losses), T)
    best = Simplex().minimize_linear(record.total_gradient)
    for comparator in (best, simplex_points(2)):
        apart = Entropy().divergence(comparator, simplex_points(1))
        second = bounds.hedge_second_order(apart, 0.3, record.decisions, losses)
        check_bound("thm-hedge", regret(record, comparator), second)
        shifted = play(Hedge(simplex_points(1), 0.3), LinearLosses(losses - 20), T)
        ranges = losses.amax(-1) - losses.amin(-1)
        bound = bounds.hedge_ranges(apart, 0.3, ranges)
        check_bound("thm-hedge", regret(shifted, comparator), bound)


@pytest.mark.theorem("thm-hedge", "equality")
def test_the_mixture_losses_of_hedge_telescope():
    losses, start, step = uniform(T, SEEDS, D), simplex_points(1), 0.7
    record = play(Hedge(start, step), LinearLosses(losses), T)
    mixture = -(record.decisions * (-step * losses).exp()).sum(-1).log().sum(0) / step
    at_once = -(start * (-step * losses.sum(0)).exp()).sum(-1).log() / step
    check_identity("thm-hedge", mixture, at_once, tolerance=1e-11)


@pytest.mark.theorem("thm-hedge", "equality")
def test_the_eighth_in_the_bound_of_hedge_cannot_be_smaller():
    # One round, two experts, losses 0 and 1: the gap between mean and mixture loss.
    for step in (1e-1, 1e-2, 1e-3):
        gap = 0.5 + math.log((1 + math.exp(-step)) / 2) / step
        assert gap <= step / 8
        assert gap == pytest.approx(step / 8, rel=step)


def cumulant(values, weights, s):
    """log E exp(s (Z - E Z)) of variables with finitely many values."""
    mean = (weights * values).sum(-1, keepdim=True)
    return (weights.log() + s * (values - mean)).logsumexp(-1)


@pytest.mark.theorem("lem-hoeffding", "bound")
def test_bounded_variables_have_hoeffding_s_cumulant():
    values, weights = normal(SEEDS, D), simplex_points(1)
    length = values.amax(-1) - values.amin(-1)
    for s in (-30.0, -1.0, -1e-3, 1e-3, 0.5, 4.0, 100.0):
        check_bound("lem-hoeffding", cumulant(values, weights, s), s**2 * length**2 / 8)


@pytest.mark.theorem("lem-hoeffding", "equality")
def test_a_fair_coin_has_the_logarithm_of_cosh_and_attains_the_eighth():
    s = torch.tensor([-0.1, -0.05, -0.02, 0.02, 0.05, 0.1], dtype=F64)
    values = torch.tensor([0.0, 1.0], dtype=F64)
    mine = torch.stack([cumulant(values, torch.full_like(values, 0.5), v) for v in s])
    check_identity("lem-hoeffding", mine, (s / 2).cosh().log())
    ratio = mine / (s**2 / 8)
    assert ratio.min() > 0.998
    assert ratio.max() <= 1 + 1e-9


@pytest.mark.theorem("lem-hoeffding", "mutant")
@pytest.mark.parametrize("mutant", ["a ninth", "not centred"])
def test_mutants_of_hoeffding_s_lemma_break(mutant):
    values, half = torch.tensor([0.0, 1.0], dtype=F64), torch.full((2,), 0.5, dtype=F64)
    left, s = cumulant(values, half, 0.5), 0.5
    right = torch.full_like(left, s**2 / 8)
    wrong = (left, right * 8 / 9) if mutant == "a ninth" else (left + s * 0.5, right)
    fails(bound("lem-hoeffding"), *wrong, true=(left, right))


@pytest.mark.theorem("thm-hedge", "mutant")
@pytest.mark.parametrize("mutant", ["half", "half the logarithm", "range 2", "ascent"])
def test_mutants_of_the_bound_of_hedge_break(mutant):
    rounds, experts = 300, 10
    step = math.sqrt(8 * math.log(experts) / rounds)
    losses = torch.ones(rounds, SEEDS, experts, dtype=F64)
    losses[..., 0] = 0.0

    def hedge(step, stream, n=experts):
        start = torch.full((SEEDS, n), 1 / n, dtype=F64)
        record = play(Hedge(start, step), stream, rounds)
        return regret(record, Simplex().minimize_linear(record.total_gradient))

    def limit(step, n=experts):
        return torch.full((SEEDS,), bounds.hedge(n, rounds, step), dtype=F64)

    if mutant == "half":
        result, right = hedge(step, losses), limit(step)
        fails(bound("thm-hedge"), result, right / 2, true=(result, right))
    elif mutant == "ascent":
        learner, suffered = Hedge(torch.full((SEEDS, experts), 0.1, dtype=F64), step), 0.0
        for loss in losses:
            suffered = suffered + (loss * learner.decision).sum(-1)
            learner.update(-loss)
        true = (hedge(step, losses), limit(step))
        fails(bound("thm-hedge"), suffered, limit(step), true=true)
    elif mutant == "half the logarithm":
        # So small a step that only the start matters: regret is almost log(d) / step.
        result, right = hedge(0.1, losses), limit(0.1)
        wrong = right - math.log(experts) / 2 / 0.1
        fails(bound("thm-hedge"), result, wrong, true=(result, right))
    else:  # the same game in losses from -1 to 1, as if their range were 1
        true = (hedge(1.0, Adversary(punish_heaviest), 2), limit(1.0, 2))
        other = Adversary(lambda t, p, total: 2 * punish_heaviest(t, p, total) - 1)
        fails(bound("thm-hedge"), hedge(1.0, other, 2), limit(1.0, 2), true=true)
