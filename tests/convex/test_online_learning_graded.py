"""AdaGrad with the whole matrix: directions of very different sizes, and the decomposition."""

import math

import mpmath
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball
from mdtheory.convex.online_learning import AdaGrad, graded
from mdtheory.convex.online_learning.graded import ROUNDINGS, graded_svd

F64 = torch.float64
EPS = torch.finfo(F64).eps
DIGITS = 120


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=F64)


def whole(*shape, seed=0):
    return torch.randint(-9, 10, shape, generator=generator(seed)).to(F64)


def close(left, right, tolerance):
    torch.testing.assert_close(left, right, rtol=0, atol=tolerance)


def steps(gradients, **options):
    """How far each gradient moves the learner, from 0 each time so that no step is rounded."""
    learner = AdaGrad(torch.zeros_like(gradients[0]), None, "full", step_size=1.0, **options)
    moves = []
    for gradient in gradients:
        learner._decision = torch.zeros_like(gradient)
        learner.update(gradient)
        moves.append(-learner.decision)
    return torch.stack(moves)


def exact_steps(gradients, epsilon=0.0):
    """The same from the equation, in 120 digits: the root of the energy, inverted on its range."""
    mpmath.mp.dps = DIGITS
    d, moves = gradients.shape[-1], []
    energy = mpmath.zeros(d)
    for gradient in gradients.tolist():
        column = mpmath.matrix(gradient)
        energy = energy + column * column.T
        values, axes = mpmath.eigsy(energy)
        move = mpmath.zeros(d, 1)
        for k in range(d):
            if values[k] > max(values) * mpmath.mpf(10) ** (10 - DIGITS):
                axis = axes[:, k]
                root = mpmath.sqrt(values[k]) + epsilon
                move = move + axis * ((axis.T * column)[0] / root)
        moves.append([float(x) for x in move])
    return torch.tensor(moves, dtype=F64)


def falling(count, exponent):
    return 10.0 ** -torch.linspace(0, exponent, count, dtype=F64)


SHUFFLED = torch.randperm(12, generator=generator(3))
STREAMS = {
    "a tiny coordinate": torch.tensor([[1.0, 0.0], [0.0, 1e-9]], dtype=F64),
    "a tiny angle": torch.tensor([[1.0, 0.0], [3 / 7, 1e-20], [0.2, 3e-20]], dtype=F64),
    "normal": normal(12, 4),
    "normal, one scale for each coordinate": normal(12, 4) * falling(4, 40),
    "shrinking": normal(12, 4) * falling(12, 12)[:, None],
    "growing": normal(12, 4) * falling(12, 12).flip(0)[:, None],
    "shuffled": normal(12, 4) * falling(12, 40)[SHUFFLED, None],
    "shuffled coordinates and rounds": normal(12, 4) * falling(12, 12)[SHUFFLED, None]
    * falling(4, 12),
    "constant": normal(4).expand(6, 4),
    "multiples": normal(4) * 2.0 ** torch.tensor([0, 5, -40, 3, 60, 0.0], dtype=F64)[:, None],
    "a plane": whole(12, 2, seed=1) @ whole(2, 4, seed=2),
    "half the space": whole(12, 3, seed=3) @ whole(3, 6, seed=4),
    "with silence": normal(5, 3) * torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0], dtype=F64)[:, None],
}  # fmt: skip


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("name", STREAMS)
def test_the_step_is_that_of_the_equation_in_120_digits(name, epsilon):
    gradients = STREAMS[name]
    # The worst stream has 2e-13, from rows and columns that are both scaled; others below 1e-14.
    close(steps(gradients, epsilon=epsilon), exact_steps(gradients, epsilon), 2e-12)


def test_a_small_direction_moves_as_far_as_a_large_one():
    """The case of the definition: full and diagonal are the same learner on axes."""
    for size in (1.0, 1e-9, 1e-30, 1e-150):
        gradients = torch.tensor([[1.0, 0.0], [0.0, size], [0.0, size]], dtype=F64)
        close(steps(gradients)[:2], torch.eye(2, dtype=F64), 1e-15)
        full, diagonal = (
            AdaGrad(torch.tensor([0.6, 0.0], dtype=F64), Ball(1.0), kind, step_size=0.5)
            for kind in ("full", "diagonal")
        )
        for gradient in gradients:
            full.update(gradient)
            diagonal.update(gradient)
            close(full.decision, diagonal.decision, 1e-14)


@pytest.mark.parametrize("scale", [1e-140, 1e-14, 1e14, 1e140])
def test_the_step_does_not_depend_on_units(scale):
    gradients = normal(10, 5, 3)
    for kind in ("norm", "diagonal", "full"):
        paths = []
        for factor in (1.0, scale):
            learner = AdaGrad(torch.zeros(5, 3, dtype=F64), Ball(1.0), kind)
            for gradient in gradients:
                learner.update(factor * gradient)
            paths.append(learner.decision)
        close(*paths, 1e-13)


def test_a_turned_stream_takes_turned_steps():
    """Small directions that are no coordinates are as exact as the gradients' own rounding."""
    gradients = normal(12, 4) * falling(4, 6)
    axes = torch.linalg.qr(normal(4, 4, seed=1)).Q
    turned = gradients @ axes.T
    # The gradients carry errors of EPS beside directions of size 1e-6.
    close(steps(turned), steps(gradients) @ axes.T, 20 * EPS / 1e-6)
    close(steps(turned), exact_steps(turned), 20 * EPS / 1e-6)


