"""The student's kernel and the marks: what a student's functions may do, and what they get."""

import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import mdtheory.course.classroom as classroom
from mdtheory.course import (
    ForbiddenError,
    GraderError,
    agrees,
    award,
    forbidden,
    hand_over,
    load_grader,
)
from mdtheory.course.kernel import EXCHANGE, functions_of, to_array
from mdtheory.course.marking import judge, make_plan, write_plan
from tests.sums_course import GRADER

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
