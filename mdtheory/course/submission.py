"""One submission, from the student's file to marks in nbgrader's gradebook.

Needs the extra ``course``. nbgrader restores locked cells, keeps the gradebook and renders the
feedback; between its steps the notebook is executed under a time limit, and the marks come from
the grader's own process.
"""

from __future__ import annotations

import asyncio
import glob
import html
import io
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.kernel import EXCHANGE
from mdtheory.course.marking import Grader, PlannedCall, Verdict, judge, write_plan
from mdtheory.files import write_atomically

# Characters that a submission may print, images included.
MOST_OUTPUT = 20_000_000


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


@dataclass(frozen=True)
class Session:
    """What is the same for every submission that is graded now."""

    grader: Grader
    plan: dict[str, list[PlannedCall]]
    seed: int
    limits: Limits


def grade_one(course: Path, session: Session, student: str) -> Result:
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
            with nbgrader(course, name, student) as (coursedir, options, log):
                autograde = converters.Autograde(coursedir=coursedir, **options)
                autograde.sanitize_preprocessors = [restore, *autograde.sanitize_preprocessors]
                autograde.autograde_preprocessors = [
                    run_and_mark if step is execute_class else step
                    for step in autograde.autograde_preprocessors
                ]
                convert(autograde, log)
                convert(converters.GenerateFeedback(coursedir=coursedir, **options), log)
        except Exception as error:
            reason = str(error) or type(error).__name__
            outcome = Result(student, "could not run", reason)
            _withdraw(course, name, student, reason)
    return outcome


@contextmanager
def nbgrader(course: Path, name: str, student: str = "*") -> Iterator[tuple[Any, Any, io.StringIO]]:
    """Where nbgrader works, its converters' options, and what it will have logged."""
    coursedir_class = require_extra("nbgrader.coursedir", "course").CourseDirectory
    loader = require_extra("traitlets.config.loader", "course").PyFileConfigLoader
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setLevel(logging.ERROR)
    log = logging.Logger("nbgrader")  # not in the tree of loggers: nobody else's handlers
    log.addHandler(handler)
    config = loader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    with warnings.catch_warnings(), _variable("PATH", _path_with_programs()):
        warnings.simplefilter("ignore")  # nbgrader's libraries warn each other of deprecations
        coursedir = coursedir_class(config=config, log=log)
        coursedir.assignment_id = name
        coursedir.student_id = student
        yield coursedir, {"config": config, "log": log, "force": True}, text


def _path_with_programs() -> str:
    """PATH with this Python's folder: nbgrader starts alembic by name, activated or not."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def convert(converter: Any, log: io.StringIO) -> None:
    """Run one of nbgrader's converters; what it logged becomes the error's text."""
    exceptions = require_extra("nbgrader.converters.base", "course")
    try:
        converter.start()
    except exceptions.NbGraderException as error:
        lines = [line for line in log.getvalue().splitlines() if line.strip()]
        # The line with the exception's own words, from the traceback among those logged.
        told = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Invalid\w*): ", line)]
        raise CourseError(told[-1] if told else str(error)) from error


def marks_cell(problem: str) -> str:
    """The ``grade_id`` of the cell in which a problem gets its marks."""
    return f"marks_{problem}"


def _check_submission(path: Path) -> None:
    """The submission is there and is a notebook."""
    nbformat = require_extra("nbformat", "course")
    if not path.is_file():
        raise CourseError(f"no file {path.name} in {path.parent}")
    if glob.has_magic(str(path)):  # nbgrader looks for files by patterns
        raise CourseError(f"{path.parent}: a name with one of * ? [ cannot be graded; rename it")
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
    printed, process = 0, execute.process_message

    def counted(message: Any, cell: Any, cell_index: int) -> Any:
        nonlocal printed
        content = message["content"]
        printed += len(content.get("text", "")) + len(str(content.get("data", "")))
        if printed <= MOST_OUTPUT:
            return process(message, cell, cell_index)
        # Keeping it would cost the grader its memory; the rest of it is not even read.
        return asyncio.ensure_future(execute.km.signal_kernel(signal.SIGKILL))

    execute.process_message = counted
    outcome.status = "graded"
    try:
        with _variable(EXCHANGE, str(exchange)):
            execute.preprocess(notebook, resources)
    except Exception as error:
        outcome.status, outcome.reason = "stopped", _why_stopped(error, limits)
        if printed > MOST_OUTPUT:
            outcome.reason = f"its cells print more than {MOST_OUTPUT // 10**6} MB"


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
            outcome.reason or _first_error(notebook.cells, limits) or outcome.verdicts[0].words[0]
        )
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    for verdict in outcome.verdicts:
        if verdict.outcome == "could not run" and verdict.problem in cells:
            # The function's own cell knows more than that it is not defined, or one before it.
            own = _first_error([cells[verdict.problem]], limits)
            error = own or _first_error(notebook.cells, limits)
            verdict.words += [f"{'its' if own else 'an earlier'} cell: {error}"] if error else []
        lines = [f"{verdict.score:g} of {verdict.points:g} points: {verdict.outcome}"]
        lines += [f"- {words}" for words in verdict.words]
        if outcome.reason:
            lines.append(f"The notebook: {outcome.status}: {outcome.reason}")
        # A number as a cell's result is its score, in nbgrader as everywhere.
        cells[marks_cell(verdict.problem)].outputs = [
            nbformat.new_output("stream", name="stdout", text="\n".join(lines) + "\n"),
            nbformat.new_output("execute_result", data={"text/plain": repr(verdict.score)}),
        ]


def _first_error(cells: list[Any], limits: Limits) -> str:
    for cell in cells:
        errors = [out for out in cell.get("outputs", []) if out.output_type == "error"]
        # Where a cell was interrupted there are two: the interrupt, and nbgrader's note on it.
        if any(error.ename == "CellTimeoutError" for error in errors):
            return f"out of time: a cell took more than {limits.cell:g} s"
        if errors:
            # A cell has a file's name only for its kernel.
            words = re.sub(r" \(\d+\.py, line (\d+)\)", r" (line \1)", errors[0].evalue)
            return f"{errors[0].ename}: {words[:300]}"
    return ""


def _withdraw(course: Path, name: str, student: str, reason: str) -> None:
    """Take back marks of an earlier grading, and tell the student why there are none."""
    api = require_extra("nbgrader.api", "course")
    with (
        nbgrader(course, name) as (coursedir, _, _),
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
