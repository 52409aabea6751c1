"""Double descent: every statement as an equality or a bound, its mutants, a tight instance."""

import math

import pytest
import torch

from mdtheory.convex import double_descent as dd
from mdtheory.convex.double_descent import bounds
from mdtheory.convex.mirror_maps import Mahalanobis
from mdtheory.runs import check_bound, check_identity
from tests.refused import breaks, differ

F64 = torch.float64
FILTER = "thm-descent-filter"
PARTS = "prop-residual-norm"
LOW = "prop-low-loss"
EARLY = "thm-no-early-peak"
STEPS = "thm-steps-to-fit"
BALL = "thm-heavy-ball"
METRIC = "prop-preconditioning"
RIDGE = "thm-early-stopping"
RISK = "thm-gaussian-risk"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def squared(x):
    return x.square().sum(-1)


def times(matrix, vectors):
    return (matrix @ vectors[..., None])[..., 0]


def largest(features):
    return torch.linalg.matrix_norm(features, 2)


def with_condition(rows, columns, condition, seed=0):
    """Features whose singular values run evenly in logarithms from 1 to 1/condition."""
    rank = min(rows, columns)
    left = torch.linalg.qr(normal(rows, rank, seed=seed)).Q
    right = torch.linalg.qr(normal(columns, rank, seed=seed + 1)).Q
    values = torch.logspace(0, -math.log10(condition), rank, dtype=F64)
    return left @ torch.diag(values) @ right.mT


def last(iterates):
    *_, end = iterates
    return end


# Gradient descent as a filter.


@pytest.mark.theorem("thm-descent-filter", "equality")
@pytest.mark.parametrize("columns", [3, 8, 12])
@pytest.mark.parametrize("share", [0.3, 1.0, 1.9])
def test_the_closed_form_is_the_loop(columns, share):
    z, y, start = normal(5, 8, columns), normal(5, 8, seed=1), normal(5, columns, seed=2)
    step = share / largest(z).max().square().item()
    for done, point in enumerate(dd.descent_iterates(z, y, step, 40, start)):
        found = dd.gradient_descent_solution(z, y, step, done, start)
        check_identity(FILTER, found, point, tolerance=1e-12)


@pytest.mark.theorem("thm-descent-filter", "equality")
def test_the_closed_form_is_the_loop_after_a_hundred_thousand_steps():
    z = torch.stack([with_condition(20, 25, condition) for condition in (1e2, 1e4, 1e8)])
    y, start = normal(20, seed=5), normal(25, seed=6)
    end = last(dd.descent_iterates(z, y, 1.0, 100_000, start))
    found = dd.gradient_descent_solution(z, y, 1.0, 100_000, start)
    check_identity(FILTER, found, end, tolerance=1e-10)


@pytest.mark.theorem("thm-descent-filter", "mutant")
def test_mutants_of_the_filter():
    """The value itself for its square; the part of the start that nothing moves, lost."""
    z, y, start = normal(5, 8, 12), normal(5, 8, seed=1), normal(5, 12, seed=2)
    step = 0.9 / largest(z).max().square().item()
    end = last(dd.descent_iterates(z, y, step, 30, start))
    left, values, right = torch.linalg.svd(z, full_matrices=False)
    shown = times(left.mT, y - times(z, start))

    def moved(share):
        return times(right.mT, share / values * shown)

    true = 1 - (1 - step * values**2) ** 30
    check_identity(FILTER, start + moved(true), end, tolerance=1e-11)
    assert differ(FILTER, start + moved(1 - (1 - step * values) ** 30), end)
    seen = times(right.mT, times(right, start))
    assert differ(FILTER, seen + moved(true), end)


@pytest.mark.theorem("thm-descent-filter", "equality")
def test_the_limit_is_the_nearest_minimiser():
    for columns in (5, 8, 12):
        z, y, start = normal(4, 8, columns), normal(4, 8, seed=1), normal(4, columns, seed=2)
        end = dd.gradient_descent_solution(z, y, 0.01, math.inf, start)
        nearest = start + times(torch.linalg.pinv(z), y - times(z, start))
        check_identity(FILTER, end, nearest, tolerance=1e-9)


# What is fitted and what is missing.


