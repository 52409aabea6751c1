"""Worlds for all seeds at once, as tensor programs and gymnasium's.

How a world is started, stepped, kept and restored (``base``), CartPole, its swing-up and Pendulum
(``classic``) with their experts (``experts``) and pictures (``pictures``), gymnasium's
(``adapters``) and those of the DeepMind Control suite (``deepmind``). The chapters 'Target-based
surrogates' and 'Mirror descent policy optimisation' use them first. Worlds through which gradients
run (``differentiable``) are the swing-ups, a puck (``contact``) and a rope (``rope``).
"""

from mdtheory.environments.adapters import GymnasiumEnvironment, as_environment
from mdtheory.environments.base import Environment, TensorWorld, TimeStep, World
from mdtheory.environments.classic import CartPole, CartPoleSwingup, Pendulum
from mdtheory.environments.contact import Puck
from mdtheory.environments.deepmind import DeepMindEnvironment
from mdtheory.environments.differentiable import Differentiable
from mdtheory.environments.experts import (
    balance_pole,
    ease_pendulum,
    pump_cartpole,
    pump_pendulum,
    swing_up,
)
from mdtheory.environments.pictures import draw_cartpole, draw_pendulum, draw_puck, draw_rope
from mdtheory.environments.rope import Rope

__all__ = [
    "CartPole",
    "CartPoleSwingup",
    "DeepMindEnvironment",
    "Differentiable",
    "Environment",
    "GymnasiumEnvironment",
    "Pendulum",
    "Puck",
    "Rope",
    "TensorWorld",
    "TimeStep",
    "World",
    "as_environment",
    "balance_pole",
    "draw_cartpole",
    "draw_pendulum",
    "draw_puck",
    "draw_rope",
    "ease_pendulum",
    "pump_cartpole",
    "pump_pendulum",
    "swing_up",
]
