"""The first learner as one of the rest; sides exchanged; signs."""

import math

import torch


def weights(steps):  # the first weight is multiplied by the first step, too
    one = torch.ones_like(steps[..., :1])
    born = torch.cat([steps[..., :1], steps], -1)
    kept = torch.cat([1 - steps, one], -1)
    return born * kept.flip(-1).cumprod(-1).flip(-1)


def divergence_seen(expert, mixture, bound):  # expert and learner exchanged
    both = (expert > 0) | (mixture > 0)
    g = torch.where(both, mixture.log() - expert.log(), 0.0).clamp(-bound, bound)
    return 1 - (mixture * (-g).exp() + expert * g).sum((-2, -1))


def account(d, v, e, step):  # divergences the other way round, and the gap's sign
    after = (1 - step) * d + step * v

    def divergence(p, q):
        return (torch.xlogy(q, q) - torch.xlogy(q, p)).sum((-2, -1))

    gap = ((d / e).log() * (v - d)).sum((-2, -1))
    return torch.stack([divergence(after, e), gap, divergence(after, d)], -1)


def mixtures(transition, policies, weights, initial, discount):  # averages policies, both times
    follow = torch.einsum("n,nsa,sat->st", weights, policies, transition)
    system = torch.eye(len(initial), dtype=torch.float64) - discount * follow.T
    visits = torch.linalg.solve(system, initial)  # and forgets 1 - discount
    pairs = visits[:, None] * torch.einsum("n,nsa->sa", weights, policies)
    return torch.stack([pairs, pairs])


def bias(x, chance, n):  # the sign
    u = x.exp()
    k = torch.arange(n + 1, dtype=torch.float64)
    choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    p = chance[..., None]
    law = (choose + k * p.log() + (n - k) * (1 - p).log()).exp()
    mean = (law * ((k * u[..., :1] + (n - k) * u[..., 1:]) / n).log()).sum(-1)
    return mean - (chance * u[..., 0] + (1 - chance) * u[..., 1]).log()


def geometric(x, e, step, rounds):  # arithmetic
    path = [x]
    for _ in range(rounds):
        path.append((1 - step) * path[-1] + step * e)
    return torch.stack(path)
