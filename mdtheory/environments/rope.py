"""A rope of springs that is hung over a peg: a deformable world.

The chapter 'Imitation through physics' learns it from one demonstration.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mdtheory.environments.contact import length
from mdtheory.environments.differentiable import Constants, Differentiable, column

BEADS, LINK = 10, 0.12  # masses, and metres between neighbours
PEG, RADIUS = (0.0, 0.6), 0.12
SUBSTEPS, TICK = 5, 0.01
# Where the expert leads the end, and until which step.
WAY = ((28, (-0.7, 1.25)), (56, (0.55, 1.25)), (80, (0.55, 0.55)))


class Rope(Differentiable):
    """Hang a rope over a peg by leading its first end: two coordinates of speed, 1.5 m/s at most.

    Ten beads with springs and dampers between neighbours, gravity, air, and a peg that pushes the
    beads off and holds their speed back. A state has the places of all beads, then their speeds.
    50 ms a step, in five smaller ones.

    Args:
        dtype: of the states.
    """

    width, observed, actions = 4 * BEADS, 4 * BEADS, 2
    horizon, duration, spread = 80, 80, 0.08

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.constants = {"stiffness": 150.0, "gravity": 5.0, "mass": 0.1}

    def home(self, device: torch.device | str | None = None) -> Tensor:
        """Hanging straight down to the left of the peg, at rest."""
        down = torch.arange(BEADS, dtype=self.dtype, device=device)
        places = torch.stack([torch.full_like(down, -0.7), 0.1 - 0.125 * down], -1)
        return torch.cat([places.flatten(), torch.zeros_like(places).flatten()])

    def _scatter(self, noise: Tensor) -> Tensor:
        # The rope is moved as a whole.
        moved = noise[..., None, :2].expand(*noise.shape[:-1], BEADS, 2).flatten(-2)
        return torch.cat([moved, torch.zeros_like(moved)], -1)

    def step(self, state: Tensor, action: Tensor, parameters: Constants | None = None) -> Tensor:
        """Next states, 50 ms later. See :meth:`Differentiable.step`."""
        chosen = self._chosen(parameters)
        stiffness, gravity, mass = (
            column(chosen[name], 2) for name in ("stiffness", "gravity", "mass")
        )
        place, speed = state.unflatten(-1, (2, BEADS, 2)).unbind(-3)
        peg, down = state.new_tensor(PEG), state.new_tensor([0.0, -1.0])
        led = 1.5 * action[..., None, :]
        for _ in range(SUBSTEPS):
            link = place[..., 1:, :] - place[..., :-1, :]
            long = length(link)
            pull = stiffness * (1 - LINK / torch.where(long > 0, long, LINK)) * link
            pull = pull + 0.8 * (speed[..., 1:, :] - speed[..., :-1, :])
            away = place - peg
            far = length(away)
            press = 0.02 * softplus((RADIUS - far) / 0.02)
            force = press * (300 * away / torch.where(far > 0, far, 1.0) - 20 * speed) - 0.1 * speed
            force = force[..., 1:, :] - pull + _shifted(pull)
            moved = speed[..., 1:, :] + TICK * (force / mass + gravity * down)
            speed = torch.cat([led, moved], -2)
            place = place + TICK * speed
        return torch.cat([place.flatten(-2), speed.flatten(-2)], -1)

    def observe(self, state: Tensor) -> Tensor:
        """Places, and a third of the speeds."""
        return torch.cat([state[..., : 2 * BEADS], state[..., 2 * BEADS :] / 3], -1)

    def features(self, state: Tensor) -> Tensor:
        """Places, and a tenth of the speeds."""
        return torch.cat([state[..., : 2 * BEADS], state[..., 2 * BEADS :] / 10], -1)

    def success(self, states: Tensor) -> Tensor:
        """At the end a bead lies on the peg, the first is to its right, the last to its left."""
        place = states[..., -1, : 2 * BEADS].unflatten(-1, (BEADS, 2))
        peg = place.new_tensor(PEG)
        on = ((place - peg).norm(dim=-1) < RADIUS + 0.1) & (place[..., 1] > PEG[1])
        hangs = (place[..., -1, 0] < 0) & (place[..., -1, 1] < PEG[1] + 0.2)
        return on.any(-1) & hangs & (place[..., 0, 0] > 0.1)

    def expert(self, state: Tensor, time: int) -> Tensor:
        """Leads the end up, across, and down again, by the clock."""
        goal = next((place for until, place in WAY if time < until), WAY[-1][1])
        return ((state.new_tensor(goal) - state[..., :2]) / 0.375).clamp(-1, 1)


def _shifted(pull: Tensor) -> Tensor:
    """What the next link does to each bead but the first; the last has none."""
    return torch.cat([pull[..., 1:, :], torch.zeros_like(pull[..., :1, :])], -2)
