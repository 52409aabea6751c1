"""How long grading takes, beside the way before it, and what a killed grading loses.

    python benchmarks/grading_study.py time --students 40
    python benchmarks/grading_study.py kill --times 50

`time` grades the same submissions with this checkout and with an earlier commit (a fresh kernel
for each submission), one after the other in one run, and prints seconds of wall and CPU time for
each. `kill` ends a grading with SIGKILL at random moments, again and again, and then lets one
finish: nobody may be missing from the report meanwhile, and the marks must be those of a grading
that was never killed.
"""

import argparse
import csv
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
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = command(checkout, "grade", course, name, *options)
        wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode in (0, 3), done.stderr
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return wall, cpu, marks_of(course, name)


def measure(students: int, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        rows = [
            (f"a kernel for each ({BEFORE})", *timed(Path(folder), students)),
            ("forked from a warm process", *timed(ROOT, students)),
            (f"the same, --jobs {jobs}", *timed(ROOT, students, "--jobs", jobs)),
        ]
    first = rows[0]
    print(f"{students} submissions to {ASSIGNMENT}, {os.cpu_count()} cores, the start included")
    for words, wall, cpu, marks in rows:
        print(
            f"{words:36s} {wall:7.1f} s wall ({wall / first[1]:.2f}), "
            f"{cpu:7.1f} s CPU ({cpu / first[2]:.2f}), marks sum to "
            f"{sum(map(float, marks.values())):g}"
        )


def kill(times: int, students: int, seed: int) -> None:
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        course, name = make_class(ROOT, Path(folder), students)
        begin = time.monotonic()
        done = command(ROOT, "grade", course, name)
        whole = time.monotonic() - begin
        assert done.returncode in (0, 3), done.stderr
        right = marks_of(course, name)
        environment = {**os.environ, **THREADS, "PYTHONPATH": str(ROOT)}
        run = [sys.executable, "-m", "mdtheory", "course", "grade", str(course), name]
        for number in range(times):
            grading = subprocess.Popen(
                run, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(generator.uniform(0, whole))
            grading.send_signal(signal.SIGKILL)
            grading.wait()
            done = command(ROOT, "report", course)
            assert done.returncode == 0, done.stderr
            found = marks_of(course, name)
            assert set(found) == set(right), f"kill {number}: lost {set(right) - set(found)}"
        done = command(ROOT, "grade", course, name)
        assert done.returncode in (0, 3), done.stderr
        assert marks_of(course, name) == right
        print(f"{times} kills of a grading of {whole:.1f} s: nobody lost, the same marks after")


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
        kill(parsed.times, parsed.students or 4, parsed.seed)


if __name__ == "__main__":
    main()
