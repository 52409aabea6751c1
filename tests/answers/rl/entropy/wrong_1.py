"""Tokens in place of turns, the sign of the roof, the weight of the start, no gradient."""

import torch


def mean_of_means(entropy, mask):  # the mean of tokens
    kept = torch.where(mask, entropy, 0.0)
    return kept.sum((-2, -1)) / mask.sum((-2, -1))


def push(entropy, reference, low, high, coefficient, strength):  # the roof pushes up as well
    outside = (entropy < low * reference) | (entropy > high * reference)
    return coefficient * (1 + strength * outside.double())


def smallest_alpha(step, steps, decay):  # as in the first update
    return torch.tensor(0.5, dtype=torch.float64)


def smoothing_gradient(logits, reference, low, high, alpha):  # the indicator
    return torch.zeros_like(logits)


def ride(factor, updates, window):  # a factor in every update
    return float(factor) ** torch.arange(updates, dtype=torch.float64)


def drift(reference, slope, turns, largest):  # it never saturates
    return slope * turns * (turns + 1) / 2
