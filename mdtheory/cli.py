"""The command line: ``mdtheory course ...``.

Exit codes: 0 it was done, 1 it could not be done (the reason is on standard error), 2 it was asked
for in a way that is not understood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import mdtheory


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: the words after the program's name; by default those of this process.

    Returns:
        The exit code.
    """
    parsed = _parser().parse_args(arguments)
    # Imported late: `--help` and `--version` need no tensors.
    from mdtheory.course import CourseError, GraderError

    try:
        done: int = parsed.command(parsed)
    except (CourseError, GraderError, ImportError) as error:
        print(f"mdtheory: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mdtheory: interrupted; run the same command again", file=sys.stderr)
        return 1
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mdtheory", description=mdtheory.__doc__)
    parser.add_argument("--version", action="version", version=f"mdtheory {mdtheory.__version__}")
    subjects = parser.add_subparsers(title="subjects", required=True, metavar="SUBJECT")

    course = subjects.add_parser("course", help="the book's assignments as an nbgrader course")
    steps = course.add_subparsers(title="steps", required=True, metavar="STEP")

    new = steps.add_parser("new", help="make a course in a new folder")
    new.set_defaults(command=_new)

    release = steps.add_parser("release", help="make the students' notebooks")
    release.set_defaults(command=_release)

    collect = steps.add_parser("collect", help="take submissions from a plain folder")
    collect.set_defaults(command=_collect)

    grade = steps.add_parser("grade", help="mark all submissions of an assignment")
    grade.set_defaults(command=_grade)

    report = steps.add_parser("report", help="one table of all marks")
    report.set_defaults(command=_report)

    for step in (new, release, collect, grade, report):
        step.add_argument("dir", type=Path, metavar="DIR", help="the course's folder")
    release.add_argument("names", nargs="*", metavar="ASSIGNMENT", help="all, if none is named")
    for step in (collect, grade):
        step.add_argument("name", metavar="ASSIGNMENT")
    collect.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="holds STUDENT.ipynb, STUDENT.md or STUDENT.py, or STUDENT/ASSIGNMENT.ipynb",
    )
    grade.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="first take submissions from this plain folder, as `collect` does",
    )
    grade.add_argument(
        "--time-limit",
        type=_seconds,
        default=300.0,
        metavar="S",
        help="seconds for one submission (default: %(default)g)",
    )
    grade.add_argument(
        "--cell-time-limit",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="seconds for one cell of it (default: %(default)g)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds


def _new(parsed: argparse.Namespace) -> int:
    from mdtheory.course import new_course

    names = new_course(parsed.dir)
    print(f"{parsed.dir}: a course with {len(names)} assignments: {', '.join(names)}")
    print(f"Edit them in {parsed.dir / 'exercises'}; then: mdtheory course release {parsed.dir}")
    return 0


def _release(parsed: argparse.Namespace) -> int:
    from mdtheory.course import release

    for path in release(parsed.dir, parsed.names):
        print(path)
    return 0


def _collect(parsed: argparse.Namespace) -> int:
    from mdtheory.course import collect, left_over

    students = collect(parsed.dir, parsed.name, parsed.folder)
    if left := left_over(parsed.name, parsed.folder):
        print(f"not taken: {', '.join(left)}", file=sys.stderr)
    print(f"{len(students)} submissions: {', '.join(students)}")
    return 0


def _grade(parsed: argparse.Namespace) -> int:
    from mdtheory.course import Limits, Result, grade

    if parsed.folder is not None:
        _collect(parsed)

    def tell(result: Result) -> None:
        points = sum(verdict.points for verdict in result.verdicts)
        words = f"{result.score:g} of {points:g}" if result.verdicts else "-"
        if result.status != "graded":
            words += f"  {result.status}: {result.reason}"
        print(f"{result.student:20s} {words}", flush=True)

    results = grade(
        parsed.dir, parsed.name, Limits(parsed.time_limit, parsed.cell_time_limit), tell
    )
    counts = {
        status: sum(result.status == status for result in results)
        for status in ("graded", "stopped", "could not run")
    }
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    print(f"Marks: {parsed.dir / 'marks' / f'{parsed.name}.csv'}")
    print(f"Feedback: {parsed.dir / 'feedback'}/STUDENT/{parsed.name}/{parsed.name}.html")
    return 0


def _report(parsed: argparse.Namespace) -> int:
    from mdtheory.course import report

    header, rows = report(parsed.dir)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print(f"Table: {parsed.dir / 'marks' / 'report.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
