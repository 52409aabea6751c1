"""Kuhn poker and Leduc poker, from their rules."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mdtheory.nlhf.games.tree import ExtensiveGame
from mdtheory.nlhf.games.walk import Chance, Decision, Terminal


class _Rules(NamedTuple):
    """Poker with one private card each, and a public one before a second round."""

    cards: tuple[int, ...]
    ante: int
    bets: tuple[int, ...]
    raises: int


class _Hand(NamedTuple):
    """A state: cards (by position in the deck), what was said in each round, who folded."""

    private: tuple[int, ...] = ()
    public: int | None = None
    said: tuple[str, ...] = ("",)


KUHN = _Rules((0, 1, 2), 1, (1,), 1)
LEDUC = _Rules((0, 0, 1, 1, 2, 2), 1, (2, 4), 2)


def kuhn_poker(
    *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> ExtensiveGame:
    """Kuhn poker: three cards, one bet of 1 beside an ante of 1; its value is -1/18.

    Args:
        dtype: of the payoffs.
        device: where the game lives.

    Returns:
        The game; a row's name is the player's card with what was said (``f`` fold,
        ``c`` check or call, ``r`` bet).

    Source:
        Kuhn (1950).
    """
    return _poker(KUHN, dtype, device)


def leduc_poker(
    *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> ExtensiveGame:
    """Leduc poker: three ranks in two suits, two rounds, bets of 2 and 4, at most two a round.

    Suits are seen, as in OpenSpiel: 936 information sets.

    Args:
        dtype: of the payoffs.
        device: where the game lives.

    Returns:
        The game; a row's name is the player's card, the public card or ``None``, and what was
        said in each round (``f`` fold, ``c`` check or call, ``r`` bet or raise).

    Source:
        Southey et al. (2005).
    """
    return _poker(LEDUC, dtype, device)


def _poker(rules: _Rules, dtype: torch.dtype, device: torch.device | str | None) -> ExtensiveGame:
    def describe(state: object) -> Terminal | Chance | Decision:
        assert isinstance(state, _Hand)
        return _describe(rules, state)

    return ExtensiveGame.from_tree(_Hand(), describe, dtype=dtype, device=device)


def _describe(rules: _Rules, hand: _Hand) -> Terminal | Chance | Decision:
    deck = range(len(rules.cards))
    if len(hand.private) < 2:
        left = [card for card in deck if card not in hand.private]
        return Chance(
            [(1 / len(left), hand._replace(private=(*hand.private, card))) for card in left]
        )
    said = hand.said[-1]
    if said.endswith("f"):
        return Terminal(_settled(rules, hand, folded=(len(said) - 1) % 2))
    if len(said) >= 2 and said.endswith("c"):
        if len(hand.said) == len(rules.bets):
            return Terminal(_settled(rules, hand))
        left = [card for card in deck if card not in hand.private]
        return Chance(
            [(1 / len(left), hand._replace(public=card, said=(*hand.said, ""))) for card in left]
        )
    player = len(said) % 2
    moves = [letter for letter in "fcr" if _allowed(rules, said, letter)]
    following = [(m, hand._replace(said=(*hand.said[:-1], said + m))) for m in moves]
    return Decision(player, (hand.private[player], hand.public, *hand.said), following)


def _allowed(rules: _Rules, said: str, move: str) -> bool:
    if move == "f":
        return said.endswith("r")
    return move == "c" or said.count("r") < rules.raises


def _settled(rules: _Rules, hand: _Hand, folded: int | None = None) -> float:
    """What the first player receives: the loser's stake."""
    stakes = [rules.ante, rules.ante]
    for bet, said in zip(rules.bets, hand.said, strict=False):
        for turn, move in enumerate(said):
            if move == "c":
                stakes[turn % 2] = max(stakes)
            elif move == "r":
                stakes[turn % 2] = max(stakes) + bet
    if folded is not None:
        return float(stakes[1] if folded == 1 else -stakes[0])
    first, second = (_strength(rules, card, hand.public) for card in hand.private)
    return float(stakes[0] * ((first > second) - (first < second)))


def _strength(rules: _Rules, card: int, public: int | None) -> int:
    rank = rules.cards[card]
    pair = public is not None and rules.cards[public] == rank
    return rank + (len(rules.cards) if pair else 0)
