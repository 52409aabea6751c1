"""How far a trajectory is from a demonstration: state by state, or set by set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_same_kind,
    require_scale,
    require_tensor,
)

EXACT = "donot_use_mm_for_euclid_dist"


class Assignment(NamedTuple):
    """Who is nearest to whom.

    Attributes:
        goal: for each visited state the nearest shown one, int64, ``(..., H)``.
        visit: for each shown state the nearest visited one, int64, ``(..., U)``.
    """

    goal: Tensor
    visit: Tensor


def state_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Root mean square of the difference over the coordinates, ``eq-state-distance``.

    Its gradient at 0, where there is none, is taken to be 0.

    Args:
        x: shape ``(..., k)``.
        y: shape ``(..., k)``, broadcasting.

    Returns:
        Distances, shape ``(...)``.
    """
    square = (x - y).square().mean(-1)
    some = square > 0
    return torch.where(some, torch.where(some, square, 1.0).sqrt(), 0.0)


def assign(states: Tensor, demonstration: Tensor) -> Assignment:
    """Nearest neighbours both ways, without a graph; of several the first.

    Args:
        states: shape ``(..., H, k)``.
        demonstration: shape ``(..., U, k)``, broadcasting.

    Returns:
        The assignment.

    Raises:
        TypeError: tensors of different kinds.
        ValueError: shapes that do not fit.
    """
    _require_pair(states, demonstration)
    return _assigned(states, demonstration)


def _assigned(states: Tensor, demonstration: Tensor) -> Assignment:
    with torch.no_grad():
        batch = torch.broadcast_shapes(states.shape[:-2], demonstration.shape[:-2])
        apart = torch.cdist(
            states.expand(*batch, *states.shape[-2:]),
            demonstration.expand(*batch, *demonstration.shape[-2:]),
            compute_mode=EXACT,
        )
        return Assignment(apart.argmin(-1), apart.argmin(-2))


def assigned_terms(
    states: Tensor, demonstration: Tensor, assignment: Assignment
) -> tuple[Tensor, Tensor]:
    """Deviation and coverage with the assignment held fixed, ``eq-chamfer-surrogate``.

    Args:
        states: shape ``(..., H, k)``.
        demonstration: shape ``(..., U, k)``, broadcasting.
        assignment: as :func:`assign` returns it, of these or of other states.

    Returns:
        Deviation and coverage, shape ``(...)`` each.
    """
    goals, visits = assignment
    batch = goals.shape[:-1]
    deviation = state_distance(states, _rows(demonstration, goals, batch)).mean(-1)
    coverage = state_distance(_rows(states, visits, batch), demonstration).mean(-1)
    return deviation, coverage


def _rows(points: Tensor, index: Tensor, batch: torch.Size) -> Tensor:
    width = points.shape[-1]
    whole = points.expand(*batch, *points.shape[-2:])
    return whole.gather(-2, index[..., None].expand(*index.shape, width))


def chamfer_terms(states: Tensor, demonstration: Tensor) -> tuple[Tensor, Tensor]:
    """Deviation and coverage, ``eq-deviation`` and ``eq-coverage``.

    Neighbours are found without a graph and only the chosen pairs are differentiated, which gives
    the same gradient (``thm-chamfer-surrogate``) for a fraction of the work.

    Args:
        states: shape ``(..., H, k)``.
        demonstration: shape ``(..., U, k)``, broadcasting.

    Returns:
        Deviation and coverage, shape ``(...)`` each.

    Raises:
        TypeError: tensors of different kinds.
        ValueError: shapes that do not fit.
    """
    _require_pair(states, demonstration)
    return assigned_terms(states, demonstration, _assigned(states, demonstration))


def chamfer_loss(states: Tensor, demonstration: Tensor, alpha: float | Tensor = 1.0) -> Tensor:
    r"""Chamfer distance of two sets of states, ``eq-chamfer``: :math:`\alpha` deviation + coverage.

    Args:
        states: visited, in the coordinates that matter, shape ``(..., H, k)``.
        demonstration: shown, shape ``(..., U, k)``, broadcasting; U may differ from H.
        alpha: weight of the deviation, not negative, a number or one for each trajectory.

    Returns:
        Losses, shape ``(...)``: leading axes are kept.

    Raises:
        TypeError: tensors of different kinds.
        ValueError: shapes that do not fit, or a negative weight.
    """
    batch = _require_pair(states, demonstration)
    weight = require_scale("alpha", alpha, states, batch, widens=False)
    deviation, coverage = assigned_terms(states, demonstration, _assigned(states, demonstration))
    return weight * deviation + coverage


def chamfer_surrogate(
    states: Tensor, demonstration: Tensor, assignment: Assignment, alpha: float | Tensor = 1.0
) -> Tensor:
    """The majoriser of :func:`chamfer_loss` that keeps an assignment, ``eq-chamfer-surrogate``.

    Args:
        states: shape ``(..., H, k)``.
        demonstration: shape ``(..., U, k)``, broadcasting.
        assignment: of the states at which it touches the loss.
        alpha: weight of the deviation, not negative.

    Returns:
        Values, shape ``(...)``.

    Raises:
        TypeError: tensors of different kinds.
        ValueError: shapes that do not fit, or a negative weight.
    """
    batch = _require_pair(states, demonstration)
    weight = require_scale("alpha", alpha, states, batch, widens=False)
    deviation, coverage = assigned_terms(states, demonstration, assignment)
    return weight * deviation + coverage


def state_matching_loss(states: Tensor, demonstration: Tensor) -> Tensor:
    """Mean distance of each state from the one shown at the same time, ``eq-matching``.

    Args:
        states: shape ``(..., H, k)``.
        demonstration: shape ``(..., H, k)``, broadcasting.

    Returns:
        Losses, shape ``(...)``.

    Raises:
        TypeError: tensors of different kinds.
        ValueError: shapes that do not fit; the two must be equally long.
    """
    _require_pair(states, demonstration)
    if states.shape[-2] != demonstration.shape[-2]:
        raise ValueError(
            f"demonstration: expected {states.shape[-2]} states, got {demonstration.shape[-2]}"
        )
    return state_distance(states, demonstration).mean(-1)


def _require_pair(states: Tensor, demonstration: Tensor) -> tuple[int, ...]:
    """Two trajectories of the same coordinates; the shape of their batch."""
    for name, value in (("states", states), ("demonstration", demonstration)):
        require_tensor(name, value)
        if value.ndim < 2 or value.shape[-2] == 0:
            raise ValueError(f"{name}: expected shape (..., steps, k), got {tuple(value.shape)}")
    require_same_kind("demonstration", demonstration, "states", states)
    if states.shape[-1] != demonstration.shape[-1]:
        raise ValueError(
            f"demonstration: expected {states.shape[-1]} coordinates, got {demonstration.shape[-1]}"
        )
    return require_broadcast("demonstration", demonstration.shape[:-2], states.shape[:-2])
