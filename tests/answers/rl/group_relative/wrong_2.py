"""Signs and edges."""

import math

import torch


def pairwise_gradient(rewards, log_ratios, weights, scores, temperature):  # the sign
    share = weights / weights.sum(-1, keepdim=True)
    gap = rewards - temperature * log_ratios
    away = gap - (share * gap).sum(-1, keepdim=True)
    return 2 * temperature * ((share * away)[..., None] * scores).sum(-2)


def kept(ratio, advantage, low, high, outer_low, outer_high):  # strict edges, no mask for A = 0
    not_high, not_low = ratio < 1 + high, ratio > 1 - low
    up, down = advantage > 0, advantage < 0
    inside = not_high & not_low
    ring = inside | (up & (ratio < 1 - outer_low)) | (down & (ratio > 1 + outer_high))
    return torch.stack([(up & not_high) | (down & not_low), inside, ring], -1)


def reinforce(log_prob, advantage, mask):  # padding times 0, which may be NaN
    terms = -advantage[..., None] * log_prob * mask
    tokens = terms.sum((-2, -1)) / mask.sum((-2, -1))
    answers = (terms.sum(-1) / mask.sum(-1)).mean(-1)
    return torch.stack([tokens, answers, terms.mean((-2, -1))], -1)


def old_data(behaviour, rewards, shift):  # always one answer
    gain = behaviour * (rewards - (behaviour * rewards).sum(-1, keepdim=True) + shift)
    return (gain == gain.amax(-1, keepdim=True)).double()


def versions(steps, interval, offset):  # the copy is made after the step, one too late
    if math.isinf(interval):
        return torch.zeros(steps, dtype=torch.int64)
    late = (torch.arange(steps) - offset - 1).clamp(min=0)
    return torch.div(late, interval, rounding_mode="floor") * interval


def two_numbers(success, group, shift):  # the root of the mean; the standard deviation
    weight = 1 / ((1 - 1 / group) * success * (1 - success)).sqrt()
    value = success + (success * (1 - success)).sqrt() / shift
    return torch.stack([weight, value.clamp(max=1)], -1)
