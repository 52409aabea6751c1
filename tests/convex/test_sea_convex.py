"""Statements about optimistic descent on convex losses and the drift of streams."""

import itertools
import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Simplex
from mdtheory.convex.sea import (
    StochasticallyExtendedAdversary,
    bounds,
    optimistic_mirror_descent,
    regret_bound,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.sea_cases import (
    BALL,
    BOTH,
    DIAMETER,
    EVERY,
    F64,
    MANY,
    SEEDS,
    D,
    T,
    along,
    answering,
    answering_once,
    constant,
    descend,
    errors,
    facts,
    fixed_comparator,
    make,
    mean,
    moves,
    normal,
    square,
    worst_of,
)
from tests.refused import bound as of
from tests.refused import fails, identity


def paid(decisions, steps):
    return (moves(decisions) / steps[:-1]).sum(0)


# --- thm-sea-convex --------------------------------------------------------------------------


def convex_sides(record, domain, bound, offset=0.0):
    diameter = domain.diameter(record.total_gradient.shape[-1])
    worst = domain.minimize_linear(record.total_gradient)
    result = record.linear_loss - (record.total_gradient * worst).sum(-1)
    limit = bounds.convex_pathwise(diameter, bound, record.variation, record.paid_movement, offset)
    return result, limit


@pytest.mark.theorem("thm-sea-convex", "bound")
@EVERY
@BOTH
def test_optimistic_descent_keeps_its_bound_on_every_run(case, curve):
    environment = make(case, curve)
    bound = environment.gradient_bound(1.0)
    for offset in (0.0, 10.0):
        record = optimistic_mirror_descent(
            environment, environment.start(), BALL, T, gradient_bound=bound, offset=offset
        )
        check_bound("thm-sea-convex", *convex_sides(record, BALL, bound, offset))
        comparator = fixed_comparator(environment, case)
        result = record.loss - environment.loss_at(comparator, T)
        check_bound("thm-sea-convex", result, convex_sides(record, BALL, bound, offset)[1])


@pytest.mark.theorem("thm-sea-convex", "bound")
@pytest.mark.parametrize("domain", [Ball(0.1), Box(-0.5, 1.0), Simplex()], ids=repr)
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_the_bound_holds_on_every_domain_against_answers(domain, length):
    start = domain.project(normal(SEEDS, D, seed=2))
    record = optimistic_mirror_descent(answering(length), start, domain, T, gradient_bound=length)
    check_bound("thm-sea-convex", *convex_sides(record, domain, length))


@pytest.mark.theorem("thm-sea-convex", "equality")
def test_the_bound_is_its_formula_and_the_record_its_sums():
    environment = make("switching", "curved")
    bound = environment.gradient_bound(1.0)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, T, gradient_bound=bound, offset=3.0
    )
    x, g = record.decisions, record.gradients
    variation = errors(g)
    steps = DIAMETER / (3.0 + 4 * bound**2 + variation.cumsum(0) - variation).sqrt()
    check_identity("thm-sea-convex", record.variation, variation.sum(0))
    check_identity("thm-sea-convex", record.step_size, steps[-1])
    check_identity("thm-sea-convex", record.movement, moves(x).sum(0))
    check_identity("thm-sea-convex", record.paid_movement, paid(x, steps))
    check_identity("thm-sea-convex", record.linear_loss, (g * x).sum((0, -1)))
    check_identity("thm-sea-convex", record.loss, record.losses.sum(0))
    total = variation.sum(0)
    stated = (3.0 + 4 * bound**2 + total).sqrt() + 4 * total.sqrt() - paid(x, steps) / 4
    check_identity("thm-sea-convex", convex_sides(record, BALL, bound, 3.0)[1], stated)


@pytest.mark.theorem("thm-sea-convex", "equality")
def test_one_round_from_the_centre_costs_the_radius():
    """T = 1, u on the border: the regret is G D / 2, the bound (sqrt(5) / 2 + 2) D G."""
    start = torch.zeros(4, D, dtype=F64)
    record = optimistic_mirror_descent(answering_once, start, BALL, 1, gradient_bound=1.0)
    result, bound = convex_sides(record, BALL, 1.0)
    check_identity("thm-sea-convex", result, torch.ones(4, dtype=F64))
    check_identity("thm-sea-convex", bound, torch.full((4,), math.sqrt(5) + 4, dtype=F64))


