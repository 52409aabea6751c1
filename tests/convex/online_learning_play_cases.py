"""Shared by the tests of online learning play."""

import torch

F64 = torch.float64
B, D, T = 6, 4, 50


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(*shape, seed=0, dtype=F64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def centre(*batch, d=D, dtype=F64):
    return torch.full((*batch, d), 1 / d, dtype=dtype)


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def path(learner, gradients):
    """Decisions of the rounds and the last one, one update after the other."""
    points = [learner.decision]
    for gradient in gradients:
        learner.update(gradient)
        points.append(learner.decision)
    return torch.stack(points)
