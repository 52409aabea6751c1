"""Shared by the tests of mirror maps theorem."""

import pytest
import torch

N = 300
float64 = torch.float64


def at_most(left, right, terms=(), tolerance=1e-12):
    """left <= right up to rounding of the largest term."""
    scale = torch.stack([t.abs().broadcast_to(left.shape) for t in (left, right, *terms)]).amax(0)
    excess = left - right - tolerance * scale.clamp(min=1e-300)
    assert (excess <= 0).all(), f"exceeded by {excess.max().item():.2e}"


def fails(check, *arguments):
    with pytest.raises(AssertionError):
        check(*arguments)


def uniform(n, generator, low=0.01, high=1.0):
    return low + (high - low) * torch.rand(n, generator=generator, dtype=float64)
