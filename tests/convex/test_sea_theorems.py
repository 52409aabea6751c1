"""The statements of the chapter: each with its bound, an equality, and mutants that must fail.

Bounds of every run are tried against the comparator that is worst for the run; bounds of the mean
against a comparator fixed in advance, with the mean over at least 200 seeds and nothing taken off.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Simplex
from mdtheory.convex.online_learning import bounds as ol_bounds
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    StochasticallyExtendedAdversary,
    bounds,
    optimistic_ftrl,
    optimistic_mirror_descent,
    random_order,
    regret_bound,
    step_size_pool,
    two_layer_ensemble,
)
from mdtheory.runs import check_bound, check_identity
from tests.polish import guessed, polished
from tests.refused import breaks, differ

F64 = torch.float64
SEEDS, MANY, D, T = 24, 200, 3, 80
BALL, DIAMETER = Ball(1.0), 2.0
CURVES = {"linear": 0.0, "curved": [0.2, 0.6, 1.0]}
LAMBDA = 0.2
EVERY = pytest.mark.parametrize("case", SPECIAL_CASES)
BOTH = pytest.mark.parametrize("curve", CURVES)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def make(case, curve="linear", seeds=SEEDS, rounds=T, seed=1, **changes):
    return SPECIAL_CASES[case](rounds, seeds, D, seeded(seed), curvature=CURVES[curve], **changes)


def square(x: torch.Tensor) -> torch.Tensor:
    return (x**2).sum(-1)


def errors(gradients: torch.Tensor) -> torch.Tensor:
    """Squared errors of the last gradient as a hint, 0 being the first."""
    return torch.cat([square(gradients[:1]), square(gradients[1:] - gradients[:-1])])


def moves(points: torch.Tensor) -> torch.Tensor:
    return square(points[1:] - points[:-1])


def along(gradients, decisions, comparator) -> torch.Tensor:
    """The regret of the linearised losses."""
    return (gradients * (decisions - comparator)).sum((0, -1))


def worst_of(gradients, domain=BALL):
    return domain.minimize_linear(gradients.sum(0))


def descend(environment, start, rounds, rule, *, domain=BALL, sign=1.0):
    """The algorithm written again, with a rule (t, V) for its steps and a sign for its hints.

    The error of a hint is counted as that of the last gradient, whatever is played.
    """
    anchor, last = start, torch.zeros_like(start)
    variation = start.new_zeros(start.shape[:-1])
    kept = []
    for t in range(1, rounds + 1):
        step = torch.as_tensor(rule(t, variation), dtype=F64).expand(variation.shape)
        decision = domain.project(anchor - sign * step[..., None] * last)
        gradient = environment(t, decision)[1]
        variation = variation + square(gradient - last)
        anchor = domain.project(anchor - step[..., None] * gradient)
        last = gradient
        kept.append((decision, gradient, step))
    return tuple(torch.stack(part) for part in zip(*kept, strict=True))


def paid(decisions, steps):
    return (moves(decisions) / steps[:-1]).sum(0)


def mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(-1)


def facts(environment) -> dict[str, float]:
    """What the expected regret is bounded by; the means of what differs from seed to seed."""
    return {
        "diameter": DIAMETER,
        "gradient_bound": environment.gradient_bound(1.0).max().item(),
        "smoothness": environment.smoothness,
        "variance": environment.variances.sum(0).mean().item(),
        "variation": environment.variations.sum(0).mean().item(),
    }


def fixed_comparator(environment, case):
    """A comparator that knows no noise: nor the order, where the order is all that is random."""
    if case == "random order":
        # The sum of all losses, which does not depend on the order.
        return environment.best_comparator(BALL, hindsight=True)
    return environment.best_comparator(BALL)


def answering(length: float = 1.0, seed: int = 5):
    """Gradients that answer the decision and sometimes turn round: nature at its worst."""
    noise = normal(1000, SEEDS, D, seed=seed)

    def respond(t, x):
        gradient = x.sign() + 0.3 * noise[t - 1]
        if t % 7 < 3:
            gradient = noise[t - 1]
        gradient = length * gradient / gradient.norm(dim=-1, keepdim=True)
        return (gradient * x).sum(-1), gradient

    return respond


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


def answering_once(t, x):
    gradient = torch.zeros_like(x)
    gradient[..., 0] = 1.0
    return (gradient * x).sum(-1), gradient


CONVEX_MUTANTS = {
    "no error of the hints": "i.i.d.",
    "moves five times": "corrupted",
    "hint of the wrong sign": "rotating",
    "growing steps": "alternating",
    "one per cent": "adversarial",
}


@pytest.mark.theorem("thm-sea-convex", "mutant")
@pytest.mark.parametrize("mutant", CONVEX_MUTANTS)
def test_mutants_of_the_convex_bound_break(mutant):
    environment = make(CONVEX_MUTANTS[mutant], rounds=200)
    bound = environment.gradient_bound(1.0)

    def rule(t, variation):
        if mutant == "growing steps":
            return DIAMETER * math.sqrt(t) / (2 * bound)
        return DIAMETER / (4 * bound**2 + variation).sqrt()

    sign = -1.0 if mutant == "hint of the wrong sign" else 1.0
    x, g, steps = descend(environment, environment.start(), 200, rule, sign=sign)
    result, variation = along(g, x, worst_of(g)), errors(g).sum(0)
    limit = bounds.convex_pathwise(DIAMETER, bound, variation, paid(x, steps))
    if mutant == "no error of the hints":
        limit = limit - 2 * DIAMETER * variation.sqrt()
    if mutant == "moves five times":
        limit = limit - paid(x, steps)
    if mutant == "one per cent":
        limit = 0.01 * limit
    assert breaks("thm-sea-convex", result, limit)


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
    assert differ("thm-sea-convex", record.decisions, x)
    right, _, _ = descend(environment, start, 40, lambda t, v: DIAMETER / (4 * bound**2 + v).sqrt())
    check_identity("thm-sea-convex", record.decisions, right)


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
    f = facts(environment)
    bound = bounds.expected_variation(
        f["gradient_bound"],
        0.0 if mutant == "own movement" else f["smoothness"],
        0.0 if mutant == "variance" else f["variance"],
        0.0 if mutant == "drift" else f["variation"],
        mean(record.movement),
    )
    assert breaks("lem-sea-drift", variation, bound)


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
@pytest.mark.parametrize("mutant", ["no drift", "no noise", "half of one per cent"])
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
    full = regret_bound("convex", **f)
    check_bound("cor-sea-convex", result, full)
    f["variation"] = 0.0 if mutant == "no drift" else f["variation"]
    f["variance"] = 0.0 if mutant == "no noise" else f["variance"]
    limit = 0.005 * full if mutant == "half of one per cent" else regret_bound("convex", **f)
    assert breaks("cor-sea-convex", result, limit)


# --- lem-sea-optimistic-leader ---------------------------------------------------------------


def lead(geometry, gradients, hints, steps):
    """Optimistic leaders in closed form, with r(u), the norms and the strong convexity of r."""
    ahead = gradients.cumsum(0) - gradients + hints
    if geometry == "entropy":
        decisions = (-steps * ahead).softmax(-1)
        return decisions, lambda u: math.log(D) + torch.special.xlogy(u, u).sum(-1), 1.0
    domain = {"ball": BALL, "simplex": Simplex(), "space": None}[geometry]
    centre = 0.3 * torch.ones(D, dtype=F64)
    decisions = centre - steps / 2 * ahead
    decisions = decisions if domain is None else domain.project(decisions)
    return decisions, lambda u: square(u - centre) - lowest(domain, centre), 2.0


def lowest(domain, centre):
    return 0.0 if domain is None else square(domain.project(centre) - centre)


def leader_sides(geometry, gradients, hints, steps, comparator=None):
    decisions, regularizer, mu = lead(geometry, gradients, hints, steps)
    if comparator is None:
        domain = BALL if geometry == "ball" else Simplex()
        comparator = domain.minimize_linear(gradients.sum(0))
    missed, stirred = gradients - hints, decisions[1:] - decisions[:-1]
    if geometry == "entropy":
        # The sum of the coordinates is fixed, so a constant of the error does not count.
        missed = (missed.amax(-1) - missed.amin(-1)) / 2
        stirred = stirred.abs().sum(-1)
    else:
        missed, stirred = missed.norm(dim=-1), stirred.norm(dim=-1)
    steps = steps[..., 0]
    result = along(gradients, decisions, comparator)
    parts = (
        regularizer(comparator) / steps[-1],
        (steps * missed**2).sum(0) / mu,
        mu / 6 * (stirred**2 / steps[:-1]).sum(0),
    )
    return result, parts, decisions


def leader_streams():
    noise = normal(T, SEEDS, D, seed=8)
    slope = normal(SEEDS, D, seed=9)
    signs = (-1.0) ** torch.arange(T, dtype=F64)[:, None, None]
    yield noise
    yield slope + 0.1 * noise
    yield signs * slope
    yield torch.where(torch.arange(T)[:, None, None] < T // 2, slope, -slope)


FALLING = {
    "constant": torch.full((T, 1, 1), 0.3, dtype=F64),
    "long": torch.full((T, 1, 1), 5.0, dtype=F64),
    "falling": 1 / torch.arange(1, T + 1, dtype=F64).sqrt()[:, None, None],
    "one fall": torch.where(torch.arange(T) < 20, 8.0, 0.01).double()[:, None, None],
}


@pytest.mark.theorem("lem-sea-optimistic-leader", "bound")
@pytest.mark.parametrize("geometry", ["ball", "simplex", "entropy"])
@pytest.mark.parametrize("rule", FALLING)
def test_an_optimistic_leader_keeps_its_bound(geometry, rule):
    for gradients in leader_streams():
        last = torch.cat([torch.zeros_like(gradients[:1]), gradients[:-1]])
        for hints in (last, torch.zeros_like(last), -last, gradients):
            result, parts, _ = leader_sides(geometry, gradients, hints, FALLING[rule])
            limit = parts[0] + parts[1] - parts[2]
            check_bound("lem-sea-optimistic-leader", result, limit)


@pytest.mark.theorem("lem-sea-optimistic-leader", "equality")
def test_the_slack_of_one_round_without_a_hint_is_known():
    """In the whole space r(u)/eta + eta |g|^2/2 - R is eta |g|^2/4 for u = x_0 - eta g/2."""
    gradients, steps = normal(1, SEEDS, D), torch.full((1, 1, 1), 0.7, dtype=F64)
    comparator = 0.3 - 0.7 / 2 * gradients[0]
    zero = torch.zeros_like(gradients)
    result, parts, _ = leader_sides("space", gradients, zero, steps, comparator)
    length = square(gradients[0])
    check_identity("lem-sea-optimistic-leader", result, 0.35 * length)
    check_identity("lem-sea-optimistic-leader", sum(parts) - result, 0.175 * length)


@pytest.mark.theorem("lem-sea-optimistic-leader", "equality")
def test_both_leaders_of_the_chapter_are_the_closed_forms():
    environment = make("switching", seeds=4, rounds=50)
    start = environment.start() + 0.3
    record = optimistic_ftrl(environment, start, BALL, 50, offset=4.0)
    g = record.gradients
    spent, steps = torch.full((4,), 4.0, dtype=F64), []
    for error in errors(g):
        steps.append(DIAMETER**2 / spent)
        spent = spent + steps[-1] * error
    hints = torch.cat([torch.zeros_like(g[:1]), g[:-1]])
    decisions, _, _ = lead("ball", g, hints, torch.stack(steps)[..., None])
    check_identity("lem-sea-optimistic-leader", record.decisions, decisions)
    run = two_layer_ensemble(
        environment, environment.start(), BALL, 50, gradient_bound=2.0, smoothness=0.5
    )
    upper = upper_layer(run)
    check_identity("lem-sea-optimistic-leader", run.weights.movedim(1, -1), upper[0])


def upper_layer(run):
    """Weights (T, S, K), losses and hints of the upper layer, from the lower one alone."""
    base, g = run.base_decisions, run.record.gradients
    hints = torch.cat([torch.zeros_like(g[:1]), g[:-1]])
    moved = torch.cat([torch.zeros_like(base[:1, ..., 0]), moves(base)]) * run.correction
    losses = ((g[:, None] * base).sum(-1) + moved).movedim(1, -1)
    guesses = ((hints[:, None] * base).sum(-1) + moved).movedim(1, -1)
    missed = losses - guesses
    half = (missed.amax(-1) - missed.amin(-1)) / 2
    count = math.log(len(run.step_sizes))
    diameter, bound, smooth = DIAMETER, 2.0, 0.5
    first = (diameter * bound) ** 2 + 9 * smooth**2 * diameter**4 * count
    rate = (count / (first + (half**2).cumsum(0) - half**2)).sqrt()
    ahead = losses.cumsum(0) - losses + guesses
    return (-rate[..., None] * ahead).softmax(-1), losses, half, rate


@pytest.mark.theorem("lem-sea-optimistic-leader", "mutant")
@pytest.mark.parametrize(
    "mutant", ["no error", "no regularizer", "moves fifteen times", "growing steps"]
)
def test_mutants_of_the_leader_lemma_break(mutant):
    broken = False
    steps = FALLING["constant"]
    if mutant == "growing steps":
        steps = torch.where(torch.arange(T) < T - 1, 1e-3, 10.0).double()[:, None, None]
    for gradients in leader_streams():
        last = torch.cat([torch.zeros_like(gradients[:1]), gradients[:-1]])
        hints = gradients if mutant == "moves fifteen times" else last
        for geometry in ("ball", "entropy"):
            result, parts, _ = leader_sides(geometry, gradients, hints, steps)
            limit = parts[0] + parts[1] - parts[2]
            if mutant == "no error":
                limit = parts[0] - parts[2]
            if mutant == "no regularizer":
                limit = parts[1] - parts[2]
            if mutant == "moves fifteen times":
                limit = parts[0] + parts[1] - 15 * parts[2]
            broken |= breaks("lem-sea-optimistic-leader", result, limit)
    assert broken


# --- thm-sea-ftrl ----------------------------------------------------------------------------


def ftrl_sides(record, domain, offset):
    diameter = domain.diameter(record.total_gradient.shape[-1])
    worst = domain.minimize_linear(record.total_gradient)
    result = record.linear_loss - (record.total_gradient * worst).sum(-1)
    return result, bounds.ftrl_pathwise(diameter, offset, record.variation, record.movement)


@pytest.mark.theorem("thm-sea-ftrl", "bound")
@EVERY
@BOTH
def test_the_optimistic_leader_of_sachs_keeps_its_bound(case, curve):
    environment = make(case, curve)
    bound = environment.gradient_bound(1.0)
    for factor in (2.0, 9.0):
        offset = factor * DIAMETER * bound
        record = optimistic_ftrl(environment, environment.start(), BALL, T, offset=offset)
        check_bound("thm-sea-ftrl", *ftrl_sides(record, BALL, offset))


@pytest.mark.theorem("thm-sea-ftrl", "bound")
@pytest.mark.parametrize("domain", [Ball(0.1), Box(-0.5, 1.0), Simplex()], ids=repr)
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_the_leader_keeps_its_bound_from_every_centre(domain, length):
    start = domain.project(3 * normal(SEEDS, D, seed=2))  # comparators up to D away
    offset = 2 * domain.diameter(D) * length
    record = optimistic_ftrl(answering(length), start, domain, T, offset=offset)
    check_bound("thm-sea-ftrl", *ftrl_sides(record, domain, offset))


@pytest.mark.theorem("thm-sea-ftrl", "equality")
def test_steps_and_bound_of_the_leader_are_their_formulas():
    environment = make("corrupted", "curved")
    offset = 4 * environment.gradient_bound(1.0)
    record = optimistic_ftrl(environment, environment.start(), BALL, T, offset=offset)
    spent = offset
    for error in errors(record.gradients):
        last = spent
        spent = spent + DIAMETER**2 / spent * error
        # The square of the sum grows by at most 3 D^2 |e|^2 a round.
        check_bound("thm-sea-ftrl", spent**2 - last**2, 3 * DIAMETER**2 * error)
    check_identity("thm-sea-ftrl", record.step_size, DIAMETER**2 / last)
    variation, movement = errors(record.gradients).sum(0), moves(record.decisions).sum(0)
    stated = offset + math.sqrt(27) * variation.sqrt() - offset * movement / 12
    check_identity("thm-sea-ftrl", ftrl_sides(record, BALL, offset)[1], stated)


@pytest.mark.theorem("thm-sea-ftrl", "equality")
def test_decisions_of_the_leader_agree_with_cvxpy():
    cp = pytest.importorskip("cvxpy")
    environment = make("switching", "curved", seeds=2, rounds=9)
    start = environment.start() + 0.2
    record = optimistic_ftrl(environment, start, BALL, 9, offset=8.0)
    g = record.gradients
    spent = torch.full((2,), 8.0, dtype=F64)
    total, last = torch.zeros(2, D, dtype=F64), torch.zeros(2, D, dtype=F64)
    expected = []
    for t in range(9):
        step = DIAMETER**2 / spent
        points = []
        for s in range(2):
            x = cp.Variable(D)
            linear = (total + last)[s].numpy() @ x
            objective = linear + cp.sum_squares(x - start[s].numpy()) / step[s].item()
            guessed(cp.Problem(cp.Minimize(objective), [cp.norm(x) <= 1]))

            def loss(z, pull=(total + last)[s], start=start[s], step=step[s]):
                return pull @ z + (z - start).square().sum() / step

            points.append(polished(loss, x.value, inside=lambda z: 1 - z.square().sum()[None]))
        expected.append(torch.stack(points))
        spent = spent + step * square(g[t] - last)
        total, last = total + g[t], g[t]
    check_identity("thm-sea-ftrl", record.decisions, torch.stack(expected), tolerance=1e-11)


@pytest.mark.theorem("thm-sea-ftrl", "mutant")
@pytest.mark.parametrize("mutant", ["no variation", "moves a hundred times", "two per cent"])
def test_mutants_of_the_bound_of_the_leader_break(mutant):
    broken = False
    for case in ("alternating", "rotating", "i.i.d."):
        environment = make(case, seeds=2, rounds=500)
        offset = 2 * DIAMETER * environment.gradient_bound(1.0)
        record = optimistic_ftrl(environment, environment.start(), BALL, 500, offset=offset)
        result, limit = ftrl_sides(record, BALL, offset)
        if mutant == "no variation":
            limit = offset - offset * record.movement / 12
        if mutant == "moves a hundred times":
            limit = limit - 99 * offset * record.movement / 12
        if mutant == "two per cent":
            limit = limit / 50
        broken |= breaks("thm-sea-ftrl", result, limit)
    assert broken


# --- lem-sea-front-loading -------------------------------------------------------------------


def front_load(largest, total, rounds):
    """As much as possible as early as possible."""
    left = torch.as_tensor(total, dtype=F64)
    early = [min(largest, max(0.0, left.item() - largest * t)) for t in range(rounds)]
    return torch.tensor(early, dtype=F64)


def harmonic(sequence):
    return (sequence / torch.arange(1, len(sequence) + 1, dtype=F64)).sum()


PLANS = [(1.0, 7.3), (2.5, 2.5), (3.0, 0.4), (0.7, 21.0), (1.0, 0.0), (1e-3, 5e-3)]


@pytest.mark.theorem("lem-sea-front-loading", "bound")
@pytest.mark.parametrize(("largest", "total"), PLANS)
def test_no_plan_beats_the_front_loading_bound(largest, total):
    limit = bounds.front_loaded(largest, total)
    check_bound("lem-sea-front-loading", harmonic(front_load(largest, total, 60)), limit)
    shares = torch.rand(60, generator=seeded(3), dtype=F64)
    plan = (shares / shares.sum() * total).clamp(max=largest)
    check_bound("lem-sea-front-loading", harmonic(plan.sort(descending=True)[0]), limit)


@pytest.mark.theorem("lem-sea-front-loading", "bound")
def test_the_front_loading_bound_holds_at_every_scale():
    ratio = 10 ** (12 * torch.rand(2000, generator=seeded(4), dtype=F64) - 6)
    whole = ratio.floor()
    numbers = torch.digamma(whole + 1) + np.euler_gamma  # H_n
    exact = numbers + (ratio - whole) / (whole + 1)
    check_bound("lem-sea-front-loading", exact, bounds.front_loaded(1.0, ratio))
    for scale in (1e-150, 1e150):
        scaled = bounds.front_loaded(scale, scale * ratio) / scale
        check_identity("lem-sea-front-loading", scaled, bounds.front_loaded(1.0, ratio))


@pytest.mark.theorem("lem-sea-front-loading", "equality")
@pytest.mark.parametrize(("largest", "total"), PLANS)
def test_front_loading_solves_the_linear_program(largest, total):
    optimize = pytest.importorskip("scipy.optimize")
    rounds = 40
    solved = optimize.linprog(
        -1 / np.arange(1, rounds + 1), A_eq=np.ones((1, rounds)), b_eq=[total],
        bounds=(0, largest),
    )  # fmt: skip
    plan = front_load(largest, total, rounds)
    best = torch.tensor(-solved.fun, dtype=F64)
    check_identity("lem-sea-front-loading", harmonic(plan), best, tolerance=1e-9)
    check_bound("lem-sea-front-loading", best, bounds.front_loaded(largest, total))


@pytest.mark.theorem("lem-sea-front-loading", "equality")
def test_the_slack_of_front_loading_tends_to_one_less_eulers_constant():
    count = 10**6
    exact = torch.digamma(torch.tensor(count + 1.0, dtype=F64)) + np.euler_gamma
    slack = bounds.front_loaded(2.0, 2.0 * count) - 2 * exact
    check_identity(
        "lem-sea-front-loading", slack, 2 * torch.tensor(1 - np.euler_gamma), tolerance=1e-5
    )
    zero = bounds.front_loaded(torch.tensor([0.0, 1.0], dtype=F64), 3.0)
    assert zero[0] == 0
    assert zero[1] == pytest.approx(1 + math.log(4), rel=1e-14)


@pytest.mark.theorem("lem-sea-front-loading", "mutant")
@pytest.mark.parametrize("mutant", ["no one", "total / rounds", "log 1 + S"])
def test_mutants_of_front_loading_break(mutant):
    largest, total = 3.0, 6.0
    limit = {
        "no one": largest * math.log(1 + total / largest),
        "total / rounds": total / 60 * 4.7,
        "log 1 + S": largest * math.log1p(total / largest) + 1,
    }[mutant]
    exact = harmonic(front_load(largest, total, 60))
    assert breaks("lem-sea-front-loading", exact, torch.tensor(limit))


# --- thm-sea-strongly-convex -----------------------------------------------------------------


def curved_sides(x, g, curvature=LAMBDA, domain=BALL):
    """The curved regret against the comparator that makes it largest, and the bound."""
    comparator = domain.project(x.mean(0) - g.sum(0) / (curvature * len(x)))
    result = along(g, x, comparator) - curvature / 2 * square(x - comparator).sum(0)
    return result, bounds.strongly_convex_pathwise(errors(g), moves(x), curvature)


@pytest.mark.theorem("thm-sea-strongly-convex", "bound")
@EVERY
@pytest.mark.parametrize("curvature", [0.2, 3.0])
def test_falling_steps_keep_the_curved_bound_on_every_run(case, curvature):
    """The bound is one on gradients alone, so linear losses and any curvature may try it."""
    for curve in CURVES:
        environment = make(case, curve)
        record = optimistic_mirror_descent(
            environment, environment.start(), BALL, T, regime="strongly convex",
            curvature=curvature,
        )  # fmt: skip
        sides = curved_sides(record.decisions, record.gradients, curvature)
        check_bound("thm-sea-strongly-convex", *sides)


@pytest.mark.theorem("thm-sea-strongly-convex", "bound")
@pytest.mark.parametrize("domain", [Ball(0.1), Box(-0.5, 1.0), Simplex()], ids=repr)
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_the_curved_bound_holds_on_every_domain(domain, length):
    start = domain.project(normal(SEEDS, D, seed=2))
    record = optimistic_mirror_descent(
        answering(length), start, domain, T, regime="strongly convex", curvature=0.5
    )
    sides = curved_sides(record.decisions, record.gradients, 0.5, domain)
    check_bound("thm-sea-strongly-convex", *sides)


@pytest.mark.theorem("thm-sea-strongly-convex", "equality")
def test_one_curved_round_and_the_formula():
    """One round inside a wide ball: at most |g|^2 / (2 lambda), a quarter of the bound."""
    start, wide = torch.zeros(4, D, dtype=F64), Ball(100.0)
    record = optimistic_mirror_descent(
        answering_once, start, wide, 1, regime="strongly convex", curvature=0.5
    )
    result, limit = curved_sides(record.decisions, record.gradients, 0.5, wide)
    check_identity("thm-sea-strongly-convex", result, torch.ones(4, dtype=F64))
    check_identity("thm-sea-strongly-convex", limit, 4 * torch.ones(4, dtype=F64))
    missed, stirred = normal(9, 2, seed=1) ** 2, normal(8, 2, seed=2) ** 2
    stated = sum(2 / (0.7 * t) * missed[t - 1] for t in range(1, 10))
    stated = stated - sum(0.7 / 8 * (t - 2) * stirred[t - 2] for t in range(3, 10))
    got = bounds.strongly_convex_pathwise(missed, stirred, 0.7)
    check_identity("thm-sea-strongly-convex", got, stated)


STRONG_MUTANTS = ["wrong sign", "growing steps", "no curvature", "moves", "ten per cent"]


@pytest.mark.theorem("thm-sea-strongly-convex", "mutant")
@pytest.mark.parametrize("mutant", STRONG_MUTANTS)
def test_mutants_of_the_curved_bound_break(mutant):
    broken = False
    lam = 50.0 if mutant == "no curvature" else LAMBDA
    for case in ("i.i.d.", "rotating", "alternating", "adversarial"):
        environment = make(case, seeds=8)

        def rule(t, variation):
            return t / lam if mutant == "growing steps" else 2 / (lam * t)

        sign = -1.0 if mutant == "wrong sign" else 1.0
        x, g, _ = descend(environment, environment.start(), T, rule, sign=sign)
        result, limit = curved_sides(x, g, lam)
        if mutant == "no curvature":
            result = along(g, x, worst_of(g))
        if mutant == "moves":
            late = torch.arange(T - 1, dtype=F64)[:, None]
            limit = limit - 20 * lam * (late * moves(x)).sum(0)
        if mutant == "ten per cent":
            limit = limit / 10
        broken |= breaks("thm-sea-strongly-convex", result, limit)
    assert broken


# --- cor-sea-strongly-convex -----------------------------------------------------------------


def curved_facts(environment):
    f = facts(environment)
    f["curvature"] = environment.strong_convexity
    f["largest_variance"] = environment.variances.mean(1).max().item()
    f["largest_variation"] = environment.variations.mean(1).max().item()
    return f


@pytest.mark.theorem("cor-sea-strongly-convex", "bound")
@EVERY
def test_expected_regret_keeps_the_strongly_convex_bound(case):
    environment = make(case, "curved", seeds=MANY)
    comparator = fixed_comparator(environment, case)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, T, regime="strongly convex",
        curvature=LAMBDA, keep=False,
    )  # fmt: skip
    result = mean(record.loss - environment.loss_at(comparator, T))
    limit = regret_bound("strongly convex", **curved_facts(environment))
    check_bound("cor-sea-strongly-convex", result, limit)


@pytest.mark.theorem("cor-sea-strongly-convex", "equality")
def test_the_strongly_convex_bound_is_made_of_its_parts():
    f = {
        "diameter": 1.3, "gradient_bound": 2.0, "smoothness": 1.5, "variance": 40.0,
        "variation": 9.0, "curvature": 0.3, "largest_variance": 0.6, "largest_variation": 1.1,
    }  # fmt: skip
    most, whole = 2 * 0.6 + 1.1, 2 * 40.0 + 9.0
    stated = 8 / 0.3 + 8 / 0.3 * most * (1 + math.log(1 + whole / most))
    stated += 8 * (1.5 * 1.3) ** 2 / 0.3 * math.log(2 + 8 * 1.5 / 0.3)
    got = regret_bound("strongly convex", **f)
    check_identity("cor-sea-strongly-convex", got, torch.tensor(stated, dtype=F64))


@pytest.mark.theorem("cor-sea-strongly-convex", "bound")
@pytest.mark.parametrize("condition", [1.0, 2.0, 7.5, 100.0, 1e4])
def test_the_condition_term_covers_every_round_in_which_movement_is_not_paid(condition):
    """Sum the positive parts of 8 L^2 / (lambda t) - lambda (t - 2) / 8 one by one, L = D = 1."""
    lam = 1 / condition
    t = torch.arange(2, int(20 * condition) + 20, dtype=F64)
    unpaid = (8 / (lam * t) - lam * (t - 2) / 8).clamp(min=0)
    assert (t[unpaid > 0] < 2 + 8 * condition).all()
    stated = 8 / lam * torch.tensor(2 + 8 * condition, dtype=F64).log()
    check_bound("cor-sea-strongly-convex", unpaid.sum(), stated)


@pytest.mark.theorem("cor-sea-strongly-convex", "mutant")
@pytest.mark.parametrize("mutant", ["no drift", "one per cent", "linear losses"])
def test_mutants_of_the_strongly_convex_corollary_break(mutant):
    rounds = 1500
    if mutant == "linear losses":  # curvature that is not there
        environment, lam = make("i.i.d.", seeds=2, rounds=rounds), 50.0
    else:
        # Losses so flat against their drift that the condition number is no excuse.
        alternating = SPECIAL_CASES["alternating"]
        environment = alternating(rounds, 2, 1, seeded(), size=20.0, curvature=1.0)
        lam = 1.0
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, rounds, regime="strongly convex",
        curvature=lam, keep=False,
    )  # fmt: skip
    comparator = environment.best_comparator(BALL)
    result = mean(record.loss - environment.loss_at(comparator, rounds))
    f = curved_facts(environment) | {"curvature": lam}
    limit = regret_bound("strongly convex", **f)
    if mutant == "no drift":
        f |= {"variation": 0.0, "largest_variation": 0.0}
        limit = regret_bound("strongly convex", **f)
    if mutant == "one per cent":
        limit = limit / 100
    assert breaks("cor-sea-strongly-convex", result, limit)


# --- thm-sea-exp-concave ---------------------------------------------------------------------


def bent_regret(x, g, gamma, comparator):
    """What exp-concavity leaves: sum of <g, x - u> - gamma/2 <g, x - u>^2."""
    inner = (g * (x - comparator)).sum(-1)
    return (inner - gamma / 2 * inner**2).sum(0)


def worst_bent(x, g, gamma, domain=BALL):
    """The largest of it over random comparators, corners and minimisers."""
    candidates = domain.project(3 * normal(60, SEEDS, D, seed=6))
    candidates = torch.cat([candidates, worst_of(g, domain)[None], x[-1:]])
    return torch.stack([bent_regret(x, g, gamma, u) for u in candidates]).amax(0)


@pytest.mark.theorem("thm-sea-exp-concave", "bound")
@EVERY
def test_matrix_steps_keep_the_bent_bound_on_every_run(case):
    """The bound is one on gradients alone, so curved losses and any gamma may try it."""
    environment = make(case, "curved", rounds=40)
    bound = environment.gradient_bound(1.0)
    for gamma in (0.02, 2.0):
        record = optimistic_mirror_descent(
            environment, environment.start(), BALL, 40, regime="exp-concave",
            gradient_bound=bound, gamma=gamma,
        )  # fmt: skip
        limit = bounds.exp_concave_pathwise(
            DIAMETER, bound, gamma, D, record.variation, record.movement
        )
        result = worst_bent(record.decisions, record.gradients, gamma)
        check_bound("thm-sea-exp-concave", result, limit)


@pytest.mark.theorem("thm-sea-exp-concave", "bound")
@pytest.mark.parametrize("domain", [Ball(0.3), Simplex()], ids=repr)
@pytest.mark.parametrize("length", [1e-2, 1.0, 30.0])
def test_the_bent_bound_holds_against_answers(domain, length):
    start = domain.project(normal(SEEDS, D, seed=2))
    diameter = domain.diameter(D)
    gamma = 1 / (2 * length * diameter)
    record = optimistic_mirror_descent(
        answering(length), start, domain, 40, regime="exp-concave", gradient_bound=length,
        gamma=gamma,
    )  # fmt: skip
    limit = bounds.exp_concave_pathwise(
        diameter, length, gamma, D, record.variation, record.movement
    )
    result = worst_bent(record.decisions, record.gradients, gamma, domain)
    check_bound("thm-sea-exp-concave", result, limit)


def gamma_of(environment):
    """Strongly convex losses with bounded gradients are exp-concave with lambda / G^2."""
    bound = environment.gradient_bound(1.0).max().item()
    alpha = environment.strong_convexity / bound**2
    return ol_bounds.exp_concave_gamma(alpha, bound * DIAMETER), bound


@pytest.mark.theorem("thm-sea-exp-concave", "bound")
@EVERY
def test_matrix_steps_keep_the_bound_for_the_losses_themselves(case):
    environment = make(case, "curved", rounds=50)
    gamma, bound = gamma_of(environment)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, 50, regime="exp-concave",
        gradient_bound=bound, gamma=gamma,
    )  # fmt: skip
    comparator = environment.best_comparator(BALL, hindsight=True)
    result = record.loss - environment.loss_at(comparator, 50)
    limit = bounds.exp_concave_pathwise(
        DIAMETER, bound, gamma, D, record.variation, record.movement
    )
    check_bound("thm-sea-exp-concave", result, limit)


def matrix_steps(
    environment, start, rounds, gamma, bound, *,
    euclidean=False, ahead=False, sign=1.0, first=1.0,
):  # fmt: skip
    """The algorithm written again for a ball, with bisection for the secular equation."""
    anchor, last = start, torch.zeros_like(start)
    eye = torch.eye(start.shape[-1], dtype=F64)
    matrix = (1 + first * gamma * bound**2) * eye.expand(*start.shape, -1)
    kept = []
    for t in range(1, rounds + 1):
        pull = project_in(matrix, anchor - solve(matrix, sign * last), euclidean)
        gradient = environment(t, pull)[1]
        grown = matrix + gamma / 2 * gradient[..., :, None] * gradient[..., None, :]
        anchor = project_in(
            grown if ahead else matrix,
            anchor - solve(grown if ahead else matrix, gradient),
            euclidean,
        )
        kept.append((pull, gradient))
        matrix, last = grown, gradient
    return (*(torch.stack(part) for part in zip(*kept, strict=True)), matrix)


def solve(matrix, vector):
    return torch.linalg.solve(matrix, vector[..., None])[..., 0]


def project_in(matrix, point, euclidean=False):
    if euclidean:
        return BALL.project(point)
    values, axes = torch.linalg.eigh(matrix)
    turned = (axes.mT @ point[..., None])[..., 0] * values
    low = torch.zeros_like(turned[..., :1])
    high = turned.norm(dim=-1, keepdim=True)  # there the length is at most 1
    for _ in range(60):
        middle = (low + high) / 2
        outside = (turned / (values + middle)).norm(dim=-1, keepdim=True) > 1
        low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
    return (axes @ (turned / (values + high))[..., None])[..., 0]


EXP = {"rounds": 30, "gamma": 0.8, "bound": 3.0}


@pytest.mark.theorem("thm-sea-exp-concave", "equality")
def test_matrix_steps_are_the_algorithm_written_again():
    environment = make("corrupted", "curved", seeds=5, rounds=30)
    start = environment.start() + 0.2
    record = optimistic_mirror_descent(
        environment, start, BALL, 30, regime="exp-concave", gradient_bound=3.0, gamma=0.8
    )
    x, g, matrix = matrix_steps(environment, start, **EXP)
    assert (x.norm(dim=-1) > 1 - 1e-9).any()
    check_identity("thm-sea-exp-concave", record.decisions, x, tolerance=1e-9)
    before = matrix - 0.4 * g[-1][..., :, None] * g[-1][..., None, :]
    check_identity("thm-sea-exp-concave", record.matrix, before, tolerance=1e-9)
    assert torch.equal(record.movement, record.paid_movement)
    variation, movement = errors(g).sum(0), moves(x).sum(0)
    stated = 2 * (1 + 0.8 * 9) + 30 * (1 + variation / 30).log() - movement / 4
    got = bounds.exp_concave_pathwise(2.0, 3.0, 0.8, 3, record.variation, record.movement)
    check_identity("thm-sea-exp-concave", got, stated, tolerance=1e-9)


@pytest.mark.theorem("thm-sea-exp-concave", "equality")
@pytest.mark.parametrize("domain", [Ball(1.0), Simplex()], ids=repr)
def test_steps_in_the_norm_of_the_matrix_agree_with_cvxpy(domain):
    cp = pytest.importorskip("cvxpy")
    environment = make("switching", "curved", seeds=2, rounds=5, noise=3.0)
    start = domain.project(environment.start())
    record = optimistic_mirror_descent(
        environment, start, domain, 5, regime="exp-concave", gradient_bound=9.0, gamma=0.8
    )
    g = record.gradients
    limits = {"inside": lambda z: 1 - z.square().sum()[None]}
    if isinstance(domain, Simplex):
        limits = {"equal": lambda z: z.sum()[None] - 1, "lower": 0.0}
    for s in range(2):
        matrix, anchor = 65.8 * np.eye(D), start[s].numpy()
        last = np.zeros(D)
        for t in range(5):
            now = g[t, s].numpy()
            points = []
            for slope in (last, now):
                x = cp.Variable(D)
                away = cp.quad_form(x - anchor, cp.psd_wrap(matrix)) / 2
                inside = [cp.norm(x) <= 1] if isinstance(domain, Ball) else [x >= 0, cp.sum(x) == 1]
                guessed(cp.Problem(cp.Minimize(slope @ x + away), inside))

                def loss(z, pull=slope, matrix=matrix, anchor=anchor):
                    pull, matrix, anchor = (torch.as_tensor(v) for v in (pull, matrix, anchor))
                    return pull @ z + (z - anchor) @ matrix @ (z - anchor) / 2

                points.append(polished(loss, x.value, **limits).numpy())
            check_identity(
                "thm-sea-exp-concave", record.decisions[t, s], torch.as_tensor(points[0]),
                tolerance=1e-11,
            )  # fmt: skip
            anchor, last = points[1], now
            matrix = matrix + 0.4 * np.outer(now, now)


@pytest.mark.theorem("thm-sea-exp-concave", "mutant")
@pytest.mark.parametrize(
    "mutant", ["euclidean", "ahead", "wrong sign", "half of gamma G^2", "no hint"]
)
def test_mutants_of_the_matrix_steps_play_otherwise(mutant):
    environment = make("corrupted", "curved", seeds=5, rounds=30)
    start = environment.start() + 0.2
    changes = {
        "euclidean": {"euclidean": True},
        "ahead": {"ahead": True},
        "wrong sign": {"sign": -1.0},
        "no hint": {"sign": 0.0},
        "half of gamma G^2": {"first": 0.5},
    }[mutant]
    record = optimistic_mirror_descent(
        environment, start, BALL, 30, regime="exp-concave", gradient_bound=3.0, gamma=0.8
    )
    x, _, _ = matrix_steps(environment, start, **EXP, **changes)
    assert differ("thm-sea-exp-concave", record.decisions, x, 1e-6)


def unmoved(length):
    """The same slope in every round."""
    return StochasticallyExtendedAdversary(length * torch.ones(400, 2, 1, dtype=F64))


BENT_MUTANTS = {
    "no variation": (lambda: make("alternating", seeds=2, rounds=400), 0.01, 400),
    "no start": (lambda: unmoved(0.1), 0.01, 60),
    "one per cent": (lambda: make("alternating", seeds=2, rounds=400), 0.01, 400),
    "linear": (lambda: unmoved(1.0), 20.0, 400),  # without what exp-concavity gives
    "wrong sign": (lambda: unmoved(1.0), 0.01, 60),
}


@pytest.mark.theorem("thm-sea-exp-concave", "mutant")
@pytest.mark.parametrize("mutant", BENT_MUTANTS)
def test_mutants_of_the_bent_bound_break(mutant):
    build, gamma, rounds = BENT_MUTANTS[mutant]
    environment = build()
    start, bound = environment.start(), environment.gradient_bound(1.0).max().item()
    if mutant == "wrong sign":
        x, g, _ = matrix_steps(environment, start, rounds, gamma, bound, sign=-1.0)
    else:
        record = optimistic_mirror_descent(
            environment, start, BALL, rounds, regime="exp-concave", gradient_bound=bound,
            gamma=gamma,
        )  # fmt: skip
        x, g = record.decisions, record.gradients
    dimension, movement = x.shape[-1], moves(x).sum(0)
    first = DIAMETER**2 / 2 * (1 + gamma * bound**2)
    limit = bounds.exp_concave_pathwise(
        DIAMETER, bound, gamma, dimension, errors(g).sum(0), movement
    )
    result = bent_regret(x, g, gamma, worst_of(g))
    if mutant == "no variation":
        limit = first - movement / 4
    if mutant == "no start":
        limit = limit - first
    if mutant == "one per cent":
        limit = limit / 100
    if mutant == "linear":
        result = along(g, x, worst_of(g))
    assert breaks("thm-sea-exp-concave", result, limit)


# --- cor-sea-exp-concave ---------------------------------------------------------------------


def bent_facts(environment):
    gamma, _ = gamma_of(environment)
    return facts(environment) | {"gamma": gamma, "dimension": D}


@pytest.mark.theorem("cor-sea-exp-concave", "bound")
@EVERY
def test_expected_regret_keeps_the_exp_concave_bound(case):
    environment = make(case, "curved", seeds=MANY, rounds=50)
    f = bent_facts(environment)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, 50, regime="exp-concave",
        gradient_bound=f["gradient_bound"], gamma=f["gamma"], keep=False,
    )  # fmt: skip
    comparator = fixed_comparator(environment, case)
    bound = regret_bound("exp-concave", **f)
    check_bound(
        "cor-sea-exp-concave", mean(record.loss - environment.loss_at(comparator, 50)), bound
    )
    best = environment.best_comparator(BALL, hindsight=True)
    check_bound("cor-sea-exp-concave", mean(record.loss - environment.loss_at(best, 50)), bound)


@pytest.mark.theorem("cor-sea-exp-concave", "bound")
@pytest.mark.parametrize("smoothness", [0.0, 0.1, 0.25, 1.0, 30.0])
def test_the_exp_concave_bound_covers_every_movement(smoothness):
    """Whatever E S_T is, the run bound under the drift lemma stays below the corollary."""
    diameter, bound, gamma, d, variance, variation = 1.3, 2.0, 0.11, 4, 17.0, 3.0
    scale = 8 * d / gamma
    movement = torch.logspace(-6, 9, 20_000, dtype=F64)
    variation_of = bounds.expected_variation(bound, smoothness, variance, variation, movement)
    run = bounds.exp_concave_pathwise(diameter, bound, gamma, d, variation_of, movement)
    f = {
        "diameter": diameter, "gradient_bound": bound, "smoothness": smoothness,
        "variance": variance, "variation": variation, "gamma": gamma, "dimension": d,
    }  # fmt: skip
    check_bound("cor-sea-exp-concave", run, regret_bound("exp-concave", **f))
    # What is left of S_T alone has its largest value at 1 + 4 L^2 S / k = 16 L^2.
    alone = scale * (4 * smoothness**2 * movement / scale).log1p() - movement / 4
    most = max(1.0, 16 * smoothness**2)
    peak = scale * (math.log(most) - 1 + 1 / most)
    if smoothness > 0.25:
        check_identity(
            "cor-sea-exp-concave", alone.max(), torch.tensor(peak, dtype=F64), tolerance=1e-5
        )
    check_bound("cor-sea-exp-concave", alone, torch.tensor(scale * math.log(most), dtype=F64))


@pytest.mark.theorem("cor-sea-exp-concave", "equality")
def test_the_exp_concave_bound_is_its_formula():
    for smoothness in (0.1, 3.0):
        got = regret_bound(
            "exp-concave", diameter=1.3, gradient_bound=2.0, smoothness=smoothness,
            variance=17.0, variation=3.0, gamma=0.11, dimension=4,
        )  # fmt: skip
        energy = 4.0 + 8 * 17.0 + 4 * 3.0
        stated = 0.845 * 1.44 + 32 / 0.11 * math.log(1 + 0.11 * energy / 32)
        stated += 32 / 0.11 * math.log(144.0) if smoothness == 3.0 else 0.0
        check_identity("cor-sea-exp-concave", got, torch.tensor(stated, dtype=F64))


@pytest.mark.theorem("cor-sea-exp-concave", "mutant")
@pytest.mark.parametrize("mutant", ["no energy", "one per cent", "gamma too large"])
def test_mutants_of_the_exp_concave_corollary_break(mutant):
    """Linear losses are not exp-concave; flat ones make the constants small."""
    rounds, case = 700, "alternating"
    gamma = 0.002
    if mutant == "gamma too large":
        case, gamma = "i.i.d.", 20.0
    environment = SPECIAL_CASES[case](rounds, 2, 1, seeded())
    f = facts(environment) | {"gamma": gamma, "dimension": 1}
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, rounds, regime="exp-concave",
        gradient_bound=f["gradient_bound"], gamma=gamma, keep=False,
    )  # fmt: skip
    comparator = environment.best_comparator(BALL)
    result = mean(record.loss - environment.loss_at(comparator, rounds))
    limit = regret_bound("exp-concave", **f)
    if mutant == "no energy":
        limit = DIAMETER**2 / 2 * (1 + gamma)
    if mutant == "one per cent":
        limit = limit / 100
    assert breaks("cor-sea-exp-concave", result, torch.as_tensor(limit))


# --- thm-sea-dynamic -------------------------------------------------------------------------


def moving_comparators(g, domain=BALL):
    """Comparators from still to wild; the wildest is the best point of every single round."""
    still = worst_of(g, domain).expand_as(g)
    yield still
    yield domain.minimize_linear(g)
    blocks = g.unfold(0, 20, 20).sum(-1).repeat_interleave(20, 0)
    yield domain.minimize_linear(blocks)
    yield domain.project(normal(*g.shape, seed=12))


def path(comparators):
    return (comparators[1:] - comparators[:-1]).norm(dim=-1).sum(0)


@pytest.mark.theorem("thm-sea-dynamic", "bound")
@EVERY
@pytest.mark.parametrize("step", [0.01, 0.4, 10.0])
def test_a_constant_step_keeps_its_dynamic_bound_on_every_run(case, step):
    for curve in CURVES:
        environment = make(case, curve)
        record = optimistic_mirror_descent(
            environment, environment.start(), BALL, T, step_size=step
        )
        for comparators in moving_comparators(record.gradients):
            limit = bounds.dynamic_pathwise(
                DIAMETER, path(comparators), step, record.variation, record.movement
            )
            result = along(record.gradients, record.decisions, comparators)
            check_bound("thm-sea-dynamic", result, limit)


@pytest.mark.theorem("thm-sea-dynamic", "equality")
def test_for_a_comparator_that_stays_it_is_the_bound_of_optimism():
    missed, stirred = normal(9, 4, seed=1).abs(), normal(8, 4, seed=2).abs()
    still = ol_bounds.optimistic(torch.full((4,), 1.7**2 / 2, dtype=F64), 0.3, missed, stirred, 1.0)
    variation, movement = (missed**2).sum(0), (stirred**2).sum(0)
    got = bounds.dynamic_pathwise(1.7, 0.0, 0.3, variation, movement)
    check_identity("thm-sea-dynamic", got, still)
    moved = bounds.dynamic_pathwise(1.7, 5.0, 0.3, variation, movement)
    check_identity("thm-sea-dynamic", moved - got, torch.full((4,), 1.7 * 5 / 0.3, dtype=F64))


@pytest.mark.theorem("thm-sea-dynamic", "equality")
def test_the_telescoping_sum_of_a_moving_comparator_is_exact():
    """Without the domain's border in the way, mirror steps satisfy the master step exactly."""
    environment = make("adversarial", seeds=4, rounds=20)
    wide = Ball(1e4)
    x, g, _ = descend(environment, environment.start(), 20, lambda t, v: 0.3, domain=wide)
    anchors = torch.cat([torch.zeros_like(g[:1]), -0.3 * g.cumsum(0)])
    hints = torch.cat([torch.zeros_like(g[:1]), g[:-1]])
    check_identity("thm-sea-dynamic", x, anchors[:-1] - 0.3 * hints)
    u = normal(20, 4, D, seed=3)
    distances = (square(u - anchors[:-1]) - square(u - anchors[1:])).sum(0) / 0.6
    # <e, x - y> = eta |e|^2 and |y - x|^2 = eta^2 |e|^2, with y the next anchor
    error = errors(g).sum(0)
    exact = distances + 0.3 * error - 0.15 * error - 0.15 * square(hints).sum(0)
    check_identity("thm-sea-dynamic", along(g, x, u), exact, tolerance=1e-11)


