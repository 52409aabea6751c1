"""Worlds as functions: against the worlds that are started, in batches, their energies, contact."""

import math

import pytest
import torch

from mdtheory.environments import (
    CartPoleSwingup,
    Differentiable,
    Pendulum,
    Puck,
    Rope,
    draw_puck,
    draw_rope,
    ease_pendulum,
)
from mdtheory.environments.contact import length

F64 = torch.float64
WORLDS = {
    "pendulum": Pendulum, "swing-up": CartPoleSwingup, "puck": lambda d: Puck("smooth", d),
    "hard puck": lambda d: Puck("hard", d), "rope": Rope,
}  # fmt: skip


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(shape, generator=draws(seed), dtype=F64)


@pytest.mark.parametrize("kind", [Pendulum, CartPoleSwingup])
def test_a_step_is_that_of_the_started_world(kind):
    """Where nothing is clamped: one set of equations for both."""
    environment = kind(F64)
    world = environment.start(2, 5, draws(1))
    world.reset()
    state = world.inner.clone()
    action = 2 * torch.rand(2, 5, 1, generator=draws(2), dtype=F64) - 1
    for _ in range(8):
        state = environment.step(state, action)
        moment = world.step(action)
        assert torch.equal(state, world.inner)
        assert torch.equal(environment.observe(state), moment.observation)


