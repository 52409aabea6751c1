"""Checks of arguments where they enter the library.

Each check raises ``TypeError`` or ``ValueError`` naming the argument, what was expected and what
came; none repairs anything. Checks of shapes and types always run. Checks of *values* are skipped
where tensors have none: under fake tensors, compilation, CUDA graph capture and ``vmap``.

A number is a Python or a NumPy one; an array of NumPy is neither a number nor a tensor.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from numbers import Integral, Real
from types import ModuleType

import torch
from torch import Tensor
from torch._C import _functorch
from torch._subclasses.fake_tensor import FakeTensor


def values_known(*tensors: Tensor) -> bool:
    """Whether the entries of the tensors can be read here without breaking a trace.

    Args:
        *tensors: tensors of any shape.

    Returns:
        False under fake tensors, ``torch.compile``, CUDA graph capture and ``torch.func.vmap``.
    """
    if torch.compiler.is_compiling() or any(isinstance(t, FakeTensor) for t in tensors):
        return False
    if _functorch.peek_interpreter_stack() is not None and any(map(_mapped, tensors)):
        return False
    return not (any(t.is_cuda for t in tensors) and torch.cuda.is_current_stream_capturing())


def require_tensor(name: str, value: object, event_dims: int = 1) -> Tensor:
    """A floating-point tensor with at least ``event_dims`` axes, the last ones not empty.

    Args:
        name: the argument's name, for the message.
        value: what came.
        event_dims: number of trailing axes of one point: 1 for vectors, 2 for matrices
            (then the last two must agree).

    Returns:
        ``value`` itself.

    Raises:
        TypeError: not a tensor, or not of a real floating-point type.
        ValueError: too few axes, an empty trailing axis, or a matrix that is not square.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")
    trailing = value.shape[value.ndim - event_dims :]
    if value.ndim < event_dims or 0 in trailing:
        form = "(..., d)" if event_dims == 1 else "(..., d, d)"
        raise ValueError(f"{name}: expected shape {form} with d >= 1, got {tuple(value.shape)}")
    if event_dims == 2 and trailing[0] != trailing[1]:
        raise ValueError(f"{name}: expected square matrices, got shape {tuple(value.shape)}")
    return value


def require_integers(name: str, value: object) -> Tensor:
    """A tensor of integers (int64), such as indices or labels.

    Raises:
        TypeError: no tensor, or of another type.
    """
    return _of_type(name, value, torch.int64, "integers (int64)")


def require_truths(name: str, value: object) -> Tensor:
    """A tensor of truth values.

    Raises:
        TypeError: no tensor, or of another type.
    """
    return _of_type(name, value, torch.bool, "truth values (bool)")


def require_same_kind(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Two tensors of one dtype on one device: nothing is moved or cast silently.

    Raises:
        TypeError: the dtypes differ.
        ValueError: the devices differ.
    """
    if value.dtype != other.dtype:
        raise TypeError(f"{name}: expected {other.dtype} like {other_name}, got {value.dtype}")
    if value.device != other.device:
        raise ValueError(
            f"{name}: expected device {other.device} like {other_name}, got {value.device}"
        )


def require_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """A tensor of exactly this shape.

    Raises:
        ValueError: the shape is another.
    """
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(value.shape)}")


def require_broadcastable(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Two tensors whose shapes broadcast.

    Raises:
        ValueError: they do not.
    """
    require_broadcast(name, value.shape, other.shape, other_name)


def require_broadcast(
    name: str,
    shape: Sequence[int],
    batch: Sequence[int],
    words: str = "the batch",
    *,
    widens: bool = True,
) -> tuple[int, ...]:
    """A shape that broadcasts with that of the batch.

    Args:
        name: the argument's name, for the message.
        shape: its shape, or that of its leading axes.
        batch: the batch that it meets.
        words: what the batch is, for the message.
        widens: whether the argument may add to the batch; if not, it must broadcast *to* it.

    Returns:
        The shape of both together.

    Raises:
        ValueError: the shapes do not broadcast, or the batch would grow and must not.
    """
    try:
        both = tuple(torch.broadcast_shapes(tuple(shape), tuple(batch)))
    except RuntimeError:
        both = None
    if both is None or not (widens or both == tuple(batch)):
        raise ValueError(
            f"{name}: expected a shape that broadcasts {'with' if widens else 'to'} {words} "
            f"{tuple(batch)}, got {tuple(shape)}"
        )
    return both


def require_values(name: str, value: Tensor, valid: Tensor, expected: str) -> None:
    """Every entry of ``valid`` is true; skipped where values are not known.

    Args:
        name: the argument's name, for the message.
        value: the argument; the message quotes its first offending entry where shapes agree.
        valid: truth values, of the shape of ``value`` or of its batch.
        expected: what was expected, in words.

    Raises:
        ValueError: some entry of ``valid`` is false.
    """
    if not values_known(value, valid) or bool(valid.all()):
        return
    came = ""
    if valid.shape == value.shape:
        came = f", got {value[~valid].flatten()[0].item()!r}"
    raise ValueError(f"{name}: expected {expected}{came}")


def require_finite(name: str, value: Tensor) -> None:
    """No NaN and no infinity.

    Raises:
        ValueError: there is one.
    """
    # One pass without a mask: a sum is finite only if every entry is.
    if values_known(value) and bool(value.sum().isfinite()):
        return
    require_values(name, value, value.isfinite(), "finite values")


def require_number(
    name: str,
    value: float,
    minimum: float = -math.inf,
    *,
    maximum: float = math.inf,
    strict: bool = False,
    infinite: bool = False,
) -> float:
    """A number, Python's or NumPy's, finite and in a range.

    Args:
        name: the argument's name, for the message.
        value: what came.
        minimum: the least that it may be.
        maximum: the most that it may be.
        strict: whether it must lie above ``minimum``.
        infinite: whether infinity is allowed.

    Returns:
        The number as a ``float``.

    Raises:
        TypeError: not a real number.
        ValueError: a NaN, an infinity that is not allowed, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # a whole number too large to be one of these is not infinite
        number, infinite = math.inf if value > 0 else -math.inf, False
    allowed = math.isfinite(number) or (infinite and number > 0)
    if not (allowed and minimum <= number <= maximum) or (strict and number == minimum):
        words = _range("number", minimum, maximum, strict, infinite)
        raise ValueError(f"{name}: expected a {words}, got {number!r}")
    return number


def require_scale(
    name: str,
    value: float | Tensor,
    like: Tensor,
    batch: Sequence[int] | None = None,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    strict: bool = False,
    infinite: bool = False,
    widens: bool = True,
    trailing: int = 0,
) -> float | Tensor:
    """A number, or a tensor with one for each instance of a batch, in a range: a step size, say.

    Args:
        name: the argument's name, for the message.
        value: what came.
        like: a tensor whose dtype and device a tensor must have.
        batch: the shape with which a tensor must broadcast, or ``None`` for any shape.
        minimum: the least that an entry may be.
        maximum: the most that an entry may be.
        strict: whether entries must lie above ``minimum``.
        infinite: whether infinity is allowed.
        widens: whether a tensor may have more axes, or longer ones, than ``batch``.
        trailing: axes of length 1 that a tensor is given at its end, so that it meets points.

    Returns:
        A ``float``, or the tensor, ready to meet points; a tensor without axes stays as it is.

    Raises:
        TypeError: neither a number nor a tensor, or a tensor of another dtype.
        ValueError: another device, a shape that does not broadcast, a NaN, or out of range.
    """
    if not isinstance(value, Tensor):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(
                f"{name}: expected a number or a torch.Tensor, got {type(value).__name__}"
            )
        return require_number(
            name, value, minimum, maximum=maximum, strict=strict, infinite=infinite
        )
    if value.dtype != like.dtype or value.device != like.device:
        require_same_kind(name, value, "the other arguments", like)
    if batch is not None:
        require_broadcast(name, value.shape, batch, widens=widens)
    valid = value > minimum if strict else value >= minimum
    if maximum < math.inf:
        valid = valid & (value <= maximum)
    if not infinite:
        valid = valid & value.isfinite()
    require_values(name, value, valid, _range("numbers", minimum, maximum, strict, infinite))
    return value.reshape(value.shape + (1,) * trailing) if trailing and value.ndim else value


def require_count(name: str, value: int, minimum: int = 1) -> int:
    """A whole number, at least ``minimum``.

    Raises:
        TypeError: not an ``int``.
        ValueError: too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name}: expected a whole number >= {minimum}, got {value!r}")
    return int(value)


