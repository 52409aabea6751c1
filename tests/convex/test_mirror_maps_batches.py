"""Maps and domains: batches, dtypes, refusals, projections."""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from tests.convex.mirror_maps_cases import INF, NAN, N, float64, normal, same

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
