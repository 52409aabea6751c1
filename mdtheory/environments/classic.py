"""CartPole and Pendulum as tensor programs.

The worlds of the chapters 'Target-based surrogates' and 'Mirror descent policy optimisation'.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.environments.base import Environment, TensorWorld, World


class _CartPoleWorld(TensorWorld):
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


class _PendulumWorld(TensorWorld):
    limit, width = 200, 2

    def _first(self) -> Tensor:
        return self._uniform() * self.inner.new_tensor([math.pi, 1.0])

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
