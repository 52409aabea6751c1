"""Shared by the tests of mdpo."""

import torch

float64 = torch.float64
N, D = 200, 4


def equal(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def draws(seed=11):
    """Normal numbers that begin anew with every call, so that two checks meet the same."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=float64)


def kl(x, y):
    return (x * (x.log() - y.log())).sum(-1)
