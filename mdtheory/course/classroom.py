"""An nbgrader course made of the book's assignments: release, collect, grade, report.

Needs the extra ``course``.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.gradebook import convert, nbgrader, open_gradebook
from mdtheory.course.intake import CourseError
from mdtheory.course.marking import Grader, load_grader
from mdtheory.course.submission import marks_cell
from mdtheory.files import write_atomically

CONFIG = '''\
"""nbgrader's settings for this course; instructors may add their own."""

from pathlib import Path

c = get_config()  # noqa: F821
c.CourseDirectory.root = str(Path(__file__).parent)
c.CourseDirectory.course_id = {name!r}

# Pages that nbgrader makes, with comments from formgrader, run nothing of a student's either.
c.GenerateFeedback.exporter_class = "mdtheory.course.gradebook.SafeExporter"

# What late submissions lose: "none" or "zero", or a plugin of nbgrader's.
# c.LateSubmissionPlugin.penalty_method = "zero"
'''


def exercises_folder() -> Path:
    """Folder of the book's assignments: in the installed package, else beside it.

    Returns:
        The folder, with one folder per part of the book.

    Raises:
        CourseError: there is none.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "exercises", package.parent / "exercises"):
        if folder.is_dir():
            return folder
    raise CourseError("exercises: found neither in the installed package nor beside it")


def new_course(folder: Path, old: Path | None = None) -> list[str]:
    """Make a course: nbgrader's settings and a private copy of the assignments and their graders.

    Args:
        folder: a folder that is empty or does not exist.
        old: a course whose assignments and graders are taken, edited as they are, instead of the
            book's. Students, marks and the number from which inputs are drawn are not.

    Returns:
        The names of the assignments.

    Raises:
        CourseError: something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(f"{folder}: expected an empty folder or none, found something there")
    require_extra("nbgrader", "course")  # sooner than at the release
    if old is not None:
        assignments(old)  # it is a course
    exercises = exercises_folder() if old is None else old / "exercises"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(exercises.glob("*/*")):
        if path.suffix in (".md", ".py"):
            target = folder / "exercises" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    # The inputs of the marks come from this number: fresh for every course, the same for everyone
    # in it and when a submission is graded again.
    (folder / "course.json").write_text(json.dumps({"seed": secrets.randbits(64)}) + "\n", "utf-8")
    # Last, so that a course that was interrupted on the way is not taken for one.
    name = folder.resolve().name
    (folder / "nbgrader_config.py").write_text(CONFIG.format(name=name), "utf-8")
    return sorted(assignments(folder))


def assignments(course: Path) -> dict[str, Path]:
    """The assignments of a course.

    Args:
        course: the course's folder.

    Returns:
        Name to source, ``exercises/PART/NAME.md`` in the course's folder.

    Raises:
        CourseError: the folder holds no course, or two assignments have one name.
    """
    if not (course / "nbgrader_config.py").is_file() or not (course / "course.json").is_file():
        raise CourseError(f"{course}: expected a course, made by `mdtheory course new {course}`")
    found: dict[str, Path] = {}
    for path in sorted((course / "exercises").glob("*/*.md")):
        if path.stem in found:
            raise CourseError(f"{path}: another assignment is called {path.stem}")
        found[path.stem] = path
    return found


def release(course: Path, names: list[str]) -> list[Path]:
    """Make the students' version of assignments, without solutions and hidden cells.

    Args:
        course: the course's folder.
        names: the assignments; none for all.

    Returns:
        The notebooks to give to students, ``release/NAME/NAME.ipynb``.

    Raises:
        CourseError: there is no such assignment, its source does not fit its grader, or nbgrader
            refuses, as it does where cells came or went after submissions were graded.
    """
    nbformat = require_extra("nbformat", "course")
    course = course.resolve()  # nbgrader changes the working directory
    known = assignments(course)
    for name in names:
        find(known, name)
    made = []
    for name in names or list(known):
        grader = load_grader(known[name].with_suffix(".py"))
        notebook = source_of(known[name], grader.points)
        check_source(notebook, grader)
        path = course / "source" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, nbformat.writes(notebook) + "\n")
        converter = require_extra("nbgrader.converters", "course").GenerateAssignment
        with nbgrader(course, name) as (coursedir, options, log):
            convert(converter(coursedir=coursedir, **options), log)
        made.append(course / "release" / name / f"{name}.ipynb")
    return made


def find(known: dict[str, Path], name: str) -> Path:
    """The source of an assignment; a :class:`CourseError` where there is none of that name."""
    if name not in known:
        raise CourseError(f"{name}: no such assignment; there are: {', '.join(known)}")
    return known[name]


def released(course: Path, name: str) -> Path:
    """The notebook that students were given; a :class:`CourseError` where there is none."""
    path = course / "release" / name / f"{name}.ipynb"
    if not path.is_file():
        raise CourseError(f"{name}: not released; run `mdtheory course release {course} {name}`")
    return path


def set_due(course: Path, name: str, when: str) -> None:
    """Set when an assignment is due; late penalties are counted from then.

    Args:
        course: the course's folder.
        name: the assignment.
        when: a time such as ``2027-01-31 23:59:00 Europe/Berlin``; without a zone it is UTC.

    Raises:
        CourseError: the assignment is not released, or this is no time.
    """
    course = course.resolve()
    find(assignments(course), name)
    released(course, name)
    try:
        due = require_extra("nbgrader.utils", "course").parse_utc(when)
    except (ValueError, TypeError, OverflowError) as error:
        raise CourseError(f"{when!r}: expected a time such as 2027-01-31 23:59 UTC") from error
    with open_gradebook(course, name) as gradebook:
        gradebook.update_or_create_assignment(name, duedate=due)


def source_of(path: Path, points: dict[str, float] | None = None) -> Any:
    """The source of an assignment as a notebook.

    Args:
        path: ``exercises/PART/NAME.md``.
        points: what each problem is worth, from its grader: that is the one place to change
            them. Cells and text follow.

    Returns:
        The notebook.
    """
    jupytext = require_extra("jupytext", "course")
    notebook = jupytext.read(path)
    # jupytext's own settings have no place in a notebook that students open elsewhere.
    notebook.metadata.pop("jupytext", None)
    if points is not None:
        _set_points(notebook, points)
    return notebook


def _set_points(notebook: Any, points: dict[str, float]) -> None:
    """Write points into the cells for marks, the titles of problems and the sum in the text."""
    title, most = None, 0.0
    for cell in notebook.cells:
        own = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "markdown" and re.search(
            r"^#+ .*\([\d.]+ points?\)", cell.source, re.M
        ):
            title = cell
        if own.get("grade"):
            problem = own["grade_id"].removeprefix("marks_")
            own["points"] = number = points.get(problem, own["points"])
            number = int(number) if float(number).is_integer() else number
            most += float(number)
            own["points"] = number
            if title is not None:
                words = f"({number:g} point{'' if number == 1 else 's'})"
                title.source = re.sub(r"\([\d.]+ points?\)", words, title.source, count=1)
                title = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(
                r"(problems give )[\d.]+( points)", rf"\g<1>{most:g}\g<2>", cell.source
            )


def check_source(notebook: Any, grader: Grader) -> None:
    """Every problem of the grader has one cell for its marks in the source.

    Other cells may give points by hand: those that are solution and grade at once.

    Args:
        notebook: the source.
        grader: its grader.

    Raises:
        CourseError: they do not fit; the words say which problem is where.
    """
    found = [
        cell.metadata.nbgrader.grade_id
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
        and not cell.metadata.nbgrader.get("solution")
    ]
    expected = [marks_cell(problem) for problem in grader.points]
    wrong = [f"POINTS has {p}, but no cell {p} gives marks" for p in expected if p not in found]
    wrong += [f"the cell {c} gives marks, but POINTS has no such problem" for c in found
              if c not in expected]  # fmt: skip
    wrong += [
        f"the cell {c} appears twice" for c in sorted({c for c in found if found.count(c) > 1})
    ]
    if wrong:
        raise CourseError(f"{grader.name}: {'; '.join(wrong)}")


def check_release(course: Path, source: Path, points: dict[str, float]) -> None:
    """What was released is what the source and the grader say now; else a CourseError."""
    nbformat = require_extra("nbformat", "course")

    def content(notebook: Any) -> list[tuple[str, str, dict[str, Any]]]:
        # Without what differs in each conversion, the cells' random names.
        return [
            (cell.cell_type, cell.source, dict(cell.metadata.get("nbgrader", {})))
            for cell in notebook.cells
        ]

    name = source.stem
    kept = nbformat.read(course / "source" / name / f"{name}.ipynb", as_version=4)
    if content(kept) != content(source_of(source, points)):
        raise CourseError(
            f"{name}: {source} changed since it was released; "
            f"run `mdtheory course release {course} {name}` again"
        )
