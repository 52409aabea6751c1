"""Signs; the deviation for the variance; subsets counted one too high; ties to one answer."""

import torch


def ensemble_loss(margins, labels):  # the label of the wrong side
    wrong = torch.nn.functional.softplus(-margins)
    return (wrong + labels[..., None, :] * margins).mean(-1).sum(-1)


def objectives(rewards, weight):  # the standard deviation
    mean = rewards.mean(0)
    return torch.stack([mean, rewards.amin(0), mean - weight * rewards.std(0, correction=0)])


def curve(proxy, gold, draws):  # C(i, n) / C(N, n) is the share of subsets *up to* i
    size = proxy.shape[-1]
    ranked = gold.gather(-1, proxy.argsort(-1))
    i = torch.arange(1, size + 1, dtype=torch.float64)
    rows = []
    for n in draws.tolist():
        logs = torch.lgamma(i + 1) - torch.lgamma((i - n + 1).clamp(min=1))
        rows.append(torch.where(i >= n, logs, -torch.inf).softmax(-1))
    return ranked @ torch.stack(rows, -1)


def distance(p, scores, n):  # the first of equal answers is always taken, and ties are losses
    order = scores + torch.arange(p.shape[-1], 0, -1, dtype=torch.float64) * 1e-9
    below = (p[..., None, :] * (order[..., None, :] < order[..., None])).sum(-1)
    law = (below + p).clamp(max=1) ** n - below**n
    spent = (torch.xlogy(law, law) - torch.xlogy(law, p)).sum(-1)
    return torch.stack([spent, (law * below).sum(-1)], -1)


def price(mu, r, p):  # the tilt of p in the place of the reference's
    goal = (p * r).sum(-1)
    low, high = torch.zeros_like(goal), torch.full_like(goal, 64.0)
    for _ in range(80):
        eta = (low + high) / 2
        q = (mu.log() + eta[..., None] * r).softmax(-1)
        short = (q * r).sum(-1) < goal
        low, high = torch.where(short, eta, low), torch.where(short, high, eta)
    spent = (mu * (mu / q).log()).sum(-1)
    return torch.stack([eta, spent, (p * (p / mu).log()).sum(-1) - spent], -1)


def slope(h, edges, n):  # the density of the best of n + 1
    power = edges ** (n + 1)
    change = torch.xlogy(power, edges)
    return torch.stack([(h * power.diff()).sum(-1), (h * change.diff()).sum(-1)], -1)
