"""Imitation on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory.environments import CartPoleSwingup, Pendulum
from mdtheory.rl import imitation as im
from mdtheory.rl.imitation import bounds
from mdtheory.rl.policy_mirror_descent import TabularMDP
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays


def laws(device, dtype):
    return tuple(
        numbers(device, dtype, 2, n, 12)[:, k].softmax(-1).unflatten(-1, (4, 3))
        for k, n in enumerate((1, 2, 3))
    )


def process(device, dtype):
    transition = numbers(device, dtype, 2, 4, 3, 4).softmax(-1)
    mdp = TabularMDP(transition, numbers(device, dtype, 2, 4, 3), 0.8)
    initial = numbers(device, dtype, 4).softmax(-1)
    policy = numbers(device, dtype, 2, 5, 4, 3)[:, 4].softmax(-1)
    return mdp, im.state_action_occupancy(mdp, policy, initial), initial


def measures(device, dtype):
    d, s, e = laws(device, dtype)
    step = numbers(device, dtype, 2).sigmoid()
    return (
        im.ensemble_weights(4, step), im.occupancy_divergence(d, e), im.frank_wolfe_gap(d, s, e),
        im.policy_of_occupancy(d), im.mirror_occupancies(d, e, step, 3), bounds.chi_square(s, d),
        bounds.constant_step_bound(step, step, step, 3, step), bounds.log_mean_bias_bound(
            step, step, 4), bounds.curvature(step[None], step[None]),
    )  # fmt: skip


def boosted(device, dtype):
    mdp, expert, initial = process(device, dtype)
    learn = im.mirror_learner(1, 0.5)
    record = im.boost_occupancies(mdp, expert, learn, 0.3, 3, initial=initial)
    return *record, record.weights(), im.initial_law(mdp, expert)


def searched(device, dtype):
    mdp, expert, initial = process(device, dtype)
    learn = im.mirror_learner(1, 0.5)
    record = im.boost_occupancies(mdp, expert, learn, "line_search", 1, initial=initial)
    return (record.mixture,)


def discriminators(device, dtype):
    d, _, e = laws(device, dtype)
    g = numbers(device, dtype, 2, 12)
    weights = {"expert_weight": e.flatten(-2), "learner_weight": d.flatten(-2)}
    return (
        im.discriminator_loss(g, g), im.discriminator_loss(g, g, "logistic", **weights),
        im.fit_discriminator(e, d), im.fit_discriminator(e, d, "logistic", bound=1.0),
    )  # fmt: skip


def dice(device, dtype):
    mdp, expert, _ = process(device, dtype)
    policy, nu = im.policy_of_occupancy(expert), numbers(device, dtype, 2, 4, 3)
    return im.dice_objective(mdp, policy, nu, expert), im.dice_values(mdp, policy, nu)


def swingup(device, dtype):
    world = CartPoleSwingup(dtype).start(2, 3, torch.Generator(device).manual_seed(1))
    world.reset()
    world.inner = numbers(device, dtype, 2, 3, 4)
    moment = world.step(numbers(device, dtype, 2, 3, 1))
    return moment.observation, moment.reward


CASES = {
    "measures": measures, "boosted": boosted, "searched": searched,
    "discriminators": discriminators, "dice": dice, "swingup": swingup,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", ["measures", "discriminators", "dice", "boosted", "searched"])
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_training_stays_on_its_device(device):
    generator = torch.Generator(device).manual_seed(2)
    world = Pendulum()
    data = im.demonstrate(world, im.scripted_expert(world), generator, seeds=2, episodes=1)
    settings = im.ImitationSettings(
        rounds=1, updates=4, samples=20, discriminator_steps=2, batch=8, hidden=(8,),
        evaluations=1, episodes=2,
    )  # fmt: skip
    record = im.train_ail_boost(world, data, generator, seeds=2, settings=settings)
    assert record.last.device.type == record.ensemble.device.type == device
    for rival in (im.behaviour_clone, im.value_dice):
        policy = rival(world, data, generator, seeds=2, steps=2, settings=settings)
        assert policy.network.parameters[0].device.type == device
    policy = im.iq_learn(world, data, generator, seeds=2, settings=settings)
    assert policy.network.parameters[0].device.type == device
