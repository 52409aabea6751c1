"""Worlds on every device present against float64 on the CPU, and elsewhere under fake tensors."""

import pytest
import torch

from mdtheory.environments.classic import _CartPoleWorld, _PendulumWorld
from tests.everywhere import DEVICES, agrees_with_the_cpu, stays

S, N = 2, 12


def table(device, dtype, *shape, shift=0):
    """Numbers that are the same everywhere."""
    size = torch.Size(shape).numel()
    flat = torch.arange(shift, shift + size, dtype=dtype, device=device)
    return torch.cos(3 * flat).reshape(shape)


def world(make, discrete):
    def case(device, dtype):
        played = make.__new__(make)
        played.inner = table(device, dtype, S, N, played.width) / 20
        played.age = torch.zeros(S, N, dtype=torch.int64, device=device)
        played.over = table(device, dtype, S, N) > 0.9
        start = table(device, dtype, S, N, played.width, shift=3) / 30
        played._first = lambda: start
        action = table(device, dtype, S, N) > 0 if discrete else table(device, dtype, S, N, 1)
        steps = [played.step(action.long() if discrete else action) for _ in range(3)]
        return tuple(part for step in steps for part in step)

    return case


CASES = {"CartPole": world(_CartPoleWorld, True), "Pendulum": world(_PendulumWorld, False)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)