@pytest.mark.theorem("thm-sea-dynamic", "mutant")
@pytest.mark.parametrize("mutant", ["no path", "no variation", "no distance", "wrong sign"])
def test_mutants_of_the_dynamic_bound_break(mutant):
    broken = False
    step = 0.4
    for case in ("rotating", "alternating", "adversarial", "i.i.d."):
        environment = make(case)
        sign = -1.0 if mutant == "wrong sign" else 1.0
        x, g, _ = descend(environment, environment.start(), T, lambda t, v: step, sign=sign)
        variation, movement = errors(g).sum(0), moves(x).sum(0)
        for u in moving_comparators(g):
            limit = bounds.dynamic_pathwise(
                DIAMETER, 0.0 if mutant == "no path" else path(u), step,
                0 * variation if mutant == "no variation" else variation, movement,
            )  # fmt: skip
            if mutant == "no distance":
                limit = limit - (DIAMETER**2 + 2 * DIAMETER * path(u)) / (2 * step)
            broken |= breaks("thm-sea-dynamic", along(g, x, u), limit)
    assert broken


# --- prop-sea-ensemble-identity --------------------------------------------------------------


def gather(environment, rounds=T, smoothness=1.0, **changes):
    bound = environment.gradient_bound(1.0).max().item()
    run = two_layer_ensemble(
        environment, environment.start(), BALL, rounds, gradient_bound=bound,
        smoothness=smoothness, **changes,
    )  # fmt: skip
    return run, bound


