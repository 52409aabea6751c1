"""What every mirror map can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_same_kind,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps.domains import Domain, euclidean_norm


class MirrorMap(ABC):
    r"""A differentiable, strictly convex potential on a closed convex domain.

    Definition ``def-mirror-map``. Points are tensors ``(..., d)``, or ``(..., d, d)`` where
    ``event_dims`` is 2; duals have the same shape; leading axes are independent instances.

    The public methods check their arguments. Each has an unchecked twin whose name begins with an
    underscore, for inner loops that have checked theirs before.

    Autograd goes through every method, and so does ``torch.func.vmap``; values are not checked
    under the latter. Where a function has no finite derivative in a coordinate, as the entropy at
    a probability of 0, that coordinate is a constant.

    Attributes:
        event_dims: trailing axes of one point: 1 for vectors, 2 for matrices.
        domain: the domain, or ``None`` for the whole space or an open cone.
        strong_convexity: a ``mu`` with :math:`D(x, y) \ge \mu/2 \, \|x - y\|^2` on the domain,
            in the norm of ``norm``: that of ``prop-strong-convexity``, not always the largest;
            0 where the potential is strongly convex only on parts of its domain.
        carries_dual: whether the dual may be carried from step to step, as it may where the
            domain adds no constraint or the potential is steep at its border.
    """

    event_dims: int = 1
    domain: Domain | None = None
    strong_convexity: float = 0.0
    carries_dual: bool = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parameters()})"

    def potential(self, x: Tensor) -> Tensor:
        r"""Potential :math:`\psi(x)`.

        Args:
            x: points of the domain, its border included where the potential is finite there.

        Returns:
            Values of shape ``(...)``.

        Raises:
            TypeError: ``x`` is no floating-point tensor.
            ValueError: ``x`` has a wrong shape, a NaN, or lies outside the domain.
        """
        return self._potential(self.check_point("x", x, border=True))

    def to_dual(self, x: Tensor) -> Tensor:
        r"""Dual coordinates :math:`\theta = \nabla\psi(x)`.

        Args:
            x: points where the potential has a gradient; under the entropies also points with
                zeros, whose dual entries are :math:`-\infty`.

        Returns:
            Duals, shape of ``x``.

        Raises:
            TypeError: ``x`` is no floating-point tensor.
            ValueError: ``x`` has a wrong shape, a NaN, or no dual.
        """
        return self._to_dual(self.check_point("x", x))

    def to_primal(self, theta: Tensor) -> Tensor:
        r"""The point :math:`\arg\max_x \langle\theta, x\rangle - \psi(x)` of the domain.

        Args:
            theta: duals.

        Returns:
            Points of the domain, shape of ``theta``.

        Raises:
            TypeError: ``theta`` is no floating-point tensor.
            ValueError: ``theta`` has a wrong shape or a NaN, or the maximum is not attained.
        """
        point = self._to_primal(self.check_dual("theta", theta))
        return self.check_result("theta", point)

    def conjugate(self, theta: Tensor) -> Tensor:
        r"""The maximum :math:`\psi^*(\theta) = \max_x \langle\theta, x\rangle - \psi(x)`.

        Args:
            theta: duals.

        Returns:
            Values of shape ``(...)``.

        Raises:
            TypeError: ``theta`` is no floating-point tensor.
            ValueError: ``theta`` has a wrong shape or a NaN, or the maximum is not attained.
        """
        return self.check_result("theta", self._conjugate(self.check_dual("theta", theta)))

    def divergence(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Bregman divergence :math:`\psi(x)-\psi(y)-\langle\nabla\psi(y), x-y\rangle`.

        Args:
            x: points of the domain, its border included.
            y: points with a gradient; the batch shapes of ``x`` and ``y`` broadcast.

        Returns:
            Values of shape ``(...)``; under the entropies infinite where ``y`` has a zero that
            ``x`` has not. Exact also for points that nearly agree, but under the p-norm and the
            von Neumann entropy, where a value can be a rounding error below 0.

        Raises:
            TypeError: an argument is no floating-point tensor, or the dtypes differ.
            ValueError: a wrong shape, a NaN, or a point outside the domain.
        """
        x = self.check_point("x", x, border=True)
        y = self.check_point("y", y)
        require_same_kind("x", x, "y", y)
        require_event("x", x, "y", y, self.event_dims)
        return self._divergence(x, y)

    def norm(self, x: Tensor) -> Tensor:
        """Norm in which the potential is strongly convex: the Euclidean one unless a map says so.

        Args:
            x: vectors (or matrices), any.

        Returns:
            Values of shape ``(...)``.

        Raises:
            TypeError: ``x`` is no floating-point tensor.
            ValueError: a wrong shape.
        """
        require_tensor("x", x, self.event_dims)
        return euclidean_norm(x.flatten(-self.event_dims))

    def dual_norm(self, gradient: Tensor) -> Tensor:
        r"""Dual norm :math:`\max\{\langle g, x\rangle : \|x\| \le 1\}`.

        Args:
            gradient: gradients, any.

        Returns:
            Values of shape ``(...)``.

        Raises:
            TypeError: ``gradient`` is no floating-point tensor.
            ValueError: a wrong shape.
        """
        require_tensor("gradient", gradient, self.event_dims)
        return euclidean_norm(gradient.flatten(-self.event_dims))

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is no point of the domain.

        Args:
            name: the argument's name, for the message.
            x: what came.
            border: also allow points where the potential is finite but has no gradient.

        Returns:
            ``x`` itself.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: a wrong shape, a NaN, or a point outside the domain.
        """
        require_tensor(name, x, self.event_dims)
        require_values(name, x, x.isfinite(), "finite values")
        if self.domain is not None:
            self.domain.check(name, x)
        return x

    def check_dual(self, name: str, theta: Tensor) -> Tensor:
        """Refuse what is no dual.

        Args:
            name: the argument's name, for the message.
            theta: what came.

        Returns:
            ``theta`` itself.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: a wrong shape, a NaN, or an infinity that the map does not know.
        """
        require_tensor(name, theta, self.event_dims)
        require_values(name, theta, theta.isfinite(), "finite values")
        return theta

    def check_gradient(self, name: str, gradient: Tensor) -> Tensor:
        """Refuse what is no gradient: finite, and symmetric where points are matrices.

        Args:
            name: the argument's name, for the message.
            gradient: what came.

        Returns:
            ``gradient`` itself.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: a wrong shape, a NaN or an infinity.
        """
        require_tensor(name, gradient, self.event_dims)
        require_values(name, gradient, gradient.isfinite(), "finite values")
        return gradient

    def check_result(self, name: str, result: Tensor) -> Tensor:
        """Refuse a result that is not finite, which an argument this large can cause.

        Args:
            name: the argument that led to it, for the message.
            result: points or values computed from it.

        Returns:
            ``result`` itself.

        Raises:
            ValueError: an entry is infinite or NaN.
        """
        require_values(name, result, result.isfinite(), "a value with a finite result")
        return result

    def _parameters(self) -> str:
        """The constructor's arguments, as they would be written."""
        return ""

    @abstractmethod
    def _potential(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _to_dual(self, x: Tensor) -> Tensor: ...

    def _step_dual(self, x: Tensor) -> Tensor:
        """A dual from which a step starts: ``_to_dual`` up to a normal vector of the domain."""
        return self._to_dual(x)

    @abstractmethod
    def _to_primal(self, theta: Tensor) -> Tensor: ...

    def _conjugate(self, theta: Tensor) -> Tensor:
        point = self._to_primal(theta)
        return inner(theta, point, self.event_dims) - self._potential(point)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        slope = inner(self._to_dual(y), x - y, self.event_dims)
        return self._potential(x) - self._potential(y) - slope


def inner(left: Tensor, right: Tensor, event_dims: int = 1) -> Tensor:
    """Inner product over the trailing axes of one point.

    Args:
        left: shape ``(..., d)``, or ``(..., d, d)`` where ``event_dims`` is 2.
        right: a shape that broadcasts with it.
        event_dims: 1 or 2.

    Returns:
        Values of shape ``(...)``.
    """
    return (left * right).sum(tuple(range(-event_dims, 0)))


def require_event(
    name: str, value: Tensor, other_name: str, other: Tensor, event_dims: int
) -> None:
    """Two tensors of equal trailing axes whose leading axes broadcast.

    Args:
        name: the argument's name, for the message.
        value: what came.
        other_name: the name of the argument that it must fit.
        other: that argument.
        event_dims: trailing axes of one point.

    Raises:
        ValueError: they do not fit.
    """
    if value.shape[value.ndim - event_dims :] != other.shape[other.ndim - event_dims :]:
        raise ValueError(
            f"{name}: expected the trailing shape of {other_name} {tuple(other.shape)}, "
            f"got {tuple(value.shape)}"
        )
    require_broadcastable(name, value, other_name, other)
