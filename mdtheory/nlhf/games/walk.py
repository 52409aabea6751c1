"""One walk through a game: what its states say becomes the sequences of two players."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch

from mdtheory.checks import require_number

# How far the sum of the probabilities of a move of chance may lie from 1.
CHANCE_TOLERANCE = 1e-9


class Terminal(NamedTuple):
    """The end of a game: ``payoff`` is what the first player receives."""

    payoff: float


class _Outcomes(NamedTuple):
    outcomes: Sequence[tuple[float, object]]


class Chance(_Outcomes):
    """A move of chance: pairs of a probability and the state that follows.

    Args:
        outcomes: the pairs; what has probability 0 does not happen.

    Raises:
        TypeError: a probability that is no number.
        ValueError: no outcome, a probability below 0 or not finite, or another sum than 1.
    """

    __slots__ = ()

    def __new__(cls, outcomes: Sequence[tuple[float, object]]) -> Chance:
        """The move, if its probabilities are a law."""
        total = math.fsum(
            require_number("chances", probability, 0.0) for probability, _ in outcomes
        )
        if abs(total - 1) > CHANCE_TOLERANCE:
            raise ValueError(f"chances: expected probabilities that sum to 1, got {total!r}")
        return super().__new__(cls, outcomes)


class Decision(NamedTuple):
    """A move of ``player`` 0 or 1, who knows ``information``.

    ``moves`` are pairs of a name and the state that follows, in the same order wherever the
    information is the same.
    """

    player: int
    information: Hashable
    moves: Sequence[tuple[str, object]]


Describe = Callable[[object], Terminal | Chance | Decision]


class _Walk:
    """What a walk through a game collects."""

    def __init__(self) -> None:
        self.found: tuple[dict[Hashable, int], dict[Hashable, int]] = ({}, {})
        self.parents: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        self.moves: tuple[list[tuple[str, ...]], list[tuple[str, ...]]] = ([], [])
        self.ends: list[tuple[tuple[int, int], tuple[int, int], float, float]] = []

    def run(self, root: object, describe: Describe) -> None:
        nothing = (-1, 0)
        stack: list[tuple[object, tuple[tuple[int, int], tuple[int, int]], float]] = [
            (root, (nothing, nothing), 1.0)
        ]
        while stack:
            state, chosen, chance = stack.pop()
            here = describe(state)
            if isinstance(here, Terminal):
                self.ends.append((*chosen, float(here.payoff), chance))
            elif isinstance(here, Chance):
                after = [(s, chosen, chance * p) for p, s in here.outcomes if p > 0]
                stack.extend(reversed(after))
            else:
                if here.player not in (0, 1) or not here.moves:
                    raise ValueError(f"describe: expected player 0 or 1 with a move, got {here!r}")
                row = self._row(here, chosen[here.player])
                for action, (_, following) in reversed(list(enumerate(here.moves))):
                    pair = list(chosen)
                    pair[here.player] = (row, action)
                    stack.append((following, (pair[0], pair[1]), chance))

    def _row(self, here: Decision, parent: tuple[int, int]) -> int:
        player = here.player
        names = tuple(str(name) for name, _ in here.moves)
        row = self.found[player].setdefault(here.information, len(self.parents[player]))
        if row == len(self.parents[player]):
            self.parents[player].append(parent)
            self.moves[player].append(names)
        elif self.parents[player][row] != parent:
            raise ValueError(
                "describe: expected a player who remembers what he did (perfect recall), got "
                f"two pasts of {here.information!r}"
            )
        elif self.moves[player][row] != names:
            raise ValueError(
                f"describe: expected the moves {self.moves[player][row]} wherever the "
                f"information is {here.information!r}, got {names}"
            )
        return row


def walk(
    root: object, describe: Describe, dtype: torch.dtype, device: torch.device | str | None
) -> tuple[Any, ...]:
    """Walk through a game once; :meth:`ExtensiveGame.from_tree` says what the arguments are.

    Args:
        root: the first state.
        describe: says what a state is.
        dtype: of the payoffs.
        device: where the tensors live.

    Returns:
        The arguments of :class:`ExtensiveGame`.

    Raises:
        ValueError: no game with perfect recall.
    """
    found = _Walk()
    found.run(root, describe)
    # A player who never moves has one row with one action, which changes nothing.
    moves = [mine or [("wait",)] for mine in found.moves]
    above = [mine or [(-1, 0)] for mine in found.parents]
    width = max(len(names) for mine in moves for names in mine)
    parents, legal = [], []
    for mine, rows in zip(above, moves, strict=True):
        counts = torch.tensor([len(names) for names in rows])
        parents.append(torch.tensor([_sequence(pair, width) for pair in mine], device=device))
        legal.append((torch.arange(width) < counts[:, None]).to(device))
    last = [[_sequence(pair, width) for pair in end[:2]] for end in found.ends]
    payoff = torch.tensor([end[2] for end in found.ends], dtype=dtype, device=device)
    chance = torch.tensor([end[3] for end in found.ends], dtype=dtype, device=device)
    names = tuple(list(mine) or ["nothing"] for mine in found.found)
    terminals = torch.tensor(last, device=device)
    return tuple(parents), tuple(legal), terminals, payoff, chance, names, tuple(moves)


def _sequence(pair: tuple[int, int], width: int) -> int:
    return pair[0] * width + pair[1] if pair[0] >= 0 else -1
