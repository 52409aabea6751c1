"""Games that can be left and taken up again: one copy, one step at a time.

The chapter 'Exploration' returns to where it has been by restoring such a state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from mdtheory.checks import require_count
from mdtheory.environments.adapters import as_environment
from mdtheory.environments.base import Environment


class Simulator(ABC):
    """One copy of a game whose whole state can be kept and restored.

    Attributes:
        actions: number of actions; an action is a number from 0 to ``actions - 1``.
    """

    actions: int

    @abstractmethod
    def reset(self) -> None:
        """Begin at the start, the same one every time."""

    @abstractmethod
    def state(self) -> Any:
        """Everything that decides what follows: memory of its own, to be restored at any time."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Go back to a state; it is not changed by what follows."""

    @abstractmethod
    def step(self, action: int) -> tuple[float, bool]:
        """Act once: the reward, and whether the game is over, after which nothing may be done."""

    @abstractmethod
    def view(self) -> Any:
        """What a map of cells looks at."""


class WorldSimulator(Simulator):
    """A world of the book, or of gymnasium, as a game to be left and taken up again.

    Its state holds what :meth:`World.state` holds, time limits and stacks of frames too, and the
    state of the generator, so that what is done again happens again.

    Args:
        environment: with finitely many actions, or its name in gymnasium.
        generator: source of all randomness; every reset begins from the state that it has now.

    Raises:
        ValueError: the environment's actions are no finite set.
    """

    def __init__(self, environment: Environment | str, generator: torch.Generator) -> None:
        environment = as_environment(environment)
        if not environment.discrete:
            raise ValueError("environment: expected finitely many actions, got continuous ones")
        self.actions, self.generator = environment.actions, generator
        self.world = environment.start(1, 1, generator)
        self.observation = self.world.reset().clone()
        self.begin = self.state()

    def reset(self) -> None:
        """Begin at the start; see :meth:`Simulator.reset`."""
        self.restore(self.begin)

    def state(self) -> Any:
        """The world, the generator and the last observation; see :meth:`Simulator.state`."""
        return self.world.state(), self.generator.get_state(), self.observation.clone()

    def restore(self, state: Any) -> None:
        """Go back to a state; see :meth:`Simulator.restore`."""
        world, generator, observation = state
        self.world.restore(world)
        self.generator.set_state(generator)
        self.observation = observation.clone()

    def step(self, action: int) -> tuple[float, bool]:
        """Act once; see :meth:`Simulator.step`. A time limit ends the game, too."""
        orders = torch.tensor([[action]], device=self.generator.device)
        self.observation, reward, terminated, truncated = self.world.step(orders).own()
        return reward.item(), bool(terminated | truncated)

    def view(self) -> Any:
        """The last observation, shape ``(observed,)``."""
        return self.observation[0, 0]


def play(simulator: Simulator, actions: list[int]) -> tuple[float, bool]:
    """Play actions from the start of a game.

    Args:
        simulator: the game; it is left where the actions lead.
        actions: what to do, until it is over.

    Returns:
        The sum of the rewards, and whether the game is over.

    Raises:
        ValueError: an action that the game does not have, or one after its end.
    """
    simulator.reset()
    total, over = 0.0, False
    for action in actions:
        if over:
            raise ValueError(f"actions: expected none after the end, got {len(actions)} in all")
        if not 0 <= action < simulator.actions:
            raise ValueError(f"actions: expected numbers below {simulator.actions}, got {action!r}")
        reward, over = simulator.step(action)
        total += reward
    return total, over


def require_simulator(name: str, value: object) -> Simulator:
    """Refuse what is no game to be left and taken up again.

    Raises:
        TypeError: it is something else.
        ValueError: it has no action.
    """
    if not isinstance(value, Simulator):
        raise TypeError(f"{name}: expected a Simulator, got {type(value).__name__}")
    require_count(f"{name}.actions", value.actions)
    return value
