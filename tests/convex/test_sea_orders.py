"""Statements about the leader on parabolas, its lower bound, and decks with the supremum inside."""

import itertools
import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Simplex
from mdtheory.convex.sea import (
    StochasticallyExtendedAdversary,
    bounds,
    optimistic_ftrl,
    optimistic_mirror_descent,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.sea_cases import (
    BALL,
    CURVES,
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
    errors,
    fixed_comparator,
    make,
    mean,
    moves,
    normal,
    square,
    worst_of,
)
from tests.convex.test_sea_exp_concave import bent_regret, matrix_steps, worst_bent
from tests.convex.test_sea_strongly_convex import LAMBDA, curved_facts
from tests.polish import polished
from tests.refused import bound as of
from tests.refused import breaks, fails

# --- thm-sea-curved-leader -------------------------------------------------------------------


def leader_sides(x, g, curvature=LAMBDA, domain=BALL):
    comparator = domain.project(x.mean(0) - g.sum(0) / (curvature * len(x)))
    result = along(g, x, comparator) - curvature / 2 * square(x - comparator).sum(0)
    return result, bounds.curved_leader_pathwise(errors(g), moves(x), curvature)


def lead(environment, start, rounds, curvature, domain=BALL):
    return optimistic_ftrl(
        environment, start, domain, rounds, regime="strongly convex", curvature=curvature
    )


@pytest.mark.theorem("thm-sea-curved-leader", "bound")
@EVERY
@pytest.mark.parametrize("curvature", [0.2, 3.0])
def test_the_leader_on_parabolas_keeps_its_bound_on_every_run(case, curvature):
    for curve in CURVES:
        environment = make(case, curve)
        record = lead(environment, environment.start(), T, curvature)
        sides = leader_sides(record.decisions, record.gradients, curvature)
        check_bound("thm-sea-curved-leader", *sides)


@pytest.mark.theorem("thm-sea-curved-leader", "bound")
@pytest.mark.parametrize("domain", [Ball(0.1), Box(-0.5, 1.0), Simplex()], ids=repr)
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_the_leader_on_parabolas_keeps_its_bound_on_every_domain(domain, length):
    start = domain.project(normal(SEEDS, D, seed=2))
    record = lead(answering(length), start, T, 0.5, domain)
    sides = leader_sides(record.decisions, record.gradients, 0.5, domain)
    check_bound("thm-sea-curved-leader", *sides)


@pytest.mark.theorem("thm-sea-curved-leader", "equality")
def test_one_round_of_the_leader_costs_half_its_bound():
    start, wide = torch.zeros(4, D, dtype=F64), Ball(100.0)
    record = lead(answering_once, start, 1, 0.5, wide)
    result, limit = leader_sides(record.decisions, record.gradients, 0.5, wide)
    check_identity("thm-sea-curved-leader", result, torch.ones(4, dtype=F64))
    check_identity("thm-sea-curved-leader", limit, 2 * torch.ones(4, dtype=F64))


@pytest.mark.theorem("thm-sea-curved-leader", "equality")
def test_decisions_of_the_leader_on_parabolas_minimise_their_sum():
    environment = make("switching", "curved", seeds=2, rounds=7)
    start = environment.start() + 0.2
    record = lead(environment, start, 7, 0.4)
    x, g = record.decisions, record.gradients
    for t in range(1, 7):
        for s in range(2):

            def loss(z, t=t, s=s):
                parabola = 0.2 * ((z - x[:t, s]) ** 2).sum()
                return (g[:t, s].sum(0) + g[t - 1, s]) @ z + parabola

            # One Newton polish from the closed form moves nothing.
            best = polished(loss, x[t, s].numpy(), inside=lambda z: 1 - z.square().sum()[None])
            check_identity("thm-sea-curved-leader", x[t, s], best, tolerance=1e-9)


def lead_again(environment, start, rounds, lam, sign=1.0):
    """The leader written again, with a sign for its hints."""
    x, last = start, torch.zeros_like(start)
    total, seen, kept = torch.zeros_like(start), torch.zeros_like(start), []
    for t in range(1, rounds + 1):
        if t > 1:
            x = BALL.project((seen - (total + sign * last) / lam) / (t - 1))
        last = environment(t, x)[1]
        total, seen = total + last, seen + x
        kept.append((x, last))
    return tuple(torch.stack(part) for part in zip(*kept, strict=True))


@pytest.mark.theorem("thm-sea-curved-leader", "mutant")
@pytest.mark.parametrize("mutant", ["hint of the wrong sign", "weights 1/t^2", "no curvature"])
def test_mutants_of_the_leader_on_parabolas_break(mutant):
    broken = False
    lam = {"no curvature": 50.0}.get(mutant, 20.0)
    for case in ("i.i.d.", "rotating", "alternating", "adversarial"):
        environment = make(case, seeds=8, rounds=300)
        record = lead(environment, environment.start(), 300, lam)
        x, g = record.decisions, record.gradients
        again, _ = lead_again(environment, environment.start(), 300, lam)
        check_identity("thm-sea-curved-leader", x, again)
        result, limit = leader_sides(x, g, lam)
        check_bound("thm-sea-curved-leader", result, limit)
        if mutant == "hint of the wrong sign":
            result, limit = leader_sides(*lead_again(environment, x[0], 300, lam, -1.0), lam)
        elif mutant == "weights 1/t^2":
            clock = torch.arange(1, 301, dtype=F64)[:, None]
            limit = bounds.curved_leader_pathwise(errors(g) / clock, moves(x), lam)
        else:
            result = along(g, x, worst_of(g))
        broken |= breaks("thm-sea-curved-leader", result, limit)
    assert broken


# --- cor-sea-curved-leader -------------------------------------------------------------------


def expected_bound(environment):
    f = curved_facts(environment)
    return torch.as_tensor(bounds.curved_leader_bound(**f), dtype=F64)


@pytest.mark.theorem("cor-sea-curved-leader", "bound")
@EVERY
def test_expected_regret_of_the_leader_on_parabolas_keeps_the_bound(case):
    environment = make(case, "curved", seeds=MANY)
    comparator = fixed_comparator(environment, case)
    record = lead(environment, environment.start(), T, LAMBDA)
    result = mean(record.loss - environment.loss_at(comparator, T))
    check_bound("cor-sea-curved-leader", result, expected_bound(environment))


@pytest.mark.theorem("cor-sea-curved-leader", "equality")
def test_the_leader_s_expected_bound_is_made_of_its_parts():
    f = {
        "diameter": 1.3, "gradient_bound": 2.0, "smoothness": 1.5, "variance": 40.0,
        "variation": 9.0, "curvature": 0.3, "largest_variance": 0.6, "largest_variation": 1.1,
    }  # fmt: skip
    drawn = 1.2 * (1 + math.log(1 + 40.0 / 0.6)) + 1.1 * (1 + math.log(1 + 9.0 / 1.1))
    stated = (4.0 + 4 * drawn + 4 * (1.5 * 1.3) ** 2 * math.log(26.0)) / 0.3
    got = bounds.curved_leader_bound(**f)
    check_identity("cor-sea-curved-leader", got, torch.tensor(stated, dtype=F64))


@pytest.mark.theorem("cor-sea-curved-leader", "bound")
@pytest.mark.parametrize("condition", [1.0, 2.0, 7.5, 100.0, 1e4])
def test_the_leader_s_condition_term_covers_the_movement_that_is_not_paid(condition):
    """The positive parts of 4 L^2 / (lambda t) - lambda (t - 1) / 6, one by one, L = Delta = 1."""
    lam = 1 / condition
    t = torch.arange(2, int(20 * condition) + 20, dtype=F64)
    unpaid = (4 / (lam * t) - lam * (t - 1) / 6).clamp(min=0)
    stated = 4 / lam * torch.tensor(5 * condition, dtype=F64).log1p()
    check_bound("cor-sea-curved-leader", unpaid.sum(), stated)


@pytest.mark.theorem("cor-sea-curved-leader", "mutant")
def test_the_leader_s_bound_needs_the_drift():
    """Losses so flat against their drift that the condition number is no excuse."""
    slopes = 20 * (-1.0) ** torch.arange(1500, dtype=F64)[:, None, None].expand(-1, 2, 1)
    environment = StochasticallyExtendedAdversary(slopes, curvature=1.0)
    record = lead(environment, environment.start(), 1500, 1.0)
    comparator = environment.best_comparator(BALL)
    result = mean(record.loss - environment.loss_at(comparator, 1500))
    right = expected_bound(environment)
    f = curved_facts(environment) | {"variation": 0.0, "largest_variation": 0.0}
    wrong = torch.as_tensor(bounds.curved_leader_bound(**f), dtype=F64)
    fails(of("cor-sea-curved-leader"), result, wrong, true=(result, right))


# --- prop-sea-curved-lower -------------------------------------------------------------------


def coins(rounds):
    """All sequences of coins and their chances under a uniform coin: k! (T - k)! / (T + 1)!."""
    flips = torch.tensor(list(itertools.product([0.0, 1.0], repeat=rounds)), dtype=F64).T
    heads = flips.sum(0)
    count = torch.tensor(float(rounds), dtype=F64)
    weight = torch.lgamma(heads + 1) + torch.lgamma(count - heads + 1) - torch.lgamma(count + 2)
    return flips, weight.exp()


def average_regret(decisions, flips, weights, lam=1.0):
    """Mean over coins p and sequences of lam/2 sum (x_t - p)^2, by the posterior of p."""
    rounds, heads = len(flips), flips.sum(0)
    centre = (heads + 1) / (rounds + 2)
    spread = centre * (1 - centre) / (rounds + 3)
    gaps = ((decisions - centre) ** 2 + spread).sum(0)
    return lam / 2 * (weights * gaps).sum()


def lower(rounds, lam=1.0):
    return lam / 12 * (1 / torch.arange(2, rounds + 2, dtype=F64)).sum()


@pytest.mark.theorem("prop-sea-curved-lower", "equality")
@pytest.mark.parametrize("rounds", [1, 2, 5, 11])
def test_the_mean_of_the_posterior_has_exactly_the_lower_bound(rounds):
    flips, weights = coins(rounds)
    check_identity("prop-sea-curved-lower", weights.sum(), torch.tensor(1.0, dtype=F64))
    seen = flips.cumsum(0) - flips
    past = torch.arange(rounds, dtype=F64)[:, None]
    got = average_regret((seen + 1) / (past + 2), flips, weights, 0.7)
    check_identity("prop-sea-curved-lower", got, lower(rounds, 0.7))


@pytest.mark.theorem("prop-sea-curved-lower", "bound")
@pytest.mark.parametrize("rounds", [1, 4, 10])
def test_no_learner_of_the_chapter_beats_the_lower_bound(rounds):
    flips, weights = coins(rounds)

    def respond(t, x):
        error = x - flips[t - 1, :, None]
        return (error**2).sum(-1) / 2, error

    box, start = Box(0.0, 1.0), torch.full((flips.shape[1], 1), 0.5, dtype=F64)
    played = [
        lead(respond, start, rounds, 1.0, box),
        optimistic_mirror_descent(
            respond, start, box, rounds, regime="strongly convex", curvature=1.0
        ),
        optimistic_mirror_descent(respond, start, box, rounds, gradient_bound=1.0),
    ]
    for record in played:
        got = average_regret(record.decisions[..., 0], flips, weights)
        check_bound("prop-sea-curved-lower", lower(rounds), got)
        # The two readings: against the best decision of the list the regret is larger still.
        best = flips.mean(0)
        gaps = (record.decisions[..., 0] - flips) ** 2 - (best - flips) ** 2
        listed = (weights * gaps.sum(0)).sum() / 2
        check_bound("prop-sea-curved-lower", lower(rounds), listed)


@pytest.mark.theorem("prop-sea-curved-lower", "mutant")
def test_a_learner_that_sees_the_coin_of_the_round_beats_the_lower_bound():
    flips, weights = coins(8)
    past = torch.arange(8, dtype=F64)[:, None]
    honest = (flips.cumsum(0) - flips + 1) / (past + 2)
    peeking = (flips.cumsum(0) + 1) / (past + 3)
    limit = lower(8)
    true = average_regret(honest, flips, weights)
    check_bound("prop-sea-curved-lower", limit, true)
    assert breaks("prop-sea-curved-lower", limit, average_regret(peeking, flips, weights))


# --- prop-sea-random-order -------------------------------------------------------------------


def subsets(count):
    """All subsets as rows of truth values, the empty one left out."""
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=count)), dtype=F64)
    return rows[rows.sum(-1) > 0]


