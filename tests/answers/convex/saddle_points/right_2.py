"""Pairs of experts, loops over samples, sorted medians, gradients by autograd."""

import math

import torch


def next_weights(weights, supervised, consistency, step_size):
    pair = torch.stack([weights, 1 - weights], -1).log()
    losses = torch.stack([supervised, consistency], -1)
    return (pair + step_size * losses).softmax(-1)[..., 0]


def gap(payoff, x, y):
    replies = (x.unsqueeze(-1) * payoff).sum(-2)
    costs = (payoff * y.unsqueeze(-2)).sum(-1)
    return replies.max(-1).values + (-costs).max(-1).values


def look_ahead(payoff, x, y, step_size, steps):
    batch = payoff.shape[:-2]
    z = [x.log().expand(*batch, x.shape[-1]), y.log().expand(*batch, y.shape[-1])]
    played = []

    def moved(at):
        p, q = (part.exp().detach().requires_grad_() for part in at)
        value = (p[..., None, :] @ payoff @ q[..., None]).sum()
        down, up = torch.autograd.grad(value, (p, q))
        raw = z[0] - step_size * down, z[1] + step_size * up
        return [part - part.logsumexp(-1, keepdim=True) for part in raw]

    for _ in range(steps):
        ahead = moved(z)
        played.append(torch.cat(ahead, -1).exp())
        z = moved(ahead)
    return torch.stack(played).mean(0)


def certificate(weights, supervised, consistency, drawn, samples):
    rows = []
    for sample in range(samples):
        at = drawn == sample
        b, first, second = weights[at], supervised[at], consistency[at]
        gains = torch.stack([((1 - b) * (first - second)).sum(), (b * (second - first)).sum()])
        rows.append(gains.max())
    return torch.stack(rows)


def promise(supervised, consistency, drawn, samples, step_size, first):
    apart = supervised - consistency
    rows = []
    for sample in range(samples):
        more = 0.0 if first else step_size / 8 * (apart[drawn == sample] ** 2).sum().item()
        rows.append(math.log(2) / step_size + more)
    return torch.tensor(rows, dtype=torch.float64)


def factor(supervised, distance, dense):
    def middle(values):
        ordered = values.sort().values
        count = len(ordered)
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

    high = middle((supervised / distance)[dense])
    low = middle((supervised / distance)[~dense])
    if bool(high <= low):
        return torch.tensor(0.0, dtype=torch.float64)
    return (high * low) ** 0.5
