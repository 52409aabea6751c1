"""Demonstrations, cloning, imitation through physics and by likelihood ratios."""

import math

import pytest
import torch

from mdtheory.environments import Pendulum, Puck
from mdtheory.rl import differentiable_physics as dp
from mdtheory.rl.differentiable_physics.training import _payments
from tests.rl.physics_cases import WORLDS, Line, draws

SMALL = {"copies": 4, "hidden": (8,), "warm_up": 30}


def short(world, steps=30):
    shown = dp.demonstrate(world)
    return dp.Demonstration(shown.states[:steps], shown.actions[:steps])


@pytest.mark.parametrize("name", WORLDS)
def test_experts_succeed_and_demonstrations_are_their_steps(name):
    world = WORLDS[name](torch.float32)
    shown = dp.demonstrate(world)
    assert shown.states.shape == (world.horizon, world.width)
    assert shown.actions.shape == (world.horizon, world.actions)
    assert shown.actions.abs().max() <= 1
    torch.testing.assert_close(world.step(shown.states[:-1], shown.actions[:-1]), shown.states[1:])
    assert torch.equal(shown.states[0], world.home())
    assert world.success(dp.demonstrate(world, steps=world.duration).states)
    many = dp.demonstrate(world, world.reset((2, 3), draws()), 5)
    assert many.states.shape == (2, 3, 5, world.width)


def test_cloning_learns_the_shown_actions():
    world = Pendulum()
    shown = dp.demonstrate(world)
    seen = world.observe(shown.states).expand(3, -1, -1)

    def error(steps):
        policy = dp.behaviour_cloning(world, shown, draws(1), seeds=3, steps=steps, hidden=(32,))
        return (policy(seen) - shown.actions).square().mean((1, 2))

    assert (error(400) < 0.6 * error(0)).all()


def test_imitation_through_physics_learns():
    """The loss of rollouts falls by a quarter in twenty iterations."""
    world = Puck()
    shown = dp.demonstrate(world)
    record = dp.train_ild(
        world, shown, seeds=2, iterations=20, copies=6, generator=draws(3), truncation=None,
        warm_up=500,
    )  # fmt: skip
    assert record.losses.shape == record.gradient_norms.shape == (20, 2)
    assert record.losses[-5:].mean() < 0.75 * record.losses[0].mean()


@pytest.mark.parametrize("loss", ["chamfer", "matching"])
def test_a_walk_is_learnt_from_nothing(loss):
    """From the states alone, in a world whose every step can be made at once."""
    world = Line()
    shown = dp.demonstrate(world)
    record = dp.train_ild(
        world, shown.states, loss=loss, seeds=3, iterations=150, copies=8, generator=draws(3),
        hidden=(8,), learning_rate=0.02,
    )  # fmt: skip
    assert (record.losses[-5:].mean(0) < 0.2 * record.losses[0]).all()
    assert (dp.success_rate(world, record.policy, draws(4)) > 0.7).all()


def test_rows_do_not_meet():
    """A comparison in one batch is the comparison in many."""
    world = Pendulum()
    shown = short(world)
    base = dp.behaviour_cloning(world, shown, draws(1), seeds=2, steps=20, hidden=(8,))
    names = ["chamfer", "matching", "deviation", "coverage"]
    still = {"spread": 0.0, "copies": 2, "iterations": 3}
    rows = base.rows(torch.arange(2).repeat(4))
    together = dp.train_ild(
        world, shown, loss=[n for n in names for _ in range(2)], seeds=8, policy=rows,
        generator=draws(2), truncation=torch.tensor([5, 5, 0, 0, 5, 5, 5, 5]),
        alpha=torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 1]), **still,
    )  # fmt: skip
    for k, name in enumerate(names):
        alone = dp.train_ild(
            world, shown, loss=name, seeds=2, policy=base, generator=draws(7),
            truncation=None if name == "matching" else 5, **still,
        )  # fmt: skip
        mine = slice(2 * k, 2 * k + 2)
        torch.testing.assert_close(together.losses[:, mine], alone.losses, rtol=1e-4, atol=1e-5)
        for a, b in zip(together.policy.network.parameters, alone.policy.network.parameters,
                        strict=True):  # fmt: skip
            torch.testing.assert_close(a[mine], b, rtol=1e-3, atol=1e-4)


def test_a_number_as_a_tensor_is_that_number():
    world = Line()
    shown = dp.demonstrate(world)
    runs = [
        dp.train_ild(world, shown, seeds=2, iterations=2, generator=draws(1), truncation=cut,
                     step_clip=clip, **SMALL).losses
        for cut, clip in ((4, 0.1), (torch.tensor(4), torch.tensor(0.1)))
    ]  # fmt: skip
    assert torch.equal(*runs)


