"""The labelled statements of the chapter 'Mirror maps': bound, equality, mutants.

A mutant is the same check run on a plausible mistake; it must fail.
"""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from tests import refused
from tests.refused import fails

N = 300
float64 = torch.float64


def at_most(left, right, terms=(), tolerance=1e-12):
    """left <= right up to rounding of the largest term."""
    refused.at_most(left, right, terms, tolerance=tolerance)


def uniform(n, generator, low=0.01, high=1.0):
    return low + (high - low) * torch.rand(n, generator=generator, dtype=float64)


def spread(n, generator):
    """Numbers from 1e-3 to 1, evenly on a logarithmic scale."""
    return 10 ** (-3 * torch.rand(n, generator=generator, dtype=float64))


# ----------------------------------------------------------------------------- prop-dual-maps (I3)


@pytest.mark.theorem("prop-dual-maps", "bound")
def test_fenchel_young(case, generator):
    x, theta = case.comparators(N, generator), case.dual(N, generator)
    psi, conjugate = case.psi(x), case.mirror_map.conjugate(theta)
    at_most(case.inner(theta, x), psi + conjugate, (psi, conjugate), case.tolerance)


@pytest.mark.theorem("prop-dual-maps", "equality")
def test_fenchel_young_is_tight_at_the_dual_of_a_point(case, generator, close):
    x = case.draw(N, generator)
    theta = case.gradient(x)
    psi, conjugate = case.psi(x), case.mirror_map.conjugate(theta)
    close(psi + conjugate, case.inner(theta, x), (psi, conjugate), case.tolerance)


@pytest.mark.theorem("prop-dual-maps", "equality")
def test_to_primal_undoes_to_dual(case, generator):
    x = case.draw(N, generator)
    again = case.mirror_map.to_primal(case.mirror_map.to_dual(x))
    largest = x.abs().flatten(1).amax(-1)
    error = (again - x).abs().flatten(1).amax(-1) / largest
    assert (error <= case.point_tolerance).all(), error.max()


@pytest.mark.theorem("prop-dual-maps", "equality")
def test_a_round_trip_from_the_dual_loses_a_normal_vector(case, generator):
    theta = case.dual(N, generator)
    x = case.mirror_map.to_primal(theta)
    normal, others = theta - case.gradient(x), case.comparators(N, generator)
    terms = [case.inner(left, right) for left in (theta, case.gradient(x)) for right in (x, others)]
    zero = torch.zeros(N, dtype=float64)
    at_most(case.inner(normal, others - x), zero, terms, 10 * case.tolerance)


