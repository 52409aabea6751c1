"""The walls around students' processes: what they let through, and what holds without them."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from mdtheory.course import Allowance, Limits, grade
from mdtheory.course.sandbox import WORDS
from tests.classroom import LARGEST, TOTAL, make_course, submit
from tests.test_course_hostile import LIMITS, code


@pytest.mark.parametrize("walls", ["user", "bubblewrap"])
def test_what_python_needs_below_tmp_is_in_reach_and_cannot_be_written(walls, tmp_path, missing):
    if walls == "user" and os.geteuid() != 0:
        pytest.skip("not root")
    program = {"user": "unshare", "bubblewrap": "bwrap"}[walls]
    if not shutil.which(program):
        missing(f"no {program}")
    course = make_course(tmp_path / "course")
    with tempfile.TemporaryDirectory(dir="/tmp") as below, pytest.MonkeyPatch.context() as patch:
        Path(below).chmod(0o755)
        (Path(below) / "beside.py").write_text("SCALE = 1\n", "utf-8")
        source = f"""
            import pathlib, tempfile, beside
            for place in ('/tmp', {below!r}):
                try:
                    (pathlib.Path(place) / 'left').write_text('x')
                except OSError:
                    continue
                raise SystemExit('written')
            tempfile.TemporaryFile().write(b'x')
            pathlib.Path('own').write_text('x')
            """
        submit(course, "ada", largest=code(source) + LARGEST)
        patch.setenv("PYTHONPATH", below)
        [result] = grade(course, "mirror_maps", LIMITS, walls=[walls])
    assert result.score == 4, result


# Without walls ---------------------------------------------------------------------------------


def test_limits_alone_are_said_loudly_and_hold(tmp_path):
    from mdtheory.course.reporting import warnings_of

    course = make_course(tmp_path / "course")
    submit(course, "ada")
    memory = "import time\nhoard = bytearray(3 * 2**30)\ntime.sleep(600)"
    submit(course, "memory", largest=memory)
    submit(course, "patient", largest=f"import time\ntime.sleep(1.5)\n{LARGEST}")
    left = tmp_path / "left"
    behind = f"""
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(5)
                open({str(left)!r}, 'w').write('x')
            os._exit(0)
        """
    submit(course, "behind", largest=LARGEST + code(behind))
    said = []
    limits = Limits(notebook=60, cell=15, allowance=Allowance(memory=2 * 2**30))
    results = {
        result.student: result
        for result in grade(course, "mirror_maps", limits, walls=["limits"], say=said.append)
    }
    assert results["ada"].score == 4
    assert results["behind"].score == 4
    assert results["patient"].score == 4
    assert results["memory"].score == 2
    told = results["memory"].reason + str(results["memory"].verdicts)
    assert "memory" in told.lower()
    assert WORDS["limits"] in said
    [warning] = warnings_of(course)
    assert "NOT ISOLATED, LIMITS ALONE" in warning
    time.sleep(6)
    assert not left.exists()


def test_walls_that_cannot_be_built_are_left_for_the_next(tmp_path, monkeypatch):
    course = make_course(tmp_path / "course")
    submit(course, "ada")
    monkeypatch.setattr("mdtheory.course.sandbox._program", lambda name: "/bin/false")
    said = []
    [result] = grade(course, "mirror_maps", LIMITS, say=said.append)
    assert result.score == 4
    assert said[-1] == WORDS["limits"]
    assert any("not possible here" in words for words in said)
    assert TOTAL


def test_a_judge_that_hangs_is_ended_and_costs_one_problem(tmp_path):
    from mdtheory.course.judging import Judge
    from mdtheory.course.marking import load_grader

    text = """
    import time
    POINTS, FORBIDDEN = {'a': 1, 'b': 1}, {}
    def check_a(call, generator):
        if float(call('a', 1.0)) == 5:
            time.sleep(600)
        return 1.0
    def check_b(call, generator):
        return float(float(call('b', 1.0)) == 5)
    """
    path = tmp_path / "convex" / "mirror_maps.py"
    path.parent.mkdir()
    path.write_text(textwrap.dedent(text), "utf-8")
    import numpy as np

    judge = Judge(load_grader(path), path, 1, seconds=5)
    five = {0: np.array(5.0)}
    try:
        first, second = judge({"a": five, "b": five})
        assert (first.outcome, second.outcome) == ("could not run", "right")
        assert "took too long or too much memory" in first.words[0]
        first, second = judge({"a": {0: np.array(1.0)}, "b": five})
        assert (first.outcome, second.outcome) == ("right", "right")
    finally:
        judge.close()


def test_the_walls_are_named_by_the_command(tmp_path):
    course = make_course(tmp_path / "course")
    submit(course, "ada")
    command = [sys.executable, "-m", "mdtheory", "course", "grade", str(course), "mirror_maps"]
    done = subprocess.run(
        [*command, "--walls", "limits"], capture_output=True, text=True, check=True
    )
    assert "LIMITS ALONE" in done.stderr
    assert "LIMITS ALONE" in done.stdout.splitlines()[-1]
