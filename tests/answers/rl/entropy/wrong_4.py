"""The wrong axis, the coefficient forgotten, the last weight, the wrong edge, turns from zero."""

import math

import torch


def mean_of_means(entropy, mask):  # tokens' means over turns, then over tokens
    kept = torch.where(mask, entropy, 0.0)
    count = mask.sum(-2)
    means = kept.sum(-2) / count.clamp(min=1)
    return means.sum(-1) / (count > 0).sum(-1)


def push(entropy, reference, low, high, coefficient, strength):  # floor and roof exchanged
    below = (entropy < low * reference).double()
    above = (entropy > high * reference).double()
    return coefficient + strength * (above - below)


def smallest_alpha(step, steps, decay):  # the share of the whole training
    return torch.tensor(1 / (1 + math.exp(-decay * step / steps)), dtype=torch.float64)


def smoothing_gradient(logits, reference, low, high, alpha):  # pushes away from the corridor
    z = logits.clone().requires_grad_()
    law = z.log_softmax(-1)
    entropy = -(law.exp() * law).sum(-1)
    below = (low * reference - entropy).relu()
    above = (entropy - high * reference).relu()
    return torch.autograd.grad(-alpha * (below + above).mean(), z)[0]


def ride(factor, updates, window):  # the window is one too long, all of the past one too short
    rows = [1.0]
    while len(rows) < updates:
        seen = rows[-window - 1 :] if window else rows[-1:]
        rows.append(factor * sum(seen) / len(seen))
    return torch.tensor(rows, dtype=torch.float64)


def drift(reference, slope, turns, largest):  # turns from zero
    room = largest - reference
    rising = (room / slope).floor().clamp(max=turns)
    return slope * rising * (rising - 1) / 2 + (turns - rising) * room
