"""Right-hand sides and exact values of the chapter's statements."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_number,
    require_same_kind,
    require_tensor,
    require_values,
)
from mdtheory.convex.double_descent.features import numerical_rank, require_features
from mdtheory.convex.double_descent.filters import (
    Scalar,
    gradient_descent_filter,
    per_batch,
    require_spectrum,
    squared_reach,
)

BISECTIONS = 60


def steps_to_fit(singular_values: Tensor, step_size: Scalar, tolerance: float) -> Tensor:
    r"""After how many steps a direction is fitted up to a tolerance: ``thm-steps-to-fit``.

    Args:
        singular_values: :math:`s \ge 0`, shape ``(..., r)``.
        step_size: :math:`\eta \ge 0` with :math:`\eta s^2 \le 1`, a number or a tensor that
            broadcasts to the batch ``(...)``.
        tolerance: :math:`\epsilon` in (0, 1).

    Returns:
        The real :math:`t` with :math:`(1 - \eta s^2)^t = \epsilon`, of the shape of
        ``singular_values``; infinite where :math:`\eta s = 0`, and 0 where :math:`\eta s^2 = 1`.

    Raises:
        TypeError: not a floating-point tensor, or not numbers.
        ValueError: a value out of range, or a shape that does not broadcast.
    """
    s = require_spectrum(singular_values)
    reach = squared_reach(per_batch("step_size", step_size, s), s)
    require_values("step_size", reach, reach <= 1, "eta s^2 at most 1")
    return math.log(_fraction("tolerance", tolerance)) / torch.log1p(-reach)


def fit_range(condition: Scalar, tolerance: float) -> tuple[Scalar, Scalar]:
    r"""Between which numbers of steps the last direction is fitted: ``thm-steps-to-fit``.

    Args:
        condition: :math:`\kappa \ge 1`, a number or a tensor of any shape.
        tolerance: :math:`\epsilon` in (0, 1).

    Returns:
        :math:`(\kappa^2 - 1)\log\frac1\epsilon` and :math:`\kappa^2\log\frac1\epsilon`.

    Raises:
        TypeError: not numbers.
        ValueError: a value out of range.
    """
    kappa, folds = _condition(condition), -math.log(_fraction("tolerance", tolerance))
    return (kappa**2 - 1) * folds, kappa**2 * folds


def heavy_ball_range(condition: Scalar, tolerance: float) -> tuple[Scalar, Scalar]:
    r"""The same for the tuned heavy ball: ``thm-heavy-ball``.

    Args:
        condition: :math:`\kappa \ge 1`, a number or a tensor of any shape.
        tolerance: :math:`\epsilon` in (0, 1).

    Returns:
        :math:`\frac{\kappa - 1}{2}\log\frac1\epsilon` and
        :math:`(\kappa + 1)\log\frac2\epsilon`.

    Raises:
        TypeError: not numbers.
        ValueError: a value out of range.
    """
    kappa, folds = _condition(condition), -math.log(_fraction("tolerance", tolerance))
    return (kappa - 1) / 2 * folds, (kappa + 1) * (folds + math.log(2))


def heavy_ball_rate(momentum: Scalar, steps: Scalar) -> Scalar:
    r"""What the tuned heavy ball leaves of any direction, at most: ``thm-heavy-ball``.

    Args:
        momentum: :math:`m` in [0, 1), a number or a tensor of any shape.
        steps: :math:`t \ge 0`, likewise.

    Returns:
        :math:`m^{t/2}\,(1 + (1 + \sqrt m)\,t)`.
    """
    return momentum ** (steps / 2) * (1 + (1 + momentum**0.5) * steps)


def noise_constant(steps: Scalar) -> Scalar:
    r"""The constant of theorem ``thm-no-early-peak``.

    Args:
        steps: whole numbers :math:`t \ge 1`, a number or a tensor of any shape.

    Returns:
        :math:`c_t = \max_{0 < a \le 1} (1 - (1 - a)^t)^2 / (ta)`, of the same kind.

    Raises:
        TypeError: not numbers.
        ValueError: not whole numbers at least 1.
    """
    return noise_peak(steps)[1]


def noise_peak(steps: Scalar) -> tuple[Scalar, Scalar]:
    r"""Where the constant of theorem ``thm-no-early-peak`` is attained, and the constant.

    Args:
        steps: whole numbers :math:`t \ge 1`, a number or a tensor of any shape.

    Returns:
        The maximiser :math:`a` (the :math:`\eta s^2` of the tight instance), and :math:`c_t`.

    Raises:
        TypeError: not numbers.
        ValueError: not whole numbers at least 1.
    """

    def rises(x: Tensor, t: Tensor) -> Tensor:
        # The logarithm of f(a) = (1 - (1 - a)^t)^2 / (ta) rises while this is positive, x = ta.
        return 2 * x * _power(x, t, t - 1) + torch.special.xlog1py(t, -x / t).expm1()

    def value(a: Tensor, t: Tensor) -> Tensor:
        return torch.special.xlog1py(t, -a).expm1().square() / (t * a)

    return _maximum(steps, 2.0, rises, value)


def noise_norm(
    singular_values: Tensor, step_size: Scalar, steps: Scalar, variance: float = 1.0
) -> Tensor:
    r"""What noise adds to the squared norm, on average: equation ``eq-noise-norm``.

    Args:
        singular_values: :math:`s > 0`, shape ``(..., r)``; a 0 adds nothing.
        step_size: :math:`\eta`, a number or a tensor that broadcasts to the batch ``(...)``.
        steps: :math:`t`, likewise.
        variance: :math:`\sigma^2 \ge 0`.

    Returns:
        :math:`\sigma^2\sum_i \phi_t(s_i)^2/s_i^2`, shape ``(...)``.

    Raises:
        TypeError: not a floating-point tensor, or not numbers.
        ValueError: a value out of range, or a shape that does not broadcast.
    """
    found = gradient_descent_filter(singular_values, step_size, steps)
    size = torch.where(singular_values > 0, found / singular_values, 0)
    return require_number("variance", variance, 0.0) * size.square().sum(-1)


def noise_bound(
    rank: int | Tensor, step_size: Scalar, steps: Scalar, variance: float = 1.0
) -> Scalar:  # fmt: skip
    r"""The bound of theorem ``thm-no-early-peak``, in which no condition number occurs.

    Args:
        rank: :math:`r \ge 0`, a number or a tensor.
        step_size: :math:`\eta \ge 0`, at most :math:`1/s_1^2`, a number or a tensor.
        steps: whole numbers :math:`t \ge 1`, a number or a tensor.
        variance: :math:`\sigma^2 \ge 0`.

    Returns:
        :math:`c_t\,\sigma^2\, r\, t\,\eta`, of the shape that they broadcast to.

    Raises:
        TypeError: not numbers.
        ValueError: steps that are not whole numbers at least 1, or a negative variance.
    """
    constant = noise_constant(steps)
    return constant * require_number("variance", variance, 0.0) * rank * steps * step_size


def norm_floor(features: Tensor, targets: Tensor, excess: Tensor) -> Tensor:
    r"""How large coefficients must be that fit so well: proposition ``prop-low-loss``.

    Args:
        features: :math:`Z`, shape ``(..., n, p)``.
        targets: :math:`y`, shape ``(..., n)``.
        excess: :math:`R \ge 0`, how much the squared error exceeds that of least squares,
            shape ``(...)``.

    Returns:
        :math:`\max_i (|u_i^\top y| - \sqrt R)/s_i` over the singular values that are not 0, and at
        least 0; shape ``(...)``.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes that do not fit, or a negative excess.
    """
    require_features(features)
    require_tensor("targets", targets)
    require_same_kind("targets", targets, "features", features)
    require_same_kind("excess", excess, "features", features)
    require_values("excess", excess, excess >= 0, "numbers >= 0")
    left, values, _ = torch.linalg.svd(features, full_matrices=False)
    shown = (left.mT @ targets[..., None])[..., 0].abs()
    terms = (shown - excess.sqrt()[..., None]).clamp(min=0) / values
    return torch.where(numerical_rank(features, values), terms, 0).amax(-1)


def ridge_gap(steps: Scalar) -> Scalar:
    r"""The constant of theorem ``thm-early-stopping``: how far ridge is from gradient descent.

    Args:
        steps: whole numbers :math:`t \ge 1`, a number or a tensor of any shape.

    Returns:
        :math:`m_t = \max_{0 < a \le 1} 1 - (1 - a)^t - ta/(1 + ta)`, of the same kind.

    Raises:
        TypeError: not numbers.
        ValueError: not whole numbers at least 1.
    """

    def rises(x: Tensor, t: Tensor) -> Tensor:
        return torch.special.xlog1py(t - 1, -x / t) + 2 * torch.log1p(x)

    def value(a: Tensor, t: Tensor) -> Tensor:
        return 1 / (1 + t * a) - _power(t * a, t, t)

    return _maximum(steps, 3.0, rises, value)[1]


def gaussian_noise_risk(rows: int, columns: int, variance: float = 1.0) -> float:
    r"""What noise costs the minimum-norm solution on Gaussian features: ``thm-gaussian-risk``.

    Args:
        rows: :math:`n \ge 1`.
        columns: :math:`p \ge 1`.
        variance: :math:`\sigma^2 \ge 0`.

    Returns:
        :math:`\sigma^2 p/(n - p - 1)` where :math:`p \le n - 2`, :math:`\sigma^2 n/(p - n - 1)`
        where :math:`p \ge n + 2`, infinity between.

    Raises:
        TypeError: not whole numbers, or no number.
        ValueError: a value out of range.
    """
    n, p = require_count("rows", rows), require_count("columns", columns)
    noise = require_number("variance", variance, 0.0)
    if abs(n - p) <= 1:
        return math.inf if noise else 0.0
    return noise * min(n, p) / (abs(n - p) - 1)


def _power(x: Tensor, t: Tensor, power: Tensor) -> Tensor:
    r""":math:`(1 - x/t)^{power}`."""
    return torch.special.xlog1py(power, -x / t).exp()


def _maximum(
    steps: Scalar,
    most: float,
    rises: Callable[[Tensor, Tensor], Tensor],
    value: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Scalar, Scalar]:
    """The maximiser in a of a function that rises, then falls, by bisection in x = ta."""
    if isinstance(steps, Tensor):
        t = steps
    else:
        t = torch.tensor(require_number("steps", steps, 1.0), dtype=torch.float64)
    require_values("steps", t, (t >= 1) & t.isfinite() & (t == t.round()), "whole numbers >= 1")
    low, high = torch.zeros_like(t), t.clamp(max=most)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        up = rises(middle, t) > 0
        low, high = torch.where(up, middle, low), torch.where(up, high, middle)
    a = high / t
    result = value(a, t)
    return (a, result) if isinstance(steps, Tensor) else (a.item(), result.item())


def _fraction(name: str, value: float) -> float:
    if require_number(name, value, 0.0, strict=True) >= 1:
        raise ValueError(f"{name}: expected a number below 1, got {value!r}")
    return value


def _condition(condition: Scalar) -> Scalar:
    if not isinstance(condition, Tensor):
        return require_number("condition", condition, 1.0)
    require_values("condition", condition, condition >= 1, "numbers >= 1")
    return condition
