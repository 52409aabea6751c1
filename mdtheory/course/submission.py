"""One submission, from the student's file to a result. Nothing is recorded here.

Needs the extra ``course``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.execution import Execution
from mdtheory.course.intake import CourseError, read_notebook, restore_cells
from mdtheory.course.marking import Verdict
from mdtheory.course.room import Spec, code_cells, room_for


@dataclass
class Result:
    """What came out for one submission.

    Attributes:
        student: the student's name, that of the folder.
        status: "graded", "stopped" (in part: out of time, or its process ended) or "could not run".
        reason: why it is not "graded".
        verdicts: one per problem; empty where nothing ran.
        notes: what was mended in the notebook before it ran.
    """

    student: str
    status: str
    reason: str
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Sum of the points given."""
        return sum(verdict.score for verdict in self.verdicts)


def marks_cell(problem: str) -> str:
    """The ``grade_id`` of the cell in which a problem gets its marks."""
    return f"marks_{problem}"


def source_notebook(course: Path, name: str) -> Any:
    """The assignment with its solutions, as it was released.

    Args:
        course: the course's folder.
        name: the assignment.

    Returns:
        A notebook.
    """
    nbformat = require_extra("nbformat", "course")
    return nbformat.read(course / "source" / name / f"{name}.ipynb", as_version=4)


def run_submission(spec: Spec, name: str, student: str) -> tuple[Result, Any]:
    """Run and judge one submission, whatever it is. Any process can do it.

    Args:
        spec: the grading.
        name: the assignment.
        student: the student.

    Returns:
        The result, and the notebook with what its cells showed and the words for the student;
        None where there is no notebook.
    """
    try:
        path = spec.course / "submitted" / student / name / f"{name}.ipynb"
        for folder in (path.parent, path.parent.parent):
            if folder.is_symlink():
                raise CourseError(f"{folder.name} is a link, which is not followed")
        notebook = read_notebook(path)
        notes = restore_cells(notebook, source_notebook(spec.course, name))
        run, verdicts = room_for(spec).run(code_cells(notebook))
        return settle(notebook, student, run, verdicts, notes, spec.limits.cell), notebook
    except Exception as error:  # one bad submission does not end the grading of the others
        return Result(student, "could not run", _one_line(str(error) or type(error).__name__)), None


def settle(
    notebook: Any,
    student: str,
    run: Execution,
    verdicts: list[Verdict],
    notes: list[str],
    seconds: float,
) -> Result:
    """Put outputs into a notebook, scores where nbgrader takes them from, and words there.

    Args:
        notebook: changed in place.
        student: whose it is.
        run: what its cells did.
        verdicts: one per problem.
        notes: what was mended in it.
        seconds: that a cell had.

    Returns:
        The result.
    """
    result = Result(student, "graded", "", verdicts, notes)
    if run.stopped:
        result.status, result.reason = "stopped", run.stopped
    nbformat = require_extra("nbformat", "course")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, outputs in zip(cells, run.outputs, strict=True):
        cell.outputs = [nbformat.from_dict(output) for output in outputs]
    if all(verdict.outcome == "could not run" for verdict in result.verdicts):
        result.status = "could not run"
        result.reason = result.reason or _first_error(cells, seconds) or result.verdicts[0].words[0]
    named = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in cells}
    for verdict in result.verdicts:
        if verdict.outcome == "could not run" and verdict.problem in named:
            # The function's own cell knows more than that it is not defined, or one before it.
            own = _first_error([named[verdict.problem]], seconds)
            error = own or _first_error(cells, seconds)
            verdict.words += [f"{'its' if own else 'an earlier'} cell: {error}"] if error else []
        lines = [f"{verdict.score:g} of {verdict.points:g} points: {verdict.outcome}"]
        lines += [f"- {words}" for words in [*verdict.words, *result.notes]]
        if result.reason:
            lines.append(f"The notebook: {result.status}: {result.reason}")
        # A number as a cell's result is its score, in nbgrader as everywhere.
        named[marks_cell(verdict.problem)].outputs = [
            nbformat.v4.new_output("stream", name="stdout", text="\n".join(lines) + "\n"),
            nbformat.v4.new_output("execute_result", data={"text/plain": repr(verdict.score)}),
        ]
    return result


def _first_error(cells: list[Any], seconds: float) -> str:
    for cell in cells:
        errors = [out for out in cell.get("outputs", []) if out["output_type"] == "error"]
        # Where a cell was interrupted there are two: the note on it, and the interrupt.
        if any(error["ename"] == "CellTimeoutError" for error in errors):
            return f"out of time: a cell took more than {seconds:g} s"
        if errors:
            return _one_line(f"{errors[0]['ename']}: {errors[0]['evalue']}")
    return ""


def _one_line(words: str) -> str:
    """Words for a table: on one line, short, without a control character."""
    printable = "".join(c if c.isprintable() else " " for c in words)
    return re.sub(r"\s+", " ", printable).strip()[:300]
