"""As the solutions, with logarithms and plain formulas where these are safe."""

import torch


def ensemble_loss(margins, labels):
    a = labels.unsqueeze(-2)
    logs = torch.nn.functional.logsigmoid
    return -(a * logs(margins) + (1 - a) * logs(-margins)).mean(-1).sum(-1)


def objectives(rewards, weight):
    mean = rewards.mean(dim=0)
    centred = rewards - mean
    return torch.stack((mean, rewards.min(0).values, mean - weight * (centred**2).mean(0)))


def curve(proxy, gold, draws):
    size = proxy.shape[-1]
    i = torch.arange(1, size + 1, dtype=torch.float64)
    found = []
    for n in draws.tolist():
        # log of C(i - 1, n - 1) / C(size, n), up to a constant that the sum removes.
        logs = torch.lgamma(i.clamp(min=n)) - torch.lgamma((i - n + 1).clamp(min=1))
        logs = torch.where(i >= n, logs, -torch.inf)
        weights = logs.softmax(-1)
        found.append((torch.take_along_dim(gold, proxy.argsort(-1), -1) * weights).sum(-1))
    return torch.stack(found, -1)


def distance(p, scores, n):
    rows = p.reshape(-1, p.shape[-1])
    marks = scores.reshape(rows.shape)
    found = []
    for law, mark in zip(rows, marks, strict=True):
        spent = won = torch.zeros((), dtype=torch.float64)
        below = 0.0
        for level in mark.unique():
            here = law[mark == level]
            upto = min(below + here.sum().item(), 1.0)
            mass = upto**n - below**n
            if mass > 0:
                # All answers of a group are enlarged alike.
                spent = spent + mass * torch.log(mass / here.sum())
            won = won + mass * (below + here.sum() / 2)
            below = upto
        found.append(torch.stack([spent, won]))
    return torch.stack(found).reshape(*p.shape[:-1], 2)


def price(mu, r, p):
    goal = (p * r).sum(-1, keepdim=True)
    low, high = torch.zeros_like(goal), torch.full_like(goal, 100.0)
    eta = torch.ones_like(goal)
    for _ in range(200):
        q = (mu.log() + eta * r).softmax(-1)
        mean = (q * r).sum(-1, keepdim=True)
        low, high = torch.where(mean < goal, eta, low), torch.where(mean < goal, high, eta)
        newton = eta + (goal - mean) / (q * (r - mean) ** 2).sum(-1, keepdim=True)
        inside = (newton > low) & (newton < high)
        eta = torch.where(inside, newton, (low + high) / 2)
    q = (mu.log() + eta * r).softmax(-1)
    spent = (q * (q.log() - mu.log())).sum(-1)
    beyond = (p * (p.log() - mu.log())).sum(-1) - spent
    return torch.stack([eta[..., 0], spent, beyond], -1)


def slope(h, edges, n):
    logs = edges.clamp(min=1e-300).log()
    power = (n * logs).exp()
    power = torch.where(edges > 0, power, 0.0)
    jumps = h[..., 1:] - h[..., :-1]
    inner = power[1:-1]
    gold = h[..., -1] - (jumps * inner).sum(-1)
    return torch.stack([gold, -(jumps * inner * logs[1:-1]).sum(-1)], -1)
