"""Closed convex sets with their Euclidean projections."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_finite,
    require_number,
    require_same_kind,
    require_simplex,
    require_tensor,
    require_values,
    values_known,
)

# The simplex projection takes about this many numbers at a time, so that the passes of its Newton
# iteration stay in a core's cache.
CHUNK = 256 * 1024
# Long rows begin with the largest entries of this many parts.
GROUP = 16


class Domain(ABC):
    """A closed convex set of vectors."""

    def project(self, x: Tensor) -> Tensor:
        """Nearest point of the set in the Euclidean norm.

        Args:
            x: vectors, shape ``(..., d)``.

        Returns:
            Points of the set, shape ``(..., d)``.

        Raises:
            TypeError: ``x`` is no floating-point tensor.
            ValueError: ``x`` has a wrong shape, a NaN or an infinity.
        """
        require_tensor("x", x)
        require_finite("x", x)
        return self._project(x)

    def minimize_linear(self, gradient: Tensor) -> Tensor:
        r"""A point of the set at which :math:`\langle g, u\rangle` is smallest.

        Args:
            gradient: vectors :math:`g`, shape ``(..., d)``.

        Returns:
            Points of the set, shape ``(..., d)``.

        Raises:
            TypeError: ``gradient`` is no floating-point tensor.
            ValueError: ``gradient`` has a wrong shape, a NaN or an infinity.
        """
        require_tensor("gradient", gradient)
        require_finite("gradient", gradient)
        return self._minimize_linear(gradient)

    def contains(self, x: Tensor) -> Tensor:
        """Whether points lie in the set, up to rounding.

        Args:
            x: vectors, shape ``(..., d)``.

        Returns:
            Truth values, shape ``(...)``; false for a NaN.

        Raises:
            TypeError: ``x`` is no floating-point tensor.
            ValueError: ``x`` has a wrong shape.
        """
        return self._contains(require_tensor("x", x))

    def check(self, name: str, x: Tensor) -> None:
        """Refuse points outside the set.

        Args:
            name: the argument's name, for the message.
            x: vectors, shape ``(..., d)``.

        Raises:
            ValueError: a point lies outside the set by more than rounding.
        """
        require_values(name, x, self._contains(x), f"points of {self!r}")

    @abstractmethod
    def diameter(self, dimension: int) -> float:
        """Largest Euclidean distance of two points of the set.

        Args:
            dimension: ``d``.
        """

    @abstractmethod
    def _project(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _minimize_linear(self, gradient: Tensor) -> Tensor: ...

    @abstractmethod
    def _contains(self, x: Tensor) -> Tensor: ...


class Ball(Domain):
    """The Euclidean ball around the origin.

    Args:
        radius: its radius, a number above 0.

    Raises:
        TypeError: ``radius`` is no number.
        ValueError: ``radius`` is not finite or not above 0.
    """

    def __init__(self, radius: float) -> None:
        self.radius = require_number("radius", radius, 0.0, strict=True)

    def __repr__(self) -> str:
        return f"Ball({self.radius!r})"

    def diameter(self, dimension: int) -> float:
        """Twice the radius.

        Args:
            dimension: ``d``, without effect.

        Returns:
            The diameter.
        """
        return 2 * self.radius

    def _project(self, x: Tensor) -> Tensor:
        # Both branches stay finite everywhere, so that gradients do, too.
        # A product that is too large is infinite, where a power would raise.
        info, limit = torch.finfo(x.dtype), self.radius * self.radius
        if values_known(x) and info.tiny / info.eps < limit < info.max:
            squared = (x * x).sum(-1, keepdim=True)
            # What underflows is far inside; where a square overflows, the other way is exact.
            if bool(squared.isfinite().all()):
                # Inside the ball the factor is exactly 1.
                return x * (limit / squared.clamp(min=limit)).sqrt()
        scale = x.abs().amax(-1, keepdim=True).clamp(min=self.radius)
        unit = x / scale
        length = euclidean_norm(unit)[..., None]
        outside = length * scale > self.radius
        return torch.where(outside, unit * (self.radius / length.clamp(min=self.radius / scale)), x)

    def _minimize_linear(self, gradient: Tensor) -> Tensor:
        length = euclidean_norm(gradient)[..., None]
        # Where the gradient is 0 every point is a minimiser; this gives the centre.
        return -self.radius * torch.where(length > 0, gradient / length, gradient)

    def _contains(self, x: Tensor) -> Tensor:
        return euclidean_norm(x) <= self.radius * (1 + _slack(x))


class Box(Domain):
    """The points with ``low <= x <= high`` in every coordinate.

    Args:
        low: lower bounds, a number or a tensor that broadcasts with ``(..., d)``.
        high: upper bounds, likewise.

    Raises:
        TypeError: a bound is neither a number nor a floating-point tensor.
        ValueError: a bound is not finite, or a lower one exceeds an upper one.
    """

    def __init__(self, low: float | Tensor, high: float | Tensor) -> None:
        self.low, self.high = _bound("low", low), _bound("high", high)
        lowest, highest = self._as_double()
        require_broadcastable("high", highest, "low", lowest)
        require_values("high", highest, highest >= lowest, "upper bounds not below the lower ones")

    def __repr__(self) -> str:
        low, high = (
            f"tensor{tuple(bound.shape)}" if isinstance(bound, Tensor) else repr(bound)
            for bound in (self.low, self.high)
        )
        return f"Box({low}, {high})"

    def diameter(self, dimension: int) -> float:
        """Length of the diagonal.

        Args:
            dimension: ``d``.

        Returns:
            The diameter; of the largest box where the bounds are a batch.
        """
        low, high = self._as_double()
        sides = high - low
        sides = (
            sides.expand((*sides.shape[:-1], dimension)) if sides.ndim else sides.expand(dimension)
        )
        return float(euclidean_norm(sides).max())

    def _project(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        return torch.minimum(torch.maximum(x, low), high)

    def _minimize_linear(self, gradient: Tensor) -> Tensor:
        low, high = self._bounds(gradient)
        return torch.where(gradient > 0, low, high)

    def _contains(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        slack = _slack(x) * torch.maximum(low.abs(), high.abs())
        return ((x >= low - slack) & (x <= high + slack)).all(-1)

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for name, bound in (("low", self.low), ("high", self.high)):
            if isinstance(bound, Tensor):
                require_same_kind("x", x, name, bound)
                require_broadcastable("x", x, name, bound)
        low, high = (
            bound if isinstance(bound, Tensor) else x.new_full((), bound)
            for bound in (self.low, self.high)
        )
        return low, high

    def _as_double(self) -> tuple[Tensor, Tensor]:
        low, high = (
            b.to(torch.float64) if isinstance(b, Tensor) else torch.tensor(b, dtype=torch.float64)
            for b in (self.low, self.high)
        )
        return low, high


class Simplex(Domain):
    """The probability vectors: entries at least 0 that sum to 1."""

    def __repr__(self) -> str:
        return "Simplex()"

    def check(self, name: str, x: Tensor) -> None:
        """Refuse what is no probability vector.

        Args:
            name: the argument's name, for the message.
            x: vectors, shape ``(..., d)``.

        Raises:
            ValueError: a negative entry, or a sum further from 1 than ``d * sqrt(eps)``.
        """
        require_simplex(name, x)

    def diameter(self, dimension: int) -> float:
        """Distance of two corners.

        Args:
            dimension: ``d``; a single corner has no other.

        Returns:
            The diameter.
        """
        return math.sqrt(2) if dimension > 1 else 0.0

    def _project(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not values_known(x):
            return _above_threshold(x, _threshold_by_sort)
        rows = x.reshape(-1, x.shape[-1]).split(max(1, CHUNK // x.shape[-1]))
        parts = [_above_threshold(chunk, _threshold_by_newton) for chunk in rows]
        return torch.cat(parts).reshape(x.shape)

    def _minimize_linear(self, gradient: Tensor) -> Tensor:
        best = gradient.argmin(-1, keepdim=True)
        return torch.zeros_like(gradient).scatter(-1, best, 1.0)

    def _contains(self, x: Tensor) -> Tensor:
        near = (x.sum(-1) - 1).abs() <= x.shape[-1] * _slack(x)
        return (x >= 0).all(-1) & near


def euclidean_norm(x: Tensor) -> Tensor:
    """Euclidean norm over the last axis, exact also where squares overflow or vanish.

    Args:
        x: vectors, shape ``(..., d)``.

    Returns:
        Norms, shape ``(...)``.
    """
    # A constant: the norm is homogeneous, whatever divides it.
    largest = x.detach().abs().amax(-1, keepdim=True)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    return torch.linalg.vector_norm(x / scale, dim=-1) * scale[..., 0]


def _above_threshold(x: Tensor, threshold: Callable[[Tensor], Tensor]) -> Tensor:
    v = x - x.amax(-1, keepdim=True)  # tau in [-1, 0): no digits are lost to a common shift
    return (v - threshold(v)).clamp(min=0)


def _threshold_by_newton(v: Tensor) -> Tensor:
    """Root ``tau`` of ``sum max(v - tau, 0) = 1`` in every row, equation ``eq-simplex-tau``.

    The sum is convex, decreasing and piecewise linear in ``tau``. Newton's method from a point
    left of the root rises to it and is there after finitely many steps, at most one more than
    the support shrinks.
    """
    tau = torch.maximum((v.sum(-1, keepdim=True) - 1) / v.shape[-1], v.amax(-1, keepdim=True) - 1)
    groups = v.shape[-1] // GROUP
    if groups >= GROUP:
        # The root for some of the entries lies left of the root for all, and the largest of each
        # group are the entries that matter: a short row does most of the work.
        largest = v[..., : groups * GROUP].unflatten(-1, (GROUP, groups)).amax(-2)
        tau = _risen(largest, tau)
    return _risen(v, tau)


def _risen(v: Tensor, tau: Tensor) -> Tensor:
    for _ in range(v.shape[-1]):
        support = v > tau
        kept = torch.where(support, v, 0.0).sum(-1, keepdim=True)
        following = torch.maximum(tau, (kept - 1) / support.sum(-1, keepdim=True))
        if bool((following == tau).all()):
            break
        tau = following
    return tau


def _threshold_by_sort(v: Tensor) -> Tensor:
    """The same root from sorted rows, without a step whose number depends on the values."""
    ordered = v.sort(-1, descending=True).values
    candidates = (ordered.cumsum(-1) - 1) / torch.arange(
        1, v.shape[-1] + 1, dtype=v.dtype, device=v.device
    )
    last = (ordered > candidates).sum(-1, keepdim=True) - 1
    return candidates.gather(-1, last)


def _bound(name: str, value: float | Tensor) -> float | Tensor:
    if not isinstance(value, Tensor):
        return require_number(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")
    require_finite(name, value)
    return value


def _slack(x: Tensor) -> float:
    return math.sqrt(torch.finfo(x.dtype).eps)
