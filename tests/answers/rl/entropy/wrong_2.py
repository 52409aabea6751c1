"""Padding counts, the indicator, the library itself, the slope in entropy, a power, the top."""

import torch


def mean_of_means(entropy, mask):  # divides by the padded length
    return torch.where(mask, entropy, 0.0).mean((-2, -1))


def push(entropy, reference, low, high, coefficient, strength):  # the indicator
    return coefficient * torch.ones_like(entropy)


def smallest_alpha(step, steps, decay):  # the library's own
    from mdtheory.rl.entropy import phase_weight

    return torch.tensor(1 / phase_weight(step, steps, decay), dtype=torch.float64)


def smoothing_gradient(logits, reference, low, high, alpha):  # the gradient in the entropy
    law = logits.log_softmax(-1)
    entropy = -(law.exp() * law).sum(-1)
    side = (entropy > high * reference).double() - (entropy < low * reference).double()
    return (alpha * side / len(logits))[:, None].expand_as(logits).clone()


def ride(factor, updates, window):  # multiplies the last value by a mean of ones
    rows = [1.0]
    while len(rows) < updates:
        rows.append(factor * rows[-1])
    return torch.tensor(rows, dtype=torch.float64)


def drift(reference, slope, turns, largest):  # at the top from the first turn on
    return turns * (largest - reference)
