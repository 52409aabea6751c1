"""How far strategies are from an equilibrium, and from each other."""

from __future__ import annotations

from torch import Tensor

from mdtheory.convex.mirror_maps import kl_terms
from mdtheory.nlhf.games.matrix import MatrixGame
from mdtheory.nlhf.games.strategies import Played, Strategies, ZeroSumGame
from mdtheory.nlhf.games.tree import ExtensiveGame

Game = MatrixGame | ExtensiveGame


def require_game(game: object) -> Game:
    """Refuse what is no game of this chapter.

    Args:
        game: what came.

    Returns:
        ``game`` itself.

    Raises:
        TypeError: neither a matrix game nor an extensive game.
    """
    if not isinstance(game, MatrixGame | ExtensiveGame):
        raise TypeError(
            f"game: expected a MatrixGame or an ExtensiveGame, got {type(game).__name__}"
        )
    return game


def nash_conv(game: Game, strategies: Strategies) -> Tensor:
    """What both players gain by their best responses, together, equation ``eq-nash-conv``.

    In a matrix game it is the duality gap, :func:`mdtheory.convex.saddle_points.duality_gap`, of
    the payoffs with the other sign: there the first player minimises.

    Args:
        game: a matrix game, or a game in extensive form.
        strategies: the pair of log-probabilities: ``(..., m)`` and ``(..., n)`` in a matrix game,
            ``(..., rows, actions)`` of each player in an extensive game.

    Returns:
        At least 0 up to rounding, and 0 at an equilibrium alone; of the batch's shape.

    Raises:
        TypeError: no game, or no pair of tensors of the dtype of the payoffs.
        ValueError: a wrong shape, a NaN, or exponentials that do not sum to 1.
    """
    return require_game(game).nash_conv(strategies)


def exploitability(game: ZeroSumGame[Played], strategies: Played) -> Tensor:
    """What a player gains by a best response, in the mean of both players.

    :func:`nash_conv` divided by the number of players, equation ``eq-game-exploitability``. In a
    preference game both players play one policy, and a best response pays for its divergence from
    the reference: proposition ``prop-exploitability``.

    Args:
        game: a matrix game, a game in extensive form, or a preference game.
        strategies: the pair of log-probabilities, as for :func:`nash_conv`; in a preference game
            the one policy, ``(..., n)``.

    Returns:
        At least 0 up to rounding, and 0 at an equilibrium alone; of the batch's shape.

    Raises:
        TypeError: as :func:`nash_conv`.
        ValueError: likewise.
    """
    if not isinstance(game, ZeroSumGame):
        raise TypeError(f"game: expected a game of two players, got {type(game).__name__}")
    return game.exploitability(strategies)


def divergence(game: Game, strategies: Strategies, others: Strategies) -> Tensor:
    r"""The Bregman divergence of the (dilated) entropy, summed over both players.

    Equation ``eq-dilated-divergence``: :math:`\sum_j x_{p(j)}\,\mathrm{KL}(b_j \| b'_j)`, where
    :math:`x` are the weights of ``strategies``; in a matrix game the sum of both divergences of
    Kullback and Leibler. Its terms are at least 0, so nothing cancels near 0.

    Args:
        game: a matrix game, or a game in extensive form.
        strategies: the pair that weighs.
        others: the pair that it is compared with.

    Returns:
        Of the batch's shape.

    Raises:
        TypeError: as :func:`nash_conv`.
        ValueError: likewise.
    """
    game = require_game(game)
    left, right = game.check("strategies", strategies), game.check("others", others)
    if isinstance(game, MatrixGame):
        return kl_terms(left, right).sum(-1)
    rows = kl_terms(left, right)[..., 2:].unflatten(-1, (-1, game.actions)).sum(-1)
    return (game.row_weights(game.reach(left)) * rows).sum(-1)
