"""Statements about stability and strong convexity."""

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from tests.convex.mirror_maps_theorem_cases import N, at_most, float64, uniform
from tests.refused import fails


def spread(n, generator):
    """Numbers from 1e-3 to 1, evenly on a logarithmic scale."""
    return 10 ** (-3 * torch.rand(n, generator=generator, dtype=float64))


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
