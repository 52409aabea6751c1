"""Taking submissions from a plain folder."""

from pathlib import Path

import nbformat
import pytest

from mdtheory.course import (
    CourseError,
    collect,
    left_over,
)
from tests.classroom import LARGEST, TOTAL, make_course, submit


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A released course that no test changes."""
    return make_course(tmp_path_factory.mktemp("released"))


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
