"""Models: what turns parameters into targets, the cheap side of the problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from mdtheory.checks import require_finite, require_tensor
from mdtheory.convex.target_surrogates.losses import take_rows

Pull = Callable[[Tensor], Tensor]


class Model(ABC):
    r"""A differentiable map :math:`f` from parameters to targets ``(..., n, k)``.

    Definition ``def-target-problem``.

    Attributes:
        parameter_dims: trailing axes of one set of parameters.
    """

    parameter_dims: int

    @property
    @abstractmethod
    def rows(self) -> int:
        """Number of rows ``n``."""

    @abstractmethod
    def __call__(self, parameters: Tensor) -> Tensor:
        r"""Targets :math:`f(\omega)`, shape ``(..., n, k)``."""

    @abstractmethod
    def linearize(self, parameters: Tensor) -> tuple[Tensor, Pull]:
        r"""Targets and the adjoint of the Jacobian.

        Args:
            parameters: :math:`\omega`, leading axes are instances.

        Returns:
            :math:`f(\omega)`, and the function :math:`v \mapsto J^*v = \frac1n J^\top v` from
            targets to parameters.
        """

    @abstractmethod
    def select(self, index: Tensor) -> Model:
        """The same model on some rows; ``index`` is int64 ``(b,)`` or ``(..., b)``."""


class LinearModel(Model):
    r"""Linear targets :math:`f(\omega) = X\omega`.

    Args:
        features: :math:`X`, shape ``(..., n, d)``; parameters are ``(..., d, k)``.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: fewer than two axes, or an entry that is not finite.
    """

    parameter_dims = 2

    def __init__(self, features: Tensor) -> None:
        require_tensor("features", features)
        if features.ndim < 2 or features.shape[-2] == 0:
            raise ValueError(
                f"features: expected shape (..., n, d) with n >= 1, got {tuple(features.shape)}"
            )
        require_finite("features", features)
        self.features = features

    @property
    def rows(self) -> int:
        """Number of rows ``n``."""
        return self.features.shape[-2]

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""Thin singular value decomposition :math:`X/\sqrt n = U\,\mathrm{diag}(s)\,V^\top`.

        Sizes at the level of rounding are set to 0.
        """
        left, size, right = torch.linalg.svd(self.features / self.rows**0.5, full_matrices=False)
        floor = max(self.features.shape[-2:]) * torch.finfo(size.dtype).eps * size[..., :1]
        return left, torch.where(size > floor, size, 0.0), right.mT

    @property
    def lipschitz(self) -> Tensor:
        r"""Squared norm of the Jacobian, :math:`\lambda_{\max}(X^\top X/n)`, shape ``(...)``."""
        return self.spectrum[1][..., 0].square()

    @property
    def row_bound(self) -> Tensor:
        r"""Largest squared length of a row, at least ``lipschitz`` of every batch of rows."""
        return self.features.square().sum(-1).amax(-1)

    def __call__(self, parameters: Tensor) -> Tensor:
        r"""Targets :math:`X\omega`; ``parameters`` has shape ``(..., d, k)``."""
        return self.features @ parameters

    def linearize(self, parameters: Tensor) -> tuple[Tensor, Pull]:
        """Targets and the adjoint of the Jacobian; see :meth:`Model.linearize`."""
        return self.features @ parameters, self.pull

    def pull(self, cotangent: Tensor) -> Tensor:
        r"""The adjoint of the Jacobian, :math:`\frac1n X^\top v`."""
        return self.features.mT @ cotangent / self.rows

    def select(self, index: Tensor) -> LinearModel:
        """The model on some rows; see :meth:`Model.select`."""
        chosen = object.__new__(LinearModel)
        chosen.features = take_rows(self.features, index)
        return chosen

    def project(self, targets: Tensor) -> Tensor:
        r"""Parameters of least norm whose targets are nearest to the given ones.

        Args:
            targets: shape ``(..., n, k)``.

        Returns:
            :math:`X^+ z`, shape ``(..., d, k)``.
        """
        left, size, right = self.spectrum
        inverse = torch.where(size > 0, 1 / size, 0.0)
        return right @ (inverse[..., None] * (left.mT @ targets)) / self.rows**0.5


class TorchModel(Model):
    """Any torch function of flat parameters: a network, for instance.

    Args:
        function: takes parameters ``(..., p)`` and inputs ``(..., n, e)``, returns targets
            ``(..., n, k)``; it must treat leading axes as independent instances.
        inputs: shape ``(..., n, e)``.

    Raises:
        TypeError: ``function`` cannot be called, or ``inputs`` is no floating-point tensor.
        ValueError: ``inputs`` has fewer than two axes.
    """

    parameter_dims = 1

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], inputs: Tensor) -> None:
        if not callable(function):
            raise TypeError(f"function: expected a callable, got {type(function).__name__}")
        require_tensor("inputs", inputs)
        if inputs.ndim < 2 or inputs.shape[-2] == 0:
            raise ValueError(
                f"inputs: expected shape (..., n, e) with n >= 1, got {tuple(inputs.shape)}"
            )
        self.function, self.inputs = function, inputs

    @property
    def rows(self) -> int:
        """Number of rows ``n``."""
        return self.inputs.shape[-2]

    def __call__(self, parameters: Tensor) -> Tensor:
        """Targets of the function; ``parameters`` has shape ``(..., p)``."""
        return self.function(parameters, self.inputs)

    def linearize(self, parameters: Tensor) -> tuple[Tensor, Pull]:
        """Targets and the adjoint of the Jacobian; see :meth:`Model.linearize`."""
        with torch.enable_grad():
            leaf = parameters.detach().requires_grad_()
            targets = self.function(leaf, self.inputs)

        def pull(cotangent: Tensor) -> Tensor:
            seed = (cotangent / self.rows).expand_as(targets)
            (gradient,) = torch.autograd.grad(targets, leaf, seed, retain_graph=True)
            return gradient

        return targets.detach(), pull

    def select(self, index: Tensor) -> TorchModel:
        """The model on some rows; see :meth:`Model.select`."""
        return TorchModel(self.function, take_rows(self.inputs, index))
