"""Taking submissions from a plain folder."""

import os
from pathlib import Path

import nbformat
import pytest

from mdtheory.course import (
    CourseError,
    collect,
    left_over,
    set_roster,
)
from mdtheory.course.roster import for_canvas, for_moodle, roster_of, whose
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


def test_one_student_who_submits_twice_is_listed_and_the_others_are_taken(released, tmp_path):
    (tmp_path / "ada.md").write_text("", "utf-8")
    (tmp_path / "ada.ipynb").write_text("", "utf-8")
    (tmp_path / "bob.ipynb").write_text("{}", "utf-8")
    assert collect(released, "mirror_maps", tmp_path) == ["bob"]
    assert left_over("mirror_maps", tmp_path) == [
        "ada.ipynb: ada submitted 2 times; keep one of them",
        "ada.md: ada submitted 2 times; keep one of them",
    ]


def test_renamed_downloads_are_taken_where_it_is_clear(released, tmp_path):
    (tmp_path / "ada (1).ipynb").write_text("{}", "utf-8")
    (tmp_path / "BOB.IPYNB").write_text("{}", "utf-8")
    (tmp_path / "cyd").mkdir()
    (tmp_path / "cyd" / "mirror_maps (1).ipynb").write_text("{}", "utf-8")
    (tmp_path / "dan").mkdir()
    for name in ("mirror_maps (1).ipynb", "mirror_maps.ipynb"):
        (tmp_path / "dan" / name).write_text("{}", "utf-8")
    (tmp_path / "eve").mkdir()
    for name in ("draft.ipynb", "mirror_maps.IPYNB"):
        (tmp_path / "eve" / name).write_text("{}", "utf-8")
    for name in ("..ipynb", "...ipynb", "mirror_maps.ipynb", "a*b.ipynb"):
        (tmp_path / name).write_text("{}", "utf-8")
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "BOB.IPYNB")
    assert collect(released, "mirror_maps", tmp_path) == ["BOB", "ada", "cyd", "eve"]
    left = "\n".join(left_over("mirror_maps", tmp_path))
    assert "dan: has several notebooks in it (mirror_maps (1).ipynb, mirror_maps.ipynb)" in left
    assert "mirror_maps.ipynb: mirror_maps is the assignment; call the file like its stud" in left
    assert left.count("begins with a dot") == 2
    assert "link.ipynb: is a link" in left
    assert "a*b.ipynb: a name has one of" in left


def test_the_time_of_a_file_is_the_time_of_the_submission(released, tmp_path):
    path = tmp_path / "tim.ipynb"
    path.write_text("{}", "utf-8")
    os.utime(path, (1_800_000_000, 1_800_000_000))
    collect(released, "mirror_maps", tmp_path)
    stamp = released / "submitted" / "tim" / "mirror_maps" / "timestamp.txt"
    assert stamp.read_text("utf-8") == "2027-01-15 08:00:00 UTC\n"


ROSTER = """student,name,id,email,moodle,canvas
kim,Kim Lee,s1,kim@x,98765,4711
ann,Ann O'Hara,s2,ann@x,,4712
lee,Kim Lee,s3,lee@x,98766,
"""


@pytest.mark.parametrize(
    ("entry", "student", "words"),
    [
        ("Kim Lee_98765_assignsubmission_file_", "kim", ""),
        ("Kim Lee_98766_assignsubmission_file", "lee", ""),
        ("Ann OHara_12_assignsubmission_file_mirror_maps", "ann", ""),
        ("leekim_4711_889900_mirror_maps-1", "kim", ""),
        ("oharaann_LATE_99_889900_mirror_maps", "ann", ""),
        ("S2", "ann", ""),
        ("kim (2)", "kim", ""),
        ("Kim Lee_1_assignsubmission_file_", "", "fits kim, lee"),
        ("nobody", "", "is nobody in the roster"),
    ],
)
def test_names_of_moodle_and_canvas_are_understood(tmp_path, entry, student, words):
    (tmp_path / "roster.csv").write_text(ROSTER, "utf-8-sig")
    found, why = whose(entry, roster_of(tmp_path))
    assert found == student
    assert words in why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected columns"),
        ("a,b\n1,2\n", "expected columns"),
        ("student\nada\nada\n", "line 3: ada is also in line 2"),
        ("student\n../ada\n", "line 2"),
    ],
)
def test_a_roster_that_is_none_says_where(tmp_path, text, words):
    path = tmp_path / "r.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(CourseError, match=words):
        set_roster(tmp_path, path)
    assert not (tmp_path / "roster.csv").exists()


def test_import_files_have_the_columns_that_are_read(tmp_path):
    (tmp_path / "list.csv").write_text(ROSTER.replace(",", ";"), "utf-8")
    people = set_roster(tmp_path, tmp_path / "list.csv")
    scores = {"kim": 3.5, "ann": 0.0}
    moodle = for_moodle(people, "sums", scores, 4.0)
    assert moodle[1] == ["Participant 98765", "Kim Lee", "s1", "kim@x", "3.5", "4"]
    assert moodle[2] == ["", "Ann O'Hara", "s2", "ann@x", "0", "4"]
    canvas = for_canvas(people, "sums (12)", scores, 4.0)
    assert canvas[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "sums (12)"]
    assert canvas[1][0].strip() == "Points Possible"
    assert canvas[2] == ["Kim Lee", "4711", "s1", "kim@x", "", "3.5"]
    assert len(canvas) == 4
