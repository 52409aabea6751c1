"""Forgets the consistency, the average, the second loss."""

import math

import torch


def next_weights(weights, supervised, consistency, step_size):  # only the supervised loss
    return torch.sigmoid(torch.logit(weights) + step_size * supervised)


def gap(payoff, x, y):  # absolute values
    received = torch.einsum("...i,...ij->...j", x, payoff)
    paid = torch.einsum("...ij,...j->...i", payoff, y)
    return received.abs().amax(-1) - paid.abs().amin(-1)


def look_ahead(payoff, x, y, step_size, steps):  # the last pair, not the average
    p, q = x.log(), y.log()

    def moved(at, p, q):
        pays = (payoff @ at[1].exp()[..., None])[..., 0]
        gets = (at[0].exp()[..., None, :] @ payoff)[..., 0, :]
        return (p - step_size * pays).log_softmax(-1), (q + step_size * gets).log_softmax(-1)

    for _ in range(steps):
        p, q = moved(moved((p, q), p, q), p, q)
        # Rounded to single precision on the way.
        p, q = p.float().double(), q.float().double()
    return torch.cat([p, q], -1).exp()


def certificate(weights, supervised, consistency, drawn, samples):  # 1 - b forgotten
    def total(values):
        return torch.zeros(samples, dtype=values.dtype).index_add(
            0, drawn.flatten(), values.flatten()
        )

    return torch.maximum(total(supervised), total(consistency)) - total(weights * supervised)


def promise(supervised, consistency, drawn, samples, step_size, first):  # a quarter, not an eighth
    bound = torch.full((samples,), math.log(2) / step_size, dtype=torch.float64)
    if not first:
        square = (supervised - consistency).square().flatten()
        bound.index_add_(0, drawn.flatten(), step_size / 4 * square)
    return bound


def factor(supervised, distance, dense):  # the lower of the two in the middle, and no refusal
    ratio = supervised / distance
    return (ratio[dense].median() * ratio[~dense].median()).sqrt()
