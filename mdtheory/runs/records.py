"""Recorded runs: one CSV each, with its provenance in its head."""

from __future__ import annotations

import csv
import io
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

from mdtheory.files import write_atomically


class Record(NamedTuple):
    """A recorded run: its ``provenance`` and its ``columns``, each a list of cells as text."""

    provenance: dict[str, str]
    columns: dict[str, list[str]]

    def numbers(self, column: str) -> list[float]:
        """One column as numbers.

        Raises:
            ValueError: there is no such column, or a cell is no number.
        """
        if column not in self.columns:
            raise ValueError(f"column: expected one of {sorted(self.columns)}, got {column!r}")
        return [float(cell) for cell in self.columns[column]]


def describe_device(device: torch.device) -> str:
    """What a run ran on, in words, for its record.

    Args:
        device: where its tensors lived.

    Returns:
        Such as ``"cpu (x86_64), 1 thread(s)"``.
    """
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} ({processor}), {torch.get_num_threads()} thread(s)"


def write_record(
    name: str,
    columns: Mapping[str, Sequence[object]],
    *,
    command: str,
    device: str,
    seeds: int,
    note: str = "",
    folder: Path | None = None,
) -> Path:
    """Record a full-scale run as one CSV with its provenance, atomically.

    Args:
        name: file name without its ending.
        columns: column name to cells, all of one length.
        command: the command that makes this record again.
        device: what it ran on, in words.
        seeds: number of seeds.
        note: anything that a reader of the record must know.
        folder: where to write; ``book/results`` by default.

    Returns:
        The path of the file.

    Raises:
        ValueError: no columns, or columns of different lengths.
    """
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"columns: expected columns of one length, got lengths {sorted(lengths)}")
    provenance = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": command,
        "device": device,
        "seeds": str(seeds),
        "torch": torch.__version__,
        "note": note,
    }
    text = io.StringIO()
    for key, value in provenance.items():
        text.write(f"# {key}: {' '.join(value.split())}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    path = (folder or results_folder()) / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())
    return path


def read_record(name: str, *, folder: Path | None = None) -> Record:
    """A recorded run from ``book/results``.

    Args:
        name: file name without its ending.
        folder: where to look; ``book/results`` by default.

    Returns:
        Its provenance and its columns.

    Raises:
        FileNotFoundError: there is no such record.
    """
    lines = ((folder or results_folder()) / f"{name}.csv").read_text("utf-8").splitlines()
    head = [line[2:].split(": ", 1) for line in lines if line.startswith("# ")]
    rows = list(csv.reader(line for line in lines if not line.startswith("# ")))
    columns = {key: [row[i] for row in rows[1:]] for i, key in enumerate(rows[0])}
    return Record({pair[0].rstrip(":"): pair[1] if pair[1:] else "" for pair in head}, columns)


def results_folder() -> Path:
    """Folder of the recorded runs: ``book/results`` of the checkout that holds this or that file.

    Returns:
        ``MDTHEORY_RESULTS`` if it is set, else the first ``book/results`` at or above the working
        directory, else the one beside this package.

    Raises:
        FileNotFoundError: there is none.
    """
    if os.environ.get("MDTHEORY_RESULTS"):
        return Path(os.environ["MDTHEORY_RESULTS"])
    here = Path.cwd()
    for root in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (root / "book" / "results").is_dir():
            return root / "book" / "results"
    raise FileNotFoundError(
        "book/results: not found above the working directory. Recorded runs come with the book's "
        "repository, not with the package: run this in a checkout, or set MDTHEORY_RESULTS to "
        "that folder"
    )
