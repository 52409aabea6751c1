"""Worlds as functions of state, action and physical constants, so that gradients run through them.

The chapter 'Imitation through physics' takes these gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mdtheory.checks import require_number

Constants = Mapping[str, float | Tensor]


class Differentiable(ABC):
    """A world as a pure function: nothing is clamped, nothing is changed in place, no clock.

    Attributes:
        width: numbers in a state.
        observed: numbers in an observation.
        actions: coordinates of an action, each meant to be in [-1, 1]; a policy keeps to it.
        constants: the physical constants with their usual values, in SI units.
        horizon: states of a demonstration.
        duration: states of an evaluation; success is judged at its end.
        spread: usual size of the noise of a start.
        dtype: of the states.
    """

    width: int
    observed: int
    actions: int
    constants: dict[str, float]
    horizon: int
    duration: int
    spread: float
    dtype: torch.dtype

    @abstractmethod
    def home(self, device: torch.device | str | None = None) -> Tensor:
        """The state about which starts are drawn, shape ``(width,)``."""

    @abstractmethod
    def _scatter(self, noise: Tensor) -> Tensor:
        """What standard normal numbers ``(..., width)`` change at a start, before their size."""

    @abstractmethod
    def step(self, state: Tensor, action: Tensor, parameters: Constants | None = None) -> Tensor:
        """The next state; leading axes are seeds, copies or anything else.

        Args:
            state: shape ``(..., width)``.
            action: shape ``(..., actions)``; not clamped.
            parameters: physical constants that are not to be the usual ones: numbers, or tensors
                that broadcast with the leading axes.

        Returns:
            States, shape ``(..., width)``.

        Raises:
            ValueError: a constant that this world has not.
        """

    @abstractmethod
    def observe(self, state: Tensor) -> Tensor:
        """What a policy sees, shape ``(..., observed)``."""

    @abstractmethod
    def features(self, state: Tensor) -> Tensor:
        """Coordinates of a state for distances, shape ``(..., features)``, each of order 1."""

    @abstractmethod
    def success(self, states: Tensor) -> Tensor:
        """Whether trajectories ``(..., steps, width)`` end well, bool, shape ``(...)``."""

    @abstractmethod
    def expert(self, state: Tensor, time: int) -> Tensor:
        """What a controller written by hand does, in [-1, 1], shape ``(..., actions)``."""

    def reset(
        self, shape: Sequence[int], generator: torch.Generator, spread: float | None = None
    ) -> Tensor:
        """Random starts: the home state and normal noise.

        Args:
            shape: leading axes, such as ``(seeds, copies)``.
            generator: source of the noise; the states live on its device.
            spread: size of the noise, not negative; the world's own by default.

        Returns:
            States, shape ``(*shape, width)``.

        Raises:
            ValueError: a negative spread.
        """
        size = require_number("spread", self.spread if spread is None else spread, 0.0)
        noise = torch.randn(
            (*shape, self.width), generator=generator, device=generator.device, dtype=self.dtype
        )
        return self.home(generator.device) + size * self._scatter(noise)

    def _chosen(self, parameters: Constants | None) -> dict[str, float | Tensor]:
        """The usual constants with those that are given in their place."""
        if not parameters:
            return dict(self.constants)
        unknown = set(parameters) - set(self.constants)
        if unknown:
            raise ValueError(
                f"parameters: expected some of {sorted(self.constants)}, got {sorted(unknown)}"
            )
        return {**self.constants, **parameters}


def column(value: float | Tensor, axes: int = 1) -> float | Tensor:
    """A constant for each instance, ready to meet ``axes`` trailing axes."""
    if not isinstance(value, Tensor):
        return value
    return value.reshape(value.shape + (1,) * axes)
