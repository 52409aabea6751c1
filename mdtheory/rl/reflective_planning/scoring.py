"""What a plan is worth: the arithmetic of NAVSIM's score, on the motion that the tracker makes.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_broadcast, require_tensor
from mdtheory.rl.reflective_planning.roads import Road, to_road
from mdtheory.rl.reflective_planning.scenes import EDGE, WIDTH, Scenes, motion_of_others
from mdtheory.rl.reflective_planning.tracking import PER_WAYPOINT, RATE, SMOOTHNESS, track

Agents = Literal["true", "constant_velocity"]
LOOKAHEAD = (0.3, 0.6, 0.9)  # seconds of constant velocity without a collision
# What passengers accept: least and largest acceleration along and across, jerk, jerk along.
BRAKE, PUSH, ASIDE, JERK, JERK_ALONG = -4.05, 2.40, 4.89, 8.37, 4.13
LEAST_PROGRESS = 2.0  # metres; below it progress is not compared


class Scores(NamedTuple):
    """Sub-scores of plans, each in [0, 1].

    Attributes:
        no_collision: 1 without a collision at fault, shape ``(...)``, as all but ``waypoint``.
        drivable: 1 if the car stays on the road.
        time_to_collision: 1 if nothing would be hit within 0.9 s at constant velocity.
        comfort: 1 if accelerations and jerks stay within bounds.
        progress: how far along the route, as a share of the best.
        total: ``eq-pdms``.
        waypoint: shape ``(..., N)``: 0 with a collision or off the road in the half second before
            it, 1/2 with too short a time to collision, else 1.
        travelled: metres along the route.
    """

    no_collision: Tensor
    drivable: Tensor
    time_to_collision: Tensor
    comfort: Tensor
    progress: Tensor
    total: Tensor
    waypoint: Tensor
    travelled: Tensor


Scorer = Callable[[Scenes, Tensor], Scores]


def pdms(
    no_collision: Tensor, drivable: Tensor, time_to_collision: Tensor, comfort: Tensor,
    progress: Tensor,
) -> Tensor:  # fmt: skip
    r"""The score of a plan from its parts, equation ``eq-pdms``.

    Two gates, times a mean in which time to collision and progress weigh 5 and comfort 2.

    Args:
        no_collision: in [0, 1], any shape.
        drivable: in [0, 1].
        time_to_collision: in [0, 1].
        comfort: in [0, 1].
        progress: in [0, 1].

    Returns:
        The score, in [0, 1], of the broadcast shape.

    Source:
        Dauner et al. (2024).
    """
    return no_collision * drivable * (5 * time_to_collision + 5 * progress + 2 * comfort) / 12


def planning_score(
    scene: Scenes,
    waypoints: Tensor,
    agents: Agents = "true",
    *,
    best: Tensor | None = None,
    smoothness: float = SMOOTHNESS,
) -> Scores:
    """Sub-scores and score of plans, on 41 points of the motion that follows them.

    Args:
        scene: batch that broadcasts with that of the plans; ``scene[:, None]`` scores many plans
            of each scene.
        waypoints: plans, m, shape ``(..., N, 2)``.
        agents: ``"true"``: the others do what they are about to do; ``"constant_velocity"``: they
            keep speed and lane, which is what a planner can know.
        best: metres that the best safe plan makes, for ``progress``, shape ``(...)``; without it,
            those of constant speed, which need no knowledge of the future.
        smoothness: weight of jerk in the tracker.

    Returns:
        The scores, of the broadcast batch.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: shapes that do not fit, or other agents.
    """
    if agents not in ("true", "constant_velocity"):
        raise ValueError(f"agents: expected 'true' or 'constant_velocity', got {agents!r}")
    if require_tensor("waypoints", waypoints, 1).shape[-1] != 2 or waypoints.ndim < 2:
        raise ValueError(f"waypoints: expected shape (..., N, 2), got {tuple(waypoints.shape)}")
    require_broadcast("waypoints", waypoints.shape[:-2], scene.batch, "the scenes")
    points = track(scene, waypoints, smoothness)
    time = RATE * torch.arange(points.shape[-2], dtype=points.dtype, device=points.device)
    road, left, others = _chosen_route(scene, points, time, hidden=agents == "true")
    place = to_road(Road(*(part[..., None] for part in road)), points)
    unhit, clear = _collisions(scene, place, others)
    half = WIDTH / 2
    across = place[..., 1:, 1]
    inside = (across - half >= EDGE) & (across + half <= left[..., None])
    pleasant = _comfort(points)
    travelled = place[..., -1, 0].clamp(min=0)
    usual = scene.velocity[..., 0] * time[-1] if best is None else best
    dtype = points.dtype
    safe, on_road, in_time = (part.all(-1).to(dtype) for part in (unhit, inside, clear))
    progress = (travelled / usual.clamp(min=LEAST_PROGRESS)).clamp(0, 1)
    windows = [part.unflatten(-1, (-1, PER_WAYPOINT)).all(-1) for part in (unhit & inside, clear)]
    waypoint = windows[0].to(dtype) * (1 + windows[1].to(dtype)) / 2
    total = pdms(safe, on_road, in_time, pleasant, progress)
    return Scores(safe, on_road, in_time, pleasant, progress, total, waypoint, travelled)


def _chosen_route(
    scene: Scenes, points: Tensor, time: Tensor, *, hidden: bool
) -> tuple[Road, Tensor, tuple[Tensor, ...]]:
    """The route that a motion ends nearest to, its left edge, and the others in its frame."""
    others = motion_of_others(scene, time, hidden=hidden)
    if scene.routes == 1:
        road = Road(*(part[..., 0] for part in scene.road))
        return road, scene.left[..., 0], tuple(part[..., 0, :, :] for part in others)
    off = to_road(scene.road, points[..., -1:, :])[..., 1].abs()
    route = off.argmin(-1, keepdim=True)

    def pick(part: Tensor, more: int) -> Tensor:
        index = route.reshape(route.shape + (1,) * more)
        at = part.ndim - 1 - more
        both = torch.broadcast_shapes(part.shape[:at], index.shape[:at])
        part = part.expand(*both, *part.shape[at:])
        return torch.take_along_dim(part, index.expand(*both, 1, *(1,) * more), at).squeeze(at)

    wide = torch.broadcast_shapes(scene.batch, points.shape[:-2])
    others = tuple(pick(part.expand(*_lead(part, wide, 3)), 2) for part in others)
    road = Road(*(pick(part.expand(*_lead(part, wide, 1)), 0) for part in scene.road))
    return road, pick(scene.left.expand(*_lead(scene.left, wide, 1)), 0), others


def _lead(part: Tensor, batch: tuple[int, ...], more: int) -> tuple[int, ...]:
    return (*batch, *part.shape[part.ndim - more :])


def _collisions(scene: Scenes, place: Tensor, others: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Which samples are free of collisions at fault, and which have time to the next one."""
    s, left, forward, aside, near_along, near_across = (part[..., 1:, :] for part in others)
    own = (place[..., 1:, :] - place[..., :-1, :]) / RATE
    vs, vl = own[..., 0:1], own[..., 1:2]
    ahead, over = s - place[..., 1:, 0:1], left - place[..., 1:, 1:2]
    there = scene.present[..., None, :] > 0
    along, across = forward - vs, aside - vl

    def touch(after: float) -> Tensor:
        return (
            ((ahead + after * along).abs() < near_along)
            & ((over + after * across).abs() < near_across)
            & there
        )

    behind, now = ahead < 0, touch(0.0)
    # A car that comes from behind, faster, has the fault, also for what follows.
    blamed = (now & behind & (along > 0)).cummax(-2).values
    hit = (now & ~blamed).any(-1)
    soon = torch.stack([touch(after) for after in LOOKAHEAD]).any(0) & ~behind & ~blamed
    return ~hit, ~soon.any(-1)


def _comfort(points: Tensor) -> Tensor:
    """1 where accelerations and jerks of the motion stay within bounds."""
    velocity = points.diff(dim=-2) / RATE
    push = velocity.diff(dim=-2) / RATE
    speed = velocity[..., 1:, :].norm(dim=-1, keepdim=True).clamp(min=0.5)
    unit = velocity[..., 1:, :] / speed
    along = (push * unit).sum(-1)
    across = push[..., 0] * unit[..., 1] - push[..., 1] * unit[..., 0]
    jerk = push.diff(dim=-2).norm(dim=-1) / RATE
    rate = along.diff(dim=-1).abs() / RATE
    return (
        ((along >= BRAKE) & (along <= PUSH) & (across.abs() <= ASIDE)).all(-1)
        & ((jerk <= JERK) & (rate <= JERK_ALONG)).all(-1)
    ).to(points.dtype)
