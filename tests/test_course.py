"""A course: making it, releasing, collecting, grading whatever comes, reporting."""

import builtins
import csv
import json
import os
import re
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import mdtheory.course.classroom as classroom
import mdtheory.course.submission as submission
from mdtheory.course import (
    CourseError,
    ForbiddenError,
    GraderError,
    Limits,
    agrees,
    assignments,
    award,
    collect,
    exercises_folder,
    forbidden,
    grade,
    hand_over,
    left_over,
    load_grader,
    new_course,
    release,
    report,
)
from mdtheory.course.kernel import EXCHANGE, functions_of, to_array
from mdtheory.course.marking import judge, make_plan, write_plan
from mdtheory.course.submission import _first_error, _why_stopped

SOURCE = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Assignment: sums

```{code-cell} ipython3
import torch
```
"""

PROBLEM = """
```{{code-cell}} ipython3
---
nbgrader:
  grade: false
  grade_id: {name}
  locked: false
  schema_version: 3
  solution: true
  task: false
---
def {name}(x, scale):
    ### BEGIN SOLUTION
    {solution}
    ### END SOLUTION
```

```{{code-cell}} ipython3
---
nbgrader:
  grade: true
  grade_id: marks_{name}
  locked: true
  points: 2
  schema_version: 3
  solution: false
  task: false
---
# Marks.
### BEGIN HIDDEN TESTS
from mdtheory.course import hand_over

hand_over("{name}", globals())
### END HIDDEN TESTS
```
"""

GRADER = """
import numpy as np
from mdtheory.course import agrees, award

POINTS = {"total": 2, "largest": 2}
FORBIDDEN = {"largest": ["Simplex"]}


def check_total(call, generator):
    x = generator.normal(0, 1, (3,))
    score = award(call, 1, agrees(call("total", x, 2.0), 2 * x.sum(-1)), "wrong on vectors")
    x = generator.normal(0, 1, (2, 3))
    return score + award(call, 1, agrees(call("total", x, 2.0), 2 * x.sum(-1)), "wrong on a batch")


def check_largest(call, generator):
    x = generator.normal(0, 1, (4,))
    return award(call, 2, agrees(call("largest", x, 3), 3 * x.max(-1)), "wrong")
"""

TOTAL = "def total(x, scale):\n    return scale * x.sum(-1)"
# Asleep, so that it costs a loaded machine nothing; as endless as a busy one.
LOOP = "import time\ndef total(x, scale):\n    while True:\n        time.sleep(0.1)"
FLOOD = "def largest(x, scale):\n    while True:\n        print(2000 * 'x')"
LARGEST = "def largest(x, scale):\n    return scale * x.amax(-1)"


def write_exercises(folder: Path, *, solution: str = "return scale * x.sum(-1)") -> None:
    """An assignment of two problems, in the place of the chapter 'mirror_maps'."""
    part = folder / "convex"
    part.mkdir(parents=True)
    source = SOURCE + PROBLEM.format(name="total", solution=solution)
    source += PROBLEM.format(name="largest", solution="return scale * x.amax(-1)")
    (part / "mirror_maps.md").write_text(source, "utf-8")
    (part / "mirror_maps.py").write_text(GRADER, "utf-8")


def make_course(folder: Path, **options: str) -> Path:
    """A released course with that assignment."""
    write_exercises(folder / "exercises", **options)
    (folder / "course.json").write_text('{"seed": 7}', "utf-8")
    (folder / "nbgrader_config.py").write_text(classroom.CONFIG.format(name="test"), "utf-8")
    release(folder, [])
    return folder


def submit(course: Path, student: str, total: str = TOTAL, largest: str = LARGEST) -> Path:
    """A student's notebook with these two cells."""
    notebook = nbformat.read(course / "release/mirror_maps/mirror_maps.ipynb", as_version=4)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = {"total": total, "largest": largest}.get(name, cell.source)
    path = course / "submitted" / student / "mirror_maps" / "mirror_maps.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


# The student's kernel ---------------------------------------------------------------------------


def test_without_a_grader_the_locked_cell_says_who_gives_marks(monkeypatch):
    monkeypatch.delenv(EXCHANGE, raising=False)
    with pytest.raises(RuntimeError, match="mdtheory course grade"):
        hand_over("total", {})