@pytest.mark.theorem("prop-residual-norm", "equality")
@pytest.mark.theorem("prop-residual-norm", "mutant")
def test_residual_and_norm():
    z, y = normal(50, 9, 6), normal(50, 9, seed=1)
    step = 1 / largest(z).square()
    for t in (1, 7, 200):
        beta = dd.gradient_descent_solution(z, y, step, t)
        left, values, _ = torch.linalg.svd(z, full_matrices=False)
        shown = times(left.mT, y)
        kept = (1 - step[:, None] * values**2) ** t
        outside = squared(y) - squared(shown)
        check_identity(PARTS, squared(times(z, beta) - y), squared(kept * shown) + outside)
        check_identity(PARTS, squared(beta), squared((1 - kept) * shown / values), tolerance=1e-11)
        # Mutants: the share left over unsquared, and what no feature explains forgotten.
        wrong = (kept * shown**2).sum(-1) + outside
        assert differ(PARTS, squared(times(z, beta) - y), wrong)
        assert differ(PARTS, squared(times(z, beta) - y), squared(kept * shown))
        assert differ(PARTS, squared(beta), squared((1 - kept**2) * shown / values)) or t == 200


# A low loss forces the norm.


@pytest.mark.theorem("prop-low-loss", "bound")
@pytest.mark.theorem("prop-low-loss", "mutant")
def test_a_low_loss_forces_the_norm_whatever_found_it():
    z = torch.stack([with_condition(8, 8, 50.0, seed=k) for k in range(60)])
    y = normal(60, 8, seed=99)
    exact = torch.linalg.lstsq(z, y[..., None]).solution[..., 0]
    torn = [exact + size * normal(60, 8, seed=k) for k, size in enumerate((1e-3, 0.1, 1, 10))]
    some = [dd.gradient_descent_solution(z, y, 1.0, t) for t in (1, 30, 1000, 30_000)]
    for beta in (*torn, *some):
        excess = squared(times(z, beta) - y)
        norm = squared(beta).sqrt()
        check_bound(LOW, bounds.norm_floor(z, y, excess), norm)
    # Mutant: as if the loss were as low as it can be, which it is not after 30 steps.
    early, none = some[1], torch.zeros(60, dtype=F64)
    check_bound(LOW, bounds.norm_floor(z, y, squared(times(z, early) - y)), squared(early).sqrt())
    assert breaks(LOW, bounds.norm_floor(z, y, none), squared(early).sqrt())


@pytest.mark.theorem("prop-low-loss", "equality")
def test_the_floor_is_attained_by_one_direction():
    z = with_condition(6, 9, 30.0)
    left, values, right = torch.linalg.svd(z, full_matrices=False)
    y, share = 2 * left[:, -1], torch.linspace(0, 1, 11, dtype=F64)
    beta = share[:, None] * (2 / values[-1]) * right[-1]
    excess = squared(times(z, beta) - y)
    check_identity(
        LOW, bounds.norm_floor(z, y.expand(11, 6), excess), squared(beta).sqrt(), tolerance=1e-11
    )


# No peak before its time.


@pytest.mark.theorem("thm-no-early-peak", "bound")
@pytest.mark.theorem("thm-no-early-peak", "mutant")
def test_noise_is_bounded_whatever_the_condition():
    ratios = []
    for condition in (2.0, 1e3, 1e8):
        values = torch.logspace(0, -math.log10(condition), 30, dtype=F64).expand(7, 30)
        steps = torch.tensor([1, 2, 3, 10, 100, 10_000, 10**8], dtype=F64)
        left = dd.bounds.noise_norm(values, 0.8, steps, 0.5)
        ratios.append(check_bound(EARLY, left, dd.noise_bound(30, 0.8, steps, 0.5)))
    assert max(ratios) > 0.5
    # Mutant: without the number of steps the bound would forbid the peak for ever.
    assert breaks(EARLY, left, dd.noise_bound(30, 0.8, torch.ones(7, dtype=F64), 0.5))


