"""Mirror maps on the simplex whose primal map needs a root, and the divergence of an order."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.checks import (
    require_number,
    require_simplex,
    require_tensor,
    require_values,
    sum_tolerance,
    values_known,
)
from mdtheory.convex.mirror_maps.base import MirrorMap
from mdtheory.convex.mirror_maps.domains import Simplex
from mdtheory.convex.mirror_maps.entropies import Entropy
from mdtheory.convex.mirror_maps.exact import (
    differentiated,
    exp_excess,
    log_ratio,
    positive_power,
    power_parts,
    settled,
)

# Orders this near to 1 are computed as perturbations of the entropy.
CLOSE = 0.01


class _RootedMap(MirrorMap):
    """What the two maps share: the simplex, where a steep potential has no dual at a zero."""

    domain = Simplex()

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is no probability vector, or one with zeros that has no dual."""
        require_tensor(name, x)
        require_simplex(name, x, positive=self.carries_dual and not border)
        return x


class Tsallis(_RootedMap):
    r"""Tsallis potential :math:`\psi(x) = (\sum_i x_i^q - 1) / (q - 1)` on the simplex.

    Steep at the border for :math:`q < 1`; for :math:`q > 1` its points may have zeros, and the
    dual must be re-anchored after each step. At :math:`q = 2` the primal map is the Euclidean
    projection; as :math:`q \to 1` the map tends to :class:`Entropy`. A probability that a huge
    step has made too small for its type has no dual for :math:`q < 1`: carry the dual instead of
    the point over such steps.

    Args:
        q: the order, above 0 and not 1.

    Raises:
        TypeError: ``q`` is no number.
        ValueError: ``q`` is not above 0, or 1.
    """

    def __init__(self, q: float) -> None:
        self.q = require_number("q", q, 0.0, strict=True)
        if q == 1:
            raise ValueError("q: expected a number other than 1, whose limit is Entropy(), got 1")
        # The Hessian q x^(q-2) is at least q on the simplex up to q = 2; beyond, it vanishes at 0.
        self.strong_convexity = self.q if q <= 2 else 0.0
        self.carries_dual = self.q < 1

    def _parameters(self) -> str:
        return repr(self.q)

    def _potential(self, x: Tensor) -> Tensor:
        a = self.q - 1
        if abs(a) >= CLOSE:
            power = x**self.q if self.q > 1 else positive_power(x, self.q)
            return (power.sum(-1) - 1) / a
        # What rounding left of the sum of x must not be divided by q - 1; its slope belongs there.
        total = x.sum(-1)
        return self._centred(x) + (total - total.detach()) / a

    def _to_dual(self, x: Tensor) -> Tensor:
        a = self.q - 1
        return self.q / a * (x**a if a >= 1 else positive_power(x, a))

    def _step_dual(self, x: Tensor) -> Tensor:
        if abs(self.q - 1) >= CLOSE:
            return self._to_dual(x)
        return self.q * _log_q(x, self.q)

    def _to_primal(self, theta: Tensor) -> Tensor:
        if self.q == 2:
            return self.domain._project(theta / 2)
        gaps = abs(self.q - 1) / self.q * (theta.amax(-1, keepdim=True) - theta)
        return _steep_weights(gaps, self.q) if self.q < 1 else _sparse_weights(gaps, self.q)

    def _conjugate(self, theta: Tensor) -> Tensor:
        if abs(self.q - 1) >= CLOSE:
            return super()._conjugate(theta)
        point = self._to_primal(theta)
        return (theta * point).sum(-1) - self._centred(point)

    def _centred(self, x: Tensor) -> Tensor:
        """The potential where the sum of ``x`` is 1, without a division of its rounding."""
        return (x * _log_q(x, self.q)).sum(-1)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        if not differentiated(x, y) and abs(self.q - 1) >= CLOSE:
            left, right, slope = x**self.q, y**self.q, self.q * y ** (self.q - 1)
            plain = (left - right - slope * (x - y)).sum(-1) / (self.q - 1)
            size = (left + right + slope * (x + y)).sum(-1) / abs(self.q - 1)
            if settled(plain, size):
                return plain
        return power_parts(x, y, self.q).sum(-1)


