"""What runs in the student's process: calling functions, handing arrays over, refusing answers."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch

from mdtheory.course import GraderError, hand_over
from mdtheory.course.kernel import connect, disconnect, functions_of, seed, to_array
from mdtheory.course.library import library_without_answers
from mdtheory.course.marking import describe, judge, make_plan
from mdtheory.course.received import believable_answer
from tests.classroom import GRADER, small_grader


class Exchange:
    """Stands for the pipes between the grader and a student's process."""

    def __init__(self, grader, problem, most=2**20):
        self.grader, self.plan = grader, make_plan(grader, 7)
        self.left = {problem: {}}
        calls, archive = describe(self.plan[problem], [most] * len(self.plan[problem]))
        connect(problem, calls, io.BytesIO(archive), self.take)

    def take(self, header, body):
        import json

        head = json.dumps(header).encode()
        number, answer = believable_answer(len(head).to_bytes(4, "big") + head + body)
        [left] = self.left.values()
        left[number] = answer


@pytest.fixture(autouse=True)
def nothing_left_connected():
    yield
    disconnect()


def test_without_a_grader_the_locked_cell_says_who_gives_marks(tmp_path):
    with pytest.raises(RuntimeError, match="mdtheory course grade"):
        hand_over("total", {})
    Exchange(small_grader(tmp_path), "total")
    with pytest.raises(RuntimeError, match="mdtheory course grade"):
        hand_over("largest", {})


@pytest.mark.parametrize(
    ("function", "kind", "reason"),
    [
        (None, "absent", "is not defined"),
        (3, "absent", "is not defined"),
        (lambda x, scale: exec("raise NotImplementedError"), "unanswered", "not written"),
        (lambda x, scale: 1 / 0, "raised", "ZeroDivisionError: division by zero"),
        (lambda x, scale: exec("raise SystemExit(3)"), "raised", "SystemExit: 3"),
        (lambda x, scale: exec("raise ValueError('a' + chr(10) + 'b')"), "raised", ": a b"),
        (lambda x, scale: "five", "no array", "returned a str"),
        (lambda x, scale: None, "no array", "returned a NoneType"),
        (lambda x, scale: [[1.0], [1.0, 2.0]], "no array", "returned a list"),
        (lambda x, scale: torch.tensor(1j), "no array", "complex"),
        (lambda x, scale: torch.zeros(10**6), "no array", "far too large (1000000)"),
    ],
)
def test_a_call_without_an_array_leaves_its_reason(tmp_path, function, kind, reason):
    exchange = Exchange(small_grader(tmp_path), "total")
    hand_over("total", {} if function is None else {"total": function})
    assert set(exchange.left["total"]) == {0, 1}
    for refusal in exchange.left["total"].values():
        assert refusal.kind == kind
        assert reason in refusal.reason


def test_functions_get_tensors_and_numbers_and_leave_plain_arrays(tmp_path):
    exchange = Exchange(small_grader(tmp_path), "total")
    seen = []

    def total(x, scale):
        seen.append((x, scale))
        return (scale * x.sum(-1)).requires_grad_()

    hand_over("total", {"total": total})
    assert [type(scale) for _, scale in seen] == [float, float]
    assert all(x.dtype == torch.float64 for x, _ in seen)
    for number, (x, _) in enumerate(seen):
        np.testing.assert_array_equal(exchange.left["total"][number], 2 * x.sum(-1).numpy())
    [verdict, _] = judge(exchange.grader, exchange.plan, 7, exchange.left)
    assert (verdict.score, verdict.outcome, verdict.words) == (2, "right", [])


def test_answers_that_draw_at_random_are_the_same_again(tmp_path):
    drawn = []
    for _ in range(2):
        exchange = Exchange(small_grader(tmp_path), "total")
        hand_over("total", {"total": lambda x, scale: torch.rand(3) + np.random.rand(3)})
        drawn.append(exchange.left["total"][0])
        np.random.rand(5)
    np.testing.assert_array_equal(*drawn)


def test_an_interrupt_is_not_taken_for_an_error_of_the_students(tmp_path):
    exchange = Exchange(small_grader(tmp_path), "total")

    def total(x, scale):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hand_over("total", {"total": total})
    assert exchange.left["total"] == {}


@pytest.mark.parametrize("value", [torch.ones(2), [1, 2], 3.0, True, np.float32(2)])
def test_what_is_real_becomes_an_array(value):
    assert to_array(value).dtype.kind in "bif"


def test_what_is_not_real_does_not_become_an_array():
    with pytest.raises(TypeError, match="real numbers"):
        to_array("text")


# The library without answers ----------------------------------------------------------------------

