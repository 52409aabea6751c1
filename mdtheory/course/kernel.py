"""What runs in the student's kernel while a submission is graded.

A locked cell of the assignment calls :func:`hand_over`: it calls the student's functions on the
inputs that the grader left in a folder, and leaves plain arrays there. No reference is near, and
no mark is given here.
"""

from __future__ import annotations

import io
import json
import os
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import numpy as np
import torch
from torch import Tensor

from mdtheory.files import write_atomically

# Names the folder through which the grader and the student's kernel exchange arrays.
EXCHANGE = "MDTHEORY_GRADING"


class ForbiddenError(RuntimeError):
    """A function was called that is itself the answer to the problem being graded."""


def hand_over(problem: str, namespace: Mapping[str, object]) -> None:
    """Call the student's functions on the grader's inputs, and leave what they return as arrays.

    For call number ``k`` of the plan there is afterwards one file: ``PROBLEM.k.npy`` with the
    array, or ``PROBLEM.k.json`` with the reason why there is none. A call that was interrupted
    leaves neither.

    Args:
        problem: the problem's name.
        namespace: where the student's functions are, ``globals()`` of the notebook.

    Raises:
        RuntimeError: nobody is grading: the environment names no exchange folder.
    """
    exchange = os.environ.get(EXCHANGE)
    if not exchange:
        raise RuntimeError("marks are given by `mdtheory course grade`, not by running this cell")
    folder = Path(exchange)
    plan = json.loads((folder / "plan.json").read_text("utf-8"))[problem]
    with np.load(folder / f"{problem}.npz", allow_pickle=False) as stored:
        inputs = {key: stored[key] for key in stored.files}
    with forbidden(plan["forbidden"]):
        for number, call in enumerate(plan["calls"]):
            arguments = [
                torch.from_numpy(inputs[f"{number}.{place}"])
                if kind == "tensor"
                else inputs[f"{number}.{place}"].item()
                for place, kind in enumerate(call["arguments"])
            ]
            torch.manual_seed(0)  # an answer that draws at random is the same on a second grading
            _answer(folder / f"{problem}.{number}", namespace, call["function"], arguments)


def _answer(
    stem: Path, namespace: Mapping[str, object], function: str, arguments: list[object]
) -> None:
    """Call one function once, and write one file."""
    student_function = namespace.get(function)
    if not callable(student_function):
        _refuse(stem, "absent", "is not defined")
        return
    try:
        value = student_function(*arguments)
    except NotImplementedError:
        _refuse(stem, "unanswered", "is not written yet")
        return
    except ForbiddenError as error:
        _refuse(stem, "forbidden", str(error))
        return
    except (Exception, SystemExit) as error:
        _refuse(stem, "raised", f"raised {type(error).__name__}: {str(error)[:300]}")
        return
    try:
        array = to_array(value)
    except Exception as error:
        _refuse(stem, "no array", f"returned a {type(value).__name__}: {str(error)[:300]}")
        return
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomically(stem.with_name(f"{stem.name}.npy"), content.getvalue())


def _refuse(stem: Path, kind: str, reason: str) -> None:
    content = json.dumps({"kind": kind, "reason": reason})
    write_atomically(stem.with_name(f"{stem.name}.json"), content)


def to_array(value: object) -> np.ndarray:
    """What a function returned, as an array of real numbers.

    Args:
        value: a tensor, or anything that NumPy makes an array of.

    Returns:
        The array; tensors are detached and brought to the CPU.

    Raises:
        TypeError: it is no array of real numbers or truth values.
    """
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected a tensor of real numbers, got {array.dtype}")
    return array


@contextmanager
def forbidden(names: list[str]) -> Iterator[None]:
    """Let functions of the library raise, under whatever name they were imported.

    The code inside the function objects is exchanged, so that aliases raise too.

    Args:
        names: dotted names such as ``"mdtheory.convex.mirror_maps.Simplex"``: of functions, of
            classes (every function in the class's body), of modules (all that they define).

    Raises:
        ValueError: a name is none of these.
    """
    kept: list[tuple[FunctionType, CodeType]] = []
    try:
        for name in names:
            for function in functions_of(name):
                kept.append((function, function.__code__))
                function.__code__ = _refusal(function)
        yield
    finally:
        for function, code in reversed(kept):
            function.__code__ = code


def functions_of(name: str) -> list[FunctionType]:
    """The functions that a dotted name stands for.

    Args:
        name: the dotted name of a function, a class or a module.

    Returns:
        The function itself; those in the class's body; those that the module defines, in its
        classes too.

    Raises:
        ValueError: there is nothing of that name, or nothing of these kinds.
    """
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(f"{name}: expected a name in the library, found nothing") from None
    functions = _functions_in(found, name)
    if not functions:
        raise ValueError(
            f"{name}: expected a function, a class or a module, got a {type(found).__name__}"
        )
    return functions


def _functions_in(found: object, module: str) -> list[FunctionType]:
    """Functions that a module defines, those in the body of a class, or a function itself."""
    if isinstance(found, FunctionType):
        return [found]
    if isinstance(found, property):
        return _functions_in(found.fget, module)
    if isinstance(found, (classmethod, staticmethod)):
        return _functions_in(found.__func__, module)
    if isinstance(found, type):
        return [
            f
            for member in vars(found).values()
            if not isinstance(member, type)
            for f in _functions_in(member, module)
        ]
    if isinstance(found, ModuleType):
        members = [m for m in vars(found).values() if getattr(m, "__module__", "") == module]
        return [f for member in members for f in _functions_in(member, module)]
    return []


def _refusal(function: FunctionType) -> CodeType:
    """Code that raises, and that fits into the function with its free variables."""
    message = f"called {function.__module__}.{function.__qualname__}, which is the answer itself"

    # It runs with the function's own globals, which hold nothing of ours: so it imports.
    def refuse(*_: object, **__: object) -> None:
        from mdtheory.course.kernel import ForbiddenError

        raise ForbiddenError("message")

    constants = tuple(message if c == "message" else c for c in refuse.__code__.co_consts)
    free = function.__code__.co_freevars
    return refuse.__code__.replace(co_consts=constants, co_freevars=free)
