"""Sums over pairs; the library itself; one draw with its plain order; no entropy."""

import torch


def ensemble_loss(margins, labels):  # a sum over the pairs, too
    wrong = torch.nn.functional.softplus(-margins)
    return (wrong + (1 - labels[..., None, :]) * margins).sum((-2, -1))


def objectives(rewards, weight):  # the library's own, which is refused
    from mdtheory.nlhf.reward_models import ensemble_objective

    kinds = (("mean", 0.0), ("WCO", 0.0), ("UWO", weight))
    return torch.stack([ensemble_objective(rewards, kind, w) for kind, w in kinds])


def curve(proxy, gold, draws):  # the best of the first n answers
    rows = []
    for n in draws.tolist():
        best = proxy[..., :n].argmax(-1, keepdim=True)
        rows.append(gold.gather(-1, best)[..., 0])
    return torch.stack(rows, -1)


def distance(p, scores, n):  # the divergence of the reference from the best of n
    same = (p[..., None, :] * (scores[..., None, :] == scores[..., None])).sum(-1)
    below = (p[..., None, :] * (scores[..., None, :] < scores[..., None])).sum(-1)
    law = p / same * ((below + same).clamp(max=1) ** n - below**n)
    spent = (torch.xlogy(p, p) - torch.xlogy(p, law)).sum(-1)
    return torch.stack([spent, (law * (below + same / 2)).sum(-1)], -1)


def price(mu, r, p):  # the tilt of equal divergence
    goal = (p * (p / mu).log()).sum(-1)
    low, high = torch.zeros_like(goal), torch.full_like(goal, 64.0)
    for _ in range(80):
        eta = (low + high) / 2
        q = (mu.log() + eta[..., None] * r).softmax(-1)
        short = (q * (q / mu).log()).sum(-1) < goal
        low, high = torch.where(short, eta, low), torch.where(short, high, eta)
    return torch.stack([eta, (q * (q / mu).log()).sum(-1), (p * (p / q).log()).sum(-1)], -1)


def slope(h, edges, n):  # what is attained at the uppermost piece, and how it compares
    top = h[..., -1] * (1 - edges[-2] ** n)
    return torch.stack([top, h[..., -1] - (h * edges.diff()).sum(-1)], -1)
