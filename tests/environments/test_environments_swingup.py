"""The swing-up of CartPole, and the DeepMind Control suite where it is installed."""

import math

import pytest
import torch

from mdtheory.environments import CartPole, CartPoleSwingup, DeepMindEnvironment
from mdtheory.rl import imitation as im

F64 = torch.float64


def draws(seed):
    return torch.Generator().manual_seed(seed)


def started(seeds=1, copies=1, dtype=F64):
    world = CartPoleSwingup(dtype).start(seeds, copies, draws(1))
    world.reset()
    return world


def test_it_is_cartpole_with_another_clock():
    """The same forces on the same masses: what a step adds to the speeds, twice as long."""
    swing, pole = started(1, 30), CartPole(F64).start(1, 30, draws(2))
    pole.reset()
    state = 0.1 * torch.randn(1, 30, 4, generator=draws(3), dtype=F64)
    swing.inner, pole.inner = state.clone(), state.clone()
    swing.step(torch.ones(1, 30, 1, dtype=F64))
    pole.step(torch.ones(1, 30, dtype=torch.int64))
    gained = [(world.inner - state)[..., [1, 3]] for world in (swing, pole)]
    torch.testing.assert_close(gained[0], 2 * gained[1])
    # Speeds move first here.
    moved = (swing.inner - state)[..., [0, 2]]
    torch.testing.assert_close(moved, 0.04 * swing.inner[..., [1, 3]])


def test_a_free_swing_keeps_its_energy():
    """Without a force the pole swings for ten seconds and neither gains nor loses a tenth."""
    world = started()
    world.inner = torch.tensor([[[0.0, 0.0, math.pi - 1.5, 0.0]]], dtype=F64)

    def energy():
        _, speed, angle, turn = world.inner[0, 0].tolist()
        # Cart of 1 kg, pole of 0.1 kg and 1 m: both move, and the pole turns about its middle.
        along, up = speed + 0.5 * turn * math.cos(angle), -0.5 * turn * math.sin(angle)
        kinetic = 0.5 * speed**2 + 0.05 * (along**2 + up**2) + 0.5 * 0.1 / 12 * turn**2
        return kinetic + 0.1 * 9.8 * 0.5 * math.cos(angle)

    first, seen = energy(), []
    for _ in range(240):
        world.step(torch.zeros(1, 1, 1, dtype=F64))
        seen.append(energy())
    assert max(abs(value - first) for value in seen) < 0.1 * 0.98


def test_the_ends_of_the_rail_stop_the_cart():
    world = started()
    for _ in range(60):
        moment = world.step(torch.ones(1, 1, 1, dtype=F64))
    assert world.inner[0, 0, 0] == 2.4
    assert world.inner[0, 0, 1] == 0
    assert moment.reward <= 1 - 0.05 * 2.4**2
    assert not moment.terminated


def test_episodes_have_250_steps():
    world = started()
    marks = [world.step(torch.zeros(1, 1, 1, dtype=F64)).truncated.item() for _ in range(251)]
    assert marks == [False] * 249 + [True, False]


def test_forces_are_limited():
    worlds = [started() for _ in range(2)]
    for world, order in zip(worlds, (1.0, 9.0), strict=True):
        world.step(torch.full((1, 1, 1), order, dtype=F64))
    assert torch.equal(worlds[0].inner, worlds[1].inner)


def test_the_suite_behind_tensors():
    pytest.importorskip("dm_control")
    environment = DeepMindEnvironment("cartpole", "swingup", repeat=4)
    assert (environment.observed, environment.actions) == (5, 1)
    world = environment.start(2, 2, draws(1))
    first = world.reset()
    assert first.shape == (2, 2, 5)
    marks = []
    for _ in range(251):
        moment = world.step(torch.zeros(2, 2, 1))
        marks.append(bool(moment.truncated.all()))
        assert not moment.terminated.any()
    assert marks == [False] * 249 + [True, False]
    with pytest.raises(NotImplementedError):
        world.state()
    world.close()
    data = im.demonstrate(
        environment, im.scripted_expert(environment), draws(2), seeds=1, episodes=2
    )
    assert (data.returns > 700).all()


def test_tasks_that_the_suite_does_not_have_are_refused():
    pytest.importorskip("dm_control")
    with pytest.raises(ValueError, match="task: expected one of the suite"):
        DeepMindEnvironment("cartpole", "fly")
    with pytest.raises(ValueError, match="repeat: "):
        DeepMindEnvironment("cartpole", "swingup", repeat=0)
