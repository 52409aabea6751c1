"""Driving in closed loop: plan, follow the plan for half a second, look again.

The others react: they follow who is ahead of them by the intelligent driver model, and brake, speed
up or cut in as they intend. The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count
from mdtheory.rl.reflective_planning.roads import Road, heading, to_road
from mdtheory.rl.reflective_planning.scenes import EDGE, LENGTH, WIDTH, Scenes
from mdtheory.rl.reflective_planning.scoring import ASIDE, BRAKE, JERK, PUSH
from mdtheory.rl.reflective_planning.tracking import (
    PER_WAYPOINT,
    RATE,
    SMOOTHNESS,
    WAYPOINTS,
    tracking_matrices,
)

# The intelligent driver model: acceleration and comfortable braking, gap at rest, time gap.
ACCELERATION, BRAKING, GAP, HEADWAY, HARDEST = 1.5, 2.0, 2.0, 1.2, 6.0
LANE = 2.0  # metres of lateral distance within which a car is ahead of another


class Drive(NamedTuple):
    """What came of driving, for each scene.

    Attributes:
        crashed: whether there was a collision at fault.
        left_road: whether the car left the road.
        comfort: share of the time in which acceleration and jerk were within bounds.
        travelled: metres along the road.
        path: places (s, l) at 10 Hz, shape ``(..., 10 seconds + 1, 2)``.
    """

    crashed: Tensor
    left_road: Tensor
    comfort: Tensor
    travelled: Tensor
    path: Tensor


def drive(
    planner: Callable[[Scenes], Tensor],
    scene: Scenes,
    replans: int = 16,
    smoothness: float = SMOOTHNESS,
) -> Drive:
    """Drive by a planner that looks again every half second.

    After each half second the world is the same road, seen from beside the car's new place: on a
    road of constant curvature nothing else has changed.

    Args:
        planner: takes scenes and returns waypoints, m, shape ``(B, 8, 2)``.
        scene: batch ``(B,)``, one route of constant curvature.
        replans: number of half seconds.
        smoothness: weight of jerk in the tracker.

    Returns:
        What came of it, batch ``(B,)``.

    Raises:
        TypeError: a number that is not whole.
        ValueError: no half second, an intersection, or more than one batch axis.
    """
    require_count("replans", replans)
    if scene.routes != 1 or len(scene.batch) != 1:
        raise ValueError(
            f"scene: expected one route and a batch with one axis, got {scene.routes} routes and "
            f"the batch {scene.batch}"
        )
    flags = torch.zeros(scene.batch, dtype=torch.bool, device=scene.offset.device)
    crashed, left_road, good = flags, flags, torch.zeros_like(scene.offset)
    blamed = torch.zeros_like(scene.present, dtype=torch.bool)
    travelled, clock = torch.zeros_like(scene.offset), 0.0
    path = [torch.stack([travelled, scene.offset], -1)]
    wish, start = scene.speed, scene.across
    matrices = tracking_matrices(smoothness, WAYPOINTS, scene.offset.dtype)
    for _ in range(replans):
        points, last, jerk = _follow(scene, planner(scene), matrices)
        places = to_road(Road(*(part[..., 0, None] for part in scene.road)), points)
        for tick in range(PER_WAYPOINT):
            clock += RATE
            own, before = places[:, tick + 1], places[:, tick]
            scene = _react(scene, before, own, wish, start, clock)
            hit, blamed = _hit(scene, before, own, blamed)
            crashed = crashed | hit
            side = own[:, 1]
            left_road = left_road | (side - WIDTH / 2 < EDGE) | (
                side + WIDTH / 2 > scene.left[..., 0]
            )  # fmt: skip
            path.append(torch.stack([travelled + own[:, 0], side], -1))
        good = good + (jerk <= JERK).all(-1) * _easy(last)
        travelled = travelled + places[:, PER_WAYPOINT, 0]
        scene = _beside(scene, places[:, PER_WAYPOINT], last)
    return Drive(crashed, left_road, good / replans, travelled, torch.stack(path, -2))


def _follow(
    scene: Scenes, plan: Tensor, matrices: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Half a second of the tracker: points, the state at its end, and the size of the jerk."""
    where = torch.stack([torch.zeros_like(scene.offset), scene.offset], -1)
    begin = torch.stack([where, scene.velocity, scene.acceleration], -2)
    points = matrices[0].to(plan) @ begin + matrices[1].to(plan) @ plan
    # Jerk is constant within a tenth: third differences of the free and the pushed motion.
    h, state, states, jerks = RATE, begin, [begin], []
    for tick in range(PER_WAYPOINT):
        p, v, a = state.unbind(-2)
        jerk = 6 * (points[..., tick + 1, :] - p - h * v - h * h / 2 * a) / h**3
        state = torch.stack(
            [points[..., tick + 1, :], v + h * a + h * h / 2 * jerk, a + h * jerk], -2
        )  # fmt: skip
        states.append(state)
        jerks.append(jerk.norm(dim=-1))
    return points[..., : PER_WAYPOINT + 1, :], states[-1], torch.stack(jerks, -1)


