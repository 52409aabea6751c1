"""Shared by the tests of mirror maps."""

import math

import torch

N = 50
float64 = torch.float64
INF, NAN = math.inf, math.nan


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=float64)


def same(left, right, rtol=1e-12, atol=1e-14):
    torch.testing.assert_close(left, right, rtol=rtol, atol=atol)