def test_a_policy_that_is_given_stays_as_it_is():
    world = Pendulum()
    shown = short(world)
    base = dp.behaviour_cloning(world, shown, draws(1), seeds=2, steps=5, hidden=(8,))
    before = [p.detach().clone() for p in base.network.parameters]
    record = dp.train_ild(world, shown, seeds=2, iterations=2, policy=base, copies=2)
    for a, b in zip(before, base.network.parameters, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(before[0], record.policy.network.parameters[0])
    chosen = base.rows(torch.tensor([1, 1, 0]))
    assert torch.equal(chosen.network.parameters[0][1], before[0][1])
    assert chosen.seeds == 3


def test_a_loss_of_ones_own_and_states_alone():
    world = Pendulum()
    shown = short(world)
    own = dp.train_ild(
        world, shown, loss=lambda x, e: dp.chamfer_loss(x, e, 2.0), seeds=2, iterations=2,
        generator=draws(1), **SMALL,
    )  # fmt: skip
    named = dp.train_ild(
        world, shown, loss="chamfer", alpha=2.0, seeds=2, iterations=2, generator=draws(1), **SMALL
    )
    torch.testing.assert_close(own.losses, named.losses)
    by_name = dp.train_ild(world, shown, loss=dp.chamfer_loss, seeds=2, iterations=1, **SMALL)
    assert by_name.losses.shape == (1, 2)
    alone = dp.train_ild(world, shown.states, loss="matching", seeds=2, iterations=1, **SMALL)
    assert alone.policy.seeds == 2


def test_the_mean_over_the_copies_is_descended():
    """With the same start everywhere the number of copies changes nothing."""
    world = Pendulum()
    shown = short(world)
    base = dp.behaviour_cloning(world, shown, draws(1), seeds=1, steps=5, hidden=(8,))
    norms = [
        dp.train_ild(world, shown, seeds=1, iterations=1, policy=base, copies=n, spread=0.0)
        .gradient_norms
        for n in (2, 16)
    ]  # fmt: skip
    torch.testing.assert_close(*norms, rtol=1e-4, atol=1e-6)


def test_an_endless_gradient_is_left_out():
    world = Pendulum()
    shown = short(world, 5)
    base = dp.behaviour_cloning(world, shown, draws(1), seeds=2, steps=5, hidden=(8,))

    def spoiled(features, shown):
        factor = torch.tensor([[1.0], [math.inf]])
        return factor * features.square().sum((-2, -1))

    record = dp.train_ild(
        world, shown, loss=spoiled, seeds=2, iterations=1, policy=base, copies=2,
        step_clip=torch.inf, truncation=None,
    )  # fmt: skip
    assert record.gradient_norms[0, 0].isfinite()
    assert record.gradient_norms[0, 1].isinf()
    moved = [
        (a - b).abs().amax((1, 2))
        for a, b in zip(record.policy.network.parameters, base.network.parameters, strict=True)
    ]
    assert moved[0][0] > 0
    assert all(m[1] == 0 for m in moved)


def test_likelihood_ratios_learn_the_same_loss():
    world = Line()
    record = dp.train_likelihood_ratio(
        world, dp.demonstrate(world).states, seeds=3, iterations=300, copies=16,
        generator=draws(4), hidden=(8,), learning_rate=0.02,
    )  # fmt: skip
    assert (record.losses[-10:].mean(0) < 0.5 * record.losses[:5].mean(0)).all()
    assert (dp.success_rate(world, record.policy, draws(4)) > 0.7).all()


def test_payments_add_up_to_the_loss():
    world = Puck()
    shown = dp.demonstrate(world)
    start = world.reset((2, 3), draws(5))
    path = dp.rollout(world, lambda seen: seen[..., :2], start, 20).detach()
    features, goal = world.features(path), world.features(shown.states)
    torch.testing.assert_close(
        _payments(features, goal, 0.5).sum(-1), dp.chamfer_loss(features, goal, 0.5),
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip


def test_success_in_other_physics_and_noise():
    world = Pendulum()
    policy = dp.behaviour_cloning(world, dp.demonstrate(world), draws(), seeds=3, steps=20)
    for options in ({}, {"spread": 0.0}, {"noise": 0.2}, {"parameters": {"mass": 1.2}}):
        rates = dp.success_rate(world, policy, draws(1), copies=10, **options)
        assert rates.shape == (3,)
        assert ((rates >= 0) & (rates <= 1)).all()
    # Who stands upright at once and is not pushed stays there.
    still = torch.zeros(2, 200, 2)
    still[1, :, 0] = math.pi
    assert world.success(still).tolist() == [True, False]
