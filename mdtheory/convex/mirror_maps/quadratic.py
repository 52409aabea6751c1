"""Mirror maps made from norms: Euclidean, Mahalanobis and p-norm."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_number,
    require_same_kind,
    require_tensor,
    require_values,
    values_known,
)
from mdtheory.convex.mirror_maps.base import MirrorMap, inner
from mdtheory.convex.mirror_maps.domains import Ball, Domain, euclidean_norm
from mdtheory.convex.mirror_maps.exact import (
    NEAR,
    differentiated,
    exp_excess,
    positive_power,
    power_parts,
    settled,
)


class Euclidean(MirrorMap):
    r""":math:`\psi(x) = \|x\|_2^2 / 2` on the whole space or on a closed convex domain.

    The mirror step is projected gradient descent.

    Args:
        domain: ``Ball``, ``Box``, ``Simplex`` or another ``Domain``; ``None`` is the whole space.

    Raises:
        TypeError: ``domain`` is no ``Domain``.
    """

    strong_convexity = 1.0

    def __init__(self, domain: Domain | None = None) -> None:
        self.domain = _require_domain(domain)
        self.carries_dual = domain is None

    def _parameters(self) -> str:
        return "" if self.domain is None else repr(self.domain)

    def _potential(self, x: Tensor) -> Tensor:
        return (x * x).sum(-1) / 2

    def _to_dual(self, x: Tensor) -> Tensor:
        return x

    def _to_primal(self, theta: Tensor) -> Tensor:
        return theta if self.domain is None else self.domain._project(theta)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        return ((x - y) ** 2).sum(-1) / 2


class Mahalanobis(MirrorMap):
    r""":math:`\psi(x) = x^\top A x / 2` on the whole space or on a ball.

    On the ball the dual of a point is found by the secular equation ``eq-secular``.

    Args:
        matrix: :math:`A`, symmetric and positive definite, shape ``(..., d, d)``; its leading axes
            broadcast with those of the points.
        domain: ``None`` or a ``Ball`` (of the Euclidean norm).

    Raises:
        TypeError: ``matrix`` is no floating-point tensor, or ``domain`` is no ``Ball``.
        ValueError: ``matrix`` is not square, not symmetric or not positive definite.
    """

    strong_convexity = 1.0

    def __init__(self, matrix: Tensor, domain: Ball | None = None) -> None:
        require_tensor("matrix", matrix, 2)
        require_values("matrix", matrix, matrix.isfinite(), "finite values")
        require_symmetric("matrix", matrix)
        if domain is not None and not isinstance(domain, Ball):
            raise TypeError(f"domain: expected None or a Ball, got {domain!r}")
        # What rounding left of asymmetry must not make the dual and the primal map differ.
        self.matrix = (matrix + matrix.mT) / 2
        self.domain = domain
        self.carries_dual = domain is None
        self._curvatures, self._axes = torch.linalg.eigh(self.matrix)
        require_values("matrix", matrix, self._curvatures > 0, "positive definite matrices")

    def norm(self, x: Tensor) -> Tensor:
        r"""Norm :math:`\sqrt{x^\top A x}`; see :meth:`MirrorMap.norm`."""
        self._check_fit("x", x)
        return euclidean_norm(self._curvatures.sqrt() * self._turn(x))

    def dual_norm(self, gradient: Tensor) -> Tensor:
        r"""Norm :math:`\sqrt{g^\top A^{-1} g}`; see :meth:`MirrorMap.dual_norm`."""
        self._check_fit("gradient", gradient)
        return euclidean_norm(self._turn(gradient) / self._curvatures.sqrt())

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is no point; see :meth:`MirrorMap.check_point`."""
        super().check_point(name, x, border=border)
        return self._check_fit(name, x)

    def check_dual(self, name: str, theta: Tensor) -> Tensor:
        """Refuse what is no dual; see :meth:`MirrorMap.check_dual`."""
        super().check_dual(name, theta)
        return self._check_fit(name, theta)

    def _check_fit(self, name: str, x: Tensor) -> Tensor:
        require_tensor(name, x)
        if x.shape[-1] != self.matrix.shape[-1]:
            raise ValueError(
                f"{name}: expected {self.matrix.shape[-1]} coordinates, got shape {tuple(x.shape)}"
            )
        require_same_kind(name, x, "matrix", self.matrix)
        require_broadcastable(name, x, "matrix", self.matrix[..., 0])
        return x

    def _parameters(self) -> str:
        shape = f"matrix{tuple(self.matrix.shape)}"
        return shape if self.domain is None else f"{shape}, {self.domain!r}"

    def _potential(self, x: Tensor) -> Tensor:
        return inner(x, self._to_dual(x)) / 2

    def _to_dual(self, x: Tensor) -> Tensor:
        return (self.matrix @ x[..., None])[..., 0]

    def _to_primal(self, theta: Tensor) -> Tensor:
        turned = self._turn(theta)
        if self.domain is None:
            return self._turn_back(turned / self._curvatures)
        assert isinstance(self.domain, Ball)  # by the constructor
        shift = secular_root(turned, self._curvatures, self.domain.radius)
        return self.domain._project(self._turn_back(turned / (self._curvatures + shift)))

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        return self._potential(x - y)

    def _turn(self, x: Tensor) -> Tensor:
        return (self._axes.mT @ x[..., None])[..., 0]

    def _turn_back(self, x: Tensor) -> Tensor:
        return (self._axes @ x[..., None])[..., 0]


