"""Statements about duals, divergences and projections."""

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from tests.convex.mirror_maps_theorem_cases import N, at_most, float64, uniform
from tests.refused import fails

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
