"""Shared by the tests of mdpo training."""

import pytest
import torch

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
