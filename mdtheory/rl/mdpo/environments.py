"""Worlds for all seeds at once: CartPole and Pendulum as tensor programs, and gymnasium's.

All of them behave as gymnasium's vector environments do with next-step autoreset: the step that
ends an episode returns the observation in which it ended, and the next step ignores its action,
gives reward 0 and returns the first observation of a new episode. Such a step is no experience.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_extra


class Moment(NamedTuple):
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

    def own(self) -> Moment:
        """A copy in memory of its own: a world may write into its tensors again."""
        return Moment(*(part.clone() for part in self))


class World(ABC):
    """Running copies of an environment."""

    @abstractmethod
    def reset(self) -> Tensor:
        """Start new episodes everywhere; returns observations ``(seeds, copies, observed)``."""

    @abstractmethod
    def step(self, action: Tensor) -> Moment:
        """Act once everywhere.

        The tensors may be the world's own; who keeps them copies them (:meth:`Moment.own`).

        Args:
            action: int64 ``(seeds, copies)`` where actions are finitely many, else floats
                ``(seeds, copies, actions)`` in [-1, 1].

        Returns:
            What came of it.
        """

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


class _TensorWorld(World):
    """States as one tensor: thousands of copies on a GPU cost one kernel each."""

    limit: int
    width: int

    def __init__(
        self, seeds: int, copies: int, generator: torch.Generator, dtype: torch.dtype
    ) -> None:
        require_count("seeds", seeds)
        require_count("copies", copies)
        self.generator, self.shape = generator, (seeds, copies)
        self.state = torch.zeros(*self.shape, self.width, dtype=dtype, device=generator.device)
        self.age = torch.zeros(self.shape, dtype=torch.int64, device=generator.device)
        self.over = torch.zeros(self.shape, dtype=torch.bool, device=generator.device)

    def _uniform(self) -> Tensor:
        """Numbers in [-1, 1) of the shape of the states."""
        return 2 * torch.rand(
            self.state.shape,
            generator=self.generator, device=self.state.device, dtype=self.state.dtype,
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
        self.state = self._first()
        self.age = torch.zeros_like(self.age)
        self.over = torch.zeros_like(self.over)
        return self._observe(self.state)

    def step(self, action: Tensor) -> Moment:
        state, reward, terminal = self._move(self.state, action)
        fresh = self.over
        self.state = torch.where(fresh[..., None], self._first(), state)
        self.age = torch.where(fresh, 0, self.age + 1)
        terminated = terminal & ~fresh
        truncated = (self.age >= self.limit) & ~fresh
        self.over = terminated | truncated
        reward = reward.masked_fill(fresh, 0.0)
        return Moment(self._observe(self.state), reward, terminated, truncated)


class _CartPoleWorld(_TensorWorld):
    limit, width = 500, 4

    def _first(self) -> Tensor:
        return 0.05 * self._uniform()

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place, speed, angle, turn = state.unbind(-1)
        force = 20.0 * action - 10.0
        sine, cosine = angle.sin(), angle.cos()
        # Masses 1 and 0.1 kg, half length 0.5 m, gravity 9.8 m/s^2, 20 ms a step.
        push = (force + 0.05 * turn.square() * sine) / 1.1
        twist = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine.square() / 1.1))
        pull = push - 0.05 * twist * cosine / 1.1
        after = torch.stack(
            [place + 0.02 * speed, speed + 0.02 * pull, angle + 0.02 * turn, turn + 0.02 * twist],
            -1,
        )
        lost = (after[..., 0].abs() > 2.4) | (after[..., 2].abs() > math.pi / 15)
        return after, torch.ones_like(place), lost

    def _observe(self, state: Tensor) -> Tensor:
        return state


class _PendulumWorld(_TensorWorld):
    limit, width = 200, 2

    def _first(self) -> Tensor:
        return self._uniform() * self.state.new_tensor([math.pi, 1.0])

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        angle, turn = state.unbind(-1)
        torque = 2 * action[..., 0].clamp(-1, 1)
        upright = (angle + math.pi).remainder(2 * math.pi) - math.pi
        cost = upright.square() + 0.1 * turn.square() + 0.001 * torque.square()
        turn = (turn + 0.05 * (15 * angle.sin() + 3 * torque)).clamp(-8, 8)
        after = torch.stack([angle + 0.05 * turn, turn], -1)
        return after, -cost, torch.zeros_like(self.over)

    def _observe(self, state: Tensor) -> Tensor:
        angle, turn = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), turn], -1)


class CartPole(Environment):
    """Balance a pole on a cart: the equations of CartPole-v1 as a tensor program.

    Two actions, four observed numbers (place, speed, angle, turning speed), reward 1 for each
    step, the end after a fall or 500 steps.

    Args:
        dtype: of states and rewards.
    """

    observed, actions, discrete = 4, 2, True

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed; see :meth:`Environment.start`."""
        return _CartPoleWorld(seeds, copies, generator, self.dtype)


class Pendulum(Environment):
    """Swing a pendulum up and hold it: the equations of Pendulum-v1 as a tensor program.

    One torque (here in [-1, 1], there in [-2, 2]), three observed numbers (cosine and sine of the
    angle, turning speed), a cost for each step, cut after 200 steps and never terminated.

    Args:
        dtype: of states and rewards.
    """

    observed, actions, discrete = 3, 1, False

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed; see :meth:`Environment.start`."""
        return _PendulumWorld(seeds, copies, generator, self.dtype)


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

    def step(self, action: Tensor) -> Moment:
        orders = action.detach().flatten(0, 1).cpu().numpy()
        if self.discrete:
            orders = orders + self.first
        else:
            orders = (self.middle + self.reach * orders.clip(-1, 1)).astype(self.middle.dtype)
        observation, reward, terminated, truncated, _ = self.worlds.step(orders)
        return Moment(
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
