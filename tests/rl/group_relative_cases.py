"""Random bandits for the tests of group-relative REINFORCE."""

import torch

F64 = torch.float64
# The bandit with which the paper shows that old answers can mislead.
BANDIT = torch.tensor([0.3, 0.6, 0.1], dtype=F64), torch.tensor([0.0, 0.8, 1.0], dtype=F64)


def source(seed):
    return torch.Generator().manual_seed(seed)


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=F64)


def laws(generator, *shape):
    return normal(generator, *shape).softmax(-1)


def mean(law, values):
    return (law * values).sum(-1, keepdim=True)
