"""Matrices of preferences, checked where they enter."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_tensor, require_values


def require_preference(name: str, value: object) -> Tensor:
    """Refuse what is no matrix of preferences.

    Args:
        name: the argument's name, for the message.
        value: what came; shape ``(..., n, n)`` expected.

    Returns:
        ``value`` itself.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: not square, outside [0, 1], or pairs that do not sum to 1.
    """
    matrix = require_tensor(name, value, 2)
    require_values(name, matrix, (matrix >= 0) & (matrix <= 1), "probabilities in [0, 1]")
    off = (matrix + matrix.mT - 1).abs()
    tolerance = 8 * math.sqrt(torch.finfo(matrix.dtype).eps)
    require_values(name, matrix, off <= tolerance, "pairs with P[y, z] + P[z, y] = 1")
    return matrix
