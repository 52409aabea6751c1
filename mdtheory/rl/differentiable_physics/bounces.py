"""A ball and the ground: what four ways to compute a collision do to its derivative."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mdtheory.checks import require_count, require_number, require_tensor, require_values

Collision = Literal["flip", "impact", "spring", "soft"]


def bounce(
    height: Tensor,
    collision: Collision,
    *,
    steps: int = 200,
    step: float = 0.01,
    speed: float = 1.0,
    stiffness: float = 4000.0,
    width: float = 0.003,
) -> Tensor:
    r"""Height at the end of a ball that falls without gravity and is thrown back, ``thm-bounce``.

    Args:
        height: at the start, positive, any shape.
        collision: ``"flip"``, the speed is turned round once the ball is below the ground;
            ``"impact"``, the moment of impact is solved for inside the step; ``"spring"``, a linear
            spring below the ground; ``"soft"``, a softplus of it.
        steps: number of steps.
        step: :math:`h > 0`, in s.
        speed: :math:`w > 0`, downwards at the start, in m/s.
        stiffness: of the springs, in 1/s^2.
        width: of the softplus, in m.

    Returns:
        Heights, of the shape of ``height``.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: an unknown collision, a height or number that is not positive.
    """
    require_tensor("height", height, 0)
    require_values("height", height, height > 0, "positive heights")
    require_count("steps", steps)
    for name, value in (("step", step), ("speed", speed), ("stiffness", stiffness),
                        ("width", width)):  # fmt: skip
        require_number(name, value, 0.0, strict=True)
    if collision not in get_args(Collision):
        raise ValueError(f"collision: expected one of {get_args(Collision)}, got {collision!r}")
    place, moving = height, torch.full_like(height, -speed)
    for _ in range(steps):
        if collision == "flip":
            moving = torch.where((place < 0) & (moving < 0), -moving, moving)
            place = place + step * moving
        elif collision == "impact":
            ahead = place + step * moving
            hits = (ahead < 0) & (moving < 0)
            until = -place / moving
            place = torch.where(hits, -moving * (step - until), ahead)
            moving = torch.where(hits, -moving, moving)
        else:
            depth = torch.relu(-place) if collision == "spring" else (
                width * softplus(-place / width)
            )  # fmt: skip
            moving = moving + step * stiffness * depth
            place = place + step * moving
    return place