CONVEX_MUTANTS = {
    "no error of the hints": "i.i.d.",
    "moves five times": "corrupted",
    "hint of the wrong sign": "rotating",
    "growing steps": "alternating",
}


@pytest.mark.theorem("thm-sea-convex", "mutant")
def test_half_of_the_convex_bound_breaks_on_a_constant_slope():
    environment, start = constant(length=0.1)  # of gradients that may be ten times as long
    record = optimistic_mirror_descent(environment, start, BALL, 40, gradient_bound=1.0)
    result, right = convex_sides(record, BALL, 1.0)
    fails(of("thm-sea-convex"), result, right / 2, true=(result, right))


@pytest.mark.theorem("thm-sea-convex", "mutant")
@pytest.mark.parametrize("mutant", CONVEX_MUTANTS)
def test_mutants_of_the_convex_bound_break(mutant):
    environment = make(CONVEX_MUTANTS[mutant], rounds=200)
    bound = environment.gradient_bound(1.0)

    def rule(t, variation):
        return DIAMETER / (4 * bound**2 + variation).sqrt()

    def growing(t, variation):
        return DIAMETER * math.sqrt(t) / (2 * bound)

    def sides(sign=1.0, rule=rule):
        x, g, steps = descend(environment, environment.start(), 200, rule, sign=sign)
        variation, moved = errors(g).sum(0), paid(x, steps)
        limit = bounds.convex_pathwise(DIAMETER, bound, variation, moved)
        return along(g, x, worst_of(g)), limit, variation, moved

    result, right, variation, moved = sides()
    wrong = {
        "no error of the hints": lambda: (result, right - 2 * DIAMETER * variation.sqrt()),
        "moves five times": lambda: (result, right - moved),
        "hint of the wrong sign": lambda: sides(sign=-1.0)[:2],
        "growing steps": lambda: sides(rule=growing)[:2],
    }[mutant]()
    fails(of("thm-sea-convex"), *wrong, true=(result, right))


@pytest.mark.theorem("thm-sea-convex", "mutant")
@pytest.mark.parametrize("mutant", ["V_t", "no 4 G^2", "hint of the wrong sign", "no hint"])
def test_mutants_of_the_step_size_play_otherwise(mutant):
    environment = make("switching", "curved", seeds=5, rounds=40)
    bound = environment.gradient_bound(1.0)
    start = environment.start()
    record = optimistic_mirror_descent(environment, start, BALL, 40, gradient_bound=bound)
    seen = errors(record.gradients).cumsum(0)

    def rule(t, variation):
        if mutant == "V_t":  # it knows what is to come
            return DIAMETER / (4 * bound**2 + seen[t - 1]).sqrt()
        if mutant == "no 4 G^2":
            return DIAMETER / (1e-9 + variation).sqrt()
        return DIAMETER / (4 * bound**2 + variation).sqrt()

    sign = {"hint of the wrong sign": -1.0, "no hint": 0.0}.get(mutant, 1.0)
    x, _, _ = descend(environment, start, 40, rule, sign=sign)
    right, _, _ = descend(environment, start, 40, lambda t, v: DIAMETER / (4 * bound**2 + v).sqrt())
    true = (record.decisions, right)
    fails(identity("thm-sea-convex"), record.decisions, x, true=true)


# --- lem-sea-drift ---------------------------------------------------------------------------


def drift_sides(environment, record):
    f = facts(environment)
    bound = bounds.expected_variation(
        f["gradient_bound"], f["smoothness"], f["variance"], f["variation"],
        mean(record.movement),
    )  # fmt: skip
    return mean(record.variation), bound


@pytest.mark.theorem("lem-sea-drift", "bound")
@EVERY
@BOTH
def test_variation_is_variance_drift_and_own_movement_in_the_mean(case, curve):
    environment = make(case, curve, seeds=MANY)
    for step in (0.05, 1.5):
        record = optimistic_mirror_descent(
            environment, environment.start(), BALL, T, step_size=step, keep=False
        )
        check_bound("lem-sea-drift", *drift_sides(environment, record))


