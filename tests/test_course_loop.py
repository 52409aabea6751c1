"""The instructor's loop: one student, several at once, points, due dates, statistics, next term."""

import csv
import json
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from mdtheory.course import (
    CourseError,
    agrees,
    assignments,
    award,
    grade,
    new_course,
    release,
    report,
    set_due,
    set_roster,
)
from mdtheory.course.marking import judge, make_plan
from mdtheory.course.reporting import export, write_csv
from mdtheory.course.statistics import similar, statistics
from tests.classroom import GRADER, PROBLEM, make_course, small_grader, submit

WRONG = "def total(x, scale):\n    return x.sum(-1)"


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of four, graded two at a time; one is late."""
    course = make_course(tmp_path_factory.mktemp("loop") / "course")
    config = course / "nbgrader_config.py"
    text = config.read_text("utf-8").replace("# c.LateSub", "c.LateSub")
    config.write_text(text, "utf-8")
    set_due(course, "mirror_maps", "2027-01-01 12:00 UTC")
    for student, when in (("ada", "2026-12-31"), ("late", "2027-01-02")):
        path = submit(course, student)
        (path.parent / "timestamp.txt").write_text(f"{when} 08:00:00 UTC\n", "utf-8")
    submit(course, "wrong", total=WRONG)
    submit(course, "broken").write_text("{", "utf-8")
    results = grade(course, "mirror_maps", jobs=2)
    assert [result.student for result in results] == ["ada", "broken", "late", "wrong"]
    return course


def test_a_late_penalty_is_taken_off(graded):
    rows = {row[0]: row[1:] for row in report(graded)[1]}
    assert rows["ada"] == ["4", "4"]
    assert rows["late"] == ["late, -4", "0"]
    with pytest.raises(CourseError, match="expected a time"):
        set_due(graded, "mirror_maps", "soon")


def test_one_student_is_graded_and_nobody_is_lost(graded):
    before = (graded / "marks" / "mirror_maps" / "ada.json").stat().st_mtime_ns
    [result] = grade(graded, "mirror_maps", students=["wrong"])
    assert (result.student, result.score) == ("wrong", 2)
    assert (graded / "marks" / "mirror_maps" / "ada.json").stat().st_mtime_ns == before
    assert {row[0] for row in report(graded)[1]} == {"ada", "broken", "late", "wrong"}
    with pytest.raises(CourseError, match="no submission of zoe; there are: ada, broken"):
        grade(graded, "mirror_maps", students=["zoe"])


def test_statistics_count_those_who_have_marks(graded):
    header, rows = statistics(graded, "mirror_maps")
    table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert table["total"]["mean"] == "1.33"
    assert table["total"]["full marks"] == "67%"
    assert table["largest"]["median"] == "2"
    assert table["all"]["could not run"] == "25%"
    picture = graded / "marks" / "mirror_maps-statistics.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_roster_decides_who_is_exported(graded, tmp_path):
    with pytest.raises(CourseError, match="no roster"):
        export(graded, "mirror_maps", "moodle", None)
    (tmp_path / "list.csv").write_text("student,name\nada,Ada L\nwrong,=SUM(A1)\n", "utf-8")
    set_roster(graded, tmp_path / "list.csv")
    try:
        path, missing = export(graded, "mirror_maps", "canvas", "Maps (3)")
        assert missing == ["late"]
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0][-1] == "Maps (3)"
        assert [row[0] for row in rows[2:]] == ["Ada L", "'=SUM(A1)"]
    finally:
        (graded / "roster.csv").unlink()


def test_points_are_changed_in_one_place(tmp_path):
    course = make_course(tmp_path / "course")
    path = course / "exercises" / "convex" / "mirror_maps.md"
    text = path.read_text("utf-8")
    head = "# Assignment: sums\n\nIts two problems give 4 points.\n\n## Problem 1: sum (2 points)\n"
    path.write_text(text.replace("# Assignment: sums\n", head), "utf-8")
    grader = path.with_suffix(".py")
    grader.write_text(GRADER.replace('"total": 2', '"total": 1'), "utf-8")
    [made] = release(course, [])
    words = made.read_text("utf-8")
    assert "problems give 3 points" in words
    assert "sum (1 point)" in words
    grader.write_text(GRADER.replace('"total": 2', '"totals": 2'), "utf-8")
    with pytest.raises(Exception, match="check_totals"):
        release(course, [])


def test_what_does_not_fit_is_named(tmp_path):
    course = make_course(tmp_path / "course")
    path = course / "exercises" / "convex" / "mirror_maps.md"
    text = path.read_text("utf-8").replace("marks_largest", "marks_smallest")
    path.write_text(text, "utf-8")
    with pytest.raises(CourseError, match="POINTS has marks_largest, but no cell marks_largest"):
        release(course, [])


def test_problems_on_paper_wait_for_a_reader(tmp_path):
    course = make_course(tmp_path / "course")
    path = course / "exercises" / "convex" / "mirror_maps.md"
    paper = PROBLEM.split("```{{code-cell}}")[1].format(name="proof", solution="pass")
    paper = "\n```{code-cell}" + paper.replace("grade: false", "grade: true\n  points: 3")
    path.write_text(path.read_text("utf-8") + paper, "utf-8")
    release(course, [])
    answered = submit(course, "ada")
    notebook = nbformat.read(answered, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "proof":
            cell.source = "# since the sum is linear"
    nbformat.write(notebook, answered)
    grade(course, "mirror_maps")
    header, rows = report(course)
    assert header[1] == "mirror_maps (of 7)"
    assert rows == [["ada", "4 (1 by hand to come)", "4"]]


def test_the_next_term_takes_edited_assignments_and_no_marks(graded, tmp_path):
    names = new_course(tmp_path / "next", graded)
    assert names == ["mirror_maps"] == sorted(assignments(tmp_path / "next"))
    old = graded / "exercises" / "convex" / "mirror_maps.py"
    new = tmp_path / "next" / "exercises" / "convex" / "mirror_maps.py"
    assert new.read_bytes() == old.read_bytes()
    seeds = [json.loads((c / "course.json").read_text())["seed"] for c in (graded, new.parents[2])]
    assert seeds[0] != seeds[1]
    assert not (tmp_path / "next" / "submitted").exists()
    with pytest.raises(CourseError, match="expected a course"):
        new_course(tmp_path / "other", tmp_path)


def test_a_gradebook_that_is_gone_is_told(graded, tmp_path):
    gradebook = graded / "gradebook.db"
    gradebook.rename(tmp_path / "kept.db")
    try:
        for step in (lambda: report(graded), lambda: grade(graded, "mirror_maps")):
            with pytest.raises(CourseError, match="the gradebook is gone"):
                step()
    finally:
        (tmp_path / "kept.db").rename(gradebook)


LONG = """
def total(x, scale):
    result = 0.0
    for row in x.unbind(-1):
        for factor in (1.0, 2.0, 3.0):
            if factor < 2.5:
                result = result + row * scale / 2
            else:
                result = result * 1.0 + 0.0
    return result
