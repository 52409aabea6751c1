"""CartPole, its swing-up and Pendulum as tensor programs.

The worlds of the chapters 'Target-based surrogates', 'Mirror descent policy optimisation' and
'Imitation by boosting'; the chapter 'Imitation through physics' takes gradients of the same
equations, without the bounds at which those would end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.environments.base import Environment, TensorWorld, World
from mdtheory.environments.differentiable import Constants, Differentiable
from mdtheory.environments.experts import ease_pendulum, pump_cartpole

Number = float | Tensor


def _accelerations(
    turn: Tensor, angle: Tensor, force: Tensor, *, cart_mass: Number = 1.0,
    pole_mass: Number = 0.1, half_length: Number = 0.5, gravity: Number = 9.8,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Of the cart and of the pole."""
    sine, cosine = angle.sin(), angle.cos()
    mass, moment = cart_mass + pole_mass, pole_mass * half_length
    push = (force + moment * turn.square() * sine) / mass
    twist = (gravity * sine - cosine * push) / (
        half_length * (4 / 3 - pole_mass * cosine.square() / mass)
    )
    return push - moment * twist * cosine / mass, twist


def _swing(
    angle: Tensor, torque: Tensor, *, mass: Number = 1.0, length: Number = 1.0,
    gravity: Number = 10.0,
) -> Tensor:  # fmt: skip
    """Acceleration of a rod that hangs from one end; the angle is 0 where it stands upright."""
    return 1.5 * gravity / length * angle.sin() + 3 / (mass * length**2) * torque


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
        turn = (turn + 0.05 * _swing(angle, torque)).clamp(-8, 8)
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


class Pendulum(Environment, Differentiable):
    """Swing a pendulum up and hold it: the equations of Pendulum-v1 as a tensor program.

    One torque (here in [-1, 1], there in [-2, 2]), three observed numbers (cosine and sine of the
    angle, turning speed), a cost for each step, cut after 200 steps and never terminated. A started
    world clamps the torque and the turning speed; :meth:`step`, through which gradients run, clamps
    neither.

    Args:
        dtype: of states and rewards.
    """

    observed, actions, discrete = 3, 1, False
    width, horizon, duration, spread = 2, 120, 200, 0.3

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.constants = {"mass": 1.0, "length": 1.0, "gravity": 10.0}

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed; see :meth:`Environment.start`."""
        return _PendulumWorld(seeds, copies, generator, self.dtype)

    def home(self, device: torch.device | str | None = None) -> Tensor:
        """Hanging at rest."""
        return torch.tensor([math.pi, 0.0], dtype=self.dtype, device=device)

    def _scatter(self, noise: Tensor) -> Tensor:
        return noise

    def step(self, state: Tensor, action: Tensor, parameters: Constants | None = None) -> Tensor:
        """Next states, 50 ms later; speeds move first. See :meth:`Differentiable.step`."""
        angle, turn = state.unbind(-1)
        turn = turn + 0.05 * _swing(angle, 2 * action[..., 0], **self._chosen(parameters))
        return torch.stack([angle + 0.05 * turn, turn], -1)

    def observe(self, state: Tensor) -> Tensor:
        """Cosine and sine of the angle, and the turning speed."""
        angle, turn = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), turn], -1)

    def features(self, state: Tensor) -> Tensor:
        """Cosine and sine of the angle, and an eighth of the turning speed."""
        angle, turn = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), turn / 8], -1)

    def success(self, states: Tensor) -> Tensor:
        """Upright over the last forty steps: a mean cosine above 0.9."""
        return states[..., -40:, 0].cos().mean(-1) > 0.9

    def expert(self, state: Tensor, time: int) -> Tensor:
        """Pumps energy gently, and holds at the top; the time plays no part."""
        return ease_pendulum(self.observe(state))


class CartPoleSwingup(Environment, Differentiable):
    """Swing the pole of CartPole up from below, and hold it: the same masses, a rail with ends.

    One force (here in [-1, 1], 10 N at most), five observed numbers (place, half the speed, cosine
    and sine of the angle, a quarter of the turning speed), a reward of at most 1 for each step that
    falls with the angle and the distance from the middle, 40 ms a step, cut after 250 steps and
    never terminated. The ends of the rail, 2.4 m from the middle, stop the cart of a started world;
    for :meth:`step`, through which gradients run, the rail has no ends and the force no bound.

    Args:
        dtype: of states and rewards.
    """

    observed, actions, discrete = 5, 1, False
    width, horizon, duration, spread = 4, 120, 200, 0.1

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.constants = {"cart_mass": 1.0, "pole_mass": 0.1, "half_length": 0.5, "gravity": 9.8}

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed; see :meth:`Environment.start`."""
        return _SwingupWorld(seeds, copies, generator, self.dtype)

    def home(self, device: torch.device | str | None = None) -> Tensor:
        """In the middle, the pole hanging a little to the side."""
        return torch.tensor([0.0, 0.0, 3.0, 0.0], dtype=self.dtype, device=device)

    def _scatter(self, noise: Tensor) -> Tensor:
        return noise

    def step(self, state: Tensor, action: Tensor, parameters: Constants | None = None) -> Tensor:
        """Next states, 40 ms later; speeds move first. See :meth:`Differentiable.step`."""
        place, speed, angle, turn = state.unbind(-1)
        pull, twist = _accelerations(
            turn, angle, 10 * action[..., 0], **self._chosen(parameters)
        )  # fmt: skip
        turn, speed = turn + 0.04 * twist, speed + 0.04 * pull
        return torch.stack([place + 0.04 * speed, speed, angle + 0.04 * turn, turn], -1)

    def observe(self, state: Tensor) -> Tensor:
        """Place, half the speed, cosine and sine of the angle, a quarter of the turning speed."""
        place, speed, angle, turn = state.unbind(-1)
        return torch.stack([place, speed / 2, angle.cos(), angle.sin(), turn / 4], -1)

    def features(self, state: Tensor) -> Tensor:
        """What is observed, with an eighth of the turning speed."""
        place, speed, angle, turn = state.unbind(-1)
        return torch.stack([place, speed / 2, angle.cos(), angle.sin(), turn / 8], -1)

    def success(self, states: Tensor) -> Tensor:
        """Upright over the last forty steps, mean cosine above 0.9, within 2.4 m of the middle."""
        last = states[..., -40:, :]
        return (last[..., 2].cos().mean(-1) > 0.9) & (last[..., 0].abs().amax(-1) < 2.4)

    def expert(self, state: Tensor, time: int) -> Tensor:
        """Pumps energy, and balances; the time plays no part."""
        return pump_cartpole(self.observe(state))