def four_parts(environment, record):
    """Noise, own movement, drift and the last noise, whose sum is g_t - g_{t-1}; (T - 1, S, d)."""
    x, g = record.decisions, record.gradients
    own = torch.stack([environment.expected(t, x[t - 1])[1] for t in range(1, len(x) + 1)])
    before = torch.stack([environment.expected(t, x[t - 2])[1] for t in range(2, len(x) + 1)])
    noise = g - own
    return noise[1:], own[1:] - before, before - own[:-1], -noise[:-1]


@pytest.mark.theorem("lem-sea-drift", "bound")
@EVERY
def test_each_round_splits_into_four_parts(case):
    environment = make(case, "curved")
    record = optimistic_mirror_descent(environment, environment.start(), BALL, T, step_size=0.7)
    parts = four_parts(environment, record)
    step = record.gradients[1:] - record.gradients[:-1]
    check_identity("lem-sea-drift", sum(parts), step)
    check_bound("lem-sea-drift", square(step), 4 * sum(square(part) for part in parts))
    check_bound("lem-sea-drift", square(parts[1]), moves(record.decisions))  # L = 1
    drift = environment.variations.expand(T - 1, SEEDS)
    check_bound("lem-sea-drift", square(parts[2]), drift)


def all_signs(rounds, slopes):
    """Every sequence of two-point noise is one play, so that means over plays are expectations."""
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=rounds)), dtype=F64).T
    noise = signs[..., None] * torch.tensor([0.6, 0.8], dtype=F64)
    return StochasticallyExtendedAdversary(slopes, noise, torch.ones_like(signs))


@pytest.mark.theorem("lem-sea-drift", "equality")
def test_of_linear_losses_the_expected_variation_is_known_exactly():
    rounds, slopes = 7, normal(7, 2, seed=3)
    environment = all_signs(rounds, slopes)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, rounds, step_size=0.3
    )
    exact = square(slopes[0]) + 2 * rounds - 1 + moves(slopes).sum()
    check_identity("lem-sea-drift", record.variation.mean(), exact)
    variance, variation = environment.variances.sum(0), environment.variations.sum(0)
    check_identity("lem-sea-drift", variance, torch.full_like(variance, rounds))
    check_identity("lem-sea-drift", variation, moves(slopes).sum().expand(variance.shape))
    stated = 9.0 + 8 * variance + 4 * variation + 4 * 0.25 * 2.0
    check_identity(
        "lem-sea-drift", bounds.expected_variation(3.0, 0.5, variance, variation, 2.0), stated
    )


@pytest.mark.theorem("lem-sea-drift", "mutant")
@pytest.mark.parametrize("mutant", ["variance", "drift", "own movement"])
def test_the_drift_lemma_needs_each_of_its_terms(mutant):
    case = {"variance": "i.i.d.", "drift": "alternating", "own movement": "i.i.d."}[mutant]
    noise = 1.0 if mutant == "variance" else 0.0
    environment = make(case, "curved", seeds=MANY, noise=noise)
    # Steps longer than 2 / L swing from side to side, so that only the learner moves.
    step = 3.0 if mutant == "own movement" else 0.1
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, T, step_size=step, hints=mutant != "own movement"
    )
    gradients = record.gradients
    variation = mean(errors(gradients).sum(0))
    f, movement = facts(environment), mean(record.movement)

    def limit(dropped=""):
        return bounds.expected_variation(
            f["gradient_bound"],
            0.0 if dropped == "own movement" else f["smoothness"],
            0.0 if dropped == "variance" else f["variance"],
            0.0 if dropped == "drift" else f["variation"],
            movement,
        )

    fails(of("lem-sea-drift"), variation, limit(mutant), true=(variation, limit()))


# --- cor-sea-convex --------------------------------------------------------------------------


