"""A course: making it, releasing it, and what it refuses."""

import builtins
import json
from pathlib import Path

import pytest

import mdtheory.course.classroom as classroom
from mdtheory.course import (
    CourseError,
    assignments,
    collect,
    exercises_folder,
    grade,
    new_course,
    release,
    report,
)
from tests.classroom import (
    make_course,
    submit,
    write_exercises,
)


def test_a_new_course_holds_a_private_copy_of_the_assignments(tmp_path):
    course = tmp_path / "course"
    names = new_course(course)
    assert names == sorted(path.stem for path in exercises_folder().glob("*/*.md"))
    assert set(assignments(course)) == set(names)
    for path in exercises_folder().glob("*/*.md"):
        copy = course / "exercises" / path.parent.name / path.name
        assert copy.read_bytes() == path.read_bytes()
        assert copy.with_suffix(".py").is_file()


def test_two_courses_draw_different_inputs(tmp_path):
    seeds = []
    for name in ("one", "two"):
        new_course(tmp_path / name)
        seeds.append(json.loads((tmp_path / name / "course.json").read_text("utf-8"))["seed"])
    assert seeds[0] != seeds[1]


def test_a_course_is_not_made_over_something(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(CourseError, match="found something"):
        new_course(tmp_path)
    with pytest.raises(CourseError, match="found something"):
        new_course(tmp_path / "notes.txt")


def test_exercises_are_found_in_the_package_first_and_missed_by_name(tmp_path, monkeypatch):
    package = tmp_path / "mdtheory"
    (package / "course").mkdir(parents=True)
    monkeypatch.setattr(classroom, "__file__", str(package / "course" / "classroom.py"))
    with pytest.raises(CourseError, match="exercises"):
        exercises_folder()
    (tmp_path / "exercises").mkdir()
    assert exercises_folder() == tmp_path / "exercises"
    (package / "exercises").mkdir()
    assert exercises_folder() == package / "exercises"


def test_a_folder_that_is_no_course_is_told_so(tmp_path):
    for step in (
        lambda: release(tmp_path, []),
        lambda: collect(tmp_path, "x", tmp_path),
        lambda: grade(tmp_path, "x"),
        lambda: report(tmp_path),
    ):
        with pytest.raises(CourseError, match="mdtheory course new"):
            step()


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A released course that no test changes."""
    return make_course(tmp_path_factory.mktemp("released"))


def test_unknown_assignments_are_named_with_the_known(released, tmp_path):
    for step in (
        lambda: release(released, ["mirror"]),
        lambda: grade(released, "mirror"),
        lambda: collect(released, "mirror", tmp_path),
    ):
        with pytest.raises(CourseError, match="mirror: no such assignment; there are: mirror_maps"):
            step()


def test_there_is_nothing_to_grade_or_to_report_at_first(released):
    with pytest.raises(CourseError, match="no submissions"):
        grade(released, "mirror_maps")
    with pytest.raises(CourseError, match="nothing was graded"):
        report(released)


def test_two_assignments_of_one_name_are_refused(tmp_path):
    course = make_course(tmp_path)
    (course / "exercises" / "rl").mkdir()
    (course / "exercises" / "rl" / "mirror_maps.md").write_text("", "utf-8")
    with pytest.raises(CourseError, match="another assignment is called mirror_maps"):
        assignments(course)


def test_collecting_and_grading_need_a_release(tmp_path):
    course = tmp_path / "course"
    new_course(course)
    for step in (
        lambda: collect(course, "mirror_maps", tmp_path),
        lambda: grade(course, "mirror_maps"),
    ):
        with pytest.raises(CourseError, match="not released; run"):
            step()


def test_a_source_that_nbgrader_refuses_is_told_in_its_words(tmp_path):
    write_exercises(tmp_path / "exercises")
    (tmp_path / "course.json").write_text('{"seed": 7}', "utf-8")
    (tmp_path / "nbgrader_config.py").write_text(classroom.CONFIG.format(name="x"), "utf-8")
    path = tmp_path / "exercises" / "convex" / "mirror_maps.md"
    path.write_text(path.read_text("utf-8").replace("### END SOLUTION", "", 1), "utf-8")
    with pytest.raises(CourseError, match="no end solution"):
        release(tmp_path, [])


def test_a_source_that_changed_since_its_release_is_not_graded(tmp_path):
    course = make_course(tmp_path)
    submit(course, "ada")
    path = course / "exercises" / "convex" / "mirror_maps.md"
    path.write_text(path.read_text("utf-8").replace("sums", "many sums"), "utf-8")
    with pytest.raises(CourseError, match="changed since it was released"):
        grade(course, "mirror_maps")
    release(course, ["mirror_maps"])  # which mends it
    text = (course / "release" / "mirror_maps" / "mirror_maps.ipynb").read_text("utf-8")
    assert "many sums" in text


def test_nobody_is_graded_when_the_reference_is_wrong(tmp_path):
    course = make_course(tmp_path, solution="return x.sum(-1)")
    submit(course, "ada")
    with pytest.raises(CourseError, match=r"nobody was graded\n  total: 0 of 2, wrong: wrong on"):
        grade(course, "mirror_maps")
    assert not (course / "marks").exists()
    assert not (course / "feedback").exists()


def test_nobody_is_graded_when_the_reference_cannot_run(tmp_path):
    course = make_course(tmp_path)
    path = course / "exercises" / "convex" / "mirror_maps.md"
    text = path.read_text("utf-8").replace("import torch\n", "import no_such_module\n", 1)
    text = text.replace("return scale", "return no_such_module.f() * scale")
    path.write_text(text, "utf-8")
    release(course, [])
    submit(course, "ada")
    with pytest.raises(CourseError, match="could not run: ModuleNotFoundError: No module named"):
        grade(course, "mirror_maps")


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
    (copy / "marks" / "mirror_maps").mkdir(parents=True)
    return report(copy)