class PNorm(MirrorMap):
    r""":math:`\psi(x) = \|x\|_p^2 / 2` on the whole space, :math:`1 < p \le 2`.

    Its dual map and its primal map are the same formula with :math:`p` and with the conjugate
    exponent :math:`q = p / (p - 1)`.

    Args:
        p: the exponent.

    Raises:
        TypeError: ``p`` is no number.
        ValueError: ``p`` lies outside (1, 2].
    """

    def __init__(self, p: float) -> None:
        self.p = require_number("p", p, 1.0, strict=True)
        if p > 2:
            raise ValueError(f"p: expected a number in (1, 2], got {p!r}")
        self.q = self.p / (self.p - 1)
        self.strong_convexity = self.p - 1

    def _parameters(self) -> str:
        return repr(self.p)

    def norm(self, x: Tensor) -> Tensor:
        r"""Norm :math:`\|x\|_p`; see :meth:`MirrorMap.norm`."""
        return _p_norm(require_tensor("x", x), self.p)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        r"""Norm :math:`\|g\|_q`; see :meth:`MirrorMap.dual_norm`."""
        return _p_norm(require_tensor("gradient", gradient), self.q)

    def _potential(self, x: Tensor) -> Tensor:
        return _p_norm(x, self.p) ** 2 / 2

    def _to_dual(self, x: Tensor) -> Tensor:
        return _p_norm_gradient(x, self.p)

    def _to_primal(self, theta: Tensor) -> Tensor:
        return _p_norm_gradient(theta, self.q)

    def _conjugate(self, theta: Tensor) -> Tensor:
        return _p_norm(theta, self.q) ** 2 / 2

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        start, end = self._potential(y), self._potential(x)
        plain = end - start - inner(self._to_dual(y), x - y)
        if differentiated(x, y) or settled(plain, end + start):
            return plain
        # For |y| = 1 and s = sum |x_i|^p it is what s / p exceeds its tangent at y by, and
        # (s^(2/p) - 1) / 2 - (s - 1) / p: neither is negative, so nothing cancels.
        x, y = torch.broadcast_tensors(x, y)
        p, size = self.p, _p_norm(y, self.p)
        size = torch.where(size == 0, 1.0, size)
        # A power of two, so that scaling rounds nothing away.
        unit = (size / size.frexp().mantissa)[..., None]
        x, y, whole = x / unit, y / unit, (size / unit[..., 0]) ** p
        own, other = x.abs(), y.abs()
        slope = other ** (p - 1)
        same = (x * y > 0) | (own == 0) | (other == 0)
        apart = own**p / p + other**p * (1 - 1 / p) + slope * own
        parts = torch.where(same, power_parts(own, other, p) * (1 - 1 / p), apart)
        rise = (parts + slope * y.sign() * (x - y)).sum(-1) / whole
        near = rise.abs() < NEAR
        log = torch.log1p(torch.where(near, p * rise, 0.0))
        curved = exp_excess(2 / p * log) / 2 - exp_excess(log) / p
        exact = size**2 * (parts.sum(-1) / whole + curved)
        return torch.where(near & (other > 0).any(-1), exact, plain)


