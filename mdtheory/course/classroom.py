"""An nbgrader course made of the book's assignments: release, collect, grade, report.

Needs the extra ``course``. nbgrader does what nbgrader does: it makes the student's version, keeps
the gradebook, restores locked cells, renders feedback. What is ours is between its steps: the
notebook is executed under a time limit, and the marks come from the grader's own process.
"""

from __future__ import annotations

import ast
import csv
import html
import io
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.kernel import EXCHANGE
from mdtheory.course.marking import (
    Grader,
    PlannedCall,
    Verdict,
    judge,
    load_grader,
    make_plan,
    write_plan,
)
from mdtheory.runs import write_atomically

CONFIG = '''\
"""nbgrader's settings for this course; instructors may add their own."""

from pathlib import Path

c = get_config()  # noqa: F821
c.CourseDirectory.root = str(Path(__file__).parent)
c.CourseDirectory.course_id = {name!r}
'''


class CourseError(Exception):
    """A step that cannot be done, with the reason in words for the instructor."""


@dataclass(frozen=True)
class Limits:
    """Time limits of one submission.

    Attributes:
        notebook: seconds for the whole notebook.
        cell: seconds for one cell; the cell is then interrupted, and the next one runs.
    """

    notebook: float = 300.0
    cell: float = 60.0


@dataclass
class Result:
    """What came out for one submission.

    Attributes:
        student: the student's name, that of the folder.
        status: "graded", "stopped" (in part: out of time, or the kernel died) or "could not run".
        reason: why it is not "graded".
        verdicts: one per problem; empty where nothing ran.
    """

    student: str
    status: str
    reason: str
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Sum of the points given."""
        return sum(verdict.score for verdict in self.verdicts)


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
        with _nbgrader(course, name) as (coursedir, options, log):
            _convert(converter(coursedir=coursedir, **options), log)
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
        The students' names. A file that cannot be read is taken as it is: grading reports it.

    Raises:
        CourseError: there is no such folder, the assignment is not released, or a student
            submitted twice.
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
    for student, path in found:
        target = course / "submitted" / student / name / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, _as_notebook(path, released))
    return students


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
    seed = int(json.loads((course / "course.json").read_text("utf-8"))["seed"])
    session = _Session(grader, make_plan(grader, seed), seed, limits)
    _grade_reference(course, session)
    results: list[Result] = []
    for student in students:
        result = _grade_one(course, session, student)
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
        The header, and one row per student: name, one cell per graded assignment, the total.
        A cell is a score, the status where a submission was not graded, or empty.

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
        _nbgrader(course, "*") as (coursedir, _, _),
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
                words = row["status"] if row["status"] == "could not run" else f"{score:g}"
                if row["status"] == "stopped":
                    words += " (stopped)"
                marks.setdefault(row["student"], {})[name] = (score, words)
    header.append("total")
    rows = []
    for student, cells in sorted(marks.items()):
        total = sum(score for score, _ in cells.values())
        words = [cells[name][1] if name in cells else "" for name in graded]
        rows.append([student, *words, f"{total:g}"])
    _write_csv(course / "marks" / "report.csv", [header, *rows])
    return header, rows


@dataclass(frozen=True)
class _Session:
    """What is the same for every submission that is graded now."""

    grader: Grader
    plan: dict[str, list[PlannedCall]]
    seed: int
    limits: Limits


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
    try:
        if path.suffix == ".md":
            jupytext = require_extra("jupytext", "course")
            notebook = jupytext.reads(content.decode(), fmt="md:myst")
            return str(jupytext.writes(notebook, fmt="ipynb")).encode()
        if path.suffix == ".py":
            return _filled_in(content.decode(), released).encode()
    except (ValueError, SyntaxError):  # what is wrong with the file is said when it is graded
        pass
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
    for statement in ast.parse(code).body:
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
    """Every problem has one cell for its marks, worth its points."""
    points = {}
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            points[cell.metadata.nbgrader.grade_id] = float(cell.metadata.nbgrader.points)
    expected = {_marks_cell(problem): most for problem, most in grader.points.items()}
    if points != expected:
        raise CourseError(
            f"{grader.name}: the assignment's cells give {points}, its grader's POINTS {expected}"
        )


def _marks_cell(problem: str) -> str:
    return f"marks_{problem}"


def _marks_file(course: Path, name: str) -> Path:
    return course / "marks" / f"{name}.csv"


@contextmanager
def _nbgrader(
    course: Path, name: str, student: str = "*"
) -> Iterator[tuple[Any, Any, io.StringIO]]:
    """Where nbgrader works, its converters' options, and what it will have logged."""
    converters = require_extra("nbgrader.converters", "course")
    coursedir_class = require_extra("nbgrader.coursedir", "course").CourseDirectory
    loader = require_extra("traitlets.config.loader", "course").PyFileConfigLoader
    assert converters is not None
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setLevel(logging.ERROR)
    log = logging.Logger("nbgrader")  # not in the tree of loggers: nobody else's handlers
    log.addHandler(handler)
    config = loader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbgrader's libraries warn each other of deprecations
        coursedir = coursedir_class(config=config, log=log)
        coursedir.assignment_id, coursedir.student_id = name, student
        yield coursedir, {"config": config, "log": log, "force": True}, text