def split_regret(run, comparators, correction):
    """Upper layer, its correction and the lower layer for every step size, (K, S)."""
    g = run.record.gradients
    base = (g[:, None] * (run.base_decisions - comparators[:, None])).sum((0, -1))
    upper = run.meta_loss - run.meta_losses
    return upper - correction * run.mean_movement + correction * run.base_movements + base


@pytest.mark.theorem("prop-sea-ensemble-identity", "equality")
@EVERY
@BOTH
def test_the_regret_of_the_ensemble_splits_exactly(case, curve):
    environment = make(case, curve, seeds=8, rounds=60)
    corrections = (None, 0.0, 7.0) if case == "switching" else (None,)
    for correction in corrections:
        run, _ = gather(environment, 60, correction=correction)
        used = 2.0 if correction is None else correction
        assert run.correction == used
        for comparators in moving_comparators(run.record.gradients):
            whole = along(run.record.gradients, run.record.decisions, comparators)
            parts = split_regret(run, comparators, used)
            check_identity(
                "prop-sea-ensemble-identity", parts, whole.expand_as(parts), tolerance=1e-9
            )


@pytest.mark.theorem("prop-sea-ensemble-identity", "mutant")
@pytest.mark.parametrize("mutant", ["no correction", "twice", "wrong sign"])
def test_the_identity_needs_its_correction(mutant):
    run, _ = gather(make("switching", "curved", seeds=8, rounds=60), 60)
    comparators = next(moving_comparators(run.record.gradients))
    whole = along(run.record.gradients, run.record.decisions, comparators)
    used = {"no correction": 0.0, "twice": 4.0, "wrong sign": -2.0}[mutant]
    parts = split_regret(run, comparators, used)
    assert differ("prop-sea-ensemble-identity", parts, whole.expand_as(parts))


