"""Normalised over the batch, both gradients at one point, factors of n."""

import math

import torch


def next_weights(weights, supervised, consistency, step_size):  # a softmax over the samples
    return (weights.log() + step_size * (supervised - consistency)).softmax(-1)


def gap(payoff, x, y):  # the value at the pair itself in place of one best response
    value = torch.einsum("...i,...ij,...j->...", x, payoff, y)
    return torch.einsum("...i,...ij->...j", x, payoff).amax(-1) - value


def look_ahead(payoff, x, y, step_size, steps):
    p, q, total = x.log(), y.log(), 0.0
    for _ in range(steps):
        pays = (payoff @ q.exp()[..., None])[..., 0]
        gets = (p.exp()[..., None, :] @ payoff)[..., 0, :]
        # The gradients at the present pair, twice; and the average of the pairs.
        total = total + torch.cat([p, q], -1).exp()
        p = (p - step_size * pays).log_softmax(-1)
        q = (q + step_size * gets).log_softmax(-1)
    return total / steps


def certificate(weights, supervised, consistency, drawn, samples):  # a mean over the samples
    def total(values):
        return torch.zeros(samples, dtype=values.dtype).index_add(
            0, drawn.flatten(), values.flatten()
        )

    played = weights * supervised + (1 - weights) * consistency
    return (torch.maximum(total(supervised), total(consistency)) - total(played)) / samples


def promise(supervised, consistency, drawn, samples, step_size, first):  # samples * log 2
    bound = torch.full((samples,), samples * math.log(2) / step_size, dtype=torch.float64)
    if not first:
        square = (supervised - consistency).square().flatten()
        bound.index_add_(0, drawn.flatten(), step_size / 8 * square)
    return bound


def factor(supervised, distance, dense):  # always 1
    return torch.ones((), dtype=torch.float64)
