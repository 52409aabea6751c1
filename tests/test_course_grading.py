"""Grading whatever comes, once and again, and reporting."""

import csv
import os
import subprocess
import sys

import nbformat
import pytest

import mdtheory.course.execution as execution
from mdtheory.course import (
    CourseError,
    Limits,
    grade,
    release,
    report,
)
from tests.classroom import FLOOD, LARGEST, LOOP, TOTAL, make_course, submit


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The course's folder, and the results of one grading."""
    course = make_course(tmp_path_factory.mktemp("graded"))
    submit(course, "ada")
    submit(
        course,
        "strange name+",
        total="def total(x, scale):\n    return x.sum(-1)",
        largest="def largest(x, scale:\n    return x",
    )
    submit(course, "bad import", total=f"import no_such_module\n{TOTAL}", largest="largest = None")
    submit(
        course,
        "dead kernel",
        largest="def largest(x, scale):\n    import os\n    os.kill(os.getpid(), 9)",
    )
    submit(
        course,
        "lazy",
        total="def total(x, scale):\n    raise NotImplementedError()",
        largest="from mdtheory.convex.mirror_maps import Simplex\n"
        "def largest(x, scale):\n    return scale * Simplex().project(x)",
    )
    submit(course, "loop", total=LOOP)
    submit(course, "flood", largest=FLOOD)
    submit(course, "not json").write_text("{", "utf-8")
    submit(course, "anybody*")
    (course / "submitted" / "nothing" / "mirror_maps").mkdir(parents=True)
    tampered = submit(course, "tampered")
    notebook = nbformat.read(tampered, as_version=4)
    for cell in notebook.cells:
        if "marks_total" in str(cell.metadata):
            cell.source = "4.0  # full marks, please"
            cell.metadata.nbgrader.points = 100
    nbformat.write(notebook, tampered)
    stripped = submit(course, "stripped", total=TOTAL)
    notebook = nbformat.read(stripped, as_version=4)
    notebook.cells = [c for c in notebook.cells if "marks" not in str(c.metadata)]
    for cell in notebook.cells:
        cell.metadata.clear()
        cell.pop("id", None)
    notebook.cells[0].metadata["nbgrader"] = "nonsense"
    notebook.nbformat_minor = 4
    nbformat.write(notebook, stripped)
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "MOST_OUTPUT", 1_000_000)
        results = grade(course, "mirror_maps", Limits(notebook=120, cell=20), told.append)
    assert sorted(told, key=lambda result: result.student) == results
    return course, {result.student: result for result in results}


@pytest.mark.parametrize(
    ("student", "status", "score", "outcomes", "words"),
    [
        ("ada", "graded", 4, ["right", "right"], ""),
        (
            "strange name+",
            "graded",
            0,
            ["wrong", "could not run"],
            "largest is not defined its cell: SyntaxError",
        ),
        (
            "bad import",
            "could not run",
            0,
            ["could not run", "could not run"],
            "No module named 'no_such_module'",
        ),
        ("dead kernel", "stopped", 2, ["right", "could not run"], "its process ended"),
        ("lazy", "graded", 0, ["not answered", "wrong"], "which is the answer itself"),
        ("loop", "graded", 2, ["could not run", "right"], "did not return: out of time"),
        ("flood", "stopped", 2, ["right", "could not run"], "its cells print more than 1 MB"),
        ("tampered", "graded", 4, ["right", "right"], ""),
        ("stripped", "graded", 4, ["right", "right"], ""),
    ],
)
def test_each_submission_gets_what_it_deserves(graded, student, status, score, outcomes, words):
    course, results = graded
    result = results[student]
    assert (result.status, result.score) == (status, score), result
    assert [verdict.outcome for verdict in result.verdicts] == outcomes
    told = result.reason + " ".join(word for v in result.verdicts for word in v.words)
    assert words in told
    words = words.split(" its cell")[0]
    page = course / "feedback" / student / "mirror_maps" / "mirror_maps.html"
    text = page.read_text("utf-8").replace("&#39;", "'")
    assert words in text
    assert f"(Score: {score:.1f} / 4.0)" in text


