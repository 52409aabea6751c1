"""minidrive: many driving scenes as one tensor program.

A scene is a car on a road, other cars with what they are about to do, and, at an intersection,
three ways to go on. The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.rl.reflective_planning.roads import Road, heading, to_road

LENGTH, WIDTH = 4.6, 1.9  # of every car, m
EDGE = -1.75  # right edge of the road; the left one is one lane further, or two
FEATURES = 8


@dataclasses.dataclass(frozen=True)
class Scenes:
    """A batch of scenes, seen in the frame of the road beside the car.

    Attributes:
        velocity: of the car, m/s, shape ``(..., 2)``.
        acceleration: of the car, m/s^2, shape ``(..., 2)``.
        offset: how far left of the centre line it is, m, shape ``(...)``.
        road: the routes that it may take, fields of shape ``(..., routes)``.
        left: left edge of each route, m, shape ``(..., routes)``.
        present: 1 for a car that is there, else 0, shape ``(..., cars)``, as for what follows.
        along: where the others are along the first route, m.
        across: and how far to its left.
        speed: their speed, m/s.
        intent: hidden: what they will do to their speed, m/s^2.
        cut_in: hidden: 1 for a car that will move onto our lane within 3 s, else 0.
        crossing: 0 for cars that drive along the road, 1 for those that cross it to the left,
            -1 to the right.
    """

    velocity: Tensor
    acceleration: Tensor
    offset: Tensor
    road: Road
    left: Tensor
    present: Tensor
    along: Tensor
    across: Tensor
    speed: Tensor
    intent: Tensor
    cut_in: Tensor
    crossing: Tensor

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return tuple(self.offset.shape)

    @property
    def routes(self) -> int:
        """How many ways there are to go on."""
        return self.left.shape[-1]

    def map(self, change: Callable[[Tensor, int], Tensor]) -> Scenes:
        """The scenes with every tensor changed.

        Args:
            change: takes a tensor and the number of its axes that are not the batch's.

        Returns:
            The changed scenes.
        """
        parts: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Road):
                parts[field.name] = Road(*(change(part, 1) for part in value))
            else:
                parts[field.name] = change(value, 0 if field.name == "offset" else 1)
        return Scenes(**parts)

    def __getitem__(self, index: Any) -> Scenes:
        """Some of the scenes, or the same with more axes: the batch axes are indexed."""
        return self.map(lambda value, _: value[index])

    def flat(self, batch: tuple[int, ...]) -> Scenes:
        """The scenes of a larger batch in one axis: expanded, then flattened.

        Args:
            batch: the shape to which the batch is expanded.
        """
        return self.map(
            lambda value, more: value.expand(
                *batch, *value.shape[value.ndim - more :]
            ).reshape(-1, *value.shape[value.ndim - more :])
        )  # fmt: skip

    def replace(self, **parts: Any) -> Scenes:
        """The scenes with some fields changed."""
        return dataclasses.replace(self, **parts)


def draw_scenes(
    count: int,
    generator: torch.Generator,
    *,
    intersections: bool = False,
    started: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Scenes:
    """Random scenes: two lanes with a constant curvature, or intersections.

    The own lane is the right one. Up to three others: one ahead, one on the left lane, one on
    either; at an intersection one ahead and two that cross. A third brakes, a fifth accelerates,
    and a quarter of those on the left lane cut in.

    Args:
        count: how many.
        generator: source of all randomness; the scenes live on its device.
        intersections: whether the road is a straight lane with a way to the left, straight on and
            to the right.
        started: whether the car may be off the centre line and change its speed already, as it
            does while it drives; else it starts on the line at constant speed.
        dtype: of the tensors.

    Returns:
        Scenes with the batch ``(count,)``.

    Raises:
        TypeError: not a whole number.
        ValueError: not positive.
    """
    require_count("count", count)

    def uniform(low: float | Tensor, high: float | Tensor, *more: int) -> Tensor:
        drawn = torch.rand(count, *more, generator=generator, dtype=dtype, device=generator.device)
        return low + (high - low) * drawn

    def chance(probability: float, *more: int) -> Tensor:
        return (uniform(0, 1, *more) < probability).to(dtype)

    zero = torch.zeros(count, dtype=dtype, device=generator.device)
    if intersections:
        speed, curvature = uniform(4, 9), zero
        entry, radius = uniform(6, 16), uniform(9, 13)
        turn = math.pi / 2 * radius
        road = Road(
            entry[:, None].expand(-1, 3), torch.stack([1 / radius, zero, -1 / radius], -1),
            turn[:, None].expand(-1, 3),
        )  # fmt: skip
        left = torch.full_like(road.entry, -EDGE)
        side = 2 * chance(0.5, 2) - 1
        # Cars that cross come from either side, on the lane of their direction.
        lane = entry[:, None] + radius[:, None] - 1.75 * side
        along = torch.cat([uniform(10, 35, 1), lane], -1)
        across = torch.cat([uniform(-0.3, 0.3, 1), -side * uniform(5, 35, 2)], -1)
        cars = torch.cat([speed[:, None] * uniform(0.2, 0.9, 1), uniform(4, 10, 2)], -1)
        crossing = torch.cat([zero[:, None], side], -1)
        shares = (0.4, 0.7, 0.5)
    else:
        speed, curvature = uniform(4, 12), uniform(-0.012, 0.012)
        road = Road(zero[:, None], curvature[:, None], torch.full_like(zero, 200.0)[:, None])
        left = torch.full_like(road.entry, 3 * -EDGE)
        along = torch.stack([uniform(12, 40), uniform(-5, 40), uniform(20, 60)], -1)
        across = torch.stack(
            [uniform(-0.6, 0.6), 3.5 + uniform(-0.4, 0.4), 3.5 * chance(0.5)], -1
        )  # fmt: skip
        cars = torch.stack([speed * uniform(0.2, 0.9), uniform(2, 10), uniform(0, 5)], -1)
        crossing = torch.zeros_like(along)
        shares = (0.8, 0.6, 0.5)
    kind = uniform(0, 1, 3)
    intent = torch.where(kind < 0.35, uniform(-3, -1, 3), torch.where(
        kind > 0.8, uniform(0.5, 1.5, 3), torch.zeros_like(kind)))  # fmt: skip
    offset, drift, push = zero, zero, zero
    if started:
        moved = chance(0.6)
        top = 0.3 if intersections else 3.7
        offset, drift = moved * uniform(-0.4, top), moved * uniform(-0.8, 0.8)
        push = moved * uniform(-2.0, 1.5)
    return Scenes(
        velocity=torch.stack([speed, drift], -1),
        acceleration=torch.stack([push, curvature * speed**2], -1),
        offset=offset, road=road, left=left,
        present=(uniform(0, 1, 3) < torch.tensor(shares, device=zero.device)).to(dtype),
        along=along, across=across, speed=cars, intent=intent,
        cut_in=chance(0.25, 3) * ((across > 1.5) & (crossing == 0)), crossing=crossing,
    )  # fmt: skip


def perceived(scene: Scenes, sigma: float, generator: torch.Generator) -> Scenes:
    """The scenes as a noisy eye sees them; what is hidden stays so.

    Args:
        scene: the true ones.
        sigma: standard deviation of the distance along the road, m; a third of it across, and
            half of it, in m/s, of the speed.
        generator: source of the noise.

    Returns:
        Scenes of the same batch.

    Raises:
        ValueError: a negative deviation.
    """
    require_number("sigma", sigma, 0.0)

    def noise(scale: float) -> Tensor:
        like = scene.along
        return scale * torch.randn(
            like.shape, generator=generator, dtype=like.dtype, device=like.device
        )

    return scene.replace(
        along=scene.along + noise(sigma), across=scene.across + noise(0.3 * sigma),
        speed=scene.speed + noise(0.5 * sigma),
    )  # fmt: skip


def features(scene: Scenes) -> Tensor:
    """What the planner is shown: one row for the own car and the road, one for each other car.

    Args:
        scene: batch ``(...)``.

    Returns:
        Shape ``(..., 1 + cars, 8)``, of the order of 1; nothing that is hidden is in it.
    """
    v, a = scene.velocity, scene.acceleration
    fork = float(scene.routes > 1)
    own = torch.stack([
        torch.ones_like(scene.offset), v[..., 0] / 8, v[..., 1], a[..., 0] / 3, scene.offset / 3.5,
        100 * scene.road.curvature[..., 0] * (1 - fork), scene.road.entry[..., 0] / 16,
        12 * fork * scene.road.curvature[..., 0],
    ], -1)  # fmt: skip
    zero = torch.zeros_like(scene.along)
    others = torch.stack([
        zero, scene.along / 30, scene.across / 3.5, scene.speed / 8, scene.crossing,
        torch.ones_like(zero), zero, zero,
    ], -1)  # fmt: skip
    return torch.cat([own[..., None, :], scene.present[..., None] * others], -2)


def motion_of_others(scene: Scenes, time: Tensor, *, hidden: bool) -> tuple[Tensor, ...]:
    """Where the other cars will be, in the frame of each route.

    Args:
        scene: batch ``(...)``.
        time: seconds, shape ``(T,)``.
        hidden: whether they do what they are about to do; else they keep their speed and lane.

    Returns:
        Metres along and across, speeds along and across, and how near in each direction the
        centre of the own car comes when it touches them; each ``(..., routes, T, cars)``.
    """
    speed, t = scene.speed[..., None, :], time[:, None]
    driven, now = speed * t, speed + 0 * t
    swerve = torch.zeros_like(driven)
    if hidden:
        a = scene.intent[..., None, :]
        stop = torch.where(a < 0, -speed / torch.where(a < 0, a, 1.0), torch.inf)
        until = torch.minimum(t, stop)
        driven, now = speed * until + a * until**2 / 2, speed + a * until
        u = (t / 3).clamp(max=1)
        swerve = scene.cut_in[..., None, :] * (10 * u**3 - 15 * u**4 + 6 * u**5)
    side = scene.crossing[..., None, :]
    runs = side == 0
    s = scene.along[..., None, :] + torch.where(runs, driven, 0.0)
    left = scene.across[..., None, :] * (1 - swerve) + side * driven
    forward, aside = torch.where(runs, now, 0.0), side * now
    crossed = (LENGTH + WIDTH) / 2
    near = (torch.where(runs, LENGTH, crossed + 0 * s), torch.where(runs, WIDTH, crossed + 0 * s))
    parts = [part[..., None, :, :] for part in (s, left, forward, aside, *near)]
    if scene.routes == 1:
        return tuple(parts)
    # At an intersection the first frame is the plane, and each route turns its own.
    s, left, forward, aside = parts[:4]
    road = Road(*(part[..., None, None] for part in scene.road))
    place = to_road(road, torch.stack(torch.broadcast_tensors(s, left), -1))
    turned = heading(road, place[..., 0])
    cosine, sine = turned.cos(), turned.sin()
    along = forward * cosine + aside * sine
    across = aside * cosine - forward * sine
    # Half the own car, and half of the box around the other one.
    direction = torch.where(runs[..., None, :, :], turned, math.pi / 2 - turned)
    c, d = direction.cos().abs(), direction.sin().abs()
    return (
        place[..., 0], place[..., 1], along, across,
        (LENGTH + LENGTH * c + WIDTH * d) / 2, (WIDTH + WIDTH * c + LENGTH * d) / 2,
    )  # fmt: skip
