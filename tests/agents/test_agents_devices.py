"""Agents on every device present against float64 on the CPU, and elsewhere under fake tensors."""

import pytest
import torch

from mdtheory import agents
from mdtheory.agents import Categorical, Gaussian, Moments, RewardScale, SquashedGaussian
from tests.everywhere import DEVICES, agrees_with_the_cpu, stays

S, N, K = 2, 12, 3


def table(device, dtype, *shape, shift=0):
    """Numbers that are the same everywhere."""
    size = torch.Size(shape).numel()
    flat = torch.arange(shift, shift + size, dtype=dtype, device=device)
    return torch.cos(3 * flat).reshape(shape)


def sums(device, dtype):
    rewards, values = table(device, dtype, N, S), table(device, dtype, N + 1, S)
    ended = rewards > 0.7
    fell, resets = ended & (values[1:] > 0), torch.zeros_like(ended)
    found = agents.generalized_advantages(
        rewards, values, fell, ended & ~fell, discount=0.9, gae_lambda=0.8, resets=resets
    )
    return (*found, agents.standardize(rewards.mT, (~resets).mT.to(dtype)))


def laws(device, dtype):
    first, second = (table(device, dtype, S, N, K, shift=50 * k) for k in range(2))
    rows = [table(device, dtype, S, 1, K, shift=9 * k) / 3 for k in range(2)]
    action = torch.arange(N, device=device).remainder(K).expand(S, N)
    one, two = Categorical(first), Categorical(second)
    this, that = Gaussian(first, rows[0]), Gaussian(second, rows[1])
    squashed = SquashedGaussian(first, second / 2)
    return (
        one.log_prob(action), one.entropy(), one.kl(two), one.divergence(two, 1.5),
        *one.metric(second), this.log_prob(second), this.entropy(), this.kl(that),
        this.divergence(that, 1.5), *this.metric(second, rows[1]), squashed.log_prob(second),
        squashed.mode(), this.mode(),
    )  # fmt: skip


def statistics(device, dtype):
    rows, weight = table(device, dtype, S, N, K), table(device, dtype, S, N).abs()
    moments = Moments(S, K, rows)
    moments.update(rows, weight)
    rewards = table(device, dtype, 6, S, N)
    scale = RewardScale(S, N, 0.9, rewards)
    return (
        moments.standardize(rows),
        scale.scale(rewards, rewards > 0.8, torch.ones_like(rewards)),
    )


CASES = {"advantages": sums, "laws": laws, "statistics": statistics}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)