@pytest.mark.parametrize(
    ("student", "words"),
    [("not json", "is not a notebook"), ("nothing", "no file"), ("anybody*", "rename it")],
)
def test_what_cannot_be_read_is_reported_and_stops_nobody(graded, student, words):
    course, results = graded
    assert results[student].status == "could not run"
    assert words in results[student].reason
    assert results[student].verdicts == []
    page = course / "feedback" / student / "mirror_maps" / "mirror_maps.html"
    assert words in page.read_text("utf-8")


def test_the_marks_file_tells_could_not_run_from_wrong(graded):
    course, results = graded
    text = (course / "marks" / "mirror_maps.csv").read_text("utf-8")
    rows = {row["student"]: row for row in csv.DictReader(text.splitlines())}
    assert set(rows) == set(results)
    assert rows["ada"]["score"] == rows["ada"]["max_score"] == "4"
    assert rows["bad import"]["status"] == "could not run"
    assert rows["strange name+"]["total_outcome"] == "wrong"
    first, second = rows["strange name+"]["total_words"].split("; wrong on a batch (")
    assert first.startswith("wrong on vectors (the largest error is ")
    assert second.startswith("the largest error is ")
    assert rows["not json"]["total_outcome"] == "could not run"


def test_the_marks_are_in_nbgraders_gradebook(graded):
    from nbgrader.api import Gradebook

    course, results = graded
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "test") as gradebook:
        scores = {s.student_id: s.score for s in gradebook.assignment_submissions("mirror_maps")}
        grade_cell = gradebook.find_grade("marks_total", "mirror_maps", "mirror_maps", "ada")
        assert (grade_cell.auto_score, grade_cell.max_score) == (2.0, 2.0)
    expected = {s: r.score for s, r in results.items() if r.verdicts}
    assert scores == expected
    assert "reference" not in scores


def test_the_report_has_a_row_for_everybody(graded):
    course, results = graded
    header, rows = report(course)
    assert header == ["student", "mirror_maps (of 4)", "total"]
    table = {row[0]: row[1:] for row in rows}
    assert set(table) == set(results)
    assert table["ada"] == ["4", "4"]
    assert table["dead kernel"] == ["2 (stopped)", "2"]
    assert table["not json"] == ["could not run", "0"]
    lines = (course / "marks" / "report.csv").read_text("utf-8").splitlines()
    assert len(lines) == len(rows) + 1


def test_no_process_outlives_the_grading(graded):
    import psutil

    children = psutil.Process(os.getpid()).children(recursive=True)
    left = [" ".join(c.cmdline()) for c in children]
    assert not [words for words in left if "worker.py" in words or "course.judging" in words]


def test_grading_again_replaces_marks_and_takes_back_those_of_a_broken_file(tmp_path):
    from nbgrader.api import Gradebook

    course = make_course(tmp_path)
    submit(course, "ada", total="def total(x, scale):\n    return x")
    submit(course, "bob")
    assert [r.score for r in grade(course, "mirror_maps")] == [2, 4]
    submit(course, "ada")
    submit(course, "bob").write_text("", "utf-8")
    assert [r.score for r in grade(course, "mirror_maps")] == [4, 0]
    _, rows = report(course)
    assert rows == [["ada", "4", "4"], ["bob", "could not run", "0"]]
    assert not (course / "autograded" / "bob" / "mirror_maps").exists()
    # A mark given by hand, as in formgrader, counts.
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "test") as gradebook:
        found = gradebook.find_grade("marks_total", "mirror_maps", "mirror_maps", "ada")
        found.manual_score = 1.5
        gradebook.db.commit()
    assert report(course)[1][0] == ["ada", "3.5", "3.5"]
    # With graded submissions, cells can no longer come or go; nbgrader says so.
    path = course / "exercises" / "convex" / "mirror_maps.md"
    text = path.read_text("utf-8").replace("grade_id: total", "grade_id: totals")
    path.write_text(text, "utf-8")
    with pytest.raises(CourseError, match="Cannot add or remove cells"):
        release(course, [])


