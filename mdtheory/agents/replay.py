"""A replay buffer of all seeds; each seed draws from its own part.

The chapter 'Mirror descent policy optimisation' explains it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Transitions(NamedTuple):
    """Steps of environments; the leading axes are seeds and samples.

    Attributes:
        observation: before the step, ``(seeds, n, observed)``.
        action: in [-1, 1], ``(seeds, n, actions)``.
        reward: ``(seeds, n)``.
        after: observation after the step, that in which an episode ended included.
        terminated: 1 where a terminal state was reached, else 0; a truncation is a 0.
        weight: 0 where the step only reset its environment, else 1.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    after: Tensor
    terminated: Tensor
    weight: Tensor


class Replay:
    """The last transitions of each seed, in rings.

    Args:
        seeds: number of seeds.
        capacity: transitions that are kept for each.
        observed: numbers in an observation.
        actions: numbers in an action.
        like: tensor whose dtype and device are kept.
    """

    def __init__(
        self, seeds: int, capacity: int, observed: int, actions: int, like: Tensor
    ) -> None:
        # One row holds a whole transition, so that drawing is one gather.
        self.sizes = (observed, actions, 1, observed, 1, 1)
        self.rows = like.new_zeros(seeds, capacity, sum(self.sizes))
        self.offset = torch.arange(seeds, device=like.device)[:, None] * capacity
        self.written = 0

    def __len__(self) -> int:
        return min(self.written, self.rows.shape[1])

    def add(self, steps: Transitions) -> None:
        """Keep one step of every copy.

        Args:
            steps: with ``n`` copies.
        """
        parts = [part if part.ndim == 3 else part[..., None] for part in steps]
        number, capacity = parts[0].shape[1], self.rows.shape[1]
        # Of more steps than there are places only the last stay.
        first = max(number - capacity, 0)
        places = torch.arange(self.written + first, self.written + number, device=self.rows.device)
        self.rows[:, places % capacity] = torch.cat(parts, -1)[:, first:]
        self.written += number

    def sample(self, number: int, generator: torch.Generator) -> Transitions:
        """Draw with replacement, for each seed on its own.

        Args:
            number: samples of each seed.
            generator: source of randomness.

        Returns:
            Transitions with ``n = number``.
        """
        seeds = self.rows.shape[0]
        device = self.rows.device
        pick = torch.randint(len(self), (seeds, number), generator=generator, device=device)
        rows = self.rows.flatten(0, 1).index_select(0, (pick + self.offset).flatten())
        parts = rows.unflatten(0, (seeds, number)).split(self.sizes, -1)
        observation, action, reward, after, terminated, weight = parts
        return Transitions(
            observation, action, reward[..., 0], after, terminated[..., 0], weight[..., 0]
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"rows": self.rows[:, : len(self)].clone(), "written": self.written}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint kept.

        Args:
            state: as :meth:`state` returned it.
        """
        self.written = int(state["written"])
        self.rows[:, : len(self)] = state["rows"]
