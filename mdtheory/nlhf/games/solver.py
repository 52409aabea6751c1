"""A first-order solver for large matrix games, whose answer carries its own certificate."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, values_known
from mdtheory.nlhf.games.matrix import MatrixGame
from mdtheory.nlhf.games.strategies import Strategies

# Rounds between two looks at the gap.
LOOK = 8
# The gap that is asked for by default, in units of half the range of the payoffs.
SHARE = 1e-3


def solve_matrix_game(
    payoff: Tensor, gap: float | None = None, iterations: int = 100_000
) -> Strategies:
    r"""Strategies whose duality gap is at most ``gap``, by predictive regret matching.

    Equation ``eq-regret-matching``: each player plays in proportion to the positive part of the
    regrets, with the last round's counted once more as a guess of the next; the players take
    turns, and the answer is the mean of all rounds with weights :math:`t^2`. The gap
    :math:`\max_i (Ay)_i - \min_j (A^\top x)_j` is computed from the answer alone. The games are
    solved as :meth:`MatrixGame.normalized` has them, so units do not matter.

    Args:
        payoff: :math:`A`, shape ``(..., m, n)``; the row player maximises.
        gap: the largest duality gap that is accepted, in units of payoff; by default a thousandth
            of half the range of each game's payoffs.
        iterations: rounds after which it gives up.

    Returns:
        **Log-probabilities** of the row player ``(..., m)`` and of the column player ``(..., n)``;
        ``-inf`` is the probability 0. No gradient flows to the payoffs.

    Raises:
        TypeError: as :class:`MatrixGame`.
        ValueError: likewise, or a gap that is not above 0.
        ArithmeticError: the gap was not reached.

    Source:
        Farina, Kroer and Sandholm (2021).
    """
    checked = MatrixGame(payoff)
    game, _, unit = MatrixGame(checked.payoff.detach()).normalized()
    if gap is None:
        wanted = torch.full_like(unit, SHARE)
    else:
        wanted = require_number("gap", gap, 0.0, strict=True) / unit
    rounds = require_count("iterations", iterations)
    if not values_known(payoff):
        rounds = 2
    matching = _Matching(game.payoff)
    x, y = (part.exp() for part in game.uniform())
    found = game.split(_logs(game, x, y))
    left = game.nash_conv(found)
    for now in range(1, rounds + 1):
        matching.play(now)
        if now % LOOK and now < rounds:
            continue
        fresh = game.split(_logs(game, *matching.answer()))
        there = game.nash_conv(fresh)
        # A game that has its answer keeps it.
        better = (left > wanted) & (there < left)
        found = (
            torch.where(better[..., None], fresh[0], found[0]),
            torch.where(better[..., None], fresh[1], found[1]),
        )
        left = torch.where(better, there, left)
        if values_known(payoff) and bool((left <= wanted).all()):
            break
    if values_known(payoff) and not bool((left <= wanted).all()):
        worst = (left / wanted).flatten().argmax()
        asked, here = ((unit * each).flatten()[worst].item() for each in (wanted, left))
        raise ArithmeticError(
            f"gap: {asked!r} was not reached in {rounds} rounds; {here!r} is left"
        )
    return found


def _logs(game: MatrixGame, x: Tensor, y: Tensor) -> Tensor:
    return game.join((x.log(), y.log()))


class _Side(NamedTuple):
    """One player: regrets, present strategy and the weighted sum of all of them."""

    regrets: Tensor
    strategy: Tensor
    total: Tensor

    def moved(self, gain: Tensor, weight: float) -> _Side:
        instant = gain - (gain * self.strategy).sum(-1, keepdim=True)
        regrets = (self.regrets + instant).clamp_(min=0)
        hoped = (regrets + instant).clamp_(min=0)
        size = hoped.sum(-1, keepdim=True)
        strategy = torch.where(size > 0, hoped / size, self.strategy)
        return _Side(regrets, strategy, self.total.add(strategy, alpha=weight))


class _Matching:
    """The state of predictive regret matching in a batch of games."""

    def __init__(self, payoff: Tensor) -> None:
        self.payoff = payoff
        first, second = payoff.new_zeros(payoff.shape[:-1]), payoff.new_zeros(
            *payoff.shape[:-2], payoff.shape[-1]
        )  # fmt: skip
        self.first = _Side(first, first.softmax(-1), first)
        self.second = _Side(second, second.softmax(-1), second)

    def play(self, now: int) -> None:
        """One round: the row player, then the column player against the new row strategy."""
        weight = float(now) ** 2
        received = (self.payoff @ self.second.strategy[..., None])[..., 0]
        self.first = self.first.moved(received, weight)
        paid = (self.first.strategy[..., None, :] @ self.payoff)[..., 0, :]
        self.second = self.second.moved(-paid, weight)

    def answer(self) -> tuple[Tensor, Tensor]:
        """The weighted means."""
        x, y = self.first.total, self.second.total
        return x / x.sum(-1, keepdim=True), y / y.sum(-1, keepdim=True)
