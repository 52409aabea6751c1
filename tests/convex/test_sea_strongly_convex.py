"""Statements about strongly convex losses."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Simplex
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    bounds,
    optimistic_mirror_descent,
    regret_bound,
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
    descend,
    errors,
    facts,
    fixed_comparator,
    make,
    mean,
    moves,
    normal,
    seeded,
    square,
    worst_of,
)
from tests.refused import bound as of
from tests.refused import breaks, fails

LAMBDA = 0.2


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


STRONG_MUTANTS = ["wrong sign", "growing steps", "no curvature", "moves"]


@pytest.mark.theorem("thm-sea-strongly-convex", "mutant")
@pytest.mark.parametrize("mutant", STRONG_MUTANTS)
def test_mutants_of_the_curved_bound_break(mutant):
    broken = False
    lam = 50.0 if mutant == "no curvature" else LAMBDA
    for case in ("i.i.d.", "rotating", "alternating", "adversarial"):
        environment = make(case, seeds=8)

        def right(t, variation):
            return 2 / (lam * t)

        def growing(t, variation):
            return t / lam

        x, g, _ = descend(environment, environment.start(), T, right)
        check_bound("thm-sea-strongly-convex", *curved_sides(x, g, lam))
        rule = growing if mutant == "growing steps" else right
        sign = -1.0 if mutant == "wrong sign" else 1.0
        x, g, _ = descend(environment, environment.start(), T, rule, sign=sign)
        result, limit = curved_sides(x, g, lam)
        if mutant == "no curvature":
            result = along(g, x, worst_of(g))
        if mutant == "moves":
            late = torch.arange(T - 1, dtype=F64)[:, None]
            limit = limit - 20 * lam * (late * moves(x)).sum(0)
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
    drawn = 2 * 0.6 * (1 + math.log(1 + 40.0 / 0.6)) + 1.1 * (1 + math.log(1 + 9.0 / 1.1))
    stated = 8 / 0.3 + 8 / 0.3 * drawn
    # The two sums apart are never worse than together.
    most, whole = 2 * 0.6 + 1.1, 2 * 40.0 + 9.0
    together = torch.tensor(most * (1 + math.log(1 + whole / most)), dtype=F64)
    check_bound("cor-sea-strongly-convex", torch.tensor(drawn, dtype=F64), together)
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
@pytest.mark.parametrize("mutant", ["no drift", "linear losses"])
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
    right = regret_bound("strongly convex", **f)
    if mutant == "no drift":
        f |= {"variation": 0.0, "largest_variation": 0.0}
        wrong = regret_bound("strongly convex", **f)
        fails(of("cor-sea-strongly-convex"), result, wrong, true=(result, right))
    else:  # the assumption itself is broken: with the curvature that is there, 0, none is promised
        assert breaks("cor-sea-strongly-convex", result, right)
