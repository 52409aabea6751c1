"""Mirror maps at zeros, at nearly equal points, near order 1, and under transforms."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.convex.mirror_maps.exact import exp_excess

F64, INF = torch.float64, math.inf


def double(*values):
    return torch.tensor(values, dtype=F64)


def laws(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=F64).softmax(-1)


def slope(function, *points, at=0):
    points = [p.clone().requires_grad_(i == at) for i, p in enumerate(points)]
    return torch.autograd.grad(function(*points).sum(), points[at])[0]


# ------------------------------------------------------------------------- nearly equal points


def exact_part(order, x, y):
    """A coordinate's part of a divergence, with fifty digits; order 0 is the log-barrier."""
    if order == 0:
        return (y / x).ln() + x / y - 1
    if order == 1:
        return x * (x / y).ln() - x + y
    return (x**order - y**order - order * y ** (order - 1) * (x - y)) / (order - 1)


def exact(order, x, y):
    with localcontext() as context:
        context.prec = 60
        q = Decimal(order)
        rows = [
            [exact_part(q, Decimal(a), Decimal(b)) for a, b in zip(r, s, strict=True)]
            for r, s in zip(x.tolist(), y.tolist(), strict=True)
        ]
        return torch.tensor([float(sum(row)) for row in rows], dtype=F64)


ORDERS = [
    0.0, 1e-3, 0.3, 0.5, 0.9, 1 - 1e-4, 1 - 1e-9, 1 - 1e-14, 1.0, 1 + 2.3e-16, 1 + 1e-14, 1 + 1e-12,
    1 + 1e-9, 1.0001, 1.1, 1.5, 2.0, 2.5, 3.0, 7.0,
]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-5, 1e-9, 1e-13])
def test_divergences_lose_no_digits_near_order_one_nor_for_near_laws(order, distance):
    x, other = laws(12, 5), laws(12, 5, seed=1)
    y = x + distance * (other - x)
    y = y / y.sum(-1, keepdim=True)
    found = mm.LogBarrier().divergence(x, y) if order == 0 else mm.tsallis_divergence(x, y, order)
    torch.testing.assert_close(found, exact(order, x, y), rtol=2e-14, atol=0)
    if order == 1:
        torch.testing.assert_close(mm.kl(x.log(), y.log()), found, rtol=1e-6, atol=1e-28)
        generalised = mm.PositiveEntropy().divergence(3 * x, 3 * y)
        torch.testing.assert_close(generalised, exact(1, 3 * x, 3 * y), rtol=2e-14, atol=0)
        bits = mm.BinaryEntropy().divergence(x, y)
        with localcontext() as context:
            context.prec = 60
            one = Decimal(1)
            rest = [
                float(sum(exact_part(one, 1 - Decimal(a), 1 - Decimal(b))
                          for a, b in zip(r, s, strict=True)))
                for r, s in zip(x.tolist(), y.tolist(), strict=True)
            ]  # fmt: skip
        torch.testing.assert_close(bits, found + double(*rest), rtol=2e-14, atol=0)


@pytest.mark.parametrize("distance", [1e-1, 1e-4, 1e-8, 1e-12])
def test_the_divergence_of_log_probabilities_is_exact_for_near_ones(distance):
    left = laws(8, 4).log()
    right = left + distance * double(1.0, -2.0, 0.5, 0.0)
    with localcontext() as context:
        context.prec = 60
        parts = [
            sum(Decimal(a).exp() * (Decimal(a) - Decimal(b) - 1) + Decimal(b).exp()
                for a, b in zip(r, s, strict=True))
            for r, s in zip(left.tolist(), right.tolist(), strict=True)
        ]  # fmt: skip
    wanted = double(*map(float, parts))
    torch.testing.assert_close(mm.kl_terms(left, right).sum(-1), wanted, rtol=2e-14, atol=0)


def test_orders_near_one_in_single_precision():
    x, y = laws(50, 4), laws(50, 4, seed=1)
    for order in (0.9999, 1.0001, 1 + 1e-6, 1 + 1e-10):
        for distance in (1.0, 1e-3):
            left, right = x.float(), (x + distance * (y - x)).float()
            found = mm.tsallis_divergence(left, right, order).double()
            wanted = mm.tsallis_divergence(left.double(), right.double(), order)
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)


