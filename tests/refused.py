"""Statements about two sides, and the mutants that they must refuse."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from mdtheory.runs import check_bound, check_identity

# A bound within this factor of what it bounds is tight; scaling it by more proves only slack.
TIGHT = 3.0
ONE = (1.0,)


def at_most(
    left: Tensor, right: Tensor, terms: Sequence[Tensor | float] = ONE, *, tolerance: float = 1e-11
) -> None:
    """``left <= right`` up to rounding of the largest of both sides and of the terms.

    Args:
        left: the side that must be the smaller.
        right: the bound, of a shape that broadcasts.
        terms: what was added up on the way; ``()`` makes the comparison purely relative.
        tolerance: rounding allowed, relative to the largest.
    """
    left, right = torch.broadcast_tensors(left, right)
    excess = left - right - tolerance * _scale(left, right, terms)
    assert ((left <= right) | (excess <= 0)).all(), f"exceeded by {(left - right).max().item():.2e}"


def close(
    left: Tensor, right: Tensor, terms: Sequence[Tensor | float] = ONE, *, tolerance: float = 1e-11
) -> None:
    """``left == right`` up to rounding; arguments as in :func:`at_most`."""
    left, right = torch.broadcast_tensors(left, right)
    error = (left - right).abs() / _scale(left, right, terms)
    error = torch.where(left == right, torch.zeros_like(error), error)
    assert (error <= tolerance).all(), f"largest relative difference {error.max().item():.2e}"


def bound(label: str) -> Callable[..., float]:
    """``check_bound`` of a label, as a check for :func:`fails`."""
    return lambda left, right, **more: check_bound(label, left, _like(right, left), **more)


def identity(label: str) -> Callable[..., float]:
    """``check_identity`` of a label, as a check for :func:`fails`."""
    return lambda left, right, **more: check_identity(label, left, _like(right, left), **more)


def fails(
    check: Callable[..., object],
    *mutant: object,
    true: Sequence[object],
    scaled: str = "",
    **options: object,
) -> None:
    """The check refuses the mutant, and holds for the true statement on the very same instances.

    Args:
        check: raises ``AssertionError`` where a statement is broken: :func:`at_most`,
            :func:`close`, ``bound("thm-...")``, ``identity("prop-...")`` or one of the test's own.
        *mutant: its arguments with the mutation in them.
        true: its arguments without.
        scaled: why a right side that is merely multiplied by a number, below a third or above
            three, is a mutation all the same; without a reason it is refused, for it would only
            measure how loose the bound is.
        **options: for both calls, such as ``tolerance``.
    """
    check(*true, **options)
    mine, theirs = _tensors(mutant), _tensors(true)
    assert len(mutant) == len(true), "the mutant has other arguments than the statement"
    assert [m.shape for m in mine] == [t.shape for t in theirs], "other instances"
    assert scaled or not _only_scaled(mine, theirs), "the mutant only multiplies a side"
    with pytest.raises(AssertionError):
        check(*mutant, **options)


def breaks(label: str, left: Tensor, right: Tensor | float) -> bool:
    """Whether ``check_bound`` refuses the pair of sides."""
    try:
        check_bound(label, left, _like(right, left))
    except AssertionError:
        return True
    return False


def differ(label: str, left: Tensor, right: Tensor, tolerance: float = 1e-9) -> bool:
    """Whether ``check_identity`` refuses the pair of sides."""
    try:
        check_identity(label, left, right, tolerance=tolerance)
    except AssertionError:
        return True
    return False


def _like(right: Tensor | float, left: Tensor) -> Tensor:
    return torch.as_tensor(right, dtype=left.dtype, device=left.device)


def _scale(left: Tensor, right: Tensor, terms: Sequence[Tensor | float]) -> Tensor:
    sizes = [_like(t, left).abs().broadcast_to(left.shape) for t in (left, right, *terms)]
    return torch.stack(sizes).amax(0).clamp(min=torch.finfo(left.dtype).tiny)


def _tensors(arguments: Sequence[object]) -> list[Tensor]:
    return [a for a in arguments if isinstance(a, Tensor)]


def _only_scaled(mutant: list[Tensor], true: list[Tensor]) -> bool:
    """Whether of two sides the right one is the true one times a number far from 1."""
    if len(true) < 2 or not torch.equal(mutant[0], true[0]):
        return False
    m, t = mutant[1].double().flatten(), true[1].double().flatten()
    if len(m) < 2 or not bool((t != 0).all()):  # one instance does not tell
        return False
    factors = (m / t).abs()
    alike = bool((factors - factors[0]).abs().max() <= 1e-9 * factors[0])
    return alike and not 1 / TIGHT <= float(factors[0]) <= TIGHT
