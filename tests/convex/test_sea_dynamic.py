"""Statements about moving comparators."""

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball
from mdtheory.convex.online_learning import bounds as ol_bounds
from mdtheory.convex.sea import (
    bounds,
    optimistic_mirror_descent,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.sea_cases import (
    BALL,
    CURVES,
    DIAMETER,
    EVERY,
    F64,
    D,
    T,
    along,
    descend,
    errors,
    make,
    moves,
    moving_comparators,
    normal,
    path,
    square,
)
from tests.refused import breaks


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
        right, h, _ = descend(environment, environment.start(), T, lambda t, v: step)
        for u in moving_comparators(h):
            full = bounds.dynamic_pathwise(
                DIAMETER, path(u), step, errors(h).sum(0), moves(right).sum(0)
            )
            check_bound("thm-sea-dynamic", along(h, right, u), full)
        for u in moving_comparators(g):
            limit = bounds.dynamic_pathwise(
                DIAMETER, 0.0 if mutant == "no path" else path(u), step,
                0 * variation if mutant == "no variation" else variation, movement,
            )  # fmt: skip
            if mutant == "no distance":
                limit = limit - (DIAMETER**2 + 2 * DIAMETER * path(u)) / (2 * step)
            broken |= breaks("thm-sea-dynamic", along(g, x, u), limit)
    assert broken
