"""A course: collecting, grading whatever comes, reporting."""

import builtins
import csv
import os
from pathlib import Path

import nbformat
import pytest

import mdtheory.course.submission as submission
from mdtheory.course import (
    CourseError,
    Limits,
    collect,
    grade,
    left_over,
    release,
    report,
)
from mdtheory.course.kernel import EXCHANGE
from mdtheory.course.submission import _first_error, _why_stopped
from tests.sums_course import FLOOD, LARGEST, LOOP, TOTAL, make_course, submit, write_exercises


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A released course that no test changes."""
    return make_course(tmp_path_factory.mktemp("released"))


# Submissions of every kind, graded once -------------------------------------------------------


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
        patch.setattr(submission, "MOST_OUTPUT", 1_000_000)
        patch.setenv(EXCHANGE, "mine")
        results = grade(course, "mirror_maps", Limits(notebook=120, cell=20), told.append)
        assert os.environ[EXCHANGE] == "mine"
    assert told == results
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
        ("dead kernel", "stopped", 2, ["right", "could not run"], "the kernel died"),
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
    assert rows["strange name+"]["total_words"] == "wrong on vectors; wrong on a batch"
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


def test_no_kernel_outlives_its_submission(graded):
    import psutil

    children = psutil.Process(os.getpid()).children(recursive=True)
    assert not [c for c in children if "ipykernel" in " ".join(c.cmdline())]


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


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CellTimeoutError", "could not be interrupted"),
        ("DeadKernelError", "the kernel died"),
        ("TimeoutError", "the notebook took more than 300 s"),
        ("NoSuchKernel", "NoSuchKernel: why"),
    ],
)
def test_why_a_notebook_stopped_is_said_in_words(name, words):
    error = type(name, (Exception,), {})("why")
    assert words in _why_stopped(error, Limits())


# Collecting -----------------------------------------------------------------------------------


def test_submissions_come_as_notebooks_text_or_functions(tmp_path):
    course, inbox = make_course(tmp_path / "course"), tmp_path / "inbox"
    inbox.mkdir()
    made = submit(course, "x")
    (inbox / "ada.ipynb").write_bytes(made.read_bytes())
    source = (course / "exercises" / "convex" / "mirror_maps.md").read_text("utf-8")
    (inbox / "bob.md").write_text(source, "utf-8")
    (inbox / "cyd.py").write_text(f"import math\n\n\n{TOTAL}\n\n\n{LARGEST}\n", "utf-8")
    (inbox / "dan.py").write_text("def total(:\n", "utf-8")
    (inbox / "eve.md").write_bytes(b"\xff\xfe not text")
    (inbox / "fay").mkdir()
    (inbox / "fay" / "mirror_maps.ipynb").write_bytes(made.read_bytes())
    (inbox / "notes.txt").write_text("not a submission", "utf-8")
    students = ["ada", "bob", "cyd", "dan", "eve", "fay"]
    assert collect(course, "mirror_maps", inbox) == students
    folder = course / "submitted"
    taken = {s: folder / s / "mirror_maps" / "mirror_maps.ipynb" for s in students}
    assert taken["ada"].read_bytes() == taken["fay"].read_bytes() == made.read_bytes()
    assert taken["eve"].read_bytes() == b"\xff\xfe not text"
    code = {
        student: [c.source for c in nbformat.read(taken[student], as_version=4).cells]
        for student in ("bob", "cyd", "dan")
    }
    assert any("return scale * x.sum(-1)" in source for source in code["bob"])
    assert code["cyd"].index("import math") < code["cyd"].index(TOTAL) < code["cyd"].index(LARGEST)
    # What cannot be parsed stands in one cell, whose error grading will report.
    assert "def total(:\n" in code["dan"]
    assert not any("YOUR CODE HERE" in source for source in code["dan"])


def test_a_folder_without_submissions_is_refused(released, tmp_path):
    with pytest.raises(CourseError, match="found none"):
        collect(released, "mirror_maps", tmp_path)
    with pytest.raises(CourseError, match="expected a folder"):
        collect(released, "mirror_maps", tmp_path / "nowhere")


def test_one_student_does_not_submit_twice(released, tmp_path):
    (tmp_path / "ada.md").write_text("", "utf-8")
    (tmp_path / "ada.ipynb").write_text("", "utf-8")
    with pytest.raises(CourseError, match="submitted twice: ada"):
        collect(released, "mirror_maps", tmp_path)


def test_what_is_not_taken_is_named(tmp_path):
    (tmp_path / "zed").mkdir()
    (tmp_path / "zed" / "hw1.ipynb").write_text("{}")
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "mirror_maps.ipynb").write_text("{}")
    for name in ("gus.docx", "bob.ipynb", ".DS_Store"):
        (tmp_path / name).write_text("")
    assert left_over("mirror_maps", tmp_path) == ["gus.docx", "zed"]


def test_a_submission_called_like_the_assignment_is_refused(released, tmp_path):
    (tmp_path / "mirror_maps.ipynb").write_text("{}")
    with pytest.raises(CourseError, match="call the file like its student"):
        collect(released, "mirror_maps", tmp_path)


def test_a_kernels_name_for_a_cell_is_not_shown():
    error = nbformat.v4.new_output(
        "error", ename="SyntaxError", evalue="expected ':' (2265083030.py, line 1)"
    )
    cell = nbformat.v4.new_code_cell("def f()", outputs=[error])
    told = _first_error([cell], Limits(notebook=1, cell=1))
    assert told == "SyntaxError: expected ':' (line 1)"


def test_without_the_extra_the_message_says_what_to_install(released, tmp_path, monkeypatch):
    real = builtins.__import__

    import mdtheory.checks

    def missing(name, *rest):
        if name.split(".")[0] in ("nbgrader", "nbformat", "jupytext"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(mdtheory.checks.importlib, "import_module", missing)
    for step in (lambda: release(released, []), lambda: report_with_marks(released, tmp_path)):
        with pytest.raises(ImportError, match=r"pip install 'mdtheory\[course\]'"):
            step()


def report_with_marks(course: Path, folder: Path):
    """Ask for a report of a course that seems to be graded."""
    copy = folder / "copy"
    write_exercises(copy / "exercises")
    for name in ("course.json", "nbgrader_config.py"):
        (copy / name).write_bytes((course / name).read_bytes())
    (copy / "marks").mkdir()
    (copy / "marks" / "mirror_maps.csv").write_text("student,status\n", "utf-8")
    return report(copy)
