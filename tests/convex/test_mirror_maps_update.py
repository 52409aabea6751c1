"""Statements about the one update."""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from tests.convex.mirror_maps_theorem_cases import N, at_most, float64, uniform
from tests.refused import fails

# ------------------------------------------------------------------------------- thm-one-update


def optimality(case, others, y, z, g, eta, weight, after):
    """Slope of the step's objective at `after` towards `others`: at least 0 at the minimiser."""
    pull = [
        g,
        case.per_point(weight) * (case.gradient(after) - case.gradient(z)),
        (case.gradient(after) - case.gradient(y)) / case.per_point(eta),
    ]
    terms = [case.inner(p, x) for p in pull for x in (others, after)]
    for x in (others, after):
        terms += [case.inner(case.gradient(at), x) / eta for at in (after, y)]
        terms += [weight * case.inner(case.gradient(at), x) for at in (after, z)]
    return torch.zeros_like(eta), sum(case.inner(p, others - after) for p in pull), terms


def step_instance(case, generator):
    y, z, others = (case.draw(N, generator) for _ in range(3))
    eta, weight = uniform(N, generator, 0.1, 1.0), uniform(N, generator, 0.5, 2.0)
    return others, y, z, case.direction(N, generator), eta, weight


@pytest.mark.theorem("thm-one-update", "bound")
@pytest.mark.parametrize("infinite", [False, True])
def test_the_step_minimises_its_objective(case, generator, infinite):
    others, y, z, g, eta, weight = step_instance(case, generator)
    if infinite:
        eta = torch.full_like(eta, math.inf)
    after = mm.mirror_step(case.mirror_map, y, g, eta, z, weight)
    at_most(*optimality(case, others, y, z, g, eta, weight, after), 100 * case.tolerance)


@pytest.mark.theorem("thm-one-update", "equality")
def test_a_and_b_are_those_of_the_theorem(generator):
    """Against the formula in exact fractions."""
    from fractions import Fraction as F

    for eta, weight in [(F(1, 2), F(0)), (F(1, 3), F(5, 4)), (F(7), F(1, 9))]:
        b = 1 / (1 / eta + weight)
        a = weight * b
        dual, magnet, g = (torch.randn(4, generator=generator, dtype=float64) for _ in range(3))
        expected = [
            float((1 - a) * F(t) + a * F(s) - b * F(v))
            for t, s, v in zip(dual.tolist(), magnet.tolist(), g.tolist(), strict=True)
        ]
        got = mm.dual_step(dual, g, float(eta), magnet, float(weight))
        # A few roundings of each term, whether or not products are fused with sums.
        terms = float(1 - a) * dual.abs() + float(a) * magnet.abs() + float(b) * g.abs()
        allowed = 4 * torch.finfo(float64).eps * terms
        assert ((got - torch.tensor(expected, dtype=float64)).abs() <= allowed).all()


@pytest.mark.theorem("thm-one-update", "equality")
def test_repeating_the_step_converges_at_the_rate_one_minus_a(case, generator):
    """With a fixed gradient the dual error is (1 - a)^t times the first one."""
    _, _, _, g, eta, weight = step_instance(case, generator)
    dual, magnet = case.dual(N, generator), case.dual(N, generator)
    eta, weight = (case.per_point(v) for v in (eta, weight))
    limit = mm.dual_step(dual, g, math.inf, magnet, weight)
    current = dual
    for _ in range(5):
        current = mm.dual_step(current, g, eta, magnet, weight)
    kept = (1 + weight * eta) ** -5
    torch.testing.assert_close(current - limit, kept * (dual - limit), rtol=1e-9, atol=1e-10)


@pytest.mark.theorem("thm-one-update", "mutant")
@pytest.mark.parametrize(
    "mutant", ["weight dropped from b", "magnet dropped", "a and 1 - a exchanged", "primal average"]
)
def test_another_update_does_not_minimise_the_objective(case, generator, mutant):
    others, y, z, g, eta, weight = step_instance(case, generator)
    e, w = case.per_point(eta), case.per_point(weight)
    b = 1 / (1 / e + w)
    a = w * b
    dual_y, dual_z = case.gradient(y), case.gradient(z)
    mutants = {
        "weight dropped from b": (1 - a) * dual_y + a * dual_z - e * g,
        "magnet dropped": dual_y - b * g,
        "a and 1 - a exchanged": a * dual_y + (1 - a) * dual_z - b * g,
        "primal average": case.gradient((1 - a) * y + a * z) - b * g,
    }
    if mutant == "primal average" and case.atom.startswith("half"):
        pytest.skip("the dual of a quadratic map is linear: the averages agree")
    after = case.mirror_map.to_primal(mutants[mutant])
    right = case.mirror_map.to_primal((1 - a) * dual_y + a * dual_z - b * g)
    true = optimality(case, others, y, z, g, eta, weight, right)
    wrong = optimality(case, others, y, z, g, eta, weight, after)
    fails(at_most, *wrong, true=true, tolerance=1e-6)


# ------------------------------------------------------------------------------ prop-carried-dual


def both_ways(case, generator, weight, rounds=12, carry_point_magnet=True):
    dual, magnet = case.dual(N, generator) / 2, case.dual(N, generator) / 2
    if not case.attainable:
        dual, magnet = 2 * dual, 2 * magnet
    # The re-anchored twin sees points only: the magnet's point, and its own.
    carried, point = dual, case.mirror_map.to_primal(dual)
    magnet_point = case.mirror_map.to_primal(magnet)
    pairs = []
    for _ in range(rounds):
        g = case.direction(N, generator)
        carried = mm.dual_step(carried, g, 0.3, magnet, weight)
        point = mm.mirror_step(case.mirror_map, point, g, 0.3, magnet_point, weight)
        pairs.append(torch.stack([case.mirror_map.to_primal(carried), point]))
    return torch.stack(pairs, 1)


@pytest.mark.theorem("prop-carried-dual", "equality")
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_carried_and_anchored_duals_give_the_same_points(case, generator, weight):
    if not case.steep:
        pytest.skip("the lazy step of this map is another algorithm, tested below")
    if not case.attainable:
        generator.manual_seed(1)
    carried, anchored = both_ways(case, generator, weight, rounds=12 if case.attainable else 4)
    size = carried.abs().flatten(2).amax(-1).clamp(min=1)
    error = (carried - anchored).abs().flatten(2).amax(-1) / size
    assert (error <= 1000 * case.tolerance).all(), error.max()


@pytest.mark.theorem("prop-carried-dual", "mutant")
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_lazy_steps_differ_where_the_map_is_not_steep(case, generator, weight):
    if case.steep:
        pytest.skip("for steep maps they agree, tested above")
    carried, anchored = both_ways(case, generator, weight)
    assert (carried - anchored).abs().max() > 0.05


@pytest.mark.theorem("prop-carried-dual", "mutant")
def test_the_example_of_the_proof():
    """psi = x^2 / 2 on [0, 1] from 0, gradients 1 and -1: lazy ends at 0, re-anchored at 1."""
    interval = mm.Euclidean(mm.Box(0.0, 1.0))
    point = dual = torch.zeros(1, dtype=float64)
    for slope in (1.0, -1.0):
        g = torch.tensor([slope], dtype=float64)
        dual, point = mm.dual_step(dual, g, 1.0), mm.mirror_step(interval, point, g, 1.0)
    assert interval.to_primal(dual).item() == 0
    assert point.item() == 1


@pytest.mark.theorem("prop-carried-dual", "equality")
def test_the_maps_say_whether_their_dual_may_be_carried(case):
    assert case.mirror_map.carries_dual is case.steep
