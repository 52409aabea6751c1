"""Statements about mirror descent and gradient descent."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    Box,
    Euclidean,
)
from mdtheory.convex.online_learning import (
    Adversary,
    LinearLosses,
    OnlineMirrorDescent,
    bounds,
    play,
    push_sideways,
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
    streams,
    uniform,
    unit,
)
from tests.refused import bound, fails

# --- thm-omd ---------------------------------------------------------------------------------


@pytest.mark.theorem("thm-omd", "bound")
@EVERY
def test_mirror_descent_keeps_its_bound(name):
    mirror_map, points = GEOMETRIES[name]
    for step_size in (0.02, 0.3):
        for _, stream in streams(mirror_map):
            learner = OnlineMirrorDescent(mirror_map, points(1), step_size)
            record = play(learner, environment(mirror_map, stream), T)
            for seed in (2, 3):
                comparator = points(seed)
                bound = bounds.mirror_descent(
                    mirror_map.divergence(comparator, points(1)),
                    step_size,
                    norms(mirror_map, record),
                    mirror_map.strong_convexity,
                )
                check_bound("thm-omd", regret(record, comparator), bound)


@pytest.mark.theorem("thm-omd", "equality")
def test_the_last_point_attains_the_bound_of_gradient_descent():
    for _, stream in streams(Euclidean()):
        learner = OnlineMirrorDescent(Euclidean(), normal(SEEDS, D, seed=1), 0.2)
        record = play(learner, environment(Euclidean(), stream), T)
        comparator = learner.decision
        divergence = Euclidean().divergence(comparator, normal(SEEDS, D, seed=1))
        bound = bounds.mirror_descent(divergence, 0.2, norms(Euclidean(), record), 1.0)
        check_identity("thm-omd", regret(record, comparator), bound, tolerance=1e-9)


@pytest.mark.theorem("thm-omd", "mutant")
@pytest.mark.parametrize("mutant", ["nine tenths", "no gradients", "no distance", "ascent"])
def test_mutants_of_the_bound_of_mirror_descent_break(mutant):
    start, stream = normal(SEEDS, D, seed=1), normal(T, SEEDS, D, seed=4) + 0.5
    comparator = start - 0.2 * stream.sum(0)  # the bound is attained
    divergence = Euclidean().divergence(comparator, start)

    def lost(sign):
        learner, decisions = OnlineMirrorDescent(Euclidean(), start, 0.2), []
        for gradient in stream:
            decisions.append(learner.decision)
            learner.update(sign * gradient)
        return (stream * (torch.stack(decisions) - comparator)).sum((0, -1))

    right = bounds.mirror_descent(divergence, 0.2, Euclidean().dual_norm(stream), 1.0)
    wrong = {
        "nine tenths": 0.9 * right,
        "no gradients": divergence / 0.2,
        "no distance": right - divergence / 0.2,
    }.get(mutant, right)
    result = lost(-1.0 if mutant == "ascent" else 1.0)
    fails(bound("thm-omd"), result, wrong, true=(lost(1.0), right))


# --- thm-omd-adaptive ------------------------------------------------------------------------

BOUNDED = ["ball", "box", "projected simplex", "mahalanobis ball", "tsallis 2"]


@pytest.mark.theorem("thm-omd-adaptive", "bound")
@pytest.mark.parametrize("name", BOUNDED)
def test_mirror_descent_with_falling_steps_keeps_its_bound(name):
    mirror_map, points = GEOMETRIES[name]
    for _, stream in streams(mirror_map):
        learner = OnlineMirrorDescent(mirror_map, points(1), lambda t: 0.5 / math.sqrt(t))
        record = play(learner, environment(mirror_map, stream), T)
        comparator = points(2)
        largest = mirror_map.divergence(comparator, record.decisions).amax(0)
        bound = bounds.mirror_descent_adaptive(
            largest, record.step_sizes, norms(mirror_map, record), mirror_map.strong_convexity
        )
        check_bound("thm-omd-adaptive", regret(record, comparator), bound)


@pytest.mark.theorem("thm-omd-adaptive", "equality")
def test_regret_with_falling_steps_is_a_sum_by_parts():
    learner = OnlineMirrorDescent(Euclidean(), normal(SEEDS, D, seed=1), lambda t: 1 / t)
    record = play(learner, LinearLosses(normal(T, SEEDS, D, seed=2)), T)
    comparator = normal(SEEDS, D, seed=3)
    points = torch.cat([record.decisions, learner.decision[None]])
    distance = Euclidean().divergence(comparator, points)
    inverse = 1 / record.step_sizes
    by_parts = (
        distance[0] * inverse[0]
        + (distance[1:-1] * (inverse[1:] - inverse[:-1])).sum(0)
        - distance[-1] * inverse[-1]
        + (record.step_sizes * norms(Euclidean(), record) ** 2).sum(0) / 2
    )
    check_identity("thm-omd-adaptive", regret(record, comparator), by_parts, tolerance=1e-10)


@pytest.mark.theorem("thm-omd-adaptive", "equality")
def test_one_step_size_gives_the_plain_bound():
    divergence, lengths = uniform(SEEDS), uniform(T, SEEDS, seed=1)
    steps = torch.full((T, SEEDS), 0.2, dtype=F64)
    check_identity(
        "thm-omd-adaptive",
        bounds.mirror_descent_adaptive(divergence, steps, lengths, 0.7),
        bounds.mirror_descent(divergence, 0.2, lengths, 0.7),
    )


@pytest.mark.theorem("thm-omd-adaptive", "mutant")
@pytest.mark.parametrize("mutant", ["growing steps", "nine tenths", "no distance", "no gradients"])
def test_mutants_of_the_bound_with_falling_steps_break(mutant):
    # One coordinate on the interval [-1, 1], and a comparator at its end.
    domain, comparator = Euclidean(Box(-1.0, 1.0)), torch.tensor([-1.0], dtype=F64)

    def sides(start, steps, losses):
        learner = OnlineMirrorDescent(domain, torch.tensor([start], dtype=F64), steps)
        record = play(learner, LinearLosses(losses), len(losses))
        largest = domain.divergence(comparator, record.decisions).amax(0)
        lengths = norms(domain, record)
        right = bounds.mirror_descent_adaptive(largest, record.step_sizes, lengths, 1.0)
        return regret(record, comparator), right, largest / record.step_sizes[-1]

    if mutant == "growing steps":  # all is lost before the step is large
        losses = torch.tensor([[1.0], [0.0], [0.0]], dtype=F64)
        wrong = sides(0.0, [0.01, 10.0, 10.0], losses)
        right = sides(0.0, [0.01, 0.01, 0.01], losses)
        fails(bound("thm-omd-adaptive"), *wrong[:2], true=right[:2])
        return
    # One round from the far end, with the step 2 that makes the two terms equal: attained.
    result, right, far = sides(1.0, [2.0], torch.ones(1, 1, dtype=F64))
    wrong = {"nine tenths": 0.9 * right, "no distance": right - far, "no gradients": far}[mutant]
    fails(bound("thm-omd-adaptive"), result, wrong, true=(result, right))


# --- cor-gradient-descent --------------------------------------------------------------------


def descend(step_size, losses_or_adversary, rounds=T, start=None):
    start = torch.zeros(SEEDS, D, dtype=F64) if start is None else start
    learner = OnlineMirrorDescent(Euclidean(Ball(1.0)), start, step_size)
    return play(learner, losses_or_adversary, rounds)


@pytest.mark.theorem("cor-gradient-descent", "bound")
@pytest.mark.parametrize("anytime", [False, True])
def test_gradient_descent_keeps_its_bound(anytime):
    def step(t):
        return 2 / math.sqrt(t if anytime else T)

    bound = bounds.gradient_descent(2.0, 1.0, T, anytime=anytime)
    fixed = unit(normal(T, SEEDS, D))
    constant = unit(normal(SEEDS, D)).expand(T, SEEDS, D)
    away = Adversary(lambda t, x, total: torch.where(x == 0, D**-0.5, unit(x + 1e-300)))
    for start in (torch.zeros(SEEDS, D, dtype=F64), unit(normal(SEEDS, D, seed=5))):
        for played in (
            LinearLosses(fixed),
            LinearLosses(constant),
            Adversary(push_sideways),
            away,
        ):
            record = descend(step, played, start=start)
            assert (record.gradients.norm(dim=-1) <= 1 + 1e-12).all()
            best = Ball(1.0).minimize_linear(record.total_gradient)
            result = regret(record, best)
            check_bound("cor-gradient-descent", result, result.new_tensor(bound))


@pytest.mark.theorem("cor-gradient-descent", "equality")
def test_one_round_attains_the_bound_of_gradient_descent():
    direction = unit(normal(SEEDS, D))
    record = descend(2.0, LinearLosses(direction[None]), rounds=1, start=direction)
    best = Ball(1.0).minimize_linear(record.total_gradient)
    bound = torch.tensor(bounds.gradient_descent(2.0, 1.0, 1), dtype=F64)
    check_identity("cor-gradient-descent", regret(record, best), bound)


@pytest.mark.theorem("cor-gradient-descent", "equality")
def test_both_constants_come_from_the_general_bounds():
    rounds, diameter, size = 20_000, 1.7, 0.6
    lengths = torch.full((rounds,), size, dtype=F64)
    half = torch.tensor(diameter**2 / 2, dtype=F64)
    tuned = bounds.mirror_descent(half, diameter / (size * math.sqrt(rounds)), lengths, 1.0)
    expected = torch.tensor(bounds.gradient_descent(diameter, size, rounds), dtype=F64)
    check_identity("cor-gradient-descent", tuned, expected)
    falling = diameter / (size * torch.arange(1, rounds + 1, dtype=F64).sqrt())
    anytime = bounds.mirror_descent_adaptive(half, falling, lengths, 1.0)
    stated = bounds.gradient_descent(diameter, size, rounds, anytime=True)
    assert 0.99 * stated < anytime.item() <= stated


@pytest.mark.theorem("cor-gradient-descent", "mutant")
@pytest.mark.parametrize("mutant", ["half", "step without the root", "tenth of the step"])
def test_mutants_of_gradient_descent_break(mutant):
    steps = {"half": 2 / 20, "step without the root": 2 / 400, "tenth of the step": 2 / 20 / 10}
    start = unit(normal(SEEDS, D))

    def lost(step):
        record = descend(step, LinearLosses(start.expand(400, SEEDS, D)), 400, start)
        return regret(record, -start)

    right = torch.full((SEEDS,), bounds.gradient_descent(2.0, 1.0, 400), dtype=F64)
    wrong = right / 2 if mutant == "half" else right
    fails(bound("cor-gradient-descent"), lost(steps[mutant]), wrong, true=(lost(2 / 20), right))
