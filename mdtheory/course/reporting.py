"""Tables of marks, always from the gradebook.

Needs the extra ``course``.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.classroom import assignments, find
from mdtheory.course.gradebook import open_gradebook, read_records
from mdtheory.course.intake import CourseError
from mdtheory.course.marking import load_grader
from mdtheory.course.roster import for_canvas, for_moodle, roster_of
from mdtheory.course.sandbox import WORDS
from mdtheory.course.submission import Result, marks_cell
from mdtheory.files import write_atomically


@dataclass
class Mark:
    """One student's mark for one assignment, as the gradebook has it.

    Attributes:
        score: points, those given by hand included, the late penalty taken off.
        points: points of each cell that gives some, by its name.
        penalty: what being late costs.
        by_hand: cells that wait to be marked by hand.
        result: what the last grading found; None where it was not graded here.
        walls: how the submission was isolated then; "" where that is not known.
    """

    score: float
    points: dict[str, float]
    penalty: float
    by_hand: int
    result: Result | None
    walls: str


def marks(course: Path, name: str) -> tuple[dict[str, Mark], float]:
    """Everybody's marks for an assignment: who is in the gradebook, was graded or submitted.

    Args:
        course: the course's folder.
        name: the assignment.

    Returns:
        Student to mark, and the most points.

    Raises:
        CourseError: the gradebook is gone.
    """
    missing = require_extra("nbgrader.api", "course").MissingEntry
    records = read_records(course, name)
    found: dict[str, Mark] = {}
    with open_gradebook(course, name) as gradebook:
        try:
            most = float(gradebook.find_assignment(name).max_score)
        except missing:
            raise CourseError(f"{name}: the gradebook does not know it; release it") from None
        for submission in gradebook.assignment_submissions(name):
            points, by_hand = {}, 0
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    points[grade.cell.name] = float(grade.score)
                    # What is marked by hand was not yet; what was graded again may be looked at.
                    by_hand += grade.needs_manual_grade and grade.manual_score is None
            penalty = float(submission.late_submission_penalty or 0.0)
            result, walls = records.get(submission.student_id, (None, ""))
            score = max(float(submission.score) - penalty, 0.0)
            found[submission.student_id] = Mark(score, points, penalty, by_hand, result, walls)
    for student in {p.parent.name for p in course.glob(f"submitted/*/{name}")} | set(records):
        if student not in found:
            result, walls = records.get(student, (None, ""))
            found[student] = Mark(0.0, {}, 0.0, 0, result, walls)
    return dict(sorted(found.items())), most


def write_marks(course: Path, name: str) -> Path:
    """Write ``marks/NAME.csv``: a row for every student, whoever was graded last.

    Args:
        course: the course's folder.
        name: the assignment.

    Returns:
        The file.
    """
    grader = load_grader(assignments(course)[name].with_suffix(".py"))
    table, most = marks(course, name)
    header = ["student", "status", "score", "max_score", "late_penalty", "reason"]
    for problem in grader.points:
        header += [problem, f"{problem}_outcome", f"{problem}_words"]
    by_hand = sorted(
        {cell for mark in table.values() for cell in mark.points}
        - {marks_cell(problem) for problem in grader.points}
    )
    rows = []
    for student, mark in table.items():
        result = mark.result or Result(student, "not graded yet", "")
        row = [student, result.status, f"{mark.score:g}", f"{most:g}", f"{mark.penalty:g}"]
        row.append(result.reason)
        verdicts = {verdict.problem: verdict for verdict in result.verdicts}
        for problem in grader.points:
            score = mark.points.get(marks_cell(problem), 0.0)
            verdict = verdicts.get(problem)
            outcome = verdict.outcome if verdict else result.status
            row += [f"{score:g}", outcome, "; ".join(verdict.words) if verdict else ""]
        rows.append(row + [f"{mark.points.get(cell, 0.0):g}" for cell in by_hand])
    path = course / "marks" / f"{name}.csv"
    write_csv(path, [header + by_hand, *rows])
    return path


def report(course: Path) -> tuple[list[str], list[list[str]]]:
    """One table of all marks, from the gradebook, so that marks given by hand there count.

    Also written to ``marks/report.csv``, and the tables of the assignments with it.

    Args:
        course: the course's folder.

    Returns:
        The header, and one row per student with the name, one cell per graded assignment and the
        total. A cell is a score, the status where a submission was not graded, or empty.

    Raises:
        CourseError: there is no course, or nothing was graded.
    """
    course = course.resolve()
    graded = [name for name in assignments(course) if (course / "marks" / name).is_dir()]
    if not graded:
        raise CourseError(f"{course}: nothing was graded yet; run `mdtheory course grade`")
    header, table = ["student"], {}
    for name in graded:
        table[name], most = marks(course, name)
        header.append(f"{name} (of {most:g})")
        write_marks(course, name)
    header.append("total")
    rows = []
    for student in sorted({student for found in table.values() for student in found}):
        own = [table[name].get(student) for name in graded]
        total = sum(mark.score for mark in own if mark)
        rows.append([student, *(_cell(mark) if mark else "" for mark in own), f"{total:g}"])
    write_csv(course / "marks" / "report.csv", [header, *rows])
    return header, rows


def _cell(mark: Mark) -> str:
    status = mark.result.status if mark.result else ("graded" if mark.points else "not graded yet")
    words = [] if status == "graded" else [status]
    words += [f"{mark.by_hand} by hand to come"] if mark.by_hand else []
    words += [f"late, -{mark.penalty:g}"] if mark.penalty else []
    if mark.result is not None and not mark.points:
        return status
    if status == "not graded yet":
        return status
    return (
        f"{mark.score:g} ({', '.join(words)})"
        if words and (mark.score or mark.by_hand)
        else (words[0] if words else f"{mark.score:g}")
    )


def export(course: Path, name: str, system: str, title: str | None) -> tuple[Path, list[str]]:
    """Write the marks of an assignment as Moodle's or Canvas's import reads them.

    Args:
        course: the course's folder.
        name: the assignment.
        system: "moodle" or "canvas".
        title: the column's title there; by default the assignment's name.

    Returns:
        The file, ``marks/NAME-SYSTEM.csv``, and students with marks who are not in the roster.

    Raises:
        CourseError: there is no roster, or nobody was graded.
    """
    course = course.resolve()
    find(assignments(course), name)
    people = roster_of(course)
    if not people:
        raise CourseError(f"{course}: no roster; run `mdtheory course roster {course} FILE.csv`")
    table, most = marks(course, name)
    scores = {student: mark.score for student, mark in table.items() if mark.points}
    if not scores:
        raise CourseError(f"{name}: nobody was graded yet; run `mdtheory course grade`")
    form = for_moodle if system == "moodle" else for_canvas
    path = course / "marks" / f"{name}-{system}.csv"
    write_csv(path, form(people, title or name, scores, most))
    return path, sorted(set(scores) - {person.student for person in people})


def warnings_of(course: Path) -> list[str]:
    """What every report must say loudly: which assignments were graded without walls.

    Args:
        course: the course's folder.

    Returns:
        A line for each such assignment.
    """
    course = course.resolve()
    lines = []
    for name in assignments(course):
        walls = [walls for _, walls in read_records(course, name).values()]
        if loose := walls.count("limits"):
            lines.append(f"{name}: {loose} of {len(walls)}: {WORDS['limits']}")
    return lines


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    """Write a table that a spreadsheet does not take for formulas.

    Args:
        path: the file.
        rows: of cells.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_harmless(c) for c in row] for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())


def _harmless(cell: Any) -> str:
    """A cell's text; one that begins like a formula gets an apostrophe, numbers do not."""
    text = str(cell)
    words = " ".join(text.split()) if "\n" in text or "\r" in text or "\t" in text else text
    try:
        float(words)
    except ValueError:
        return f"'{words}" if words[:1] in tuple("=+-@|%") else words
    return words