@pytest.mark.theorem("prop-dual-maps", "equality")
def test_the_gradient_of_the_conjugate_is_the_point(case, generator):
    theta, v = case.dual(N, generator), case.direction(N, generator) / 10
    if not case.attainable:
        v = v / 10

    def difference(h):
        ahead, behind = (case.mirror_map.conjugate(theta + s * h * v) for s in (1, -1))
        return (ahead - behind) / (2 * h)

    # Richardson's extrapolation of central differences.
    slope = (4 * difference(5e-4) - difference(1e-3)) / 3
    expected = case.inner(case.mirror_map.to_primal(theta), v)
    torch.testing.assert_close(slope, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.theorem("prop-dual-maps", "mutant")
@pytest.mark.parametrize("mutant", ["half the dual", "sign", "centre of the domain"])
def test_a_conjugate_that_is_no_maximum_is_found_out(case, generator, mutant):
    theta = case.dual(N, generator)
    best = case.mirror_map.to_primal(theta)
    if mutant == "half the dual":
        other = case.mirror_map.to_primal(theta / 2)
    elif mutant == "sign" and case.attainable:
        other = case.mirror_map.to_primal(-theta)
    else:
        other = case.draw(N, generator).mean(0).expand(best.shape)
    conjugate = case.inner(theta, other) - case.psi(other)
    left, psi = case.inner(theta, best), case.psi(best)
    right = case.mirror_map.conjugate(theta)
    true = (left, psi + right, (psi, right))
    fails(
        at_most, left, psi + conjugate, (psi, conjugate), true=true, tolerance=10 * case.tolerance
    )


# --------------------------------------------------------------------------- prop-three-point (I1)


def three_point(case, divergence, u, x, y):
    slopes = case.gradient(y) - case.gradient(x)
    terms = [divergence(u, x), divergence(x, y), divergence(u, y)]
    terms += [case.inner(case.gradient(at), u - x) for at in (x, y)]
    # What the divergences are made of counts as a term: it is where rounding enters.
    terms += [case.psi(at) for at in (u, x, y)]
    terms += [case.inner(case.gradient(at), at) for at in (x, y)]
    left = divergence(u, x) + divergence(x, y) - divergence(u, y)
    return left, case.inner(slopes, u - x), terms


@pytest.mark.theorem("prop-three-point", "equality")
def test_three_point_identity(case, generator, close):
    u, x, y = (
        case.comparators(N, generator), case.draw(N, generator), case.draw(N, generator),
    )  # fmt: skip
    left, right, terms = three_point(case, case.mirror_map.divergence, u, x, y)
    close(left, right, terms, case.tolerance)


@pytest.mark.theorem("prop-three-point", "equality")
def test_divergence_is_the_gap_to_the_tangent(case, generator, close):
    x, y = case.comparators(N, generator), case.draw(N, generator)
    terms = [case.psi(x), case.psi(y), case.inner(case.gradient(y), x)]
    terms.append(case.inner(case.gradient(y), y))
    close(case.mirror_map.divergence(x, y), case.divergence(x, y), terms, case.tolerance)


@pytest.mark.theorem("prop-three-point", "bound")
def test_divergences_are_nonnegative_and_vanish_only_on_the_diagonal(case, generator):
    x, y = case.draw(N, generator), case.draw(N, generator)
    assert (case.mirror_map.divergence(x, y) > 1e-6).all()
    rounding = case.tolerance * case.psi(x).abs().clamp(min=1)
    assert (case.mirror_map.divergence(x, x).abs() <= rounding).all()


@pytest.mark.theorem("prop-three-point", "mutant")
@pytest.mark.parametrize("mutant", ["arguments swapped", "doubled", "tangent at the wrong point"])
def test_another_divergence_breaks_the_identity(case, generator, close, mutant):
    divergence = case.mirror_map.divergence
    mutants = {
        "arguments swapped": lambda x, y: divergence(y, x),
        "doubled": lambda x, y: 2 * divergence(x, y),
        "tangent at the wrong point": lambda x, y: (
            case.psi(x) - case.psi(y) - case.inner(case.gradient(x), x - y)
        ),
    }
    if case.atom.startswith("half") and mutant == "arguments swapped":
        pytest.skip("quadratic divergences are symmetric")
    u, x, y = (case.draw(N, generator) for _ in range(3))
    true = three_point(case, divergence, u, x, y)
    fails(close, *three_point(case, mutants[mutant], u, x, y), true=true, tolerance=1e-6)


# -------------------------------------------------------------------- prop-divergence-duality (I2)


def conjugate_divergence(case, zeta, theta):
    """The divergence of the conjugate, with the terms it is made of."""
    point = case.mirror_map.to_primal(theta)
    terms = [
        case.mirror_map.conjugate(zeta), -case.mirror_map.conjugate(theta),
        -case.inner(point, zeta), case.inner(point, theta),
    ]  # fmt: skip
    return sum(terms), terms


@pytest.mark.theorem("prop-divergence-duality", "equality")
def test_divergence_of_points_is_that_of_their_duals_reversed(case, generator, close):
    x, y = case.draw(N, generator), case.draw(N, generator)
    dual, terms = conjugate_divergence(case, case.gradient(y), case.gradient(x))
    close(case.mirror_map.divergence(x, y), dual, terms, case.point_tolerance)


@pytest.mark.theorem("prop-divergence-duality", "bound")
def test_divergence_of_any_duals_bounds_that_of_their_points(case, generator):
    theta, zeta = case.dual(N, generator), case.dual(N, generator)
    x, y = case.mirror_map.to_primal(theta), case.mirror_map.to_primal(zeta)
    dual, terms = conjugate_divergence(case, zeta, theta)
    at_most(case.divergence(x, y), dual, terms, 10 * case.tolerance)


@pytest.mark.theorem("prop-divergence-duality", "mutant")
def test_duality_without_the_exchange_of_arguments_fails(cases, generator, close):
    for name in ("entropy", "log-barrier", "p-norm", "von-neumann", "tsallis-half"):
        case = cases[name]
        x, y = case.draw(N, generator), case.draw(N, generator)
        dual_x, dual_y = case.gradient(x), case.gradient(y)
        primal = case.mirror_map.divergence(x, y)
        true = (primal, *conjugate_divergence(case, dual_y, dual_x))
        wrong = conjugate_divergence(case, dual_x, dual_y)
        fails(close, primal, *wrong, true=true, tolerance=1e-6)


# ----------------------------------------------------------------------------- thm-pythagoras (I4)

PROJECTED = [
    "euclidean-ball", "euclidean-box", "euclidean-simplex", "mahalanobis-ball", "entropy",
    "log-barrier", "tsallis-half", "tsallis-three-halves", "von-neumann",
]  # fmt: skip


def outside(case, generator):
    """Points with a gradient that need not belong to the domain."""
    if case.event_dims == 2:
        x = case.draw(N, generator)
        return x * case.per_point(uniform(N, generator, 0.2, 3.0))
    x = torch.randn(N, 5, generator=generator, dtype=float64)
    return 2 * x if case.atom.startswith("half") else x.exp()


def pythagoras(case, u, y, projected):
    parts = case.divergence(u, projected), case.divergence(projected, y)
    whole = case.divergence(u, y)
    terms = [case.psi(x) for x in (u, y, projected)] + [
        case.inner(case.gradient(at), x) for at in (y, projected) for x in (u, at)
    ]
    return sum(parts), whole, terms


@pytest.mark.theorem("thm-pythagoras", "bound")
@pytest.mark.parametrize("name", PROJECTED)
def test_pythagoras(cases, generator, name):
    case = cases[name]
    u, y = case.comparators(N, generator), outside(case, generator)
    projected = case.mirror_map.to_primal(case.gradient(y))
    at_most(*pythagoras(case, u, y, projected), 10 * case.tolerance)


@pytest.mark.theorem("thm-pythagoras", "equality")
@pytest.mark.parametrize("name", ["entropy", "log-barrier", "tsallis-half", "von-neumann"])
def test_pythagoras_is_an_equality_on_affine_domains(cases, generator, close, name):
    case = cases[name]
    u, y = case.comparators(N, generator), outside(case, generator)
    projected = case.mirror_map.to_primal(case.gradient(y))
    close(*pythagoras(case, u, y, projected), 10 * case.tolerance)


@pytest.mark.theorem("thm-pythagoras", "equality")
def test_entropic_projection_divides_by_the_sum(cases, generator):
    y = outside(cases["entropy"], generator)
    projected = mm.Entropy().to_primal(mm.PositiveEntropy().to_dual(y))
    torch.testing.assert_close(projected, y / y.sum(-1, keepdim=True), rtol=1e-12, atol=0)


@pytest.mark.theorem("thm-pythagoras", "mutant")
@pytest.mark.parametrize("name", ["mahalanobis-ball", "entropy", "log-barrier", "tsallis-half"])
def test_the_euclidean_projection_breaks_pythagoras_elsewhere(cases, generator, name):
    case = cases[name]
    u, y = case.draw(N, generator), outside(case, generator)
    if case.domain == "ball":
        projected = mm.Ball(1.0).project(y)
        u = case.gradient(projected)  # the comparator that suffers most
        u = u / u.norm(dim=-1, keepdim=True)
    else:
        projected = 0.999 * mm.Simplex().project(y) + 0.001 / y.shape[-1]
    true = pythagoras(case, u, y, case.mirror_map.to_primal(case.gradient(y)))
    fails(at_most, *pythagoras(case, u, y, projected), true=true, tolerance=10 * case.tolerance)


@pytest.mark.theorem("thm-pythagoras", "mutant")
@pytest.mark.parametrize("name", PROJECTED)
def test_another_point_of_the_domain_breaks_pythagoras(cases, generator, name):
    case = cases[name]
    u, y = case.draw(N, generator), outside(case, generator)
    true = pythagoras(case, u, y, case.mirror_map.to_primal(case.gradient(y)))
    wrong = pythagoras(case, u, y, case.draw(N, generator))
    fails(at_most, *wrong, true=true, tolerance=10 * case.tolerance)


# ----------------------------------------------------------------------- thm-prox-inequality (I5)


def prox(case, u, y, g, eta, after):
    gain = eta * case.inner(g, after - u)
    price = case.divergence(u, y) - case.divergence(u, after) - case.divergence(after, y)
    terms = [case.psi(x) for x in (u, y, after)]
    terms += [eta * case.inner(g, u), eta * case.inner(g, after)]
    terms += [case.inner(case.gradient(at), x) for at in (y, after) for x in (u, at)]
    return gain, price, terms


def prox_instance(case, generator):
    u, y = case.comparators(N, generator), case.draw(N, generator)
    return u, y, case.direction(N, generator), uniform(N, generator)


@pytest.mark.theorem("thm-prox-inequality", "bound")
def test_prox_inequality(case, generator):
    u, y, g, eta = prox_instance(case, generator)
    after = mm.mirror_step(case.mirror_map, y, g, eta)
    at_most(*prox(case, u, y, g, eta, after), 10 * case.tolerance)


@pytest.mark.theorem("thm-prox-inequality", "equality")
def test_prox_inequality_is_an_equality_for_steep_maps(case, generator, close):
    u, y, g, eta = prox_instance(case, generator)
    after = mm.mirror_step(case.mirror_map, y, g, eta)
    if case.steep:
        close(*prox(case, u, y, g, eta, after), 10 * case.tolerance)
    else:  # strict somewhere, because some steps end at the border
        with pytest.raises(AssertionError, match="relative difference"):
            close(*prox(case, u, y, g, eta, after), 1e-6)


@pytest.mark.theorem("thm-prox-inequality", "equality")
def test_the_gap_of_the_prox_inequality_is_the_normal_vector_times_the_way(case, generator, close):
    u, y, g, eta = prox_instance(case, generator)
    after = mm.mirror_step(case.mirror_map, y, g, eta)
    normal = case.gradient(y) - case.per_point(eta) * g - case.gradient(after)
    gain, price, terms = prox(case, u, y, g, eta, after)
    close(price - gain, -case.inner(normal, u - after), terms, 10 * case.tolerance)


@pytest.mark.theorem("thm-prox-inequality", "mutant")
@pytest.mark.parametrize("mutant", ["sign", "twice the step", "half the step", "no step"])
def test_another_step_breaks_the_prox_inequality(case, generator, mutant):
    u, y, g, eta = prox_instance(case, generator)
    factor = {"sign": -1.0, "twice the step": 2.0, "half the step": 0.5, "no step": 0.0}[mutant]
    true = prox(case, u, y, g, eta, mm.mirror_step(case.mirror_map, y, g, eta))
    after = mm.mirror_step(case.mirror_map, y, factor * g, eta)
    fails(at_most, *prox(case, u, y, g, eta, after), true=true, tolerance=1e-6)


@pytest.mark.theorem("thm-prox-inequality", "mutant")
def test_projecting_an_entropic_step_with_euclid_breaks_the_inequality(cases, generator):
    case = cases["entropy"]
    _, y, g, eta = prox_instance(case, generator)
    u = case.draw(N, generator)
    moved = y * torch.exp(-eta[:, None] * g)
    after = 0.999 * mm.Simplex().project(moved) + 0.001 / y.shape[-1]
    true = prox(case, u, y, g, eta, mm.mirror_step(case.mirror_map, y, g, eta))
    wrong = prox(case, u, y, g, eta, after)
    fails(at_most, *wrong, true=true, tolerance=10 * case.tolerance)


@pytest.mark.theorem("thm-prox-inequality", "mutant")
def test_the_step_of_the_reversed_divergence_breaks_the_inequality(cases, generator):
    """The step with KL(y, x) in place of KL(x, y): x = y / (eta g + lambda), by bisection."""
    case = cases["entropy"]
    u, y, g, eta = prox_instance(case, generator)
    slope = eta[:, None] * g
    low = -slope.amin(-1, keepdim=True)
    low, high = low, low + 50
    for _ in range(80):
        middle = (low + high) / 2
        above = (y / (slope + middle)).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    after = y / (slope + high)
    torch.testing.assert_close(after.sum(-1), torch.ones(N, dtype=float64))
    true = prox(case, u, y, g, eta, mm.mirror_step(case.mirror_map, y, g, eta))
    wrong = prox(case, u, y, g, eta, after / after.sum(-1, keepdim=True))
    fails(at_most, *wrong, true=true, tolerance=10 * case.tolerance)


# ------------------------------------------------------------------------------ lem-stability (I6)


def stability(case, generator):
    theta, change = case.dual(N, generator) / 4, case.direction(N, generator)
    change = case.per_point(spread(N, generator)) * change
    moved = case.mirror_map.to_primal(theta + change) - case.mirror_map.to_primal(theta)
    return moved, change


def _strongly_convex(case):
    if case.mirror_map.strong_convexity == 0:
        pytest.skip("strongly convex only on bounded parts of its domain")
    return case.mirror_map.strong_convexity


@pytest.mark.theorem("lem-stability", "bound")
def test_points_move_at_most_as_far_as_their_duals(case, generator):
    mu = _strongly_convex(case)
    moved, change = stability(case, generator)
    at_most(
        case.mirror_map.norm(moved), case.mirror_map.dual_norm(change) / mu, tolerance=1e-9
    )  # fmt: skip


@pytest.mark.theorem("lem-stability", "bound")
def test_two_steps_from_one_point_stay_together(case, generator):
    mu = _strongly_convex(case)
    y, g, m, eta = (
        case.draw(N, generator), case.direction(N, generator), case.direction(N, generator),
        uniform(N, generator),
    )  # fmt: skip
    ends = [mm.mirror_step(case.mirror_map, y, slope, eta) for slope in (g, m)]
    distance = case.mirror_map.norm(ends[0] - ends[1])
    at_most(distance, eta / mu * case.mirror_map.dual_norm(g - m), tolerance=1e-9)


@pytest.mark.theorem("lem-stability", "equality")
@pytest.mark.parametrize("name", ["euclidean", "mahalanobis"])
def test_stability_is_tight_for_quadratic_maps(cases, generator, name):
    case = cases[name]
    moved, change = stability(case, generator)
    torch.testing.assert_close(
        case.mirror_map.norm(moved), case.mirror_map.dual_norm(change), rtol=1e-10, atol=0
    )


SHARP = {
    # From the point where the second derivative is smallest, along its smallest direction.
    "entropy": (mm.Entropy(), [0.5, 0.5], [1.0, -1.0]),
    "binary": (mm.BinaryEntropy(), [0.5, 0.5], [1.0, 1.0]),
    "p-norm": (mm.PNorm(1.3), [1.0, 1.0], [1.0, -1.0]),
    "von Neumann": (mm.VonNeumann(), [[0.5, 0.0], [0.0, 0.5]], [[0.0, 1.0], [1.0, 0.0]]),
    "Euclidean": (mm.Euclidean(), [0.3, 0.4], [1.0, 2.0]),
    "Mahalanobis": (mm.Mahalanobis(torch.eye(2).double() * 3), [0.3, 0.4], [1.0, 2.0]),
    "Tsallis 2": (mm.Tsallis(2.0), [0.5, 0.5], [1.0, -1.0]),
}


def sharp(name):
    mirror_map, y, v = SHARP[name]
    return mirror_map, torch.tensor(y, dtype=float64), torch.tensor(v, dtype=float64)


def stability_ratio(mirror_map, y, v):
    change = 1e-4 * v
    start = mirror_map.to_dual(y)
    moved = mirror_map.to_primal(start + change) - mirror_map.to_primal(start)
    return (mirror_map.norm(moved) / mirror_map.dual_norm(change)).item()


@pytest.mark.theorem("lem-stability", "equality")
@pytest.mark.parametrize("name", SHARP)
def test_stability_is_tight_where_the_curvature_is_smallest(name):
    mirror_map, y, v = sharp(name)
    ratio = stability_ratio(mirror_map, y, v)
    assert ratio * mirror_map.strong_convexity == pytest.approx(1, abs=1e-6)


@pytest.mark.theorem("lem-stability", "mutant")
@pytest.mark.parametrize("name", SHARP)
def test_a_larger_constant_breaks_stability(name):
    mirror_map, y, v = sharp(name)
    assert stability_ratio(mirror_map, y, v) * 1.05 * mirror_map.strong_convexity > 1.01


@pytest.mark.theorem("lem-stability", "mutant")
def test_the_wrong_norm_of_the_change_breaks_stability(cases, generator):
    """The mean change of a dual entry in place of the largest: one entry alone may change."""
    y = cases["entropy"].draw(N, generator)
    change = torch.zeros_like(y)
    change[:, 0] = uniform(N, generator)
    dual = mm.Entropy().to_dual(y)
    moved = (mm.Entropy().to_primal(dual + change) - y).abs().sum(-1)
    true = (moved, change.abs().amax(-1))
    many = "the mean of an entry and zeros is a share of the largest"
    fails(at_most, moved, change.abs().mean(-1), true=true, scaled=many)


# --------------------------------------------------------------------- prop-strong-convexity (I7)


@pytest.mark.theorem("prop-strong-convexity", "bound")
def test_divergence_is_at_least_half_a_squared_norm(case, generator, close):
    mu = _strongly_convex(case)
    x, y = case.comparators(N, generator), case.draw(N, generator)
    x = y + case.per_point(spread(N, generator)) * (x - y)
    norm = case.mirror_map.norm(x - y)
    terms = [case.psi(x), case.inner(case.gradient(y), x)]
    at_most(mu / 2 * norm**2, case.mirror_map.divergence(x, y), terms, case.tolerance)


@pytest.mark.theorem("prop-strong-convexity", "bound")
def test_second_derivative_is_at_least_the_squared_norm_on_tangents(case, generator):
    mu = case.mirror_map.strong_convexity
    for point in case.draw(20, generator):
        directions = case.tangent(case.direction(20, generator))
        hessian = torch.autograd.functional.hessian(case.psi, point)
        size = point.numel()
        flat = directions.reshape(20, size)
        curvature = torch.einsum("ni,ij,nj->n", flat, hessian.reshape(size, size), flat)
        assert (curvature >= -1e-9).all()
        at_most(mu * case.mirror_map.norm(directions) ** 2, curvature, tolerance=1e-8)


def curvature_ratio(mirror_map, y, v):
    x = y + 1e-3 * v
    return (2 * mirror_map.divergence(x, y) / mirror_map.norm(x - y) ** 2).item()


@pytest.mark.theorem("prop-strong-convexity", "equality")
@pytest.mark.parametrize("name", SHARP)
def test_constants_are_attained(name):
    mirror_map, y, v = sharp(name)
    assert curvature_ratio(mirror_map, y, v) == pytest.approx(mirror_map.strong_convexity, rel=1e-5)


@pytest.mark.theorem("prop-strong-convexity", "mutant")
@pytest.mark.parametrize("name", SHARP)
def test_a_larger_constant_is_refuted(name):
    mirror_map, y, v = sharp(name)
    assert curvature_ratio(mirror_map, y, v) < 1.05 * mirror_map.strong_convexity - 1e-3


@pytest.mark.theorem("prop-strong-convexity", "mutant")
def test_the_entropy_is_not_strongly_convex_in_norms_that_are_too_large(generator):
    """Two in the 1-norm, three in the 2-norm: both refuted by the same pair."""
    mirror_map, y, v = sharp("entropy")
    x = y + 1e-3 * v
    divergence = mirror_map.divergence(x, y)
    assert divergence < (x - y).abs().sum() ** 2
    assert divergence < 1.5 * (x - y).norm() ** 2


@pytest.mark.theorem("prop-strong-convexity", "equality")
@pytest.mark.parametrize(
    ("mirror_map", "sharp_constant"),
    [(mm.LogBarrier(), 4.0), (mm.Tsallis(0.5), 0.5 * 2**1.5), (mm.Tsallis(0.9), 0.9 * 2**1.1)],
)
def test_sharp_constants_on_the_simplex_of_maps_whose_table_entry_is_not_sharp(
    mirror_map, sharp_constant, generator
):
    """Exercise exr-log-barrier: attained at (1/2, 1/2, 0, ...), and never undercut."""
    y = torch.tensor([0.5, 0.5], dtype=float64)
    attained = curvature_ratio(mirror_map, y, torch.tensor([1.0, -1.0], dtype=float64))
    assert attained == pytest.approx(sharp_constant, rel=1e-5)
    weights = -torch.rand(2, 4000, 4, generator=generator, dtype=float64).log()
    x, y = weights / weights.sum(-1, keepdim=True)
    assert (mirror_map.divergence(x, y) >= sharp_constant / 2 * mirror_map.norm(x - y) ** 2).all()


@pytest.mark.theorem("prop-strong-convexity", "equality")
@pytest.mark.parametrize(("name", "power"), [("positive-entropy", 1), ("log-det", 0)])
def test_two_maps_have_no_constant(cases, generator, close, name, power):
    """Scaling both points by t scales the divergence by t or not at all, a norm by t^2."""
    case = cases[name]
    assert case.mirror_map.strong_convexity == 0
    x, y = case.draw(N, generator), case.draw(N, generator)
    scaled = case.mirror_map.divergence(100 * x, 100 * y)
    terms = [100**power * case.psi(at) for at in (x, y)] + [case.psi(100 * x)]
    close(scaled, 100**power * case.mirror_map.divergence(x, y), terms, 1e-11)


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
        torch.testing.assert_close(got, torch.tensor(expected, dtype=float64), rtol=0, atol=1e-15)


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
