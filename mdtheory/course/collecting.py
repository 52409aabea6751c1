"""Takes submissions from a folder: a plain one, or what Moodle or Canvas let you download.

Needs the extra ``course``.
"""

from __future__ import annotations

import ast
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mdtheory.checks import require_extra
from mdtheory.course.classroom import assignments, find, released
from mdtheory.course.intake import CourseError, decode, read_file
from mdtheory.course.roster import AGAIN, Person, roster_of, whose
from mdtheory.files import write_atomically

ENDINGS = (".ipynb", ".md", ".py")


@dataclass
class Inbox:
    """What lies in a folder.

    Attributes:
        taken: student to file.
        left: file or folder to why it is not taken, and what to do.
    """

    taken: dict[str, Path] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def sort_inbox(name: str, folder: Path, people: list[Person]) -> Inbox:
    """See whose each file is.

    Args:
        name: the assignment.
        folder: the folder.
        people: the roster; may be empty.

    Returns:
        What is taken and what is not.
    """
    found: dict[str, list[Path]] = {}
    inbox = Inbox()
    for path in sorted(folder.iterdir()):
        if path.name in (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"):
            continue
        file, why = _file_of(path, name)
        if file is None:
            inbox.left[path.name] = why
            continue
        student, why = whose(path.name if path.is_dir() else path.stem, people)
        if AGAIN.sub("", student) == name:
            why = f"{name} is the assignment; call the file like its student"
        if why:
            inbox.left[path.name] = why
        else:
            found.setdefault(student, []).append(path if path.is_file() else file)
    for student, paths in found.items():
        if len(paths) == 1:
            inbox.taken[student] = paths[0]
            continue
        for path in paths:
            inbox.left[str(path.relative_to(folder))] = (
                f"{student} submitted {len(paths)} times; keep one of them"
            )
    return inbox


def _file_of(path: Path, name: str) -> tuple[Path | None, str]:
    """The submission's file: the path itself, or the one notebook in a folder."""
    if path.is_symlink():
        return None, "is a link, which is not followed"
    if path.name.startswith("."):
        return None, "begins with a dot; call it like its student"
    if path.is_file():
        if path.suffix.lower() in ENDINGS:
            return path, ""
        return None, f"is no notebook; expected STUDENT.ipynb or STUDENT/{name}.ipynb"
    if not path.is_dir():
        return None, "is no regular file"
    inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() == ".ipynb"]
    inside = [p for p in inside if not p.name.startswith(".")]
    called = [p for p in inside if AGAIN.sub("", p.stem).casefold() == name.casefold()]
    if len(inside) == 1 or len(called) == 1:
        [file] = called if len(called) == 1 else inside
        if file.is_symlink() or not file.is_file():
            return None, f"{file.name} in it is no regular file"
        return file, ""
    if not inside:
        return None, f"has no notebook in it; expected {name}.ipynb"
    words = ", ".join(p.name for p in (called or inside))
    return None, f"has several notebooks in it ({words}); keep one of them"


def collect(course: Path, name: str, folder: Path) -> list[str]:
    """Take submissions from a folder.

    The time of a file becomes the time of the submission, for late penalties.

    Args:
        course: the course's folder.
        name: the assignment.
        folder: holds ``STUDENT.ipynb``, ``STUDENT.md`` (MyST) or ``STUDENT.py`` (functions that
            take the place of the solution cells, to try a grader), ``STUDENT/NAME.ipynb``, or
            what Moodle or Canvas call them.

    Returns:
        The students' names; :func:`left_over` says what is not taken. A file that cannot be read
        is taken as it is, and grading reports it.

    Raises:
        CourseError: there is no such folder, the assignment is not released, or nothing can be
            taken.
    """
    course = course.resolve()
    find(assignments(course), name)
    given = released(course, name)
    if not folder.is_dir():
        raise CourseError(f"{folder}: expected a folder of submissions, found none")
    inbox = sort_inbox(name, folder, roster_of(course))
    if not inbox.taken:
        lines = [f"{folder}: expected files such as STUDENT.ipynb, found none"]
        lines += [f"  {entry}: {why}" for entry, why in inbox.left.items()]
        raise CourseError("\n".join(lines))
    for student, path in inbox.taken.items():
        target = course / "submitted" / student / name / f"{name}.ipynb"
        if target.parent.is_symlink() or target.parent.parent.is_symlink():
            raise CourseError(f"{target.parent}: expected a folder, found a link")
        try:
            content = read_file(path)
        except CourseError:
            inbox.left[path.name] = "cannot be read"
            continue
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        when = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        write_atomically(
            target.with_name("timestamp.txt"), when.strftime("%Y-%m-%d %H:%M:%S UTC\n")
        )
        write_atomically(target, _as_notebook(content, path.suffix.lower(), given))
    return sorted(inbox.taken)


def left_over(name: str, folder: Path, course: Path | None = None) -> list[str]:
    """What :func:`collect` does not take from a folder, and what to do about it.

    Args:
        name: the assignment.
        folder: the folder.
        course: the course's folder; its roster counts.

    Returns:
        A line for each file or folder.
    """
    inbox = sort_inbox(name, folder, roster_of(course) if course else [])
    return [f"{entry}: {why}" for entry, why in inbox.left.items()]


def _as_notebook(content: bytes, ending: str, released: Path) -> bytes:
    """A submission's file as a notebook; as it is, where it is none."""
    if ending == ".ipynb":
        return content
    jupytext = require_extra("jupytext", "course")
    try:
        text = decode(content)
        if ending == ".py":
            return _filled_in(text, released).encode()
        return str(jupytext.writes(jupytext.reads(text, fmt="md:myst"), fmt="ipynb")).encode()
    except Exception:  # what is wrong with the file is said when it is graded
        return content


def _filled_in(code: str, released: Path) -> str:
    """The released notebook with functions in place of its solution cells, one cell each."""
    nbformat = require_extra("nbformat", "course")
    notebook = nbformat.read(released, as_version=4)
    cells = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    lines, rest = code.splitlines(), []
    try:
        statements = ast.parse(code).body
    except SyntaxError:
        statements, rest = [], [code]  # its cell will say where
        for cell in cells.values():
            cell.source = ""
    for statement in statements:
        source = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        if isinstance(statement, ast.FunctionDef) and statement.name in cells:
            cells[statement.name].source = source
        else:
            rest.append(source)
    first = notebook.cells.index(next(iter(cells.values())))
    notebook.cells.insert(first, nbformat.v4.new_code_cell("\n".join(rest)))
    return str(nbformat.writes(notebook))