def _convert(converter: Any, log: io.StringIO) -> None:
    """Run one of nbgrader's converters; what it logged becomes the error's text."""
    exceptions = require_extra("nbgrader.converters.base", "course")
    try:
        converter.start()
    except exceptions.NbGraderException as error:
        lines = [line for line in log.getvalue().splitlines() if line.strip()]
        # The line with the exception's own words, from the traceback among those logged.
        told = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Invalid\w*): ", line)]
        raise CourseError(told[-1] if told else str(error)) from error


def _grade_reference(course: Path, session: _Session) -> None:
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
        result = _grade_one(copy, session, "reference")
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


def _grade_one(course: Path, session: _Session, student: str) -> Result:
    """Grade one submission, whatever it is."""
    name = session.grader.name
    for step in ("autograded", "feedback"):
        shutil.rmtree(course / step / student / name, ignore_errors=True)
    converters = require_extra("nbgrader.converters", "course")
    execute_class = require_extra("nbgrader.preprocessors", "course").Execute
    outcome = Result(student, "could not run", "")
    with tempfile.TemporaryDirectory(prefix="mdtheory-") as exchange:
        write_plan(session.grader, session.plan, Path(exchange))

        def run_and_mark(notebook: Any, resources: Any) -> tuple[Any, Any]:
            _execute(notebook, resources, session.limits, Path(exchange), outcome, execute_class)
            outcome.verdicts = judge(session.grader, session.plan, session.seed, Path(exchange))
            _settle(notebook, outcome, session.limits)
            return notebook, resources

        def restore(notebook: Any, resources: Any) -> tuple[Any, Any]:
            _restore_cells(notebook, course / "release" / name / f"{name}.ipynb")
            return notebook, resources

        try:
            _check_submission(course / "submitted" / student / name / f"{name}.ipynb")
            with _nbgrader(course, name, student) as (coursedir, options, log):
                autograde = converters.Autograde(coursedir=coursedir, **options)
                autograde.sanitize_preprocessors = [restore, *autograde.sanitize_preprocessors]
                autograde.autograde_preprocessors = [
                    run_and_mark if step is execute_class else step
                    for step in autograde.autograde_preprocessors
                ]
                _convert(autograde, log)
                _convert(converters.GenerateFeedback(coursedir=coursedir, **options), log)
        except Exception as error:
            reason = str(error) or type(error).__name__
            outcome = Result(student, "could not run", reason)
            _withdraw(course, name, student, reason)
    return outcome


def _check_submission(path: Path) -> None:
    """The submission is there and is a notebook."""
    nbformat = require_extra("nbformat", "course")
    if not path.is_file():
        raise CourseError(f"no file {path.name} in {path.parent}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat's errors have no common ancestor
        raise CourseError(f"{path.name} is not a notebook: {str(error)[:200]}") from error


def _restore_cells(notebook: Any, released: Path) -> None:
    """Give cells their own nbgrader metadata again, and deleted cells for marks their place.

    nbgrader then restores what stands in locked cells. Solution cells are not put back: the
    student may have the answer in a cell of their own, which an empty one would undo.
    """
    nbformat = require_extra("nbformat", "course")
    originals = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in nbformat.read(released, as_version=4).cells
        if "nbgrader" in cell.metadata
    }
    missing = {name for name, cell in originals.items() if cell.metadata.nbgrader.grade}
    for cell in notebook.cells:
        came = cell.metadata.pop("nbgrader", None)
        name = came.get("grade_id") if isinstance(came, dict) else None
        if name in originals:
            cell.metadata.nbgrader = originals[name].metadata.nbgrader
            missing.discard(name)
    for name, cell in originals.items():
        if name in missing:
            if notebook.nbformat_minor < 5:
                del cell["id"]  # cells have had one since version 4.5
            notebook.cells.append(cell)