def test_divergences_of_laws_that_are_far_apart_in_size():
    x, y = double(1e-300, 1.0, 0.0), double(1.0 - 1e-16, 1e-200, 1e-310)
    for order in (0.5, 0.999, 1.0, 1 + 1e-13, 1.5, 2.0, 5.0, 60.0):
        found = mm.bregman_map(order)._divergence(x, y)
        wanted = exact(order, x[None, :2], y[None, :2])[0] + y[2] ** order
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_steins_loss_and_the_log_barrier_see_small_differences():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=F64)
    y = root @ root.mT + torch.eye(4, dtype=F64)
    move = torch.diag(double(1.0, -1.0, 2.0, 0.5))
    second = (torch.linalg.solve(y, move) @ torch.linalg.solve(y, move)).diagonal().sum() / 2
    for distance in (1e-4, 1e-6, 1e-8):
        found = mm.LogDet().divergence(y + distance * move, y)
        assert found.item() == pytest.approx(distance**2 * second.item(), rel=20 * distance + 1e-6)


def exact_p_norm(p, x, y):
    """The divergence of the squared p-norm, with sixty digits."""
    with localcontext() as context:
        context.prec = 60
        p = Decimal(p)
        rows = []
        for r, s in zip(x.tolist(), y.tolist(), strict=True):
            r, s = [Decimal(a) for a in r], [Decimal(b) for b in s]
            sizes = [sum(abs(a) ** p for a in v) ** (1 / p) for v in (r, s)]
            pull = [sizes[1] ** (2 - p) * abs(b) ** (p - 1) * (1 if b > 0 else -1) for b in s]
            slope = sum(t * (a - b) for t, a, b in zip(pull, r, s, strict=True))
            rows.append(float((sizes[0] ** 2 - sizes[1] ** 2) / 2 - slope))
        return torch.tensor(rows, dtype=F64)


@pytest.mark.parametrize("p", [1.001, 1.1, 1.5, 1.9, 2.0])
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-5, 1e-9, 1e-13])
@pytest.mark.parametrize("direction", ["any", "own", "across"])
def test_the_p_norm_sees_small_differences(p, distance, direction):
    generator = torch.Generator().manual_seed(1)
    y, move = torch.randn(2, 6, 5, generator=generator, dtype=F64)
    y[0] *= 1e100  # units do not matter
    y[1] *= 1e-100
    move = y * {"any": move, "own": torch.ones(5, dtype=F64), "across": move}[direction]
    if direction == "across":  # the norm hardly changes
        pull = mm.PNorm(p).to_dual(y)
        move = move - y * (pull * move).sum(-1, keepdim=True) / (pull * y).sum(-1, keepdim=True)
    x = y + distance * move
    got = mm.PNorm(p).divergence(x, y)
    torch.testing.assert_close(got, exact_p_norm(p, x, y), rtol=1e-12, atol=0.0)


def test_the_p_norm_from_and_to_the_origin():
    x, zero = double(3.0, -4.0), torch.zeros(2, dtype=F64)
    for p in (1.3, 2.0):
        half = mm.PNorm(p).norm(x) ** 2 / 2
        for pair in ((x, zero), (zero, x)):
            torch.testing.assert_close(mm.PNorm(p).divergence(*pair), half, rtol=1e-15, atol=0.0)
        assert mm.PNorm(p).divergence(zero, zero) == 0


@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-5, 1e-9])
def test_the_von_neumann_entropy_sees_small_differences(distance):
    """On a common basis it is the divergence of the spectra, as well as these are known."""
    y = laws(20, 6)
    x = (y.log() + distance * laws(20, 6, seed=3)).softmax(-1)
    basis = torch.linalg.qr(torch.randn(20, 6, 6, dtype=F64, generator=torch.Generator())).Q
    whole = [basis @ torch.diag_embed(v) @ basis.mT for v in (x, y)]
    whole = [(m + m.mT) / 2 for m in whole]
    expected = mm.Entropy().divergence(x, y)
    # Entries are known to a rounding error, and the divergence is quadratic in what they differ by.
    rtol = 100 * torch.finfo(F64).eps / distance + 1e-12
    got = mm.VonNeumann().divergence(*whole)
    torch.testing.assert_close(got, expected, rtol=rtol, atol=0.0)
    assert (mm.VonNeumann().divergence(whole[1], whole[1]).abs() <= 1e-28).all()


def test_what_the_exponential_exceeds_its_tangent_by():
    points = [s * 10.0**-k for k in range(12) for s in (1, -1, 0.3, 0.0624, 0.0626)] + [0.0, -INF]
    with localcontext() as context:
        context.prec = 60
        wanted = [INF if x == -INF else float(Decimal(x).exp() - 1 - Decimal(x)) for x in points]
    torch.testing.assert_close(exp_excess(double(*points)), double(*wanted), rtol=2e-14, atol=0)


# ------------------------------------------------------------------------------- near order one