@pytest.mark.parametrize("name", WORLDS)
def test_shapes_dtypes_and_starts(name):
    for dtype in (torch.float32, F64):
        world = WORLDS[name](dtype)
        assert isinstance(world, Differentiable)
        start = world.reset((3, 4), draws())
        assert start.shape == (3, 4, world.width)
        assert start.dtype == dtype
        action = world.expert(start, 0)
        assert action.shape == (3, 4, world.actions)
        assert action.abs().max() <= 1
        after = world.step(start, action)
        assert after.shape == start.shape
        assert after.dtype == dtype
        assert world.observe(after).shape == (3, 4, world.observed)
        assert world.features(after).shape[:2] == (3, 4)
        path = torch.stack([start, after], -2)
        assert world.success(path).shape == (3, 4)
        assert world.success(path).dtype == torch.bool
    none = world.reset((2,), draws(), 0.0)
    assert torch.equal(none, world.home().expand(2, -1))
    wide = world.reset((4000,), draws(1), 2 * world.spread) - world.home()
    usual = world.reset((4000,), draws(1)) - world.home()
    torch.testing.assert_close(wide, 2 * usual, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", WORLDS)
def test_constants_one_for_each_instance(name):
    world = WORLDS[name](F64)
    state = world.reset((3, 4), draws())
    action = 0.5 * torch.ones(3, 4, world.actions, dtype=F64)
    for key, usual in world.constants.items():
        values = usual * torch.tensor([[0.8], [1.0], [1.3]], dtype=F64)
        for _ in range(3):
            state = world.step(state, action)
        together = world.step(state, action, {key: values})
        for k, factor in enumerate((0.8, 1.0, 1.3)):
            alone = world.step(state[k], action[k], {key: factor * usual})
            torch.testing.assert_close(together[k], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together[1], world.step(state, action)[1])
    assert world.constants == WORLDS[name](F64).constants


@pytest.mark.parametrize("name", ["pendulum", "swing-up", "puck", "rope"])
def test_gradients_of_a_step(name):
    world = WORLDS[name](F64)
    state = (world.home() + 0.1 * normal(3, 2, world.width)).requires_grad_()
    action = normal(4, 2, world.actions).tanh().requires_grad_()
    constants = {
        key: torch.tensor(value, dtype=F64, requires_grad=True)
        for key, value in world.constants.items()
    }

    def step(state, action, *values):
        return world.step(state, action, dict(zip(constants, values, strict=True)))

    assert torch.autograd.gradcheck(step, (state, action, *constants.values()))


def test_energy_of_a_free_pendulum_stays_in_a_band():
    """Speeds first: the energy oscillates; with the old speed it would grow without end."""
    world = Pendulum(F64)

    def energy(state):
        return state[..., 1].square() / 6 + 5 * (state[..., 0].cos() - 1)

    state = other = torch.tensor([math.pi - 1.5, 0.0], dtype=F64)
    start, seen = energy(state), []
    for _ in range(2000):
        state = world.step(state, torch.zeros(1, dtype=F64))
        angle, turn = other
        other = torch.stack([angle + 0.05 * turn, turn + 0.05 * 15 * angle.sin()])
        seen.append(energy(state))
    assert (torch.stack(seen) - start).abs().max() < 0.6
    assert energy(other) > start + 5


def met(contact, closing=0.5, mass=1.0):
    """A disc that runs into a puck at rest, no friction: speeds after."""
    world = Puck(contact, F64)
    state = torch.tensor([-0.35, 0, closing, 0, 0, 0, 0, 0], dtype=F64)
    push = torch.zeros(2, dtype=F64)
    for _ in range(16):
        # Friction of the disc is part of the world; it is undone by a force.
        push = torch.stack([state[2] / 3, state[3] / 3])
        state = world.step(state, push, {"friction": 0.0, "mass": mass})
    return state


@pytest.mark.parametrize("contact", ["smooth", "hard"])
def test_an_impact_pushes_forward_only(contact):
    after = met(contact)
    assert after[6] > 0.2
    assert after[[3, 5, 7]].abs().max() < 1e-9
    heavy = met(contact, mass=4.0)
    assert 0 < heavy[6] < after[6]


def test_a_hard_impact_keeps_momentum_and_ends_the_approach():
    world = Puck("hard", F64)
    state = torch.tensor([-0.29, 0, 0.5, 0, 0, 0, 0.1, 0], dtype=F64)
    after = world.step(state, torch.tensor([0.5 / 3, 0.0], dtype=F64), {"friction": 0.0})
    # In the first small step both take the mean of their speeds.
    assert after[2].item() == pytest.approx(after[6].item(), abs=0.02)
    assert after[6].item() == pytest.approx(0.3, abs=0.02)
    apart = torch.tensor([-0.29, 0, -0.5, 0, 0, 0, 0.1, 0], dtype=F64)
    free = world.step(apart, torch.zeros(2, dtype=F64), {"friction": 0.0})
    assert free[6] == apart[6]


def test_a_rope_hangs_and_is_led():
    world = Rope(F64)
    state = world.home()
    for _ in range(400):
        state = world.step(state, torch.zeros(2, dtype=F64))
    place, speed = state.unflatten(-1, (2, 10, 2))
    assert speed.abs().max() < 1e-3
    assert torch.equal(place[0], world.home()[:2])
    # Each spring carries what hangs below it.
    stretch = (place[:-1, 1] - place[1:, 1]) - 0.12
    below = torch.arange(9, 0, -1, dtype=F64) * 0.1 * 5 / 150
    torch.testing.assert_close(stretch, below, rtol=0.01, atol=1e-4)
    led = world.step(state, torch.tensor([1.0, 0.0], dtype=F64))
    assert (led[0] - state[0]).item() == pytest.approx(1.5 * 0.05)


def test_the_peg_pushes_beads_off():
    world = Rope(F64)
    state = world.home()
    # The last bead lies in the peg, the others hang above it.
    state[:20] += (torch.tensor([0.01, 0.62], dtype=F64) - state[18:20]).repeat(10)
    after = world.step(state, torch.zeros(2, dtype=F64))
    peg = torch.tensor([0.0, 0.6], dtype=F64)
    assert (after[18:20] - peg).norm() > (state[18:20] - peg).norm() + 0.02


def test_lengths_have_gradients_at_zero():
    vector = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=F64, requires_grad=True)
    found = length(vector)
    assert found[:, 0].tolist() == [5.0, 0.0]
    [slope] = torch.autograd.grad(found.sum(), vector)
    torch.testing.assert_close(slope, torch.tensor([[0.6, 0.8], [0.0, 0.0]], dtype=F64))


def test_the_gentle_expert_pumps_and_holds():
    observation = torch.tensor(
        [[-1.0, 0.0, 0.0], [-1.0, 0.0, 0.02], [-1.0, 0.0, -0.02], [1.0, 0.05, 0.0]], dtype=F64
    )
    found = ease_pendulum(observation)[:, 0]
    assert found[0] == 1  # from rest, to one side
    assert found[1] > 0 > found[2]
    assert found[1] == -found[2]
    assert found[3].item() == pytest.approx(-6 * math.atan2(0.05, 1.0))


def test_frames_of_the_puck_and_the_rope():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, axes = pyplot.subplots(1, 2)
    draw_puck(axes[0], Puck().home())
    assert len(axes[0].patches) == 2
    draw_rope(axes[1], Rope().home())
    assert axes[1].lines[0].get_xydata()[0].tolist() == pytest.approx([-0.7, 0.1])
    pyplot.close(figure)
