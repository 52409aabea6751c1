"""The constants of the theorems: how smooth a game is, and the steps that this allows."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_scale
from mdtheory.nlhf.games.matrix import MatrixGame
from mdtheory.nlhf.games.measures import Game, require_game
from mdtheory.nlhf.games.tree import ExtensiveGame


def smoothness(game: Game) -> Tensor:
    r"""The constant :math:`L` of a game, in a norm in which the entropy is strongly convex.

    Lemma ``lem-game-operator``: :math:`\max_{ij}\lvert A_{ij}\rvert` for a matrix game, and
    :math:`\max_{ss'}\lvert A_{ss'}\rvert\sqrt{K_1 K_2}` in sequence form, with the constants of
    :func:`complexity`.

    Args:
        game: a matrix game, or a game in extensive form.

    Returns:
        Of the batch's shape.

    Raises:
        TypeError: no game.
    """
    game = require_game(game)
    if isinstance(game, MatrixGame):
        return game.payoff.abs().amax((-2, -1))
    return game.largest_payoff() * complexity(game).prod().sqrt()


def complexity(game: ExtensiveGame) -> Tensor:
    r"""How large the trees of both players are, for their dilated entropies.

    Lemma ``lem-dilated-convexity``: :math:`K = \max_x \sum_j x_{p(j)} M_j^2`, where :math:`M_j` is
    the largest weight that the sequences with a payoff can have together from row :math:`j` on.

    Args:
        game: a game in extensive form.

    Returns:
        :math:`K_1` and :math:`K_2`, shape ``(2,)``.

    Raises:
        TypeError: no game in extensive form.
    """
    if not isinstance(game, ExtensiveGame):
        raise TypeError(f"game: expected an ExtensiveGame, got {type(game).__name__}")
    mass = game.ends()
    largest = mass.new_zeros(len(game.above))
    for begin, end in reversed(game.levels):
        largest[begin:end] = game.level(mass, begin, end).amax(-1)
        mass.index_add_(-1, game.above[begin:end], largest[begin:end])
    total = torch.zeros_like(mass)
    for begin, end in reversed(game.levels):
        best = game.level(total, begin, end).amax(-1) + largest[begin:end] ** 2
        total.index_add_(-1, game.above[begin:end], best)
    return total[:2]


def guaranteed_step(
    game: Game, temperature: float | Tensor, *, extragradient: bool = False
) -> Tensor:
    r"""The largest step for which convergence is proved.

    Theorem ``thm-magnetic-rate``: :math:`\eta = \tau / L^2`. With a trial step
    :math:`\eta = 1 / L`, by ``prop-extragradient``.

    Args:
        game: a matrix game, or a game in extensive form (for its dilated form).
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.
        extragradient: whether there is a trial step.

    Returns:
        Of the batch's shape; infinite for a game without payoffs, where any step will do.

    Raises:
        TypeError: no game.
        ValueError: a negative temperature.
    """
    constant = smoothness(game)
    tau = require_scale("temperature", temperature, constant, constant.shape)
    if extragradient:
        return 1 / constant + torch.zeros_like(constant * tau)
    # Not divided by the square, which overflows and vanishes long before the step does.
    step = tau / constant / constant
    return torch.where(constant > 0, step, torch.inf)
