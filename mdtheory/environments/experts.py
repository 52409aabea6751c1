"""Scripted experts of CartPole, its swing-up and Pendulum.

The chapters 'Target-based surrogates', 'Imitation by boosting' and 'Imitation through physics'
imitate them.
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


def pump_pendulum(observation: Tensor) -> Tensor:
    """Expert of Pendulum with a continuous torque: pumps energy, and holds at the top.

    Args:
        observation: cosine, sine and turn, shape ``(..., 3)``.

    Returns:
        Actions in [-1, 1], shape ``(..., 1)``.
    """
    cosine, sine, turn = observation.unbind(-1)
    # The energy, 0 upright at rest.
    energy = turn.square() / 6 + 5 * (cosine - 1)
    pump = -2 * energy * turn.sign()
    hold = -6 * torch.atan2(sine, cosine) - 1.5 * turn
    near = (cosine > 0.85) & (turn.abs() < 4)
    return torch.where(near, hold, pump).clamp(-1, 1)[..., None]


def ease_pendulum(observation: Tensor) -> Tensor:
    """Expert of Pendulum whose torque grows with the speed: pumps energy, and holds at the top.

    It pushes with the speed, not with its sign, and from rest to one side.

    Args:
        observation: cosine, sine and turn, shape ``(..., 3)``.

    Returns:
        Actions in [-1, 1], shape ``(..., 1)``.
    """
    cosine, sine, turn = observation.unbind(-1)
    # The energy, 0 upright at rest.
    energy = turn.square() / 6 + 5 * (cosine - 1)
    pump = torch.where(turn.abs() < 1e-3, 1.0, -2 * energy * turn)
    hold = -6 * torch.atan2(sine, cosine) - 1.5 * turn
    near = (cosine > 0.85) & (turn.abs() < 3.5)
    return torch.where(near, hold, pump).clamp(-1, 1)[..., None]


def pump_cartpole(observation: Tensor) -> Tensor:
    """Expert of CartPoleSwingup: pumps energy with the cart near the middle, and balances.

    Args:
        observation: place, half the speed, cosine, sine, a quarter of the turn, shape ``(..., 5)``.

    Returns:
        Actions in [-1, 1], shape ``(..., 1)``.
    """
    place, speed, cosine, sine, turn = observation.unbind(-1)
    speed, turn = 2 * speed, 4 * turn
    # The pole's energy about its hinge, 0 upright at rest.
    energy = turn.square() / 60 + 0.49 * (cosine - 1)
    pump = (4 * energy * turn * cosine).clamp(-0.9, 0.9) - 0.12 * place - 0.08 * speed
    hold = 3 * torch.atan2(sine, cosine) + 0.7 * turn + 0.15 * place + 0.22 * speed
    return torch.where(cosine > 0.9, hold, pump).clamp(-1, 1)[..., None]