def require_symmetric(name: str, matrix: Tensor) -> None:
    """Refuse matrices that differ from their transpose by more than rounding.

    Args:
        name: the argument's name, for the message.
        matrix: shape ``(..., d, d)``.

    Raises:
        ValueError: a matrix is not symmetric.
    """
    gap = (matrix - matrix.mT).abs().amax((-2, -1))
    allowed = torch.finfo(matrix.dtype).eps ** 0.5 * matrix.abs().amax((-2, -1))
    require_values(name, matrix, gap <= allowed, "symmetric matrices")


def secular_root(turned: Tensor, curvatures: Tensor, radius: float) -> Tensor:
    """The ``k >= 0`` with ``|turned / (curvatures + k)| = radius``, or 0 inside the ball.

    Equation ``eq-secular``. Newton's method on ``1 / radius - 1 / |x(k)|``, which is almost linear
    in ``k``; from ``k = 0`` it rises to the root.

    Args:
        turned: coordinates of the dual in the eigenbasis of the matrix, shape ``(..., d)``.
        curvatures: its eigenvalues, positive, a shape that broadcasts with ``turned``.
        radius: radius of the ball.

    Returns:
        The roots, shape ``(..., 1)``.
    """
    turned, curvatures = torch.broadcast_tensors(turned, curvatures)
    # In units in which the largest curvature and the largest coordinate are 1, nothing overflows.
    steepest = curvatures.amax(-1, keepdim=True)
    curvatures, turned = curvatures / steepest, turned / steepest
    scale = turned.abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    turned, radii = turned / scale, radius / scale
    shift = torch.zeros_like(scale)
    with torch.no_grad():
        for _ in range(100):
            step = _secular_step(turned, curvatures + shift, radii)
            step = torch.where(step > 0, step, 0.0)  # nothing inside the ball, nor at its centre
            # Below one rounding error of curvature + shift a step no longer moves the point.
            moved = step > 2 * torch.finfo(shift.dtype).eps * (curvatures + shift)
            shift = shift + step
            if values_known(shift) and not bool(moved.any()):
                break
    # At the root a Newton step moves nothing, and its derivative is that of the root.
    outside = shift > 0
    for _ in range(2 if differentiated(turned, curvatures) else 0):
        shift = torch.where(outside, shift + _secular_step(turned, curvatures + shift, radii), 0.0)
    return shift * steepest


def _secular_step(turned: Tensor, weights: Tensor, radii: Tensor) -> Tensor:
    """Newton's step, positive where the point lies outside the ball; none exists at the origin."""
    squares = (turned / weights).square()
    squared, slope = squares.sum(-1, keepdim=True), (squares / weights).sum(-1, keepdim=True)
    if not differentiated(squared, slope):
        return squared / slope * (squared.sqrt() - radii) / radii
    some = (squared > 0) & (slope > 0)
    squared, slope = torch.where(some, squared, 1.0), torch.where(some, slope, 1.0)
    return torch.where(some, squared / slope * (squared.sqrt() - radii) / radii, 0.0)


def _require_domain(domain: Domain | None) -> Domain | None:
    if domain is not None and not isinstance(domain, Domain):
        raise TypeError(f"domain: expected None or a Domain, got {type(domain).__name__}")
    return domain


def _p_norm(x: Tensor, p: float) -> Tensor:
    scale = _largest(x)
    return _length(x / scale, p)[..., 0] * scale[..., 0]


def _p_norm_gradient(x: Tensor, p: float) -> Tensor:
    """Gradient of ``|x|_p^2 / 2``, homogeneous of degree 1: computed on ``x`` over its largest."""
    if p == 2:
        return x
    scale = _largest(x)
    unit = x / scale
    length = _length(unit, p)
    # At the origin the length is 0 and so is the gradient.
    length = torch.where(length > 0, length, 1.0)
    return unit.sign() * positive_power(unit.abs(), p - 1) * length ** (2 - p) * scale


def _length(unit: Tensor, p: float) -> Tensor:
    """Norm ``(..., 1)`` of vectors of moderate size; its gradient is 0 at the origin."""
    return positive_power((unit.abs() ** p).sum(-1, keepdim=True), 1 / p)


def _largest(x: Tensor) -> Tensor:
    """A number to divide by; a constant, for what it divides is homogeneous."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    return torch.where(largest > 0, largest, 1.0)
