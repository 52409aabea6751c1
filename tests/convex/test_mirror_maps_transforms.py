"""Mirror maps and steps under ``torch.func``, with NumPy's numbers, and the simplex in logs."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from mdtheory.convex import mirror_maps as mm

F64, INF = torch.float64, math.inf
# PyTorch's own, at its first derivative in forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def double(*values):
    return torch.tensor(values, dtype=F64)


def scalar(value):
    return torch.tensor(value, dtype=F64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# ----------------------------------------------------------------------------------------- vmap

DOMAINS = [
    mm.Simplex(), mm.Ball(0.7), mm.Box(-0.5, 1.0),
    mm.Box(double(-1.0, 0.0, -0.2, 0.0), double(0.0, 1.0, 0.2, 0.0)),
]  # fmt: skip


@pytest.mark.parametrize("domain", DOMAINS, ids=["simplex", "ball", "box", "uneven box"])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e200])
def test_projections_under_vmap_are_the_batched_ones(domain, scale):
    x = scale * normal(5, 6, 4)
    mapped = torch.func.vmap(domain.project)
    torch.testing.assert_close(mapped(x), domain.project(x), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.func.vmap(mapped)(x[None]), domain.project(x)[None])
    torch.testing.assert_close(
        torch.func.vmap(domain.minimize_linear)(x), domain.minimize_linear(x)
    )
    inside = domain.project(x)
    assert torch.func.vmap(domain.contains)(inside).all()


@pytest.mark.parametrize("domain", DOMAINS, ids=["simplex", "ball", "box", "uneven box"])
def test_jacobians_of_projections_by_vmap_and_by_autograd(domain):
    x = normal(6, 4)
    ours = torch.func.vmap(torch.func.jacrev(domain.project))(x)
    forward = torch.func.vmap(torch.func.jacfwd(domain.project))(x)
    one = torch.stack([torch.autograd.functional.jacobian(domain.project, row) for row in x])
    torch.testing.assert_close(ours, one)
    torch.testing.assert_close(forward, one)
    # The gradient of a sum over a vmap, where the inner level does not show the outer one.
    whole = torch.func.grad(lambda z: torch.func.vmap(domain.project)(z)[..., 0].sum())(x)
    torch.testing.assert_close(whole, one[:, 0])


MAPS = {
    "entropy": mm.Entropy(), "tsallis 1/2": mm.Tsallis(0.5), "tsallis 3/2": mm.Tsallis(1.5),
    "tsallis 2": mm.Tsallis(2.0), "tsallis 3": mm.Tsallis(3.0), "log-barrier": mm.LogBarrier(),
    "simplex": mm.Euclidean(mm.Simplex()), "positive": mm.PositiveEntropy(),
    "binary": mm.BinaryEntropy(), "ball": mm.Euclidean(mm.Ball(2.0)), "p": mm.PNorm(1.5),
    "mahalanobis": mm.Mahalanobis(torch.diag(double(1.0, 2.0, 3.0, 4.0))),
    "mahalanobis ball": mm.Mahalanobis(torch.diag(double(1.0, 2.0, 3.0, 4.0)), mm.Ball(1.0)),
    "von neumann": mm.VonNeumann(), "log-det": mm.LogDet(),
}  # fmt: skip


def points_and_duals(geometry):
    if geometry.event_dims == 1:
        x = normal(5, 4).softmax(-1)
        return x, normal(5, 4, seed=1).softmax(-1), 2 * normal(5, 4, seed=2)
    x, y = (torch.diag_embed(normal(5, 3, seed=s).softmax(-1)) for s in (0, 1))
    turn = torch.linalg.qr(normal(5, 3, 3, seed=3))[0]
    x, y = turn @ x @ turn.mT, turn.mT @ y @ turn
    x, y = (x + x.mT) / 2, (y + y.mT) / 2
    return x, y, geometry.to_dual(y)


@pytest.mark.parametrize("name", MAPS)
def test_every_function_of_a_map_under_vmap(name):
    geometry = MAPS[name]
    x, y, theta = points_and_duals(geometry)
    vmap, close = torch.func.vmap, torch.testing.assert_close
    for function in (geometry.potential, geometry.to_dual, geometry.norm, geometry.dual_norm):
        close(vmap(function)(x), function(x))
    for function in (geometry.to_primal, geometry.conjugate):
        close(vmap(function)(theta), function(theta))
    close(vmap(geometry.divergence)(x, y), geometry.divergence(x, y))
    close(vmap(geometry.divergence, (0, None))(x, y[0]), geometry.divergence(x, y[0]))
    gradient = theta / 5
    step = double(0.1, 0.2, 0.3, 0.4, 0.5)

    def move(point, slope, size):
        return mm.mirror_step(geometry, point, slope, size, magnet, 0.5)

    magnet = y[0]
    wanted = mm.mirror_step(geometry, x, gradient, step, magnet, 0.5)
    close(vmap(move)(x, gradient, step), wanted)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_of_primal_points_under_vmap(name):
    geometry = MAPS[name]
    theta = points_and_duals(geometry)[2]

    def size(dual):
        return geometry._to_primal(dual).square().sum()

    wanted = torch.autograd.grad(size(leaf := theta.clone().requires_grad_()), leaf)[0]
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(size))(theta), wanted)
    whole = torch.func.grad(lambda z: torch.func.vmap(size)(z).sum())(theta)
    torch.testing.assert_close(whole, wanted)
    along = torch.func.jvp(size, (theta,), (theta,))[1]
    torch.testing.assert_close(along, (wanted * theta).sum())


# -------------------------------------------------------------------------------- NumPy's numbers


def test_numbers_of_numpy_are_numbers_everywhere():
    x, g = double(0.2, 0.3, 0.5), double(1.0, 0.0, -1.0)
    wanted = mm.mirror_step(mm.Entropy(), x, g, 0.5, x, 0.25)
    for kind in (np.float64, np.float32):
        found = mm.mirror_step(mm.Entropy(), x, g, kind(0.5), x, kind(0.25))
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert mm.mirror_step(mm.Entropy(), x, g, np.int64(1)).isfinite().all()
    assert mm.mirror_step(mm.Entropy(), x, g, np.float64(INF), x, 1.0).isfinite().all()
    assert repr(mm.Tsallis(np.float64(1.5))) == "Tsallis(1.5)"
    assert repr(mm.Box(np.float32(0.0), np.int64(1))) == "Box(0.0, 1.0)"
    assert repr(mm.Ball(np.float64(2))) == "Ball(2.0)"
    assert mm.bregman_map(np.int64(1)).__class__ is mm.Entropy


@pytest.mark.parametrize("array", [np.array(0.1), np.array([0.1]), np.array(INF)])
def test_arrays_of_numpy_are_refused_by_name(array):
    x = double(0.2, 0.3, 0.5)
    law = np.array([0.2, 0.3, 0.5])
    refused = [
        ("step_size", lambda: mm.mirror_step(mm.Entropy(), x, x, array)),
        ("magnet_weight", lambda: mm.mirror_step(mm.Entropy(), x, x, 0.1, x, array)),
        ("point", lambda: mm.mirror_step(mm.Entropy(), law, x, 0.1)),
        ("gradient", lambda: mm.mirror_step(mm.Entropy(), x, law, 0.1)),
        ("magnet", lambda: mm.mirror_step(mm.Entropy(), x, x, 0.1, law, 0.1)),
        ("q", lambda: mm.Tsallis(array)), ("p", lambda: mm.PNorm(array)),
        ("radius", lambda: mm.Ball(array)), ("low", lambda: mm.Box(array, 1.0)),
        ("high", lambda: mm.Box(0.0, array)), ("order", lambda: mm.bregman_map(array)),
        ("order", lambda: mm.tsallis_divergence(x, x, array)),
        ("matrix", lambda: mm.Mahalanobis(np.eye(3))),
        ("x", lambda: mm.Simplex().project(law)), ("x", lambda: mm.Ball(1.0).contains(law)),
        ("gradient", lambda: mm.Box(0.0, 1.0).minimize_linear(law)),
        ("law", lambda: mm.require_log_probabilities("law", law)),
    ]  # fmt: skip
    for geometry in MAPS.values():
        for function in (geometry.potential, geometry.to_dual, geometry.norm):
            refused.append(("x", lambda f=function: f(law)))
        refused.append(("theta", lambda m=geometry: m.to_primal(law)))
        refused.append(("theta", lambda m=geometry: m.conjugate(law)))
        refused.append(("gradient", lambda m=geometry: m.dual_norm(law)))
        refused.append(("x", lambda m=geometry: m.divergence(law, x)))
    for name, call in refused:
        with pytest.raises(TypeError, match=rf"^{name}: expected .*ndarray"):
            call()


# ------------------------------------------------------------------------------- steps with masks


@pytest.mark.parametrize(("step", "weight"), [
    (1e308, 10.0), (1e300, 1e300), (1e308, 1e-3), (1.0, 1e308), (1e-300, 1.0),
])  # fmt: skip
@pytest.mark.parametrize("tensors", [False, True])
def test_finite_steps_that_overflow_keep_what_is_masked(step, weight, tensors):
    """The mask of the point under every finite step, that of the magnet under every step."""
    if tensors:
        step, weight = scalar(step), scalar(weight)
    log, g = double(-INF, 0.0, 0.0).log_softmax(-1), double(-5.0, 0.3, 0.0)
    whole = double(0.0, 0.0, 0.0).log_softmax(-1)
    for start, magnet in ((log, whole), (whole, log), (log, log)):
        after = mm.entropy_step(start, g, step, magnet, weight)
        assert after[0].item() == -INF
        assert after[1:].isfinite().all()
    point = mm.mirror_step(mm.Entropy(), log.exp(), g, step, whole.exp(), weight)
    assert point[0].item() == 0.0
    assert point.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("tensors", [False, True])
def test_an_infinite_step_forgets_the_point_and_keeps_the_mask_of_the_magnet(tensors):
    step, weight = (scalar(INF), scalar(2.0)) if tensors else (INF, 2.0)
    start, g = double(0.1, 0.2, -INF).log_softmax(-1), double(1.0, -1.0, 0.5)
    magnet = double(-INF, 0.0, 0.3).log_softmax(-1)
    wanted = (magnet - g / 2).log_softmax(-1)
    torch.testing.assert_close(mm.entropy_step(start, g, step, magnet, weight), wanted)
    torch.testing.assert_close(
        mm.mirror_step(mm.Entropy(), start.exp(), g, step, magnet.exp(), weight), wanted.exp()
    )


def test_steps_pass_gradients_through_points_with_zeros():
    x, magnet = double(0.4, 0.6, 0.0).requires_grad_(), double(0.5, 0.5, 0.0)
    g = double(0.3, -0.1, 5.0).requires_grad_()
    eta, w = scalar(0.5).requires_grad_(), scalar(0.7).requires_grad_()
    after = mm.mirror_step(mm.Entropy(), x, g, eta, magnet, w)
    found = torch.autograd.grad(after[0], (x, g, eta, w))
    short = mm.mirror_step(mm.Entropy(), x[:2], g[:2], eta, magnet[:2], w)
    wanted = torch.autograd.grad(short[0], (x, g, eta, w))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs)


# ------------------------------------------------------------------------ the simplex in logs


@pytest.mark.parametrize("weight", [0.0, 1.0, double(0.0, 1.0, 0.5)[:, None]])
def test_mixtures_forget_a_law_of_weight_zero_with_its_zeros(weight):
    p, q = double(0.2, 0.8, 0.0).log(), double(0.0, 0.5, 0.5).log()
    mixed = mm.mixture(p, q, weight)
    if isinstance(weight, float):
        torch.testing.assert_close(mixed, q if weight else p)
        return
    torch.testing.assert_close(mixed[0], p)
    torch.testing.assert_close(mixed[1], q)
    torch.testing.assert_close(mixed[2], double(-INF, 0.0, -INF))


def test_mixtures_have_finite_gradients_beside_zeros():
    p = double(0.2, 0.8, 0.0).log().requires_grad_()
    q = double(0.4, 0.6, 0.0).log().requires_grad_()
    for value in (0.0, 0.3, 1.0):
        weight = scalar(value).requires_grad_()
        mixed = mm.mixture(p, q, weight)
        found = torch.autograd.grad(mixed[0], (p, q, weight))
        short = torch.autograd.grad(mm.mixture(p[:2], q[:2], weight)[0], (p, q, weight))
        for ours, theirs in zip(found, short, strict=True):
            assert ours.isfinite().all()
            torch.testing.assert_close(ours, theirs)


def test_the_divergence_of_masked_laws_has_the_gradient_of_the_law_without_them():
    logits, other = double(0.5, -0.3, -INF), double(0.1, 0.2, -INF).log_softmax(-1)

    def value(z, mask):
        return mm.kl(z.log_softmax(-1), mask), mm.kl(mask, z.log_softmax(-1))

    for at in (0, 1):
        z, short = logits.clone().requires_grad_(), logits[:2].clone().requires_grad_()
        ours = torch.autograd.grad(value(z, other)[at], z)[0]
        wanted = torch.autograd.grad(value(short, other[:2])[at], short)[0]
        torch.testing.assert_close(ours, torch.cat([wanted, double(0.0)]))
    # A probability of 0 that the second law has not: finite; the other way round: infinite.
    full = double(0.0, 0.0, 0.0).log_softmax(-1)
    z = logits.clone().requires_grad_()
    divergence = mm.kl(z.log_softmax(-1), full)
    assert divergence.isfinite()
    assert torch.autograd.grad(divergence, z)[0].isfinite().all()
    assert mm.kl(full, logits.log_softmax(-1)).item() == INF


@pytest.mark.parametrize(("p", "q"), list(product([0.0, 1e-320, 1e-300, 0.5, 1.0], repeat=2)))
def test_parts_of_a_divergence_are_never_negative_nor_a_nan(p, q):
    part = mm.kl_terms(double(p).log(), double(q).log())
    assert (part >= 0).all()


def test_the_span_of_a_dual():
    assert mm.span(double(3.0, -1.0, 0.5)).item() == 4.0
    assert mm.span(1e10 + double(3.0, -1.0, 0.5)).item() == 4.0


def test_vmap_over_the_simplex_in_logarithms():
    p, q, g = normal(5, 3).log_softmax(-1), normal(5, 3, seed=1).log_softmax(-1), normal(5, 3)
    vmap, close = torch.func.vmap, torch.testing.assert_close
    close(vmap(mm.kl)(p, q), mm.kl(p, q))
    close(vmap(lambda a, b: mm.mixture(a, b, 0.3))(p, q), mm.mixture(p, q, 0.3))
    close(vmap(lambda a, b: mm.entropy_step(a, b, 0.3, a, 0.1))(p, g),
          mm.entropy_step(p, g, 0.3, p, 0.1))  # fmt: skip
    vmap(lambda a: mm.require_log_probabilities("p", a))(p)