def test_a_notebook_that_takes_too_long_is_stopped(tmp_path):
    course = make_course(tmp_path)
    sleep = "import time\ntime.sleep(600)"
    submit(course, "slow", largest=f"{LARGEST}\n{sleep}")
    [result] = grade(course, "mirror_maps", Limits(notebook=25, cell=600))
    assert result.status == "stopped"
    assert result.reason == "out of time: the notebook took more than 25 s"
    assert [v.outcome for v in result.verdicts] == ["right", "could not run"]


def test_what_the_reference_loads_when_it_runs_is_loaded_for_all_and_names_nothing(tmp_path):
    solution = "import colorsys\n    return scale * x.sum(-1)"
    course = make_course(tmp_path, solution=solution)
    loaded = f"import sys\nassert 'colorsys' in sys.modules\n{TOTAL}"
    submit(course, "ada", total=loaded)
    submit(course, "names", total=TOTAL.replace("scale *", "colorsys.ONE_THIRD * 3 * scale *"))
    # What made the first error cheap has left nothing behind.
    clean = "import sys\nassert not hasattr(sys, 'last_value')\nassert 'torch' in globals()"
    submit(course, "bob", total=f"{clean}\nassert len(In) == 3, In\n{TOTAL}")
    found = {result.student: result for result in grade(course, "mirror_maps")}
    assert [found[name].score for name in ("ada", "bob", "names")] == [4, 4, 2]
    assert "name 'colorsys' is not defined" in str(found["names"].verdicts[0].words)


def test_an_error_is_shown_with_the_lines_around_it(tmp_path):
    course = make_course(tmp_path)
    wrong = "import torch\none = torch.ones(1)\ntorch.testing.assert_close(one, 2 * one)"
    submit(course, "ada", total=f"{TOTAL}\n{wrong}")
    grade(course, "mirror_maps")
    path = course / "autograded" / "ada" / "mirror_maps" / "mirror_maps.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    [error] = [o for c in cells for o in c.get("outputs", []) if o.output_type == "error"]
    trace = "\n".join(error.traceback)
    assert error.ename == "AssertionError"
    assert "----> " in trace
    assert "one = torch.ones(1)" in trace
    assert "Tensor-likes are not close" in trace


def test_nbgraders_exchange_finds_every_page_and_stops_at_none(tmp_path):
    """A page's name in the exchange is made of a secret, which must lie beside the page."""
    from nbgrader.utils import notebook_hash

    course = make_course(tmp_path / "course")
    (submit(course, "ada").parent / "submission_secret.txt").write_text("known to ada", "utf-8")
    submit(course, "bob").write_text("{", "utf-8")
    os.symlink(course / "course.json", submit(course, "eve").parent / "submission_secret.txt")
    grade(course, "mirror_maps")
    exchange = tmp_path / "exchange"
    exchange.mkdir(mode=0o777)
    exchange.chmod(0o777)
    config = course / "nbgrader_config.py"
    config.write_text(
        f"{config.read_text('utf-8')}\nc.Exchange.root = {str(exchange)!r}\n", "utf-8"
    )
    (exchange / "test" / "feedback").mkdir(parents=True)
    command = [sys.executable, "-m", "nbgrader", "release_feedback", "mirror_maps"]
    done = subprocess.run(command, cwd=course, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path.name for path in (exchange / "test" / "feedback").glob("*.html")}
    assert len(pages) == 3
    assert f"{notebook_hash(secret='known to ada', notebook_id='mirror_maps')}.html" in pages
    stolen = (course / "course.json").read_text("utf-8")
    assert f"{notebook_hash(secret=stolen, notebook_id='mirror_maps')}.html" not in pages
