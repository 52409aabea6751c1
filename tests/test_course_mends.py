"""What an honest student's editor or browser does to a notebook costs no marks."""

import copy
import json
import os
from pathlib import Path

import nbformat
import pytest

from mdtheory.course import CourseError, collect, grade
from mdtheory.course.intake import MOST_BYTES, decode, read_file, read_notebook
from tests.classroom import LARGEST, TOTAL, make_course, submit


def edit(path: Path, change) -> None:
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    for cell in notebook.cells:
        cell.pop("id", None)
    notebook.nbformat_minor = 4
    nbformat.write(notebook, path)


def named(notebook, name: str) -> int:
    """Where the cell of that name is."""
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    return ids.index(name)


def copy_every_cell(notebook) -> None:
    """Each cell of nbgrader's a second time below itself, as Jupyter copies it."""
    notebook.cells = [
        copy.deepcopy(cell)
        for cell in notebook.cells
        for _ in range(2 if "nbgrader" in cell.metadata else 1)
    ]


def split(name: str):
    """Split a cell before its last line, as Jupyter does it: both halves keep the metadata."""

    def change(notebook) -> None:
        place = named(notebook, name)
        first, second = (copy.deepcopy(notebook.cells[place]) for _ in range(2))
        first.source, _, second.source = notebook.cells[place].source.rpartition("\n")
        notebook.cells[place : place + 1] = [first, second]

    return change


def marks_first(notebook) -> None:
    """A copy of the cell for marks above everything, where no function is defined yet."""
    notebook.cells.insert(0, copy.deepcopy(notebook.cells[named(notebook, "marks_total")]))


def marks_as_text(notebook) -> None:
    """The cell for marks turned into Markdown."""
    place = named(notebook, "marks_total")
    text = nbformat.v4.new_markdown_cell("marks", metadata=notebook.cells[place].metadata)
    notebook.cells[place] = text


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    course = make_course(tmp_path_factory.mktemp("mends"))
    edit(submit(course, "copied"), copy_every_cell)
    helper = "def half(x):\n    return x / 2\n\n"
    edit(submit(course, "split", total=f"{TOTAL}\nprint('defined')"), split("total"))
    edit(submit(course, "split marks", total=helper + TOTAL), split("marks_total"))
    edit(submit(course, "marks first"), marks_first)
    edit(submit(course, "marks as text"), marks_as_text)
    for encoding in ("utf-8-sig", "utf-16"):
        path = submit(course, encoding)
        path.write_text(path.read_text("utf-8"), encoding)
    for number in range(4):
        submit(course, f"exit {number}", total=f"{TOTAL}\nexit()")
        submit(course, f"quit {number}", total=f"{TOTAL}\nquit(keep_kernel=False)")
        submit(course, f"sys exit {number}", total=f"{TOTAL}\nimport sys\nsys.exit(3)")
    return course, {result.student: result for result in grade(course, "mirror_maps")}


def test_every_mended_notebook_gets_its_marks(results):
    _, found = results
    assert len(found) == 19
    for result in found.values():
        assert (result.status, result.score) == ("graded", 4), result


@pytest.mark.parametrize(
    ("student", "cell"),
    [
        ("copied", "total"),
        ("copied", "marks_largest"),
        ("split", "total"),
        ("marks first", "marks_total"),
    ],
)
def test_the_student_is_told_which_cell_appears_twice(results, student, cell):
    course, found = results
    note = f"the cell {cell} appears 2 times"
    assert any(line.startswith(note) for line in found[student].notes)
    page = course / "feedback" / student / "mirror_maps" / "mirror_maps.html"
    assert note in page.read_text("utf-8")


def test_a_plain_notebook_needs_no_mending(results):
    assert results[1]["exit 0"].notes == results[1]["utf-8-sig"].notes == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_text_is_read_in_what_its_mark_says(encoding):
    text = '{"α": 1}'
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("ending", [".md", ".py"])
def test_other_files_with_a_mark_are_read_too(results, tmp_path, ending):
    course, _ = results
    source = (course / "exercises" / "convex" / "mirror_maps.md").read_text("utf-8")
    text = source if ending == ".md" else f"{TOTAL}\n\n\n{LARGEST}\n"
    (tmp_path / f"bob{ending}").write_text(text, "utf-8-sig")
    assert collect(course, "mirror_maps", tmp_path) == ["bob"]
    notebook = read_notebook(course / "submitted" / "bob" / "mirror_maps" / "mirror_maps.ipynb")
    assert any("scale * x.sum(-1)" in cell.source for cell in notebook.cells)


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret", "utf-8")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(4 * 2**30)
    for name, words in [
        ("link", "is a link"),
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("sparse", f"more than {MOST_BYTES / 1e6:g} MB"),
        ("nothing", "no file"),
    ]:
        with pytest.raises(CourseError, match=words):
            read_file(tmp_path / name)
    assert read_file(secret) == b"secret"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"cells": 3}', "[" * 100_000, '{"cells": [{}]}', "null"],
    ids=["nothing", "open", "list", "empty", "number", "deep", "no kind", "null"],
)
def test_what_is_no_notebook_is_told_so(tmp_path, text):
    path = tmp_path / "x.ipynb"
    path.write_text(text, "utf-8")
    with pytest.raises(CourseError, match=r"x\.ipynb is not a notebook"):
        read_notebook(path)


def test_of_a_notebook_only_sources_and_names_are_kept(tmp_path):
    notebook = nbformat.v4.new_notebook(
        metadata={"title": "<script>", "kernelspec": {"name": "x", "display_name": "<b>"}}
    )
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": ["<b>"], "nbgrader": {"grade_id": "a"}})
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": "<script>"})]
    text = nbformat.v4.new_markdown_cell("![](attachment:a.png)")
    text["attachments"] = {"a.png": {"image/png": "QQ==", "text/html": "<script>"}}
    notebook.cells = [cell, text, nbformat.v4.new_raw_cell("raw \ud800")]
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    read = read_notebook(path)
    assert dict(read.metadata) == {}
    assert read.cells[0].metadata == {"nbgrader": {"grade_id": "a"}}
    assert read.cells[0].outputs == []
    assert read.cells[1].attachments == {"a.png": {"image/png": "QQ=="}}
    assert read.cells[2].source == "raw ?"
