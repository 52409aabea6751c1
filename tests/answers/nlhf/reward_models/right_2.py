"""The solutions of the notebook."""

import torch


def ensemble_loss(margins, labels):
    wrong = torch.nn.functional.softplus(-margins)
    each = wrong + (1 - labels[..., None, :]) * margins
    return each.mean(-1).sum(-1)


def objectives(rewards, weight):
    mean = rewards.mean(0)
    spread = rewards.var(0, correction=0)
    return torch.stack([mean, rewards.amin(0), mean - weight * spread])


def curve(proxy, gold, draws):
    size = proxy.shape[-1]
    ranked = gold.gather(-1, proxy.argsort(-1))
    below = torch.arange(size - 1, 0, -1, dtype=torch.float64)
    rows = []
    for n in draws.tolist():
        top = torch.full((1,), n / size, dtype=torch.float64)
        # Rank i + 1 to rank i: the weight is multiplied by (i + 1 - n) / i.
        factors = (below + 1 - n) / below
        rows.append(torch.cat([top, factors]).cumprod(0).flip(0))
    return ranked @ torch.stack(rows, -1)


def distance(p, scores, n):
    other = scores[..., None, :]
    same = (p[..., None, :] * (other == scores[..., None])).sum(-1)
    below = (p[..., None, :] * (other < scores[..., None])).sum(-1)
    upto = (below + same).clamp(max=1)
    law = p / same * (upto**n - below**n)
    spent = (torch.xlogy(law, law) - torch.xlogy(law, p)).sum(-1)
    won = (law * (below + same / 2)).sum(-1)
    return torch.stack([spent, won], -1)


def price(mu, r, p):
    goal = (p * r).sum(-1)
    low, high = torch.zeros_like(goal), torch.full_like(goal, 64.0)

    def tilt(eta):
        return (mu.log() + eta[..., None] * r).log_softmax(-1)

    for _ in range(80):
        middle = (low + high) / 2
        short = (tilt(middle).exp() * r).sum(-1) < goal
        low = torch.where(short, middle, low)
        high = torch.where(short, high, middle)
    eta = (low + high) / 2
    q = tilt(eta)
    spent = (q.exp() * (q - mu.log())).sum(-1)
    beyond = (p * (p.log() - q)).sum(-1)
    return torch.stack([eta, spent, beyond], -1)


def slope(h, edges, n):
    power = edges**n
    change = torch.xlogy(power, edges)
    gold = (h * power.diff()).sum(-1)
    return torch.stack([gold, (h * change.diff()).sum(-1)], -1)