@pytest.mark.theorem("thm-no-early-peak", "equality")
def test_the_bound_on_the_noise_is_attained():
    for t in (1, 2, 3, 10, 1000, 10**6):
        at, constant = bounds.noise_peak(t)
        for step in (0.01, 3.0):
            values = torch.full((5,), (at / step) ** 0.5, dtype=F64)
            left = bounds.noise_norm(values, step, t, 0.7)
            check_identity(EARLY, left, torch.tensor(dd.noise_bound(5, step, t, 0.7), dtype=F64))
            # Mutant: twice the step on the right would be twice too much.
            assert not breaks(EARLY, left, dd.noise_bound(5, 2 * step, t, 0.7))
            assert breaks(EARLY, left, dd.noise_bound(5, step / 2, t, 0.7))
        grid = torch.logspace(-7, 0, 20_001, dtype=F64)
        tried = (1 - (1 - grid) ** t) ** 2 / (t * grid)
        assert tried.max() <= constant * (1 + 1e-6)
        assert tried.max() > 0.999 * constant


@pytest.mark.theorem("thm-no-early-peak", "equality")
def test_the_noise_of_simulated_targets():
    """The mean over 20,000 draws of the noise is the formula, within 1 %."""
    z = normal(10, 10, seed=3)
    step = 1 / largest(z).square().item()
    noise = 0.3 * normal(20_000, 10, seed=4)
    values = torch.linalg.svdvals(z)
    for t in (1, 100, 5000):
        mean = squared(dd.gradient_descent_solution(z, noise, step, t)).mean()
        check_identity(EARLY, mean / bounds.noise_norm(values, step, t, 0.09),
                       torch.ones((), dtype=F64), tolerance=0.03)  # fmt: skip


def test_the_constants_of_the_noise():
    wanted = {1: 1.0, 2: 16 / 27, 10: 0.4346, 100: 0.4098}
    for t, value in wanted.items():
        assert bounds.noise_constant(t) == pytest.approx(value, abs=5e-5)
    steps = torch.arange(1, 400, dtype=F64)
    constants = bounds.noise_constant(steps)
    assert (constants.diff() < 0).all()
    assert constants.min() > 0.40729
    assert bounds.noise_constant(10**9) == pytest.approx(0.407265, abs=1e-5)


# How many steps.


@pytest.mark.theorem("thm-steps-to-fit", "bound")
@pytest.mark.theorem("thm-steps-to-fit", "mutant")
def test_how_long_the_last_direction_takes():
    condition = torch.logspace(0.01, 8, 200, dtype=F64)
    values = torch.stack([torch.ones_like(condition), 1 / condition], -1)
    for tolerance in (0.5, 1e-2, 1e-6):
        steps = dd.steps_to_fit(values, 1.0, tolerance)[:, -1]
        low, high = bounds.fit_range(condition, tolerance)
        check_bound(STEPS, low, steps, tolerance=1e-7)
        check_bound(STEPS, steps, high, tolerance=1e-7)
        # Mutant: the condition number itself for its square.
        assert breaks(STEPS, steps, high / condition)


@pytest.mark.theorem("thm-steps-to-fit", "equality")
def test_the_number_of_steps_is_exact_and_the_range_closes():
    values = torch.logspace(0, -6, 9, dtype=F64)
    for tolerance in (0.3, 1e-4):
        steps = dd.steps_to_fit(values, 0.7, tolerance)
        left = 1 - torch.stack([
            dd.gradient_descent_filter(v[None], 0.7, t.item())[0]
            for v, t in zip(values, steps, strict=True)
        ])  # fmt: skip
        check_identity(STEPS, left, torch.full_like(left, tolerance), tolerance=1e-9)
        low, high = bounds.fit_range(1e4, tolerance)
        assert 1 < high / low < 1 + 2e-8  # tight as the condition grows


# The heavy ball.


def tuned(condition, count=30):
    values = torch.logspace(0, -math.log10(condition), count, dtype=F64)
    return values, *(part.item() for part in dd.heavy_ball_tuning(values))


