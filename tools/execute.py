"""Execute each changed chapter once: the notebook test, and the cache that the book build reads.

A chapter whose fingerprint is that of its stamp is not run again. A stamp is taken away before its
chapter runs and written after all else, so an interrupted run leaves nothing that counts as done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbformat import NotebookNode

from tools.project import (
    ROOT,
    chapters,
    code_cells,
    fingerprint,
    hash_files,
    locked,
    read_json,
    source_of,
    write_json,
)

CELL_TIMEOUT = 300  # seconds for one cell, against hanging; the limit of a chapter is below
SLOW = 40.0  # seconds that a chapter may take, on one thread (CONTRIBUTING.md)


class ChapterError(Exception):
    """A chapter could not be executed; the message names the chapter and the cell."""


class Executed(NamedTuple):
    """One chapter and the seconds that it took, or took when it last ran."""

    page: str
    seconds: float


def execute(root: Path = ROOT) -> list[Executed]:
    """Execute the chapters that changed, all cores at once, one thread each.

    Args:
        root: the checkout.

    Returns:
        The chapters that ran, in reading order; empty where nothing had changed.

    Raises:
        ChapterError: a cell failed; chapters that succeeded keep their stamps.
    """
    prints = {page: fingerprint(root, page) for page in chapters(root)}
    _forget_removed(root, set(prints))
    changed = [page for page, value in prints.items() if not _is_current(root, page, value)]
    if not changed:
        return []
    for page in changed:
        stamp_path(root, page).unlink(missing_ok=True)
        path = notebook_path(root, page)
        path.parent.mkdir(parents=True, exist_ok=True)
        jupytext.write(read_chapter(root, page), path, fmt="ipynb")
    seconds = _run(root, changed)
    done, failures = [], []
    for page in changed:
        notebook = nbformat.read(notebook_path(root, page), 4)
        failure = describe_failure(page, notebook)
        if failure is None and page in seconds:
            keep(root, page)
            stamp = {
                "fingerprint": prints[page],
                "notebook": hash_files(root, [notebook_path(root, page)]),
                "seconds": seconds[page],
            }
            write_json(stamp_path(root, page), stamp)
            done.append(Executed(page, seconds[page]))
        else:
            failures.append(failure or f"{page}: did not finish (see above)")
    if failures:
        raise ChapterError("\n".join(failures))
    return done


def read_chapter(root: Path, page: str) -> NotebookNode:
    """A chapter as a notebook without outputs."""
    return jupytext.reads(source_of(root, page), fmt="md:myst")


def notebook_path(root: Path, page: str) -> Path:
    """Where the executed notebook of a chapter lies (nbmake skips folders named _build)."""
    return root / ".cache" / "notebooks" / f"{page.removeprefix('book/')}.ipynb"


def stamp_path(root: Path, page: str) -> Path:
    """Where the stamp of a chapter lies."""
    return root / ".cache" / "stamps" / f"{page.removeprefix('book/')}.json"


def keep(root: Path, page: str) -> None:
    """Put the executed notebook where the book build looks for it."""
    cache, path = get_cache(str(root / ".cache" / "jupyter")), notebook_path(root, page)
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:  # the cache compares metadata, and the source has no times
        cell.metadata.pop("execution", None)
    _, key = cache.create_hashed_notebook(notebook)
    # A kill between making this folder and filling it would stop the cache for good.
    shutil.rmtree(root / ".cache" / "jupyter" / "executed" / key, ignore_errors=True)
    cache.cache_notebook_bundle(CacheBundleIn(notebook, str(root / f"{page}.md")), overwrite=True)


def last_times(root: Path = ROOT) -> list[Executed]:
    """Every chapter with the seconds of its last execution, slowest first."""
    times = []
    for page in chapters(root):
        seconds = read_json(stamp_path(root, page)).get("seconds")
        if isinstance(seconds, float):
            times.append(Executed(page, seconds))
    return sorted(times, key=lambda item: -item.seconds)


def describe_failure(page: str, notebook: NotebookNode) -> str | None:
    """Which cell failed: chapter, number of the cell, its first line and the error.

    Args:
        page: the chapter.
        notebook: as the run left it.

    Returns:
        The description, or None where every cell ran.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, 1):
        errors = [out for out in cell.outputs if out.output_type == "error"]
        replied = "shell.execute_reply" in cell.metadata.get("execution", {})
        if replied and not errors:
            continue
        lines = [line for line in cell.source.splitlines() if line.strip()]
        what = f"{errors[0].ename}: {errors[0].evalue}" if errors else "was not finished in time"
        return f"{page}.md: cell {number} ({lines[0] if lines else 'empty'}): {what}"
    return None


