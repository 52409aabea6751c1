"""Signs: both players climb the same payoff."""

import math

import torch


def exploitability_of(payoff, log_x, log_y):  # the column player is taken for a maximiser
    x, y = log_x.exp(), log_y.exp()
    received = (payoff @ y[..., None])[..., 0]
    paid = (x[..., None, :] @ payoff)[..., 0, :]
    value = (x * received).sum(-1)
    return (received.amax(-1) - value + paid.amax(-1) - value) / 2


def magnetic_run(payoff, log_x, log_y, magnet_x, magnet_y, temperature, step_size, iterations):
    kept = 1 / (1 + step_size * temperature)
    for _ in range(iterations):  # the column player climbs, too
        up = (payoff @ log_y.exp()[..., None])[..., 0]
        down = (log_x.exp()[..., None, :] @ payoff)[..., 0, :]
        log_x = kept * (log_x + step_size * temperature * magnet_x + step_size * up)
        log_y = kept * (log_y + step_size * temperature * magnet_y + step_size * down)
        log_x, log_y = log_x.log_softmax(-1), log_y.log_softmax(-1)
    return torch.cat([log_x, log_y], -1)


def longest_step(payoff, temperature):  # the guarantee of the theorem is no threshold
    largest = payoff.abs().amax((-2, -1))
    return temperature / largest**2


def mixed_behaviour(parents, first, second, share):  # the mean of the behaviours
    return share * first + (1 - share) * second


def values_given_reached(parents, others, ends, payoff, chance, mine, theirs):
    """Counterfactual values."""
    width = mine.shape[1]

    def choices(above, last):
        return [] if last < 0 else [*choices(above, above[last // width]), divmod(last, width)]

    result = torch.zeros_like(mine)
    for k in range(len(payoff)):
        weight = float(chance[k] * payoff[k])
        for j, a in choices(others.tolist(), int(ends[k, 1])):
            weight *= float(theirs[j, a])
        path = choices(parents.tolist(), int(ends[k, 0]))
        for j, a in reversed(path):
            result[j, a] += weight
            weight *= float(mine[j, a])
    return result


def certified_strategies(payoff, gap):  # uniform play
    m, n = payoff.shape[-2:]
    batch = payoff.shape[:-2]
    x = payoff.new_full((*batch, m), -math.log(m))
    return torch.cat([x, payoff.new_full((*batch, n), -math.log(n))], -1)