def sum_tolerance(value: Tensor) -> float:
    """How far the sum of ``d`` probabilities may lie from 1: ``d * sqrt(eps)``, at most 1 %.

    Without the cap float32 would let every vector pass from a few thousand entries on.
    """
    return float(min(value.shape[-1] * math.sqrt(torch.finfo(value.dtype).eps), 0.01))


def require_simplex(name: str, value: Tensor, *, positive: bool = False) -> None:
    """Points of the probability simplex along the last axis.

    Args:
        name: the argument's name, for the message.
        value: shape ``(..., d)``.
        positive: ask for strictly positive entries.

    Raises:
        ValueError: a negative entry (or a zero, if ``positive``), a NaN, or a sum further from 1
            than ``d * sqrt(eps)``.
    """
    if not values_known(value):
        return
    bound = "positive" if positive else "nonnegative"
    valid = value > 0 if positive else value >= 0
    require_values(name, value, valid, f"{bound} probabilities")
    total = value.sum(-1)
    off = (total - 1).abs()
    # Written so that a NaN fails.
    if not bool((off <= sum_tolerance(value)).all()):
        raise ValueError(
            f"{name}: expected probabilities that sum to 1, got a sum of "
            f"{total.flatten()[off.argmax()].item()!r}"
        )


def require_extra(module: str, extra: str) -> ModuleType:
    """An optional dependency, imported when it is first needed.

    Args:
        module: the module to import, such as ``"cvxpy"``.
        extra: the extra of ``pyproject.toml`` that brings it.

    Returns:
        The imported module.

    Raises:
        ImportError: it is not installed; the message says which extra to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ImportError(
            f"{module} is not installed; install it with: pip install 'mdtheory[{extra}]'"
        ) from error


def _of_type(name: str, value: object, dtype: torch.dtype, words: str) -> Tensor:
    if isinstance(value, Tensor) and value.dtype == dtype:
        return value
    came = value.dtype if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(f"{name}: expected a tensor of {words}, got {came}")


def _range(what: str, minimum: float, maximum: float, strict: bool, infinite: bool) -> str:
    """A range in words, such as ``finite number > 0``."""
    if maximum < math.inf:
        return f"{what} in {'(' if strict else '['}{minimum:g}, {maximum:g}]"
    finite = "" if infinite else "finite "
    return f"{finite}{what} {'>' if strict else '>='} {minimum:g}"


def _mapped(value: Tensor) -> bool:
    """Whether ``torch.func.vmap`` hides an axis of the tensor, at any level of nesting."""
    while _functorch.is_functorch_wrapped_tensor(value):
        if _functorch.is_batchedtensor(value):
            return True
        value = _functorch.get_unwrapped(value)
    return False
