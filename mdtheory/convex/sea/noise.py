"""Directions and bounded noise, drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_count


def bounded_noise(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    r"""Noise of mean 0 in the unit ball: a uniform direction times a uniform length.

    Args:
        rounds: ``T``.
        seeds: number of independent plays ``S``.
        dimension: ``d``.
        generator: source of randomness; its device is where the noise lives.
        dtype: of the noise.

    Returns:
        The noise, shape ``(T, S, d)``, and its variance :math:`\mathbb E\|n\|^2 = 1/3`, shape
        ``(T, S)``.

    Raises:
        TypeError: a count is no whole number.
        ValueError: a count below 1.
    """
    shape = (require_count("rounds", rounds), require_count("seeds", seeds))
    noise = directions((*shape, require_count("dimension", dimension)), generator, dtype)
    length = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    return noise * length[..., None], noise.new_full(shape, 1 / 3)


def directions(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Uniform unit vectors.

    Args:
        shape: of the result; the last axis is the vectors'.
        generator: source of randomness; its device is where they live.
        dtype: of the result.

    Returns:
        Vectors of that shape.
    """
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    return drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
