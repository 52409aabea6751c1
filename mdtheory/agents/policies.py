"""What acts: a network for the policy of each seed, and its evaluation with frozen statistics.

The chapter 'Mirror descent policy optimisation' trains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mdtheory.agents.distributions import Categorical, Gaussian
from mdtheory.agents.networks import Network
from mdtheory.agents.normalization import Moments
from mdtheory.checks import require_count
from mdtheory.environments import Environment, as_environment


class Actor(Protocol):
    """Anything that can be evaluated."""

    seeds: int

    def act(self, observation: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions for raw observations.

        Args:
            observation: shape ``(seeds, n, observed)``.
            generator: source of the actions; without one, the likeliest are taken.

        Returns:
            Actions, shape ``(seeds, n)`` or ``(seeds, n, actions)``.
        """
        ...


class Policy:
    """Policies of all seeds: categorical, or Gaussian with a deviation that no state changes.

    Args:
        environment: what they act in.
        seeds: number of policies.
        hidden: units of each hidden layer.
        generator: source of the weights; the policy lives on its device.
        dtype: of the weights.
        normalize: whether observations are standardised by running moments.
    """

    def __init__(
        self,
        environment: Environment,
        seeds: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        *,
        dtype: torch.dtype = torch.float32,
        normalize: bool = False,
    ) -> None:
        self.seeds, self.discrete = seeds, environment.discrete
        sizes = (environment.observed, *hidden, environment.actions)
        self.network = Network(seeds, sizes, generator, last_gain=0.01, dtype=dtype)
        self.parameters = list(self.network.parameters)
        self.log_std: Tensor | None = None
        if not self.discrete:
            start = self.parameters[0].new_zeros(seeds, 1, environment.actions)
            self.log_std = start.requires_grad_()
            self.parameters.append(self.log_std)
        self.moments: Moments | None = None
        if normalize:
            self.moments = Moments(seeds, environment.observed, self.parameters[0].detach())

    def law(self, seen: Tensor) -> Categorical | Gaussian:
        """Law of the action in each state.

        Args:
            seen: standardised observations, shape ``(seeds, n, observed)``.

        Returns:
            The law.
        """
        output = self.network(seen)
        if self.log_std is None:
            return Categorical(output)
        # A copy: the law of the old policy must stay when the parameter is changed in place.
        return Gaussian(output, self.log_std.clone())

    def push(self, seen: Tensor, directions: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Change of what the law is made of when the parameters move along ``directions``.

        Args:
            seen: standardised observations, shape ``(seeds, n, observed)``.
            directions: one for each parameter, of its shape.

        Returns:
            Changes, one for each field of the law.
        """
        change = self.network.push(seen, directions)
        return (change,) if self.log_std is None else (change, directions[-1])

    def see(self, observation: Tensor) -> Tensor:
        """Standardise observations by the moments so far, which stay as they are.

        Args:
            observation: raw, shape ``(seeds, n, observed)``.

        Returns:
            Observations, same shape.
        """
        return observation if self.moments is None else self.moments.standardize(observation)

    def act(self, observation: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions for raw observations.

        Args:
            observation: shape ``(seeds, n, observed)``.
            generator: source of the actions; without one, the likeliest are taken.

        Returns:
            Actions, shape ``(seeds, n)`` or ``(seeds, n, actions)``.
        """
        with torch.no_grad():
            law = self.law(self.see(observation))
            return law.mode() if generator is None else law.sample(generator)


def evaluate(
    actor: Actor,
    environment: Environment | str,
    generator: torch.Generator,
    *,
    episodes: int = 10,
    greedy: bool = True,
) -> Tensor:
    """Mean return over fresh episodes, with every statistic of the policy frozen.

    Args:
        actor: the policy of each seed.
        environment: where to act, or its name in gymnasium.
        generator: source of the starts, and of the actions if they are drawn.
        episodes: episodes of each seed, run side by side; the first of each copy counts.
        greedy: whether the likeliest actions are taken.

    Returns:
        Undiscounted mean returns, shape ``(seeds,)``.

    Raises:
        ImportError: gymnasium, or what the environment needs, is not installed.
        TypeError: no environment.
        ValueError: fewer than one episode.
    """
    world = as_environment(environment).start(
        actor.seeds, require_count("episodes", episodes), generator
    )
    observation = world.reset()
    total = torch.zeros_like(observation[..., 0])
    running = torch.ones_like(total, dtype=torch.bool)
    while bool(running.any()):
        action = actor.act(observation, None if greedy else generator)
        observation, reward, terminated, truncated = world.step(action)
        total = total + running * reward
        running = running & ~(terminated | truncated)
    world.close()
    return total.mean(-1)


def film(actor: Actor, environment: Environment, generator: torch.Generator, steps: int) -> Tensor:
    """What the greedy policies observe from a fresh start on.

    Args:
        actor: the policy of each seed.
        environment: where to act.
        generator: source of the start.
        steps: steps to make; an environment that ends starts anew.

    Returns:
        Observations, shape ``(steps + 1, seeds, observed)``.

    Raises:
        ValueError: fewer than one step.
    """
    world = environment.start(actor.seeds, 1, generator)
    seen = [world.reset().clone()]
    for _ in range(require_count("steps", steps)):
        seen.append(world.step(actor.act(seen[-1])).observation.clone())
    world.close()
    return torch.stack(seen)[:, :, 0]
