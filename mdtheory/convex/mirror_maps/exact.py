"""Functions of one number that lose no digits where they nearly vanish, with finite gradients.

Logarithms and powers have no derivative at 0; autograd would make a NaN of that as soon as it is
multiplied by 0. Here the number 0 is a constant: what a mask has put there gets the gradient 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch._C import _functorch

from mdtheory.checks import values_known

# Below it the series is exact to rounding; above it the difference has lost five bits at most.
NEAR = 1 / 16
# A sum that is at least this part of its terms has lost five bits at most.
KEPT = 1 / 32
SERIES = [1 / math.factorial(k) for k in range(9, 1, -1)]


def differentiated(*tensors: Tensor) -> bool:
    """Whether derivatives may be asked of what is computed from the tensors.

    Args:
        *tensors: tensors of any shape.

    Returns:
        True where autograd follows one of them, and inside every transform of ``torch.func``,
        whose outer levels a tensor does not show.
    """
    if not torch.is_grad_enabled():
        return False
    transformed = _functorch.peek_interpreter_stack() is not None
    return transformed or any(t.requires_grad for t in tensors)


def exp_excess(x: Tensor) -> Tensor:
    r"""What the exponential exceeds its tangent by, :math:`e^x - 1 - x`, exact also near 0.

    Args:
        x: any shape.

    Returns:
        Shape of ``x``, at least 0.
    """
    near = x.abs() < NEAR
    small = torch.where(near, x, 0.0)
    series = small * SERIES[0] + SERIES[1]
    for coefficient in SERIES[2:]:
        series = series * small + coefficient
    return torch.where(near, series * small * small, x.expm1() - x)


def settled(plain: Tensor, size: Tensor) -> bool:
    """Whether a sum is so much of what was added up that its plain formula is exact enough.

    Args:
        plain: sums, computed plainly.
        size: sums of the absolute values of all terms.

    Returns:
        True where every sum is at least ``KEPT`` of its terms; False where it cannot be known
        without waiting for a device, or where derivatives are asked, whose digits may be lost.
    """
    if plain.device.type != "cpu" or differentiated(plain) or not values_known(plain):
        return False
    return bool((plain >= KEPT * size).all())


def log_ratio(x: Tensor, y: Tensor, difference: Tensor | None = None) -> Tensor:
    r""":math:`\log(x / y)`, exact also where the two nearly agree.

    Args:
        x: numbers at least 0.
        y: numbers at least 0, of the same shape; nowhere both are 0.
        difference: :math:`x - y`, where the caller knows it better than from ``x`` and ``y``.

    Returns:
        Their shape; infinite where one of the two is 0.
    """
    near = (y > x / 2) & (x > y / 2)
    step = (x - y if difference is None else difference) / torch.where(near, y, 1.0)
    far = torch.where(near, 1.0, x).log() - torch.where(near, 1.0, y).log()
    return torch.where(near, torch.where(near, step, 0.0).log1p(), far)


def kl_parts(p: Tensor, q: Tensor, delta: Tensor) -> Tensor:
    r"""Parts :math:`p\delta - p + q` of a divergence, where :math:`\delta = \log(p / q)`.

    Args:
        p: numbers at least 0.
        q: numbers at least 0.
        delta: their logarithm's difference, finite wherever ``p`` is 0.

    Returns:
        Parts at least 0; infinite where ``delta`` is.
    """
    close = (delta.abs() < 1) & (p > 0)
    return torch.where(close, p * exp_excess(torch.where(close, -delta, 0.0)), p * delta - p + q)


def logarithm(x: Tensor) -> Tensor:
    """Natural logarithm, whose ``-inf`` at 0 is a constant.

    Args:
        x: numbers at least 0.

    Returns:
        Shape of ``x``.
    """
    if not differentiated(x):
        return x.log()
    zero = x == 0
    return torch.where(zero, -torch.inf, torch.where(zero, 1.0, x).log())


def x_log_x(x: Tensor) -> Tensor:
    r""":math:`x \log x`, which is 0 at 0.

    Args:
        x: numbers at least 0.

    Returns:
        Shape of ``x``.
    """
    if not differentiated(x):
        return torch.xlogy(x, x)
    return x * torch.where(x == 0, 1.0, x).log()


def positive_power(base: Tensor, power: float) -> Tensor:
    """``base ** power`` where the base is positive, 0 elsewhere.

    Args:
        base: any numbers.
        power: the exponent.

    Returns:
        Shape of ``base``.
    """
    if power > 0 and not differentiated(base):
        return base.clamp(min=0) ** power
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, 1.0) ** power, 0.0)


def power_parts(x: Tensor, y: Tensor, q: float) -> Tensor:
    r"""Parts :math:`[x^q - y^q - q y^{q-1}(x - y)]/(q-1)`, exact near order 1 and for near ``x``.

    With :math:`a = q - 1`, :math:`\delta = \log(x/y)` and :math:`h(z) = e^z - 1 - z` they are
    :math:`x y^a[h(-\delta) + h(a\delta)/a]`, and also
    :math:`\frac{q}{1-q} y^q [h(\delta) - h(q\delta)/q]`, where nothing cancels for small orders.

    Args:
        x: numbers at least 0.
        y: numbers at least 0, positive where the order is at most 1.
        q: the order, not 1.

    Returns:
        Parts at least 0, of the shape that both broadcast to.
    """
    x, y = torch.broadcast_tensors(x, y)
    a = q - 1
    nothing = (x <= 0) & (y <= 0)
    x, y = torch.where(nothing, 1.0, x), torch.where(nothing, 1.0, y)
    present = (x > 0) & (y > 0)
    some_x, some_y = torch.where(present, x, 1.0), torch.where(present, y, 1.0)
    ratio = log_ratio(some_x, some_y)
    near = ratio.abs() < 1
    small = torch.where(near, ratio, 0.0)
    if q >= 0.5:
        close = some_x * some_y**a * (exp_excess(-small) + exp_excess(a * small) / a)
    else:
        close = q / (1 - q) * some_y**q * (exp_excess(small) - exp_excess(q * small) / q)
    x_power = x**q if q > 1 else positive_power(x, q)
    far = x_power / a + y**a * (y - q / a * x)
    # Powers that are nearly equal although the numbers are not.
    if q < 0.5:
        mild = present & ((q * ratio).abs() < 1)
        power = exp_excess(torch.where(mild, q * ratio, 0.0)) / q
        part = some_x * some_y**a - some_y**q * (1 + ratio + power)
        far = torch.where(mild, q / (1 - q) * part, far)
    elif q < 2:
        mild = present & ((a * ratio).abs() < 1)
        power = torch.expm1(torch.where(mild, a * ratio, 0.0)) / a
        far = torch.where(mild, some_y**a * (some_x * power - (some_x - some_y)), far)
    return torch.where(present & near, close, far)
