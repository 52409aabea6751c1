"""Otherwise: automatic differentiation, complements, loops over answers, bisection, recursion."""

import math

import torch


def pairwise_gradient(rewards, log_ratios, weights, scores, temperature):
    theta = torch.zeros(
        *scores.shape[:-2], scores.shape[-1], dtype=torch.float64, requires_grad=True
    )
    moved = log_ratios + (scores @ theta[..., None])[..., 0]
    gap = rewards - temperature * moved
    share = weights / weights.sum(-1, keepdim=True)
    pairs = share[..., :, None] * share[..., None, :] * (gap[..., :, None] - gap[..., None, :]) ** 2
    return torch.autograd.grad(pairs.sum() / 2, theta)[0]


def kept(ratio, advantage, low, high, outer_low, outer_high):
    above, below = ratio > 1 + high, ratio < 1 - low
    good, bad = advantage > 0, advantage < 0
    out = above | below
    ring = ~out | (~bad & (ratio <= 1 - outer_low)) | (~good & (ratio >= 1 + outer_high))
    return torch.stack([~((good & above) | (bad & below)), ~out, ring], -1)


def reinforce(log_prob, advantage, mask):
    clean = log_prob.masked_fill(~mask, 0.0)
    count = mask.sum(-1).double()
    weights = [
        (1 / count.sum(-1, keepdim=True)).expand_as(count),
        1 / (count * count.shape[-1]),
        torch.full_like(count, 1 / (mask.shape[-1] * mask.shape[-2])),
    ]
    each = torch.stack([weight * advantage * clean.sum(-1) for weight in weights], -2)
    return -each.sum(-1)


def old_data(behaviour, rewards, shift):
    middle = torch.einsum("...n,...n->...", behaviour, rewards)[..., None]
    gain = behaviour * (rewards - middle + shift)
    if shift == 0:
        return torch.zeros_like(gain).scatter(-1, gain.argmax(-1, keepdim=True), 1.0)
    target = gain / shift
    low = target.amin(-1, keepdim=True) - 1
    high = target.amax(-1, keepdim=True)
    for _ in range(100):
        level = (low + high) / 2
        more = (target - level).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(more, level, low), torch.where(more, high, level)
    return (target - (low + high) / 2).clamp(min=0)


def versions(steps, interval, offset):
    found, copy = [], 0
    for k in range(steps):
        if not math.isinf(interval) and k >= offset and (k - offset) % interval == 0:
            copy = k - offset
        found.append(copy)
    return torch.tensor(found, dtype=torch.int64)


def two_numbers(success, group, shift):
    # The law of the number of right answers, one answer after the other.
    p = success[..., None]
    chance = torch.zeros(*success.shape, group + 1, dtype=torch.float64)
    chance[..., 0] = 1
    for _ in range(group):
        more = torch.nn.functional.pad(chance[..., :-1], (1, 0))
        chance = chance * (1 - p) + more * p
    q = torch.linspace(0, 1, group + 1, dtype=torch.float64)
    square = (q * (1 - q)).clamp(min=0)
    weight = (chance @ square.sqrt()) / (chance @ square)
    value = success + torch.minimum(1 - success, success * (1 - success) / shift)
    return torch.stack([weight, value], -1)