# --- thm-sea-ensemble ------------------------------------------------------------------------


@pytest.mark.theorem("thm-sea-ensemble", "bound")
@EVERY
@BOTH
def test_the_ensemble_keeps_the_bound_of_its_proof_on_every_run(case, curve):
    """The two layers' bounds added up, before any expectation is taken."""
    environment = make(case, curve, rounds=60)
    run, bound = gather(environment, 60)
    record, smooth = run.record, 1.0
    count = math.log(len(run.step_sizes))
    first = (DIAMETER * bound) ** 2 + 9 * smooth**2 * DIAMETER**4 * count
    missed = DIAMETER**2 / 4 * record.variation
    upper = math.sqrt(count) * (math.sqrt(first) + 3 * missed.sqrt())
    sizes = run.step_sizes[:, None]
    for comparators in moving_comparators(record.gradients):
        reach = DIAMETER**2 + 2 * DIAMETER * path(comparators)
        lower = reach / (2 * sizes) + sizes * record.variation
        result = along(record.gradients, record.decisions, comparators)
        limit = (upper + lower).amin(0) - smooth * record.movement
        check_bound("thm-sea-ensemble", result, limit)


def followers(environment, rounds):
    """Comparators fixed in advance that follow the expected losses, smoothed more and more."""
    slopes = environment.offset + environment.moves
    slopes = slopes.mean(1) if slopes.ndim == 3 else slopes
    for width in (1, 10, rounds):
        blocks = [slopes[k : k + width].mean(0) for k in range(0, rounds, width)]
        targets = torch.stack(blocks).repeat_interleave(width, 0)[:rounds]
        if environment.smoothness == 0:
            u = BALL.minimize_linear(targets)
        else:
            u = BALL.project(-targets / environment.curvature)
        yield u[:, None].expand(rounds, environment.batch[0], D)