def _is_current(root: Path, page: str, value: str) -> bool:
    stamp, path = read_json(stamp_path(root, page)), notebook_path(root, page)
    if stamp.get("fingerprint") != value or not path.exists():
        return False
    if stamp.get("notebook") != hash_files(root, [path]):
        return False
    cache = get_cache(str(root / ".cache" / "jupyter"))
    try:
        cache.match_cache_notebook(read_chapter(root, page))
    except KeyError:
        return False
    return True


def _forget_removed(root: Path, present: set[str]) -> None:
    for folder, ending in (("stamps", "json"), ("notebooks", "ipynb")):
        base = root / ".cache" / folder
        for path in base.rglob(f"*.{ending}"):
            if f"book/{path.relative_to(base).with_suffix('').as_posix()}" not in present:
                path.unlink()


def _run(root: Path, pages: list[str]) -> dict[str, float]:
    """Run the notebooks through nbmake; seconds of each that it reports."""
    report = root / ".cache" / "notebooks.xml"
    report.unlink(missing_ok=True)
    paths = [str(notebook_path(root, page)) for page in pages]
    command = [sys.executable, "-m", "pytest", "-p", "nbmake.pytest_plugin", "-p", "xdist"]
    command += ["--nbmake", "--overwrite", "--tb=short", "-q"]
    command += ["-c", str(Path(__file__).with_name("notebooks.ini")), f"--rootdir={root}"]
    command += ["--nbmake-kernel=python3", f"--nbmake-timeout={CELL_TIMEOUT}"]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1"]
    if len(pages) > 1:
        command += ["-n", str(min(len(pages), _cores()))]
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Settings for the tests (and a coverage run around us) are not meant for the notebooks.
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment = {**outside, **dict.fromkeys(threads, "1")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nothing but the two that are named
    result = subprocess.run([*command, *paths], cwd=root, env=environment, check=False)
    if not report.exists():
        raise ChapterError(f"the notebooks could not be run (exit {result.returncode})")
    return times(root, report, pages)


def times(root: Path, report: Path, pages: list[str]) -> dict[str, float]:
    """Seconds of each notebook that ran through, by its page; pages may share their last name.

    Args:
        root: the checkout.
        report: the XML file that pytest wrote.
        pages: the chapters that were to run.

    Returns:
        Page to seconds, without those that failed, were skipped or are not in the report.
    """
    places = {notebook_path(root, page).relative_to(root).as_posix(): page for page in pages}
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        page = places.get(case.get("file", ""))
        if page is not None and not len(case):  # no failure, error or skip inside
            found[page] = float(case.get("time", "nan"))
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def report(root: Path, done: list[Executed]) -> None:
    """Say what ran and how long it took, loudly where a chapter is over its limit."""
    if not done:
        print("Chapters: nothing changed, none executed.")
    for page, seconds in done:
        cells = len(code_cells(source_of(root, page)))
        print(f"Executed {page} ({cells} cells) in {seconds:.1f} s")
    for page, seconds in last_times(root):
        if seconds > SLOW:
            print(f"WARNING: {page} took {seconds:.0f} s, over the limit of {SLOW:.0f} s")


def main() -> int:
    """Execute what changed, or with ``--times`` only say how long each chapter took."""
    if "--times" in sys.argv[1:]:
        for page, seconds in last_times(ROOT)[:10]:
            print(f"{seconds:6.1f} s  {page}")
        return 0
    with locked(ROOT):
        try:
            report(ROOT, execute(ROOT))
        except ChapterError as error:
            print(f"\nFAILED\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted; run the same command again", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
