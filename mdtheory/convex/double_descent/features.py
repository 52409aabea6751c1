"""Random features, how badly they are conditioned, and how high a peak is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
    require_values,
)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": torch.clone,
}

COLUMNS, TEST_ROWS = 20, 1000


class PeakHeight(NamedTuple):
    """How high an error stands at the threshold; a peak has both above 1.

    Attributes:
        left: the error at the threshold over the least error of a smaller width.
        right: over the least error of a larger width.
    """

    left: Tensor
    right: Tensor

    @property
    def least(self) -> Tensor:
        """The smaller of the two: above 1 where there is a peak."""
        return torch.minimum(self.left, self.right)


class Problem(NamedTuple):
    """Rows to learn from and rows to be judged by, for several seeds.

    Attributes:
        inputs: shape ``(S, n, d)``.
        targets: with noise, shape ``(S, n)``.
        test_inputs: shape ``(S, m, d)``.
        test_targets: without noise, shape ``(S, m)``.
    """

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor


def teacher_problem(
    seeds: int, generator: torch.Generator, *, rows: int = 100, noise: float = 0.2
) -> Problem:
    r"""The problem of this chapter, drawn anew for every seed: ``eq-teacher``.

    Inputs of 20 columns, :math:`x \sim \mathcal N(0, I/20)`; targets :math:`\tanh(2 w^\top x)` of a
    teacher :math:`w \sim \mathcal N(0, I)`, and noise; 1,000 test rows.

    Args:
        seeds: how many problems, :math:`S`.
        generator: source of all draws; the tensors live on its device, in float64.
        rows: training rows, :math:`n`.
        noise: standard deviation :math:`\sigma` of the noise on the training targets.

    Returns:
        The rows.

    Raises:
        TypeError: a count that is no whole number, or no number.
        ValueError: a value out of range.
    """
    require_count("seeds", seeds)
    require_count("rows", rows)
    require_number("noise", noise, 0.0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(
            *shape, generator=generator, dtype=torch.float64, device=generator.device
        )

    inputs = normal(seeds, rows + TEST_ROWS, COLUMNS) / COLUMNS**0.5
    teacher, noises = normal(seeds, COLUMNS, 1), noise * normal(seeds, rows)
    targets = (2 * inputs @ teacher)[..., 0].tanh()
    return Problem(
        inputs[:, :rows], targets[:, :rows] + noises, inputs[:, rows:], targets[:, rows:]
    )


def random_features(
    inputs: Tensor, weights: Tensor, activation: str | Callable[[Tensor], Tensor]
) -> Tensor:
    r"""Features of a hidden layer that is never trained: ``eq-random-features``.

    Args:
        inputs: :math:`X`, shape ``(..., n, d)``.
        weights: :math:`W`, shape ``(..., d, p)``; leading axes broadcast with those of ``inputs``.
        activation: ``"tanh"``, ``"relu"`` or ``"identity"``, or a function of a tensor.

    Returns:
        :math:`Z = \sigma(X W)`, shape ``(..., n, p)``.

    Raises:
        TypeError: not floating-point tensors of one dtype, or no activation.
        ValueError: shapes that do not fit, or an unknown name.
    """
    require_tensor("inputs", inputs)
    require_tensor("weights", weights)
    require_same_kind("weights", weights, "inputs", inputs)
    if inputs.ndim < 2 or weights.ndim < 2 or inputs.shape[-1] != weights.shape[-2]:
        raise ValueError(
            "weights: expected shape (..., d, p) for inputs (..., n, d), got "
            f"{tuple(weights.shape)} for {tuple(inputs.shape)}"
        )
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {[*ACTIVATIONS]}, got {activation!r}")
        activation = ACTIVATIONS[activation]
    if not callable(activation):
        raise TypeError(f"activation: expected a name or a function, got {activation!r}")
    return activation(inputs @ weights)


def numerical_rank(features: Tensor, singular_values: Tensor) -> Tensor:
    r"""Which singular values rounding can tell from 0.

    Args:
        features: shape ``(..., n, p)``; only its shape and dtype count.
        singular_values: its singular values, shape ``(..., r)``.

    Returns:
        Truth values of that shape: those above :math:`\max(n, p)\,\epsilon\, s_1`.
    """
    cut = max(features.shape[-2:]) * torch.finfo(features.dtype).eps
    return singular_values > cut * singular_values.amax(-1, keepdim=True)


def effective_condition(features: Tensor) -> Tensor:
    r"""The condition number of what can be fitted: ``eq-condition``.

    Args:
        features: :math:`Z`, shape ``(..., n, p)``.

    Returns:
        :math:`\kappa = s_1 / s_r`, the largest singular value over the least one that is not 0
        (see :func:`numerical_rank`), shape ``(...)``.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: no matrix, an entry that is not finite, or all entries 0.
    """
    values = torch.linalg.svdvals(require_features(features))
    require_values("features", values[..., 0], values[..., 0] > 0, "a matrix that is not 0")
    least = torch.where(numerical_rank(features, values), values, torch.inf).amin(-1)
    return values[..., 0] / least


def peak_height(
    widths: Tensor | Sequence[float], errors: Tensor, threshold: float
) -> PeakHeight:  # fmt: skip
    """How high the error stands at the threshold: ``eq-peak-height``.

    Args:
        widths: the numbers of features, shape ``(w,)``, all different, in any order.
        errors: the error at each of them, positive, shape ``(..., w)``.
        threshold: one of the widths, with smaller and larger ones beside it.

    Returns:
        The two ratios, each of shape ``(...)``.

    Raises:
        TypeError: ``errors`` is not a floating-point tensor.
        ValueError: shapes that do not fit, an error that is not above 0, or a threshold that is no
            width or has no width on one side.
    """
    require_tensor("errors", errors)
    at = torch.as_tensor(widths, device=errors.device)
    require_shape("widths", at, (errors.shape[-1],))
    left, right, here = at < threshold, at > threshold, at == threshold
    if int(here.sum()) != 1 or not bool(left.any()) or not bool(right.any()):
        raise ValueError(
            "threshold: expected one of the widths, between others, got "
            f"{threshold!r} for {at.tolist()}"
        )
    require_values("errors", errors, errors > 0, "errors above 0")
    top = errors[..., here][..., 0]
    return PeakHeight(top / errors[..., left].amin(-1), top / errors[..., right].amin(-1))


def require_features(features: Tensor) -> Tensor:
    """A matrix of features: floating point, finite, shape ``(..., n, p)``.

    Args:
        features: what came.

    Returns:
        ``features`` itself.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: no matrix, no rows, or an entry that is not finite.
    """
    require_tensor("features", features)
    if features.ndim < 2 or features.shape[-2] == 0:
        raise ValueError(
            f"features: expected shape (..., n, p) with n >= 1, got {tuple(features.shape)}"
        )
    require_finite("features", features)
    return features