class LogBarrier(_RootedMap):
    r"""Log-barrier :math:`\psi(x) = -\sum_i \log x_i` on the simplex, also called Burg entropy.

    The divergence is Itakura and Saito's; it is infinite at the border, so a comparator at a
    corner must be moved inside first.
    """

    strong_convexity = 1.0

    def _potential(self, x: Tensor) -> Tensor:
        return -x.log().sum(-1)

    def _to_dual(self, x: Tensor) -> Tensor:
        return -1 / x

    def _to_primal(self, theta: Tensor) -> Tensor:
        return _steep_weights(theta.amax(-1, keepdim=True) - theta, 0.0)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        if not differentiated(x, y):
            left, right, share = x.log(), y.log(), x / y
            plain = (right - left + share - 1).sum(-1)
            if settled(plain, left.abs().sum(-1) + right.abs().sum(-1) + share.sum(-1)):
                return plain
        x, y = torch.broadcast_tensors(x, y)
        ratio = log_ratio(x, y)
        near = ratio.abs() < 1
        small = exp_excess(torch.where(near, ratio, 0.0))
        return torch.where(near, small, (x - y) / y - ratio).sum(-1)


def tsallis_divergence(new: Tensor, old: Tensor, order: float = 1.0) -> Tensor:
    r"""Bregman divergence of the negative Tsallis entropy from ``old`` to ``new``.

    Equation ``eq-tsallis-divergence``:
    :math:`B_q(x, y) = \mathbb{E}_{x}[\log_q x - q \log_q y] + \sum_i y_i^q - 1`.
    Order 1 is :math:`\mathrm{KL}(x \| y)`, order 2 the squared Euclidean distance. It is the
    ``divergence`` of the book's mirror maps ``Entropy`` and ``Tsallis``.

    Args:
        new: probabilities, the first slot, shape ``(..., actions)``.
        old: probabilities, the second slot, same shape.
        order: :math:`q > 0`.

    Returns:
        Divergences, shape ``(...)``.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: no probabilities, a shape that does not fit, or an order that is not positive.

    Source:
        Tomar, Shani, Efroni and Ghavamzadeh (2022), appendix on Tsallis entropy; the constant
        and the factor q are derived in the chapter.
    """
    return bregman_map(order).divergence(new, old)


def bregman_map(order: float) -> MirrorMap:
    """Mirror map of the simplex of this order: ``Entropy`` at 1, else ``Tsallis``.

    Args:
        order: :math:`q > 0`.

    Returns:
        The map.

    Raises:
        TypeError: the order is no number.
        ValueError: the order is not positive.
    """
    # The branch is taken in Python: at q = 1 a tensor's `where` would still differentiate 0 / 0.
    return Entropy() if require_number("order", order, 0.0, strict=True) == 1 else Tsallis(order)


def log_q(value: Tensor, order: float) -> Tensor:
    r"""Tsallis logarithm :math:`\log_q x = (x^{q-1} - 1) / (q - 1)`; order 1 is the natural one.

    Args:
        value: positive numbers (zeros are allowed where :math:`q > 1`), any shape.
        order: :math:`q > 0`.

    Returns:
        The logarithm, same shape.

    Raises:
        TypeError: the value is no floating-point tensor, or the order no number.
        ValueError: the order is not positive, or a value out of range.
    """
    require_tensor("value", value, 0)
    q = require_number("order", order, 0.0, strict=True)
    if q > 1:
        require_values("value", value, value >= 0, "numbers >= 0")
    else:
        require_values("value", value, value > 0, "numbers > 0")
    return _log_q(value, q)


def log_q_of_log(log_value: Tensor, order: float) -> Tensor:
    r"""Tsallis logarithm of :math:`e^\ell`, exact near order 1 and for tiny probabilities.

    Args:
        log_value: natural logarithms :math:`\ell`, any shape.
        order: :math:`q > 0`.

    Returns:
        The logarithm, same shape.
    """
    if order == 1:
        return log_value
    return torch.expm1((order - 1) * log_value) / (order - 1)


def _log_q(x: Tensor, q: float) -> Tensor:
    """``log_q`` of numbers, with the one-sided derivative of its limit at 0 where there is one."""
    positive = x > 0
    inside = log_q_of_log(torch.where(positive, x, 1.0).log(), q)
    if q <= 1:
        return torch.where(positive, inside, 0.0 if q < 1 else -torch.inf)
    zero = torch.where(positive, 0.0, x) if q >= 2 else torch.zeros_like(x)
    return torch.where(positive, inside, (zero ** (q - 1) - 1) / (q - 1))


