"""Exponentials as they stand, batches mixed, undrawn samples counted; one answer of the library."""

import math

import torch


def next_weights(weights, supervised, consistency, step_size):  # overflows
    grown = weights * (step_size * supervised).exp()
    other = (1 - weights) * (step_size * consistency).exp()
    return grown / (grown + other)


def gap(payoff, x, y):
    from mdtheory.convex.saddle_points import duality_gap

    return duality_gap(payoff, x, y)


def look_ahead(payoff, x, y, step_size, steps):  # both players want to receive
    p, q, total = x.log(), y.log(), 0.0

    def moved(at, p, q):
        pays = (payoff @ at[1].exp()[..., None])[..., 0]
        gets = (at[0].exp()[..., None, :] @ payoff)[..., 0, :]
        return (p + step_size * pays).log_softmax(-1), (q + step_size * gets).log_softmax(-1)

    for _ in range(steps):
        ahead = moved((p, q), p, q)
        total = total + torch.cat(ahead, -1).exp()
        p, q = moved(ahead, p, q)
    return total / steps


def certificate(weights, supervised, consistency, drawn, samples):  # samples by their place
    played = weights * supervised + (1 - weights) * consistency
    sums = torch.maximum(supervised.sum(0), consistency.sum(0)) - played.sum(0)
    return torch.nn.functional.pad(sums, (0, samples - len(sums)))


def promise(supervised, consistency, drawn, samples, step_size, first):  # nothing where undrawn
    bound = torch.zeros(samples, dtype=torch.float64)
    bound[drawn.flatten()] = math.log(2) * step_size
    if not first:
        square = (supervised - consistency).square().flatten()
        bound.index_add_(0, drawn.flatten(), step_size / 8 * square)
    return bound


def factor(supervised, distance, dense):  # the arithmetic mean of the means
    ratio = supervised / distance
    return (ratio[dense].mean() + ratio[~dense].mean()) / 2
