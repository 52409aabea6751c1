"""Mirror descent policy optimisation, on-policy and off-policy, with its relatives in one frame.

The chapter 'Mirror descent policy optimisation' derives what stands here: the losses of a policy
(``losses``), the loops (``on_policy``, ``off_policy``), the trust region of a rival
(``trust_region``) and how steps fall (``schedules``). Agents and worlds are those of the workshops.
"""

from mdtheory.agents.advantages import generalized_advantages
from mdtheory.agents.distributions import Categorical, Gaussian, SquashedGaussian
from mdtheory.agents.policies import Policy, evaluate
from mdtheory.convex.mirror_maps import log_q, tsallis_divergence
from mdtheory.environments import CartPole, Environment, GymnasiumEnvironment, Pendulum
from mdtheory.rl.mdpo.losses import mdpo_loss, off_policy_actor_loss, ppo_loss
from mdtheory.rl.mdpo.off_policy import OffPolicyRecord, OffPolicySettings, train_off_policy
from mdtheory.rl.mdpo.on_policy import (
    ALGORITHMS,
    OnPolicyRecord,
    OnPolicySettings,
    train_on_policy,
)
from mdtheory.rl.mdpo.schedules import SCHEDULES, schedule
from mdtheory.rl.mdpo.trust_region import trust_region_step

__all__ = [
    "ALGORITHMS",
    "SCHEDULES",
    "CartPole",
    "Categorical",
    "Environment",
    "Gaussian",
    "GymnasiumEnvironment",
    "OffPolicyRecord",
    "OffPolicySettings",
    "OnPolicyRecord",
    "OnPolicySettings",
    "Pendulum",
    "Policy",
    "SquashedGaussian",
    "evaluate",
    "generalized_advantages",
    "log_q",
    "mdpo_loss",
    "off_policy_actor_loss",
    "ppo_loss",
    "schedule",
    "train_off_policy",
    "train_on_policy",
    "trust_region_step",
    "tsallis_divergence",
]
