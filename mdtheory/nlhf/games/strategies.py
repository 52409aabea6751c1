"""Pairs of strategies, as log-probabilities."""

from __future__ import annotations

from torch import Tensor

from mdtheory.checks import (
    require_same_kind,
    require_tensor,
    require_values,
    sum_tolerance,
    values_known,
)

Strategies = tuple[Tensor, Tensor]


def require_pair(name: str, value: object, like: Tensor) -> Strategies:
    """Refuse what is no pair of tensors of the dtype and device of another.

    Args:
        name: the argument's name, for the message.
        value: what came.
        like: the tensor whose dtype and device they must have.

    Returns:
        The pair.

    Raises:
        TypeError: no pair of floating-point tensors, or another dtype.
        ValueError: another device.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"{name}: expected the pair of both players' strategies, got {_kind(value)}"
        )
    for player, mine in enumerate(value):
        require_tensor(f"{name}[{player}]", mine)
        require_same_kind(f"{name}[{player}]", mine, "the payoff", like)
    return value[0], value[1]


def _kind(value: object) -> str:
    length = f" of length {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{length}"


def require_log_probabilities(name: str, value: Tensor) -> None:
    """Refuse what are no log-probabilities along the last axis.

    Args:
        name: the argument's name, for the message.
        value: what came, ``(..., n)``; ``-inf`` is the probability 0.

    Raises:
        ValueError: a NaN, or exponentials that do not sum to 1. If the entries themselves are
            probabilities, the message says so.
    """
    if not values_known(value):
        return
    tolerance = sum_tolerance(value)
    off = value.logsumexp(-1).abs()
    if bool((off <= tolerance).all()):  # written so that a NaN fails
        return
    require_values(name, value, ~value.isnan(), "log-probabilities")
    looks = bool((value >= 0).all()) and bool(((value.sum(-1) - 1).abs() <= tolerance).all())
    hint = "; these are probabilities: pass their logarithms, .log()" if looks else ""
    worst = value.flatten(0, -2)[off.flatten().argmax()] if value.ndim > 1 else value
    raise ValueError(
        f"{name}: expected log-probabilities whose exponentials sum to 1, got a sum of "
        f"{worst.exp().sum().item()!r}{hint}"
    )
