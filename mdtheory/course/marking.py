"""Marks for what a student's functions returned. Runs in the grader's own process.

A grader is a file beside the assignment, with ``POINTS``, ``FORBIDDEN`` and one function
``check_PROBLEM(call, generator)`` per problem. A check runs twice: first every call is only
written down (the plan, which the student's process carries out), then the recorded answers are
played back. So a check must draw the same inputs whatever is answered; playing back verifies it.
"""

from __future__ import annotations

import importlib.util
import io
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mdtheory.course.kernel import functions_of


class Call(Protocol):
    """What a check is given: calls the student's function of that name."""

    def __call__(self, function: str, *arguments: object) -> np.ndarray:
        """What it returned; a NaN of shape ``()`` where it returned no array."""


Check = Callable[[Call, np.random.Generator], float]


class GraderError(Exception):
    """The grader itself is at fault, so that nobody can be graded with it."""


@dataclass(frozen=True)
class Grader:
    """A grader's file, read and checked.

    Attributes:
        name: the assignment's name.
        points: problem to the most points that it gives.
        forbidden: problem to the dotted names of the library's functions that raise meanwhile.
        checks: problem to its check.
    """

    name: str
    points: dict[str, float]
    forbidden: dict[str, list[str]]
    checks: dict[str, Check]


@dataclass(frozen=True)
class PlannedCall:
    """One call of a student's function: its name and arguments, each an array or a number."""

    function: str
    arguments: tuple[np.ndarray | float | int, ...]


@dataclass(frozen=True)
class Refusal:
    """Why a call has no array for an answer.

    Attributes:
        kind: "absent", "unanswered", "forbidden", "raised", "no array" or "stopped".
        reason: the rest of a sentence that begins with the function's name.
    """

    kind: str
    reason: str


NO_ANSWER = Refusal("stopped", "did not return: out of time, or its process ended")
Answers = dict[str, dict[int, np.ndarray | Refusal]]


@dataclass
class Verdict:
    """What came out for one problem.

    Attributes:
        problem: the problem's name.
        score: points given.
        points: the most that could be had.
        outcome: "right", "partly right", "wrong", "not answered" or "could not run".
        words: what was wrong, one line each, for the student.
    """

    problem: str
    score: float
    points: float
    outcome: str
    words: list[str] = field(default_factory=list)


def award(call: Call, points: float, passed: bool, words: str) -> float:
    """Points if passed; if not, zero, and the words go into the student's feedback.

    Args:
        call: what the check was given.
        points: what passing is worth.
        passed: whether the student's answer did.
        words: what is wrong otherwise, such as ``"wrong on batched input"``.

    Returns:
        ``points`` or 0.0.
    """
    if isinstance(call, _Playback):
        # Where there was no answer, the reason for that says more. Else the first that differs.
        known = [] if call.reasons else [*_differences, ("", call.example())]
        why, example = known[0] if known else ("", "")
        details = f" ({why}{'; ' if why and example else ''}{example})" if why or example else ""
        call.say("" if passed else words + details)
    _differences.clear()
    return float(points) if passed else 0.0


# What was first found different since points were last awarded, with the call as an example. The
# judge does one thing at a time.
_differences: list[tuple[str, str]] = []
_played: list[_Playback] = []


def _differ(words: str) -> None:
    if not _differences:
        _differences.append((words, _played[-1].example() if _played else ""))


def fault(words: str) -> bool:
    """Say what is wrong with the answer of the last call, in a way that :func:`agrees` cannot.

    Args:
        words: such as ``"the gap is 0.2, above 0.001"``; they join those of the next award.

    Returns:
        False.
    """
    _differ(words)
    return False


