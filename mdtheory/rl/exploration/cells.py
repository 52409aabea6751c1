"""Cells: what counts as the same place; pictures scaled down, by a scale that suits them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number


class CellSize(NamedTuple):
    """How a picture becomes a cell: its ``width`` and ``height``, and ``depth`` steps of grey."""

    width: int
    height: int
    depth: int


def downscale(
    image: Tensor | np.ndarray, width: int = 11, height: int = 8, depth: int = 8
) -> Tensor:
    r"""A picture as a cell: averaged over areas, then rounded down to few greys.

    Equation ``eq-downscale``. All sums are of whole numbers, so the same picture gives the same
    cell on every machine.

    Args:
        image: grey pictures, whole numbers from 0 to 255, shape ``(..., rows, columns)``; sides
            need not be multiples of those of the cell.
        width: columns of the cell.
        height: rows of the cell.
        depth: steps of grey; white alone gives the level ``depth``.

    Returns:
        Levels from 0 to ``depth``, uint8, shape ``(..., height, width)``.

    Raises:
        TypeError: no tensor or array of whole numbers.
        ValueError: numbers outside 0 to 255, sizes below 1 or a depth above 255.

    Source:
        Ecoffet et al. (2019), section 2.1.
    """
    picture = torch.as_tensor(image)
    if picture.is_floating_point() or picture.is_complex() or picture.dtype == torch.bool:
        raise TypeError(f"image: expected whole numbers, got {picture.dtype}")
    if picture.ndim < 2 or 0 in picture.shape:
        raise ValueError(f"image: expected shape (..., rows, columns), got {tuple(picture.shape)}")
    for name, size in (("width", width), ("height", height), ("depth", depth)):
        require_count(name, size)
    if depth > 255:
        raise ValueError(f"depth: expected at most 255, got {depth!r}")
    if picture.dtype != torch.uint8 and bool(((picture < 0) | (picture > 255)).any()):
        raise ValueError("image: expected numbers from 0 to 255")
    rows, columns = picture.shape[-2:]
    down = _overlap(rows, height).to(picture.device)
    across = _overlap(columns, width).to(picture.device)
    # Whole numbers far below 2^53, so float64 loses nothing.
    total = down @ picture.double() @ across.mT
    return torch.floor_divide(total.long() * depth, 255 * rows * columns).to(torch.uint8)


@functools.lru_cache(maxsize=64)
def _overlap(pixels: int, parts: int) -> Tensor:
    """How much of each pixel lies in each part, in units of a pixel's share: rows sum to pixels."""
    pixel, part = torch.arange(pixels + 1) * parts, torch.arange(parts + 1) * pixels
    right = torch.minimum(pixel[1:], part[1:, None])
    left = torch.maximum(pixel[:-1], part[:-1, None])
    return (right - left).clamp(min=0).double()


def split_score(cells: Sequence[object], fraction: float = 0.125) -> float:
    r"""How well a map splits a sample of pictures: evenly, and into about as many as wished for.

    Equation ``eq-split-score``: the entropy of the cells' frequencies over its largest value, by
    :math:`\sqrt{1 + |n - fN| / (fN)}` for ``n`` cells of ``N`` pictures.

    Args:
        cells: the cell of each picture, hashable.
        fraction: :math:`f`, the cells wished for over the number of pictures, in (0, 1].

    Returns:
        A number from 0 to 1; 0 for a single cell.

    Raises:
        ValueError: no cells, or a fraction out of its range.

    Source:
        Ecoffet et al. (2021), methods.
    """
    if len(cells) == 0:
        raise ValueError("cells: expected at least one")
    if require_number("fraction", fraction, 0.0, strict=True) > 1:
        raise ValueError(f"fraction: expected a number in (0, 1], got {fraction!r}")
    counts: dict[object, int] = {}
    for cell in cells:
        counts[cell] = counts.get(cell, 0) + 1
    n, total = len(counts), len(cells)
    if n == 1:
        return 0.0
    entropy = -sum(c / total * math.log(c / total) for c in counts.values())
    wished = fraction * total
    return entropy / math.log(n) / math.sqrt(1 + abs(n - wished) / wished)


def choose_cell_size(
    images: Tensor,
    generator: torch.Generator,
    *,
    tries: int = 300,
    fraction: float = 0.125,
    start: CellSize = CellSize(11, 8, 8),  # noqa: B008
) -> tuple[CellSize, float]:
    """A cell size for what was seen lately, by random search around the best so far.

    Args:
        images: pictures as in :func:`downscale`, shape ``(N, rows, columns)``.
        generator: source of randomness, on the CPU.
        tries: sizes to try after the first.
        fraction: as in :func:`split_score`.
        start: where the search begins.

    Returns:
        The best size found, and its score.

    Raises:
        TypeError: pictures of another type.
        ValueError: no pictures, or a number out of range.

    Source:
        Ecoffet et al. (2021), methods: sides around the best ones, geometric; depth uniform.
    """
    require_count("tries", tries, 0)
    if images.ndim != 3:
        raise ValueError(f"images: expected shape (N, rows, columns), got {tuple(images.shape)}")
    rows, columns = images.shape[-2:]

    def score(size: CellSize) -> float:
        small = downscale(images, *size).flatten(1).cpu().numpy()
        return split_score([row.tobytes() for row in small], fraction)

    best, reached = start, score(start)
    for _ in range(tries):
        # An exponential number with the best side as its mean, rounded up, is geometric.
        draw = torch.rand(3, generator=generator).clamp(max=1 - 1e-7)
        width, height = (
            min(most, max(1, math.ceil(-side * math.log1p(-u))))
            for side, most, u in zip(best, (columns, rows), draw.tolist(), strict=False)
        )
        size = CellSize(width, height, 2 + int(draw[2].item() * 254))
        found = score(size)
        if found > reached:
            best, reached = size, found
    return best, reached
