"""The anchor everywhere, no inner ring, the answers' sums, rewards in place of gains."""

import math

import torch


def pairwise_gradient(rewards, log_ratios, weights, scores, temperature):  # without log-ratios
    share = weights / weights.sum()
    away = rewards - (share * rewards).sum(-1, keepdim=True)
    return -2 * ((share * away)[..., None] * scores).sum(-2)


def kept(ratio, advantage, low, high, outer_low, outer_high):  # by the sign of A; no inner set
    good = advantage > 0
    one_side = torch.where(good, ratio <= 1 + high, ratio >= 1 - low)
    ring = torch.where(good, ratio <= 1 - outer_low, ratio >= 1 + outer_high)
    return torch.stack([one_side, one_side, ring], -1)


def reinforce(log_prob, advantage, mask):  # whole answers throughout
    whole = torch.where(mask, log_prob, 0.0).sum(-1)
    return -(advantage * whole).mean(-1, keepdim=True).expand(*whole.shape[:-1], 3)


def old_data(behaviour, rewards, shift):  # the best answer; a softmax in place of a projection
    if shift == 0:
        return (rewards == rewards.amax(-1, keepdim=True)).double()
    gain = behaviour * (rewards - (behaviour * rewards).sum(-1, keepdim=True) + shift)
    return (gain / shift).softmax(-1)


def versions(steps, interval, offset):  # the version of the last copy, offset not subtracted
    found = []
    for k in range(steps):
        last = 0 if math.isinf(interval) else max(0, (k - offset) // interval * interval)
        found.append(last + offset if k >= offset else 0)
    return torch.tensor(found).double()


def two_numbers(success, group, shift):  # means of ratios; at most p
    k = torch.arange(1, group, dtype=torch.float64)
    law = torch.distributions.Binomial(group, success[..., None], validate_args=False)
    chance = law.log_prob(k).exp()
    square = k / group * (1 - k / group)
    weight = (chance / square.sqrt()).sum(-1) / chance.sum(-1)
    value = torch.where(shift > success, 1.0, success + success * (1 - success) / shift)
    return torch.stack([weight, value], -1)
