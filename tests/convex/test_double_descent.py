"""Double descent: filters, features, solutions and peaks beyond what the statements say."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from mdtheory.convex import double_descent as dd
from mdtheory.convex.double_descent.features import numerical_rank
from mdtheory.convex.mirror_maps import Entropy, PositiveEntropy
from tests.refused import differ

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def times(matrix, vectors):
    return (matrix @ vectors[..., None])[..., 0]


def same(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


# Filters.


@pytest.mark.parametrize("steps", [0, 1, 5, 10**4, 10**10])
def test_a_filter_keeps_its_digits_where_the_share_is_tiny(steps):
    """Against 60 decimal digits, relative to the share itself."""
    values = torch.logspace(0, -8, 9, dtype=F64)
    found = dd.gradient_descent_filter(values, 0.75, steps)
    for s, share in zip(values.tolist(), found.tolist(), strict=True):
        with localcontext() as context:
            context.prec = 60
            exact = 1 - (1 - Decimal("0.75") * Decimal(s) ** 2) ** steps
        assert share == pytest.approx(float(exact), rel=1e-14)
    if steps == 1:  # as it stands in the equation, the last share is rounding
        plain = 1 - (1 - 0.75 * values**2) ** steps
        assert (plain[-1] / found[-1] - 1).abs() > 0.1


def test_a_filter_takes_steps_that_overshoot_and_goes_to_its_limit():
    values = torch.tensor([0.0, 0.5, 1.0, 1.2, 1.5], dtype=F64)
    for steps in (0, 1, 2, 7, 30):
        plain = 1 - (1 - 0.8 * values**2) ** steps
        same(dd.gradient_descent_filter(values, 0.8, steps), plain)
    limit = dd.gradient_descent_filter(values, 0.8, math.inf)
    assert limit.tolist() == [0, 1, 1, 1, 1]
    one = dd.gradient_descent_filter(torch.ones(1, dtype=F64), 1.0, 0)
    assert one.item() == 0
    assert dd.gradient_descent_filter(torch.ones(1, dtype=F64), 1.0, 0.5).item() == 1


def test_a_step_that_rounding_carries_past_its_limit_is_at_its_limit():
    values = torch.linspace(0.1, 3, 1000, dtype=F64)[:, None]
    found = dd.gradient_descent_filter(values, 1 / values[:, 0].square(), 2.5)
    assert (found == 1).all()
    assert (dd.steps_to_fit(values, 1 / values[:, 0].square(), 0.1) < 0.1).all()


def test_filters_broadcast_over_a_batch():
    values = normal(3, 2, 5).abs()
    step = torch.tensor([0.1, 0.05], dtype=F64)
    steps = torch.tensor([[3.0], [10.0], [500.0]], dtype=F64)
    momentum = torch.tensor([[0.5], [0.9], [0.0]], dtype=F64)
    descent = dd.gradient_descent_filter(values, step, steps)
    ball = dd.heavy_ball_filter(values, step, momentum, steps)
    ridge = dd.ridge_filter(values, step)
    assert descent.shape == ball.shape == ridge.shape == values.shape
    for i in range(3):
        for j in range(2):
            eta, t = step[j].item(), int(steps[i, 0])
            same(descent[i, j], dd.gradient_descent_filter(values[i, j], eta, t))
            same(ball[i, j], dd.heavy_ball_filter(values[i, j], eta, momentum[i, 0].item(), t))
            same(ridge[i, j], dd.ridge_filter(values[i, j], eta))


def test_the_heavy_ball_keeps_its_digits():
    for condition, steps in ((1e8, 3000), (1e4, 3000)):
        values = torch.logspace(0, -math.log10(condition), 5, dtype=F64)[1:]
        eta, m = 1.5, 0.99
        found = dd.heavy_ball_filter(values, eta, m, steps)
        for s, share in zip(values.tolist(), found.tolist(), strict=True):
            with localcontext() as context:
                context.prec = 60
                pull, done, speed = Decimal(eta) * Decimal(s) ** 2, Decimal(0), Decimal(0)
                for _ in range(steps):
                    speed = Decimal(m) * speed + pull * (1 - done)
                    done += speed
            assert share == pytest.approx(float(done), rel=1e-11)


def test_the_tuning_ignores_values_that_are_zero():
    values = torch.tensor([[3.0, 1.0, 0.0], [2.0, 2.0, 2.0]], dtype=F64)
    step, momentum = dd.heavy_ball_tuning(values)
    same(step, torch.tensor([0.25, 0.25], dtype=F64))
    same(momentum, torch.tensor([0.25, 0.0], dtype=F64))


def test_ridge_without_penalty_and_without_value():
    values = torch.tensor([0.0, 1e-200, 1.0], dtype=F64)
    assert dd.ridge_filter(values, 0.0).tolist() == [0, 1, 1]
    assert dd.ridge_filter(values, 1.0).tolist() == [0, 0, 0.5]


# Solutions.


def test_solutions_broadcast_steps_targets_and_starts():
    z, y, start = normal(3, 6, 8), normal(2, 3, 6, seed=1), normal(3, 8, seed=2)
    steps = torch.tensor([1.0, 10.0, 1e4, math.inf], dtype=F64)[:, None, None]
    step = 1 / torch.linalg.matrix_norm(z, 2).square()
    found = dd.gradient_descent_solution(z, y, step, steps, start)
    assert found.shape == (4, 2, 3, 8)
    for k in range(4):
        for c in range(2):
            for i in range(3):
                one = dd.gradient_descent_solution(
                    z[i], y[c, i], step[i].item(), steps[k, 0, 0].item(), start[i]
                )
                same(found[k, c, i], one, 1e-9)


def test_nothing_is_cut_at_finite_times_and_rounding_is_cut_in_the_limit():
    left, right = torch.linalg.qr(normal(6, 6)).Q, torch.linalg.qr(normal(6, 6, seed=1)).Q
    values = torch.tensor([1.0, 0.5, 0.1, 1e-3, 1e-9, 1e-18], dtype=F64)
    z, y = left @ torch.diag(values) @ right.mT, normal(6, seed=2)
    late = dd.gradient_descent_solution(z, y, 1.0, 10**17)
    kept = times(right.mT, late)[4]
    same(
        kept, times(left.mT, y)[4] / 1e-9 * -torch.special.expm1(torch.tensor(-0.1)).double(), 1e-5
    )
    limit = dd.gradient_descent_solution(z, y, 1.0, math.inf)
    assert times(right.mT, limit)[4].abs() > 1e7
    assert limit.norm() < 1e12  # 1e18 would be the reciprocal of what rounding left
    assert numerical_rank(z, torch.linalg.svdvals(z)).sum() == 5


def test_single_precision_is_kept_and_forgets_the_last_directions():
    z, y = normal(30, 30), normal(30, seed=1)
    left, _, right = torch.linalg.svd(z)
    z = left @ torch.diag(torch.logspace(0, -8, 30, dtype=F64)) @ right
    exact = dd.gradient_descent_solution(z, y, 1.0, math.inf)
    rough = dd.gradient_descent_solution(z.float(), y.float(), 1.0, math.inf)
    assert rough.dtype == torch.float32
    assert rough.norm() < exact.norm() / 5


@pytest.mark.parametrize("columns", [4, 12, 15])
def test_batches_in_a_cycle_are_the_loop(columns):
    z, y = normal(2, 12, columns), normal(2, 12, seed=1)
    step, passes, batch = 0.02, 7, 3
    beta = torch.zeros(2, columns, dtype=F64)
    for _ in range(passes):
        for rows in range(0, 12, batch):
            x, part = z[:, rows : rows + batch], y[:, rows : rows + batch]
            beta = beta - step * times(x.mT, times(x, beta) - part)
    same(dd.cyclic_solution(z, y, step, passes, batch), beta, 1e-11)
    whole = dd.cyclic_solution(z, y, step, 5, 12)
    same(whole, dd.gradient_descent_solution(z, y, step, 5), 1e-11)
    assert not dd.cyclic_solution(z, y, step, 0, 3).any()


def test_batches_interpolate_only_where_one_can():
    """A constant step leaves a bias where the rows contradict one another, and none elsewhere."""
    for columns, can in ((6, False), (12, True), (30, True)):
        z, y = normal(12, columns), normal(12, seed=1)
        end = dd.cyclic_solution(z, y, 0.02, 10**9, 3)
        best = torch.linalg.pinv(z) @ y
        assert bool((end - best).norm() < 1e-6 * best.norm()) == can


def test_other_geometries_find_other_interpolators():
    z = normal(4, 9).abs()
    y = z @ normal(9, seed=1).abs()
    start = torch.full((9,), 0.1, dtype=F64)
    *_, positive = dd.descent_iterates(z, y, 0.005, 20_000, start, PositiveEntropy())
    assert (positive >= 0).all()
    assert (z @ positive - y).norm() < 1e-3
    euclidean = dd.gradient_descent_solution(z, y, 0.005, math.inf, start)
    assert (euclidean - positive).norm() > 0.1
    steps = list(dd.descent_iterates(z, y, 0.02, 3))
    assert len(steps) == 4
    assert Entropy().carries_dual


# Features and peaks.


def test_features_are_what_they_say():
    x, w = normal(2, 5, 3), normal(3, 7)
    same(dd.random_features(x, w, "tanh"), torch.tanh(x @ w))
    same(dd.random_features(x, w, "relu"), (x @ w).clamp(min=0))
    same(dd.random_features(x, w, "identity"), x @ w)
    same(dd.random_features(x, w, torch.sin), torch.sin(x @ w))


def test_the_condition_ignores_what_is_zero():
    z = normal(4, 8, 5)
    exact = torch.linalg.svdvals(z)
    same(dd.effective_condition(z), exact[:, 0] / exact[:, -1])
    same(dd.effective_condition(torch.cat([z, z], -1)), exact[:, 0] / exact[:, -1], 1e-9)
    centred = z.mT - z.mT.mean(-2, keepdim=True)  # 5 rows: the rank is 4
    assert (dd.effective_condition(centred) < 1e3).all()
    assert (torch.linalg.cond(centred) > 1e12).all()


def test_the_height_of_a_peak():
    widths = torch.tensor([1, 2, 3, 4, 5])
    errors = torch.tensor([[2.0, 1.0, 6.0, 3.0, 2.0], [3.0, 2.0, 1.0, 1.0, 0.5]], dtype=F64)
    height = dd.peak_height(widths, errors, 3)
    assert height.left.tolist() == [6.0, 0.5]
    assert height.right.tolist() == [3.0, 2.0]
    assert height.least.tolist() == [3.0, 0.5]
    left, right = dd.peak_height([5, 3, 1], errors[0, [4, 2, 0]], 3)
    assert (left.item(), right.item()) == (3.0, 3.0)


def test_the_problem_is_drawn_as_said():
    problem = dd.teacher_problem(30, torch.Generator().manual_seed(0), rows=50, noise=0.3)
    assert problem.inputs.shape == (30, 50, 20)
    assert problem.test_inputs.shape == (30, 1000, 20)
    assert problem.test_targets.abs().max() <= 1
    assert problem.inputs.square().sum(-1).mean().item() == pytest.approx(1, abs=0.05)
    quiet = dd.teacher_problem(30, torch.Generator().manual_seed(0), rows=50, noise=0.0)
    same(quiet.inputs, problem.inputs)
    off = problem.targets - quiet.targets
    assert off.std().item() == pytest.approx(0.3, abs=0.03)
    # The targets are a function of the inputs: a linear teacher inside a tanh.
    linear = torch.linalg.lstsq(quiet.test_inputs, quiet.test_targets.atanh()[..., None]).residuals
    assert (linear < 1e-12).all()


def test_the_headline():
    """No peak after a hundred steps, a bump after a thousand, a high peak in the end."""
    generator = torch.Generator().manual_seed(0)
    problem = dd.teacher_problem(20, generator)
    weights = 1.5 * torch.randn(20, 20, 400, generator=generator, dtype=F64)
    steps = torch.tensor([1e2, 1e3, 1e4, 1e6], dtype=F64)[:, None]
    widths, rows = (50, 100, 400), []
    for width in widths:
        z = dd.random_features(problem.inputs, weights[..., :width], "tanh")
        other = dd.random_features(problem.test_inputs, weights[..., :width], "tanh")
        eta = 1 / torch.linalg.matrix_norm(z, 2).square()
        beta = dd.gradient_descent_solution(z, problem.targets, eta, steps)
        errors = (times(other, beta) - problem.test_targets).square().mean(-1)
        rows.append(errors.median(-1).values)
    height = dd.peak_height(widths, torch.stack(rows, -1), 100)
    assert height.left[0] < 1
    assert height.least[1] > 1
    assert height.least[3] > 20
    assert (height.left.diff() > 0).all()
    assert (height.right.diff() > 0).all()


def test_the_library_and_numpy_agree_on_a_whole_table():
    z, y = normal(7, 9), normal(7, seed=1)
    left, values, right = np.linalg.svd(z.numpy(), full_matrices=False)
    for t in (1, 50, 10**5):
        share = -np.expm1(t * np.log1p(-0.01 * values**2))
        exact = right.T @ (share / values * (left.T @ y.numpy()))
        found = dd.gradient_descent_solution(z, y, 0.01, t)
        assert not differ("numpy", found, torch.from_numpy(exact), 1e-12)
