"""Losses of targets: what the expensive side of the problem looks like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Self

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_broadcastable,
    require_finite,
    require_integers,
    require_number,
    require_same_kind,
    require_simplex,
    require_tensor,
    require_values,
)


class TargetLoss(ABC):
    r"""A mean of row losses, :math:`\ell(z) = \frac1n \sum_i \ell_i(z_i)`.

    Definition ``def-target-problem``. Targets are tensors ``(..., n, k)``: ``n`` rows of ``k``
    numbers; leading axes are independent instances. The space of targets carries the inner product
    of the mean, :math:`\langle u, v\rangle = \frac1n \sum_i \langle u_i, v_i\rangle`, so that
    gradients are those of the rows and the constants those of one row.

    Args:
        data: what the rows are compared with, shape ``(..., n, k)``.

    Attributes:
        data: as given.
        smoothness: Lipschitz constant :math:`L` of the gradient of one row.
        strong_convexity: strong convexity :math:`\mu` of one row, 0 if there is none.

    Raises:
        TypeError: ``data`` is no floating-point tensor.
        ValueError: fewer than two axes, or an entry that is not finite.
    """

    smoothness: float
    strong_convexity: float = 0.0
    _name = "labels"

    def __init__(self, data: Tensor) -> None:
        require_tensor(self._name, data)
        if data.ndim < 2 or data.shape[-2] == 0:
            raise ValueError(
                f"{self._name}: expected shape (..., n, k) with n >= 1, got {tuple(data.shape)}"
            )
        require_finite(self._name, data)
        self.data = data

    @property
    def rows(self) -> int:
        """Number of rows ``n``."""
        return self.data.shape[-2]

    def row_values(self, targets: Tensor) -> Tensor:
        r"""Losses of the rows, :math:`\ell_i(z_i)`.

        Args:
            targets: shape ``(..., n, k)``.

        Returns:
            Values of shape ``(..., n)``.

        Raises:
            TypeError: no floating-point tensor, or another dtype than the data.
            ValueError: a shape that does not fit, another device, or a NaN.
        """
        return self._row_values(self.check_targets("targets", targets))

    def value(self, targets: Tensor) -> Tensor:
        r"""The loss :math:`\ell(z)`, the mean over the rows.

        Args:
            targets: shape ``(..., n, k)``.

        Returns:
            Values of shape ``(...)``.

        Raises:
            TypeError: as :meth:`row_values`.
            ValueError: as :meth:`row_values`.
        """
        return self.row_values(targets).mean(-1)

    def gradient(self, targets: Tensor) -> Tensor:
        r"""Row gradients :math:`\nabla\ell_i(z_i)`: the gradient in the inner product of the mean.

        Args:
            targets: shape ``(..., n, k)``.

        Returns:
            Gradients, shape of the targets (broadcast with the data).

        Raises:
            TypeError: as :meth:`row_values`.
            ValueError: as :meth:`row_values`.
        """
        return self._gradient(self.check_targets("targets", targets))

    def curvature(self, targets: Tensor) -> Tensor:
        r"""Diagonals of the rows' Hessians.

        Args:
            targets: shape ``(..., n, k)``.

        Returns:
            Second derivatives, shape of the targets (broadcast with the data).

        Raises:
            TypeError: as :meth:`row_values`.
            ValueError: as :meth:`row_values`.
        """
        return self._curvature(self.check_targets("targets", targets))

    def select(self, index: Tensor) -> Self:
        """The same loss on some rows: a mini-batch.

        Args:
            index: rows, int64, shape ``(b,)`` or ``(..., b)``.

        Returns:
            The mean loss of these rows; leading axes of ``index`` become leading axes.
        """
        chosen = object.__new__(type(self))
        chosen.__dict__.update(self.__dict__)
        chosen.data = take_rows(self.data, index)
        return chosen

    def check_targets(self, name: str, targets: Tensor) -> Tensor:
        """Refuse what does not fit the data.

        Args:
            name: the argument's name, for the message.
            targets: what came.

        Returns:
            ``targets`` itself.

        Raises:
            TypeError: no floating-point tensor, or another dtype than the data.
            ValueError: a shape that does not fit, another device, or a NaN.
        """
        require_tensor(name, targets)
        require_same_kind(name, targets, self._name, self.data)
        if targets.shape[-2:] != self.data.shape[-2:]:
            raise ValueError(
                f"{name}: expected shape (..., {self.rows}, {self.data.shape[-1]}), "
                f"got {tuple(targets.shape)}"
            )
        require_broadcastable(name, targets, self._name, self.data)
        require_values(name, targets, ~targets.isnan(), "no NaN")
        return targets

    @abstractmethod
    def _row_values(self, targets: Tensor) -> Tensor: ...

    @abstractmethod
    def _gradient(self, targets: Tensor) -> Tensor: ...

    @abstractmethod
    def _curvature(self, targets: Tensor) -> Tensor: ...


class SquaredLoss(TargetLoss):
    r"""Half the squared distance to the labels: :math:`L = \mu = 1`.

    Args:
        labels: shape ``(..., n, k)``.
    """

    smoothness = 1.0
    strong_convexity = 1.0

    def __init__(self, labels: Tensor) -> None:
        super().__init__(labels)

    def _row_values(self, targets: Tensor) -> Tensor:
        return (targets - self.data).square().sum(-1) / 2

    def _gradient(self, targets: Tensor) -> Tensor:
        return targets - self.data

    def _curvature(self, targets: Tensor) -> Tensor:
        return torch.ones_like(targets - self.data)


class LogisticLoss(TargetLoss):
    r"""Logistic loss of logits, plus an optional ridge.

    :math:`\sum_j \log(1 + e^{z_j}) - y_j z_j + \frac r2 z_j^2`, with :math:`L = \frac14 + r` and
    :math:`\mu = r`.

    Args:
        labels: in [0, 1], shape ``(..., n, k)``.
        ridge: :math:`r \ge 0`.

    Raises:
        ValueError: a label outside [0, 1].
    """

    def __init__(self, labels: Tensor, ridge: float = 0.0) -> None:
        super().__init__(labels)
        require_values("labels", labels, (labels >= 0) & (labels <= 1), "labels in [0, 1]")
        self.ridge = require_number("ridge", ridge, 0.0)
        self.smoothness = 0.25 + self.ridge
        self.strong_convexity = self.ridge

    def _row_values(self, targets: Tensor) -> Tensor:
        # Each half by itself, so that no digits are lost and a weight of 0 silences infinity.
        softplus = partial(torch.nn.functional.softplus, threshold=40.0)
        zeros = (1 - self.data) * softplus(torch.where(self.data < 1, targets, 0.0))
        ones = self.data * softplus(torch.where(self.data > 0, -targets, 0.0))
        if not self.ridge:
            return (zeros + ones).sum(-1)
        return (zeros + ones + self.ridge / 2 * targets.square()).sum(-1)

    def _gradient(self, targets: Tensor) -> Tensor:
        slope = (1 - self.data) * targets.sigmoid() - self.data * (-targets).sigmoid()
        return slope + self.ridge * targets if self.ridge else slope

    def _curvature(self, targets: Tensor) -> Tensor:
        probability = targets.sigmoid()
        return probability * (1 - probability) + self.ridge + 0 * self.data


class SoftmaxLoss(TargetLoss):
    r"""Cross-entropy of logits, :math:`\log\sum_j e^{z_j} - \langle y, z\rangle`: :math:`L = 1/2`.

    A logit may be :math:`-\infty`; where its label is 0 the loss is that without this class.

    Args:
        labels: probabilities (one-hot rows, for instance), shape ``(..., n, k)``.

    Raises:
        ValueError: a row is no probability vector.
    """

    smoothness = 0.5

    def __init__(self, labels: Tensor) -> None:
        super().__init__(labels)
        require_simplex("labels", labels)

    def check_targets(self, name: str, targets: Tensor) -> Tensor:
        """Refuse what does not fit the data, and rows without a finite largest logit."""
        super().check_targets(name, targets)
        require_values(
            name, targets, targets.amax(-1).isfinite(), "rows with a finite largest logit"
        )
        return targets

    def _row_values(self, targets: Tensor) -> Tensor:
        # A class without a label may have the logit -inf: 0 times infinity is 0.
        labelled = torch.where(self.data > 0, targets, 0.0)
        return targets.logsumexp(-1) - (self.data * labelled).sum(-1)

    def _gradient(self, targets: Tensor) -> Tensor:
        return targets.softmax(-1) - self.data

    def _curvature(self, targets: Tensor) -> Tensor:
        probability = targets.softmax(-1)
        return probability * (1 - probability) + 0 * self.data


class LinearCost(TargetLoss):
    r"""Expected cost of probabilities, :math:`\langle c_i, p_i\rangle`: :math:`L = 0`.

    Args:
        cost: shape ``(..., n, k)``.
    """

    smoothness = 0.0
    _name = "cost"

    def __init__(self, cost: Tensor) -> None:
        super().__init__(cost)

    def _row_values(self, targets: Tensor) -> Tensor:
        return (self.data * targets).sum(-1)

    def _gradient(self, targets: Tensor) -> Tensor:
        return self.data + 0 * targets

    def _curvature(self, targets: Tensor) -> Tensor:
        return torch.zeros_like(targets + self.data)


def take_rows(data: Tensor, index: Tensor) -> Tensor:
    """Rows of ``(..., n, k)``, one choice for all instances or one for each.

    Args:
        data: shape ``(..., n, k)``.
        index: int64, shape ``(b,)`` or ``(..., b)``; leading axes broadcast with those of
            ``data``.

    Returns:
        Shape ``(..., b, k)``.

    Raises:
        TypeError: the index is not int64.
        ValueError: the index has no axis, or its shape does not fit.
    """
    require_integers("index", index)
    if index.ndim == 0 or index.shape[-1] == 0:
        raise ValueError(f"index: expected shape (..., b) with b >= 1, got {tuple(index.shape)}")
    if data.ndim == 2:
        return data[index]
    if index.ndim == 1:
        return data[..., index, :]
    batch = require_broadcast("index", index.shape[:-1], data.shape[:-2], "the leading axes")
    wide = data.expand(*batch, *data.shape[-2:])
    chosen = index.expand(*batch, index.shape[-1])[..., None]
    return torch.take_along_dim(wide, chosen, -2)
