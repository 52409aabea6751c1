"""Mirror maps: agreement of relatives, extreme numbers, batches, domains, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtheory.convex import mirror_maps as mm

N = 50
float64 = torch.float64
INF, NAN = math.inf, math.nan


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=float64)


def same(left, right, rtol=1e-12, atol=1e-14):
    torch.testing.assert_close(left, right, rtol=rtol, atol=atol)


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


# ----------------------------------------------------------------------------- batches and dtypes


def test_instances_of_a_batch_do_not_see_each_other(case, generator):
    y, z, g = case.draw(6, generator), case.draw(6, generator), case.direction(6, generator)
    eta = torch.linspace(0.1, 1.0, 6, dtype=float64)
    weight = torch.linspace(0.0, 2.0, 6, dtype=float64)
    together = mm.mirror_step(case.mirror_map, y, g, eta, z, weight)
    for k in range(6):
        alone = mm.mirror_step(case.mirror_map, y[k], g[k], eta[k].item(), z[k], weight[k].item())
        same(together[k], alone, rtol=1e-11, atol=1e-13)


def test_batch_shapes_are_kept(case, generator):
    y, g = case.draw(6, generator), case.direction(6, generator)
    event = y.shape[1:]
    folded = [t.reshape(2, 3, *event) for t in (y, g)]
    eta = torch.full((2, 3), 0.2, dtype=float64)
    after = mm.mirror_step(case.mirror_map, *folded, eta)
    same(after.reshape(6, *event), mm.mirror_step(case.mirror_map, y, g, 0.2), rtol=1e-11)
    assert case.mirror_map.potential(folded[0]).shape == (2, 3)
    assert case.mirror_map.divergence(folded[0], y[0]).shape == (2, 3)
    assert case.mirror_map.conjugate(case.mirror_map.to_dual(folded[0])).shape == (2, 3)
    assert case.mirror_map.norm(folded[1]).shape == (2, 3)


def test_empty_batches(case, generator):
    y, g = case.draw(2, generator)[:0], case.direction(2, generator)[:0]
    assert mm.mirror_step(case.mirror_map, y, g, 0.5).shape == y.shape
    assert mm.mirror_step(case.mirror_map, y, g, 0.5, y, 1.0).shape == y.shape
    assert case.mirror_map.potential(y).shape == (0,)
    assert case.mirror_map.divergence(y, y).shape == (0,)
    assert case.mirror_map.conjugate(g).shape == (0,)


ONE = [
    mm.Euclidean(), mm.Euclidean(mm.Ball(1.0)), mm.Euclidean(mm.Box(-1.0, 1.0)),
    mm.Euclidean(mm.Simplex()), mm.Mahalanobis(torch.eye(1).double()),
    mm.Mahalanobis(torch.eye(1).double(), mm.Ball(1.0)), mm.PNorm(1.5), mm.Entropy(),
    mm.PositiveEntropy(), mm.BinaryEntropy(), mm.LogBarrier(), mm.Tsallis(0.5), mm.Tsallis(1.5),
    mm.Tsallis(3.0), mm.VonNeumann(), mm.LogDet(),
]  # fmt: skip


@pytest.mark.parametrize("mirror_map", ONE, ids=lambda m: type(m).__name__)
def test_one_dimension(mirror_map):
    one = torch.ones((1,) * mirror_map.event_dims, dtype=float64)
    half = one / 2 if isinstance(mirror_map, mm.BinaryEntropy) else one
    after = mm.mirror_step(mirror_map, half, one, 0.25)
    again = mirror_map.to_primal(mirror_map.to_dual(half))
    same(again, half)
    assert mirror_map.divergence(after, half) >= 0
    if isinstance(mirror_map.domain, mm.Simplex) or isinstance(mirror_map, mm.VonNeumann):
        same(after, one)
    else:
        assert (after < half).all()


def test_float32_stays_float32(case, generator):
    y, z, g = (case.draw(N, generator), case.draw(N, generator), case.direction(N, generator))
    mirror_map = case.mirror_map
    if isinstance(mirror_map, mm.Mahalanobis):
        mirror_map = mm.Mahalanobis(mirror_map.matrix.float(), mirror_map.domain)
    if isinstance(mirror_map.domain, mm.Simplex):
        y = 0.9 * y + 0.02
    exact = mm.mirror_step(case.mirror_map, y, g, 0.4, z, 0.5)
    single = mm.mirror_step(mirror_map, y.float(), g.float(), 0.4, z.float(), 0.5)
    assert single.dtype == torch.float32
    assert (single.double() - exact).abs().max() <= 2e-3 * exact.abs().max()
    for value in (
        mirror_map.potential(y.float()), mirror_map.divergence(y.float(), z.float()),
        mirror_map.conjugate(mirror_map.to_dual(y.float())), mirror_map.norm(g.float()),
        mirror_map.dual_norm(g.float()),
    ):  # fmt: skip
        assert value.dtype == torch.float32


def test_unchecked_twins_compute_the_same(case, generator):
    x, y, theta = case.draw(N, generator), case.draw(N, generator), case.dual(N, generator)
    mirror_map = case.mirror_map
    assert torch.equal(mirror_map.potential(x), mirror_map._potential(x))
    assert torch.equal(mirror_map.to_dual(x), mirror_map._to_dual(x))
    assert torch.equal(mirror_map.to_primal(theta), mirror_map._to_primal(theta))
    assert torch.equal(mirror_map.conjugate(theta), mirror_map._conjugate(theta))
    assert torch.equal(mirror_map.divergence(x, y), mirror_map._divergence(x, y))


# --------------------------------------------------------------------------------------- refusals


def bad_points(case, generator):
    x = case.draw(2, generator)
    broken = x.clone()
    broken.view(-1)[0] = NAN
    yield ValueError, broken
    yield ValueError, x.new_zeros((*x.shape[:-1], 0))
    yield ValueError, torch.tensor(1.0, dtype=float64)
    yield TypeError, x.tolist()
    yield TypeError, x.to(torch.int64)
    outside = {
        "ball": 1.1 * x / x.flatten(1).norm(dim=-1)[:, None] if x.ndim == 2 else x,
        "box": x + 3, "simplex": 1.2 * x, "orthant": -x, "unit_box": x + 1,
        "spectrahedron": 1.2 * x, "positive_definite": -x,
    }  # fmt: skip
    if case.domain in outside:
        yield ValueError, outside[case.domain]
    if case.event_dims == 2:
        yield ValueError, x + torch.triu(torch.ones(3, 3, dtype=float64), 1)
        yield ValueError, x[..., :2]


def test_what_is_no_point_is_refused_by_name(case, generator):
    y, g = case.draw(2, generator), case.direction(2, generator)
    mirror_map = case.mirror_map
    for error, x in bad_points(case, generator):
        for name, call in {
            "x": lambda x=x: mirror_map.to_dual(x),
            "x ": lambda x=x: mirror_map.potential(x),
            "x  ": lambda x=x: mirror_map.divergence(x, y),
            "y": lambda x=x: mirror_map.divergence(y, x),
            "point": lambda x=x: mm.mirror_step(mirror_map, x, g, 0.1),
            "magnet": lambda x=x: mm.mirror_step(mirror_map, y, g, 0.1, x, 0.5),
        }.items():
            with pytest.raises(error, match=rf"^{name.strip()}: expected"):
                call()


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_gradient_or_dual_that_is_not_finite_is_refused(case, generator, bad):
    y, g = case.draw(2, generator), case.direction(2, generator)
    g.view(-1)[0] = bad
    with pytest.raises(ValueError, match=r"^gradient: expected"):
        mm.mirror_step(case.mirror_map, y, g, 0.1)
    if not (case.name == "binary-entropy" and bad == INF):  # there it is the dual of 1
        with pytest.raises(ValueError, match=r"^theta: expected"):
            case.mirror_map.to_primal(g)
        with pytest.raises(ValueError, match=r"^theta: expected"):
            case.mirror_map.conjugate(g)


@pytest.mark.parametrize(
    ("eta", "weight", "error", "name"),
    [
        (0.0, 0.0, ValueError, "step_size"), (-1.0, 0.0, ValueError, "step_size"),
        (NAN, 0.0, ValueError, "step_size"), (INF, 0.0, ValueError, "step_size"),
        (-INF, 1.0, ValueError, "step_size"), ("1", 0.0, TypeError, "step_size"),
        (None, 0.0, TypeError, "step_size"), (0.1, -1.0, ValueError, "magnet_weight"),
        (0.1, NAN, ValueError, "magnet_weight"), (0.1, INF, ValueError, "magnet_weight"),
        (0.1, "1", TypeError, "magnet_weight"),
        (torch.tensor([0.1, NAN]).double(), 0.0, ValueError, "step_size"),
        (torch.tensor([0.1, 0.0]).double(), 0.0, ValueError, "step_size"),
        (torch.tensor([0.1, INF]).double(), 0.0, ValueError, "step_size"),
        (torch.tensor([0.1, 0.1, 0.1]).double(), 0.0, ValueError, "step_size"),
        (torch.tensor([[0.1], [0.1]]).double(), 0.0, ValueError, "step_size"),
        (torch.tensor([0.1, 0.1]), 0.0, TypeError, "step_size"),
        (0.1, torch.tensor([0.1, -0.1]).double(), ValueError, "magnet_weight"),
        (0.1, torch.tensor([0.1, INF]).double(), ValueError, "magnet_weight"),
        (0.1, torch.tensor([0.1]).float(), TypeError, "magnet_weight"),
    ],
)  # fmt: skip
def test_step_sizes_and_weights_out_of_range_are_refused_by_name(eta, weight, error, name):
    x = torch.full((2, 3), 1 / 3, dtype=float64)
    with pytest.raises(error, match=rf"^{name}: expected"):
        mm.mirror_step(mm.Entropy(), x, x, eta, x, weight)


def test_a_weight_needs_a_magnet():
    x = torch.full((2, 3), 1 / 3, dtype=float64)
    for weight in (0.5, torch.tensor([0.5, 0.5], dtype=float64)):
        with pytest.raises(ValueError, match=r"^magnet: expected a magnet"):
            mm.mirror_step(mm.Entropy(), x, x, 0.1, magnet_weight=weight)


def test_shapes_and_dtypes_that_do_not_fit_are_refused():
    x = torch.full((2, 3), 1 / 3, dtype=float64)
    with pytest.raises(ValueError, match=r"^gradient: expected"):
        mm.mirror_step(mm.Entropy(), x, x[:, :2], 0.1)
    with pytest.raises(ValueError, match=r"^gradient: expected"):
        mm.mirror_step(mm.Entropy(), x, x.expand(5, 2, 3)[:, :1].expand(5, 3, 3), 0.1)
    with pytest.raises(TypeError, match=r"^gradient: expected torch.float64"):
        mm.mirror_step(mm.Entropy(), x, x.float(), 0.1)
    with pytest.raises(TypeError, match=r"^magnet: expected torch.float64"):
        mm.mirror_step(mm.Entropy(), x, x, 0.1, x.float(), 1.0)
    with pytest.raises(TypeError, match=r"^x: expected torch.float32"):
        mm.Entropy().divergence(x, x.float())
    with pytest.raises(ValueError, match=r"^x: expected"):
        mm.Euclidean().divergence(x, x[:, :2])
    with pytest.raises(ValueError, match=r"^x: expected 2 coordinates"):
        mm.Mahalanobis(torch.eye(2).double()).to_dual(x)
    with pytest.raises(TypeError, match=r"^theta: expected torch.float64"):
        mm.Mahalanobis(torch.eye(3).double()).to_primal(x.float())


@pytest.mark.parametrize("name", ["log-barrier", "tsallis-half", "von-neumann", "log-det"])
def test_points_without_a_dual_are_refused(cases, name):
    case = cases[name]
    corner = torch.tensor([1.0, 0.0, 0.0], dtype=float64)
    corner = corner.diag() if case.event_dims == 2 else corner
    with pytest.raises(ValueError, match=r"^x: expected positive"):
        case.mirror_map.to_dual(corner)
    inside = case.draw(1, torch.Generator().manual_seed(0))[0]
    if name in ("tsallis-half", "von-neumann"):  # finite potential: fine as a first argument
        if case.event_dims == 1:
            inside = torch.full((3,), 1 / 3, dtype=float64)
        assert case.mirror_map.divergence(corner, inside).isfinite()


def test_duals_without_a_point_are_refused(generator):
    with pytest.raises(ValueError, match=r"^theta: expected negative definite"):
        mm.LogDet().to_primal(torch.eye(2, dtype=float64))
    with pytest.raises(ValueError, match=r"^theta: expected"):
        mm.PositiveEntropy().to_primal(torch.tensor([1e4], dtype=float64))
    with pytest.raises(ValueError, match=r"^theta: expected a finite entry"):
        mm.Entropy().to_primal(torch.tensor([-INF, -INF], dtype=float64))
    with pytest.raises(ValueError, match=r"^theta: expected"):
        mm.VonNeumann().to_primal(normal(generator, 3, 3))


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda: mm.PNorm(1.0), ValueError, "p"), (lambda: mm.PNorm(2.5), ValueError, "p"),
        (lambda: mm.PNorm("2"), TypeError, "p"), (lambda: mm.Tsallis(0.0), ValueError, "q"),
        (lambda: mm.Tsallis(1.0), ValueError, "q"), (lambda: mm.Tsallis(NAN), ValueError, "q"),
        (lambda: mm.Euclidean("ball"), TypeError, "domain"),
        (lambda: mm.Mahalanobis(torch.eye(2), mm.Simplex()), TypeError, "domain"),
        (lambda: mm.Mahalanobis(-torch.eye(2)), ValueError, "matrix"),
        (lambda: mm.Mahalanobis(torch.ones(2, 3)), ValueError, "matrix"),
        (lambda: mm.Mahalanobis(torch.tensor([[1.0, 1], [0, 1]])), ValueError, "matrix"),
        (lambda: mm.Mahalanobis(torch.full((2, 2), NAN)), ValueError, "matrix"),
        (lambda: mm.Mahalanobis([[1.0]]), TypeError, "matrix"),
        (lambda: mm.Ball(0.0), ValueError, "radius"), (lambda: mm.Ball(INF), ValueError, "radius"),
        (lambda: mm.Ball("1"), TypeError, "radius"), (lambda: mm.Box(1.0, 0.0), ValueError, "high"),
        (lambda: mm.Box(NAN, 0.0), ValueError, "low"),
        (lambda: mm.Box(0.0, torch.tensor([1.0, NAN])), ValueError, "high"),
        (lambda: mm.Box(torch.tensor([0]), 1.0), TypeError, "low"),
    ],
)  # fmt: skip
def test_maps_and_domains_refuse_what_they_cannot_be(make, error, name):
    with pytest.raises(error, match=rf"^{name}: expected"):
        make()


# ---------------------------------------------------------------------------------------- domains


@pytest.mark.parametrize("domain", [mm.Ball(0.7), mm.Box(-0.3, 0.8), mm.Simplex()], ids=repr)
def test_domains(domain, generator):
    v = 2 * normal(generator, 4, N, 5)
    x = domain.project(v)
    assert domain.contains(x).shape == (4, N)
    assert domain.contains(x).all()
    same(domain.project(x), x)
    u = domain.project(2 * normal(generator, 4, N, 5))
    # A projection is nearest, and shortens distances.
    assert ((v - x).norm(dim=-1) <= (v - u).norm(dim=-1) + 1e-12).all()
    assert ((x - u).norm(dim=-1) <= domain.diameter(5) + 1e-12).all()
    best = domain.minimize_linear(v)
    assert ((v * best).sum(-1) <= (v * u).sum(-1) + 1e-12).all()
    assert not domain.contains(torch.full((5,), NAN)).any()
    assert not domain.contains(torch.full((5,), 3.0)).any()
    for call in (domain.project, domain.minimize_linear):
        with pytest.raises(ValueError, match=r": expected finite"):
            call(torch.tensor([NAN, 1.0]))
        with pytest.raises(TypeError, match=r": expected a torch.Tensor"):
            call([1.0])
    assert domain.project(torch.zeros(0, 5)).shape == (0, 5)


def test_diameters():
    assert mm.Ball(0.7).diameter(9) == 1.4
    assert mm.Box(-1.0, 2.0).diameter(4) == 6.0
    assert mm.Box(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0])).diameter(2) == 5.0
    assert mm.Simplex().diameter(3) == math.sqrt(2)
    assert mm.Simplex().diameter(1) == 0


def test_boxes_with_bounds_of_their_own():
    low, high = torch.tensor([0.0, -1.0]).double(), torch.tensor([0.5, 1.0]).double()
    box = mm.Box(low, high)
    x = torch.tensor([[2.0, -3.0], [0.2, 0.3]], dtype=float64)
    assert box.project(x).tolist() == [[0.5, -1.0], [0.2, 0.3]]
    assert "tensor(2,)" in repr(box)
    assert mm.mirror_step(mm.Euclidean(box), box.project(x), -x, 10.0).tolist()[0] == [0.5, -1.0]


def test_projection_of_many_rows_equals_that_of_one(generator):
    """Large batches are worked off in chunks."""
    v = normal(generator, 3, 500, 200)
    together = mm.Simplex().project(v)
    same(together[1, 321], mm.Simplex().project(v[1, 321]))
    same(together.sum(-1), torch.ones(3, 500, dtype=float64))


def test_a_minimum_over_the_ball_without_direction_is_the_centre():
    assert mm.Ball(2.0).minimize_linear(torch.zeros(3)).tolist() == [0, 0, 0]


def test_reprs_name_the_sets():
    assert repr(mm.Ball(2.0)) == "Ball(2.0)"
    assert repr(mm.Box(0.0, 1.5)) == "Box(0.0, 1.5)"
    with pytest.raises(ValueError, match=r"^x: expected points of Ball\(2\.0\)"):
        mm.Euclidean(mm.Ball(2.0)).to_dual(torch.tensor([3.0]))


def test_a_step_size_may_be_a_tensor_without_axes(generator):
    x, g = normal(generator, N, 4).softmax(-1), normal(generator, N, 4)
    eta, weight = torch.tensor(0.3, dtype=float64), torch.tensor(0.5, dtype=float64)
    expected = mm.mirror_step(mm.Entropy(), x, g, 0.3, x.flip(0), 0.5)
    same(mm.mirror_step(mm.Entropy(), x, g, eta, x.flip(0), weight), expected)


def test_inputs_are_left_as_they_were(case, generator):
    y, z, g = (case.draw(5, generator), case.draw(5, generator), case.direction(5, generator))
    eta = torch.full((5,), 0.2, dtype=float64)
    before = [t.clone() for t in (y, z, g, eta)]
    mm.mirror_step(case.mirror_map, y, g, eta, z, eta)
    case.mirror_map.divergence(y, z)
    assert all(torch.equal(a, b) for a, b in zip(before, (y, z, g, eta), strict=True))
