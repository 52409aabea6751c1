"""What an executed chapter leaves behind: numbers for the prose, checks for the ledger, records.

``glue`` and the two checks write into the output of the cell that calls them, so the book needs
no file beside the executed notebook. Outside a notebook they only compute.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_broadcastable, require_count, require_extra, require_number

GLUE_PREFIX = "application/papermill.record/"


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


class Cell(NamedTuple):
    """One finished cell of a sweep: its ``arguments``, its ``seed`` and its ``result``."""

    arguments: dict[str, Any]
    seed: int
    result: Any


class ProgressBar:
    """A line of text that shows how far something is; call it with what is done and what is all.

    Args:
        title: what it stands for.
        width: characters of the bar.
    """

    def __init__(self, title: str, width: int = 30) -> None:
        self.title, self.width, self.shown = title, width, ""

    def __call__(self, done: int, total: int) -> None:
        """Draw the bar on the standard error stream, where it has changed."""
        full = self.width * done // total
        line = f"\r{self.title} [{'#' * full}{'.' * (self.width - full)}] {100 * done // total}%"
        if line != self.shown:
            sys.stderr.write(line + ("\n" if done == total else ""))
            sys.stderr.flush()
            self.shown = line


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    seeds: Iterable[int],
    folder: Path,
    jobs: int | None = None,
    checkpoints: bool = False,
) -> list[Cell]:
    """Run one function over a grid of arguments and seeds, each finished cell on disk at once.

    A cell is ``function(**arguments, seed=seed)``. Its result goes into a file of ``folder``,
    named after the function, the arguments and the seed, and is not computed again while that
    file can be read: a killed sweep resumes where it was, and other arguments are other cells.
    A changed *body* of the function is not seen; give it another ``folder``.

    Args:
        function: a function of a module; it returns numbers, texts, lists and dictionaries.
        grid: argument to its values; the cells are their product, the last argument fastest.
        seeds: what ``seed`` runs through, fastest of all.
        folder: where the files go; it is made.
        jobs: processes, as joblib counts them; ``None`` follows ``joblib.parallel_config``,
            and is one process without it.
        checkpoints: whether the function is also given ``checkpoint``, the path of a file of its
            own, which is removed when the cell is finished.

    Returns:
        All cells, in the order of the grid.

    Raises:
        ImportError: joblib is not installed.
        TypeError: an argument or a result cannot be written as JSON.
        ValueError: the grid has an argument without values, or named like ours.
    """
    joblib = require_extra("joblib", "notebooks")
    cells = _cells(function, grid, seeds, folder)
    folder.mkdir(parents=True, exist_ok=True)
    joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(_run_cell)(function, *cell, checkpoints)
        for cell in cells
        if _read_cell(*cell) is None
    )
    return [cell for cell in map(_read_cell, *zip(*cells, strict=True)) if cell is not None]


def finished_cells(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    seeds: Iterable[int],
    folder: Path,
) -> list[Cell]:
    """The cells of a :func:`sweep` that are on disk, without running any.

    Args:
        function: as there.
        grid: as there.
        seeds: as there.
        folder: as there.

    Returns:
        The finished cells, in the order of the grid.

    Raises:
        TypeError: an argument cannot be written as JSON.
        ValueError: the grid has an argument without values, or named like ours.
    """
    cells = _cells(function, grid, seeds, folder)
    return [cell for cell in map(_read_cell, *zip(*cells, strict=True)) if cell is not None]


def glue(name: str, value: float | str | Tensor) -> None:
    """Hand a number of a cell to the page, where ``{glue:text}`` shows it.

    Args:
        name: its name on the page, unique in the chapter.
        value: a number, a text or a tensor with one entry.

    Raises:
        ValueError: a tensor with more than one entry.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"value: expected one entry, got shape {tuple(value.shape)}")
        value = value.item()
    if isinstance(value, float):
        value = float(value)  # NumPy's float64 is one too, with a name in its text
    show(
        {GLUE_PREFIX + "text/plain": repr(value)},
        {"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}},
    )


def check_bound(label: str, left: Tensor, right: Tensor, *, tolerance: float = 1e-9) -> float:
    r"""Check ``left <= right`` on every instance, and tell the ledger.

    Args:
        label: the theorem's label in the book.
        left: the side that must be the smaller, any shape.
        right: the bound, of a shape that broadcasts with ``left``.
        tolerance: ``left`` may exceed ``right`` by ``tolerance * (1 + |right|)``.

    Returns:
        The worst ratio ``left / right`` over the instances with a positive bound
        (NaN where there is none); 1 means that the bound is attained.

    Raises:
        AssertionError: an instance breaks the bound, or a side is NaN.
        ValueError: the shapes do not broadcast or there is no instance.
    """
    left, right = _pair(left, right)
    excess = left - right - tolerance * (1 + right.abs())
    if not bool((excess <= 0).all()):  # written so that a NaN fails
        at = int(torch.nan_to_num(excess, nan=torch.inf).argmax())
        raise AssertionError(f"{label}: broken, {left[at].item()!r} > {right[at].item()!r}")
    tight = right > 0
    worst = (left[tight] / right[tight]).max().item() if bool(tight.any()) else float("nan")
    _report(label, "bound", left.numel(), worst, "worst ratio of the two sides")
    return worst


def check_identity(label: str, left: Tensor, right: Tensor, *, tolerance: float = 1e-12) -> float:
    """Check ``left == right`` on every instance, and tell the ledger.

    Args:
        label: the statement's label in the book.
        left: one side, any shape.
        right: the other side, of a shape that broadcasts with ``left``.
        tolerance: largest difference allowed, relative to ``max(1, |left|, |right|)``.

    Returns:
        The largest relative difference.

    Raises:
        AssertionError: an instance breaks the identity, or a side is NaN.
        ValueError: the shapes do not broadcast or there is no instance.
    """
    left, right = _pair(left, right)
    scale = torch.maximum(left.abs(), right.abs()).clamp(min=1)
    difference = (left - right).abs() / scale
    if not bool((difference <= tolerance).all()):
        at = int(torch.nan_to_num(difference, nan=torch.inf).argmax())
        raise AssertionError(f"{label}: broken, {left[at].item()!r} != {right[at].item()!r}")
    worst = difference.max().item()
    _report(label, "identity", left.numel(), worst, "largest relative difference")
    return worst


def bootstrap_interval(
    samples: Tensor,
    generator: torch.Generator,
    *,
    statistic: str = "median",
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[Tensor, Tensor, Tensor]:
    """A statistic over seeds with its percentile bootstrap interval.

    Args:
        samples: one result a seed, shape ``(seeds, ...)``.
        generator: source of the resampling, on the device of ``samples``.
        statistic: ``"median"``, ``"mean"`` or ``"iqm"`` (the mean of the middle half).
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap samples.

    Returns:
        The statistic, the lower and the upper end, each of shape ``(...)``.

    Raises:
        ValueError: no seeds, an unknown statistic, or a level outside (0, 1).
    """
    if samples.ndim == 0 or samples.shape[0] == 0:
        raise ValueError(f"samples: expected shape (seeds, ...), got {tuple(samples.shape)}")
    if statistic not in ("median", "mean", "iqm"):
        raise ValueError(f"statistic: expected 'median', 'mean' or 'iqm', got {statistic!r}")
    if require_number("level", level, 0.0, strict=True) >= 1:
        raise ValueError(f"level: expected a number below 1, got {level!r}")
    require_count("resamples", resamples)
    seeds = samples.shape[0]
    picks = torch.randint(seeds, (resamples, seeds), generator=generator, device=samples.device)
    spread = _statistic(samples[picks].movedim(1, 0), statistic)
    edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=samples.dtype)
    low, high = torch.quantile(spread, edges.to(samples.device), dim=0)
    return _statistic(samples, statistic), low, high


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
    for root in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (root / "book" / "results").is_dir():
            return root / "book" / "results"
    raise FileNotFoundError(
        "book/results: not found above the working directory. Recorded runs come with the book's "
        "repository, not with the package: run this in a checkout, or set MDTHEORY_RESULTS to "
        "that folder"
    )


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: the file; its folder must exist.
        content: text (written as UTF-8) or bytes.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def show(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Show a bundle of formats in the cell that is running; outside a notebook, do nothing.

    Args:
        data: MIME type to content.
        metadata: the output's metadata.
    """
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        from IPython.display import display

        display(data, raw=True, metadata=metadata)


def _cells(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    seeds: Iterable[int],
    folder: Path,
) -> list[tuple[dict[str, Any], int, Path]]:
    """Arguments, seed and file of every cell."""
    for name, values in grid.items():
        if name in ("seed", "checkpoint") or not len(values):
            raise ValueError(f"grid: expected values for arguments of the function, got {name!r}")
    chosen = list(itertools.product(*grid.values(), list(seeds)))
    if not chosen:
        raise ValueError("seeds: expected at least one seed, got none")
    pairs = [(dict(zip(grid, pick[:-1], strict=True)), pick[-1]) for pick in chosen]
    return [(*pair, folder / f"{_cell_name(function, *pair)}.json") for pair in pairs]


def _cell_name(function: Callable[..., Any], arguments: dict[str, Any], seed: int) -> str:
    """A name that changes with the function, its arguments and the seed."""
    identity = [f"{function.__module__}.{function.__qualname__}", arguments, seed]
    text = json.dumps(identity, sort_keys=True)
    return f"{function.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _run_cell(
    function: Callable[..., Any], arguments: dict[str, Any], seed: int, path: Path, keep: bool
) -> None:
    checkpoint = path.with_suffix(".checkpoint")
    more = {"checkpoint": checkpoint} if keep else {}
    result = function(**arguments, seed=seed, **more)
    content = {"arguments": arguments, "seed": seed, "result": result}
    write_atomically(path, json.dumps(content))
    checkpoint.unlink(missing_ok=True)


def _read_cell(arguments: dict[str, Any], seed: int, path: Path) -> Cell | None:
    """A finished cell; ``None`` where there is none, or where the file is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
        same = json.loads(json.dumps(arguments))
        if content["arguments"] != same or content["seed"] != seed:
            return None
        return Cell(arguments, seed, content["result"])
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        return None


def _statistic(samples: Tensor, statistic: str) -> Tensor:
    if statistic == "mean":
        return samples.mean(0)
    if statistic == "median":
        return samples.quantile(0.5, dim=0)
    trimmed = samples.shape[0] // 4
    return samples.sort(0).values[trimmed : samples.shape[0] - trimmed].mean(0)


def _pair(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    require_broadcastable("right", right, "left", left)
    left, right = torch.broadcast_tensors(left.detach(), right.detach())
    if left.numel() == 0:
        raise ValueError(f"left: expected at least one instance, got shape {tuple(left.shape)}")
    return left.flatten(), right.flatten()


def _report(label: str, kind: str, instances: int, worst: float, words: str) -> None:
    entry = {"label": label, "kind": kind, "instances": instances, "worst": worst}
    counted = "1 instance" if instances == 1 else f"{instances:,} instances"
    text = f"{label}: {counted}, {words} {worst:.3g}"
    show({"text/plain": text}, {"mdtheory_check": entry})