def deck_sides(slopes, curvatures):
    """Losses a_i x^2 / 2 + b_i x on [-1, 1]: the exact sum of variances, and the bound.

    The variance of the gradients a_i x + b_i is a parabola in x, so its supremum is at an end.
    """
    count = slopes.shape[-1]
    ends = torch.tensor([-1.0, 1.0], dtype=F64)[:, None]
    gradients = curvatures[..., None, :] * ends + slopes[..., None, :]  # (..., 2, n)
    chosen = subsets(count)
    size = chosen.sum(-1)
    first = gradients @ chosen.T / size
    second = gradients**2 @ chosen.T / size
    variance = (second - first**2).clamp(min=0).amax(-2)  # (..., subsets)
    total = torch.zeros(variance.shape[:-1], dtype=F64)
    for left in range(1, count + 1):
        total = total + variance[..., size == left].mean(-1)
    apart = (gradients - gradients.mean(-1, keepdim=True)) ** 2
    spread, largest = apart.mean(-1).amax(-1), apart.amax(-2).mean(-1)
    return total, bounds.random_order_variance(count, spread, largest)


def selecting(count):
    """Losses x_i^2 / 2 on the simplex: at each corner one of them only has a gradient."""
    left = torch.arange(1, count + 1, dtype=F64)
    total = ((left - 1) / left**2).sum()
    spread = (count - 1) / count**2
    return total, bounds.random_order_variance(count, torch.tensor(spread, dtype=F64),
                                               (1 - 1 / count) ** 2)  # fmt: skip


