"""Spectral filters: which share of each singular direction an algorithm has fitted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_number, require_tensor, require_values, values_known

Scalar = float | Tensor


def gradient_descent_filter(
    singular_values: Tensor, step_size: Scalar, steps: Scalar
) -> Tensor:  # fmt: skip
    r"""The share of each direction that gradient descent has fitted: ``eq-descent-filter``.

    It keeps its relative precision where the share is far below the rounding of 1.

    Args:
        singular_values: :math:`s \ge 0`, shape ``(..., r)``, in any order.
        step_size: :math:`\eta \ge 0`, a number or a tensor that broadcasts to the batch ``(...)``.
        steps: :math:`t \ge 0`, likewise; infinite for the limit. Any number where
            :math:`\eta s^2 \le 1`, a whole one elsewhere.

    Returns:
        :math:`\phi_t(s) = 1 - (1 - \eta s^2)^t`, of the shape of ``singular_values``.

    Raises:
        TypeError: not a floating-point tensor, or not numbers.
        ValueError: a value out of range, a shape that does not broadcast, a step that is too long
            for a broken number of steps, or for a limit.
    """
    s = require_spectrum(singular_values)
    eta = per_batch("step_size", step_size, s)
    t = per_batch("steps", steps, s, infinite=True)
    reach = squared_reach(eta, s)
    t = t if isinstance(t, Tensor) else s.new_full((), t)
    long = reach > 1
    whole = t.isfinite() & (t == t.round())
    valid = ~long | whole | (t.isinf() & (reach < 2))
    require_values(
        "steps", reach, valid, "eta s^2 at most 1, or whole steps, or a limit with eta s^2 < 2"
    )
    # log1p and expm1 keep what 1 - (1 - x)^t would round away; 0 steps and x = 0 give 0.
    left = torch.special.xlog1py(t, -torch.where(long, 0, reach)).expm1().neg()
    left = torch.where((reach == 0) | (t == 0), 0, left)
    odd = torch.where(t.remainder(2) == 1, -1.0, 1.0).to(reach.dtype)
    turned = odd * torch.special.xlogy(t, torch.where(long, reach - 1, 1)).exp()
    return torch.where(long, torch.where(t.isinf(), 1.0, 1 - turned), left)


def ridge_filter(singular_values: Tensor, penalty: Scalar) -> Tensor:
    r"""The share of each direction that ridge regression fits: ``eq-ridge-filter``.

    Args:
        singular_values: :math:`s \ge 0`, shape ``(..., r)``.
        penalty: :math:`\lambda \ge 0`, the weight of half the squared norm, a number or a tensor
            that broadcasts to the batch ``(...)``.

    Returns:
        :math:`s^2 / (s^2 + \lambda)`, and 0 at :math:`s = 0`, of the shape of
        ``singular_values``.

    Raises:
        TypeError: not a floating-point tensor, or no number.
        ValueError: a value out of range, or a shape that does not broadcast.
    """
    s = require_spectrum(singular_values)
    weight = per_batch("penalty", penalty, s)
    # As a ratio of ratios, so that the square of a small value cannot vanish first.
    share = 1 / (1 + weight / s / s)
    return torch.where(s == 0, 0, share)


def heavy_ball_filter(
    singular_values: Tensor, step_size: Scalar, momentum: Scalar, steps: int | Tensor
) -> Tensor:
    r"""The share of each direction that the heavy ball has fitted: ``eq-heavy-ball``.

    In each direction share and velocity obey an affine recursion; ``steps`` of them are its power,
    found by repeated squaring.

    Args:
        singular_values: :math:`s \ge 0`, shape ``(..., r)``.
        step_size: :math:`\eta \ge 0`, a number or a tensor that broadcasts to the batch ``(...)``.
        momentum: :math:`m` in [0, 1), likewise.
        steps: whole numbers :math:`t \ge 0`, likewise.

    Returns:
        The shares, of the shape of ``singular_values``; they may exceed 1.

    Raises:
        TypeError: not a floating-point tensor, or not numbers.
        ValueError: a value out of range, or a shape that does not broadcast.

    Source:
        Polyak (1964).
    """
    s = require_spectrum(singular_values)
    eta, m = per_batch("step_size", step_size, s), per_batch("momentum", momentum, s)
    t = per_batch("steps", steps, s)
    t = t if isinstance(t, Tensor) else s.new_full((), t, dtype=torch.float64)
    require_values("steps", t, t == t.round(), "whole numbers")
    m = m if isinstance(m, Tensor) else s.new_full((), m)
    require_values("momentum", m, m < 1, "numbers in [0, 1)")
    pull, m = torch.broadcast_tensors(eta * s * s, m)
    # The map (share, velocity) -> (share, velocity) + change @ (share, velocity) + pull, less the
    # identity: what it changes may be far below the rounding of 1.
    change = torch.stack([torch.stack([-pull, m], -1), torch.stack([-pull, m - 1], -1)], -2)
    shift = torch.stack([pull, pull], -1)[..., None]
    done, reached = torch.zeros_like(change), torch.zeros_like(shift)
    rounds = int(t.max()).bit_length() if values_known(t) else 53
    left = t.to(torch.int64).expand(pull.shape)[..., None, None]
    for _ in range(rounds):
        odd = left % 2 == 1
        reached = torch.where(odd, reached + shift + change @ reached, reached)
        done = torch.where(odd, done + change + change @ done, done)
        shift = 2 * shift + change @ shift
        change = 2 * change + change @ change
        left = left // 2
    return reached[..., 0, 0]


def heavy_ball_tuning(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    r"""Step size and momentum that are best for the slowest direction: ``eq-heavy-ball-tuning``.

    Args:
        singular_values: shape ``(..., r)``; those that are 0 do not count.

    Returns:
        :math:`\eta = 4 / (s_1 + s_r)^2` and :math:`m = ((s_1 - s_r) / (s_1 + s_r))^2`, each of
        the batch's shape ``(...)``.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: a value below 0 or not finite, or no value above 0.

    Source:
        Polyak (1964).
    """
    s = require_spectrum(singular_values)
    largest = s.amax(-1)
    require_values("singular_values", largest, largest > 0, "a value above 0")
    least = torch.where(s > 0, s, torch.inf).amin(-1)
    return 4 / (largest + least).square(), ((largest - least) / (largest + least)).square()


def squared_reach(step_size: Scalar, singular_values: Tensor) -> Tensor:
    r""":math:`\eta s^2`, where what rounding alone carries past 1 counts as 1.

    Args:
        step_size: :math:`\eta`, a number or a tensor that broadcasts with the values.
        singular_values: :math:`s`.

    Returns:
        The products; :math:`1/s_1^2` times :math:`s_1^2` is 1.
    """
    reach = step_size * singular_values * singular_values
    slack = 1 + 8 * torch.finfo(reach.dtype).eps
    return torch.where((reach > 1) & (reach <= slack), 1, reach)


def require_spectrum(singular_values: Tensor) -> Tensor:
    """Singular values: a floating-point tensor ``(..., r)`` of finite values at least 0.

    Args:
        singular_values: what came.

    Returns:
        ``singular_values`` itself.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: no axis, a value below 0 or not finite.
    """
    s = require_tensor("singular_values", singular_values)
    require_values("singular_values", s, (s >= 0) & s.isfinite(), "finite values >= 0")
    return s


def per_batch(
    name: str, value: Scalar, spectrum: Tensor, *, infinite: bool = False
) -> Scalar:  # fmt: skip
    """A number at least 0, or a tensor of them that broadcasts to the batch, with an axis more.

    Args:
        name: the argument's name, for the message.
        value: what came.
        spectrum: shape ``(..., r)``; its leading axes are the batch.
        infinite: whether infinity is allowed.

    Returns:
        The number, or the tensor with a last axis of length 1.

    Raises:
        TypeError: neither a number nor a tensor.
        ValueError: a value out of range, or a shape that does not broadcast to the batch.
    """
    if not isinstance(value, Tensor):
        if infinite and value == math.inf:
            return math.inf
        return require_number(name, value, 0.0)
    batch = spectrum.shape[:-1]
    try:
        fits = torch.broadcast_shapes(value.shape, batch) == batch
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name}: expected a shape that broadcasts to the batch {tuple(batch)}, "
            f"got {tuple(value.shape)}"
        )
    valid = (value >= 0) & (value.isfinite() | infinite)
    require_values(name, value, valid, "numbers >= 0" if infinite else "finite numbers >= 0")
    return value.to(spectrum.dtype)[..., None]
