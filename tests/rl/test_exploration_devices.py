"""Exploration's tensor programs on every device present against float64 on the CPU."""

import math

import pytest
import torch

from mdtheory.rl import exploration as ex
from mdtheory.rl.exploration.tables import TableWorld
from tests.everywhere import DEVICES, numbers, stays

F64 = torch.float64


def cells(device, dtype):
    image = (127 + 120 * numbers(device, dtype, 2, 9, 7)).long()
    return ex.downscale(image, 4, 3, 8), ex.downscale(image, 9, 11, 200)


def weights(device, dtype):
    seen = numbers(device, dtype, 3, 6).abs()
    near = numbers(device, dtype, 3, 6, 5) > 0
    return (
        ex.selection_weights(seen),
        ex.selection_weights(seen, seen + 1, seen + 2, near, (3 * seen).round(), rule="2019"),
    )


def descent(device, dtype):
    step = numbers(device, dtype, 4).abs() + 0.1
    return (
        ex.lock_descent(3, 4, step, 6),
        ex.lock_descent(3, 4, step, 6, weighted=True),
        ex.mirror_bound(3, 4, step, 6),
        ex.gradient_bound(3, 4, step, 6),
    )


CASES = {"cells": cells, "weights": weights, "descent": descent}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device):
    for ours, theirs in zip(CASES[name](device, F64), CASES[name]("cpu", F64), strict=True):
        assert ours.device.type == device
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-9, atol=1e-9)


def test_descent_stays_where_it_is(elsewhere):
    stays(lambda device, dtype: descent(device, dtype)[2:], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_training_runs_on_its_device(device):
    generator = torch.Generator(device).manual_seed(1)
    trials = ex.simulate_lock(3, 4, math.inf, generator, runs=50)
    assert trials.device.type == device
    assert ex.held_actions(2, 9, 3, 4.0, generator).device.type == device
    lock = ex.CombinationLock(4, 3)
    way = lock.combination.tolist()
    found = ex.robustify(lock, [way], generator, steps=500, episodes=16)
    assert found.policy.device.type == device
    for game in (ex.StickyGame(lock), ex.BackwardGame(lock, [way])):
        world = game.start(2, 3, generator)
        world.reset()
        step = world.step(torch.zeros(2, 3, dtype=torch.int64, device=device))
        assert {part.device.type for part in step} == {device}
        assert isinstance(world, TableWorld)