@pytest.mark.theorem("prop-sea-random-order", "bound")
@pytest.mark.parametrize("count", [2, 3, 7])
def test_decks_of_different_curvature_keep_the_bound_with_the_supremum_inside(count):
    slopes, curvatures = normal(200, count, seed=1), normal(200, count, seed=2).abs()
    slopes[::4] = 0.0
    curvatures[1::4] = 1.0
    check_bound("prop-sea-random-order", *deck_sides(slopes, curvatures))


@pytest.mark.theorem("prop-sea-random-order", "equality")
def test_without_the_supremum_the_sum_is_known():
    """A common curvature: n/(n-1) s^2 (n - H_n), as in the exercise."""
    slopes = normal(50, 6, seed=3)
    total, limit = deck_sides(slopes, torch.full_like(slopes, 0.7))
    spread = ((slopes - slopes.mean(-1, keepdim=True)) ** 2).mean(-1)
    harmonic = (1 / torch.arange(1, 7, dtype=F64)).sum()
    check_identity("prop-sea-random-order", total, 6 / 5 * spread * (6 - harmonic))
    check_identity("prop-sea-random-order", limit, 6 * spread)  # the two suprema agree


@pytest.mark.theorem("prop-sea-random-order", "bound")
@pytest.mark.parametrize("count", [4, 30, 10**5])
def test_losses_that_are_each_alone_somewhere_come_near_the_bound(count):
    total, limit = selecting(count)
    check_bound("prop-sea-random-order", total, limit)
    assert count < 30 or total > limit / 3  # a tight instance
    if count == 4:  # the same by all subsets
        rows = subsets(4)
        size = rows.sum(-1)
        inside = ((size - 1) / size**2).clamp(min=0)
        exact = sum(inside[size == r].mean() for r in range(1, 5))
        check_identity("prop-sea-random-order", total, exact)