@pytest.mark.theorem("cor-sea-convex", "bound")
@EVERY
@BOTH
def test_expected_regret_keeps_the_convex_bound(case, curve):
    environment = make(case, curve, seeds=MANY)
    f = facts(environment)
    comparator = fixed_comparator(environment, case)
    for offset in (0.0, 20.0):
        record = optimistic_mirror_descent(
            environment, environment.start(), BALL, T,
            gradient_bound=f["gradient_bound"], offset=offset, keep=False,
        )  # fmt: skip
        result = mean(record.loss - environment.loss_at(comparator, T))
        bound = regret_bound("convex", offset=offset, **f)
        check_bound("cor-sea-convex", result, bound)
        worst = BALL.minimize_linear(record.total_gradient)  # of each run
        hindsight = mean(record.linear_loss - (record.total_gradient * worst).sum(-1))
        assert hindsight >= result - 1e-9
        check_bound("cor-sea-convex", hindsight, bound)


@pytest.mark.theorem("cor-sea-convex", "equality")
@pytest.mark.parametrize("offset", [0.0, 7.0])
def test_the_convex_bound_is_the_largest_value_of_the_run_bound_under_the_drift_lemma(offset):
    """Maximise over E S_T numerically what the corollary maximises by hand."""
    diameter, bound, smooth, variance, variation = 1.7, 2.3, 0.9, 11.0, 5.0
    c = math.sqrt(offset + 4 * bound**2)
    # a sqrt(S) - b S is largest at (a / 2b)^2.
    movement = np.linspace(0, 3, 300_001) * (10 * diameter**2 * smooth / c) ** 2
    roots = bound + math.sqrt(8 * variance) + 2 * math.sqrt(variation)
    values = diameter / 2 * c + 2.5 * diameter * (roots + 2 * smooth * np.sqrt(movement))
    largest = (values - c * movement / (4 * diameter)).max()
    stated = regret_bound(
        "convex", diameter=diameter, gradient_bound=bound, smoothness=smooth,
        variance=variance, variation=variation, offset=offset,
    )  # fmt: skip
    check_identity("cor-sea-convex", stated, torch.tensor(largest, dtype=F64), tolerance=1e-9)


@pytest.mark.theorem("cor-sea-convex", "mutant")
def test_half_of_the_convex_corollary_breaks_where_the_offset_rules():
    """Short steps from the far end of a constant slope: delta makes them, and the bound."""
    environment, start = constant(rounds=200)
    record = optimistic_mirror_descent(
        environment, start, BALL, 200, gradient_bound=1.0, offset=3000.0
    )
    result = mean(record.loss - environment.loss_at(environment.best_comparator(BALL), 200))
    right = torch.as_tensor(regret_bound("convex", **facts(environment), offset=3000.0), dtype=F64)
    fails(of("cor-sea-convex"), result, right / 2, true=(result, right))


@pytest.mark.theorem("cor-sea-convex", "mutant")
@pytest.mark.parametrize("mutant", ["no drift", "no noise"])
def test_mutants_of_the_convex_corollary_break(mutant):
    rounds = 2000
    if mutant == "no noise":
        # A slope of 1 / sqrt(T) that the noise hides until the game is over.
        flips = torch.where(normal(rounds, MANY, 1) > 0, 1.0, -1.0).double()
        environment = StochasticallyExtendedAdversary(
            torch.zeros(rounds, 1, dtype=F64), flips, torch.ones(rounds, MANY, dtype=F64),
            offset=torch.tensor([1 / math.sqrt(rounds)], dtype=F64),
        )  # fmt: skip
    else:
        environment = make("alternating", seeds=2, rounds=rounds)
    f = facts(environment)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, rounds,
        gradient_bound=f["gradient_bound"], keep=False,
    )  # fmt: skip
    result = mean(record.loss - environment.loss_at(environment.best_comparator(BALL), rounds))
    right = regret_bound("convex", **f)
    f["variation"] = 0.0 if mutant == "no drift" else f["variation"]
    f["variance"] = 0.0 if mutant == "no noise" else f["variance"]
    wrong = regret_bound("convex", **f)
    fails(of("cor-sea-convex"), result, wrong, true=(result, right))
