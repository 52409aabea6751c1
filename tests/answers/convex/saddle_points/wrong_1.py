"""Signs and starting points: the other loss wins, the move starts at the look ahead."""

import math

import torch


def next_weights(weights, supervised, consistency, step_size):  # the sign
    return torch.sigmoid(torch.logit(weights) - step_size * (supervised - consistency))


def gap(payoff, x, y):  # the sides swapped
    return (payoff @ y[..., None])[..., 0].amax(-1) - (x[..., None, :] @ payoff)[..., 0, :].amin(-1)


def look_ahead(payoff, x, y, step_size, steps):
    p, q, total = x.log(), y.log(), 0.0

    def moved(at, p, q):
        pays = (payoff @ at[1].exp()[..., None])[..., 0]
        gets = (at[0].exp()[..., None, :] @ payoff)[..., 0, :]
        return (p - step_size * pays).log_softmax(-1), (q + step_size * gets).log_softmax(-1)

    for _ in range(steps):
        ahead = moved((p, q), p, q)
        p, q = moved(ahead, *ahead)  # from the look ahead
        total = total + torch.cat([p, q], -1).exp()
    return total / steps


def certificate(weights, supervised, consistency, drawn, samples):  # the maximum inside the sum
    played = weights * supervised + (1 - weights) * consistency
    each = torch.maximum(supervised, consistency) - played
    return torch.zeros(samples, dtype=each.dtype).index_add(0, drawn.flatten(), each.flatten())


def promise(supervised, consistency, drawn, samples, step_size, first):  # the orders exchanged
    bound = torch.full((samples,), math.log(2) / step_size, dtype=torch.float64)
    if first:
        square = (supervised - consistency).square().flatten()
        bound.index_add_(0, drawn.flatten(), step_size / 8 * square)
    return bound


def factor(supervised, distance, dense):  # dense and sparse exchanged
    ratio = supervised / distance
    high, low = ratio[~dense].quantile(0.5), ratio[dense].quantile(0.5)
    return (high * low).sqrt() * (high > low)
