"""Padded turns count as turns, clipped factors, a half that is no whole number, a sum."""

import math

import torch


def mean_of_means(entropy, mask):  # multiplies, so that NaN stays; padded turns are turns
    count = mask.sum(-1).clamp(min=1)
    return ((entropy * mask).sum(-1) / count).mean(-1)


def push(entropy, reference, low, high, coefficient, strength):  # never below zero, edges outside
    factor = torch.ones_like(entropy)
    factor = torch.where(entropy <= low * reference, 1 + strength, factor)
    factor = torch.where(entropy >= high * reference, max(0.0, 1 - strength), factor)
    return coefficient * factor


def smallest_alpha(step, steps, decay):  # K/2 in place of its whole part
    return torch.tensor(1 / (1 + math.exp(-decay * step / (steps / 2))), dtype=torch.float64)


def smoothing_gradient(logits, reference, low, high, alpha):  # the sum over tokens
    z = logits.clone().requires_grad_()
    law = z.log_softmax(-1)
    entropy = -(law.exp() * law).sum(-1)
    below = (low * reference - entropy).relu()
    above = (entropy - high * reference).relu()
    return torch.autograd.grad(alpha * (below + above).sum(), z)[0]


def ride(factor, updates, window):  # all of the past, whatever the window
    rows = [1.0]
    while len(rows) < updates:
        rows.append(factor * sum(rows) / len(rows))
    return torch.tensor(rows, dtype=torch.float64)


def drift(reference, slope, turns, largest):  # caps the sum in place of the path
    total = slope * turns * (turns + 1) / 2
    return torch.minimum(total, turns * (largest - reference))
