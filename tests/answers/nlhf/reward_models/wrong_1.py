"""Means over members; the sample variance; gold that is sorted too; formulas without ties."""

import math

import torch


def ensemble_loss(margins, labels):  # the mean over members divides each one's step
    wrong = torch.nn.functional.softplus(-margins)
    return (wrong + (1 - labels[..., None, :]) * margins).mean((-2, -1))


def objectives(rewards, weight):  # divides by one less than the members
    mean = rewards.mean(0)
    spread = rewards.var(0, correction=min(1, len(rewards) - 1))
    return torch.stack([mean, rewards.amin(0), mean - weight * spread])


def curve(proxy, gold, draws):  # the golds are sorted by themselves
    size = proxy.shape[-1]
    ranked = gold.sort(-1).values
    below = torch.arange(size - 1, 0, -1, dtype=torch.float64)
    rows = []
    for n in draws.tolist():
        top = torch.full((1,), n / size, dtype=torch.float64)
        rows.append(torch.cat([top, (below + 1 - n) / below]).cumprod(0).flip(0))
    return ranked @ torch.stack(rows, -1)


def distance(p, scores, n):  # the formulas for scores without ties
    spent = torch.full(p.shape[:-1], math.log(n) - (n - 1) / n, dtype=torch.float64)
    return torch.stack([spent, torch.full_like(spent, n / (n + 1))], -1)


def price(mu, r, p):  # the last divergence the other way round
    goal = (p * r).sum(-1)
    low, high = torch.zeros_like(goal), torch.full_like(goal, 64.0)
    for _ in range(80):
        eta = (low + high) / 2
        q = (mu.log() + eta[..., None] * r).softmax(-1)
        short = (q * r).sum(-1) < goal
        low, high = torch.where(short, eta, low), torch.where(short, high, eta)
    spent = (q * (q / mu).log()).sum(-1)
    return torch.stack([eta, spent, (q * (q / p).log()).sum(-1)], -1)


def slope(h, edges, n):  # the derivative with respect to log n
    power = edges**n
    change = n * torch.xlogy(power, edges)
    gold = (h * power.diff()).sum(-1)
    return torch.stack([gold, (h * change.diff()).sum(-1)], -1)