USES = """
import importlib.util, sys, torch
from mdtheory.course.kernel import ForbiddenError
from mdtheory.convex import mirror_maps
from mdtheory.convex.mirror_maps import Entropy, Simplex
from mdtheory.convex.mirror_maps import Simplex as renamed

place = sys.modules[Simplex.__module__].__spec__
again = sys.modules["again"] = importlib.util.module_from_spec(place)
place.loader.exec_module(again)
for kind in (Simplex, renamed, mirror_maps.Simplex, again.Simplex):
    try:
        kind().project(torch.ones(3, dtype=torch.float64))
    except ForbiddenError as error:
        print("refused", error)
try:  # what only the answer uses is the answer
    mirror_maps.domains._threshold_by_sort(torch.ones(3, dtype=torch.float64))
except ForbiddenError as error:
    print("refused", error)
print(mirror_maps.domains.euclidean_norm(torch.ones(4, dtype=torch.float64)))
print(Entropy().__class__.__name__, mirror_maps.__file__)
"""


def test_a_forbidden_class_raises_under_every_name_and_others_work(tmp_path):
    grader = small_grader(tmp_path)
    (tmp_path / "library").mkdir()
    library = library_without_answers(grader, tmp_path / "library")
    done = subprocess.run(
        [sys.executable, "-P", "-c", USES],
        env={"PYTHONPATH": str(library), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 7, lines
    assert all("Simplex" in line and "the answer itself" in line for line in lines[:5])
    assert lines[5] == "tensor(2., dtype=torch.float64)"
    assert lines[6].startswith(f"Entropy {library}")


CONSTANTS = """
import torch
from mdtheory.course.kernel import ForbiddenError
from mdtheory.convex.target_surrogates import LinearCost, SoftmaxLoss

labels = torch.eye(2, dtype=torch.float64)
for reads in (lambda: SoftmaxLoss.smoothness, lambda: SoftmaxLoss(labels).smoothness):
    try:
        print("answered", reads())
    except ForbiddenError as error:
        print("refused", error)
print(LinearCost.smoothness)
"""


def test_the_constants_of_a_forbidden_class_are_refused_and_those_of_others_are_not(tmp_path):
    name = "mdtheory.convex.target_surrogates.SoftmaxLoss"
    grader = small_grader(tmp_path, GRADER.replace('"Simplex"', f'"{name}"'))
    (tmp_path / "library").mkdir()
    library = library_without_answers(grader, tmp_path / "library")
    done = subprocess.run(
        [sys.executable, "-P", "-c", CONSTANTS],
        env={"PYTHONPATH": str(library), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    refused = "refused read SoftmaxLoss.smoothness, which is the answer itself"
    assert done.stdout.splitlines() == [refused, refused, "0.0"]


def test_the_copy_has_no_exercises_and_no_answer_in_its_source(tmp_path):
    grader = small_grader(tmp_path)
    (tmp_path / "library").mkdir()
    library = library_without_answers(grader, tmp_path / "library")
    assert not [path for path in library.rglob("*") if path.name == "exercises"]
    changed = [
        path.relative_to(library)
        for path in library.rglob("*.py")
        if "which is the answer itself" in path.read_text("utf-8") and "course" not in path.parts
    ]
    assert changed
    assert all(str(path).startswith("mdtheory/convex/mirror_maps/") for path in changed)


def test_what_has_no_source_in_the_package_cannot_be_forbidden(tmp_path):
    text = GRADER.replace('"Simplex"', '"mdtheory.course.kernel.dataclass"')
    with pytest.raises(GraderError, match="nothing of it is written"):
        library_without_answers(small_grader(tmp_path, text), tmp_path)


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


def test_a_class_stands_for_all_kinds_of_functions_in_its_body():
    module = sys.modules[__name__]
    sys.modules["tests_many"] = module
    try:
        names = {function.__name__ for function in functions_of("tests_many.Many")}
    finally:
        del sys.modules["tests_many"]
    assert names == {"plain", "computed", "still", "of_class"}


def test_a_module_stands_for_what_it_defines_and_not_for_what_it_imports():
    functions = functions_of("mdtheory.course.kernel")
    names = {function.__qualname__ for function in functions}
    assert {"hand_over", "to_array"} <= names
    assert "dataclass" not in names


@pytest.mark.parametrize("name", ["mdtheory.nothing", "mdtheory.checks.nothing", "nowhere.at.all"])
def test_a_name_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="found nothing"):
        functions_of(name)


def test_a_name_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="got a str"):
        functions_of("mdtheory.__version__")


def test_seeding_is_torchs_own():
    torch.manual_seed(0)
    drawn = torch.rand(3), torch.randperm(9)
    seed()
    torch.testing.assert_close((torch.rand(3), torch.randperm(9)), drawn, rtol=0.0, atol=0.0)
