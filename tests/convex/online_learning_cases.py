"""Shared by the tests of online learning."""

import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    BinaryEntropy,
    Box,
    Entropy,
    Euclidean,
    LogBarrier,
    Mahalanobis,
    PNorm,
    Simplex,
    Tsallis,
    VonNeumann,
)
from mdtheory.convex.online_learning import (
    dirichlet,
)

F64 = torch.float64
SEEDS, D, T = 40, 5, 60


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=seeded(seed), dtype=F64)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return (x + x.mT) / 2


def metric(seed: int = 3) -> torch.Tensor:
    root = normal(D, D, seed=seed)
    return root @ root.mT + 0.3 * torch.eye(D, dtype=F64)


def simplex_points(seed: int) -> torch.Tensor:
    return dirichlet((SEEDS,), D, seeded(seed))


def ball_points(seed: int) -> torch.Tensor:
    return Ball(1.5).project(normal(SEEDS, D, seed=seed))


def densities(seed: int) -> torch.Tensor:
    root = normal(SEEDS, D, D, seed=seed)
    square = root @ root.mT
    return symmetric(square / square.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None])


# Each geometry with points of its domain: a start, and comparators.
GEOMETRIES = {
    "whole space": (Euclidean(), lambda s: normal(SEEDS, D, seed=s)),
    "ball": (Euclidean(Ball(1.5)), ball_points),
    "box": (Euclidean(Box(-1.0, 2.0)), lambda s: 3 * uniform(SEEDS, D, seed=s) - 1),
    "projected simplex": (Euclidean(Simplex()), simplex_points),
    "mahalanobis": (Mahalanobis(metric()), lambda s: normal(SEEDS, D, seed=s)),
    "mahalanobis ball": (Mahalanobis(metric(), Ball(1.5)), ball_points),
    "entropy": (Entropy(), simplex_points),
    "p-norm": (PNorm(1.5), lambda s: normal(SEEDS, D, seed=s)),
    "bit entropy": (BinaryEntropy(), lambda s: 0.02 + 0.96 * uniform(SEEDS, D, seed=s)),
    "log-barrier": (LogBarrier(), simplex_points),
    "tsallis 1/2": (Tsallis(0.5), simplex_points),
    "tsallis 2": (Tsallis(2.0), simplex_points),
    "von neumann": (VonNeumann(), densities),
}
EVERY = pytest.mark.parametrize("name", GEOMETRIES)


def streams(mirror_map, seed: int = 7):
    """Gradients of every round: random ones and ones that answer the decision."""
    shape = (SEEDS, D) if mirror_map.event_dims == 1 else (SEEDS, D, D)
    fixed = normal(T, *shape, seed=seed)
    if mirror_map.event_dims == 2:
        fixed = symmetric(fixed)
    drift = 0.3 * normal(*fixed.shape[1:], seed=seed + 1)
    drift = symmetric(drift) if mirror_map.event_dims == 2 else drift
    yield "random", lambda t, x: fixed[t - 1]
    yield "drifting", lambda t, x: drift + 0.1 * fixed[t - 1]
    yield "alternating", lambda t, x: (-1.0) ** t * drift
    # Away from the mean of the domain: larger where the learner already is.
    yield "answering", lambda t, x: x + 0.1 * fixed[t - 1]
    yield "signs", lambda t, x: torch.where(x > x.mean(), 1.0, -1.0).to(x.dtype)


def symmetric_signs(mirror_map, gradient):
    return symmetric(gradient) if mirror_map.event_dims == 2 else gradient


def environment(mirror_map, stream):
    axes = tuple(range(-mirror_map.event_dims, 0))

    def respond(t, x):
        gradient = symmetric_signs(mirror_map, stream(t, x))
        return (gradient * x).sum(axes), gradient

    return respond


def norms(mirror_map, record):
    return mirror_map.dual_norm(record.gradients)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)