@pytest.mark.parametrize("offset", [1e-14, -1e-14, 1e-12, -1e-9, 1e-6, -1e-4, 1e-3])
def test_everything_of_tsallis_tends_to_the_entropy(offset):
    tsallis, entropy, x = mm.Tsallis(1 + offset), mm.Entropy(), laws(6, 5)
    theta = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=F64)
    near = {"rtol": 40 * abs(offset) + 1e-13, "atol": 40 * abs(offset) + 1e-13}
    torch.testing.assert_close(tsallis.potential(x), entropy.potential(x), **near)
    torch.testing.assert_close(tsallis.to_primal(theta), entropy.to_primal(theta), **near)
    # At the limit the conjugates differ by the 1 of the entropy's dual, which holds log x + 1.
    torch.testing.assert_close(tsallis.conjugate(theta), entropy.conjugate(theta), **near)
    torch.testing.assert_close(slope(tsallis.conjugate, theta), theta.softmax(-1), **near)
    torch.testing.assert_close(
        mm.mirror_step(tsallis, x, theta, 0.7), mm.mirror_step(entropy, x, theta, 0.7), **near
    )
    uniform = torch.full_like(x, 0.2)
    torch.testing.assert_close(
        mm.mirror_step(tsallis, x, theta, 0.7, uniform, 0.3),
        mm.mirror_step(entropy, x, theta, 0.7, uniform, 0.3),
        **near,
    )
    torch.testing.assert_close(mm.log_q(x, 1 + offset), x.log(), **near)


