"""What the tests of part two share: random tabular problems, and their exact evaluation."""

import pytest
import torch

float64 = torch.float64


class Tabular:
    """Random finite Markov decision processes, evaluated by linear systems."""

    def __init__(self, generator, problems=200, states=5, actions=3, discount=0.9):
        def draw(*shape):
            return torch.rand(problems, *shape, generator=generator, dtype=float64)

        self.discount = discount
        self.transition = draw(states, actions, states) ** 4
        self.transition = self.transition / self.transition.sum(-1, keepdim=True)
        self.reward = draw(states, actions)
        self.start = draw(states) + 0.1
        self.start = self.start / self.start.sum(-1, keepdim=True)

    def policy(self, generator, sharpness=1.0):
        shape = self.reward.shape
        return (sharpness * torch.randn(*shape, generator=generator, dtype=float64)).softmax(-1)

    def kernel(self, policy):
        return torch.einsum("bsa,bsat->bst", policy, self.transition)

    def values(self, policy):
        system = torch.eye(policy.shape[1], dtype=float64) - self.discount * self.kernel(policy)
        return torch.linalg.solve(system, (policy * self.reward).sum(-1))

    def advantages(self, policy):
        value = self.values(policy)
        ahead = torch.einsum("bsat,bt->bsa", self.transition, value)
        return self.reward + self.discount * ahead - value[..., None]

    def visits(self, policy):
        """Discounted law of the states, which sums to 1."""
        system = torch.eye(policy.shape[1], dtype=float64) - self.discount * self.kernel(policy).mT
        return (1 - self.discount) * torch.linalg.solve(system, self.start)

    def worth(self, policy):
        return (self.start * self.values(policy)).sum(-1)


@pytest.fixture
def tabular():
    return Tabular


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)
