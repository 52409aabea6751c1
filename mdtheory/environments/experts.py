"""Scripted experts of CartPole and Pendulum.

The chapter 'Target-based surrogates' imitates them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def balance_pole(observation: Tensor) -> Tensor:
    """Expert of CartPole: pushes to the side that a linear feedback of the state names.

    Args:
        observation: place, speed, angle and turn, shape ``(..., 4)``.

    Returns:
        Actions, int64, shape ``(...)``.
    """
    place, speed, angle, turn = observation.unbind(-1)
    return (0.2 * place + 0.6 * speed + 6.0 * angle + 1.2 * turn > 0).long()


def swing_up(observation: Tensor) -> Tensor:
    """Expert of Pendulum: pumps energy until the pendulum is near the top, and holds it there.

    Its actions are five torques: 0 to 4 stand for -2, -1, 0, 1 and 2.

    Args:
        observation: cosine, sine and turn, shape ``(..., 3)``.

    Returns:
        Actions, int64, shape ``(...)``.
    """
    cosine, sine, turn = observation.unbind(-1)
    missing = 15 * (1 - cosine) - turn.square() / 2
    pump = missing * torch.where(turn >= 0, 1.0, -1.0)
    hold = -12 * sine - 3 * turn
    torque = torch.where(cosine > 0.9, hold, pump).clamp(-2, 2)
    return (torque + 2).round().long()
