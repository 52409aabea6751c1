"""Factors and batches."""

import math

import torch

from mdtheory.rl.group_relative import stale_limit


def pairwise_gradient(rewards, log_ratios, weights, scores, temperature):  # weights not normalised
    gap = rewards - temperature * log_ratios
    away = gap - (weights * gap).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
    return -temperature * ((weights * away)[..., None] * scores).sum(-2)


def kept(ratio, advantage, low, high, outer_low, outer_high):  # edges around 0
    one_side = torch.where(advantage >= 0, ratio <= high, ratio >= low)
    inside = (ratio - 1).abs() <= max(low, high)
    return torch.stack([one_side, inside, inside | ((ratio - 1).abs() >= outer_low)], -1)


def reinforce(log_prob, advantage, mask):  # padding counted, and not where it should be
    terms = -advantage[..., None] * torch.where(mask, log_prob, 0.0)
    some = terms.sum((-2, -1)) / mask.sum((-2, -1))
    return torch.stack([terms.mean((-2, -1)), terms.mean(-1).mean(-1), some], -1)


def old_data(behaviour, rewards, shift):  # the library's own
    middle = (behaviour * rewards).sum(-1, keepdim=True)
    return stale_limit(behaviour, rewards - middle + shift)


def versions(steps, interval, offset):  # a copy counts from the next interval on
    if math.isinf(interval):
        return torch.full((steps,), -1)
    return torch.tensor(
        [max(0, math.ceil((k - offset) / interval) * interval - interval) for k in range(steps)]
    )


def two_numbers(success, group, shift):  # the unbiased deviation; beta > 1 - p
    k = torch.arange(group + 1, dtype=torch.float64)
    law = torch.distributions.Binomial(group, success[..., None], validate_args=False)
    chance = law.log_prob(k).exp()
    square = k / group * (1 - k / group) * group / (group - 1)
    weight = (chance * square.sqrt()).sum(-1) / (chance * square).sum(-1)
    value = success + (1 - success) / (1 + shift)
    return torch.stack([weight, value], -1)
