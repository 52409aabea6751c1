"""How long grading takes, beside the way before it, and what a killed grading loses.

    python benchmarks/grading_study.py time --students 40
    python benchmarks/grading_study.py kill --times 50

`time` grades the same submissions with an earlier commit (a fresh kernel for each submission)
and with this checkout, one after the other in one run, and prints seconds of wall and CPU time
for each. The earlier commit grades with its own statements and graders, whose examples printed
where today's assert: it does a little less. On a machine with other work only the CPU time tells.

`kill` ends a grading with SIGKILL at random moments, again and again, and then lets one finish:
nobody may be missing from the report meanwhile, and the marks must be those of a grading that was
never killed. Gradings are forked from this process, which has imported all of it: what is killed
is the grading, not the start of Python.
"""

import argparse
import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The last commit that started a kernel for each submission.
BEFORE = "2b934a0"
ASSIGNMENT = "convex/mirror_maps"
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}


def command(checkout: Path, *words: object, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, **THREADS, "PYTHONPATH": str(checkout)}
    run = [sys.executable, "-m", "mdtheory", "course", *map(str, words)]
    options = {"capture_output": True, "text": True, **options}
    return subprocess.run(run, env=environment, cwd=checkout, check=False, **options)


def make_class(checkout: Path, folder: Path, students: int) -> tuple[Path, str]:
    """A course with the assignment's own right and wrong answers, over and over."""
    part, _, name = ASSIGNMENT.partition("/")
    course, inbox = folder / "course", folder / "inbox"
    for words in (("new", course), ("release", course, name)):
        done = command(checkout, *words)
        assert done.returncode == 0, done.stderr
    inbox.mkdir()
    answers = sorted((ROOT / "tests" / "answers" / part / name).glob("*.py"))
    for number in range(students):
        text = answers[number % len(answers)].read_text("utf-8")
        (inbox / f"student{number:03d}.py").write_text(text, "utf-8")
    done = command(checkout, "collect", course, name, inbox)
    assert done.returncode == 0, done.stderr
    return course, name


def marks_of(course: Path, name: str) -> dict[str, str]:
    path = course / "marks" / f"{name}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        return {row["student"]: row["score"] for row in csv.DictReader(file)}


def timed(checkout: Path, students: int, *options: object) -> tuple[float, float, dict[str, str]]:
    """Seconds of wall and of CPU time of one grading, and the marks."""
    with tempfile.TemporaryDirectory() as folder:
        course, name = make_class(checkout, Path(folder), students)
        # The same inputs for all, so that the marks can be compared.
        (course / "course.json").write_text(json.dumps({"seed": 0}) + "\n", "utf-8")
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = command(checkout, "grade", course, name, *options)
        wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode in (0, 3), done.stderr
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return wall, cpu, marks_of(course, name)


def measure(students: int, jobs: int) -> None:
    print(f"{students} submissions to {ASSIGNMENT}, {os.cpu_count()} cores, the start included")
    first: tuple[float, float] | None = None
    marks = []
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        for words, checkout, options in (
            (f"a kernel for each ({BEFORE})", Path(folder), ()),
            ("forked from a warm process", ROOT, ()),
            (f"the same, --jobs {jobs}", ROOT, ("--jobs", jobs)),
        ):
            wall, cpu, found = timed(checkout, students, *options)
            first = first or (wall, cpu)
            marks.append(found)
            print(
                f"{words:36s} {wall:7.1f} s wall ({wall / first[0]:.2f}), "
                f"{cpu:7.1f} s CPU ({cpu / first[1]:.2f}), marks sum to "
                f"{sum(map(float, found.values())):g}",
                flush=True,
            )
    assert marks[1] == marks[2], "one after the other or at once: the marks must be the same"


def kill(times: int, students: int, seed: int) -> None:
    sys.path.insert(0, str(ROOT))
    from mdtheory.course import grade, report
    from mdtheory.course.reporting import marks

    def graded() -> int:
        """A process that grades."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            grade(course, name)
            code = 0
        finally:
            os._exit(code)

    def points() -> dict[str, float]:
        return {student: mark.score for student, mark in marks(course, name)[0].items()}

    generator = random.Random(seed)
    os.environ.update(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        # Where a killed grading leaves its copy of the library.
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        course, name = make_class(ROOT, Path(folder), students)
        grade(course, name)  # imports what it needs
        right = points()
        begin = time.monotonic()
        assert os.waitpid(graded(), 0)[1] == 0
        whole = time.monotonic() - begin
        finished = 0
        for number in range(times):
            child = graded()
            time.sleep(generator.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
            finished += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            found = {row[0] for row in report(course)[1]}
            assert found == set(right), f"kill {number}: lost {set(right) - found}"
            if number % 10 == 9:
                print(f"{number + 1} of {times}", flush=True)
        assert os.waitpid(graded(), 0)[1] == 0
        assert points() == right
        print(
            f"{times} kills of a grading of {students} submissions and {whole:.1f} s, "
            f"{finished} of them after its end: nobody lost, the same marks after"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("time", "kill"))
    parser.add_argument("--students", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    if parsed.what == "time":
        measure(parsed.students or 40, parsed.jobs)
    else:
        kill(parsed.times, parsed.students or 3, parsed.seed)


if __name__ == "__main__":
    main()
