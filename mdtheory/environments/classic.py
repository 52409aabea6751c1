"""CartPole, its swing-up and Pendulum as tensor programs.

The worlds of the chapters 'Target-based surrogates', 'Mirror descent policy optimisation' and
'Imitation by boosting'.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.environments.base import Environment, TensorWorld, World


def _accelerations(turn: Tensor, angle: Tensor, force: Tensor) -> tuple[Tensor, Tensor]:
    """Of the cart and of the pole: masses 1 and 0.1 kg, half length 0.5 m, gravity 9.8 m/s^2."""
    sine, cosine = angle.sin(), angle.cos()
    push = (force + 0.05 * turn.square() * sine) / 1.1
    twist = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine.square() / 1.1))
    return push - 0.05 * twist * cosine / 1.1, twist


class _CartPoleWorld(TensorWorld):
    limit, width = 500, 4

    def _first(self) -> Tensor:
        return 0.05 * self._uniform()

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place, speed, angle, turn = state.unbind(-1)
        force = 20.0 * action - 10.0
        # 20 ms a step.
        pull, twist = _accelerations(turn, angle, force)
        after = torch.stack(
            [place + 0.02 * speed, speed + 0.02 * pull, angle + 0.02 * turn, turn + 0.02 * twist],
            -1,
        )
        lost = (after[..., 0].abs() > 2.4) | (after[..., 2].abs() > math.pi / 15)
        return after, torch.ones_like(place), lost

    def _observe(self, state: Tensor) -> Tensor:
        return state


class _SwingupWorld(TensorWorld):
    limit, width = 250, 4

    def _first(self) -> Tensor:
        return 0.05 * self._uniform() + self.inner.new_tensor([0, 0, math.pi, 0])

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place, speed, angle, turn = state.unbind(-1)
        force = 10 * action[..., 0].clamp(-1, 1)
        pull, twist = _accelerations(turn, angle, force)
        # 40 ms a step, speeds first: a long step with the old speeds would gain energy.
        turn, speed = (turn + 0.04 * twist).clamp(-12, 12), speed + 0.04 * pull
        angle, place = angle + 0.04 * turn, place + 0.04 * speed
        speed = torch.where(place.abs() > 2.4, 0.0, speed)
        place = place.clamp(-2.4, 2.4)
        reward = (1 + angle.cos()) / 2 - 0.05 * place.square()
        return torch.stack([place, speed, angle, turn], -1), reward, torch.zeros_like(self.over)

    def _observe(self, state: Tensor) -> Tensor:
        place, speed, angle, turn = state.unbind(-1)
        return torch.stack([place, speed / 2, angle.cos(), angle.sin(), turn / 4], -1)


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


class CartPoleSwingup(Environment):
    """Swing the pole of CartPole up from below, and hold it: the same masses, a rail with ends.

    One force (here in [-1, 1], 10 N at most), five observed numbers (place, half the speed, cosine
    and sine of the angle, a quarter of the turning speed), a reward of at most 1 for each step that
    falls with the angle and the distance from the middle, 40 ms a step, cut after 250 steps and
    never terminated. The ends of the rail, 2.4 m from the middle, stop the cart.

    Args:
        dtype: of states and rewards.
    """

    observed, actions, discrete = 5, 1, False

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed; see :meth:`Environment.start`."""
        return _SwingupWorld(seeds, copies, generator, self.dtype)
