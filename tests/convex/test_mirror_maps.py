"""Maps: tables, relatives that coincide, extreme numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtheory.convex import mirror_maps as mm
from tests.convex.mirror_maps_cases import INF, N, float64, normal, same

# -------------------------------------------------------------- potentials, duals, norms of a map


def test_potential_is_the_one_of_the_table(case, generator):
    x = case.comparators(N, generator)
    same(case.mirror_map.potential(x), case.psi(x), rtol=case.tolerance, atol=case.tolerance)


def test_dual_is_the_gradient_of_the_potential(case, generator):
    x = case.draw(N, generator)
    size = case.gradient(x).abs().flatten(1).amax(-1)
    error = (case.mirror_map.to_dual(x) - case.gradient(x)).abs().flatten(1).amax(-1)
    assert (error <= case.tolerance * size.clamp(min=1)).all()


def test_points_of_random_duals_lie_in_the_domain(case, generator):
    x = case.mirror_map.to_primal(case.dual(N, generator))
    case.mirror_map.check_point("x", x, border=True)
    if isinstance(case.mirror_map.domain, mm.Simplex):
        same(x.sum(-1), torch.ones(N, dtype=float64), rtol=1e-12)
        assert (x >= 0).all()


def test_dual_norm_is_the_largest_product_with_unit_vectors(case, generator):
    g, v = case.direction(N, generator), case.direction(N, generator)
    price = case.mirror_map.dual_norm(g)
    assert (case.inner(g, v) <= price * case.mirror_map.norm(v) * (1 + 1e-12)).all()
    best = case.best_direction(g)
    same(case.inner(g, best) / case.mirror_map.norm(best), price, rtol=1e-10)


def test_norms_are_homogeneous_and_do_not_overflow(case, generator):
    if case.event_dims == 2:
        pytest.skip("eigenvalues of numbers near the largest are LAPACK's affair")
    v = case.direction(N, generator)
    for norm in (case.mirror_map.norm, case.mirror_map.dual_norm):
        same(norm(1e200 * v), 1e200 * norm(v), rtol=1e-10)
        same(norm(1e-200 * v), 1e-200 * norm(v), rtol=1e-10, atol=0)
        assert norm(torch.zeros_like(v)).eq(0).all()


# ------------------------------------------------------------------- relatives that must coincide


def test_mahalanobis_with_the_identity_is_euclidean(generator):
    eye = torch.eye(4, dtype=float64)
    theta, y = 2 * normal(generator, N, 4), normal(generator, N, 4)
    for domain in (None, mm.Ball(1.3)):
        ours, theirs = mm.Mahalanobis(eye, domain), mm.Euclidean(domain)
        same(ours.to_primal(theta), theirs.to_primal(theta))
        same(ours.conjugate(theta), theirs.conjugate(theta))
    x = mm.Ball(1.3).project(y)
    same(ours.potential(x), theirs.potential(x))
    same(ours.divergence(x, x.flip(0)), theirs.divergence(x, x.flip(0)))
    same(ours.dual_norm(theta), theirs.dual_norm(theta))


def test_mahalanobis_with_a_diagonal_is_euclidean_in_other_units(generator):
    scale = torch.tensor([0.5, 2.0, 9.0], dtype=float64)
    x, g = normal(generator, N, 3), normal(generator, N, 3)
    ours = mm.mirror_step(mm.Mahalanobis(scale.diag()), x, g, 0.3)
    same(ours, x - 0.3 * g / scale)


def test_von_neumann_on_diagonal_matrices_is_the_entropy(generator):
    theta = normal(generator, N, 4)
    matrix = torch.diag_embed(theta)
    point = mm.Entropy().to_primal(theta)
    same(mm.VonNeumann().to_primal(matrix), torch.diag_embed(point))
    same(mm.VonNeumann().conjugate(matrix), mm.Entropy().conjugate(theta))
    same(mm.VonNeumann().potential(torch.diag_embed(point)), mm.Entropy().potential(point))
    other = point.flip(0)
    same(
        mm.VonNeumann().divergence(torch.diag_embed(point), torch.diag_embed(other)),
        mm.Entropy().divergence(point, other), rtol=1e-9, atol=1e-12,
    )  # fmt: skip


def test_log_det_on_diagonal_matrices_is_the_log_barrier_of_its_entries(generator):
    x = normal(generator, N, 3).exp()
    same(mm.LogDet().potential(torch.diag_embed(x)), -x.log().sum(-1), atol=1e-12)
    same(mm.LogDet().to_dual(torch.diag_embed(x)), torch.diag_embed(-1 / x))


def test_matrix_maps_do_not_care_for_the_basis(cases, generator):
    for name in ("von-neumann", "log-det"):
        case = cases[name]
        x, y = case.draw(N, generator), case.draw(N, generator)
        turn = torch.linalg.qr(normal(generator, 3, 3)).Q
        turned = [turn @ m @ turn.mT for m in (x, y)]
        turned = [(m + m.mT) / 2 for m in turned]
        same(
            case.mirror_map.divergence(*turned), case.mirror_map.divergence(x, y), 1e-9, 1e-10
        )  # fmt: skip


def test_tsallis_two_is_the_euclidean_projection(generator):
    theta = 3 * normal(generator, N, 6)
    same(mm.Tsallis(2.0).to_primal(2 * theta), mm.Simplex().project(theta), atol=1e-13)
    x, y = mm.Simplex().project(theta), mm.Simplex().project(theta.flip(0))
    same(mm.Tsallis(2.0).divergence(x, y), ((x - y) ** 2).sum(-1), atol=1e-14)


@pytest.mark.parametrize("offset", [1e-5, -1e-5])
def test_tsallis_tends_to_the_entropy(generator, offset):
    theta, q = 3 * normal(generator, N, 6), 1 + offset
    entropy, tsallis = mm.Entropy(), mm.Tsallis(q)
    x = entropy.to_primal(theta)
    same(tsallis.to_primal(theta), x, rtol=1e-3, atol=1e-5)
    y = entropy.to_primal(theta.flip(0))
    same(tsallis.divergence(x, y), entropy.divergence(x, y), rtol=1e-3, atol=1e-5)
    same(tsallis.potential(x), entropy.potential(x), rtol=1e-3, atol=1e-4)


def test_tsallis_tends_to_the_log_barrier(generator):
    theta, q = 3 * normal(generator, N, 6), 1e-7
    same(mm.Tsallis(q).to_primal(q * theta), mm.LogBarrier().to_primal(theta), rtol=1e-5)


def test_binary_entropy_is_the_entropy_of_pairs(generator):
    theta = 3 * normal(generator, N, 1)
    pairs = torch.cat([theta, torch.zeros_like(theta)], -1)
    point = mm.Entropy().to_primal(pairs)
    same(mm.BinaryEntropy().to_primal(theta), point[:, :1])
    same(mm.BinaryEntropy().conjugate(theta), mm.Entropy().conjugate(pairs))
    other = mm.Entropy().to_primal(pairs.flip(0))
    same(
        mm.BinaryEntropy().divergence(point[:, :1], other[:, :1]),
        mm.Entropy().divergence(point, other), atol=1e-12,
    )  # fmt: skip


def test_p_norm_two_is_euclidean(generator):
    x, y = normal(generator, N, 5), normal(generator, N, 5)
    same(mm.PNorm(2.0).to_dual(x), x)
    same(mm.PNorm(2.0).divergence(x, y), mm.Euclidean().divergence(x, y), atol=1e-12)


def test_entropic_step_is_the_multiplicative_rule(generator):
    x = normal(generator, N, 5).softmax(-1)
    g = normal(generator, N, 5)
    weights = x * torch.exp(-0.7 * g)
    same(mm.mirror_step(mm.Entropy(), x, g, 0.7), weights / weights.sum(-1, keepdim=True))


# --------------------------------------------------------------------------------- extreme numbers


def test_entropy_is_exact_at_probabilities_of_1e_minus_300():
    x = torch.tensor([1e-300, 1e-150, 1.0], dtype=float64)
    same(mm.Entropy().to_primal(mm.Entropy().to_dual(x)), x, rtol=1e-12, atol=0)
    y = torch.tensor([0.25, 0.25, 0.5], dtype=float64)
    expected = (y * (y.log() - torch.tensor([-300.0, -150.0, 0.0]).double() * math.log(10))).sum()
    same(mm.Entropy().divergence(y, x), expected)
    # One step brings it back to where an exact computation does.
    g = torch.tensor([-300 * math.log(10), 0.0, 0.0], dtype=float64)
    same(mm.mirror_step(mm.Entropy(), x, g, 1.0)[0], torch.tensor(0.5, dtype=float64), rtol=1e-10)


@pytest.mark.parametrize("name", ["log-barrier", "tsallis-half", "tsallis-three-halves"])
def test_other_simplex_maps_keep_tiny_probabilities(cases, name):
    x = torch.tensor([1e-300, 1e-100, 0.25, 0.75], dtype=float64)
    mirror_map = cases[name].mirror_map
    again = mirror_map.to_primal(mirror_map.to_dual(x))
    if cases[name].steep:
        same(again, x, rtol=1e-6, atol=0)
    else:  # x^(1/2) of 1e-300 is lost beside the others
        same(again, x, atol=1e-15)
    assert mirror_map.divergence(x, x).abs() < 1e-9


@pytest.mark.parametrize("eta", [1e-12, 1e-6, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("weight", [0.0, 1e-6, 1e6])
def test_steps_of_every_size_are_finite_or_refused(case, generator, eta, weight):
    y, z = case.draw(N, generator), case.draw(N, generator)
    g = case.direction(N, generator)
    magnet = {"magnet": z, "magnet_weight": weight} if weight else {}
    try:
        after = mm.mirror_step(case.mirror_map, y, g, eta, **magnet)
    except ValueError:
        # No finite step: too large for exp, or outside the duals of the log-determinant.
        assert case.name in ("positive-entropy", "log-det")
        assert eta >= 1
        return
    assert after.isfinite().all()
    case.mirror_map.check_point("x", after, border=True)
    if eta * (1 + weight) <= 1e-6:  # a tiny step hardly moves
        # Without strong convexity, a point on the border moves like the root of the step.
        assert (after - y).abs().max() <= (1e-2 if case.name == "tsallis-three" else 1e-4)


@pytest.mark.parametrize("eta", [0.3, 1e6, INF])
def test_a_heavy_magnet_wins(case, generator, eta):
    y, z, g = case.draw(N, generator), case.draw(N, generator), case.direction(N, generator)
    after = mm.mirror_step(case.mirror_map, y, g, eta, z, 1e12)
    assert ((after - z).abs() <= 1e-4 * (1 + z.abs())).all()


def test_an_infinite_step_forgets_where_it_started(case, generator):
    y, z, g = (case.draw(N, generator), case.draw(N, generator), case.direction(N, generator))
    weight = torch.full((N,), 2.0, dtype=float64)
    first = mm.mirror_step(case.mirror_map, y, g, INF, z, weight)
    other = mm.mirror_step(case.mirror_map, y.flip(0), g, weight * INF, z, 2.0)
    same(first, other)


def test_zeros_stay_zero_under_the_entropies(generator):
    x = torch.tensor([0.0, 0.4, 0.6], dtype=float64)
    g = torch.tensor([-5.0, 1.0, 0.0], dtype=float64)
    z = torch.full((3,), 1 / 3, dtype=float64)
    for mirror_map in (mm.Entropy(), mm.PositiveEntropy(), mm.BinaryEntropy()):
        assert mirror_map.to_dual(x)[0] == -INF
        after = mm.mirror_step(mirror_map, x, g, 2.0)
        assert after[0] == 0
        assert after.isfinite().all()
        assert mm.mirror_step(mirror_map, x, g, 2.0, z, 0.5)[0] == 0
        # A magnet with a zero pulls its coordinate to zero, even at infinite step size.
        assert mm.mirror_step(mirror_map, z, g, 2.0, x, 0.5)[0] == 0
        jump = mm.mirror_step(mirror_map, z, g, INF, x, 0.5)
        assert jump[0] == 0
        assert jump.isfinite().all()
        # Without weight it has no say, and an infinite step forgets the point's own zero.
        same(mm.mirror_step(mirror_map, z, g, 2.0, x, 0.0), mm.mirror_step(mirror_map, z, g, 2.0))
        assert mm.mirror_step(mirror_map, x, g, INF, z, 0.5)[0] > 0


def test_divergence_to_a_zero_is_infinite_unless_both_vanish():
    corner = torch.tensor([1.0, 0.0], dtype=float64)
    middle = torch.tensor([0.5, 0.5], dtype=float64)
    for mirror_map in (mm.Entropy(), mm.PositiveEntropy(), mm.BinaryEntropy()):
        assert mirror_map.divergence(middle, corner) == INF
        assert mirror_map.divergence(corner, corner) == 0
    assert mm.Entropy().divergence(corner, middle) == pytest.approx(math.log(2))
    assert mm.Tsallis(0.5).divergence(corner, middle).isfinite()


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e300])
def test_homogeneous_maps_at_every_scale(generator, scale):
    x = normal(generator, N, 3)
    for mirror_map in (mm.PNorm(1.2), mm.Mahalanobis(torch.eye(3, dtype=float64))):
        same(mirror_map.to_dual(scale * x) / scale, mirror_map.to_dual(x), rtol=1e-10)
        same(mirror_map.to_primal(scale * x) / scale, mirror_map.to_primal(x), rtol=1e-10)


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1.0, 1e200])
def test_ball_maps_at_every_scale(generator, scale):
    theta = scale * normal(generator, N, 3)
    matrix = torch.diag(torch.tensor([1e-4, 1.0, 1e4], dtype=float64))
    for mirror_map in (mm.Euclidean(mm.Ball(2.0)), mm.Mahalanobis(matrix, mm.Ball(2.0))):
        x = mirror_map.to_primal(theta)
        assert mm.Ball(2.0).contains(x).all()
        assert x.isfinite().all()
    if scale == 1e200:  # so strong a pull ends where the ball alone decides
        same(x, 2 * theta / scale / (theta / scale).norm(dim=-1, keepdim=True), rtol=1e-9)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.floats(1e-12, 1e6),
    st.sampled_from(["Entropy", "LogBarrier", "Euclidean", "Tsallis"]),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_gradient_gives_a_point_of_the_simplex(gradient, eta, name):
    mirror_map = {
        "Entropy": mm.Entropy(), "LogBarrier": mm.LogBarrier(),
        "Euclidean": mm.Euclidean(mm.Simplex()), "Tsallis": mm.Tsallis(0.5),
    }[name]  # fmt: skip
    g = torch.tensor(gradient, dtype=float64)
    start = torch.full_like(g, 1 / len(gradient))
    after = mm.mirror_step(mirror_map, start, g, eta)
    assert (after >= 0).all()
    assert after.sum().item() == pytest.approx(1, abs=1e-9)
    # Who loses less gets no less.
    order = g.argsort()
    assert (after[order].diff() <= 1e-12).all()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_projection_on_the_simplex_satisfies_its_optimality_conditions(values):
    v = torch.tensor(values, dtype=float64)
    x = mm.Simplex().project(v)
    assert x.sum().item() == pytest.approx(1, abs=1e-6)
    kept = x > 0
    tau = (v - x)[kept]
    size = v.abs().max().clamp(min=1)
    assert (tau - tau.mean()).abs().max() <= 1e-12 * size
    assert (v[~kept] <= tau.mean() + 1e-12 * size).all()