@pytest.mark.theorem("thm-heavy-ball", "bound")
@pytest.mark.theorem("thm-heavy-ball", "mutant")
@pytest.mark.parametrize("condition", [2.0, 30.0, 1e3])
def test_what_the_heavy_ball_leaves(condition):
    values, step, momentum = tuned(condition)
    for t in (1, 2, 10, int(3 * condition)):
        left = (1 - dd.heavy_ball_filter(values, step, momentum, t)).abs()
        right = torch.tensor(bounds.heavy_ball_rate(momentum, t), dtype=F64)
        # A double root is known to the root of a rounding error: t^2 of them in the value.
        check_bound(BALL, left, right, tolerance=1e-12 + 1e-15 * t**2)
        # Mutant: the rate of the eigenvalues alone, without the factor of the double root.
        assert breaks(BALL, left, torch.tensor(momentum ** (t / 2), dtype=F64))
    for tolerance in (0.1, 1e-6):
        low, high = bounds.heavy_ball_range(condition, tolerance)
        after = 1 - dd.heavy_ball_filter(values[-1:], step, momentum, math.ceil(high))
        before = 1 - dd.heavy_ball_filter(values[-1:], step, momentum, math.floor(low))
        assert after.item() <= tolerance <= before.item() * (1 + 1e-9)


@pytest.mark.theorem("thm-heavy-ball", "equality")
@pytest.mark.parametrize("condition", [2.0, 30.0, 1e3])
def test_the_heavy_ball_at_both_ends(condition):
    """At the ends both roots are one: the bound is attained at the largest singular value."""
    values, step, momentum = tuned(condition)
    root = momentum**0.5
    for t in (0, 1, 2, 15, 200):
        found = 1 - dd.heavy_ball_filter(values, step, momentum, t)
        exact = torch.tensor([(-1) ** t * (1 + (1 + root) * t), 1 + (1 - root) * t], dtype=F64)
        check_identity(BALL, found[[0, -1]], root**t * exact, tolerance=1e-8)
    twice = torch.tensor(bounds.heavy_ball_rate(momentum, 200), dtype=F64)
    check_identity(BALL, found[0], twice, tolerance=1e-8)


@pytest.mark.theorem("thm-heavy-ball", "equality")
@pytest.mark.theorem("thm-heavy-ball", "mutant")
def test_the_heavy_ball_is_its_recursion():
    for momentum, step in ((0.0, 1.0), (0.3, 0.2), (0.9, 1.5), (0.99, 0.01)):
        values = torch.logspace(0, -4, 9, dtype=F64)
        share, before = torch.zeros(9, dtype=F64), torch.zeros(9, dtype=F64)
        for t in range(1, 60):
            ahead = share + step * values**2 * (1 - share) + momentum * (share - before)
            share, before = ahead, share
            check_identity(BALL, dd.heavy_ball_filter(values, step, momentum, t), share)
        # Mutant: the sign of the momentum.
        check_identity(BALL, dd.heavy_ball_filter(values, step, momentum, 59), share)
        if momentum:
            slow = dd.heavy_ball_filter(values, step / (1 + momentum), 0.0, 59)
            assert differ(BALL, slow, share)
    plain = dd.gradient_descent_filter(values, 1.0, 1000)
    check_identity(BALL, dd.heavy_ball_filter(values, 1.0, 0.0, 1000), plain)


# Preconditioning.


def metric(columns, seed):
    root = normal(columns, columns, seed=seed)
    return root @ root.mT / columns + 0.3 * torch.eye(columns, dtype=F64)


@pytest.mark.theorem("prop-preconditioning", "equality")
@pytest.mark.theorem("prop-preconditioning", "mutant")
@pytest.mark.parametrize("columns", [4, 9])
def test_a_metric_changes_the_features(columns):
    z, y, a = normal(6, columns), normal(6, seed=1), metric(columns, 2)
    step = 0.05
    end = last(dd.descent_iterates(z, y, step, 50, mirror_map=Mahalanobis(a)))
    check_identity(METRIC, dd.preconditioned_solution(z, y, a, step, 50), end, tolerance=1e-11)
    # Mutant: the metric in place of its inverse.
    inverse = torch.linalg.inv(a)
    assert differ(METRIC, dd.preconditioned_solution(z, y, inverse, step, 50), end)
    # The limit has the least length in the metric.
    far = dd.preconditioned_solution(z, y, a, step, math.inf)
    other = torch.linalg.pinv(z) @ y
    assert torch.allclose(z @ far, z @ other)
    assert far @ a @ far <= other @ a @ other + 1e-12
    assert other @ other <= far @ far + 1e-12


