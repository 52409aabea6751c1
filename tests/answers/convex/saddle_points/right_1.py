"""As the solutions: logits, scatter sums, a loop of steps in logarithms."""

import math

import torch


def next_weights(weights, supervised, consistency, step_size):
    logits = weights.log() - torch.log1p(-weights)
    return (logits + step_size * (supervised - consistency)).sigmoid()


def gap(payoff, x, y):
    best = torch.einsum("...i,...ij->...j", x, payoff).amax(-1)
    least = torch.einsum("...ij,...j->...i", payoff, y).amin(-1)
    return best - least


def look_ahead(payoff, x, y, step_size, steps):
    start = x.log(), y.log()
    sums = [torch.zeros_like(start[0]), torch.zeros_like(start[1])]
    total = 0.0

    def law(pays, gets):
        return (
            (start[0] - step_size * pays).softmax(-1),
            (start[1] + step_size * gets).softmax(-1),
        )

    def slopes(p, q):
        return (
            torch.einsum("...ij,...j->...i", payoff, q),
            torch.einsum("...i,...ij->...j", p, payoff),
        )

    for _ in range(steps):
        here = slopes(*law(*sums))
        ahead = law(sums[0] + here[0], sums[1] + here[1])
        there = slopes(*ahead)
        sums = [sums[0] + there[0], sums[1] + there[1]]
        total = total + torch.cat(ahead, -1)
    return total / steps


def certificate(weights, supervised, consistency, drawn, samples):
    member = torch.nn.functional.one_hot(drawn, samples).double()
    sums = [
        (member * part[..., None]).sum((0, 1))
        for part in (supervised, consistency, weights * (supervised - consistency) + consistency)
    ]
    return torch.maximum(sums[0], sums[1]) - sums[2]


def promise(supervised, consistency, drawn, samples, step_size, first):
    bound = torch.full((samples,), math.log(2) / step_size, dtype=torch.float64)
    if not first:
        square = (supervised - consistency).square().flatten()
        bound.index_add_(0, drawn.flatten(), step_size * square / 8)
    return bound


def factor(supervised, distance, dense):
    logs = supervised.log() - distance.log()
    high, low = (logs.exp()[group].quantile(0.5) for group in (dense, ~dense))
    return ((high.log() + low.log()) / 2).exp() * (high > low)
