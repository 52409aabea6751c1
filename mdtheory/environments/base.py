"""Worlds for all seeds at once: how they are started, stepped, kept and restored.

All of them behave as gymnasium's vector environments do with next-step autoreset: the step that
ends an episode returns the observation in which it ended, and the next step ignores its action,
gives reward 0 and returns the first observation of a new episode. Such a step is no experience.
The chapter 'Mirror descent policy optimisation' explains the convention.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count


class TimeStep(NamedTuple):
    """What a step of a world returns; all seeds and copies at once.

    Attributes:
        observation: shape ``(seeds, copies, observed)``.
        reward: shape ``(seeds, copies)``.
        terminated: whether a terminal state was reached, bool, ``(seeds, copies)``.
        truncated: whether a time limit cut the episode, bool, ``(seeds, copies)``.
    """

    observation: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor

    def own(self) -> TimeStep:
        """A copy in memory of its own: a world may write into its tensors again."""
        return TimeStep(*(part.clone() for part in self))


class World(ABC):
    """Running copies of an environment.

    A subclass keeps everything that changes in its attributes, so that :meth:`state` has it.
    """

    @abstractmethod
    def reset(self) -> Tensor:
        """Start new episodes everywhere; returns observations ``(seeds, copies, observed)``."""

    @abstractmethod
    def step(self, action: Tensor) -> TimeStep:
        """Act once everywhere.

        The tensors may be the world's own; who keeps them copies them (:meth:`TimeStep.own`).

        Args:
            action: int64 ``(seeds, copies)`` where actions are finitely many, else floats
                ``(seeds, copies, actions)`` in [-1, 1].

        Returns:
            What came of it.
        """

    def state(self) -> dict[str, Any]:
        """A snapshot: with :meth:`restore` the world goes on exactly from here.

        It holds everything but the generator, which is the caller's: copies, clocks, the inner
        state and the randomness of gymnasium's environments.

        Returns:
            Memory of its own, to be kept and restored any number of times.
        """
        return {
            name: copy.deepcopy(value)
            for name, value in vars(self).items()
            if not isinstance(value, torch.Generator)
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot of this world.

        Args:
            state: as :meth:`state` returned it; it is not changed by what follows.

        Raises:
            ValueError: a snapshot of another world.
        """
        mine = {k for k, v in vars(self).items() if not isinstance(v, torch.Generator)}
        if set(state) != mine:
            raise ValueError(f"state: expected {sorted(mine)}, got {sorted(state)}")
        for name, value in state.items():
            here = getattr(self, name)
            if isinstance(here, Tensor) and here.shape != value.shape:
                raise ValueError(
                    f"state: expected {name} of shape {tuple(here.shape)}, got {tuple(value.shape)}"
                )
        vars(self).update(copy.deepcopy(state))

    def close(self) -> None:  # noqa: B027
        """Free what the world holds."""


class Environment(ABC):
    """What can be started: its sizes, and how to start copies of it.

    Attributes:
        observed: numbers in an observation.
        actions: number of actions, or coordinates of an action.
        discrete: whether actions are finitely many. If not, each coordinate is in [-1, 1], which
            the world scales to what its environment wants.
    """

    observed: int
    actions: int
    discrete: bool

    @abstractmethod
    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed.

        Args:
            seeds: number of seeds.
            copies: copies of each.
            generator: source of all randomness; the world lives on its device.

        Returns:
            The world; reset it before its first step.
        """


class TensorWorld(World):
    """States as one tensor: thousands of copies on a GPU cost one kernel each.

    Attributes:
        limit: steps after which an episode is cut.
        width: numbers in a state.
    """

    limit: int
    width: int

    def __init__(
        self, seeds: int, copies: int, generator: torch.Generator, dtype: torch.dtype
    ) -> None:
        require_count("seeds", seeds)
        require_count("copies", copies)
        self.generator, self.shape = generator, (seeds, copies)
        self.inner = torch.zeros(*self.shape, self.width, dtype=dtype, device=generator.device)
        self.age = torch.zeros(self.shape, dtype=torch.int64, device=generator.device)
        self.over = torch.zeros(self.shape, dtype=torch.bool, device=generator.device)

    def _uniform(self) -> Tensor:
        """Numbers in [-1, 1) of the shape of the states."""
        return 2 * torch.rand(
            self.inner.shape,
            generator=self.generator, device=self.inner.device, dtype=self.inner.dtype,
        ) - 1  # fmt: skip

    @abstractmethod
    def _first(self) -> Tensor:
        """States of new episodes."""

    @abstractmethod
    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next states, rewards, and whether the next states are terminal."""

    @abstractmethod
    def _observe(self, state: Tensor) -> Tensor: ...

    def reset(self) -> Tensor:
        """Start new episodes everywhere; see :meth:`World.reset`."""
        self.inner = self._first()
        self.age = torch.zeros_like(self.age)
        self.over = torch.zeros_like(self.over)
        return self._observe(self.inner)

    def step(self, action: Tensor) -> TimeStep:
        """Act once everywhere; see :meth:`World.step`."""
        state, reward, terminal = self._move(self.inner, action)
        fresh = self.over
        self.inner = torch.where(fresh[..., None], self._first(), state)
        self.age = torch.where(fresh, 0, self.age + 1)
        terminated = terminal & ~fresh
        truncated = (self.age >= self.limit) & ~fresh
        self.over = terminated | truncated
        reward = reward.masked_fill(fresh, 0.0)
        return TimeStep(self._observe(self.inner), reward, terminated, truncated)