@pytest.mark.theorem("prop-preconditioning", "equality")
@pytest.mark.theorem("prop-preconditioning", "mutant")
def test_perfect_conditioning_interpolates_in_one_step():
    z, y = with_condition(6, 10, 1e3), normal(6, seed=1)
    pseudo = torch.linalg.pinv(z)
    eye = torch.eye(10, dtype=F64)
    inverse = pseudo @ pseudo.mT + eye - pseudo @ z
    a = torch.linalg.inv(inverse)
    a = (a + a.mT) / 2
    check_identity(METRIC, dd.preconditioned_solution(z, y, a, 1.0, 1), pseudo @ y, tolerance=1e-6)
    plain = dd.gradient_descent_solution(z, y, 1.0, 1)
    assert differ(METRIC, plain, pseudo @ y)


# Stopping early is ridge regression, nearly.


@pytest.mark.theorem("thm-early-stopping", "bound")
@pytest.mark.theorem("thm-early-stopping", "mutant")
def test_between_nothing_and_the_gap():
    values = torch.logspace(0, -9, 4000, dtype=F64)
    for t in (1, 2, 3, 10, 1000, 10**7):
        for step in (1.0, 0.2):
            descent = dd.gradient_descent_filter(values, step, t)
            ridge = dd.ridge_filter(values, 1 / (step * t))
            check_bound(RIDGE, ridge, descent, tolerance=1e-14)
            check_bound(RIDGE, descent - ridge, bounds.ridge_gap(t) * torch.ones_like(values))
            check_bound(RIDGE, descent, 2 * ridge, tolerance=1e-14)
            # Mutants: the penalty eta t, and t / eta.
            for wrong in (step * t, t / step):
                if t >= 10:
                    other = dd.ridge_filter(values, wrong)
                    gap = (descent - other).abs()
                    assert breaks(RIDGE, gap, bounds.ridge_gap(t) * torch.ones_like(values))


@pytest.mark.theorem("thm-early-stopping", "equality")
def test_the_gap_is_attained_and_ridge_is_its_normal_equation():
    grid = torch.linspace(1e-6, 1, 200_001, dtype=F64)
    for t in (1, 2, 3, 10, 100):
        gap = 1 - (1 - grid) ** t - t * grid / (1 + t * grid)
        top = gap.max()
        check_identity(RIDGE, top, torch.tensor(bounds.ridge_gap(t), dtype=F64), tolerance=1e-6)
        at = grid[gap.argmax()].sqrt()[None]
        found = dd.gradient_descent_filter(at, 1.0, t) - dd.ridge_filter(at, 1 / t)
        check_identity(RIDGE, found[0], top)
    z, y = normal(7, 5), normal(7, seed=1)
    normal_matrix = z.mT @ z + 0.3 * torch.eye(5, dtype=F64)
    check_identity(RIDGE, dd.ridge_solution(z, y, 0.3), torch.linalg.solve(normal_matrix, z.mT @ y))
    assert bounds.ridge_gap(10**8) == pytest.approx(0.20363, abs=1e-4)


# The reference risk.


@pytest.mark.theorem("thm-gaussian-risk", "equality")
@pytest.mark.theorem("thm-gaussian-risk", "mutant")
@pytest.mark.parametrize(("rows", "columns"), [(24, 8), (12, 3), (6, 24), (10, 40)])
def test_the_risk_of_gaussian_features(rows, columns):
    """The mean over 20,000 draws, within 5 %; all four have a finite variance."""
    z = normal(20_000, rows, columns, seed=rows)
    values = torch.linalg.svdvals(z)
    mean = 0.3 * (1 / values**2).sum(-1).mean()
    exact = torch.tensor(dd.bounds.gaussian_noise_risk(rows, columns, 0.3), dtype=F64)
    check_identity(RISK, mean / exact, torch.ones((), dtype=F64), tolerance=0.02)
    # Mutant: without the 1 that comes from the mean of a reciprocal.
    without = 0.3 * min(rows, columns) / abs(rows - columns)
    assert differ(RISK, mean / without, torch.ones((), dtype=F64), tolerance=0.02)


def test_the_risk_is_infinite_where_rows_and_columns_nearly_agree():
    for columns in (9, 10, 11):
        assert dd.bounds.gaussian_noise_risk(10, columns) == math.inf
    assert dd.bounds.gaussian_noise_risk(10, 10, 0.0) == 0
    assert dd.bounds.gaussian_noise_risk(10, 8) == 8
    assert dd.bounds.gaussian_noise_risk(10, 12) == 10
