"""What runs in the student's process while a submission is graded.

A locked cell of the assignment calls :func:`hand_over`: it calls the student's functions on the
inputs that came with the cell, and hands plain arrays over. No reference is near, and no mark is
given here.
"""

from __future__ import annotations

import pkgutil
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

Deliver = Callable[[dict[str, Any], bytes], None]


class ForbiddenError(RuntimeError):
    """A function was called that is itself the answer to a problem being graded."""


@dataclass(frozen=True)
class _Exchange:
    """What came with a cell for marks, and where answers go."""

    problem: str
    calls: list[dict[str, Any]]
    inputs: dict[str, np.ndarray]
    deliver: Deliver


_exchange: _Exchange | None = None


def connect(
    problem: str, calls: list[dict[str, Any]], archive: IO[bytes], deliver: Deliver
) -> None:
    """Let :func:`hand_over` work for one problem.

    Args:
        problem: the problem's name.
        calls: the planned calls: the function's name, the kinds of its arguments, and the most
            bytes of an answer.
        archive: the arguments, as NumPy's archive of arrays.
        deliver: takes a header and the bytes of an array.
    """
    global _exchange
    with np.load(archive, allow_pickle=False) as stored:
        inputs = {key: stored[key] for key in stored.files}
    _exchange = _Exchange(problem, calls, inputs, deliver)


def disconnect() -> None:
    """End what :func:`connect` began."""
    global _exchange
    _exchange = None


def hand_over(problem: str, namespace: Mapping[str, object]) -> None:
    """Call the student's functions on the grader's inputs, and hand over what they return.

    Every planned call is answered by an array or by the reason why there is none. A call that
    was interrupted is not answered.

    Args:
        problem: the problem's name.
        namespace: where the student's functions are, ``globals()`` of the notebook.

    Raises:
        RuntimeError: nobody is grading this problem now.
    """
    exchange = _exchange
    if exchange is None or exchange.problem != problem:
        raise RuntimeError("marks are given by `mdtheory course grade`, not by running this cell")
    for number, call in enumerate(exchange.calls):
        arguments = [
            torch.from_numpy(exchange.inputs[f"{number}.{place}"].copy())
            if kind == "tensor"
            else exchange.inputs[f"{number}.{place}"].item()
            for place, kind in enumerate(call["arguments"])
        ]
        seed()
        header, body = _answer(namespace, call["function"], arguments, call["most"])
        exchange.deliver({"number": number, **header}, body)


def seed() -> None:
    """Seed all generators of this process: what draws at random is the same on a second grading."""
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


def _answer(
    namespace: Mapping[str, object], function: str, arguments: list[object], most: int
) -> tuple[dict[str, Any], bytes]:
    """Call one function once: an array's header and bytes, or a refusal."""
    student_function = namespace.get(function)
    if not callable(student_function):
        return _refuse("absent", "is not defined")
    try:
        value = student_function(*arguments)
    except NotImplementedError:
        return _refuse("unanswered", "is not written yet")
    except ForbiddenError as error:
        return _refuse("forbidden", str(error))
    except (Exception, SystemExit) as error:
        return _refuse("raised", f"raised {type(error).__name__}: {_words(error)}")
    try:
        array = to_array(value)
    except Exception as error:
        return _refuse("no array", f"returned a {type(value).__name__}: {_words(error)}")
    if array.nbytes > most:
        shape = "x".join(map(str, array.shape)) or "no axes"
        return _refuse("no array", f"returned an array that is far too large ({shape})")
    return {"dtype": array.dtype.str, "shape": list(array.shape)}, array.tobytes()


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _refuse(kind: str, reason: str) -> tuple[dict[str, Any], bytes]:
    return {"kind": kind, "reason": reason}, b""


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
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)  # NumPy's long double differs from machine to machine
    return np.ascontiguousarray(array).reshape(array.shape)


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
