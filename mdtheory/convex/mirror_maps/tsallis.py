"""Mirror maps on the simplex whose primal map needs a root: log-barrier and Tsallis."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_number, require_simplex, require_tensor, values_known
from mdtheory.convex.mirror_maps.base import MirrorMap
from mdtheory.convex.mirror_maps.domains import Simplex, euclidean_norm


class Tsallis(MirrorMap):
    r"""Tsallis potential :math:`\psi(x) = (\sum_i x_i^q - 1) / (q - 1)` on the simplex.

    Steep at the border for :math:`q < 1`; for :math:`q > 1` its points may have zeros, and the
    dual must be re-anchored after each step. At :math:`q = 2` the primal map is the Euclidean
    projection; as :math:`q \to 1` the map tends to :class:`Entropy`.

    Args:
        q: the order, above 0 and not 1.

    Raises:
        TypeError: ``q`` is no number.
        ValueError: ``q`` is not above 0, or 1.
    """

    domain = Simplex()

    def __init__(self, q: float) -> None:
        self.q = require_number("q", q, 0.0, strict=True)
        if q == 1:
            raise ValueError("q: expected a number other than 1, whose limit is Entropy(), got 1")
        # The Hessian q x^(q-2) is at least q on the simplex up to q = 2; beyond, it vanishes at 0.
        self.strong_convexity = self.q if q <= 2 else 0.0
        self.carries_dual = self.q < 1

    def norm(self, x: Tensor) -> Tensor:
        r"""Norm :math:`\|x\|_2`; see :meth:`MirrorMap.norm`."""
        return euclidean_norm(x)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        r"""Norm :math:`\|g\|_2`; see :meth:`MirrorMap.dual_norm`."""
        return euclidean_norm(gradient)

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is no probability vector, or one with zeros that has no dual."""
        require_tensor(name, x)
        require_simplex(name, x, positive=self.carries_dual and not border)
        return x

    def _potential(self, x: Tensor) -> Tensor:
        return ((x**self.q).sum(-1) - 1) / (self.q - 1)

    def _to_dual(self, x: Tensor) -> Tensor:
        return self.q / (self.q - 1) * x ** (self.q - 1)

    def _to_primal(self, theta: Tensor) -> Tensor:
        gaps = theta.amax(-1, keepdim=True) - theta
        return _power_weights(abs(self.q - 1) / self.q * gaps, self.q)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        terms = (x**self.q - y**self.q) / (self.q - 1) - self._to_dual(y) * (x - y)
        return terms.sum(-1)


class LogBarrier(MirrorMap):
    r"""Log-barrier :math:`\psi(x) = -\sum_i \log x_i` on the simplex, also called Burg entropy.

    The divergence is Itakura and Saito's; it is infinite at the border, so a comparator at a
    corner must be moved inside first.
    """

    domain = Simplex()
    strong_convexity = 1.0

    def norm(self, x: Tensor) -> Tensor:
        r"""Norm :math:`\|x\|_2`; see :meth:`MirrorMap.norm`."""
        return euclidean_norm(x)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        r"""Norm :math:`\|g\|_2`; see :meth:`MirrorMap.dual_norm`."""
        return euclidean_norm(gradient)

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is no probability vector, or one with zeros that has no dual."""
        require_tensor(name, x)
        require_simplex(name, x, positive=not border)
        return x

    def _potential(self, x: Tensor) -> Tensor:
        return -x.log().sum(-1)

    def _to_dual(self, x: Tensor) -> Tensor:
        return -1 / x

    def _to_primal(self, theta: Tensor) -> Tensor:
        return _power_weights(theta.amax(-1, keepdim=True) - theta, 0.0)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        return (y.log() - x.log() + (x - y) / y).sum(-1)


def _power_weights(gaps: Tensor, q: float) -> Tensor:
    r"""The point :math:`x_i = [1 \pm (h_i + v)]_+^{1/(q-1)}` with the ``v`` that sums it to 1.

    Equation ``eq-normalising-shift``: plus and ``h`` the gaps for ``q < 1`` (the log-barrier is
    ``q = 0``), minus for ``q > 1``. Newton's method on the power mean of the bracket, which is
    concave for ``q < 1`` and convex for ``1 < q <= 2``, rises from ``v = 0`` to the root.

    Args:
        gaps: scaled distances of the dual entries from the largest, at least 0, ``(..., d)``.
        q: the order, at least 0 and not 1.
    """
    if q > 2:
        return _power_weights_by_bisection(gaps, q)
    sign, power = (1.0 if q < 1 else -1.0), 1 / (q - 1)
    shift = torch.zeros_like(gaps[..., :1])
    for _ in range(200):
        terms, slopes = _powers(gaps + shift, sign, power), _powers(gaps + shift, sign, power - 1)
        total = terms.sum(-1, keepdim=True)
        step = sign * total * torch.expm1((1 - q) * total.log()) / slopes.sum(-1, keepdim=True)
        if values_known(gaps):
            # At the root the step is rounding noise of either sign; beyond it, too.
            moved = step > 4 * torch.finfo(gaps.dtype).eps * (shift + abs(1 - q))
            if not bool(moved.any()):
                break
            step = torch.where(moved, step, torch.zeros_like(step))
        shift = shift + step
    return _powers(gaps + shift, sign, power)


def _power_weights_by_bisection(gaps: Tensor, q: float) -> Tensor:
    """The same root for ``q > 2``, where the power mean is not convex."""
    power = 1 / (q - 1)
    low = torch.zeros_like(gaps[..., :1])
    high = torch.full_like(low, -math.expm1((1 - q) * math.log(gaps.shape[-1])))
    for _ in range(torch.finfo(gaps.dtype).bits):
        middle = (low + high) / 2
        above = _powers(gaps + middle, -1.0, power).sum(-1, keepdim=True) >= 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return _powers(gaps + low, -1.0, power)


def _powers(shifted: Tensor, sign: float, power: float) -> Tensor:
    """``[1 + sign * shifted]_+ ** power`` by logarithms: the base is near 1, the power large."""
    inside = sign * shifted > -1
    base = torch.where(inside, sign * shifted, torch.zeros_like(shifted))
    return torch.where(inside, torch.exp(power * torch.log1p(base)), torch.zeros_like(shifted))