def has_shape(answer: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether an answer has a shape; if not, both go into the student's feedback.

    For answers that are judged by what they achieve; :func:`agrees` looks at shapes itself.

    Args:
        answer: what the student's function returned.
        shape: what it should have.

    Returns:
        True for the same shape.
    """
    if answer.shape != tuple(shape):
        return fault(f"its shape is {answer.shape}, not {tuple(shape)}")
    return True


def agrees(
    answer: np.ndarray, reference: np.ndarray, *, rtol: float = 1e-9, atol: float = 0.0
) -> bool:
    """Whether an answer has the reference's shape and its values.

    Args:
        answer: what the student's function returned.
        reference: what it should have, any shape.
        rtol: tolerance relative to the reference, entry by entry.
        atol: absolute tolerance.

    Returns:
        False also where the answer holds a NaN.
    """
    reference = np.asarray(reference)
    same = answer.shape == reference.shape and bool(
        np.allclose(answer, reference, rtol=rtol, atol=atol)
    )
    if not same:
        _differ(_difference(answer, reference, rtol, atol))
    return same


def _difference(answer: np.ndarray, reference: np.ndarray, rtol: float, atol: float) -> str:
    """In which way an answer is not the reference, without giving that away."""
    if answer.shape != reference.shape:
        return f"its shape is {answer.shape}, not {reference.shape}"
    if not np.isfinite(answer).all() and np.isfinite(reference).all():
        return "it holds a NaN" if np.isnan(answer).any() else "it holds an infinity"
    if answer.dtype.kind == "f" and answer.dtype.itemsize < 8:
        return f"its dtype is {answer.dtype}, and float64 is needed"
    finite = np.isfinite(answer) & np.isfinite(reference)
    error = np.where(finite, abs(answer.astype(np.float64) - reference), 0.0)
    worst, scale = float(error.max(initial=0.0)), float(abs(reference[finite]).max(initial=0.0))
    words = f"the largest error is {worst:.1e}"
    # What rounding to 24 bits leaves, where the values themselves are right.
    single = np.allclose(answer, reference, rtol=3e-6, atol=max(3e-6 * scale, atol))
    if single and worst > 1e-10 * scale and answer.dtype == np.float64:
        words += ", as if something in between were float32"
    return words


def load_grader(path: Path) -> Grader:
    """Read a grader's file.

    Args:
        path: ``.../PART/NAME.py``; bare names in ``FORBIDDEN`` are those of ``mdtheory.PART.NAME``.

    Returns:
        The grader.

    Raises:
        GraderError: it cannot be read, or is not what a grader must be.
    """
    spec = importlib.util.spec_from_file_location(f"grader_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None  # true of every path that ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        points = {problem: float(most) for problem, most in module.POINTS.items()}
        bare = {problem: list(names) for problem, names in module.FORBIDDEN.items()}
        checks = {problem: getattr(module, f"check_{problem}") for problem in points}
    except Exception as error:
        raise GraderError(f"{path}: {type(error).__name__}: {error}") from error
    if not points or not all(0 < most < math.inf for most in points.values()):
        raise GraderError(f"{path}: POINTS: expected positive points, got {points}")
    if unknown := sorted(set(bare) - set(points)):
        raise GraderError(f"{path}: FORBIDDEN: no such problem: {', '.join(unknown)}")
    chapter = f"mdtheory.{path.parent.name}.{path.stem}"
    forbidden = {
        problem: [
            n if n.startswith("mdtheory.") else f"{chapter}.{n}" for n in bare.get(problem, [])
        ]
        for problem in points
    }
    try:
        for name in {name for names in forbidden.values() for name in names}:
            functions_of(name)
    except ValueError as error:
        raise GraderError(f"{path}: FORBIDDEN: {error}") from error
    return Grader(path.stem, points, forbidden, checks)


def make_plan(grader: Grader, seed: int) -> dict[str, list[PlannedCall]]:
    """The calls of every check, in order.

    Args:
        grader: the grader.
        seed: where the inputs come from; the same seed gives the same inputs.

    Returns:
        Problem to calls.

    Raises:
        GraderError: a check raised, or called nothing.
    """
    plan = {}
    for problem in grader.points:
        call = _Recorder()
        try:
            _run(grader, problem, call, seed)
        except Exception as error:
            raise GraderError(
                f"{grader.name}: check_{problem} raised {type(error).__name__}: {error}"
            ) from error
        if not call.calls:
            raise GraderError(f"{grader.name}: check_{problem} calls no function of the student's")
        plan[problem] = call.calls
    return plan


def describe(calls: list[PlannedCall], most: list[int]) -> tuple[list[dict[str, Any]], bytes]:
    """One problem's calls, as they are sent to the student's process.

    Args:
        calls: the problem's calls.
        most: for each of them, the most bytes that an answer may have.

    Returns:
        The calls in words, and their arguments as NumPy's archive.
    """
    described = [
        {
            "function": call.function,
            "arguments": [
                "tensor" if isinstance(a, np.ndarray) else "number" for a in call.arguments
            ],
            "most": bytes_,
        }
        for call, bytes_ in zip(calls, most, strict=True)
    ]
    arrays = {
        f"{number}.{place}": np.asarray(argument)
        for number, call in enumerate(calls)
        for place, argument in enumerate(call.arguments)
    }
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **arrays)
    return described, archive.getvalue()


def judge(
    grader: Grader, plan: dict[str, list[PlannedCall]], seed: int, answers: Answers
) -> list[Verdict]:
    """Marks for the answers that came from a student's process.

    Args:
        grader: the grader.
        plan: the calls that were to be answered.
        seed: the seed of the plan.
        answers: problem to number of the call to its answer.

    Returns:
        One verdict per problem, in the grader's order.
    """
    return [
        _judge_problem(grader, problem, plan[problem], seed, answers.get(problem, {}))
        for problem in plan
    ]


def _judge_problem(
    grader: Grader,
    problem: str,
    calls: list[PlannedCall],
    seed: int,
    answers: dict[int, np.ndarray | Refusal],
) -> Verdict:
    call = _Playback(calls, answers)
    _differences.clear()
    _played[:] = [call]
    most = grader.points[problem]
    try:
        score = _run(grader, problem, call, seed)
        if not 0 <= score <= most + 1e-9:
            raise GraderError(f"gave {score!r} of {most:g} points")
    except Exception as error:
        # The check is at fault. With the reference solution this stops everything; with a student
        # whose odd answer uncovered it, it costs the others nothing.
        words = f"could not be judged: check_{problem}: {type(error).__name__}: {error}"
        return Verdict(problem, 0.0, most, "could not run", [words])
    call.say("no answer" if call.reasons else "")
    if score >= most - 1e-9:
        return Verdict(problem, most, most, "right")
    kinds, told = set(call.missing), list(dict.fromkeys(call.words))
    if len(call.missing) == len(calls) and len(set(call.causes)) == 1:
        told = call.causes[:1]  # once is enough
    if len(call.missing) < len(calls) or kinds & {"forbidden", "no array"}:
        outcome = "partly right" if score > 0 else "wrong"
    else:
        outcome = "not answered" if kinds == {"unanswered"} else "could not run"
    return Verdict(problem, score, most, outcome, told)


def _run(grader: Grader, problem: str, call: Call, seed: int) -> float:
    # Every problem has its own stream: changing one leaves the inputs of the others as they are.
    generator = np.random.default_rng([seed, zlib.crc32(problem.encode())])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a wrong answer makes NumPy say is no news
        return float(grader.checks[problem](call, generator))


class _Recorder:
    """Writes calls down; answers every one with a NaN."""

    def __init__(self) -> None:
        self.calls: list[PlannedCall] = []

    def __call__(self, function: str, *arguments: object) -> np.ndarray:
        self.calls.append(PlannedCall(function, tuple(_plain(a) for a in arguments)))
        return np.array(np.nan)


class _Playback:
    """Answers each call with what the student's kernel left."""

    def __init__(self, calls: list[PlannedCall], answers: dict[int, np.ndarray | Refusal]) -> None:
        self.calls, self.answers = calls, answers
        self.number = 0
        self.words: list[str] = []
        self.missing: list[str] = []  # the kinds of all calls without an array
        self.causes: list[str] = []  # why, for all of them
        self.reasons: list[str] = []  # why, for those since a part was last awarded

    def __call__(self, function: str, *arguments: object) -> np.ndarray:
        number = self.number
        self.number += 1
        if number >= len(self.calls) or not _same(self.calls[number], function, arguments):
            raise GraderError(
                f"call {number} of {function} is not the planned one: "
                "inputs must not depend on answers"
            )
        answer = self.answers.get(number, NO_ANSWER)
        if not isinstance(answer, Refusal):
            return answer
        self.missing.append(answer.kind)
        self.causes.append(f"{function} {answer.reason}")
        self.reasons.append(f"{function} {answer.reason}")
        return np.array(np.nan)

    def example(self) -> str:
        """The last call, as an example of those that were judged; large arguments as shapes."""
        if not 0 < self.number <= len(self.calls) or self.reasons:
            return ""
        call = self.calls[self.number - 1]
        return f"for example {call.function}({', '.join(_shown(a) for a in call.arguments)})"

    def say(self, words: str) -> None:
        """Tell the student what is wrong (if anything), and why there was no answer to judge."""
        reasons = "; ".join(dict.fromkeys(self.reasons))
        self.reasons.clear()
        if words:
            self.words.append(f"{words}: {reasons}" if reasons else words)


def _shown(argument: np.ndarray | float | int) -> str:
    """An argument in few characters."""
    if isinstance(argument, np.ndarray):
        if argument.size > 6:
            return f"a tensor of shape {argument.shape}"
        return np.array2string(argument, precision=4, separator=", ").replace("\n", "")
    return f"{argument:.4g}" if isinstance(argument, float) else str(argument)


def _plain(argument: object) -> np.ndarray | float | int:
    if isinstance(argument, np.ndarray) and argument.dtype.kind in "biuf":
        return argument.copy()
    if isinstance(argument, (int, float)):
        return argument
    raise TypeError(f"expected arrays of numbers, and numbers, got {type(argument).__name__}")


def _same(planned: PlannedCall, function: str, arguments: tuple[object, ...]) -> bool:
    return (
        planned.function == function
        and len(planned.arguments) == len(arguments)
        and all(
            np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
            for a, b in zip(planned.arguments, arguments, strict=True)
        )
    )
