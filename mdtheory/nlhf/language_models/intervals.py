"""Win rates with exact intervals."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mdtheory.checks import require_count, require_number

HALVINGS = 60


class Interval(NamedTuple):
    """A rate with the ends of its confidence interval."""

    rate: float
    low: float
    high: float


def clopper_pearson(wins: int, n: int, level: float = 0.95) -> Interval:
    r"""The interval of Clopper and Pearson for a rate: it covers at least as often as it says.

    Its ends are the rates at which as many wins or more, and as many or fewer, have a chance of
    :math:`(1-\text{level})/2`. They lie in [0, 1], and are not one point after no win or no loss,
    where Wald's are.

    Args:
        wins: how often it was won, from 0 to ``n``.
        n: how often it was tried, at least 1.
        level: coverage, in (0, 1).

    Returns:
        ``wins / n`` and both ends.

    Raises:
        TypeError: counts that are no whole numbers.
        ValueError: a count or a level out of range.

    Source:
        Clopper and Pearson (1934).
    """
    tries = require_count("n", n)
    won = require_count("wins", wins, 0)
    if won > tries:
        raise ValueError(f"wins: expected at most n = {tries}, got {won}")
    if not 0 < require_number("level", level, 0.0) < 1:
        raise ValueError(f"level: expected a number in (0, 1), got {level!r}")
    tail = (1 - level) / 2
    low = 0.0 if won == 0 else _crossing(won, tries, tail)
    high = 1.0 if won == tries else 1 - _crossing(tries - won, tries, tail)
    return Interval(won / tries, low, high)


def _crossing(won: int, tries: int, tail: float) -> float:
    """The rate at which at least so many wins have this chance."""
    counts = torch.arange(won, tries + 1, dtype=torch.float64)
    total = torch.tensor(float(tries), dtype=torch.float64)
    ways = torch.lgamma(total + 1) - torch.lgamma(counts + 1) - torch.lgamma(total - counts + 1)
    low, high = 0.0, won / tries
    for _ in range(HALVINGS):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64)
        logs = ways + torch.xlogy(counts, middle) + torch.xlogy(total - counts, 1 - middle)
        low, high = (low, middle.item()) if logs.exp().sum() > tail else (middle.item(), high)
    return (low + high) / 2
