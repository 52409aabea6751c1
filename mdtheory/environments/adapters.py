"""Gymnasium's environments behind tensors.

The chapter 'Mirror descent policy optimisation' runs its robots.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_extra
from mdtheory.environments.base import Environment, TimeStep, World


class GymnasiumEnvironment(Environment):
    """An environment of gymnasium by its name, such as ``"HalfCheetah-v5"``.

    Args:
        name: its name there.
        dtype: of observations and rewards.

    Raises:
        ImportError: gymnasium, or what the environment needs, is not installed.
        ValueError: its observations are no vectors or its actions are of another kind.
    """

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        gymnasium = require_extra("gymnasium", "notebooks")
        self.name, self.dtype = name, dtype
        try:
            single = gymnasium.make(name)
        except gymnasium.error.DependencyNotInstalled as error:
            raise ImportError(
                f"{name} needs more than gymnasium; install it with: pip install 'mdtheory[mujoco]'"
            ) from error
        seen, done = single.observation_space, single.action_space
        single.close()
        spaces = gymnasium.spaces
        if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
            raise ValueError(f"name: expected observations that are vectors, got {seen}")
        self.observed = int(seen.shape[0])
        if isinstance(done, spaces.Discrete):
            self.discrete, self.actions = True, int(done.n)
        elif isinstance(done, spaces.Box) and len(done.shape) == 1 and done.is_bounded():
            self.discrete, self.actions = False, int(done.shape[0])
        else:
            raise ValueError(f"name: expected discrete actions or a bounded box, got {done}")

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed; see :meth:`Environment.start`."""
        return _GymnasiumWorld(self, seeds, copies, generator)


class _GymnasiumWorld(World):
    """Gymnasium's own vector environment behind tensors."""

    def __init__(
        self, given: GymnasiumEnvironment, seeds: int, copies: int, generator: torch.Generator
    ) -> None:
        gymnasium = require_extra("gymnasium", "notebooks")
        require_count("seeds", seeds)
        require_count("copies", copies)
        self.shape, self.dtype, self.generator = (seeds, copies), given.dtype, generator
        self.worlds: Any = gymnasium.make_vec(given.name, num_envs=seeds * copies)
        space = self.worlds.single_action_space
        self.discrete, self.first = given.discrete, int(getattr(space, "start", 0))
        if not self.discrete:
            self.middle = (space.high + space.low) / 2
            self.reach = (space.high - space.low) / 2

    def reset(self) -> Tensor:
        seed = int(torch.randint(
            2**31 - 1, (), generator=self.generator, device=self.generator.device
        ))  # fmt: skip
        observation, _ = self.worlds.reset(seed=seed)
        return self._tensor(observation, -1)

    def step(self, action: Tensor) -> TimeStep:
        orders = action.detach().flatten(0, 1).cpu().numpy()
        if self.discrete:
            orders = orders + self.first
        else:
            orders = (self.middle + self.reach * orders.clip(-1, 1)).astype(self.middle.dtype)
        observation, reward, terminated, truncated, _ = self.worlds.step(orders)
        return TimeStep(
            self._tensor(observation, -1), self._tensor(reward),
            self._mark(terminated), self._mark(truncated),
        )  # fmt: skip

    def close(self) -> None:
        self.worlds.close()

    def _tensor(self, array: Any, *last: int) -> Tensor:
        moved = torch.as_tensor(array, dtype=self.dtype).to(self.generator.device)
        # The vector environment may write into its arrays again.
        return moved.reshape(*self.shape, *last).clone()

    def _mark(self, array: Any) -> Tensor:
        return torch.as_tensor(array).to(self.generator.device).reshape(self.shape).clone()


def as_environment(environment: Environment | str) -> Environment:
    """An environment, or gymnasium's of that name.

    Args:
        environment: either.

    Returns:
        The environment.

    Raises:
        TypeError: it is neither.
        ImportError: gymnasium, or what the environment needs, is not installed.
    """
    if isinstance(environment, str):
        return GymnasiumEnvironment(environment)
    if not isinstance(environment, Environment):
        raise TypeError(
            "environment: expected an Environment or a name of gymnasium's, got "
            f"{type(environment).__name__}"
        )
    return environment