def _steep_weights(gaps: Tensor, q: float) -> Tensor:
    r"""The point :math:`x_i = (1 + h_i + \nu)^{1/(q-1)}` with the ``nu`` that sums it to 1, q < 1.

    Equation ``eq-normalising-shift``; the log-barrier is ``q = 0``. Newton's method on the power
    mean of the bracket, which is concave, rises from ``nu = 0`` to the root.

    Args:
        gaps: scaled distances of the dual entries from the largest, at least 0, ``(..., d)``.
        q: the order, at least 0 and below 1.
    """
    power = 1 / (q - 1)

    def rise(shift: Tensor) -> Tensor:
        # By log1p: the bracket is near 1 and the power large where q is near 1.
        logs = torch.log1p(gaps + shift)
        total = (power * logs).exp().sum(-1, keepdim=True)
        slope = ((power - 1) * logs).exp().sum(-1, keepdim=True)
        return total * torch.expm1((1 - q) * total.log()) / slope

    shift = _root(rise, gaps, 1 - q)
    return (power * torch.log1p(gaps + shift)).exp()


def _sparse_weights(gaps: Tensor, q: float) -> Tensor:
    r"""The point :math:`x_i = [1 - h_i - \nu]_+^{1/(q-1)}` with the ``nu`` that sums it to 1.

    Equation ``eq-normalising-shift``. For ``q < 2`` Newton's method on the norm of the bracket,
    which is convex, rises from ``nu = 0`` to the root; for ``q > 2`` the logarithm of
    :math:`1 - \nu` is bisected.

    Args:
        gaps: scaled distances of the dual entries from the largest, at least 0, ``(..., d)``.
        q: the order, above 1.

    Raises:
        ValueError: entries that decide the point are closer than rounding can tell.
    """
    power = 1 / (q - 1)
    if q < 2:

        def rise(shift: Tensor) -> Tensor:
            total = _bracket(gaps + shift, power).sum(-1, keepdim=True)
            slope = _bracket(gaps + shift, power - 1).sum(-1, keepdim=True)
            return -total * torch.expm1((1 - q) * total.log()) / slope

        point = _bracket(gaps + _root(rise, gaps, q - 1), power)
    else:
        level = torch.ones_like(gaps[..., :1])
        with torch.no_grad():
            low, high = level * ((1 - q) * math.log(gaps.shape[-1])), torch.zeros_like(level)
            for _ in range(torch.finfo(gaps.dtype).bits):
                middle = (low + high) / 2
                sums = positive_power(middle.exp() - gaps, power).sum(-1, keepdim=True)
                above = sums >= 1
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            level = high.exp()
        # Newton steps, through which gradients go, as in `_root`.
        for _ in range(2 if differentiated(gaps) else 1):
            total = positive_power(level - gaps, power).sum(-1, keepdim=True)
            slope = positive_power(level - gaps, power - 1).sum(-1, keepdim=True)
            level = level - (total - 1) / (power * slope)
        point = positive_power(level - gaps, power)
    off = (point.sum(-1) - 1).abs()
    require_values(
        "theta", off, off <= sum_tolerance(point), "a dual whose point rounding does not hide"
    )
    return point


def _root(rise: Callable[[Tensor], Tensor], gaps: Tensor, unit: float) -> Tensor:
    """Where Newton's method rises from 0 to, in every row ``(..., 1)``, with its derivatives.

    Args:
        rise: the Newton step from a shift.
        gaps: what the root depends on.
        unit: the size of a shift below which it moves nothing, relative to rounding.
    """
    shift = torch.zeros_like(gaps[..., :1])
    with torch.no_grad():
        for _ in range(200):
            step = rise(shift)
            if values_known(gaps):
                # At the root the step is rounding noise of either sign.
                moved = step > 4 * torch.finfo(gaps.dtype).eps * (shift + unit)
                if not bool(moved.any()):
                    break
                step = torch.where(moved, step, 0.0)
            shift = shift + step
    # At the root a Newton step moves nothing, and its derivative is that of the root; that of two
    # steps is right to the third order.
    for _ in range(2 if differentiated(gaps) else 0):
        shift = shift + rise(shift)
    return shift


def _bracket(fall: Tensor, power: float) -> Tensor:
    """``[1 - fall]_+ ** power``, exact where ``fall`` is small and the power large."""
    if power < 1 / CLOSE:
        return positive_power(1 - fall, power)
    inside = fall < 1
    return torch.where(inside, (power * torch.log1p(-torch.where(inside, fall, 0.0))).exp(), 0.0)
