"""Statements about optimistic learners and games of two."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Entropy,
    Euclidean,
)
from mdtheory.convex.online_learning import (
    OptimisticMirrorDescent,
    bounds,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.online_learning_cases import (
    EVERY,
    F64,
    GEOMETRIES,
    SEEDS,
    D,
    T,
    normal,
    simplex_points,
    symmetric,
    uniform,
)
from tests.refused import bound, fails

# --- optimism --------------------------------------------------------------------------------


def optimistic_run(mirror_map, start, gradients, hints, step_size):
    """Decisions, anchors and steps of a run whose hints are given."""
    steps = step_size if callable(step_size) else None
    learner = OptimisticMirrorDescent(mirror_map, start, step_size, hint=hints[0])
    decisions, anchors = [], [learner.anchor]
    for t, gradient in enumerate(gradients):
        decisions.append(learner.decision)
        learner.update(gradient, hints[t + 1] if t + 1 < len(hints) else None)
        anchors.append(learner.anchor)
    batch = learner.suffered.shape
    each = [steps(t + 1) if steps else step_size for t in range(len(gradients))]
    sizes = torch.tensor(each, dtype=F64).reshape(-1, *(1,) * len(batch)).expand(-1, *batch)
    return learner, torch.stack(decisions), torch.stack(anchors), sizes


def hinted_gradients(mirror_map, quality, seed=0):
    shape = (T, SEEDS, D) if mirror_map.event_dims == 1 else (T, SEEDS, D, D)
    gradients = normal(*shape, seed=seed)
    noise = normal(*shape, seed=seed + 1)
    if mirror_map.event_dims == 2:
        gradients, noise = symmetric(gradients), symmetric(noise)
    hints = {
        "good": gradients + 0.1 * noise,
        "late": torch.cat([torch.zeros_like(gradients[:1]), gradients[:-1]]),
        "contrary": -gradients,
    }[quality]
    return gradients, hints


@pytest.mark.theorem("lem-optimistic-master", "bound")
@EVERY
@pytest.mark.parametrize("quality", ["good", "late", "contrary"])
def test_every_optimistic_run_obeys_the_master_inequality(name, quality):
    mirror_map, points = GEOMETRIES[name]
    gradients, hints = hinted_gradients(mirror_map, quality)
    axes = tuple(range(-mirror_map.event_dims, 0))
    # Steps so small that no point rounds to the border, where divergences have no value.
    for step in (0.02, lambda t: 0.1 / math.sqrt(t)):
        _, decisions, anchors, sizes = optimistic_run(mirror_map, points(1), gradients, hints, step)
        comparator = points(2)
        result = (gradients * (decisions - comparator)).sum(axes).sum(0)
        bound = bounds.optimistic_master(
            mirror_map, comparator, decisions, anchors, gradients, hints, sizes
        )
        check_bound("lem-optimistic-master", result, bound)


@pytest.mark.theorem("lem-optimistic-master", "equality")
@pytest.mark.parametrize("name", ["whole space", "mahalanobis", "p-norm", "entropy", "von neumann"])
def test_the_master_inequality_is_an_equality_where_nothing_is_projected(name):
    mirror_map, points = GEOMETRIES[name]
    gradients, hints = hinted_gradients(mirror_map, "late")
    axes = tuple(range(-mirror_map.event_dims, 0))
    _, decisions, anchors, sizes = optimistic_run(mirror_map, points(1), gradients, hints, 0.05)
    comparator = points(2)
    result = (gradients * (decisions - comparator)).sum(axes).sum(0)
    bound = bounds.optimistic_master(
        mirror_map, comparator, decisions, anchors, gradients, hints, sizes
    )
    check_identity("lem-optimistic-master", result, bound, tolerance=1e-9)


@pytest.mark.theorem("lem-optimistic-master", "mutant")
@pytest.mark.parametrize("mutant", ["moves twice", "hints of the wrong round", "one step size"])
def test_mutants_of_the_master_inequality_break(mutant):
    gradients, hints = hinted_gradients(Entropy(), "late")
    step = (lambda t: 0.5 / t) if mutant == "one step size" else 0.2
    _, decisions, anchors, sizes = optimistic_run(
        Entropy(), simplex_points(1), gradients, hints, step
    )
    comparator = simplex_points(2)
    result = (gradients * (decisions - comparator)).sum((0, -1))

    def limit(hints, sizes):
        return bounds.optimistic_master(
            Entropy(), comparator, decisions, anchors, gradients, hints, sizes
        )

    right = limit(hints, sizes)
    wrong = {
        "hints of the wrong round": lambda: limit(torch.roll(hints, 1, 0), sizes),
        "one step size": lambda: limit(hints, sizes[:1].expand_as(sizes)),
        "moves twice": lambda: (
            right - (Entropy().divergence(anchors[1:], decisions) / sizes).sum(0)
        ),
    }[mutant]()
    fails(bound("lem-optimistic-master"), result, wrong, true=(result, right))


def optimistic_sides(mirror_map, start, comparator, gradients, hints, step):
    learner, decisions, _, _ = optimistic_run(mirror_map, start, gradients, hints, step)
    axes = tuple(range(-mirror_map.event_dims, 0))
    result = (gradients * (decisions - comparator)).sum(axes).sum(0)
    bound = bounds.optimistic(
        mirror_map.divergence(comparator, start),
        step,
        mirror_map.dual_norm(gradients - hints),
        mirror_map.norm(decisions[1:] - decisions[:-1]),
        mirror_map.strong_convexity,
    )
    return learner, result, bound


@pytest.mark.theorem("thm-optimistic", "bound")
@EVERY
@pytest.mark.parametrize("quality", ["good", "late", "contrary"])
def test_optimistic_mirror_descent_keeps_its_bound(name, quality):
    mirror_map, points = GEOMETRIES[name]
    gradients, hints = hinted_gradients(mirror_map, quality)
    for step in (0.02, 0.3):
        learner, result, bound = optimistic_sides(
            mirror_map, points(1), points(2), gradients, hints, step
        )
        check_bound("thm-optimistic", result, bound)
        variation = (mirror_map.dual_norm(gradients - hints) ** 2).sum(0)
        check_identity("thm-optimistic", learner.variation, variation)


@pytest.mark.theorem("thm-optimistic", "bound")
@pytest.mark.parametrize("step", [0.01, 1.0, 100.0])
def test_perfect_hints_leave_only_the_distance(step):
    """Sharp test (f): with m_t = g_t the regret is at most D(u, x_1) / eta for every eta."""
    gradients = normal(T, SEEDS, D)
    for mirror_map, points in (GEOMETRIES["entropy"], GEOMETRIES["ball"], GEOMETRIES["box"]):
        _, result, _ = optimistic_sides(
            mirror_map, points(1), points(2), gradients, gradients, step
        )
        check_bound("thm-optimistic", result, mirror_map.divergence(points(2), points(1)) / step)


@pytest.mark.theorem("thm-optimistic", "equality")
def test_one_round_without_a_hint_is_worth_twice_the_gradient_term_of_mirror_descent():
    """In the whole space the only slack of one round is known in closed form."""
    start, gradient, step = normal(SEEDS, D, seed=1), normal(1, SEEDS, D), 0.3
    comparator = start - step * gradient[0]
    _, result, bound = optimistic_sides(
        Euclidean(), start, comparator, gradient, torch.zeros_like(gradient), step
    )
    square = (gradient[0] ** 2).sum(-1)
    check_identity("thm-optimistic", result, step * square)
    check_identity("thm-optimistic", bound - result, step / 2 * square)


@pytest.mark.theorem("thm-optimistic", "equality")
def test_optimistic_hedge_is_optimistic_follow_the_leader():
    gradients, hints = hinted_gradients(Entropy(), "late")
    _, decisions, _, _ = optimistic_run(Entropy(), simplex_points(1), gradients, hints, 0.2)
    ahead = gradients.cumsum(0) - gradients + hints
    closed = (simplex_points(1).log() - 0.2 * ahead).softmax(-1)
    check_identity("thm-optimistic", decisions, closed)


@pytest.mark.theorem("thm-optimistic", "mutant")
@pytest.mark.parametrize("mutant", ["no error", "moves with factor 4", "sign of the hint"])
def test_mutants_of_the_optimistic_bound_break(mutant):
    # Long steps on gradients that alternate: the moves are large, so little slack is left.
    start, gradients = normal(SEEDS, D, seed=1), normal(T, SEEDS, D)
    hints = torch.zeros_like(gradients)
    if mutant != "no error":
        gradients = 0.2 * gradients + 1
        hints = gradients + 0.3 * normal(T, SEEDS, D, seed=2)
    step = 0.2
    comparator = start - step * gradients.sum(0)
    errors = Euclidean().dual_norm(gradients - hints)
    divergence = Euclidean().divergence(comparator, start)

    def sides(played, factor=1.0):
        _, decisions, _, _ = optimistic_run(Euclidean(), start, gradients, played, step)
        moves = (decisions[1:] - decisions[:-1]).norm(dim=-1)
        right = bounds.optimistic(divergence, step, errors, factor * moves, 1.0)
        return (gradients * (decisions - comparator)).sum((0, -1)), right

    result, right = sides(hints)
    wrong = {
        "no error": lambda: (result, right - step * (errors**2).sum(0)),
        "moves with factor 4": lambda: sides(hints, 4.0),
        "sign of the hint": lambda: sides(-hints),
    }[mutant]()
    fails(bound("thm-optimistic"), *wrong, true=(result, right))


def duel(matrix, step, rounds, *, hinted=True, sign=1.0):
    """Duality gap of the averages of two players of Hedge with the last gradient as hint."""
    batch, (n, m) = matrix.shape[0], matrix.shape[-2:]
    first = OptimisticMirrorDescent(Entropy(), torch.full((batch, n), 1 / n, dtype=F64), step)
    second = OptimisticMirrorDescent(Entropy(), torch.full((batch, m), 1 / m, dtype=F64), step)
    sums = torch.zeros(batch, n, dtype=F64), torch.zeros(batch, m, dtype=F64)
    for _ in range(rounds):
        x, y = first.decision, second.decision
        sums = sums[0] + x, sums[1] + y
        pay, gain = (matrix @ y[..., None])[..., 0], -(matrix.mT @ x[..., None])[..., 0]
        first.update(pay, sign * pay if hinted else None)
        second.update(gain, sign * gain if hinted else None)
    x, y = sums[0] / rounds, sums[1] / rounds
    best_gain = (matrix.mT @ x[..., None])[..., 0].amax(-1)
    return best_gain - (matrix @ y[..., None])[..., 0].amin(-1)


def duels():
    random = 2 * uniform(SEEDS, 4, 3) - 1
    pennies = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    skewed = pennies + torch.tensor([[0.0, 0.0], [0.0, 0.5]], dtype=F64)
    yield random
    yield torch.stack([pennies, skewed, 3 * skewed])


@pytest.mark.theorem("cor-optimistic-players", "bound")
@pytest.mark.parametrize("rounds", [1, 20, 200])
def test_two_optimistic_players_close_their_gap(rounds):
    for matrix in duels():
        largest = matrix.abs().max().item()
        for step in (0.1 / largest, 0.5 / largest):
            gap = duel(matrix, step, rounds)
            n, m = matrix.shape[-2:]
            bound = bounds.optimistic_players(n, m, largest, step, rounds)
            check_bound("cor-optimistic-players", gap, gap.new_tensor(bound))


@pytest.mark.theorem("cor-optimistic-players", "equality")
def test_the_gap_of_two_players_is_the_sum_of_their_regrets():
    matrix, rounds, step = 2 * uniform(SEEDS, 4, 3) - 1, 30, 0.3
    players = [
        OptimisticMirrorDescent(Entropy(), torch.full((SEEDS, k), 1 / k, dtype=F64), step)
        for k in (4, 3)
    ]
    totals = [torch.zeros(SEEDS, k, dtype=F64) for k in (4, 3)]
    for _ in range(rounds):
        x, y = (player.decision for player in players)
        gradients = (matrix @ y[..., None])[..., 0], -(matrix.mT @ x[..., None])[..., 0]
        for i, gradient in enumerate(gradients):
            totals[i] = totals[i] + gradient
            players[i].update(gradient, gradient)
    regrets = sum(
        player.suffered - total.amin(-1) for player, total in zip(players, totals, strict=True)
    )
    gap = duel(matrix, step, rounds)
    check_identity("cor-optimistic-players", gap, regrets / rounds, tolerance=1e-11)


@pytest.mark.theorem("cor-optimistic-players", "mutant")
@pytest.mark.parametrize("mutant", ["no hints", "hints of the wrong sign", "three quarters"])
def test_mutants_of_two_players_break(mutant):
    if mutant == "three quarters":  # one good row among a hundred, and a player without a choice
        matrix = torch.ones(1, 100, 1, dtype=F64)
        matrix[:, 0] = -1.0
        gap = duel(matrix, 0.5, 20)
        right = torch.full((1,), bounds.optimistic_players(100, 1, 1.0, 0.5, 20), dtype=F64)
        fails(bound("cor-optimistic-players"), gap, 0.75 * right, true=(gap, right))
        return
    matrix = torch.tensor([[[1.0, -1.0], [-1.0, 2.0]]], dtype=F64)
    rounds, step = 3000, 0.25
    sign = -1.0 if mutant == "hints of the wrong sign" else 1.0
    right = torch.full((1,), bounds.optimistic_players(2, 2, 2.0, step, rounds), dtype=F64)
    true = (duel(matrix, step, rounds), right)
    other = duel(matrix, step, rounds, hinted=mutant != "no hints", sign=sign)
    fails(bound("cor-optimistic-players"), other, right, true=true)
