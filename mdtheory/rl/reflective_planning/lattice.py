"""A lattice of plans: the expert that shows how to drive, and a planner of rules.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_number
from mdtheory.rl.reflective_planning.roads import Road, to_plane
from mdtheory.rl.reflective_planning.scenes import Scenes
from mdtheory.rl.reflective_planning.scoring import LEAST_PROGRESS, Agents, planning_score
from mdtheory.rl.reflective_planning.tracking import SMOOTHNESS, SPACING, WAYPOINTS

LANES = (0.0, 3.5, 1.2, -0.4)  # metres left of the centre line
CHANGES = (2.0, 3.5)  # seconds that a change of lanes takes
SPEEDS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.2)  # speed after 4 s, as a share of the present one
CHUNK = 500  # scenes at once: 48 plans of each, on 41 points


class Shown(NamedTuple):
    """Plans of the lattice that were chosen.

    Attributes:
        waypoints: m, shape ``(..., 8, 2)``.
        best: metres that the best safe plan of the lattice makes, shape ``(...)``; at least 2.
        safe: whether the plan has no collision, stays on the road and keeps its time to collision.
    """

    waypoints: Tensor
    best: Tensor
    safe: Tensor


def lattice_plans(scene: Scenes) -> Tensor:
    """All plans of the lattice: lanes, times of change and speeds, on every route.

    Args:
        scene: batch ``(...)``.

    Returns:
        Waypoints, m, shape ``(..., 48 routes, 8, 2)``.
    """
    like = scene.offset
    time = SPACING * torch.arange(1, WAYPOINTS + 1, dtype=like.dtype, device=like.device)
    lanes, changes, speeds = (
        torch.tensor(values, dtype=like.dtype, device=like.device)
        for values in (LANES, CHANGES, SPEEDS)
    )
    u = (time / changes[:, None]).clamp(max=1)
    share = 10 * u**3 - 15 * u**4 + 6 * u**5
    start = scene.offset[..., None, None, None]
    left = start + (lanes[:, None, None] - start) * share  # (..., 4, 2, 8)
    speed = scene.velocity[..., 0, None]
    push = ((speeds - 1) * speed / 4).clamp(-4, 1.5)[..., None]
    speed = speed[..., None]
    stop = torch.where(push < 0, -speed / torch.where(push < 0, push, 1.0), torch.inf)
    until = torch.minimum(time, stop)
    driven = speed * until + push * until**2 / 2  # (..., 6, 8)
    shape = (*scene.batch, len(LANES), len(CHANGES), len(SPEEDS), WAYPOINTS)
    place = torch.stack(
        [driven[..., None, None, :, :].expand(shape), left[..., None, :].expand(shape)], -1
    ).flatten(-5, -3)  # fmt: skip
    road = Road(*(part[..., None, None] for part in scene.road))
    return to_plane(road, place[..., None, :, :, :]).flatten(-4, -3)


def lattice_expert(
    scene: Scenes,
    generator: torch.Generator | None = None,
    temperature: float = 0.0,
    agents: Agents = "true",
    smoothness: float = SMOOTHNESS,
) -> Shown:
    """A plan of the lattice for each scene: the best one, or one drawn by a softmax.

    A plan that is not safe counts nothing; the others count by progress and comfort alike. With
    ``agents="constant_velocity"`` it is a planner of rules that knows what a planner can know.

    Args:
        scene: batch ``(B,)``.
        generator: for a positive temperature.
        temperature: of the softmax; 0 takes the best plan.
        agents: as in :func:`planning_score`.
        smoothness: weight of jerk in the tracker.

    Returns:
        The chosen plans; where no plan is safe the first one, not safe.

    Raises:
        ValueError: a negative temperature, one without a generator, or more than one batch axis.
    """
    require_number("temperature", temperature, 0.0)
    if temperature > 0 and generator is None:
        raise ValueError("generator: expected one for a positive temperature, got None")
    if len(scene.batch) != 1:
        raise ValueError(f"scene: expected a batch with one axis, got {scene.batch}")
    found = []
    for at in range(0, scene.batch[0], CHUNK):
        part = scene[at : at + CHUNK]
        plans = lattice_plans(part)
        scores = planning_score(part[:, None], plans, agents, smoothness=smoothness)
        safe = scores.no_collision * scores.drivable * scores.time_to_collision
        best = (scores.travelled * safe).amax(-1).clamp(min=LEAST_PROGRESS)
        worth = safe * (scores.travelled / best[:, None] + scores.comfort) / 2
        if temperature > 0:
            law = (worth / temperature).softmax(-1)
            pick = torch.multinomial(law, 1, generator=generator)[:, 0]
        else:
            pick = worth.argmax(-1)
        row = torch.arange(len(pick), device=pick.device)
        found.append((plans[row, pick], best, safe[row, pick] > 0))
    return Shown(*(torch.cat(parts) for parts in zip(*found, strict=True)))
