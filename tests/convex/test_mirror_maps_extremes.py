"""Mirror maps where numbers are huge, tiny, tied or of the wrong shape."""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("q", "d"), [(1.5, 10**5), (2.0, 10**5), (3.0, 10**6), (5.0, 10**4), (50.0, 10), (100.0, 2)]
)
def test_flat_duals_give_the_uniform_point_at_every_order(q, d):
    point = mm.Tsallis(q).to_primal(torch.full((d,), 0.7, dtype=torch.float64))
    assert torch.allclose(point, torch.full_like(point, 1 / d), rtol=1e-9, atol=0)


@pytest.mark.parametrize("q", [1.1, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_sums_hold_in_single_precision_on_many_coordinates(q, noise):
    generator = torch.Generator().manual_seed(0)
    theta = noise * torch.randn(50_000, generator=generator)
    assert mm.Tsallis(q).to_primal(theta).double().sum().item() == pytest.approx(1, abs=2e-4)


def test_a_point_that_rounding_hides_is_refused():
    theta = torch.randn(3000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with pytest.raises(ValueError, match="theta: expected a dual whose point rounding"):
        mm.Tsallis(60.0).to_primal(theta)


@pytest.mark.parametrize("q", [0.5, 1.5, 2.0, 3.0])
def test_gradient_of_the_conjugate_is_the_point_also_by_autograd(q):
    theta = torch.randn(5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    theta.requires_grad_()
    (gradient,) = torch.autograd.grad(mm.Tsallis(q).conjugate(theta).sum(), theta)
    assert torch.allclose(gradient, mm.Tsallis(q).to_primal(theta), atol=1e-7)


def test_step_sizes_bind_the_batch_of_matrices_and_nothing_else():
    point = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    gradient = 0.1 * torch.eye(3, dtype=torch.float64)
    stepped = mm.mirror_step(mm.LogDet(), point, gradient, double(1.0, 2.0, 4.0))
    expected = torch.stack([torch.eye(3) / (1 + 0.1 * s) for s in (1.0, 2.0, 4.0)]).double()
    assert torch.allclose(stepped, expected)
    with pytest.raises(ValueError, match="step_size"):
        mm.mirror_step(mm.LogDet(), point[0], gradient, double(1.0, 2.0, 4.0))
    with pytest.raises(ValueError, match="step_size"):
        mm.mirror_step(
            mm.Euclidean(), torch.ones(4, 4, 3).double(), gradient[0], torch.ones(4).double()
        )


def test_boxes_compare_their_bounds_in_double_precision():
    with pytest.raises(ValueError, match="high"):
        mm.Box(1.0, 1 - 1e-12)
    assert mm.Box(1e39, 1e40).project(double(0.0)).item() == 1e39
    with pytest.raises(ValueError, match="high"):
        mm.Box(torch.zeros(3), torch.ones(2))
    with pytest.raises(ValueError, match="x: expected a shape that broadcasts"):
        mm.Box(torch.zeros(3).double(), 1.0).project(torch.zeros(4).double())
    with pytest.raises(TypeError, match=r"x: expected torch\.float32"):
        mm.Box(torch.zeros(3), 1.0).project(torch.zeros(3).double())


def test_gradients_pass_the_ball_at_its_centre():
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(mm.Ball(1.0).project(x).sum(), x)
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_vectors_whose_norm_overflows_are_projected():
    assert torch.allclose(
        mm.Ball(1.0).project(double(1.7e308, 1.7e308)), double(math.sqrt(0.5), math.sqrt(0.5))
    )
    tiny, huge = (
        mm.PNorm(1.5).norm(double(3e-300, 4e-300)),
        mm.Euclidean().norm(double(3e200, 4e200)),
    )
    assert tiny.item() > 0
    assert huge.item() == pytest.approx(5e200)


def test_curvatures_of_any_size_keep_the_point_on_the_sphere():
    geometry = mm.Mahalanobis(torch.diag(double(1e144, 1e144)), mm.Ball(3.5e-8))
    assert mm.Euclidean().norm(geometry.to_primal(double(1e190, 0.0))).item() == pytest.approx(
        3.5e-8
    )


def test_a_matrix_asymmetric_by_rounding_serves_both_maps():
    matrix = torch.tensor([[2.0, 0.5 + 1e-8], [0.5, 1.0]], dtype=torch.float64)
    geometry, x = mm.Mahalanobis(matrix), double(1.0, -2.0)
    assert torch.allclose(geometry.to_primal(geometry.to_dual(x)), x, rtol=1e-13, atol=0)


def test_what_does_not_fit_the_matrix_is_refused_by_name():
    geometry = mm.Mahalanobis(torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    with pytest.raises(ValueError, match="x: expected 3 coordinates"):
        geometry.norm(torch.ones(2).double())
    with pytest.raises(ValueError, match="gradient: expected a shape that broadcasts"):
        geometry.dual_norm(torch.ones(5, 3).double())


def test_large_single_precision_vectors_that_sum_to_nothing_are_refused():
    with pytest.raises(ValueError, match="x: expected probabilities"):
        mm.Entropy().potential(torch.zeros(3000))


def test_steps_beyond_the_type_say_so():
    point = torch.full((3,), 1 / 3)
    gradient = torch.tensor([1.0, 0.0, -1.0])
    with pytest.raises(ValueError, match="step_size"):
        mm.mirror_step(mm.Entropy(), point, gradient, 1e300)
    magnetic = mm.mirror_step(mm.Entropy(), point, gradient, 1e300, point, 1.0)
    assert torch.allclose(magnetic, (-gradient).softmax(-1))
    with pytest.raises(ValueError, match="step_size: expected a finite number"):
        mm.mirror_step(mm.Entropy(), point, gradient, 10**400)


def test_a_magnet_elsewhere_than_the_point_is_refused():
    with pytest.raises(ValueError, match="step_size: expected a step that ends at a point"):
        mm.mirror_step(mm.Entropy(), double(1.0, 0.0), double(0.0, 0.0), 1.0, double(0.0, 1.0), 1.0)


def test_a_domain_is_no_mirror_map():
    with pytest.raises(TypeError, match="mirror_map: expected a MirrorMap, got Simplex"):
        mm.mirror_step(mm.Simplex(), double(1.0), double(0.0), 1.0)


def test_maps_show_how_they_were_made():
    matrix = torch.eye(2, dtype=torch.float64)
    maps = [
        mm.Euclidean(), mm.Euclidean(mm.Ball(2.5)), mm.Mahalanobis(matrix),
        mm.Mahalanobis(matrix, mm.Ball(1.0)), mm.PNorm(1.5), mm.Tsallis(0.5), mm.Entropy(),
    ]  # fmt: skip
    assert [repr(m) for m in maps] == [
        "Euclidean()", "Euclidean(Ball(2.5))", "Mahalanobis(matrix(2, 2))",
        "Mahalanobis(matrix(2, 2), Ball(1.0))", "PNorm(1.5)", "Tsallis(0.5)", "Entropy()",
    ]  # fmt: skip


@pytest.mark.parametrize("d", [1, 2, 15, 16, 17])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_entropys_point_is_the_softmax_on_short_and_long_axes(d, kind):
    theta = 300 * torch.randn(50, d, generator=torch.Generator().manual_seed(3), dtype=kind)
    theta[::5, -1] = -1e9
    theta[1::5, 0] = -torch.inf if d > 1 else 0.0
    theta.requires_grad_()
    point, expected = mm.Entropy().to_primal(theta), theta.softmax(-1)
    assert torch.allclose(point, expected, rtol=16 * torch.finfo(kind).eps, atol=0)
    weight = torch.arange(d, dtype=kind)
    (mine,) = torch.autograd.grad((point * weight).sum(), theta)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), theta)
    assert torch.allclose(mine, theirs, atol=32 * d * torch.finfo(kind).eps)
