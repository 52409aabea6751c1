"""Plausible slips: plain means, sides swapped, the mean over tokens, one step late."""

import math

import torch


def pairwise_gradient(rewards, log_ratios, weights, scores, temperature):  # the mean unweighted
    share = weights / weights.sum(-1, keepdim=True)
    gap = rewards - temperature * log_ratios
    away = gap - gap.mean(-1, keepdim=True)
    return -2 * temperature * ((share * away)[..., None] * scores).sum(-2)


def kept(ratio, advantage, low, high, outer_low, outer_high):  # the sides swapped
    not_high, not_low = ratio <= 1 + high, ratio >= 1 - low
    one_side = ((advantage >= 0) & not_low) | ((advantage <= 0) & not_high)
    inside = not_high & not_low
    far = ((advantage <= 0) & (ratio <= 1 - outer_low)) | (
        (advantage >= 0) & (ratio >= 1 + outer_high)
    )
    return torch.stack([one_side, inside, inside | far], -1)


def reinforce(log_prob, advantage, mask):  # the mean over tokens for the mean over answers
    terms = -advantage[..., None] * torch.where(mask, log_prob, 0.0)
    tokens = terms.sum((-2, -1)) / mask.sum((-2, -1))
    return torch.stack([tokens, tokens, terms.mean((-2, -1))], -1)


def old_data(behaviour, rewards, shift):  # the normalised positive part
    gain = behaviour * (rewards - (behaviour * rewards).sum(-1, keepdim=True) + shift)
    positive = gain.clamp(min=0)
    return positive / positive.sum(-1, keepdim=True)


def versions(steps, interval, offset):  # off by one after the offset
    if math.isinf(interval):
        return torch.zeros(steps, dtype=torch.int64)
    return torch.tensor([max(0, (k - offset - 1) // interval * interval) for k in range(steps)])


def two_numbers(success, group, shift):  # many answers; forgets that a value is at most 1
    weight = 1 / (success * (1 - success)).sqrt()
    value = success + success * (1 - success) / shift
    return torch.stack([weight, value], -1)