@pytest.mark.parametrize("order", [0.5, 0.9999, 1.0001, 1.5, 2.0, 3.0])
def test_slopes_of_tsallis_are_the_numerical_ones(order):
    geometry, x, y = mm.Tsallis(order), laws(3, 4), laws(3, 4, seed=1)
    theta = torch.randn(3, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
    check = torch.autograd.gradcheck
    check(geometry._divergence, (x.requires_grad_(), y.requires_grad_()))
    check(geometry._to_dual, (x,), atol=1e-3 if abs(order - 1) < 0.1 else 1e-5)
    check(geometry._to_primal, (theta.requires_grad_(),))
    check(geometry._conjugate, (theta,))
    torch.autograd.gradgradcheck(geometry._divergence, (x, y))
    if order != 2:
        torch.autograd.gradgradcheck(geometry._to_primal, (theta,), atol=1e-4)
    assert torch.allclose(
        slope(geometry.potential, x.detach()), geometry.to_dual(x.detach()), rtol=1e-12
    )


def test_the_tsallis_logarithm_at_zero_and_what_it_refuses():
    zero = double(0.0, 0.5)
    for order, wanted in ((1.5, 0.0), (2.0, 1.0), (3.0, 0.0)):
        assert mm.log_q(zero, order)[0].item() == pytest.approx(-1 / (order - 1))
        assert slope(lambda x, q=order: mm.log_q(x, q), zero)[0].item() == wanted
    for order in (0.5, 1.0):
        with pytest.raises(ValueError, match="value: expected numbers > 0"):
            mm.log_q(zero, order)
    with pytest.raises(ValueError, match="value: expected numbers >= 0"):
        mm.log_q(double(-0.1), 2.0)
    with pytest.raises(TypeError, match=r"order: .*ndarray"):
        mm.log_q(zero, np.array(1.5))


# ---------------------------------------------------------------------------------------- zeros


def test_the_gradient_of_the_p_norm_at_a_zero():
    x = double(1.0, 0.0, -1.0)
    first = slope(lambda z: mm.PNorm(1.5).to_dual(z)[0], x)
    torch.testing.assert_close(first, double(0.9449, 0.0, -0.3150), rtol=1e-3, atol=1e-12)
    root = 2 ** (1 / 3)  # |x|_p^{2-p} and its slope (2 - p) |x|^{2-2p} sign(x) |x|^{p-1}
    torch.testing.assert_close(first, double(0.75 * root, 0.0, -0.25 * root))
    assert torch.equal(
        torch.autograd.functional.jacobian(mm.PNorm(2.0).to_dual, x), torch.eye(3, dtype=F64)
    )


@pytest.mark.parametrize("p", [1.1, 1.5, 2.0])
def test_the_p_norm_is_flat_at_the_origin(p):
    geometry, zero = mm.PNorm(p), torch.zeros(3, dtype=F64)
    for function in (geometry.potential, geometry.conjugate, geometry.norm, geometry.dual_norm):
        assert torch.equal(slope(function, zero), zero)
    for function in (geometry.to_dual, geometry.to_primal):
        assert slope(function, zero).isfinite().all()
    assert torch.equal(slope(geometry.divergence, zero, zero), zero)


ON_SIMPLEX = {
    "entropy": mm.Entropy(), "tsallis 1/2": mm.Tsallis(0.5), "tsallis 1.0001": mm.Tsallis(1.0001),
    "tsallis 3/2": mm.Tsallis(1.5), "tsallis 2": mm.Tsallis(2.0), "tsallis 3": mm.Tsallis(3.0),
    "euclidean": mm.Euclidean(mm.Simplex()), "positive": mm.PositiveEntropy(),
    "binary": mm.BinaryEntropy(),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_SIMPLEX)
def test_no_gradient_is_lost_beside_a_probability_of_zero(name):
    """With a third coordinate at 0 the others have the slopes that they have without it."""
    geometry = ON_SIMPLEX[name]
    x, y = double(0.4, 0.6, 0.0), double(0.3, 0.7, 0.0)
    short, brief = x[:2], y[:2]
    both = name != "tsallis 1/2"  # it has no dual at a zero
    cases = [(geometry._potential, (x,), (short,)), (geometry._divergence, (x, y), (short, brief))]
    if both:
        cases.append((lambda z: geometry._to_dual(z)[..., 0], (x,), (short,)))
    for function, long, cut in cases:
        for at in range(len(long)):
            ours, wanted = slope(function, *long, at=at), slope(function, *cut, at=at)
            assert ours.isfinite().all(), (name, at)
            torch.testing.assert_close(ours[:2], wanted)
    value = geometry._divergence(x, y)
    torch.testing.assert_close(value, geometry._divergence(short, brief))


@pytest.mark.parametrize("name", ["entropy", "tsallis 1/2", "tsallis 1.0001", "tsallis 3/2"])
def test_masked_logits_have_the_gradient_of_the_law_without_them(name):
    logits = double(0.3, -0.2, 0.9, -INF).requires_grad_()
    other = double(0.1, 0.5, 0.0, -INF).softmax(-1)
    ours = slope(lambda z: ON_SIMPLEX[name]._divergence(z.softmax(-1), other), logits.detach())
    cut = slope(
        lambda z: ON_SIMPLEX[name]._divergence(z.softmax(-1), other[:3]), logits.detach()[:3]
    )
    torch.testing.assert_close(ours, torch.cat([cut, double(0.0)]))


def test_slopes_of_tsallis_two_and_three_where_the_second_law_has_a_zero():
    x, y = double(0.4, 0.6), double(1.0, 0.0)
    two = slope(mm.Tsallis(2.0).divergence, x, y, at=1)
    torch.testing.assert_close(two, 2 * (y - x))
    three = slope(mm.Tsallis(3.0).divergence, x, y, at=1)
    torch.testing.assert_close(three, 3 * y * (y - x))
    # A probability of 0 that the other law has not: the divergence falls with slope -log y - 1.
    torch.testing.assert_close(slope(mm.Entropy().divergence, y, x, at=1), 1 - y / x)


def test_conjugates_know_infinite_duals():
    theta = double(0.0, -1.0, -INF)
    for geometry in (mm.Entropy(), mm.PositiveEntropy(), mm.BinaryEntropy()):
        assert geometry.conjugate(theta).isfinite()
        torch.testing.assert_close(slope(geometry.conjugate, theta), geometry.to_primal(theta))
        assert slope(lambda z, m=geometry: m.to_primal(z)[:2], theta).isfinite().all()


def test_the_mahalanobis_ball_passes_gradients_at_its_centre_and_outside():
    geometry = mm.Mahalanobis(torch.diag(double(1.0, 2.0, 4.0)), mm.Ball(1.0))
    jacobian = torch.autograd.functional.jacobian(geometry.to_primal, torch.zeros(3, dtype=F64))
    torch.testing.assert_close(jacobian, torch.diag(double(1.0, 0.5, 0.25)))
    theta = double(3.0, 0.0, -5.0).requires_grad_()
    torch.autograd.gradcheck(geometry.to_primal, (theta,))
    torch.autograd.gradgradcheck(geometry.to_primal, (theta,))


@pytest.mark.parametrize("d", [1, 2, 4])
def test_gradients_of_matrices_with_equal_eigenvalues(d):
    mixed = torch.eye(d, dtype=F64) / d
    other = torch.diag(torch.arange(1.0, d + 1, dtype=F64))
    other = other / other.trace()

    def symmetric(function):
        return lambda x: function((x + x.mT) / 2)

    check = torch.autograd.gradcheck
    for geometry in (mm.VonNeumann(), mm.LogDet()):
        theta = geometry.to_dual(mixed).requires_grad_()
        point = mixed.clone().requires_grad_()
        check(symmetric(geometry._to_dual), (point,))
        check(symmetric(geometry._to_primal), (theta,))
        check(symmetric(geometry._conjugate), (theta,))
        check(symmetric(geometry._potential), (point,))
        check(symmetric(lambda y, m=geometry: m._divergence(other, y)), (point,))
        step = slope(lambda g, m=geometry: mm.mirror_step(m, mixed, g, 0.1)[0, 0], 0 * mixed)
        assert step.isfinite().all()
