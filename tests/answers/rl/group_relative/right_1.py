"""As the solutions: weighted means, where, sorting, floor division, binomial coefficients."""

import math

import torch


def pairwise_gradient(rewards, log_ratios, weights, scores, temperature):
    share = weights / weights.sum(-1, keepdim=True)
    gap = rewards - temperature * log_ratios
    away = gap - (share * gap).sum(-1, keepdim=True)
    return -2 * temperature * torch.einsum("...k,...kd->...d", share * away, scores)


def kept(ratio, advantage, low, high, outer_low, outer_high):
    inside = (ratio >= 1 - low) & (ratio <= 1 + high)
    up = (advantage >= 0) & (ratio <= 1 + high)
    down = (advantage <= 0) & (ratio >= 1 - low)
    back = (advantage >= 0) & (ratio <= 1 - outer_low)
    ring = inside | back | ((advantage <= 0) & (ratio >= 1 + outer_high))
    return torch.stack([up | down, inside, ring], -1)


def reinforce(log_prob, advantage, mask):
    sums = -advantage * torch.where(mask, log_prob, 0.0).sum(-1)
    tokens = sums.sum(-1) / mask.sum((-2, -1))
    answers = (sums / mask.sum(-1)).mean(-1)
    return torch.stack([tokens, answers, sums.mean(-1) / mask.shape[-1]], -1)


def old_data(behaviour, rewards, shift):
    gain = behaviour * (rewards - (behaviour * rewards).sum(-1, keepdim=True) + shift)
    if shift == 0:
        return (gain == gain.amax(-1, keepdim=True)).double()
    target = gain / shift
    ordered = target.sort(-1, descending=True).values
    levels = (ordered.cumsum(-1) - 1) / torch.arange(1, gain.shape[-1] + 1)
    return (target - levels.amax(-1, keepdim=True)).clamp(min=0)


def versions(steps, interval, offset):
    if interval == math.inf:
        return torch.zeros(steps, dtype=torch.int64)
    return torch.tensor([max(0, (k - offset) // interval * interval) for k in range(steps)])


def two_numbers(success, group, shift):
    p = success[..., None]
    k = torch.arange(group + 1)
    ways = torch.tensor([float(math.comb(group, int(m))) for m in k], dtype=torch.float64)
    chance = ways * p**k * (1 - p) ** (group - k)
    square = (k.double() / group) * (1 - k.double() / group)
    weight = (chance * square.sqrt()).sum(-1) / (chance * square).sum(-1)
    value = torch.where(success >= shift, 1.0, success + success * (1 - success) / shift)
    return torch.stack([weight, value], -1)
