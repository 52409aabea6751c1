"""Shared by the tests of mdpo training."""

import pytest
import torch

from mdtheory.agents.replay import Transitions

gymnasium = pytest.importorskip("gymnasium")
float64 = torch.float64


def source(seed=0):
    return torch.Generator().manual_seed(seed)


class Killed(Exception):
    """Stands for a process that dies."""


def die_at(when):
    def report(done, total):
        if done == when:
            raise Killed

    return report


# ------------------------------------------------------------------------------------- off-policy


def rows(first, number, seeds=2):
    count = torch.arange(first, first + number).float()
    wide = count[None, :, None].expand(seeds, number, 1)
    flat = count.expand(seeds, number)
    return Transitions(wide, -wide, 2 * flat, wide + 1, 0 * flat, torch.ones(seeds, number))
