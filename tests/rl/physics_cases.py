"""What the tests of imitation through physics share."""

import torch

from mdtheory.environments import CartPoleSwingup, Differentiable, Pendulum, Puck, Rope

F64 = torch.float64
WORLDS = {
    "pendulum": lambda dtype=F64: Pendulum(dtype),
    "cartpole": lambda dtype=F64: CartPoleSwingup(dtype),
    "puck": lambda dtype=F64: Puck("smooth", dtype),
    "hard puck": lambda dtype=F64: Puck("hard", dtype),
    "rope": lambda dtype=F64: Rope(dtype),
}


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=F64)


def steered(observation, theta):
    """A linear feedback through tanh, with one parameter an observed number and action."""
    weights = theta.reshape(-1, observation.shape[-1])
    return (observation @ weights.mT).tanh()


def clouds(generator, batch=40, states=12, shown=12, width=3):
    return normal(generator, batch, states, width), normal(generator, batch, shown, width)


def apart(x, y):
    """All distances, by broadcasting."""
    return (x[..., :, None, :] - y[..., None, :, :]).square().mean(-1).sqrt()


class Line(Differentiable):
    """A point that is moved along a line; the expert walks to the right."""

    width, observed, actions, horizon, duration, spread = 1, 1, 1, 12, 12, 0.1
    dtype = torch.float32

    def __init__(self):
        self.constants = {"pace": 0.2}

    def home(self, device=None):
        return torch.zeros(1, device=device)

    def _scatter(self, noise):
        return noise

    def step(self, state, action, parameters=None):
        return state + self._chosen(parameters)["pace"] * action

    def observe(self, state):
        return state

    def features(self, state):
        return state

    def success(self, states):
        return (states[..., -1, 0] - 1.8).abs() < 0.4

    def expert(self, state, time):
        return torch.full_like(state, 0.9)
