"""No inputs accept a wrong answer or refuse a right one: 21 seeds, graded without kernels.

The answers run beside their grader, in a process whose library has no answers, as students'
processes have it. `make test` prints the table. Kernels and pages are in `test_answers.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mdtheory.course import load_grader
from mdtheory.course.library import library_without_answers

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENTS = sorted(path.relative_to(ROOT / "exercises") for path in ROOT.glob("exercises/*/*.py"))
SEEDS = 21


def points_over_seeds(source: Path, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Points of each answer and problem, for each seed."""
    library = library_without_answers(load_grader(ROOT / "exercises" / source), folder)
    program = Path(__file__).with_name("over_seeds.py")
    answers = ROOT / "tests" / "answers" / source.with_suffix("")
    words = [ROOT / "exercises" / source, answers, SEEDS]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-P", str(program), *map(str, words)],
        env={"PYTHONPATH": str(library), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, list[float]]] = json.loads(done.stdout)
    assert set(found) == {path.stem for path in answers.glob("*.py")}
    return found


@pytest.mark.parametrize("source", ASSIGNMENTS, ids=[path.stem for path in ASSIGNMENTS])
def test_no_seed_accepts_a_wrong_answer_or_refuses_a_right_one(source, tmp_path, record_property):
    points = load_grader(ROOT / "exercises" / source).points
    accepted = caught = rights = wrongs = 0
    faults = []
    for name, problems in points_over_seeds(source, tmp_path).items():
        assert set(problems) == set(points)
        for problem, scores in problems.items():
            assert len(scores) == SEEDS
            full = [score >= points[problem] - 1e-9 for score in scores]
            if name.startswith("right"):
                rights, accepted = rights + SEEDS, accepted + sum(full)
                faults += [] if all(full) else [(name, problem, full.count(False))]
            else:
                wrongs, caught = wrongs + SEEDS, caught + SEEDS - sum(full)
                faults += [(name, problem, full.count(True))] if any(full) else []
    row = [source.stem, len(points), f"{accepted} of {rights}", f"{caught} of {wrongs}"]
    record_property("answers", row)
    assert faults == []
