"""Worlds beside those of gymnasium."""

import math
import sys

import pytest
import torch

from mdtheory.environments import CartPole, GymnasiumEnvironment, Pendulum

gymnasium = pytest.importorskip("gymnasium")
float64 = torch.float64


def source(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("ours", "name"), [(CartPole(float64), "CartPole-v1"), (Pendulum(float64), "Pendulum-v1")]
)
def test_our_worlds_move_as_those_of_gymnasium(ours, name):
    theirs = gymnasium.make(name).unwrapped
    world = ours.start(2, 3, source())
    world.reset()
    generator = source(5)
    for _ in range(8):
        if ours.discrete:
            action = torch.randint(2, (2, 3), generator=generator)
        else:
            action = 3 * torch.rand(2, 3, 1, generator=generator, dtype=float64) - 1.5
        before = world.inner.clone()
        moment = world.step(action)
        for i in range(2):
            for j in range(3):
                theirs.reset()
                theirs.state = before[i, j].numpy().copy()
                order = int(action[i, j]) if ours.discrete else 2 * action[i, j].numpy()
                seen, reward, terminated, _, _ = theirs.step(order)
                expected = torch.as_tensor(seen).to(float64)
                torch.testing.assert_close(moment.observation[i, j], expected, rtol=1e-5, atol=1e-5)
                assert moment.reward[i, j].item() == pytest.approx(float(reward), rel=1e-6)
                assert bool(moment.terminated[i, j]) == terminated


@pytest.mark.parametrize("name", [CartPole(), "CartPole-v1"], ids=["tensors", "gymnasium"])
def test_worlds_reset_in_the_step_after_the_last(name):
    environment = GymnasiumEnvironment(name) if isinstance(name, str) else name
    world = environment.start(1, 2, source())
    seen = world.reset()
    assert seen.shape == (1, 2, 4)
    action = torch.tensor([[0, 1]])
    for _ in range(100):
        moment = world.step(action)
        if moment.terminated.any():
            break
    ended = moment.terminated
    assert ended.any()
    # The observation in which the episode ended, not the first of the next one.
    assert (moment.observation[ended][:, 2].abs() > math.pi / 15).all()
    assert (moment.reward[ended] == 1).all()
    after = world.step(action)
    assert (after.observation[ended].abs() <= 0.05).all()
    assert (after.reward[ended] == 0).all()
    assert not (after.terminated | after.truncated)[ended].any()
    again = world.step(action)
    assert (again.reward[ended] == 1).all()
    world.close()


def test_time_limits_truncate_and_do_not_terminate():
    world = Pendulum().start(1, 3, source())
    world.reset()
    action = torch.zeros(1, 3, 1)
    for k in range(1, 203):
        moment = world.step(action)
        assert not moment.terminated.any()
        assert bool(moment.truncated.all()) == (k == 200)
    theirs = GymnasiumEnvironment("Pendulum-v1").start(1, 3, source())
    theirs.reset()
    for k in range(1, 202):
        moment = theirs.step(action)
        assert bool(moment.truncated.all()) == (k == 200)
    theirs.close()


def test_actions_are_scaled_to_what_the_environment_wants():
    environment = GymnasiumEnvironment("Pendulum-v1")
    assert (environment.observed, environment.actions, environment.discrete) == (3, 1, False)
    world = environment.start(1, 1, source())
    world.reset()
    orders = []

    class Heard:
        def step(self, order):
            orders.append(order.copy())
            return torch.zeros(1, 3).numpy(), *(torch.zeros(1).numpy() for _ in range(3)), {}

    world.worlds.close()
    world.worlds = Heard()
    for value in (-1.0, 0.25, 7.0):
        world.step(torch.full((1, 1, 1), value))
    assert [order.item() for order in orders] == [-2.0, 0.5, 2.0]


def test_environments_that_do_not_fit_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"^name: expected observations"):
        GymnasiumEnvironment("FrozenLake-v1")
    with pytest.raises(ValueError, match=r"^copies: expected"):
        CartPole().start(1, 0, source())
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match="notebooks"):
        GymnasiumEnvironment("CartPole-v1")


def test_without_mujoco_the_message_says_what_to_install(monkeypatch):
    def missing(name):
        raise gymnasium.error.DependencyNotInstalled("no mujoco")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(ImportError, match=r"mdtheory\[mujoco\]"):
        GymnasiumEnvironment("HalfCheetah-v5")