@pytest.mark.parametrize(
    ("function", "kind", "reason"),
    [
        (None, "absent", "is not defined"),
        (3, "absent", "is not defined"),
        (lambda x, scale: exec("raise NotImplementedError"), "unanswered", "not written"),
        (lambda x, scale: 1 / 0, "raised", "ZeroDivisionError: division by zero"),
        (lambda x, scale: exec("raise SystemExit(3)"), "raised", "SystemExit: 3"),
        (lambda x, scale: "five", "no array", "returned a str"),
        (lambda x, scale: None, "no array", "returned a NoneType"),
        (lambda x, scale: [[1.0], [1.0, 2.0]], "no array", "returned a list"),
        (lambda x, scale: torch.tensor(1j), "no array", "complex128|complex64"),
    ],
)
def test_a_call_without_an_array_leaves_its_reason(tmp_path, monkeypatch, function, kind, reason):
    grader = small_grader(tmp_path)
    plan = make_plan(grader, 7)
    write_plan(grader, plan, tmp_path)
    monkeypatch.setenv(EXCHANGE, str(tmp_path))
    hand_over("total", {} if function is None else {"total": function})
    refusal = json.loads((tmp_path / "total.0.json").read_text("utf-8"))
    assert refusal["kind"] == kind
    assert re.search(reason, refusal["reason"])
    assert not (tmp_path / "total.0.npy").exists()


def test_functions_get_tensors_and_numbers_and_leave_plain_arrays(tmp_path, monkeypatch):
    grader = small_grader(tmp_path)
    plan = make_plan(grader, 7)
    write_plan(grader, plan, tmp_path)
    monkeypatch.setenv(EXCHANGE, str(tmp_path))
    seen = []

    def total(x, scale):
        seen.append((x, scale))
        return (scale * x.sum(-1)).requires_grad_()

    hand_over("total", {"total": total})
    assert [type(scale) for _, scale in seen] == [float, float]
    assert all(x.dtype == torch.float64 for x, _ in seen)
    for number, (x, _) in enumerate(seen):
        left = np.load(tmp_path / f"total.{number}.npy", allow_pickle=False)
        np.testing.assert_array_equal(left, 2 * x.sum(-1).numpy())
    [verdict, _] = judge(grader, plan, 7, tmp_path)
    assert (verdict.score, verdict.outcome, verdict.words) == (2, "right", [])


def test_an_interrupt_is_not_taken_for_an_error_of_the_students(tmp_path, monkeypatch):
    grader = small_grader(tmp_path)
    write_plan(grader, make_plan(grader, 7), tmp_path)
    monkeypatch.setenv(EXCHANGE, str(tmp_path))

    def total(x, scale):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hand_over("total", {"total": total})
    assert not list(tmp_path.glob("total.0.*"))


@pytest.mark.parametrize("value", [torch.ones(2), [1, 2], 3.0, True, np.float32(2)])
def test_what_is_real_becomes_an_array(value):
    assert to_array(value).dtype.kind in "bif"


def test_what_is_not_real_does_not_become_an_array():
    with pytest.raises(TypeError, match="real numbers"):
        to_array("text")


def test_forbidden_functions_raise_under_every_name_and_come_back():
    from mdtheory.convex import mirror_maps
    from mdtheory.convex.mirror_maps import Simplex, dual_step
    from mdtheory.convex.mirror_maps import dual_step as renamed

    alias, project = dual_step, Simplex().project
    point = torch.tensor([0.2, 0.5], dtype=torch.float64)
    before = project(point)
    names = ["mdtheory.convex.mirror_maps.dual_step", "mdtheory.convex.mirror_maps.Simplex"]
    with forbidden(names):
        for function in (dual_step, renamed, alias, mirror_maps.dual_step):
            with pytest.raises(ForbiddenError, match="dual_step, which is the answer itself"):
                function(point, point, 1.0)
        with pytest.raises(ForbiddenError, match="Simplex"):
            project(point)
    assert torch.equal(project(point), before)
    assert torch.equal(dual_step(point, point, 1.0), 0 * point)


