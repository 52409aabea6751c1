"""Shared by the tests of sea play."""

import torch

from mdtheory.convex.sea import (
    StochasticallyExtendedAdversary,
)
from mdtheory.convex.sea.special_cases import bounded_noise

F64 = torch.float64
T, S, D = 40, 4, 3


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def wild(seed=0, curvature=(0.0, 0.5, 2.0), seeds=S):
    """Moves, noise and offset that differ from play to play."""
    noise, variance = bounded_noise(T, seeds, D, seeded(seed))
    return StochasticallyExtendedAdversary(
        normal(T, seeds, D, seed=seed + 1),
        noise,
        variance,
        curvature=list(curvature),
        offset=normal(seeds, D, seed=seed + 2),
        noise_scale=0.7,
        drift_scale=0.3,
    )
