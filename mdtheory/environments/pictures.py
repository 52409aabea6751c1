"""Frames of CartPole and Pendulum, drawn from what a policy observes.

The chapter 'Mirror descent policy optimisation' shows them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

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
