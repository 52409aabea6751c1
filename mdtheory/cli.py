"""The command line: ``mdtheory course ...`` and ``mdtheory align ...``.

Exit codes: 0 it was done, 1 it could not be done (the reason is on standard error), 2 it was asked
for in a way that is not understood, 3 it was done, but something is left for you to do: a
submission could not be run or not be taken (the list is on standard error).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mdtheory

# The exit code when something is left to do.
LEFT = 3


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

    def step(
        name: str, command: Callable[[argparse.Namespace], int], words: str, *, one: bool
    ) -> argparse.ArgumentParser:
        added = steps.add_parser(name, help=words, description=words)
        added.set_defaults(command=command)
        added.add_argument("dir", type=Path, metavar="DIR", help="the course's folder")
        if one:
            added.add_argument("name", metavar="ASSIGNMENT")
        return added

    new = step("new", _new, "make a course in a new folder", one=False)
    new.add_argument(
        "--from", dest="old", type=Path, metavar="OLD", help="with the assignments of this course"
    )
    release = step("release", _release, "make the students' notebooks", one=False)
    release.add_argument("names", nargs="*", metavar="ASSIGNMENT", help="all, if none is named")
    due = step("due", _due, "set when an assignment is due, for late penalties", one=True)
    due.add_argument("when", metavar="WHEN", help="such as '2027-01-31 23:59 UTC'")
    roster = step("roster", _roster, "take the list of students", one=False)
    roster.add_argument("file", type=Path, metavar="FILE.csv")
    collect = step("collect", _collect, "take submissions from a folder", one=True)
    collect.add_argument("folder", type=Path, metavar="FOLDER", help=FOLDER)
    grade = step("grade", _grade, "mark the submissions of an assignment", one=True)
    grade.add_argument(
        "--from", dest="folder", type=Path, metavar="FOLDER", help=f"first collect. {FOLDER}"
    )
    grade.add_argument(
        "--student", dest="students", action="append", metavar="NAME", help="only this one; repeat"
    )
    grade.add_argument(
        "--jobs", type=_count, default=1, metavar="N", help="submissions that run at once"
    )
    for option, default, what in (
        ("--time-limit", 300.0, "seconds for one submission"),
        ("--cell-time-limit", 60.0, "seconds for one cell of it"),
        ("--memory", 4.0, "GB for one submission"),
    ):
        grade.add_argument(
            option,
            type=_amount,
            default=default,
            metavar="X",
            help=f"{what} (default: {default:g})",
        )
    grade.add_argument(
        "--walls",
        choices=("user", "bubblewrap", "limits"),
        help="isolate submissions in this way or not at all (default: the best that can be had)",
    )
    step("report", _report, "one table of all marks", one=False)
    step("statistics", _statistics, "how each problem went", one=True)
    alike = step("similar", _similar, "submissions that are alike, to look at", one=True)
    alike.add_argument("--least", type=_amount, default=0.5, metavar="X", help="(default: 0.5)")
    export = step("export", _export, "a table for Moodle's or Canvas's import", one=True)
    export.add_argument("system", choices=("moodle", "canvas"))
    export.add_argument("--title", metavar="TEXT", help="the column's title there")
    _add_align(subjects)
    return parser


# Options of `mdtheory align`: type, placeholder, help. What is not given is as the trainer has it.
ALIGN: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "model": (str, "MODEL", "a folder, a GGUF file, or a name"),
    "preference": (str, "WHO", "FILE.py:NAME, a folder of a preference model, or pairs.jsonl"),
    "prompts": (Path, "FILE", "a text file, one prompt a line, or JSON lines"),
    "output": (Path, "DIR", "for checkpoints, metrics, samples and the trained model"),
    "loss": (str, "NAME", "nash-md, ipo-md, mirror-prox, online-ipo, ..., rlhf"),
    "reference": (str, "MODEL", "by default the model as it comes"),
    "temperature": (float, "X", "weight of the divergence to the reference"),
    "mixture": (float, "X", "the reference's weight in the opponent, 0 to 1"),
    "step-size": (float, "X", "of mirror-prox"),
    "average": (float, "X", "share by which the average follows"),
    "group": (int, "N", "answers to a prompt, beside as many others"),
    "prompts-per-step": (int, "N", "in each process"),
    "new-tokens": (int, "N", "the longest answer"),
    "sampling-temperature": (float, "X", "of answers, and of what is scored"),
    "learning-rate": (float, "X", "of AdamW"),
    "steps": (int, "N", "of the optimiser"),
    "warmup": (int, "N", "steps in which the learning rate rises"),
    "decay": (float, "X", "share of the steps in which it falls to 0"),
    "accumulate": (int, "N", "parts in which a gradient is computed, to save memory"),
    "lora": (int, "RANK", "train adapters of this rank alone"),
    "precision": (str, "NAME", "auto, bf16 or float32"),
    "template": (str, "TEXT", "how prompts are written, with {prompt}; by default a chat"),
    "save-every": (int, "N", "steps between checkpoints"),
    "epochs": (int, "N", "of the preference model, from pairs"),
    "preference-rate": (float, "X", "its learning rate"),
    "seed": (int, "N", "of all that is drawn"),
}


def _add_align(subjects: Any) -> None:
    words = "align a language model with preferences (needs the extra llm)"
    added = subjects.add_parser("align", help=words, description=words)
    added.set_defaults(command=_align)
    for name, (kind, placeholder, said) in ALIGN.items():
        added.add_argument(
            f"--{name}", type=kind, metavar=placeholder, help=said, default=argparse.SUPPRESS
        )
    added.add_argument(
        "--resume", action="store_true", default=argparse.SUPPRESS, help="go on from a checkpoint"
    )
    added.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="options by name; those given here win"
    )
    added.add_argument("--quiet", action="store_true", help="no bar and no samples")


FOLDER = "it holds STUDENT.ipynb, STUDENT/ASSIGNMENT.ipynb, or a download of Moodle or Canvas"


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return amount


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def _align(parsed: argparse.Namespace) -> int:
    from mdtheory.nlhf.language_models.align import align, read_config

    given = {name: value for name, value in vars(parsed).items() if name not in NO_OPTIONS}
    try:
        options = {**(read_config(parsed.config) if parsed.config else {}), **given}
        if "steps" in options:
            options["max_steps"] = options.pop("steps")
        table = align(options, progress=not parsed.quiet)
    except (ArithmeticError, OSError, TypeError, ValueError) as error:
        print(f"mdtheory: {error}", file=sys.stderr)
        return 1
    last = {name: f"{value:.4g}" for name, value in table[-1].items()}
    print(", ".join(f"{name} {value}" for name, value in last.items()))
    print(f"Model: {options['output']}/model; metrics: {options['output']}/metrics.csv")
    return 0


NO_OPTIONS = ("command", "config", "quiet")


def _new(parsed: argparse.Namespace) -> int:
    from mdtheory.course import new_course

    names = new_course(parsed.dir, parsed.old)
    print(f"{parsed.dir}: a course with {len(names)} assignments: {', '.join(names)}")
    print(f"Edit them in {parsed.dir / 'exercises'}; then: mdtheory course release {parsed.dir}")
    return 0


def _release(parsed: argparse.Namespace) -> int:
    from mdtheory.course import release

    for path in release(parsed.dir, parsed.names):
        print(path)
    return 0


def _due(parsed: argparse.Namespace) -> int:
    from mdtheory.course import set_due

    set_due(parsed.dir, parsed.name, parsed.when)
    print(f"{parsed.name} is due {parsed.when}")
    return 0


def _roster(parsed: argparse.Namespace) -> int:
    from mdtheory.course import set_roster

    people = set_roster(parsed.dir, parsed.file)
    print(f"{len(people)} students: {', '.join(person.student for person in people)}")
    return 0


def _collect(parsed: argparse.Namespace) -> int:
    from mdtheory.course import collect, left_over

    students = collect(parsed.dir, parsed.name, parsed.folder)
    print(f"{len(students)} submissions: {', '.join(students)}")
    left = left_over(parsed.name, parsed.folder, parsed.dir)
    if left:
        print("Not taken:", *left, sep="\n  ", file=sys.stderr)
    return LEFT if left else 0


def _grade(parsed: argparse.Namespace) -> int:
    from mdtheory.course import Allowance, Limits, Result, grade

    code = _collect(parsed) if parsed.folder is not None else 0

    def tell(result: Result) -> None:
        points = sum(verdict.points for verdict in result.verdicts)
        words = f"{result.score:g} of {points:g}" if result.verdicts else "-"
        if result.status != "graded":
            words += f"  {result.status}: {result.reason}"
        print(f"{result.student:20s} {words}", flush=True)

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)
        last.append(words)

    last: list[str] = []
    allowance = Allowance(memory=int(parsed.memory * 2**30))
    results = grade(
        parsed.dir,
        parsed.name,
        Limits(parsed.time_limit, parsed.cell_time_limit, allowance),
        tell,
        students=parsed.students,
        jobs=parsed.jobs,
        walls=[parsed.walls] if parsed.walls else None,
        say=say,
    )
    counts = {
        status: sum(result.status == status for result in results)
        for status in ("graded", "stopped", "could not run")
    }
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    print(f"Marks: {parsed.dir / 'marks' / f'{parsed.name}.csv'}")
    print(f"Feedback: {parsed.dir / 'feedback'}/STUDENT/{parsed.name}/{parsed.name}.html")
    print(f"Submissions: {last[-1] if last else 'run'}")
    write_to = [result for result in results if result.status != "graded"]
    if write_to:
        print("Could not run, or not to the end; write to:", file=sys.stderr)
        for result in write_to:
            print(f"  {result.student}: {result.status}: {result.reason}", file=sys.stderr)
    return LEFT if write_to else code


def _report(parsed: argparse.Namespace) -> int:
    from mdtheory.course import report
    from mdtheory.course.reporting import warnings_of

    _show(*report(parsed.dir))
    print(f"Table: {parsed.dir / 'marks' / 'report.csv'}")
    for warning in warnings_of(parsed.dir):
        print(warning, file=sys.stderr)
    return 0


def _statistics(parsed: argparse.Namespace) -> int:
    from mdtheory.course.statistics import statistics

    _show(*statistics(parsed.dir, parsed.name))
    print(f"Picture: {parsed.dir / 'marks' / f'{parsed.name}-statistics.png'}")
    return 0


def _similar(parsed: argparse.Namespace) -> int:
    from mdtheory.course.statistics import similar

    pairs = similar(parsed.dir, parsed.name, parsed.least)
    _show(["share", "one", "another"], [[f"{s:.0%}", one, two] for s, one, two in pairs])
    print("A list to look at, not a verdict: short right answers are often alike.")
    return 0


def _export(parsed: argparse.Namespace) -> int:
    from mdtheory.course.reporting import export

    path, missing = export(parsed.dir, parsed.name, parsed.system, parsed.title)
    print(f"Table: {path}")
    if missing:
        print(f"Not in the roster: {', '.join(missing)}", file=sys.stderr)
    return LEFT if missing else 0


def _show(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


if __name__ == "__main__":
    sys.exit(main())
