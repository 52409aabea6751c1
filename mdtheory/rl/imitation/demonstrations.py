"""Demonstrations: what an expert showed, and the experts that this chapter has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_shape, require_tensor
from mdtheory.environments import (
    CartPoleSwingup,
    DeepMindEnvironment,
    Environment,
    Pendulum,
    as_environment,
    pump_cartpole,
    pump_pendulum,
)

Expert = Callable[[Tensor], Tensor]


class Demonstrations(NamedTuple):
    """Steps of an expert, for each seed its own; the first two axes are seeds and steps.

    Attributes:
        observation: before the step, ``(seeds, n, observed)``.
        action: in [-1, 1], ``(seeds, n, actions)``.
        after: observation after the step, ``(seeds, n, observed)``.
        returns: undiscounted return of each episode shown, ``(seeds, episodes)``.
    """

    observation: Tensor
    action: Tensor
    after: Tensor
    returns: Tensor


def scripted_expert(environment: Environment) -> Expert:
    """A controller written by hand that does the task.

    Args:
        environment: Pendulum, CartPoleSwingup, or the suite's cartpole-swingup.

    Returns:
        A function from observations ``(..., observed)`` to actions in [-1, 1], ``(..., actions)``.

    Raises:
        ValueError: there is none for this environment.
    """
    if isinstance(environment, Pendulum):
        return pump_pendulum
    if isinstance(environment, CartPoleSwingup):
        return pump_cartpole
    task = getattr(environment, "domain", None), getattr(environment, "task", None)
    if isinstance(environment, DeepMindEnvironment) and task == ("cartpole", "swingup"):
        return _suite_cartpole
    raise ValueError(
        "environment: expected Pendulum, CartPoleSwingup or the suite's cartpole-swingup, got "
        f"{getattr(environment, 'name', type(environment).__name__)}"
    )


def _suite_cartpole(observation: Tensor) -> Tensor:
    """The suite observes place, cosine, sine, speed and turn, in this order."""
    place, cosine, sine, speed, turn = observation.unbind(-1)
    return pump_cartpole(torch.stack([place, speed / 2, cosine, sine, turn / 4], -1))


def demonstrate(
    environment: Environment | str,
    expert: Expert,
    generator: torch.Generator,
    *,
    seeds: int,
    episodes: int,
) -> Demonstrations:
    """Episodes of an expert, for each seed its own.

    Args:
        environment: what to act in, or its name in gymnasium; only a time limit may end its
            episodes.
        expert: from observations to actions, such as :func:`scripted_expert` gives.
        generator: source of the starts.
        seeds: number of seeds.
        episodes: episodes of each, run side by side to their end.

    Returns:
        All steps of the episodes.

    Raises:
        TypeError: no environment.
        ValueError: a count below 1, discrete actions, or an episode that ended in a terminal state:
            this chapter's losses know no absorbing states.
    """
    environment = as_environment(environment)
    if environment.discrete:
        raise ValueError("environment: expected continuous actions, got discrete ones")
    world = environment.start(
        require_count("seeds", seeds), require_count("episodes", episodes), generator
    )
    observation = world.reset().clone()
    seen, done, after, rewards = [], [], [], []
    while True:
        action = expert(observation)
        moment = world.step(action).own()
        refuse_termination(moment.terminated)
        seen.append(observation)
        done.append(action)
        after.append(moment.observation)
        rewards.append(moment.reward)
        observation = moment.observation
        if bool(moment.truncated.any()):
            break
    world.close()
    if not bool(moment.truncated.all()):
        raise ValueError("environment: expected episodes of one length")
    rows = (torch.stack(part, 2).flatten(1, 2) for part in (seen, done, after))
    states, actions, ahead = rows
    return Demonstrations(states, actions, ahead, torch.stack(rewards).sum(0))


def refuse_termination(terminated: Tensor) -> None:
    """Raise where an episode ended in a terminal state.

    Args:
        terminated: marks of a step, any shape.

    Raises:
        ValueError: one did. Without absorbing states the length of an episode would give away who
            acted.
    """
    if bool(terminated.any()):
        raise ValueError("environment: expected episodes that only a time limit ends")


def require_demonstrations(
    demonstrations: Demonstrations, environment: Environment, seeds: int, device: torch.device
) -> None:
    """Refuse demonstrations that do not fit an environment and its seeds.

    Raises:
        TypeError: no :class:`Demonstrations`, or no floating-point tensors in them.
        ValueError: discrete actions, a wrong shape or another device.
    """
    if not isinstance(demonstrations, Demonstrations):
        raise TypeError(
            f"demonstrations: expected Demonstrations, got {type(demonstrations).__name__}"
        )
    if environment.discrete:
        raise ValueError("environment: expected continuous actions, got discrete ones")
    number = require_tensor("demonstrations", demonstrations.observation).shape[1]
    widths = (environment.observed, environment.actions, environment.observed)
    for part, width in zip(demonstrations, widths, strict=False):
        require_shape("demonstrations", require_tensor("demonstrations", part),
                      (seeds, number, width))  # fmt: skip
        if part.device != device:
            raise ValueError(f"demonstrations: expected device {device}, got {part.device}")


def draw_rows(parts: tuple[Tensor, ...], index: Tensor) -> tuple[Tensor, ...]:
    """Rows of tensors ``(seeds, n, width)`` at ``index`` ``(seeds, b)``, ``(seeds, b, width)``.

    Args:
        parts: tensors with the same first two axes.
        index: int64.

    Returns:
        Rows of each, memory of their own.
    """
    return tuple(part.gather(1, index[..., None].expand(-1, -1, part.shape[-1])) for part in parts)
