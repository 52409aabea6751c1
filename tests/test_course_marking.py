"""Marks for what was returned, in the grader's own process."""

import numpy as np
import pytest

from mdtheory.course import (
    GraderError,
    agrees,
    award,
    fault,
    has_shape,
)
from mdtheory.course.marking import Refusal, judge, make_plan
from tests.classroom import GRADER, small_grader


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
    [verdict] = judge(grader, plan, 1, {"a": {0: np.array(5.0)}})
    assert (verdict.score, verdict.outcome) == (0.0, "could not run")
    [words] = verdict.words
    assert "could not be judged" in words
    assert match in words


def test_the_same_seed_gives_the_same_inputs_and_another_one_others(tmp_path):
    grader = small_grader(tmp_path)
    first, again, other = (make_plan(grader, seed)["total"][0].arguments[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_answer_is_told_from_a_wrong_one(tmp_path):
    grader = small_grader(tmp_path)
    verdict = judge(grader, make_plan(grader, 1), 1, {})[1]
    assert verdict.outcome == "could not run"
    assert verdict.words == ["largest did not return: out of time, or its process ended"]


def test_partial_credit_says_what_is_missing_and_why(tmp_path):
    grader = small_grader(tmp_path)
    plan = make_plan(grader, 1)
    right = 2 * plan["total"][0].arguments[0].sum(-1)
    raised = Refusal("raised", "raised ValueError: no batch")
    verdict = judge(grader, plan, 1, {"total": {0: right, 1: raised}})[0]
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
    [verdict] = judge(grader, plan, 1, {"a": {1: np.array(4.0)}})
    assert verdict.score == 0.5
    assert verdict.words == ["no answer: a did not return: out of time, or its process ended"]


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


def test_shapes_and_faults_are_plain_truth_values():
    assert has_shape(np.zeros((2, 3)), (2, 3)) is True
    assert has_shape(np.array(np.nan), (2, 3)) is False
    assert fault("the gap is 2, above 1") is False
    award(lambda name: np.ones(1), 1, False, "wrong")  # takes the words with it


EXAMPLES = """
    from mdtheory.course import agrees, award, fault, has_shape

    POINTS, FORBIDDEN = {'a': 2}, {}
    def check_a(call, generator):
        score = 0.0
        for sizes in ((1.0, 2.0, 3.0), (4.0, 5.0)):
            good = True
            for size in sizes:
                answer = call('a', size)
                good &= has_shape(answer, ()) and (answer <= size or fault(f"{answer:g} is large"))
            score += award(call, 1, bool(good), 'wrong')
        return score
"""


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (np.array(9.0), "wrong (9 is large; for example a(2))"),
        (np.zeros((1, 2)), "wrong (its shape is (1, 2), not (); for example a(2))"),
        (Refusal("raised", "raised KeyError: 2"), "wrong: a raised KeyError: 2"),
    ],
)
def test_the_example_is_the_call_that_went_wrong(tmp_path, second, told):
    grader = small_grader(tmp_path, EXAMPLES)
    plan = make_plan(grader, 1)
    answers = {number: np.array(1.0) for number in range(5)} | {1: second}
    [verdict] = judge(grader, plan, 1, {"a": answers})
    assert (verdict.score, verdict.outcome) == (1.0, "partly right")
    assert verdict.words == [told]
    # The next problem's words do not begin with what was left.
    [verdict] = judge(grader, plan, 1, {"a": answers | {1: np.array(1.0), 4: np.array(6.0)}})
    assert verdict.words == ["wrong (6 is large; for example a(5))"]
