"""Rollouts and their gradients."""

import math

import pytest
import torch

from mdtheory.rl import differentiable_physics as dp
from tests.rl.physics_cases import F64, WORLDS, draws, normal, steered


def test_states_are_those_before_each_step():
    world = WORLDS["pendulum"]()
    seen = []

    def policy(observation):
        seen.append(observation)
        return observation[..., :1] / 2

    start = world.reset((3, 2), draws())
    states = dp.rollout(world, policy, start, 4)
    assert states.shape == (3, 2, 4, 2)
    assert torch.equal(states[..., 0, :], start)
    assert len(seen) == 3
    for t in range(3):
        here = states[..., t, :]
        assert torch.equal(seen[t], world.observe(here))
        torch.testing.assert_close(states[..., t + 1, :], world.step(here, seen[t][..., :1] / 2))
    assert dp.rollout(world, policy, start, 1).shape == (3, 2, 1, 2)


@pytest.mark.parametrize("name", WORLDS)
def test_a_batch_is_a_loop(name):
    world = WORLDS[name]()
    theta = 0.3 * normal(draws(1), world.observed * world.actions)
    start = world.reset((2, 3), draws(2))

    def act(seen):
        return steered(seen, theta)

    whole = dp.rollout(world, act, start, 20)
    for i in range(2):
        for j in range(3):
            alone = dp.rollout(world, act, start[i, j], 20)
            torch.testing.assert_close(whole[i, j], alone, rtol=1e-9, atol=1e-9)


# Gentle feedback, so that two hundred steps remain a smooth function of it.
GENTLE = {"pendulum": 0.02, "cartpole": 0.02, "puck": 0.1, "rope": 0.05}


@pytest.mark.parametrize("name", GENTLE)
def test_gradients_through_two_hundred_steps(name):
    """Against central differences, whose step is halved until two of them agree."""
    world = WORLDS[name]()
    size = world.observed * world.actions
    theta = GENTLE[name] * normal(draws(4), size)
    start = world.home()[None]

    def loss(theta):
        states = dp.rollout(
            world, lambda seen: steered(seen, theta), start, 200, truncation=None,
            step_clip=math.inf,
        )  # fmt: skip
        return world.features(states).square().mean()

    theta.requires_grad_()
    [slope] = torch.autograd.grad(loss(theta), theta)
    directions = torch.nn.functional.normalize(normal(draws(5), 4, size), dim=-1)
    along = directions @ slope
    assert along.abs().min() > 1e-6
    with torch.no_grad():
        for direction, expected in zip(directions, along, strict=True):
            found = []
            for h in (2e-6, 1e-6):
                shift = h * direction
                found.append((loss(theta + shift) - loss(theta - shift)) / (2 * h))
            scale = max(expected.abs().item(), 1e-3)
            own = abs(found[0] - found[1]).item() / scale
            assert own < 1e-4
            assert abs(found[1] - expected).item() / scale < 1e-6 + 10 * own


@pytest.mark.parametrize("name", ["pendulum", "cartpole", "puck", "rope"])
def test_gradcheck_of_a_rollout(name):
    world = WORLDS[name]()
    theta = (0.3 * normal(draws(6), world.observed * world.actions)).requires_grad_()
    start = world.reset((1,), draws(7)).requires_grad_()

    def last(theta, start):
        return dp.rollout(
            world, lambda seen: steered(seen, theta), start, 5, truncation=None,
            step_clip=math.inf,
        )[..., -1, :].sum()  # fmt: skip

    assert torch.autograd.gradcheck(last, (theta, start), eps=1e-6, atol=1e-5)


# What passes a step backwards.


def test_the_clip_is_the_identity_with_shorter_cotangents():
    x = normal(draws(), 5, 3).requires_grad_()
    y = dp.clip_cotangent(x, 1.0)
    assert torch.equal(x, y)
    sent = torch.tensor(
        [[3.0, 4.0, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.0], [math.nan, 0.0, 2.0], [1e200, 0, 0]],
        dtype=F64,
    )
    [got] = torch.autograd.grad(y, x, sent)
    wanted = [[0.6, 0.8, 0], [0.3, 0.4, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=F64))
    # Each sample by itself: not the norm of the whole batch, and nothing is made longer.
    [got] = torch.autograd.grad(dp.clip_cotangent(x, torch.inf), x, sent.nan_to_num())
    torch.testing.assert_close(got, sent.nan_to_num())
    limits = torch.tensor([10.0, 0.1, 1.0, 1.0, 2.0], dtype=F64)
    [got] = torch.autograd.grad(dp.clip_cotangent(x, limits), x, sent)
    torch.testing.assert_close(got.norm(dim=-1), torch.tensor([5.0, 0.1, 0, 1, 2], dtype=F64))


def test_cuts_and_clips_for_each_trajectory():
    world = WORLDS["pendulum"]()
    start = world.reset((3,), draws(8))
    gain = torch.tensor(0.5, dtype=F64, requires_grad=True)

    def slope(**options):
        states = dp.rollout(world, lambda seen: gain * seen[..., :1], start, 25, **options)
        rows = [torch.autograd.grad(r.sum(), gain, retain_graph=True)[0] for r in states]
        return states, torch.stack(rows)

    cuts, clips = torch.tensor([0, 5, 10]), torch.tensor([math.inf, 1.0, 0.1], dtype=F64)
    states, together = slope(truncation=cuts, step_clip=clips)
    for k, (cut, clip) in enumerate(zip((None, 5, 10), clips.tolist(), strict=True)):
        alone_states, alone = slope(truncation=cut, step_clip=clip)
        torch.testing.assert_close(together[k], alone[k])
        torch.testing.assert_close(states, alone_states)
    assert len({round(v, 9) for v in together.tolist()}) == 3


def test_noise_and_other_physics():
    world = WORLDS["pendulum"]()
    start = world.reset((2, 3), draws(9))

    def still(seen):
        return torch.zeros_like(seen[..., :1])

    quiet = dp.rollout(world, still, start, 10)
    sizes = torch.tensor([[0.0], [0.5]], dtype=F64)
    noisy = dp.rollout(world, still, start, 10, noise=sizes, generator=draws(1))
    torch.testing.assert_close(noisy[0], quiet[0])
    assert (noisy[1] - quiet[1]).abs().amax() > 0.01
    again = dp.rollout(world, still, start, 10, noise=sizes, generator=draws(1))
    assert torch.equal(noisy, again)
    masses = torch.tensor([[1.0], [2.0]], dtype=F64)
    pushed = dp.rollout(
        world, lambda seen: torch.ones_like(seen[..., :1]), start, 10, parameters={"mass": masses}
    )
    alone = dp.rollout(
        world, lambda seen: torch.ones_like(seen[..., :1]), start, 10, parameters={"mass": 2.0}
    )
    torch.testing.assert_close(pushed[1], alone[1])
    assert (pushed[0] - alone[0]).abs().amax() > 0.01


def test_the_caller_keeps_the_start():
    world = WORLDS["rope"](torch.float32)
    start = world.reset((2,), draws())
    before = start.clone()
    states = dp.rollout(world, lambda seen: torch.ones_like(seen[..., :2]), start, 3)
    states.fill_(7)
    assert torch.equal(start, before)
    assert states.dtype == torch.float32
