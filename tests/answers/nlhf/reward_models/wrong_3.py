"""Overflow; a weight of zero that becomes one; draws with replacement; slopes by differences."""

import torch


def ensemble_loss(margins, labels):  # exponentials overflow
    a = labels[..., None, :]
    chance = 1 / (1 + (-margins).exp())
    return -(a * chance.log() + (1 - a) * (1 - chance).log()).mean(-1).sum(-1)


def objectives(rewards, weight):  # no weight is taken for a missing one
    mean = rewards.mean(0)
    weight = weight or 1.0
    return torch.stack([mean, rewards.amin(0), mean - weight * rewards.var(0, correction=0)])


def curve(proxy, gold, draws):  # draws with replacement from the sample: biased
    size = proxy.shape[-1]
    ranked = gold.gather(-1, proxy.argsort(-1))
    steps = torch.arange(size + 1, dtype=torch.float64) / size
    return ranked @ torch.stack([(steps**n).diff() for n in draws.tolist()], -1)


def distance(p, scores, n):  # of the scores and not of the answers: right, but for the win rate
    same = (p[..., None, :] * (scores[..., None, :] == scores[..., None])).sum(-1)
    below = (p[..., None, :] * (scores[..., None, :] < scores[..., None])).sum(-1)
    law = p / same * ((below + same).clamp(max=1) ** n - below**n)
    spent = (torch.xlogy(law, law) - torch.xlogy(law, p)).sum(-1)
    return torch.stack([spent, (law * (below + same)).sum(-1)], -1)


def price(mu, r, p):  # one step size for the whole batch, and steps of 1/100
    grid = torch.arange(0, 50, 0.01, dtype=torch.float64)
    q = (mu.log()[..., None, :] + grid[:, None] * r[..., None, :]).softmax(-1)
    off = ((q * r[..., None, :]).sum(-1) - (p * r).sum(-1, keepdim=True)).abs()
    eta = grid[off.argmin(-1)]
    q = (mu.log() + eta[..., None] * r).softmax(-1)
    return torch.stack([eta, (q * (q / mu).log()).sum(-1), (p * (p / q).log()).sum(-1)], -1)


def slope(h, edges, n):  # the difference of two whole numbers
    here, after = edges**n, edges ** (n + 1)
    gold = (h * here.diff()).sum(-1)
    return torch.stack([gold, (h * after.diff()).sum(-1) - gold], -1)
