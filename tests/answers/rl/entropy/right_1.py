"""Sums with masks, signs, closed forms."""

import math

import torch


def mean_of_means(entropy, mask):
    kept = torch.where(mask, entropy, torch.zeros_like(entropy))
    count = mask.sum(-1)
    there = count > 0
    means = torch.where(there, kept.sum(-1) / torch.where(there, count, 1), 0.0)
    return means.sum(-1) / there.sum(-1)


def push(entropy, reference, low, high, coefficient, strength):
    floor, roof = (low * reference).expand_as(entropy), (high * reference).expand_as(entropy)
    factor = torch.ones_like(entropy)
    factor[entropy < floor] = 1 + strength
    factor[entropy > roof] = 1 - strength
    return coefficient * factor


def smallest_alpha(step, steps, decay):
    beta = 1 + math.exp(-decay * step / (steps // 2))
    return torch.tensor(1 / beta, dtype=torch.float64)


def smoothing_gradient(logits, reference, low, high, alpha):
    law = logits.softmax(-1)
    log_law = logits.log_softmax(-1)
    entropy = -(law * log_law).sum(-1, keepdim=True)
    side = (entropy > high * reference).double() - (entropy < low * reference).double()
    return -alpha * side * law * (log_law + entropy) / len(logits)


def ride(factor, updates, window):
    rows = torch.ones(updates, dtype=torch.float64)
    for k in range(1, updates):
        begin = max(0, k - window) if window else 0
        rows[k] = factor * rows[begin:k].mean()
    return rows


def drift(reference, slope, turns, largest):
    room = largest - reference
    rising = torch.floor(room / slope)
    rising = torch.minimum(rising, torch.full_like(rising, turns))
    return slope * rising * (rising + 1) / 2 + (turns - rising) * room
