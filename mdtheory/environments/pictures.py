"""Frames: CartPole and Pendulum from what a policy observes, the puck and the rope from states.

The chapters 'Mirror descent policy optimisation' and 'Imitation through physics' show them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from mdtheory.environments.contact import RADIUS as DISCS
from mdtheory.environments.contact import Puck
from mdtheory.environments.rope import BEADS, PEG
from mdtheory.environments.rope import RADIUS as PEG_RADIUS
from mdtheory.plotting import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_cartpole(axes: Axes, observation: Tensor) -> None:
    """Draw the cart on its rail and the pole.

    Args:
        axes: Matplotlib axes to draw on.
        observation: place, speed, angle and turning speed, shape ``(4,)``.
    """
    place, _, angle, _ = observation.tolist()
    axes.plot([-2.4, 2.4], [0, 0], color="black", linewidth=1)
    axes.plot([place - 0.25, place + 0.25], [0, 0], color=COLORS[0], linewidth=9)
    top = (place + 1.2 * math.sin(angle), 1.2 * math.cos(angle))
    axes.plot([place, top[0]], [0.05, top[1]], color=COLORS[1], linewidth=4)
    axes.set(xlim=(-2.5, 2.5), ylim=(-0.4, 1.5), aspect="equal")
    axes.set_axis_off()


def draw_pendulum(axes: Axes, observation: Tensor) -> None:
    """Draw the pendulum; upright is at the top.

    Args:
        axes: Matplotlib axes to draw on.
        observation: cosine and sine of the angle, and the turning speed, shape ``(3,)``.
    """
    cosine, sine, _ = observation.tolist()
    circle = [2 * math.pi * k / 60 for k in range(61)]
    axes.plot(
        [math.cos(a) for a in circle], [math.sin(a) for a in circle], color="0.8", linewidth=1
    )
    axes.plot([0, -sine], [0, cosine], color=COLORS[1], linewidth=4)
    axes.plot([0], [0], "o", color="black")
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    axes.set_axis_off()


def draw_puck(axes: Axes, state: Tensor) -> None:
    """Draw the disc, the puck, and where the puck should go.

    Args:
        axes: Matplotlib axes to draw on.
        state: of the puck's world, shape ``(8,)``.
    """
    x, y, _, _, puck_x, puck_y, _, _ = state.tolist()
    half = DISCS / 2
    axes.plot(*_circle(*Puck.target, 0.2), color="0.6", linewidth=1, linestyle="--")
    axes.fill(*_circle(x, y, half), color=COLORS[0])
    axes.fill(*_circle(puck_x, puck_y, half), color=COLORS[1])
    axes.set(xlim=(-1.5, 1.3), ylim=(-0.9, 0.9), aspect="equal")
    axes.set_axis_off()


def draw_rope(axes: Axes, state: Tensor) -> None:
    """Draw the rope with the end that is led, and the peg.

    Args:
        axes: Matplotlib axes to draw on.
        state: of the rope's world, shape ``(40,)``.
    """
    places = state[: 2 * BEADS].reshape(BEADS, 2).tolist()
    axes.fill(*_circle(*PEG, PEG_RADIUS), color="0.6")
    axes.plot(*zip(*places, strict=True), "o-", color=COLORS[1], linewidth=2, markersize=3)
    axes.plot(*places[0], "s", color=COLORS[0], markersize=6)
    axes.set(xlim=(-1.3, 1.1), ylim=(-1.3, 1.5), aspect="equal")
    axes.set_axis_off()


def _circle(x: float, y: float, radius: float) -> tuple[list[float], list[float]]:
    """Points of a circle."""
    turns = [2 * math.pi * k / 40 for k in range(41)]
    return [x + radius * math.cos(a) for a in turns], [y + radius * math.sin(a) for a in turns]
