"""Assignments: right answers get full marks on every problem, wrong ones lose some on every one.

Each file of `tests/answers/PART/NAME` is graded as a submission, by the steps of an instructor;
`test_answers_over_seeds.py` has many more inputs.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import jupytext
import pytest

from mdtheory.course import Grader, Result, collect, grade, load_grader, new_course, release
from mdtheory.course.classroom import source_of

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENTS = sorted(path.relative_to(ROOT / "exercises") for path in ROOT.glob("exercises/*/*.md"))


@dataclass
class Assignment:
    """An assignment with its source, its grader and its graded answers."""

    source: Path
    answers: Path
    grader: Grader
    released: Path
    feedback: Path
    results: dict[str, Result]


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """One course for all assignments."""
    course = tmp_path_factory.mktemp("courses") / "course"
    assert new_course(course) == sorted(path.stem for path in ASSIGNMENTS)
    return course


@pytest.fixture(scope="module", params=ASSIGNMENTS, ids=[path.stem for path in ASSIGNMENTS])
def assignment(request, course) -> Assignment:
    source, name = ROOT / "exercises" / request.param, request.param.stem
    answers = ROOT / "tests" / "answers" / request.param.with_suffix("")
    [released] = release(course, [name])
    collect(course, name, answers)
    results = {result.student: result for result in grade(course, name)}
    grader = load_grader(source.with_suffix(".py"))
    return Assignment(source, answers, grader, released, course / "feedback", results)


def test_every_answer_was_graded(assignment):
    names = {path.stem for path in assignment.answers.glob("*.py")}
    assert set(assignment.results) == names
    assert {result.status for result in assignment.results.values()} == {"graded"}
    assert sum(name.startswith("right") for name in names) >= 2
    assert sum(name.startswith("wrong") for name in names) >= 4


def test_right_answers_get_full_marks_on_every_problem(assignment):
    for name, result in assignment.results.items():
        if name.startswith("right"):
            lost = {v.problem: v.words for v in result.verdicts if v.outcome != "right"}
            assert lost == {}, name
            assert result.score == sum(assignment.grader.points.values())


def test_wrong_answers_lose_marks_on_every_problem_and_the_feedback_says_why(assignment):
    for name, result in assignment.results.items():
        if not name.startswith("right"):
            pages = assignment.feedback / name / assignment.source.stem
            page = (pages / f"{assignment.source.stem}.html").read_text("utf-8")
            for verdict in result.verdicts:
                assert verdict.score < verdict.points, (name, verdict)
                assert verdict.outcome in ("wrong", "partly right"), (name, verdict)
                first = re.split(r"[&'\"<>\[(]", verdict.words[0])[0]
                assert first in page, (name, verdict)


def test_the_librarys_own_solution_is_refused(assignment):
    words = [
        word
        for result in assignment.results.values()
        for verdict in result.verdicts
        for word in verdict.words
    ]
    assert any("which is the answer itself" in word for word in words)


def test_the_students_notebook_holds_no_solution_and_no_hidden_cell(assignment):
    text = assignment.released.read_text("utf-8")
    source = assignment.source.read_text("utf-8")
    for word in ("SOLUTION", "HIDDEN", "hand_over", "check_", "_reference"):
        assert word not in text
    inside = [part.split("### END SOLUTION")[0] for part in source.split("### BEGIN SOLUTION")[1:]]
    assert len(inside) == len(assignment.grader.points)
    for line in (line.strip() for solution in inside for line in solution.splitlines()):
        assert len(line) < 20 or line not in text
    for problem in assignment.grader.points:
        assert f"def {problem}(" in text


def test_an_assignment_has_four_to_six_problems(assignment):
    assert 4 <= len(assignment.grader.points) <= 6


def test_saving_the_source_as_a_notebook_leaves_it_as_it_was(assignment, tmp_path):
    text = assignment.source.read_text("utf-8")
    notebook = jupytext.reads(text, fmt="md:myst")
    again = jupytext.reads(jupytext.writes(notebook, fmt="ipynb"), fmt="ipynb")
    saved = jupytext.writes(again, fmt="md:myst")
    # Below the header, to which jupytext adds its version.
    assert saved.split("---\n", 2)[2] == text.split("---\n", 2)[2]


def test_lines_of_code_do_not_scroll(assignment):
    notebook = jupytext.read(assignment.source)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert max(len(line) for line in cell.source.splitlines()) < 80, cell.source


def test_the_examples_of_a_notebook_hold_for_its_solution(assignment):
    notebook = jupytext.read(assignment.source)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    namespace: dict = {}
    for source in cells:
        if "hand_over(" not in source:
            exec(compile(source, "cell", "exec"), namespace)
    assert any("should_be(" in source or "assert" in source for source in cells)


def test_points_in_the_text_are_those_of_the_grader(assignment):
    plain = jupytext.read(assignment.source)
    follows = source_of(assignment.source, assignment.grader.points)
    assert [c.source for c in plain.cells] == [c.source for c in follows.cells]
    assert [c.metadata.get("nbgrader") for c in plain.cells] == [
        c.metadata.get("nbgrader") for c in follows.cells
    ]
