"""Shared by the tests of mirror maps theorem."""

import torch

from tests import refused

N = 300
float64 = torch.float64


def at_most(left, right, terms=(), tolerance=1e-12):
    """left <= right up to rounding of the largest term."""
    refused.at_most(left, right, terms, tolerance=tolerance)


def uniform(n, generator, low=0.01, high=1.0):
    return low + (high - low) * torch.rand(n, generator=generator, dtype=float64)
