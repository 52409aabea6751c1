"""Grades submissions: the reference solution first, then everybody.

Needs the extra ``course``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.classroom import (
    assignments,
    check_release,
    check_source,
    find,
    released,
    source_of,
)
from mdtheory.course.execution import Limits
from mdtheory.course.gradebook import open_gradebook, record
from mdtheory.course.intake import CourseError
from mdtheory.course.marking import load_grader
from mdtheory.course.reporting import write_marks
from mdtheory.course.room import (
    Room,
    Spec,
    close_all,
    code_cells,
    imports_of,
    keep,
    open_room,
    sizes,
)
from mdtheory.course.sandbox import WORDS, Kind
from mdtheory.course.submission import Result, run_submission, settle, source_notebook


def grade(
    course: Path,
    name: str,
    limits: Limits | None = None,
    tell: Callable[[Result], None] = lambda result: None,
    *,
    students: list[str] | None = None,
    jobs: int = 1,
    walls: list[Kind] | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> list[Result]:
    """Grade the submissions of an assignment, the reference solution first.

    Marks go into the gradebook, pages for students into ``feedback/STUDENT/NAME/``, and a table
    into ``marks/NAME.csv``. Grading again, or after an interruption, replaces all three; what
    was graded before stays there meanwhile.

    Args:
        course: the course's folder; submissions are ``submitted/STUDENT/NAME/NAME.ipynb``.
        name: the assignment.
        limits: time and other limits of one submission.
        tell: called with each result when it is recorded.
        students: whom to grade; by default everybody who submitted.
        jobs: how many submissions run at once, by joblib.
        walls: ways to isolate submissions that may be taken, the best first; by default all.
        say: called with a line about what is done now.

    Returns:
        One result per student, by name.

    Raises:
        CourseError: the assignment is not released, there is no submission, or the reference
            solution does not get full marks; then nobody is graded.
    """
    course = course.resolve()  # nbgrader changes the working directory
    source = find(assignments(course), name)
    released(course, name)
    names = sorted(path.parent.name for path in course.glob(f"submitted/*/{name}"))
    if not names:
        raise CourseError(f"{name}: no submissions in {course / 'submitted'}/STUDENT/{name}")
    if missing := sorted(set(students or []) - set(names)):
        raise CourseError(
            f"{name}: no submission of {', '.join(missing)}; there are: {', '.join(names)}"
        )
    grader = load_grader(source.with_suffix(".py"))
    check_source(source_of(source, grader.points), grader)
    check_release(course, source, grader.points)
    with open_gradebook(course, name):
        pass  # sooner than after the first submission
    seed = int(json.loads((course / "course.json").read_text("utf-8"))["seed"])
    reference = source_notebook(course, name)
    imports = imports_of([text for text, problem in code_cells(reference) if not problem])
    spec = Spec(course, source.with_suffix(".py"), seed, limits or Limits(), "limits", imports)
    say("starting, and grading the reference solution")
    room, why = open_room(spec, walls)
    spec = room.spec
    for words in why:
        say(f"not possible here: {words}")
    say(WORDS[spec.kind])
    try:
        most, loaded = _check_reference(room, reference)
        room.warm.also_import(loaded)
        spec = replace(spec, most=most, loaded=loaded)
        keep(room, spec)
        results = []
        for result, notebook in _all(spec, name, students or names, jobs):
            result = record(course, name, result, notebook, spec.kind)
            results.append(result)
            tell(result)
    finally:
        room.close()
        close_all()
        if (course / "marks" / name).is_dir():
            write_marks(course, name)
    return sorted(results, key=lambda result: result.student)


def _all(spec: Spec, name: str, students: list[str], jobs: int) -> Iterator[tuple[Result, Any]]:
    """Run submissions, one after the other or several at once; they come as they are done."""
    if jobs == 1:
        for student in students:
            yield run_submission(spec, name, student)
        return
    joblib = require_extra("joblib", "course")
    # Threads, since the work is done in other processes; Dask or others where they are asked for.
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    yield from parallel(joblib.delayed(run_submission)(spec, name, s) for s in students)


# What the reference's process had loaded in the end, in the order in which it was.
LOADED = "import sys\nprint(*sys.modules)"


def _check_reference(room: Room, reference: Any) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Grade the source with its solutions; the sizes of its answers, and modules it loaded.

    Libraries load parts of themselves when they are first needed; what the reference needed the
    others will, and the warm process can load it once for all.
    """
    name = room.grader.name
    run, verdicts = room.run([*code_cells(reference), (LOADED, None)])
    loaded = "".join(output.get("text", "") for output in run.outputs.pop()).split()
    result = settle(reference, "reference", run, verdicts, [], room.spec.limits.cell)
    if result.status == "graded" and all(v.outcome == "right" for v in result.verdicts):
        return sizes(run, room), tuple(loaded)
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
