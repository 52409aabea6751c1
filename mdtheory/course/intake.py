"""What students hand in, read with care: it may be anything, and it is never run here.

Needs the extra ``course``.
"""

from __future__ import annotations

import copy
import json
import os
import re
import stat
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra

# Bytes of a submission's file, pictures included, and its cells.
MOST_BYTES = 20_000_000
MOST_CELLS = 2_000
PICTURES = re.compile(r"image/(png|jpeg|gif)")


class CourseError(Exception):
    """A step that cannot be done, with the reason in words for the instructor."""


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """A file that a student made: a regular one of bounded size, or none.

    Args:
        path: the file.
        most: bytes that it may have.

    Returns:
        Its content.

    Raises:
        CourseError: it is not there, is a link, a pipe or a device, or is too large.
    """
    try:
        # A pipe would keep a plain open() waiting for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise CourseError(f"{path.name} is a link, which is not followed") from None
        if not path.exists():
            raise CourseError(f"no file {path.name} in {path.parent}") from None
        raise CourseError(f"{path.name}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CourseError(f"{path.name} is not a regular file")
    with open(handle, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise CourseError(f"{path.name} has more than {most / 1e6:g} MB")
    return content


def decode(content: bytes) -> str:
    """Text from a file, in UTF-8, or in what its byte-order mark says.

    Args:
        content: the file's bytes.

    Returns:
        The text, without the mark.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    return content.decode(json.detect_encoding(content))


def read_notebook(path: Path) -> Any:
    """A student's notebook: the sources of its cells, and nothing else that it holds.

    Args:
        path: the file.

    Returns:
        A notebook of format 4; of the cells' metadata only nbgrader's names are left.

    Raises:
        CourseError: it is no notebook, or no file that :func:`read_file` reads.
    """
    nbformat = require_extra("nbformat", "course")
    content = read_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notebook = nbformat.reads(decode(content), as_version=4)
        cells = [_clean(cell, nbformat.v4) for cell in notebook.cells[: MOST_CELLS + 1]]
    except Exception as error:  # nbformat's errors have no common ancestor
        raise CourseError(f"{path.name} is not a notebook: {str(error)[:200]}") from None
    if len(cells) > MOST_CELLS:
        raise CourseError(f"{path.name} has more than {MOST_CELLS} cells")
    return nbformat.v4.new_notebook(cells=cells)


def _clean(cell: Any, v4: Any) -> Any:
    """A new cell with the source of this one."""
    make = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell, "raw": v4.new_raw_cell}
    source = cell["source"]
    if not isinstance(source, str):
        raise ValueError("a cell's source is not text")
    clean = make[cell["cell_type"]](source.encode("utf-8", "replace").decode())
    came = cell.get("metadata", {}).get("nbgrader")
    if isinstance(came, dict) and isinstance(came.get("grade_id"), str):
        clean.metadata["nbgrader"] = {"grade_id": came["grade_id"]}
    pictures = {
        name: {kind: data for kind, data in bundle.items() if _is_picture(kind, data)}
        for name, bundle in dict(cell.get("attachments") or {}).items()
        if re.fullmatch(r"[\w .()-]+", name)
    }
    if pictures and clean.cell_type == "markdown":
        clean["attachments"] = pictures
    return clean


def _is_picture(kind: object, data: object) -> bool:
    return (
        isinstance(kind, str)
        and isinstance(data, str)
        and PICTURES.fullmatch(kind) is not None
        and re.fullmatch(r"[A-Za-z0-9+/=\s]*", data) is not None
    )


def restore_cells(notebook: Any, source: Any) -> list[str]:
    """Give cells their own nbgrader metadata again, and locked cells what stands in them.

    Deleted cells for marks are put back. Solution cells are not: the student may have the answer
    in a cell of their own, which an empty one would undo. Of a cell that appears twice, as Jupyter
    leaves it after copying or splitting, the last one counts: what was written before it is known
    there.

    Args:
        notebook: what the student handed in; changed in place.
        source: the assignment with its solutions.

    Returns:
        What there was to mend and the student should know, one line each.
    """
    originals = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in source.cells
        if "nbgrader" in cell.metadata
    }
    seen: Counter[str] = Counter()
    for cell in reversed(notebook.cells):
        came = cell.metadata.pop("nbgrader", None)
        name = came["grade_id"] if came else ""
        # Jupyter lets anyone turn a cell into text; a cell for code stays what it was.
        if name in originals and cell.cell_type == originals[name].cell_type:
            seen[name] += 1
            if seen[name] == 1:
                cell.metadata.nbgrader = copy.deepcopy(originals[name].metadata.nbgrader)
                if cell.metadata.nbgrader.get("locked"):
                    cell.source = originals[name].source
    for name, cell in originals.items():
        if cell.metadata.nbgrader.grade and name not in seen:
            notebook.cells.append(copy.deepcopy(cell))
    return [
        f"the cell {name} appears {count} times (copied or split); the last one counts as it"
        for name, count in seen.items()
        if count > 1
    ]