def test_forbidden_functions_come_back_after_an_error():
    from mdtheory.convex.mirror_maps import dual_step

    with (
        pytest.raises(ZeroDivisionError),
        forbidden(["mdtheory.convex.mirror_maps.dual_step", "mdtheory.course.agrees"]),
    ):
        1 / 0  # noqa: B018
    one = torch.ones(1)
    assert torch.equal(dual_step(one, one, 1.0), 0 * one)
    assert agrees(np.ones(2), np.ones(2))


class Parent:
    """Stands for a class of the library."""

    def plain(self):
        return 1


class Many(Parent):
    """One function of each kind."""

    constant = 3

    class Inner:
        def untouched(self):
            return 1

    def plain(self):
        return super().plain()  # has a free variable, __class__

    @property
    def computed(self):
        return 1

    @staticmethod
    def still():
        return 1

    @classmethod
    def of_class(cls):
        return 1


def test_a_class_is_forbidden_with_all_its_kinds_of_functions(monkeypatch):
    monkeypatch.setattr(classroom, "Many", Many, raising=False)
    many = Many()
    with forbidden(["mdtheory.course.classroom.Many"]):
        for call in (many.plain, lambda: many.computed, many.still, many.of_class):
            with pytest.raises(ForbiddenError, match="Many"):
                call()
        assert many.Inner().untouched() == 1
    assert many.plain() == many.computed == many.still() == many.of_class() == 1


def test_a_module_stands_for_what_it_defines_and_not_for_what_it_imports():
    functions = functions_of("mdtheory.course.kernel")
    names = {function.__qualname__ for function in functions}
    assert {"hand_over", "to_array"} <= names
    assert "write_atomically" not in names


@pytest.mark.parametrize("name", ["mdtheory.nothing", "mdtheory.checks.nothing", "nowhere.at.all"])
def test_a_name_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="found nothing"):
        functions_of(name)


def test_a_name_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="got a str"):
        functions_of("mdtheory.__version__")


# Marks --------------------------------------------------------------------------------------------


def small_grader(folder: Path, text: str = GRADER):
    path = folder / "convex" / "mirror_maps.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text), "utf-8")
    return load_grader(path)


def test_names_without_a_module_are_those_of_the_chapter(tmp_path):
    grader = small_grader(tmp_path)
    assert grader.forbidden == {
        "total": [],
        "largest": ["mdtheory.convex.mirror_maps.Simplex"],
    }


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("POINTS = {", "SyntaxError"),
        ("FORBIDDEN = {}", "POINTS"),
        ("POINTS, FORBIDDEN = {}, {}", "positive points"),
        ("POINTS, FORBIDDEN = {'a': 0}, {}\ndef check_a(call, g): ...", "positive points"),
        ("POINTS, FORBIDDEN = {'a': 1}, {}", "check_a"),
        (GRADER.replace('{"largest": ["S', '{"other": ["S'), "no such problem: other"),
        (GRADER.replace("Simplex", "Sphere"), "mirror_maps.Sphere: expected"),
    ],
)
def test_a_grader_that_is_none_is_refused(tmp_path, text, match):
    with pytest.raises(GraderError, match=match):
        small_grader(tmp_path, text)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("raise KeyError('x')", "check_a raised KeyError"),
        ("return 1.0", "calls no function"),
        ("call('a', 'text'); return 0", "got str"),
        ("call('a', np.array(['x'])); return 0", "got ndarray"),
    ],
)
def test_a_check_that_cannot_be_planned_is_refused(tmp_path, body, match):
    head = "import numpy as np\nPOINTS, FORBIDDEN = {'a': 1}, {}\ndef check_a(call, generator):\n"
    with pytest.raises(GraderError, match=match):
        make_plan(small_grader(tmp_path, f"{head}    {body}\n"), 1)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("x = call('a', 1.0)\n    call('a', float(x)); return 1", "call 1 of a is not the planned"),
        ("x = call('a', 1.0)\n    if x == 5: call('a', 1.0)\n    return 1", "call 1 of a"),
        ("x = call('a', 1.0)\n    return 3.0 if x == 5 else 0.0", "gave 3.0 of 1"),
        ("x = call('a', 1.0)\n    return float('nan') if x == 5 else 0.0", "gave nan of 1"),
        ("x = call('a', 1.0)\n    return 1 / (0 if x == 5 else 1)", "ZeroDivisionError"),
    ],
)
def test_a_check_that_an_odd_answer_breaks_is_told_apart_from_wrong(tmp_path, body, match):
    head = "import numpy as np\nPOINTS, FORBIDDEN = {'a': 1}, {}\ndef check_a(call, generator):\n"
    grader = small_grader(tmp_path, f"{head}    {body}\n")
    plan = make_plan(grader, 1)
    np.save(tmp_path / "a.0.npy", np.array(5.0))
    [verdict] = judge(grader, plan, 1, tmp_path)
    assert (verdict.score, verdict.outcome) == (0.0, "could not run")
    [words] = verdict.words
    assert "could not be judged" in words
    assert match in words


