"""Pictures of minidrive: a scene from above, and plans in it.

The chapter 'Reflective planning' shows them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mdtheory.checks import require_extra
from mdtheory.plotting import COLORS
from mdtheory.rl.reflective_planning.roads import Road, heading, to_plane
from mdtheory.rl.reflective_planning.scenes import (
    EDGE,
    LENGTH,
    WIDTH,
    Scenes,
    motion_of_others,
)
from mdtheory.rl.reflective_planning.tracking import track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":")


def draw_scene(
    axes: Axes, scene: Scenes, plans: Mapping[str, Tensor], *, reach: float = 50.0
) -> None:
    """Draw one scene: edges of the road, where the others go in 4 s, and plans.

    The others are drawn where they truly are each second, fading; the motion that follows a plan is
    a line, its waypoints are dots.

    Args:
        axes: Matplotlib axes to draw on.
        scene: one scene, batch ``()``.
        plans: a name and its waypoints ``(N, 2)``, m, each.
        reach: metres of road to draw.
    """
    rectangle = require_extra("matplotlib.patches", "notebooks").Rectangle
    s = torch.linspace(-6, reach, 120, dtype=scene.offset.dtype)
    for route in range(scene.routes):
        road = Road(*(part[route] for part in scene.road))
        for left in (EDGE, float(scene.left[route])):
            edge = to_plane(road, torch.stack([s, torch.full_like(s, left)], -1))
            axes.plot(edge[:, 0], edge[:, 1], color="0.6", linewidth=1)
    time = torch.arange(5, dtype=scene.offset.dtype)
    along, across = (part[0] for part in motion_of_others(scene, time, hidden=True)[:2])
    first = Road(*(part[0] for part in scene.road))
    if scene.routes > 1:  # the second route is straight on, so its frame is the plane
        along, across = (part[1] for part in motion_of_others(scene, time, hidden=True)[:2])
        first = Road(*(part[1] for part in scene.road))
    place = to_plane(first, torch.stack([along, across], -1))
    turned = heading(first, along) + math.pi / 2 * scene.crossing
    for car in scene.present.nonzero()[:, 0].tolist():
        for tick in range(len(time)):
            x, y = place[tick, car].tolist()
            axes.add_patch(rectangle(
                (x - LENGTH / 2, y - WIDTH / 2), LENGTH, WIDTH, rotation_point="center",
                angle=math.degrees(turned[tick, car]), color=COLORS[1], linewidth=0,
                alpha=0.9 - 0.18 * tick,
            ))  # fmt: skip
    for k, (name, waypoints) in enumerate(plans.items()):
        points = track(scene, waypoints)
        color = COLORS[(5, 0, 2)[k % 3]]
        axes.plot(points[:, 0], points[:, 1], STYLES[k % 3], color=color, linewidth=1.7, label=name)
        axes.plot(waypoints[:, 0], waypoints[:, 1], "o", color=color, markersize=3.5)
    axes.set(aspect="equal", xlim=(-6, reach))
