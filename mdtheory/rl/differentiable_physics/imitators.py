"""The demonstration, policies of all seeds, behaviour cloning, and how often a policy succeeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.agents import Network, adam
from mdtheory.checks import require_count, require_number, require_shape, require_tensor
from mdtheory.environments.differentiable import Constants, Differentiable
from mdtheory.rl.differentiable_physics.rollouts import require_world, rollout


class Demonstration(NamedTuple):
    """One trajectory of an expert.

    Attributes:
        states: before each step, shape ``(steps, n)``.
        actions: taken in each of them, shape ``(steps, actions)``.
    """

    states: Tensor
    actions: Tensor


def demonstrate(
    environment: Differentiable,
    state: Tensor | None = None,
    steps: int | None = None,
    parameters: Constants | None = None,
) -> Demonstration:
    """What the world's own expert does.

    Args:
        environment: the world.
        state: where to start, shape ``(..., n)``; by default the world's home state.
        steps: number of states, by default the world's horizon.
        parameters: physical constants that are not the usual ones.

    Returns:
        The demonstration; leading axes of the start are kept.

    Raises:
        ValueError: a state of the wrong shape, or a count below 1.
    """
    here = environment.home() if state is None else require_tensor("state", state)
    require_shape("state", here, (*here.shape[:-1], environment.width))
    seen, done = [], []
    for time in range(require_count("steps", environment.horizon if steps is None else steps)):
        action = environment.expert(here, time)
        seen.append(here)
        done.append(action)
        here = environment.step(here, action, parameters)
    return Demonstration(torch.stack(seen, -2), torch.stack(done, -2))


class Imitator:
    """Deterministic policies of all seeds: networks of scaled observations, then tanh.

    Args:
        environment: what they act in.
        seeds: number of policies.
        generator: source of the weights; the policies live on its device.
        seen: observations whose largest sizes, or 1, divide all others, shape ``(n, observed)``.
        hidden: units of each hidden layer.

    Attributes:
        seeds: number of policies.
        network: their networks, one slice of every weight a seed.
    """

    def __init__(
        self,
        environment: Differentiable,
        seeds: int,
        generator: torch.Generator,
        seen: Tensor,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        self.seeds = require_count("seeds", seeds)
        sizes = (environment.observed, *hidden, environment.actions)
        self.network = Network(
            seeds, sizes, generator, activation="silu", last_gain=0.1, dtype=environment.dtype
        )  # fmt: skip
        # What is small in the demonstration is not blown up.
        self.scale = seen.abs().amax(0).clamp(min=1)

    def __call__(self, observation: Tensor) -> Tensor:
        """Actions ``(seeds, copies, actions)`` for observations ``(seeds, copies, observed)``."""
        return self.before_squashing(observation).tanh()

    def before_squashing(self, observation: Tensor) -> Tensor:
        """What is squashed, shape ``(seeds, copies, actions)``."""
        return self.network(observation / self.scale)

    def rows(self, index: Tensor | slice) -> Imitator:
        """Copies of some of the policies, in this order, to be trained apart.

        Args:
            index: int64, which ones; a policy may come twice.

        Returns:
            Policies in memory of their own.
        """
        chosen = object.__new__(Imitator)
        chosen.network = object.__new__(Network)
        chosen.network.activation = self.network.activation
        chosen.network.parameters = [
            p.detach()[index].clone().requires_grad_() for p in self.network.parameters
        ]
        chosen.scale = self.scale
        chosen.seeds = len(chosen.network.parameters[0])
        return chosen


def behaviour_cloning(
    environment: Differentiable,
    demonstration: Demonstration,
    generator: torch.Generator,
    *,
    seeds: int,
    steps: int = 1500,
    hidden: Sequence[int] = (64, 64),
    learning_rate: float = 1e-3,
) -> Imitator:
    """Regression of the shown actions on the shown observations, all seeds at once.

    Args:
        environment: the world.
        demonstration: one trajectory with its actions.
        generator: source of the first weights.
        seeds: number of policies.
        steps: of Adam, each with the whole demonstration.
        hidden: units of each hidden layer.
        learning_rate: of Adam.

    Returns:
        The policies.

    Raises:
        ValueError: shapes that do not fit, or a number out of range.
    """
    states, actions = require_demonstration(demonstration, environment, generator.device)
    if actions is None:
        raise ValueError("demonstration: expected actions, got states alone")
    require_count("steps", steps, 0)
    require_number("learning_rate", learning_rate, 0.0, strict=True)
    seen = environment.observe(states)
    policy = Imitator(environment, seeds, generator, seen, hidden)
    optimiser = adam(policy.network.parameters, learning_rate)
    batch = seen.expand(seeds, *seen.shape)
    for _ in range(steps):
        optimiser.zero_grad()
        (policy(batch) - actions).square().mean((1, 2)).sum().backward()
        optimiser.step()
    return policy


def require_demonstration(
    demonstration: Demonstration | Tensor, environment: Differentiable, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """States and actions of one demonstration that fits a world.

    Args:
        demonstration: one trajectory, or its states alone.
        environment: the world that it must fit.
        device: where it must be.

    Returns:
        States, and actions where there are some.

    Raises:
        TypeError: neither a demonstration nor a tensor of states, or another dtype.
        ValueError: a wrong shape or another device.
    """
    require_world(environment)
    states: Tensor
    actions: Tensor | None
    if isinstance(demonstration, Tensor):
        states, actions = require_tensor("demonstration", demonstration), None
    elif isinstance(demonstration, Demonstration):
        states, actions = demonstration
    else:
        raise TypeError(
            f"demonstration: expected a Demonstration or states, got {type(demonstration).__name__}"
        )
    for part, width in ((states, environment.width), (actions, environment.actions)):
        if part is None:
            continue
        require_tensor("demonstration", part)
        require_shape("demonstration", part, (len(states), width))
        if part.dtype != environment.dtype:
            raise TypeError(f"demonstration: expected {environment.dtype}, got {part.dtype}")
        if part.device.type != device.type:
            raise ValueError(f"demonstration: expected device {device}, got {part.device}")
    return states, actions


def success_rate(
    environment: Differentiable,
    policy: Imitator,
    generator: torch.Generator,
    *,
    copies: int = 128,
    spread: float | None = None,
    noise: float | None = None,
    parameters: Constants | None = None,
) -> Tensor:
    """Share of random starts from which each policy succeeds.

    Args:
        environment: the world.
        policy: the policies.
        generator: source of the starts and of the noise.
        copies: starts of each policy.
        spread: of the starts; by default the world's own.
        noise: standard deviation of normal noise on the actions.
        parameters: physical constants that are not the usual ones.

    Returns:
        Rates, shape ``(seeds,)``.

    Raises:
        ValueError: a number out of range.
    """
    start = environment.reset(
        (policy.seeds, require_count("copies", copies)), generator, spread
    )  # fmt: skip
    with torch.no_grad():
        states = rollout(
            environment, policy, start, environment.duration, truncation=None,
            step_clip=torch.inf, noise=noise, generator=generator, parameters=parameters,
        )  # fmt: skip
    return environment.success(states).to(environment.dtype).mean(-1)