"""


def test_similar_submissions_are_listed_whatever_their_names(tmp_path):
    course = make_course(tmp_path / "course")
    submit(course, "ada", total=LONG)
    renamed = LONG.replace("result", "r").replace("factor", "f").replace("2.5", "2.25")
    submit(course, "bob", total=renamed + "# my own\n")
    submit(course, "cyd")
    submit(course, "dan", total=WRONG)
    submit(course, "eve").write_text("{", "utf-8")
    [(share, one, two)] = similar(course, "mirror_maps")
    assert (one, two) == ("ada", "bob")
    assert share > 0.9


@pytest.mark.parametrize("word", ["=1+1", "+x", "-x", "@SUM", "=x\n=y", "\t=x", "|x"])
def test_no_cell_becomes_a_formula(tmp_path, word):
    write_csv(tmp_path / "t.csv", [["a", word, "-1.5", "1e3"]])
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        [row] = csv.reader(file)
    assert row[1].strip()[:1] == "'"
    assert row[2:] == ["-1.5", "1e3"]


KILLED = """
import sys
from pathlib import Path
from mdtheory.course import grade
print("begins", flush=True)
grade(Path(sys.argv[1]), "mirror_maps", tell=lambda result: print(result.student, flush=True))
"""


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_killed_grading_loses_nothing(graded, lines):
    right = report(graded)[1]
    grading = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(graded)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(lines):
        assert grading.stdout.readline()
    time.sleep(0.3)
    grading.send_signal(signal.SIGKILL)
    grading.wait()
    grading.stdout.close()
    assert {row[0] for row in report(graded)[1]} == {row[0] for row in right}
    if lines == 3:
        grade(graded, "mirror_maps")
        assert report(graded)[1] == right


# Words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.astype("f4"), "its dtype is float32, and float64 is needed"),
        (lambda a: a.astype("f4").astype("f8"), "as if something in between were float32"),
        (lambda a: a[..., None], r"its shape is \(2, 1\), not \(2,\)"),
        (lambda a: a + 0.5, r"the largest error is 5\.0e-01"),
        (lambda a: a * float("nan"), "it holds a NaN"),
        (lambda a: a + float("inf"), "it holds an infinity"),
    ],
)
def test_a_reason_says_in_which_way_an_answer_is_wrong(tmp_path, change, words):
    import re

    grader = small_grader(tmp_path)
    plan = make_plan(grader, 1)
    first, second = (2 * call.arguments[0].sum(-1) for call in plan["total"])
    verdict = judge(grader, plan, 1, {"total": {0: first, 1: change(second)}})[0]
    [told] = verdict.words
    assert told.startswith("wrong on a batch (")
    assert re.search(words, told), told
    assert "for example total([[" in told


def test_an_agreement_is_still_a_plain_truth_value():
    import numpy as np

    one = np.ones(1)
    assert agrees(one, one) is True
    assert agrees(one, 2 * one) is False
    assert award(lambda name: one, 1, agrees(one, one), "x") == 1.0
