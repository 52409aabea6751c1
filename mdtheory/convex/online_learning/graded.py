"""Singular values of matrices whose rows, or columns, differ by many orders of magnitude."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import values_known
from mdtheory.convex.mirror_maps.domains import euclidean_norm

# Sweeps of Jacobi's method. Convergence is quadratic: beside orthogonal rows eight were the most
# that a new one took, and 19 the most that were seen. Where values cannot be read all are made.
SWEEPS, UNREAD = 40, 12
# Rounding errors of one decomposition, in units of the last place.
ROUNDINGS = 4.0


def graded_svd(rows: Tensor, doubt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Singular value decomposition :math:`M = U \operatorname{diag}(s) V^\top`.

    The error of a usual method is relative to the largest singular value: what is small is lost
    beside what is large. The method here, one-sided Jacobi, turns pairs of rows until all are
    orthogonal. The error of a turn is relative to the row and to the column in which it arises,
    so small singular values are as exact as large ones where the rows, or the columns, are well
    apart after division by their lengths.

    A row that is no larger than the error of its own combination counts as 0. Errors add up as
    squares, and rows are combined orthogonally, so their sum stays what came in.

    The usual method is used where all singular values are large enough for it: it is faster.

    Args:
        rows: :math:`M`, finite, shape ``(..., n, d)``.
        doubt: sizes of the errors in its entries, same shape.

    Returns:
        :math:`U` ``(..., n, k)``, :math:`s` ``(..., k)`` falling, :math:`V^\top` ``(..., k, d)``
        with :math:`k = \min(n, d)`, and the errors in the entries of :math:`s V^\top`. Where a
        singular value is 0, so is its row of :math:`V^\top`.

    Raises:
        ArithmeticError: rows that are not orthogonal after many sweeps.

    Source:
        Hestenes (1958); Demmel and Veselic (1992), Demmel et al. (1999) for the accuracy.
    """
    scale = rows.abs().amax((-2, -1), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    rows, doubt = rows / scale, doubt / scale
    kept, eps = min(rows.shape[-2:]), torch.finfo(rows.dtype).eps
    left, lengths, axes = torch.linalg.svd(rows, full_matrices=False)
    largest = lengths[..., :1]
    if values_known(rows) and bool((lengths[..., -1:] > eps**0.25 * largest).all()):
        error = largest[..., None].expand_as(axes)
    else:
        moved, turns = _orthogonal(rows, doubt)
        lengths, order = euclidean_norm(moved).sort(-1, descending=True)
        lengths, order = lengths[..., :kept], order[..., :kept, None]
        axes = moved.gather(-2, order.expand(*order.shape[:-1], rows.shape[-1]))
        axes = axes / torch.where(lengths > 0, lengths, 1.0)[..., None]
        left = turns.gather(-2, order.expand(*order.shape[:-1], rows.shape[-2])).mT
        error = (lengths[..., None] * axes).abs()
    mixed = torch.hypot(_combined(left.mT, doubt), ROUNDINGS * eps * error)
    mixed = torch.where(lengths[..., None] > 0, mixed, 0.0)
    return left, lengths * scale[..., 0], axes, mixed * scale


def _combined(turns: Tensor, doubt: Tensor) -> Tensor:
    """Errors of orthogonal combinations of rows with these errors; squared in double precision."""
    return ((turns * turns).double() @ (doubt.double() ** 2)).sqrt().to(doubt.dtype)


def _orthogonal(rows: Tensor, doubt: Tensor) -> tuple[Tensor, Tensor]:
    """Orthogonal rows ``J @ rows`` and the orthogonal ``J``, by one-sided Jacobi."""
    n, d = rows.shape[-2:]
    half = (n + 1) // 2
    small = n * torch.finfo(rows.dtype).eps
    blank = torch.zeros_like(rows[..., : 2 * half - n, :])
    rows, doubt = torch.cat([rows, blank], -2), torch.cat([doubt, blank], -2)
    eye = torch.eye(2 * half, dtype=rows.dtype, device=rows.device)
    both = torch.cat([rows, eye.expand(*rows.shape[:-1], 2 * half)], -1)
    known = values_known(rows)
    for _ in range(SWEEPS if known else UNREAD):
        widest = rows.new_zeros(rows.shape[:-2])
        for _ in range(2 * half - 1):
            length = euclidean_norm(both[..., :d])
            unit = both[..., :d] / torch.where(length > 0, length, 1.0)[..., None]
            cosine = (unit[..., :half, :] * unit[..., half:, :]).sum(-1)
            widest = torch.maximum(widest, cosine.abs().amax(-1))
            turn = _tangent(length[..., :half], length[..., half:], cosine)[..., None]
            longer = torch.hypot(turn, torch.ones_like(turn))
            first, second = both[..., :half, :], both[..., half:, :]
            both = torch.cat(
                _next_pairs((first - turn * second) / longer, (turn * first + second) / longer), -2
            )
        moved, turns = both[..., :d], both[..., d:]
        size = _combined(turns, doubt)
        # More rows than columns: what is left of one too many shrinks from sweep to sweep.
        nothing = (moved.abs() <= size).all(-1)
        # Among orthogonal rows, if one (w) came from errors e alone, then |w|^2 = <w, e>.
        done = widest <= small
        length = euclidean_norm(moved)
        unit = moved.abs() / torch.where(length > 0, length, 1.0)[..., None]
        nothing = nothing | (done[..., None] & (length <= (unit * size).sum(-1)))
        both = torch.cat([torch.where(nothing[..., None], 0.0, moved), turns], -1)
        if known and bool(done.all()):
            break
    else:
        if known:
            raise ArithmeticError(f"rows: not orthogonal after {SWEEPS} sweeps")
    return both[..., :d], both[..., d : d + n]


def _next_pairs(first: Tensor, second: Tensor) -> list[Tensor]:
    """Rows in the order in which they meet next: all but the very first move on by one seat.

    After one meeting less than there are rows each has met each other.
    """
    if first.shape[-2] == 1:
        return [first, second]
    return [
        first[..., :1, :], second[..., :1, :], first[..., 1:-1, :], second[..., 1:, :],
        first[..., -1:, :],
    ]  # fmt: skip


def _tangent(one: Tensor, two: Tensor, cosine: Tensor) -> Tensor:
    """Tangent of the smaller angle that makes two rows of these lengths orthogonal."""
    meet = (one > 0) & (two > 0) & (cosine != 0)
    ratio = torch.where(meet, two / one, 1.0)
    gap = (ratio - 1 / ratio) / 2
    root = torch.where(gap < 0, -1.0, 1.0) * torch.hypot(cosine, gap)
    return torch.where(meet, cosine / torch.where(meet, gap + root, 1.0), 0.0)