@pytest.mark.parametrize(("dtype", "allowed"), [(F64, 1e-11), (torch.float32, 3e-3)], ids=str)
@pytest.mark.parametrize(("rank", "d"), [(1, 3), (2, 3), (2, 4), (3, 6)])
def test_rounding_opens_no_direction(dtype, allowed, rank, d):
    """Gradients within a subspace: a direction of rounding errors would take a step of size 1."""
    basis = whole(200, rank, d, seed=rank * d).to(dtype)
    span = torch.linalg.svd(basis.double(), full_matrices=False)
    inside = span.Vh.mT * (span.S / span.S[..., :1] > 1e-9)[..., None, :]
    learner = AdaGrad(torch.zeros(200, d, dtype=dtype), None, "full", step_size=1.0)
    for t in range(40):
        gradient = (whole(200, 1, rank, seed=100 + t).to(dtype) @ basis)[:, 0]
        learner.update(gradient * 2.0 ** -(t % 23))
        point = learner.decision.double()
        outside = point - (inside @ (inside.mT @ point[..., None]))[..., 0]
        assert outside.abs().max() <= allowed
        assert torch.linalg.matrix_rank(learner._root.double()).max() <= rank


def test_the_energy_is_the_sum_of_squares():
    gradients = normal(9, 5, 3)
    learner = AdaGrad(torch.zeros(5, 3, dtype=F64), None, "full", step_size=1.0)
    for gradient in gradients:
        learner.update(gradient)
    by_hand = (gradients[..., :, None] * gradients[..., None, :]).sum(0)
    close(learner.energy, by_hand, 1e-13 * by_hand.abs().max().item())


def test_the_border_of_the_ball_leaves_no_room():
    """Where the known directions fill the ball, the others give way to exactly nothing.

    Room measured as the root of what rounding leaves of R^2 - |x|^2 would be 1e-8, by luck.
    """
    start = normal(300, 3, seed=5)
    start = start / start.norm(dim=-1, keepdim=True)
    learner = AdaGrad(start, Ball(1.0), "full", step_size=5.0)
    gradient = normal(300, 3, seed=6)
    learner.update(gradient)
    axis = gradient / gradient.norm(dim=-1, keepdim=True)
    close(learner.decision.abs(), axis.abs(), 1e-14)


# --- the decomposition -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 3), (5, 4), (4, 6), (9, 8)])
@pytest.mark.parametrize("exponent", [0, 3, 30])
def test_the_decomposition_composes_and_is_orthogonal(shape, exponent):
    rows = normal(7, *shape) * falling(shape[0], exponent)[:, None]
    left, lengths, axes, doubt = graded_svd(rows, ROUNDINGS * EPS * rows.abs())
    composed = left * lengths[..., None, :] @ axes
    size = rows.abs().amax(-1, keepdim=True)  # each row by its own size
    assert ((composed - rows).abs() <= 1e-14 * size * shape[0]).all()
    eye = torch.eye(min(shape), dtype=F64)
    close(left.mT @ left, eye.expand(7, -1, -1), 1e-14)
    close(axes @ axes.mT, eye.expand(7, -1, -1), 1e-14)
    assert (lengths.diff(dim=-1) <= 0).all()
    assert (doubt >= ROUNDINGS * EPS * (lengths[..., None] * axes).abs()).all()
    assert (doubt.norm(dim=-1) <= 1e-13 * lengths[..., :1]).all()


def test_the_usual_method_loses_what_the_graded_one_keeps():
    """The mutant of the tests above: a decomposition that is exact to the largest value only."""
    rows = normal(20, 4, 4) * falling(4, 30).flip(0)[:, None]
    exact = []
    mpmath.mp.dps = DIGITS
    for matrix in rows.tolist():
        values = mpmath.eigsy(mpmath.matrix(matrix) * mpmath.matrix(matrix).T, eigvals_only=True)
        exact.append(sorted((float(mpmath.sqrt(v)) for v in values), reverse=True))
    exact = torch.tensor(exact, dtype=F64)
    found = graded_svd(rows, torch.zeros_like(rows))[1]
    usual = torch.linalg.svdvals(rows)
    assert ((found - exact).abs() <= 1e-13 * exact).all()
    assert ((usual - exact).abs()[:, -1] > exact[:, -1]).any()


def test_a_row_within_its_doubt_counts_as_nothing():
    rows = torch.tensor([[3.0, 4.0], [6.0, 8.0 + 1e-9]], dtype=F64)
    for size, nothing in ((1e-8, True), (1e-11, False)):
        _, lengths, axes, doubt = graded_svd(rows, torch.full_like(rows, size))
        assert (lengths[1] == 0) == nothing
        assert (axes[1] == 0).all() == nothing
        assert (doubt[1] == 0).all() == nothing
    assert math.isclose(lengths[1].item(), 3e-9 / math.sqrt(125), rel_tol=1e-4)


def test_what_is_not_orthogonal_raises(monkeypatch):
    rows = normal(5, 5) * falling(5, 30)[:, None]
    monkeypatch.setattr(graded, "SWEEPS", 1)
    with pytest.raises(ArithmeticError, match="rows: not orthogonal after 1 sweeps"):
        graded_svd(rows, torch.zeros_like(rows))


@pytest.mark.parametrize("d", [20, 60])
def test_rows_that_nearly_depend_on_each_other(d):
    """The matrix of Hilbert: most of its directions are within its own rounding errors."""
    rows = 1 / (torch.arange(d + 1, dtype=F64)[:, None] + torch.arange(d) + 1)
    left, lengths, axes, _ = graded_svd(rows, ROUNDINGS * EPS * rows)
    found = lengths > 0
    assert 5 < found.sum() < d
    axes, left = axes[found], left[:, found]
    close(axes @ axes.mT, torch.eye(len(axes), dtype=F64), 1e-13)
    close((left * lengths[found]) @ axes, rows, 1e-13)
