"""Right-hand sides of the statements about saddle points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.convex.saddle_points.weights import require_order

Number = float | Tensor


def largest_step(smoothness: Number, strong_convexity: float = 1.0, *, calls: int = 2) -> Number:
    r"""The largest step of ``thm-saddle-prox`` (two calls) or ``thm-saddle-optimistic`` (one).

    Args:
        smoothness: :math:`L > 0`, the Lipschitz constant of the operator.
        strong_convexity: :math:`\mu > 0` of the mirror maps.
        calls: of the operator in a step, 1 or 2.

    Returns:
        :math:`\mu/L`, or :math:`(\sqrt2 - 1)\mu/L`; of the kind of ``smoothness``.

    Raises:
        ValueError: a number out of range.
    """
    require_number("strong_convexity", strong_convexity, 0.0, strict=True)
    factor = 1.0 if _calls(calls) == 2 else math.sqrt(2) - 1
    return factor * strong_convexity / smoothness


def descent_bound(
    start: tuple[Number, Number],
    squares: tuple[Number, Number],
    step_size: tuple[Number, Number],
    steps: int,
    strong_convexity: tuple[float, float] = (1.0, 1.0),
) -> Number:
    r"""The bound of theorem ``thm-saddle-descent`` on the gap of the averages.

    Args:
        start: :math:`D(u, x_1)` and :math:`D(v, y_1)` from the best responses, or upper bounds.
        squares: :math:`\sum_t\lVert g_t\rVert_*^2` of both variables.
        step_size: :math:`\eta_x` and :math:`\eta_y`.
        steps: :math:`T`.
        strong_convexity: :math:`\mu_x` and :math:`\mu_y`.

    Returns:
        The bound.

    Raises:
        ValueError: fewer than one step.
    """
    each = [
        d / eta + eta * g / (2 * mu)
        for d, g, eta, mu in zip(start, squares, step_size, strong_convexity, strict=True)
    ]
    return (each[0] + each[1]) / require_count("steps", steps)


def prox_bound(start: Number, step_size: Number, steps: int) -> Number:
    r"""The bound of ``thm-saddle-prox`` and ``thm-saddle-optimistic`` on the gap of the averages.

    Args:
        start: :math:`D(u, x_1) + D(v, y_1)` from the best responses, or an upper bound.
        step_size: :math:`\eta`.
        steps: :math:`T`.

    Returns:
        :math:`D/(\eta T)`.

    Raises:
        ValueError: fewer than one step.
    """
    return start / (step_size * require_count("steps", steps))


def last_iterate_bound(
    distance: Number, step_size: float, smoothness: float, steps: int, *, calls: int = 2
) -> Number:
    r"""The bound of theorem ``thm-saddle-last`` on :math:`\lVert F(z_{T+1})\rVert^2`.

    Args:
        distance: :math:`\lVert z_1 - z^*\rVert^2`.
        step_size: :math:`\eta`: below :math:`1/L` with two calls, below :math:`1/(2L)` with one.
        smoothness: :math:`L`.
        steps: :math:`T \ge 0`.
        calls: of the operator in a step, 1 or 2.

    Returns:
        The bound.

    Raises:
        ValueError: a number out of range.
    """
    eta = require_number("step_size", step_size, 0.0, strict=True)
    c = (eta * require_number("smoothness", smoothness, 0.0)) ** 2
    if c * (4 if _calls(calls) == 1 else 1) >= 1:
        raise ValueError(f"step_size: expected a step below the largest, got {step_size!r}")
    if calls == 2:
        factor = 1 / (1 - c)
    else:
        s = c * math.sqrt(2 / (1 - 2 * c))
        factor = (1 + 2 * s + 2 * s**2) * (1 - 2 * c) / (1 - 4 * c)
    return factor * distance / (eta**2 * (require_count("steps", steps, 0) + 1))


def bilinear_factor(step: Number, method: str) -> Number:
    r"""What a step makes of the squared distance in :math:`f = \sigma xy`, ``prop-bilinear``.

    Args:
        step: :math:`a = \eta\sigma \ge 0`.
        method: ``"descent"`` (both at once), ``"prox"`` (two calls), ``"optimistic"`` (one call:
            the factor in the long run), or ``"from_ahead"``, the mistake of moving from the look
            ahead.

    Returns:
        The factor, of the kind of ``step``.

    Raises:
        ValueError: an unknown method.
    """
    a = torch.as_tensor(step)
    square = a**2
    if method == "descent":
        factor = 1 + square
    elif method == "prox":
        factor = 1 - square + square**2
    elif method == "from_ahead":
        factor = (1 + square) ** 2
    elif method == "optimistic":
        short = (1 + (1 - 4 * square).clamp(min=0).sqrt()) / 2
        long = (1 + (2 * a + (4 * square - 1).clamp(min=0).sqrt()) ** 2) / 4
        factor = torch.where(2 * a <= 1, short, long)
    else:
        names = ("descent", "prox", "optimistic", "from_ahead")
        raise ValueError(f"method: expected one of {names}, got {method!r}")
    return factor if isinstance(step, Tensor) else factor.item()


def weighted_gap_bound(
    radius: float,
    squares: Number,
    differences: Number,
    step_size: float,
    weight_step_size: float,
    steps: int,
    *,
    order: str = "weights_first",
) -> Number:
    r"""The bound of theorem ``thm-adawac`` on the gap of the averages.

    Args:
        radius: :math:`R` of the ball of parameters; the start is its centre.
        squares: :math:`\sum_t\lVert\nabla_\theta L_t\rVert^2`.
        differences: :math:`\sum_t\frac1n\sum_i(\ell_i - \rho_i)^2`.
        step_size: :math:`\eta` of the parameters.
        weight_step_size: :math:`\eta_B`; infinite where the weights come first.
        steps: :math:`T`.
        order: ``"weights_first"`` or ``"simultaneous"``.

    Returns:
        The bound.

    Raises:
        ValueError: an unknown order, or fewer than one step.
    """
    weights = math.log(2) / weight_step_size
    total = radius**2 / (2 * step_size) + step_size / 2 * squares + weights
    if require_order(order) == "simultaneous":
        total = total + weight_step_size / 8 * differences
    return total / require_count("steps", steps)


def stochastic_gap_bound(
    radius: float,
    squares: Number,
    differences: Number,
    samples: int,
    step_size: float,
    weight_step_size: float,
    steps: int,
) -> Number:
    r"""The bound of theorem ``thm-adawac-stochastic`` on the expected gap.

    Args:
        radius: :math:`R`.
        squares: :math:`\sum_t\mathbb{E}\lVert\hat g_t\rVert^2` of the sampled gradients.
        differences: :math:`\sum_t\mathbb{E}(\ell_{i_t} - \rho_{i_t})^2`.
        samples: :math:`n`.
        step_size: :math:`\eta`.
        weight_step_size: :math:`\eta_B`.
        steps: :math:`T`.

    Returns:
        The bound.

    Raises:
        ValueError: fewer than one step or sample.
    """
    total = radius**2 / step_size + step_size * squares
    total = total + 2 * require_count("samples", samples) * math.log(2) / weight_step_size
    return (total + weight_step_size / 4 * differences) / require_count("steps", steps)


def _calls(calls: int) -> int:
    if calls not in (1, 2):
        raise ValueError(f"calls: expected 1 or 2, got {calls!r}")
    return calls
