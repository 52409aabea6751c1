"""Small real data sets that come with the package; ``README.md`` beside them says whence."""

from __future__ import annotations

import gzip
from datetime import datetime
from importlib import resources
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "JudgeRatings",
    "PriceRelatives",
    "StockReturns",
    "WaterFlow",
    "load_judges",
    "load_nyse",
    "load_sp500",
    "load_water_flow",
]


class PriceRelatives(NamedTuple):
    """A market: ``names`` of its ``d`` stocks, and ``relatives`` of shape ``(days, d)``.

    A relative is the closing price of a day over that of the day before, so a relative of 1.02
    is a gain of two per cent.
    """

    names: tuple[str, ...]
    relatives: Tensor


class WaterFlow(NamedTuple):
    """A flow in litres per second, ``flow``, at the times ``hours`` since the first value."""

    hours: Tensor
    flow: Tensor


class StockReturns(NamedTuple):
    """Returns in per cent: ``names`` of ``d`` stocks, ``returns`` of shape ``(days, d)``.

    ``next_day``, shape ``(days,)``, is the mean return of the stocks on the day after.
    """

    names: tuple[str, ...]
    returns: Tensor
    next_day: Tensor


class JudgeRatings(NamedTuple):
    """Ratings of judges: ``names``, the ``respects`` rated, ``ratings`` ``(judges, respects)``.

    ``contacts``, shape ``(judges,)``, is the mean number of a lawyer's contacts with the judge.
    """

    names: tuple[str, ...]
    respects: tuple[str, ...]
    ratings: Tensor
    contacts: Tensor


def load_judges() -> JudgeRatings:
    """How lawyers rated 43 judges in eleven respects, 1977.

    Returns:
        Names, the respects under the names of the source, the ratings ``(43, 11)`` and the
        contacts ``(43,)``, float64 on the CPU.

    Source:
        *New Haven Register*, 14 January 1977, by way of R; see ``mdtheory/data/README.md``.
    """
    header, *rows = (line.split(";") for line in _lines("judges.csv.gz"))
    cells = torch.from_numpy(np.array([row[1:] for row in rows], dtype=np.float64))
    names = tuple(row[0] for row in rows)
    return JudgeRatings(names, tuple(header[2:]), cells[:, 1:], cells[:, 0])


def load_nyse() -> PriceRelatives:
    """Daily price relatives of 36 stocks of the New York Stock Exchange, 1962 to 1984.

    Returns:
        The names (the letters that the source uses) and the relatives, shape ``(5651, 36)``,
        float64 on the CPU, every entry positive.

    Source:
        Cover, *Universal portfolios*, Mathematical Finance 1 (1991), section 8; see
        ``mdtheory/data/README.md``.
    """
    header, *rows = _lines("nyse.csv.gz")
    units = np.array([row.split(",") for row in rows], dtype=np.int64)
    return PriceRelatives(tuple(header.split(",")), torch.from_numpy(units / 100_000.0))


def load_water_flow() -> WaterFlow:
    """Flow of water through a pipeline branch, one value an hour, 20 March to 16 May 2022.

    Returns:
        Hours since the first value and the flow, each of shape ``(1268,)``, float64 on the CPU. At
        ten places hours are missing, so ``hours`` jumps there.

    Source:
        The package ``river``, donated by Tecnojest s.r.l.; see ``mdtheory/data/README.md``.
    """
    cells = [row.split(",") for row in _lines("water_flow.csv.gz")[1:]]
    seconds = np.array([datetime.fromisoformat(time).timestamp() for time, _ in cells])
    flow = np.array([float(value) for _, value in cells])
    return WaterFlow(torch.from_numpy((seconds - seconds[0]) / 3600), torch.from_numpy(flow))


def load_sp500() -> StockReturns:
    """Daily returns of ten large stocks of the S&P 500 in per cent, 2013 to 2018.

    Returns:
        The ticker symbols, the returns of shape ``(1257, 10)`` and the mean return of the ten on
        the next day, shape ``(1257,)``, float64 on the CPU.

    Source:
        The package ``river``; see ``mdtheory/data/README.md``.
    """
    header, *rows = _lines("sp500.csv.gz")
    cells = torch.from_numpy(np.array([row.split(",")[1:] for row in rows], dtype=np.float64))
    return StockReturns(tuple(header.split(",")[1:-1]), cells[:, :-1], cells[:, -1])


def _lines(name: str) -> list[str]:
    packed = resources.files(__name__).joinpath(name).read_bytes()
    return gzip.decompress(packed).decode().splitlines()
