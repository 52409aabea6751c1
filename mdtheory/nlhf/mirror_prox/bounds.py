"""Right-hand sides of the statements about Nash mirror prox."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_scale,
    require_tensor,
    require_values,
)

Scalar = float | Tensor


def largest_step(temperature: Scalar) -> Scalar:
    r"""The largest step of theorem ``thm-nash-mirror-prox``, equation ``eq-largest-step``.

    Args:
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.

    Returns:
        :math:`2(\tau + \sqrt{1 + \tau^2})`, at least 2, of the same kind.

    Raises:
        TypeError: not a number or a floating-point tensor.
        ValueError: a temperature below 0 or not finite.
    """
    tau = _at_least("temperature", temperature, strict=False)
    if isinstance(tau, Tensor):
        return 2 * (tau + tau.hypot(torch.ones_like(tau)))
    return 2 * (tau + math.hypot(1, tau))


def start_distance(temperature: Scalar) -> Scalar:
    r"""How far the reference can be from the equilibrium, corollary ``cor-mirror-prox-start``.

    Args:
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.

    Returns:
        :math:`\min(1/(2\tau), 1/(8\tau^2))`, of the same kind.

    Raises:
        TypeError: not a number or a floating-point tensor.
        ValueError: a temperature that is not above 0 or not finite.
    """
    tau = _at_least("temperature", temperature)
    if isinstance(tau, Tensor):
        return torch.minimum(0.5 / tau, 0.125 / tau / tau)
    # The first is the smaller one up to 1/4, where the second may overflow.
    return 0.5 / tau if tau <= 0.25 else 0.125 / tau / tau


def kl_rate(start: Tensor, temperature: Scalar, step_size: Scalar, iterations: int) -> Tensor:
    r"""The bound of theorem ``thm-nash-mirror-prox`` at every iteration.

    Args:
        start: :math:`\mathrm{KL}(\pi^*\|\pi_0)`, of the batch's shape.
        temperature: :math:`\tau`, a number or a tensor of the batch's shape.
        step_size: :math:`\gamma`, likewise.
        iterations: :math:`K`.

    Returns:
        :math:`(1 + \gamma\tau)^{-k}\,\mathrm{KL}(\pi^*\|\pi_0)` for ``k = 0, ..., K`` along a new
        first axis.
    """
    start, tau, gamma = _aligned(start, temperature, step_size, strict=False)
    return start * (1 / (1 + gamma * tau)) ** _times(start, iterations)


def span_rate(
    start: Tensor, start_span: Tensor, temperature: Scalar, step_size: Scalar, iterations: int
) -> Tensor:
    r"""The bound of proposition ``prop-mirror-prox-span`` at every iteration.

    Args:
        start: :math:`\mathrm{KL}(\pi^*\|\pi_0)`, of the batch's shape.
        start_span: :math:`\mathrm{span}(\log\pi_0 - \log\pi^*)`, likewise.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.
        step_size: :math:`\gamma`, likewise.
        iterations: :math:`K`.

    Returns:
        The bounds for ``k = 0, ..., K`` along a new first axis.
    """
    start, tau, gamma = _aligned(start, temperature, step_size)
    require_broadcastable("start_span", start_span, "start", start)
    require_values("start_span", start_span, start_span >= 0, "spans >= 0")
    kept, times = 1 / (1 + gamma * tau), _times(start, iterations)
    # sqrt(r) / (1 - sqrt(r)), written so that it keeps its digits where r is close to 1.
    small = 1 / gamma / tau
    sum_of_powers = small + (small * small + small) ** 0.5
    grown = (2 * start * gamma / tau) ** 0.5
    return kept**times * start_span + grown * kept ** (times / 2) * sum_of_powers


def exploitability_rate(
    start: Tensor, temperature: Scalar, step_size: Scalar, iterations: int
) -> Tensor:
    r"""The bound of proposition ``prop-mirror-prox-exploitability`` for the half steps.

    Args:
        start: :math:`\mathrm{KL}(\pi^*\|\pi_0)`, of the batch's shape.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.
        step_size: :math:`\gamma`, likewise.
        iterations: :math:`K`.

    Returns:
        :math:`\frac1\gamma(1 + \frac{1}{4\tau^2})(1 + \gamma\tau)^{-k}\,
        \mathrm{KL}(\pi^*\|\pi_0)` for ``k = 0, ..., K`` along a new first axis.
    """
    start, tau, gamma = _aligned(start, temperature, step_size)
    factor = (1 + 0.25 / tau / tau) / gamma
    return factor * kl_rate(start, tau, gamma, iterations)


def inexact_rate(
    start: Tensor, error: Scalar, temperature: Scalar, step_size: Scalar, iterations: int
) -> Tensor:
    r"""The bound of theorem ``thm-mirror-prox-inexact`` at every iteration.

    Args:
        start: :math:`\mathrm{KL}(\pi^*\|\pi_0)`, of the batch's shape.
        error: :math:`\epsilon`, the largest span of an error of the payoffs.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.
        step_size: :math:`\gamma \le 2`, likewise.
        iterations: :math:`K`.

    Returns:
        The bounds for ``k = 0, ..., K`` along a new first axis.
    """
    start, tau, gamma = _aligned(start, temperature, step_size)
    kept = (1 / (1 + gamma * tau)) ** _times(start, iterations)
    return kept * start + (1 - kept) * noise_floor(error, tau)


def noise_floor(error: Scalar, temperature: Scalar) -> Scalar:
    r"""Where errors of the payoffs stop the iteration, equation ``eq-noise-floor``.

    Args:
        error: :math:`\epsilon \ge 0`, the largest span of an error.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.

    Returns:
        :math:`5\epsilon^2/(8\tau^2)`, of the same kind.

    Raises:
        TypeError: not numbers or floating-point tensors.
        ValueError: an error below 0, or a temperature that is not above 0.
    """
    size = _at_least("error", error, strict=False)
    ratio = size / _at_least("temperature", temperature)
    return 0.625 * ratio * ratio


def single_call_rate(
    start: Tensor, temperature: Scalar, step_size: Scalar, iterations: int
) -> Tensor:
    r"""The bound of theorem ``thm-preference-mmd`` at every step.

    Args:
        start: :math:`\mathrm{KL}(\pi^*\|\pi_0)`, of the batch's shape.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.
        step_size: :math:`\gamma \le 4\tau`, likewise.
        iterations: :math:`K`.

    Returns:
        :math:`(1 + \gamma\tau)^{-k}\,\mathrm{KL}(\pi^*\|\pi_0)` for ``k = 0, ..., K`` along a new
        first axis: the factor is that of :func:`kl_rate`, the range of steps is not.
    """
    return kl_rate(start, temperature, step_size, iterations)


def cycle_modulus(temperature: Scalar, step_size: Scalar, calls: int) -> Scalar:
    r"""The factor of a step near the equilibrium of a fair cycle, ``prop-cycle-single-call``.

    Args:
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.
        step_size: :math:`\gamma > 0`, likewise.
        calls: 1 for magnetic mirror descent, 2 for Nash mirror prox.

    Returns:
        The modulus of the two eigenvalues; the step contracts where it is below 1.

    Raises:
        TypeError: ``calls`` is no whole number.
        ValueError: ``calls`` is neither 1 nor 2, or a number is out of range.
    """
    tau = _at_least("temperature", temperature, strict=False)
    gamma = _at_least("step_size", step_size)
    if require_count("calls", calls) > 2:
        raise ValueError(f"calls: expected 1 or 2, got {calls}")
    shrunk = 1 + gamma * tau
    turned = gamma / 12**0.5
    if calls == 1:
        return _length(1 / shrunk, turned / shrunk)
    share = turned / shrunk
    return _length(1 - share * turned, share) / shrunk


def _aligned(
    start: Tensor, temperature: Scalar, step_size: Scalar, *, strict: bool = True
) -> tuple[Tensor, Scalar, Scalar]:
    """Check them, and give ``start`` the shape of all three, so that a new axis stays apart."""
    tau = _at_least("temperature", temperature, strict=strict)
    gamma = _at_least("step_size", step_size)
    require_tensor("start", start, 0)
    require_values("start", start, (start >= 0) & start.isfinite(), "finite distances >= 0")
    shapes = [value.shape for value in (tau, gamma) if isinstance(value, Tensor)]
    try:
        shape = torch.broadcast_shapes(start.shape, *shapes)
    except RuntimeError:
        came = ", ".join(str(tuple(one)) for one in (start.shape, *shapes))
        raise ValueError(
            f"start, temperature, step_size: expected shapes that broadcast, got {came}"
        ) from None
    return start.expand(shape), tau, gamma


def _times(start: Tensor, iterations: int) -> Tensor:
    count = require_count("iterations", iterations, 0)
    times = torch.arange(count + 1, dtype=start.dtype, device=start.device)
    return times.reshape(-1, *(1,) * start.ndim)


def _length(first: Scalar, second: Scalar) -> Scalar:
    """The root of the sum of both squares, none of which is formed."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.hypot(second)
    return math.hypot(float(first), float(second))


def _at_least(name: str, value: Scalar, *, strict: bool = True) -> Scalar:
    like = require_tensor(name, value, 0) if isinstance(value, Tensor) else torch.empty(())
    return require_scale(name, value, like, strict=strict)
