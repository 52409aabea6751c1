"""An nbgrader course made of the book's assignments: release, collect, grade, report.

Needs the extra ``course``.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.marking import Grader, load_grader, make_plan
from mdtheory.course.submission import (
    CourseError,
    Limits,
    Result,
    Session,
    convert,
    grade_one,
    marks_cell,
    nbgrader,
)
from mdtheory.files import write_atomically

CONFIG = '''\
"""nbgrader's settings for this course; instructors may add their own."""

from pathlib import Path

c = get_config()  # noqa: F821
c.CourseDirectory.root = str(Path(__file__).parent)
c.CourseDirectory.course_id = {name!r}
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


def new_course(folder: Path) -> list[str]:
    """Make a course: nbgrader's settings and a private copy of the assignments and their graders.

    Args:
        folder: a folder that is empty or does not exist.

    Returns:
        The names of the assignments.

    Raises:
        CourseError: something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(f"{folder}: expected an empty folder or none, found something there")
    require_extra("nbgrader", "course")  # sooner than at the release
    exercises = exercises_folder()
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
        _find(known, name)
    released = []
    for name in names or list(known):
        notebook = _source(known[name])
        _check_source(notebook, load_grader(known[name].with_suffix(".py")))
        path = course / "source" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, nbformat.writes(notebook) + "\n")
        converter = require_extra("nbgrader.converters", "course").GenerateAssignment
        with nbgrader(course, name) as (coursedir, options, log):
            convert(converter(coursedir=coursedir, **options), log)
        released.append(course / "release" / name / f"{name}.ipynb")
    return released


def collect(course: Path, name: str, folder: Path) -> list[str]:
    """Take submissions from a plain folder, in which each file is called like its student.

    Args:
        course: the course's folder.
        name: the assignment.
        folder: holds ``STUDENT.ipynb``, ``STUDENT.md`` (MyST) or ``STUDENT.py`` (functions that
            take the place of the solution cells, to try a grader), or ``STUDENT/NAME.ipynb``.

    Returns:
        The students' names. A file that cannot be read is taken as it is, and grading reports it.

    Raises:
        CourseError: there is no such folder, the assignment is not released, a student
            submitted twice, or a file is called like the assignment.
    """
    course = course.resolve()
    _find(assignments(course), name)
    released = _released(course, name)
    if not folder.is_dir():
        raise CourseError(f"{folder}: expected a folder of submissions, found none")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".ipynb", ".md", ".py")]
    found = [(path.stem, path) for path in files]
    found += [(path.parent.name, path) for path in sorted(folder.glob(f"*/{name}.ipynb"))]
    students = [student for student, _ in found]
    if twice := sorted({s for s in students if students.count(s) > 1}):
        raise CourseError(f"{folder}: submitted twice: {', '.join(twice)}")
    if not found:
        raise CourseError(f"{folder}: expected files such as STUDENT.ipynb, found none")
    if name in students:
        raise CourseError(f"{folder}: {name} is the assignment; call the file like its student")
    for student, path in found:
        target = course / "submitted" / student / name / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, _as_notebook(path, released))
    return students


def left_over(name: str, folder: Path) -> list[str]:
    """What :func:`collect` does not take from a folder.

    Args:
        name: the assignment.
        folder: the folder.

    Returns:
        Names of files of other kinds, and of folders without ``NAME.ipynb``.
    """
    return [
        path.name
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and path.suffix not in (".ipynb", ".md", ".py")
        and not (path / f"{name}.ipynb").is_file()
    ]


def grade(
    course: Path,
    name: str,
    limits: Limits | None = None,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Grade all submissions of an assignment, the reference solution first.

    Marks go into the gradebook, pages for students into ``feedback/STUDENT/NAME/``, and a table
    into ``marks/NAME.csv``. Grading again, or after an interruption, replaces all three.

    Args:
        course: the course's folder; submissions are ``submitted/STUDENT/NAME/NAME.ipynb``.
        name: the assignment.
        limits: time limits.
        tell: called with each result when it is there.

    Returns:
        One result per student, by name.

    Raises:
        CourseError: the assignment is not released, there is no submission, or the reference
            solution does not get full marks; then nobody is graded.
    """
    limits = limits or Limits()
    course = course.resolve()  # nbgrader changes the working directory
    source = _find(assignments(course), name)
    _released(course, name)
    students = sorted(path.parent.name for path in course.glob(f"submitted/*/{name}"))
    if not students:
        raise CourseError(f"{name}: no submissions in {course / 'submitted'}/STUDENT/{name}")
    grader = load_grader(source.with_suffix(".py"))
    _check_source(_source(source), grader)
    _check_release(course, source)
    seed = int(json.loads((course / "course.json").read_text("utf-8"))["seed"])
    session = Session(grader, make_plan(grader, seed), seed, limits)
    _grade_reference(course, session)
    results: list[Result] = []
    for student in students:
        result = grade_one(course, session, student)
        results.append(result)
        _write_marks(course, grader, results)
        tell(result)
    return results