@pytest.mark.theorem("thm-sea-ensemble", "bound")
@EVERY
@BOTH
def test_expected_dynamic_regret_keeps_the_bound_of_the_ensemble(case, curve):
    environment = make(case, curve, seeds=200, rounds=60)
    run, _ = gather(environment, 60)
    f = facts(environment) | {"smoothness": 1.0, "pool": len(run.step_sizes)}
    for comparators in followers(environment, 60):
        at = [environment(t, comparators[t - 1])[0] for t in range(1, 61)]
        result = mean(run.record.loss - torch.stack(at).sum(0))
        length = path(comparators).mean().item()
        limit = regret_bound("dynamic", path_length=length, **f)
        check_bound("thm-sea-ensemble", result, limit)


@pytest.mark.theorem("thm-sea-ensemble", "bound")
@pytest.mark.parametrize("smoothness", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("energy", [0.0, 0.01, 1.0])
def test_the_bound_of_the_ensemble_covers_every_movement_and_its_best_step(smoothness, energy):
    """Maximise over E S_T, minimise over the pool: what the proof does by hand."""
    diameter, bound, rounds = 1.3, 2.0, 5000
    variance, variation = energy * bound**2 * rounds, energy * 4 * bound**2 * (rounds - 1)
    pool = torch.tensor(step_size_pool(diameter, bound, smoothness, rounds), dtype=F64)
    count = math.log(len(pool))
    movement = torch.cat([torch.zeros(1), torch.logspace(-9, 9, 5000)]).double()
    spread = bounds.expected_variation(bound, smoothness, variance, variation, movement)
    first = (diameter * bound) ** 2 + 9 * smoothness**2 * diameter**4 * count
    upper = math.sqrt(count) * (math.sqrt(first) + 1.5 * diameter * spread.sqrt())
    for length in (0.0, 3.0, 400.0, diameter * (rounds - 1)):
        reach = diameter**2 + 2 * diameter * length
        lower = reach / (2 * pool[:, None]) + pool[:, None] * spread
        largest = (upper + lower - smoothness * movement).amax(1).amin()
        limit = regret_bound(
            "dynamic", diameter=diameter, gradient_bound=bound, smoothness=smoothness,
            variance=variance, variation=variation, path_length=length, pool=len(pool),
        )  # fmt: skip
        check_bound("thm-sea-ensemble", largest, limit)


@pytest.mark.theorem("thm-sea-ensemble", "equality")
def test_one_step_size_alone_is_the_learner_with_that_step():
    environment = make("switching", "curved", rounds=60)
    run, _ = gather(environment, 60, step_sizes=[0.2])
    alone = optimistic_mirror_descent(environment, environment.start(), BALL, 60, step_size=0.2)
    check_identity("thm-sea-ensemble", run.record.decisions, alone.decisions)
    check_identity("thm-sea-ensemble", run.record.loss, alone.loss)
    check_identity("thm-sea-ensemble", run.weights, torch.ones_like(run.weights))
    pool, _ = gather(environment, 60)
    own = optimistic_lower_layer(pool, environment.start())
    check_identity("thm-sea-ensemble", pool.base_decisions, own)
    mixed = (pool.weights[..., None] * pool.base_decisions).sum(1)
    check_identity("thm-sea-ensemble", pool.record.decisions, mixed)


def optimistic_lower_layer(run, start):
    """Every step size on the gradients of the ensemble, one after the other."""
    g, bases = run.record.gradients, []
    for size in run.step_sizes:
        bases.append(descend(lambda t, x: (None, g[t - 1]), start, len(g), lambda t, v, s=size: s))
    return torch.stack([x for x, _, _ in bases], 1)


@pytest.mark.theorem("thm-sea-ensemble", "equality")
@pytest.mark.parametrize("rounds", [1, 10, 1000, 10**6])
@pytest.mark.parametrize("smoothness", [1e-3, 1.0, 300.0])
def test_the_pool_reaches_from_one_end_to_the_other(rounds, smoothness):
    pool = step_size_pool(1.3, 2.0, smoothness, rounds)
    smallest = 1.3 / (2.0 * math.sqrt(50 * rounds))
    expected = [1 / (8 * smoothness)]
    while expected[-1] > smallest:
        expected.append(expected[-1] / 2)
    check_identity("thm-sea-ensemble", torch.tensor(pool), torch.tensor(expected))
    assert len(pool) == 1 or pool[-2] > smallest >= pool[-1]
    count = math.log(len(pool))
    got = regret_bound(
        "dynamic", diameter=1.3, gradient_bound=2.0, smoothness=smoothness, variance=5.0,
        variation=3.0, path_length=6.0, pool=len(pool),
    )  # fmt: skip
    energy, reach = 4.0 + 40.0 + 12.0, 1.69 + 2.6 * 6
    stated = 2.6 * math.sqrt(count) + 7.5 * smoothness * 1.69 * count
    stated += 1.95 * math.sqrt(energy * count) + 8 * smoothness * reach
    stated += 3 * math.sqrt(energy * reach / 2)
    check_identity("thm-sea-ensemble", got, torch.tensor(stated, dtype=F64))


@pytest.mark.theorem("thm-sea-ensemble", "mutant")
@pytest.mark.parametrize("mutant", ["no path", "no energy", "five per cent", "one long step"])
def test_mutants_of_the_bound_of_the_ensemble_break(mutant):
    """The best point of every round, or a comparator at rest while the slopes alternate."""
    rounds = {"no path": 800, "no energy": 300, "five per cent": 300}.get(mutant, 1400)
    smooth = 0.01
    chased = mutant in ("no path", "five per cent")
    environment = make("adversarial" if chased else "alternating", seeds=2, rounds=rounds)
    sizes = [1 / (8 * smooth)] if mutant == "one long step" else None
    run, bound = gather(environment, rounds, smoothness=smooth, step_sizes=sizes)
    g = run.record.gradients
    u = BALL.minimize_linear(g) if chased else torch.zeros_like(g)
    pool = len(step_size_pool(DIAMETER, bound, smooth, rounds))
    f = facts(environment) | {"smoothness": smooth, "pool": pool}
    f["path_length"] = path(u).mean().item()
    if mutant == "no path":
        f["path_length"] = 0.0
    if mutant == "no energy":
        f["variation"] = 0.0
    limit = regret_bound("dynamic", **f) * (0.05 if mutant == "five per cent" else 1.0)
    assert breaks("thm-sea-ensemble", mean(along(g, run.record.decisions, u)), limit)


@pytest.mark.theorem("thm-sea-ensemble", "mutant")
@pytest.mark.parametrize("mutant", ["no correction", "no hints", "rate ahead"])
def test_mutants_of_the_upper_layer_weigh_otherwise(mutant):
    environment = make("switching", "curved", seeds=4)
    run = two_layer_ensemble(
        environment, environment.start(), BALL, 50, gradient_bound=2.0 + 2.0, smoothness=0.5,
        correction=0.0 if mutant == "no correction" else None, offset=FIRST,
    )  # fmt: skip
    weights = expected_weights(run, mutant)
    assert differ("thm-sea-ensemble", run.weights.movedim(1, -1), weights)
    if mutant != "no correction":
        right = expected_weights(run, "")
        check_identity("thm-sea-ensemble", run.weights.movedim(1, -1), right)


FIRST = 40.0


def expected_weights(run, mutant):
    base, g = run.base_decisions, run.record.gradients
    hints = torch.cat([torch.zeros_like(g[:1]), g[:-1]])
    hints = 0 * hints if mutant == "no hints" else hints
    moved = torch.cat([torch.zeros_like(base[:1, ..., 0]), moves(base)])  # 2 L = 1
    losses = ((g[:, None] * base).sum(-1) + moved).movedim(1, -1)
    guesses = ((hints[:, None] * base).sum(-1) + moved).movedim(1, -1)
    missed = losses - guesses
    half = ((missed.amax(-1) - missed.amin(-1)) / 2) ** 2
    spent = FIRST + half.cumsum(0) - (0 if mutant == "rate ahead" else half)
    rate = (math.log(len(run.step_sizes)) / spent).sqrt()
    return (-rate[..., None] * (losses.cumsum(0) - losses + guesses)).softmax(-1)


# --- prop-sea-special-cases ------------------------------------------------------------------


def special_values(case, environment, rounds):
    """The proposition's bounds on the sums of variances and variations, by the issue's formulas."""
    gradient = environment.gradient_bound(0.0).max().item()
    third = rounds / 3
    return {
        "i.i.d.": (third, 0.0),
        "adversarial": (0.0, 4 * gradient**2 * (rounds - 1)),
        "rotating": (0.0, (rounds - 1) * (2 * math.sin(math.pi / 1000)) ** 2),
        "alternating": (0.0, 4.0 * (rounds - 1)),
        "corrupted": (third, 4 * gradient * (rounds // 50)),
        "random order": (rounds * 1.0, 2 * math.pi**2 / 3),
        "switching": (third, 4.0 * 4),
        "slow shift": (third, rounds * 0.01**2),
        "mini-batches": (third / 8, 0.0),
        # |C^{-T} r_y| <= (1 + 3b) / (a - b) for the accuracy a and b = (1 - a) / 2
        "label shift": (third * 3 * (1.45 / 0.55) ** 2 / 20, shifted_labels(rounds)),
    }[case]


def shifted_labels(rounds):
    """Sum of |mu_t - mu_{t-1}|_1^2 for the proportions of the case."""
    turn = 2 * np.pi * (np.arange(rounds)[:, None] / 500 + np.arange(3) / 3)
    proportions = (1 + 0.9 * np.cos(turn)) / 3
    return (np.abs(np.diff(proportions, axis=0)).sum(-1) ** 2).sum()


@pytest.mark.theorem("prop-sea-special-cases", "bound")
@EVERY
def test_special_cases_keep_what_the_proposition_says(case):
    environment = make(case, seeds=8, rounds=200)
    variance, variation = special_values(case, environment, 200)
    got = environment.variances.sum(0), environment.variations.sum(0)
    check_bound("prop-sea-special-cases", got[0], torch.tensor(variance, dtype=F64))
    check_bound("prop-sea-special-cases", got[1], torch.tensor(variation, dtype=F64))


@pytest.mark.theorem("prop-sea-special-cases", "bound")
@pytest.mark.parametrize("passes", [1, 2, 5, 50])
def test_passes_in_random_order_hardly_drift(passes):
    environment = random_order(200, 20, D, seeded(), passes=passes)
    variation = environment.variations.sum(0)
    one = 2 * math.pi**2 / 3 * passes
    check_bound(
        "prop-sea-special-cases", variation, torch.tensor(one + 4 * (passes - 1), dtype=F64)
    )


def all_orders(count, seeds=4000):
    """One play for each order of the losses, so that means over plays are expectations."""
    environment = random_order(count, seeds, 2, seeded(3))
    drawn = environment.moves + environment.noise  # (n, seeds, 2)
    losses = drawn[:, 0]
    orders = (drawn[:, :, None] - losses).abs().sum(-1).argmin(-1).T  # (seeds, n)
    assert (orders.sort(-1)[0] == torch.arange(count)).all()
    place = {tuple(order): k for k, order in enumerate(orders.tolist())}
    wanted = list(itertools.permutations(range(count)))
    assert set(place) == set(wanted)
    chosen = torch.tensor([place[order] for order in wanted])
    return environment, losses, torch.tensor(wanted), chosen


@pytest.mark.theorem("prop-sea-special-cases", "equality")
def test_over_all_orders_of_five_losses_everything_is_exact():
    count = 5
    environment, losses, orders, chosen = all_orders(count)
    assert len(orders) == math.factorial(count)
    spread = square(losses - losses.mean(0)).mean()
    moves_of, variances = environment.moves[:, chosen], environment.variances[:, chosen]
    for t in range(1, count + 1):
        left = count - t + 1
        rest = losses[orders[:, t - 1 :]]  # what has not been seen, this one included
        check_identity("prop-sea-special-cases", moves_of[t - 1], rest.mean(1))
        exact = square(rest - rest.mean(1, keepdim=True)).mean(1)
        check_identity("prop-sea-special-cases", variances[t - 1], exact)
        stated = (left - 1) * count / (left * (count - 1)) * spread
        check_identity("prop-sea-special-cases", variances[t - 1].mean(), stated)
        check_bound("prop-sea-special-cases", variances[t - 1].mean(), spread)
        if t > 1:
            # (grad F_{t-1} - grad f_{t-1}) / r
            step = (moves_of[t - 2] - losses[orders[:, t - 2]]) / left
            check_identity("prop-sea-special-cases", moves_of[t - 1] - moves_of[t - 2], step)
            drift = environment.variations[t - 2, chosen]
            check_identity("prop-sea-special-cases", drift, square(step))


@pytest.mark.theorem("prop-sea-special-cases", "mutant")
@pytest.mark.parametrize("mutant", ["with replacement", "whole mean", "one pass's drift"])
def test_mutants_of_the_special_cases_break(mutant):
    if mutant == "one pass's drift":
        # Two opposite losses over and over: each new pass brings the sum back.
        environment = random_order(4000, 20, D, seeded(), passes=2000)
        one = torch.tensor(2 * math.pi**2 / 3, dtype=F64)
        assert breaks("prop-sea-special-cases", environment.variations.sum(0), one)
        return
    _, losses, orders, _ = all_orders(5)
    if mutant == "with replacement":
        orders = torch.randint(5, orders.shape, generator=seeded())
    rest = losses[orders[:, 1:]]
    exact = (losses.sum(0) - losses[orders[:, 0]]) / 4
    got = losses.mean(0).expand_as(exact) if mutant == "whole mean" else rest.mean(1)
    assert differ("prop-sea-special-cases", got, exact)
