"""From waypoints to motion: linear-quadratic tracking with preview, one matrix for all scenes.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mdtheory.checks import require_number, require_tensor
from mdtheory.rl.reflective_planning.scenes import Scenes

WAYPOINTS, SPACING, RATE = 8, 0.5, 0.1  # a plan: 4 s in steps of half a second, driven at 10 Hz
SAMPLES = round(WAYPOINTS * SPACING / RATE) + 1
PER_WAYPOINT = round(SPACING / RATE)
# The weight of jerk. What the expert shows and what a plan is worth are measured with the same.
SMOOTHNESS = 0.064


def tracking_matrices(
    smoothness: float, waypoints: int = WAYPOINTS, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    r"""The law of the tracker: positions are linear in the start and in the waypoints.

    Equation ``eq-tracker``: among motions with constant jerk in each tenth of a second the one that
    minimises :math:`\sum_k |p(t_k) - w_k|^2 + \frac r{10}\sum_t |j_t|^2`.

    Args:
        smoothness: :math:`r > 0`, the weight of jerk.
        waypoints: how many.
        dtype: of the results.

    Returns:
        ``(5 waypoints + 1, 3)`` for position, velocity and acceleration at the start, and
        ``(5 waypoints + 1, waypoints)`` for the waypoints.

    Raises:
        ValueError: the weight is not positive: without it the jerk is not unique.
    """
    require_number("smoothness", smoothness, 0.0, strict=True)
    start, goal = _matrices(float(smoothness), waypoints)
    return start.to(dtype), goal.to(dtype)


@functools.lru_cache(maxsize=32)
def _matrices(smoothness: float, waypoints: int) -> tuple[Tensor, Tensor]:
    steps = waypoints * PER_WAYPOINT
    time = RATE * torch.arange(steps + 1, dtype=torch.float64)
    free = torch.stack([torch.ones_like(time), time, time**2 / 2], -1)
    # Jerk j for a tenth of a second, seen t - j tenths later: a difference of cubes.
    since = (time[:, None] - time[None, :-1]).clamp(min=0)
    pushed = (since**3 - (since - RATE).clamp(min=0) ** 3) / 6
    at = torch.arange(PER_WAYPOINT, steps + 1, PER_WAYPOINT)
    seen = pushed[at]
    system = seen.T @ seen + smoothness / 10 * torch.eye(steps, dtype=torch.float64)
    gain = torch.linalg.solve(system, seen.T)
    return free - pushed @ gain @ free[at], pushed @ gain


def track(scene: Scenes, waypoints: Tensor, smoothness: float = SMOOTHNESS) -> Tensor:
    """What the car does that is to follow a plan, equation ``eq-tracker``; differentiable.

    Args:
        scene: where the car starts and how it moves, batch ``(...)``.
        waypoints: plans (x, y), m, shape ``(..., N, 2)``, one waypoint each half second.
        smoothness: weight of jerk, above 0.

    Returns:
        Positions at 10 Hz, the start first, shape ``(..., 5 N + 1, 2)``.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: a last axis other than 2, or a weight that is not positive.
    """
    if require_tensor("waypoints", waypoints, 1).shape[-1] != 2 or waypoints.ndim < 2:
        raise ValueError(f"waypoints: expected shape (..., N, 2), got {tuple(waypoints.shape)}")
    start, goal = tracking_matrices(smoothness, waypoints.shape[-2], waypoints.dtype)
    where = torch.stack([torch.zeros_like(scene.offset), scene.offset], -1)
    begin = torch.stack([where, scene.velocity, scene.acceleration], -2)
    return start.to(waypoints.device) @ begin + goal.to(waypoints.device) @ waypoints
