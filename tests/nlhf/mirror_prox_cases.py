"""Shared by the tests of mirror prox."""

import math

import torch

from mdtheory.nlhf import nash_md as nash
from tests import refused

fails = refused.fails
F64 = torch.float64
SIZES = (3, 4, 8, 12, 20)
COUNT = 200


def at_most(left, right, tolerance=1e-11):
    refused.at_most(left, torch.as_tensor(right, dtype=F64), tolerance=tolerance)


def close(left, right, tolerance=1e-11):
    refused.close(left, right, tolerance=tolerance)


class Games:
    """Random intransitive preferences, with random references and temperatures."""

    def __init__(self, actions, count=COUNT, seed=51, spread=1.0):
        generator = torch.Generator().manual_seed(seed + actions)
        upper = torch.rand(count, actions, actions, generator=generator, dtype=F64).triu(1)
        lower = (1 - upper.mT).tril(-1)
        self.preference = upper + lower + 0.5 * torch.eye(actions, dtype=F64)
        draws = spread * torch.randn(count, actions, generator=generator, dtype=F64)
        self.reference = draws.log_softmax(-1)
        self.temperature = torch.linspace(0.05, 1, count, dtype=F64)
        self.generator = generator
        self.play()

    def play(self):
        self.game = nash.PreferenceGame(self.preference, self.reference, self.temperature)
        self.star = nash.regularized_nash(self.game)

    def policy(self, spread=2.0):
        draws = torch.randn(self.star.shape, generator=self.generator, dtype=F64)
        return (spread * draws).log_softmax(-1)

    def step(self, policy, opponent, gamma):
        gamma = torch.as_tensor(gamma, dtype=F64)
        return self.game.step(policy, opponent, gamma[..., None])


def cycle(strength=0.5):
    turn = torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64)
    return 0.5 + strength * turn, torch.full((3,), -math.log(3), dtype=F64)


def inner(payoff, first, second):
    return (payoff * (first.exp() - second.exp())).sum(-1)
