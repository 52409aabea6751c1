"""Almost: turns, constants and plans that are not quite right."""

import math

import torch


def exploitability_of(payoff, log_x, log_y):  # strategies are taken for probabilities
    received = (payoff @ log_y[..., None])[..., 0]
    paid = (log_x[..., None, :] @ payoff)[..., 0, :]
    return (received.amax(-1) - paid.amin(-1)) / 2


def magnetic_run(payoff, log_x, log_y, magnet_x, magnet_y, temperature, step_size, iterations):
    kept = 1 / (1 + step_size * temperature)
    for _ in range(iterations):  # one after the other; and probabilities are carried
        up = (payoff @ log_y.exp()[..., None])[..., 0]
        x = (log_x.exp() * torch.exp(step_size * up)) ** kept * magnet_x.exp() ** (1 - kept)
        log_x = (x / x.sum(-1, keepdim=True)).log()
        down = (log_x.exp()[..., None, :] @ payoff)[..., 0, :]
        y = (log_y.exp() * torch.exp(-step_size * down)) ** kept * magnet_y.exp() ** (1 - kept)
        log_y = (y / y.sum(-1, keepdim=True)).log()
    return torch.cat([log_x, log_y], -1)


def longest_step(payoff, temperature):  # eigenvalues at even play instead of the fixed point
    m, n = payoff.shape[-2:]
    spread = torch.linalg.matrix_norm(payoff, 2) / math.sqrt(m * n)
    limit = 2 * temperature / (spread**2 - temperature**2)
    return limit  # and no infinity


def mixed_behaviour(parents, first, second, share):  # weighs by the parent's row alone
    width = first.shape[-1]
    rows = []
    for j, above in enumerate(parents.tolist()):
        one, two = share, 1 - share
        if above >= 0:
            one = one * first[..., above // width, above % width][..., None] ** 2
            two = two * second[..., above // width, above % width][..., None] ** 2
        rows.append((one * first[..., j, :] + two * second[..., j, :]) / (one + two))
    return torch.stack(rows, -2)


def values_given_reached(parents, others, ends, payoff, chance, mine, theirs):
    """Given the action, not the row, is reached by all: own weights divide, too."""
    width = mine.shape[1]

    def choices(above, last):
        return [] if last < 0 else [*choices(above, above[last // width]), divmod(last, width)]

    gained, often = torch.zeros_like(mine), torch.zeros_like(mine)
    for k in range(len(payoff)):
        weight = float(chance[k])
        for j, a in choices(others.tolist(), int(ends[k, 1])):
            weight *= float(theirs[j, a])
        path = choices(parents.tolist(), int(ends[k, 0]))
        for j, a in path:
            weight *= float(mine[j, a])
        for j, a in path:
            gained[j, a] += weight * payoff[k]
            often[j, a] += weight
    return gained / often  # a NaN where he does not lead himself


def certified_strategies(payoff, gap):  # a fixed number of rounds, steps in fixed units
    x = torch.zeros_like(payoff[..., :, 0])
    y = torch.zeros_like(payoff[..., 0, :])
    mean_x, mean_y = torch.zeros_like(x), torch.zeros_like(y)
    for _ in range(200):
        p, q = x.softmax(-1), y.softmax(-1)
        x = x + 0.1 * (payoff @ q[..., None])[..., 0]
        y = y - 0.1 * (p[..., None, :] @ payoff)[..., 0, :]
        mean_x, mean_y = mean_x + p / 200, mean_y + q / 200
    return torch.cat([mean_x, mean_y], -1).log()
