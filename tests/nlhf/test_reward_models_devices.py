"""Reward models on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory.nlhf import reward_models as rm
from mdtheory.nlhf.reward_models import bounds
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays


def policy(device, dtype):
    return numbers(device, dtype, 2, 5).log_softmax(-1)


def scores(device, dtype):
    # With ties, far from rounding.
    return (3 * numbers(device, dtype, 2, 5)).round()


def losses(device, dtype):
    margins, labels = numbers(device, dtype, 2, 3, 4), numbers(device, dtype, 2, 1, 4).sigmoid()
    weight = numbers(device, dtype, 3, 4).sigmoid()
    return (
        rm.bradley_terry_loss(margins, labels), rm.bradley_terry_loss(margins),
        *(rm.ensemble_objective(margins, kind, weight) for kind in ("mean", "WCO", "UWO")),
        rm.drop_from_peak(margins), *rm.kl_estimates(margins),
    )  # fmt: skip


def best(device, dtype):
    p, s, n = policy(device, dtype), scores(device, dtype), torch.ones(2, device=device).to(dtype)
    return (
        rm.best_of_n_policy(p, s, 4.0), rm.best_of_n_policy(p, s, 3 * n), rm.rank(p, s),
        rm.best_of_n_divergence(3 * n), rm.best_of_n_divergence(4.0, p.exp()),
        rm.best_of_n_win_rate(3 * n), rm.best_of_n_win_rate(4.0, p.exp()),
        rm.best_of_n_estimate(s, numbers(device, dtype, 2, 5), [1, 3, 5]),
        rm.best_of_n_estimate(s, s, 2),
        bounds.regret_factor(3 * n), bounds.fit_error_bound(3, 5 * n, 1.0),
        bounds.log_mean_tail(n, 3, 0.4), bounds.log_worst_case_tail(n, 3, 0.4),
        bounds.log_worst_case_floor(n, 3, 0.4), rm.tilted_policy(p, s, 0.7 * n),
    )  # fmt: skip


def solved(device, dtype):
    p, r = policy(device, dtype), numbers(device, dtype, 2, 5)
    goal = torch.full((2,), 0.1, dtype=dtype, device=device)
    mean = (rm.tilted_policy(p, r, 0.8).exp() * r).sum(-1)
    return (
        rm.tilt_of_divergence(p, r, goal), rm.tilt_of_reward(p, r, mean),
        *rm.rank_tilt(goal), *rm.rank_tilt_of(divergence=goal),
        *rm.rank_tilt_of(win_rate=goal + 0.5),
    )  # fmt: skip


def curves(device, dtype):
    rewards, gold = numbers(device, dtype, 2, 3, 6), numbers(device, dtype, 2, 6)
    edges = torch.tensor([0.0, 0.5, 1.0], dtype=dtype, device=device)
    return (rm.conditional_gold(rewards, gold[:, None], edges),)


def golds(device, dtype):
    world = rm.AnswerWorld(2, torch.Generator(device).manual_seed(1), features=3, dtype=dtype)
    world.direction, one = numbers(device, dtype, 2, 3), torch.ones(2, dtype=dtype, device=device)
    world.mean, world.deviation = 0 * one, one
    x = 3 * numbers(device, dtype, 2, 4, 3)
    return world.gold(x), world.is_odd(x)


CASES = {"losses": losses, "best": best, "solved": solved, "curves": curves, "golds": golds}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", ["losses", "best"])
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
def test_training_and_climbing_stay_on_their_device(device, dtype):
    generator = torch.Generator(device).manual_seed(2)
    world = rm.AnswerWorld(2, generator, features=3, dtype=dtype)
    data = world.compare(40, generator, noise=[0.0, 0.25])
    ensemble = rm.train_reward_ensemble(
        *data, members=2, epochs=1, step_size=1e-2, generator=generator, hidden=(4,), batch=16
    ).normalized(world.draw(1, 50, generator=generator))
    rewards = ensemble(world.draw(1, 20, generator=generator))
    assert rewards.shape == (2, 2, 2, 20)
    means = rm.climb_objective(
        lambda x: ensemble(x.flatten(2, -2))[:, :, 0].unflatten(-1, x.shape[2:-1]),
        torch.zeros(2, 2, 3, 3, dtype=dtype, device=device), kl_weight=0.1, steps=2,
        step_size=0.1, samples=4, generator=generator, every=2,
    )  # fmt: skip
    for found in (rewards, means):
        assert found.device.type == device
        assert found.dtype == dtype
    found = rm.best_of_n_curves(rewards, world.gold(world.draw(1, 20, generator=generator)), [2],
                                {"single": ("single", 0.0)})  # fmt: skip
    assert found["single"].gold.device.type == device
