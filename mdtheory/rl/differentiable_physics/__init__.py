"""Imitation through physics: gradients of rollouts, and what they are good for.

The chapter 'Imitation through physics' derives what stands here: rollouts with the treatment of
their gradients (``rollouts``), gradients by hand and their sizes (``gradients``), collisions
(``bounces``), distances of trajectories (``losses``), the demonstration, policies and cloning
(``imitators``), and training (``training``).
"""

from mdtheory.environments import CartPoleSwingup, Pendulum, Puck, Rope
from mdtheory.rl.differentiable_physics.bounces import bounce
from mdtheory.rl.differentiable_physics.gradients import (
    Linearisation,
    adjoint_gradient,
    jump_slope,
    kept_steps,
    likelihood_ratio_gradient,
    likelihood_ratio_variance,
    linearise,
    truncation_bound,
    upright_growth,
    upright_matrix,
)
from mdtheory.rl.differentiable_physics.imitators import (
    Demonstration,
    Imitator,
    behaviour_cloning,
    demonstrate,
    success_rate,
)
from mdtheory.rl.differentiable_physics.losses import (
    Assignment,
    assign,
    chamfer_loss,
    chamfer_surrogate,
    chamfer_terms,
    state_distance,
    state_matching_loss,
)
from mdtheory.rl.differentiable_physics.rollouts import clip_cotangent, rollout
from mdtheory.rl.differentiable_physics.training import (
    ILDRecord,
    train_ild,
    train_likelihood_ratio,
)

__all__ = [
    "Assignment",
    "CartPoleSwingup",
    "Demonstration",
    "ILDRecord",
    "Imitator",
    "Linearisation",
    "Pendulum",
    "Puck",
    "Rope",
    "adjoint_gradient",
    "assign",
    "behaviour_cloning",
    "bounce",
    "chamfer_loss",
    "chamfer_surrogate",
    "chamfer_terms",
    "clip_cotangent",
    "demonstrate",
    "jump_slope",
    "kept_steps",
    "likelihood_ratio_gradient",
    "likelihood_ratio_variance",
    "linearise",
    "rollout",
    "state_distance",
    "state_matching_loss",
    "success_rate",
    "train_ild",
    "train_likelihood_ratio",
    "truncation_bound",
    "upright_growth",
    "upright_matrix",
]
