"""A puck that can only be pushed: contact as a smooth force or as a hard impulse.

The chapter 'Imitation through physics' shows what either does to gradients.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mdtheory.environments.differentiable import Constants, Differentiable, column

Contact = Literal["smooth", "hard"]
RADIUS = 0.3  # of both discs together, in metres
STIFFNESS, WIDTH = 120.0, 0.03  # of the smooth contact: newtons a metre, and metres
SUBSTEPS, TICK = 4, 0.0125


def length(vector: Tensor) -> Tensor:
    """Euclidean lengths ``(..., 1)``, with a gradient of 0 in place of none where they are 0."""
    square = vector.square().sum(-1, keepdim=True)
    some = square > 0
    return torch.where(some, torch.where(some, square, 1.0).sqrt(), 0.0)


class Puck(Differentiable):
    """Push a puck to its place with a disc: two coordinates of force, no other hold on the puck.

    A state is the place and speed of the disc, then those of the puck. Both slide with friction
    proportional to their speeds. 50 ms a step, in four smaller ones.

    Args:
        contact: ``"smooth"``, a spring whose force is a softplus of the overlap, with a little
            damping; or ``"hard"``, an inelastic impulse where the discs overlap and approach.
        dtype: of the states.

    Raises:
        ValueError: another contact.
    """

    width, observed, actions, horizon, duration, spread = 8, 10, 2, 80, 80, 0.1
    target = (0.8, 0.0)

    def __init__(self, contact: Contact = "smooth", dtype: torch.dtype = torch.float32) -> None:
        if contact not in get_args(Contact):
            raise ValueError(f"contact: expected one of {get_args(Contact)}, got {contact!r}")
        self.contact, self.dtype = contact, dtype
        self.constants = {"friction": 1.5, "mass": 1.0}

    def home(self, device: torch.device | str | None = None) -> Tensor:
        """The disc behind the puck and to its side, both at rest."""
        return torch.tensor(
            [-1.0, -0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=self.dtype, device=device
        )

    def _scatter(self, noise: Tensor) -> Tensor:
        # Places are drawn, speeds are not.
        return noise * noise.new_tensor([1.0, 1.0, 0.0, 0.0]).repeat(2)

    def step(self, state: Tensor, action: Tensor, parameters: Constants | None = None) -> Tensor:
        """Next states, 50 ms later. See :meth:`Differentiable.step`."""
        chosen = self._chosen(parameters)
        friction, mass = column(chosen["friction"]), column(chosen["mass"])
        disc, speed, puck, slide = state.unflatten(-1, (4, 2)).unbind(-2)
        for _ in range(SUBSTEPS):
            apart = puck - disc
            distance = length(apart)
            normal = apart / torch.where(distance > 0, distance, 1.0)
            speed = speed + TICK * (6 * action - 2 * speed)
            slide = slide - TICK * friction * slide / mass
            closing = ((speed - slide) * normal).sum(-1, keepdim=True)
            if self.contact == "hard":
                meet = (distance < RADIUS) & (closing > 0)
                impulse = torch.where(meet, closing, 0.0) / (1 + 1 / mass)
            else:
                force = STIFFNESS * WIDTH * softplus((RADIUS - distance) / WIDTH)
                impulse = TICK * force * (1 + 0.1 * closing.tanh())
            speed, slide = speed - impulse * normal, slide + impulse / mass * normal
            disc, puck = disc + TICK * speed, puck + TICK * slide
        return torch.cat([disc, speed, puck, slide], -1)

    def observe(self, state: Tensor) -> Tensor:
        """Places, half of the speeds, and twice the way from the disc to the puck."""
        disc, speed, puck, slide = state.unflatten(-1, (4, 2)).unbind(-2)
        return torch.cat([disc, speed / 2, puck, slide / 2, 2 * (puck - disc)], -1)

    def features(self, state: Tensor) -> Tensor:
        """The disc's place, twice the puck's, and a quarter of the speeds."""
        disc, speed, puck, slide = state.unflatten(-1, (4, 2)).unbind(-2)
        return torch.cat([disc, speed / 4, 2 * puck, slide / 4], -1)

    def success(self, states: Tensor) -> Tensor:
        """The puck ends within 20 cm of its place."""
        place = states[..., -1, 4:6]
        return (place - place.new_tensor(self.target)).norm(dim=-1) < 0.2

    def expert(self, state: Tensor, time: int) -> Tensor:
        """Goes behind the puck, and pushes it while it is in line; the time plays no part."""
        disc, speed, puck = state[..., 0:2], state[..., 2:4], state[..., 4:6]
        way = state.new_tensor(self.target) - puck
        left = way.norm(dim=-1, keepdim=True)
        ahead = way / (left + 1e-6)
        offset = disc - puck
        along = (offset * ahead).sum(-1, keepdim=True)
        aside = (offset - along * ahead).norm(dim=-1, keepdim=True)
        ready = (along < 0) & (aside < 0.08)
        goal = puck - (RADIUS + 0.1) * ahead
        goal = torch.where(ready, puck + way - RADIUS * ahead, goal)
        goal = torch.where(left < 0.06, disc, goal)
        return (1.6 * (goal - disc) - 0.7 * speed).clamp(-1, 1)
