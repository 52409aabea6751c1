"""What runs in the student's kernel: calling functions, leaving arrays, refusing answers."""

import json
import re

import numpy as np
import pytest
import torch

import mdtheory.course.classroom as classroom
from mdtheory.course import (
    ForbiddenError,
    agrees,
    forbidden,
    hand_over,
)
from mdtheory.course.kernel import EXCHANGE, functions_of, to_array
from mdtheory.course.marking import judge, make_plan, write_plan
from tests.classroom import small_grader


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
