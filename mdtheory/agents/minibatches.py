"""Pieces of a batch, shuffled for each seed on its own.

The chapter 'Mirror descent policy optimisation' explains it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def minibatches(
    parts: tuple[Tensor, ...], epochs: int, size: int | None, generator: torch.Generator
) -> Iterable[tuple[Tensor, ...]]:
    """The full batch ``epochs`` times, or shuffled pieces of it; every seed has its own order.

    Args:
        parts: tensors ``(seeds, n, ...)``; one with a single row, which no sample changes, comes
            whole with every piece.
        epochs: passes over the batch.
        size: samples of a piece; ``None``, or at least ``n``, is the full batch.
        generator: source of the orders.

    Returns:
        The pieces, tuples like ``parts``.
    """
    if size is None or size >= parts[0].shape[1]:
        return [parts] * epochs
    return _shuffled(parts, epochs, size, generator)


def _shuffled(
    parts: tuple[Tensor, ...], epochs: int, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, ...]]:
    """Pieces that are drawn without replacement in each epoch."""
    seeds, number = parts[0].shape[:2]
    device = parts[0].device
    offsets = torch.arange(seeds, device=device)[:, None] * number
    for _ in range(epochs):
        keys = torch.rand(seeds, number, generator=generator, device=device)
        order = keys.argsort(-1)
        for k in range(math.ceil(number / size)):
            pick = order[:, k * size : (k + 1) * size]
            flat = (pick + offsets).flatten()
            yield tuple(
                part
                if part.shape[1] == 1
                else part.flatten(0, 1).index_select(0, flat).unflatten(0, pick.shape)
                for part in parts
            )
