"""One function over a grid of arguments and seeds, each finished cell on disk at once."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mdtheory.checks import require_extra
from mdtheory.files import write_atomically


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
