"""How well a segmentation fits: overlap and distance, with the conventions said."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import require_truths


def dice(predicted: Tensor, truth: Tensor) -> Tensor:
    r"""Overlap :math:`2|P \cap Q| / (|P| + |Q|)` of every slice (DSC).

    Args:
        predicted: truth values, shape ``(..., h, w)``.
        truth: of the same shape.

    Returns:
        Between 0 and 1, float64, shape ``(...)``; NaN where both sets are empty, so that such a
        slice can be left out.

    Raises:
        TypeError: tensors that hold no truth values.
        ValueError: shapes that differ, or fewer than two axes.
    """
    _check(predicted, truth)
    both = (predicted & truth).sum((-2, -1)).double()
    return 2 * both / (predicted.sum((-2, -1)) + truth.sum((-2, -1)))


def hausdorff95(predicted: Tensor, truth: Tensor) -> Tensor:
    r"""95th percentile of the distances between two borders, in pixels (HD95).

    The distances from every border pixel of one set to the nearest of the other, both ways, in
    one list. A border pixel has a neighbour, up, down, left or right, outside the set or outside
    the image.

    Args:
        predicted: truth values, shape ``(..., h, w)``.
        truth: of the same shape.

    Returns:
        float64, shape ``(...)``; NaN where both sets are empty, and the diagonal of the image
        where one of them is: a missed target is as bad as can be.

    Raises:
        TypeError: tensors that hold no truth values.
        ValueError: shapes that differ, or fewer than two axes.
    """
    _check(predicted, truth)
    h, w = truth.shape[-2:]
    first, second = (_border(x.reshape(-1, h, w)) for x in (predicted, truth))
    diagonal = math.hypot(h, w)
    found = [
        _one_hausdorff95(p.nonzero().double(), q.nonzero().double(), diagonal)
        for p, q in zip(first, second, strict=True)
    ]
    result = torch.tensor(found, dtype=torch.float64, device=truth.device)
    return result.reshape(truth.shape[:-2])


def ranking(scores: Tensor, positive: Tensor) -> Tensor:
    """Probability that a positive sample has the larger score, ties counted half (AUC).

    Args:
        scores: shape ``(n,)``.
        positive: truth values, likewise, some true and some false.

    Returns:
        Between 0 and 1, without axes.

    Raises:
        TypeError: ``positive`` holds no truth values.
        ValueError: shapes that differ, or one of the groups is empty.
    """
    require_truths("positive", positive)
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise ValueError(
            f"scores: expected shape (n,) like positive {tuple(positive.shape)}, got "
            f"{tuple(scores.shape)}"
        )
    if not 0 < int(positive.sum()) < len(positive):
        raise ValueError("positive: expected samples of both kinds")
    difference = scores[positive][:, None] - scores[~positive]
    return ((difference > 0).double() + 0.5 * (difference == 0)).mean()


def _border(sets: Tensor) -> Tensor:
    outside = functional.pad((~sets).double(), (1, 1, 1, 1), value=1.0)
    near = outside[:, :-2, 1:-1] + outside[:, 2:, 1:-1]
    near = near + outside[:, 1:-1, :-2] + outside[:, 1:-1, 2:]
    return sets & (near > 0)


def _one_hausdorff95(first: Tensor, second: Tensor, diagonal: float) -> float:
    if not len(first) and not len(second):
        return math.nan
    if not len(first) or not len(second):
        return diagonal
    apart = (first[:, None] - second).norm(dim=-1)
    return torch.cat([apart.amin(0), apart.amin(1)]).quantile(0.95).item()


def _check(predicted: Tensor, truth: Tensor) -> None:
    for name, value in (("predicted", predicted), ("truth", truth)):
        require_truths(name, value)
    if predicted.shape != truth.shape or truth.ndim < 2:
        raise ValueError(
            f"predicted: expected shape (..., h, w) like truth {tuple(truth.shape)}, got "
            f"{tuple(predicted.shape)}"
        )