def test_the_same_seed_gives_the_same_inputs_and_another_one_others(tmp_path):
    grader = small_grader(tmp_path)
    first, again, other = (make_plan(grader, seed)["total"][0].arguments[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pickles_are_not_read(tmp_path):
    grader = small_grader(tmp_path)
    plan = make_plan(grader, 1)
    np.save(tmp_path / "largest.0.npy", np.array([{}]), allow_pickle=True)
    verdict = judge(grader, plan, 1, tmp_path)[1]
    assert verdict.outcome == "could not run"
    assert "did not return" in verdict.words[0]


def test_a_reason_that_is_no_reason_counts_as_no_answer(tmp_path):
    grader = small_grader(tmp_path)
    (tmp_path / "largest.0.json").write_text("[]", "utf-8")
    verdict = judge(grader, make_plan(grader, 1), 1, tmp_path)[1]
    assert verdict.words == ["largest did not return: out of time, or its kernel stopped"]


def test_partial_credit_says_what_is_missing_and_why(tmp_path):
    grader = small_grader(tmp_path)
    plan = make_plan(grader, 1)
    np.save(tmp_path / "total.0.npy", 2 * plan["total"][0].arguments[0].sum(-1))
    (tmp_path / "total.1.json").write_text(
        json.dumps({"kind": "raised", "reason": "raised ValueError: no batch"}), "utf-8"
    )
    verdict = judge(grader, plan, 1, tmp_path)[0]
    assert (verdict.score, verdict.outcome) == (1.0, "partly right")
    assert verdict.words == ["wrong on a batch: total raised ValueError: no batch"]


def test_a_failed_call_without_an_award_is_still_told(tmp_path):
    text = """
    POINTS, FORBIDDEN = {'a': 1}, {}
    def check_a(call, generator):
        first = call('a', 1.0)
        return 0.5 * float(call('a', 2.0) == 4.0) + 0.5 * float(first == 2.0)
    """
    grader = small_grader(tmp_path, text)
    plan = make_plan(grader, 1)
    np.save(tmp_path / "a.1.npy", np.array(4.0))
    [verdict] = judge(grader, plan, 1, tmp_path)
    assert verdict.score == 0.5
    assert verdict.words == ["no answer: a did not return: out of time, or its kernel stopped"]


def test_awards_work_with_any_call():
    def call(name, *arrays):
        return np.ones(1)

    assert award(call, 2, True, "fine") == 2.0
    assert award(call, 2, False, "wrong") == 0.0


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        (np.array([1.0, 2.0]), True),
        (np.array([1.0, 2.0 + 1e-6]), False),
        (np.array([[1.0, 2.0]]), False),
        (np.array([1.0, np.nan]), False),
        (np.array(np.nan), False),
    ],
)
def test_agreement_asks_for_shape_and_values(answer, same):
    assert agrees(answer, np.array([1.0, 2.0])) is same


# A course ---------------------------------------------------------------------------------------


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


def test_points_must_be_the_same_in_the_source_and_its_grader(tmp_path):
    write_exercises(tmp_path / "exercises")
    (tmp_path / "course.json").write_text('{"seed": 7}', "utf-8")
    (tmp_path / "nbgrader_config.py").write_text(classroom.CONFIG.format(name="x"), "utf-8")
    path = tmp_path / "exercises" / "convex" / "mirror_maps.py"
    path.write_text(GRADER.replace('"total": 2', '"total": 3'), "utf-8")
    with pytest.raises(CourseError, match="POINTS"):
        release(tmp_path, [])


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