def _easy(state: Tensor) -> Tensor:
    """Whether the acceleration at the end of a half second is within bounds."""
    _, v, a = state.unbind(-2)
    unit = v / v.norm(dim=-1, keepdim=True).clamp(min=0.5)
    along = (a * unit).sum(-1)
    across = a[..., 0] * unit[..., 1] - a[..., 1] * unit[..., 0]
    return (along >= BRAKE) & (along <= PUSH) & (across.abs() <= ASIDE)


def _react(
    scene: Scenes, before: Tensor, own: Tensor, wish: Tensor, start: Tensor, clock: float
) -> Scenes:  # fmt: skip
    """A tenth of a second of the others."""
    speed = (own - before)[:, 0] / RATE
    s = torch.cat([scene.along, own[:, :1]], -1)
    side = torch.cat([scene.across, own[:, 1:]], -1)
    v = torch.cat([scene.speed, speed[:, None]], -1)
    there = torch.cat([scene.present, torch.ones_like(speed)[:, None]], -1) > 0
    ahead = s[:, None, :] - scene.along[:, :, None]
    lane = (side[:, None, :] - scene.across[:, :, None]).abs() < LANE
    gap = torch.where((ahead > 0) & lane & there[:, None, :], ahead - LENGTH, torch.inf)
    near, leader = gap.min(-1)
    slower = scene.speed - v.gather(1, leader)
    wanted = GAP + scene.speed * HEADWAY + scene.speed * slower / (
        2 * (ACCELERATION * BRAKING) ** 0.5
    )  # fmt: skip
    free = (scene.speed / (wish + scene.intent.clamp(min=0) * 4).clamp(min=0.5)) ** 4
    push = ACCELERATION * (1 - free - (wanted.clamp(min=0) / near.clamp(min=0.5)) ** 2)
    push = torch.where(scene.intent < 0, torch.minimum(push, scene.intent), push)
    push = push.clamp(-HARDEST, ACCELERATION)
    after = (scene.speed + RATE * push).clamp(min=0)
    u = min(clock / 3, 1.0)
    swerve = scene.cut_in * (10 * u**3 - 15 * u**4 + 6 * u**5)
    return scene.replace(
        along=scene.along + RATE * (scene.speed + after) / 2, speed=after,
        across=start * (1 - swerve),
    )  # fmt: skip


def _hit(scene: Scenes, before: Tensor, own: Tensor, blamed: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the car touches another one by its own fault, and who has run into it from behind."""
    speed = ((own - before)[:, 0] / RATE)[:, None]
    ahead, over = scene.along - own[:, :1], scene.across - own[:, 1:]
    touch = (ahead.abs() < LENGTH) & (over.abs() < WIDTH) & (scene.present > 0)
    blamed = blamed | (touch & (ahead < 0) & (scene.speed > speed))
    return (touch & ~blamed).any(-1), blamed


def _beside(scene: Scenes, place: Tensor, state: Tensor) -> Scenes:
    """The world in the frame of the road beside the car."""
    turned = heading(Road(*(part[..., 0] for part in scene.road)), place[:, 0])
    cosine, sine = turned.cos()[:, None], turned.sin()[:, None]

    def turn(vector: Tensor) -> Tensor:
        x, y = vector[:, :1], vector[:, 1:]
        return torch.cat([x * cosine + y * sine, y * cosine - x * sine], -1)

    return scene.replace(
        offset=place[:, 1], velocity=turn(state[:, 1]), acceleration=turn(state[:, 2]),
        along=scene.along - place[:, :1],
    )  # fmt: skip