def _execute(
    notebook: Any,
    resources: Any,
    limits: Limits,
    exchange: Path,
    outcome: Result,
    execute_class: Any,
) -> None:
    """Run a submission in a kernel of its own, which ends with it."""
    deadline = time.monotonic() + limits.notebook

    def seconds_for(cell: Any) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(limits.cell, left)

    log = logging.Logger("kernel")
    log.addHandler(logging.NullHandler())  # what it has to say is in the result
    execute = execute_class(
        timeout_func=seconds_for,
        shutdown_kernel="immediate",
        extra_arguments=["--log-level=40"],
        log=log,
    )
    before = os.environ.get(EXCHANGE)
    os.environ[EXCHANGE] = str(exchange)
    outcome.status = "graded"
    try:
        execute.preprocess(notebook, resources)
    except Exception as error:
        outcome.status, outcome.reason = "stopped", _why_stopped(error, limits)
    finally:
        if before is None:
            del os.environ[EXCHANGE]
        else:
            os.environ[EXCHANGE] = before


def _why_stopped(error: Exception, limits: Limits) -> str:
    kind = type(error).__name__
    if kind == "TimeoutError":
        return f"out of time: the notebook took more than {limits.notebook:g} s"
    if kind == "CellTimeoutError":
        return f"out of time: a cell took more than {limits.cell:g} s and could not be interrupted"
    if kind == "DeadKernelError":
        return "the kernel died"
    return f"{kind}: {str(error)[:300]}"


def _settle(notebook: Any, outcome: Result, limits: Limits) -> None:
    """Put scores where nbgrader takes them from, and words where the student reads them."""
    nbformat = require_extra("nbformat.v4", "course")
    if all(verdict.outcome == "could not run" for verdict in outcome.verdicts):
        outcome.status = "could not run"
        outcome.reason = (
            outcome.reason or _first_error(notebook, limits) or outcome.verdicts[0].words[0]
        )
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    for verdict in outcome.verdicts:
        lines = [f"{verdict.score:g} of {verdict.points:g} points: {verdict.outcome}"]
        lines += [f"- {words}" for words in verdict.words]
        if outcome.reason:
            lines.append(f"The notebook: {outcome.status}: {outcome.reason}")
        # A number as a cell's result is its score, in nbgrader as everywhere.
        cells[_marks_cell(verdict.problem)].outputs = [
            nbformat.new_output("stream", name="stdout", text="\n".join(lines) + "\n"),
            nbformat.new_output("execute_result", data={"text/plain": repr(verdict.score)}),
        ]


def _first_error(notebook: Any, limits: Limits) -> str:
    for cell in notebook.cells:
        errors = [out for out in cell.get("outputs", []) if out.output_type == "error"]
        # Where a cell was interrupted there are two: the interrupt, and nbgrader's note on it.
        if any(error.ename == "CellTimeoutError" for error in errors):
            return f"out of time: a cell took more than {limits.cell:g} s"
        if errors:
            return f"{errors[0].ename}: {errors[0].evalue[:300]}"
    return ""


def _withdraw(course: Path, name: str, student: str, reason: str) -> None:
    """Take back marks of an earlier grading, and tell the student why there are none."""
    api = require_extra("nbgrader.api", "course")
    with (
        _nbgrader(course, name) as (coursedir, _, _),
        api.Gradebook(coursedir.db_url, coursedir.course_id) as gradebook,
        suppress(api.MissingEntry),
    ):
        gradebook.remove_submission(name, student)
    shutil.rmtree(course / "autograded" / student / name, ignore_errors=True)
    page = course / "feedback" / student / name / f"{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        page,
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(name)}</title></head>\n<body>\n<h1>{html.escape(name)}</h1>\n"
        f"<p>Your submission could not be run, so it has no marks.</p>\n"
        f"<pre>{html.escape(reason)}</pre>\n</body>\n</html>\n",
    )


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
