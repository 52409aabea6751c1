"""Pairs of strategies, as log-probabilities, and the games that are played with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor

from mdtheory.checks import require_same_kind, require_tensor

Strategies = tuple[Tensor, Tensor]
Played = TypeVar("Played")


class ZeroSumGame(ABC, Generic[Played]):
    """A zero-sum game of two players, of which :func:`exploitability` can be asked."""

    @abstractmethod
    def exploitability(self, strategies: Played, /) -> Tensor:
        """What a player gains by a best response, in the mean of both players."""


def require_pair(name: str, value: object, like: Tensor) -> Strategies:
    """Refuse what is no pair of tensors of the dtype and device of another.

    Args:
        name: the argument's name, for the message.
        value: what came.
        like: the tensor whose dtype and device they must have.

    Returns:
        The pair.

    Raises:
        TypeError: no pair of floating-point tensors, or another dtype.
        ValueError: another device.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"{name}: expected the pair of both players' strategies, got {_kind(value)}"
        )
    for player, mine in enumerate(value):
        require_tensor(f"{name}[{player}]", mine)
        require_same_kind(f"{name}[{player}]", mine, "the payoff", like)
    return value[0], value[1]


def units(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Where payoffs lie: the centre of their range and half of it.

    Args:
        low: the least payoffs, of any shape.
        high: the largest, likewise.

    Returns:
        Centre and half the range, of that shape; the half is 1 where there is no range.
    """
    half = high / 2 - low / 2  # no sum of payoffs of 1e308 is formed
    return low + half, torch.where(half > 0, half, 1.0)


def _kind(value: object) -> str:
    length = f" of length {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{length}"