def report(course: Path) -> tuple[list[str], list[list[str]]]:
    """One table of all marks, from the gradebook, so that marks given by hand there count.

    Also written to ``marks/report.csv``.

    Args:
        course: the course's folder.

    Returns:
        The header, and one row per student with the name, one cell per graded assignment and the
        total. A cell is a score, the status where a submission was not graded, or empty.

    Raises:
        CourseError: there is no course, or nothing was graded.
    """
    course = course.resolve()
    graded = [name for name in assignments(course) if _marks_file(course, name).is_file()]
    if not graded:
        raise CourseError(f"{course}: nothing was graded yet; run `mdtheory course grade`")
    gradebook_class = require_extra("nbgrader.api", "course").Gradebook
    header = ["student"]
    marks: dict[str, dict[str, tuple[float, str]]] = {}
    with (
        nbgrader(course, "*") as (coursedir, _, _),
        gradebook_class(coursedir.db_url, coursedir.course_id) as gradebook,
    ):
        for name in graded:
            header.append(f"{name} (of {gradebook.find_assignment(name).max_score:g})")
            scores = {
                submission.student_id: float(submission.score)
                for submission in gradebook.assignment_submissions(name)
            }
            for row in csv.DictReader(_marks_file(course, name).read_text("utf-8").splitlines()):
                score = scores.get(row["student"], 0.0)
                cell = f"{score:g}"
                if row["status"] != "graded":
                    cell = f"{score:g} ({row['status']})" if score else row["status"]
                marks.setdefault(row["student"], {})[name] = (score, cell)
    header.append("total")
    rows = []
    for student, cells in sorted(marks.items()):
        total = sum(score for score, _ in cells.values())
        words = [cells[name][1] if name in cells else "" for name in graded]
        rows.append([student, *words, f"{total:g}"])
    _write_csv(course / "marks" / "report.csv", [header, *rows])
    return header, rows


def _find(known: dict[str, Path], name: str) -> Path:
    if name not in known:
        raise CourseError(f"{name}: no such assignment; there are: {', '.join(known)}")
    return known[name]


def _released(course: Path, name: str) -> Path:
    path = course / "release" / name / f"{name}.ipynb"
    if not path.is_file():
        raise CourseError(f"{name}: not released; run `mdtheory course release {course} {name}`")
    return path


def _as_notebook(path: Path, released: Path) -> bytes:
    """A submission's file as a notebook; as it is, where it is none."""
    content = path.read_bytes()
    if path.suffix == ".ipynb":
        return content
    jupytext = require_extra("jupytext", "course")
    try:
        text = content.decode()
        if path.suffix == ".py":
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


def _source(path: Path) -> Any:
    """The source of an assignment as a notebook."""
    jupytext = require_extra("jupytext", "course")
    notebook = jupytext.read(path)
    # jupytext's own settings have no place in a notebook that students open elsewhere.
    notebook.metadata.pop("jupytext", None)
    return notebook


def _check_source(notebook: Any, grader: Grader) -> None:
    """Every problem has one cell for its marks, worth its points, in the source and its grader."""
    points = {}
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            points[cell.metadata.nbgrader.grade_id] = float(cell.metadata.nbgrader.points)
    expected = {marks_cell(problem): most for problem, most in grader.points.items()}
    if points != expected:
        raise CourseError(
            f"{grader.name}: the assignment's cells give {points}, its grader's POINTS {expected}"
        )


def _check_release(course: Path, source: Path) -> None:
    """What was released is what the source says now."""
    nbformat = require_extra("nbformat", "course")

    def content(notebook: Any) -> list[tuple[str, str, dict[str, Any]]]:
        # Without what differs in each conversion, the cells' random names.
        return [
            (cell.cell_type, cell.source, dict(cell.metadata.get("nbgrader", {})))
            for cell in notebook.cells
        ]

    name = source.stem
    kept = nbformat.read(course / "source" / name / f"{name}.ipynb", as_version=4)
    if content(kept) != content(_source(source)):
        raise CourseError(
            f"{name}: {source} changed since it was released; "
            f"run `mdtheory course release {course} {name}` again"
        )


def _marks_file(course: Path, name: str) -> Path:
    return course / "marks" / f"{name}.csv"


def _grade_reference(course: Path, session: Session) -> None:
    """The source with its solutions, graded like a student's, in a course that is thrown away."""
    name = session.grader.name
    with tempfile.TemporaryDirectory(prefix="mdtheory-") as temporary:
        copy = Path(temporary)
        for file in ("nbgrader_config.py", "gradebook.db"):
            shutil.copyfile(course / file, copy / file)
        for step in ("source", "release"):
            shutil.copytree(course / step / name, copy / step / name)
        submitted = copy / "submitted" / "reference" / name
        shutil.copytree(course / "source" / name, submitted)
        result = grade_one(copy, session, "reference")
    if result.status == "graded" and all(v.outcome == "right" for v in result.verdicts):
        return
    lines = [f"{name}: the reference solution does not get full marks; nobody was graded"]
    if result.reason:
        lines.append(f"  {result.status}: {result.reason}")
    for verdict in result.verdicts:
        if verdict.outcome != "right":
            words = "; ".join(verdict.words)
            lines.append(
                f"  {verdict.problem}: {verdict.score:g} of {verdict.points:g}, "
                f"{verdict.outcome}: {words}"
            )
    raise CourseError("\n".join(lines))


def _write_marks(course: Path, grader: Grader, results: list[Result]) -> None:
    header = ["student", "status", "score", "max_score", "reason"]
    for problem in grader.points:
        header += [problem, f"{problem}_outcome", f"{problem}_words"]
    most = sum(grader.points.values())
    rows = []
    for result in results:
        row = [result.student, result.status, f"{result.score:g}", f"{most:g}", result.reason]
        found = {verdict.problem: verdict for verdict in result.verdicts}
        for problem in grader.points:
            verdict = found.get(problem)
            row += (
                [f"{verdict.score:g}", verdict.outcome, "; ".join(verdict.words)]
                if verdict
                else ["0", "could not run", ""]
            )
        rows.append(row)
    _write_csv(_marks_file(course, grader.name), [header, *rows])


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())
