"""Small real data sets that come with the package; ``README.md`` beside them says whence."""

from __future__ import annotations

import gzip
from importlib import resources
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["PriceRelatives", "load_nyse"]


class PriceRelatives(NamedTuple):
    """A market: ``names`` of its ``d`` stocks, and ``relatives`` of shape ``(days, d)``.

    A relative is the closing price of a day over that of the day before, so a relative of 1.02
    is a gain of two per cent.
    """

    names: tuple[str, ...]
    relatives: Tensor


def load_nyse() -> PriceRelatives:
    """Daily price relatives of 36 stocks of the New York Stock Exchange, 1962 to 1984.

    Returns:
        The names (the letters that the source uses) and the relatives, shape ``(5651, 36)``,
        float64 on the CPU, every entry positive.

    Source:
        Cover, *Universal portfolios*, Mathematical Finance 1 (1991), section 8; see
        ``mdtheory/data/README.md``.
    """
    packed = resources.files(__name__).joinpath("nyse.csv.gz").read_bytes()
    header, *rows = gzip.decompress(packed).decode().splitlines()
    units = np.array([row.split(",") for row in rows], dtype=np.int64)
    return PriceRelatives(tuple(header.split(",")), torch.from_numpy(units / 100_000.0))
