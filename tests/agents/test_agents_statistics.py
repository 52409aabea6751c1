"""Running moments of observations and rewards."""

import pytest
import torch

from mdtheory.agents import Moments, Policy, RewardScale, evaluate
from mdtheory.environments import Pendulum

float64 = torch.float64


def source(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


# ----------------------------------------------------------------------------------- normalisation


def test_moments_of_pieces_are_the_moments_of_the_whole(generator):
    rows = 3 + 2 * torch.randn(2, 90, 3, generator=generator, dtype=float64)
    weight = (torch.rand(2, 90, generator=generator) < 0.7).to(float64)
    moments = Moments(2, 3, rows)
    torch.testing.assert_close(moments.standardize(rows), rows.clamp(-10, 10))
    for piece in (slice(0, 20), slice(20, 21), slice(21, 90)):
        moments.update(rows[:, piece], weight[:, piece])
    for k in range(2):
        kept = rows[k][weight[k] == 1]
        torch.testing.assert_close(moments.mean[k], kept.mean(0))
        variance = moments.square[k] / moments.count[k]
        torch.testing.assert_close(variance, kept.var(0, correction=0))
        ready = moments.standardize(rows)[k][weight[k] == 1]
        torch.testing.assert_close(ready.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    again = Moments(2, 3, rows)
    again.load(moments.state())
    assert torch.equal(again.standardize(rows), moments.standardize(rows))


def test_rewards_are_divided_by_the_deviation_of_returns(generator):
    rewards = torch.randn(50, 1, 2, generator=generator, dtype=float64)
    ended = torch.zeros(50, 1, 2, dtype=torch.bool)
    ended[20, 0, 0] = True
    scale = RewardScale(1, 2, 0.9, rewards)
    ready = scale.scale(rewards, ended, torch.ones_like(rewards))
    sums = []
    for copy in range(2):
        total = 0.0
        for t in range(50):
            total = 0.9 * total + rewards[t, 0, copy].item()
            sums.append(total)
            total = 0.0 if ended[t, 0, copy] else total
    deviation = torch.tensor(sums).double().std(correction=0)
    torch.testing.assert_close(ready, rewards / deviation, rtol=1e-6, atol=1e-6)


def test_statistics_are_frozen_in_evaluation():
    policy = Policy(Pendulum(), 2, (4,), source(), normalize=True)
    policy.moments.update(torch.randn(2, 30, 3, generator=source()), torch.ones(2, 30))
    before = {name: part.clone() for name, part in policy.moments.state().items()}
    evaluate(policy, Pendulum(), source(), episodes=2)
    assert all(torch.equal(before[name], part) for name, part in policy.moments.state().items())
