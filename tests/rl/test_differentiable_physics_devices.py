"""Imitation through physics on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory.rl import differentiable_physics as dp
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays
from tests.rl.physics_cases import WORLDS, steered


def rolled(name):
    def case(device, dtype):
        world = WORLDS[name](dtype)
        theta = 0.3 * numbers(device, dtype, world.observed * world.actions)
        start = world.home(device) + 0.01 * numbers(device, dtype, 2, 3, world.width)
        theta.requires_grad_()
        cuts = torch.tensor([[2], [0]], device=device)
        states = dp.rollout(
            world, lambda seen: steered(seen, theta), start, 5, truncation=cuts, step_clip=0.5
        )
        features = world.features(states)
        [slope] = torch.autograd.grad(features.sum(), theta)
        return states.detach(), features.detach(), slope, world.success(states.detach())

    return case


def losses(device, dtype):
    x, e = numbers(device, dtype, 2, 7, 3), numbers(device, dtype, 9, 3)[2:]
    kept = dp.assign(x, e)
    return (
        dp.chamfer_loss(x, e, 0.5), *dp.chamfer_terms(x, e), dp.state_matching_loss(x, e),
        dp.chamfer_surrogate(x, e, kept), dp.state_distance(x, e),
    )  # fmt: skip


def by_hand(device, dtype):
    parts = dp.Linearisation(numbers(device, dtype, 2, 4, 3, 3) / 3,
                             numbers(device, dtype, 2, 4, 3, 2))  # fmt: skip
    slopes = numbers(device, dtype, 2, 5, 3)
    return (
        dp.adjoint_gradient(parts, slopes), dp.truncation_bound(0.9, 1.0, slopes[..., 0], 2),
        dp.likelihood_ratio_variance(slopes, 0.5, 2.0), dp.jump_slope(slopes, 1.0, 2.0, 0.1, 0.5),
        *(dp.bounce(slopes.abs() + 0.1, c, steps=5) for c in ("flip", "impact", "spring", "soft")),
    )  # fmt: skip


def linear(device, dtype):
    world = WORLDS["pendulum"](dtype)
    theta = numbers(device, dtype, 3)
    return dp.linearise(world, steered, theta, numbers(device, dtype, 2, 4, 2))


def demonstrated(device, dtype):
    world = WORLDS["pendulum"](dtype)
    return dp.demonstrate(world, numbers(device, dtype, 3, 2), 4)


CASES = {
    **{name: rolled(name) for name in WORLDS},
    "losses": losses, "by hand": by_hand, "linear": linear, "demonstrated": demonstrated,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", ["losses", "by hand", "demonstrated"])
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_training_stays_on_its_device(device):
    world = WORLDS["pendulum"](torch.float32)
    shown = dp.demonstrate(world, world.home(device), 8)
    generator = torch.Generator(device).manual_seed(1)
    options = {"seeds": 2, "iterations": 2, "generator": generator, "copies": 2, "hidden": (4,)}
    for train in (dp.train_ild, dp.train_likelihood_ratio):
        record = train(world, shown, warm_up=2, **options)
        assert record.losses.device.type == device
        assert record.policy.network.parameters[0].device.type == device