@pytest.mark.theorem("prop-sea-random-order", "mutant")
def test_with_the_supremum_inside_the_logarithm_is_needed():
    total, right = selecting(1000)
    wrong = torch.tensor(999 / 1000, dtype=F64)  # n s^2, as without the supremum
    fails(of("prop-sea-random-order"), total, wrong, true=(total, right))


# --- half of the identity in the matrix (an exercise) ----------------------------------------


def test_half_the_identity_in_the_matrix_costs_half_as_many_logarithms_more():
    """H_t = (1 + gamma G^2 / 2) I + ...: 12 d / gamma in the place of 8 d / gamma."""

    def sides(environment, start, rounds, gamma):
        x, g, _ = matrix_steps(environment, start, rounds, gamma, 1.0, first=0.5)
        d = start.shape[-1]
        grown = (gamma * errors(g).sum(0) / (8 * d)).log1p()
        limit = 2 * (1 + gamma / 2) + 12 * d / gamma * grown - moves(x).sum(0) / 4
        return x, g, limit

    for gamma in (0.05, 0.5, 5.0):
        x, g, limit = sides(answering(1.0), BALL.project(normal(SEEDS, D, seed=2)), 40, gamma)
        check_bound("ex-sea-half", worst_bent(x, g, gamma), limit)
    environment, start = constant(rounds=9)
    x, g, limit = sides(environment, start, 9, 1e-3)
    result = bent_regret(x, g, 1e-3, worst_of(g))
    check_bound("ex-sea-half", result, limit)
    check_bound("ex-sea-half", limit, 3 * result)  # a tight instance
