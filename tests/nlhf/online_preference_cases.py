"""Shared by the tests of online preference."""

import torch

from mdtheory.nlhf.nash_md import (
    PreferenceGame,
)
from tests import refused

at_most, fails = refused.at_most, refused.fails
F64 = torch.float64
WEIGHTS = (0.0, 0.125, 0.5, 1.0)


def drawn(batch, n, seed=0, low=0.05):
    """Random games: preferences, references, policies, laws that sample, temperatures."""
    generator = torch.Generator().manual_seed(seed)

    def law():
        return torch.randn(batch, n, generator=generator, dtype=F64).log_softmax(-1)

    uniform = torch.rand(batch, n, n, generator=generator, dtype=F64)
    preference = (uniform + 1 - uniform.mT) / 2
    tau = low + torch.rand(batch, generator=generator, dtype=F64)
    return preference, law(), law(), law(), tau


P, MU, PI, M, TAU = drawn(200, 5)
GAME = PreferenceGame(P, MU, TAU)
SMALL = tuple(part[:20] for part in (P, MU, PI, M, TAU))
UNIFORM = torch.full((3,), 1 / 3, dtype=F64).log()
CYCLE = 0.5 + torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64) / 18


def close(left, right, tolerance=1e-10):
    refused.close(left, right, tolerance=tolerance)


def slope(function, policy=PI):
    """Gradient with respect to logits, by automatic differentiation."""
    logits = policy.clone().requires_grad_()
    return torch.autograd.grad(function(logits.log_softmax(-1)).sum(), logits)[0]


def pairs(loss, policy, sampling, preference=P, reference=MU, tau=TAU):
    """The expected loss written out: pairs, then the label of each."""
    share = sampling.detach().exp()
    total = torch.zeros_like(policy[..., 0])
    for a in range(policy.shape[-1]):
        for b in range(policy.shape[-1]):
            won = loss(policy[..., a], policy[..., b], reference[..., a], reference[..., b], tau)
            lost = loss(policy[..., b], policy[..., a], reference[..., b], reference[..., a], tau)
            first = preference[..., a, b]
            total = total + share[..., a] * share[..., b] * (first * won + (1 - first) * lost)
    return total


def variance(law, values):
    mean = (law.exp() * values).sum(-1, keepdim=True)
    return (law.exp() * (values - mean) ** 2).sum(-1)


# --------------------------------------------------------------------- thm-ipo-md-gradient


def scores(law, worth):
    """Mean of the scores of the policy times a worth, under a law."""
    weight = law.exp() * worth
    return weight - PI.exp() * weight.sum(-1, keepdim=True)


def worth(law, centre=True):
    ratio = PI - MU
    if centre:
        ratio = ratio - (law.exp() * ratio).sum(-1, keepdim=True)
    return (P @ law.exp()[..., None])[..., 0] - 0.5 - TAU[:, None] * ratio
