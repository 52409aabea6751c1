"""Policy mirror descent on tabular Markov decision processes.

The chapter 'Policy mirror descent' derives what stands here: processes with their values
(``mdp``, ``values``, ``sparse``, ``exact``), examples (``models``), reference solutions
(``planning``), the update (``descent``), and the right sides of the theorems (``bounds``).
"""

from mdtheory.rl.policy_mirror_descent import bounds
from mdtheory.rl.policy_mirror_descent.descent import (
    Iterate,
    adaptive_trust_region,
    geometric_steps,
    natural_policy_gradient,
    natural_step,
    policy_iterates,
    policy_mirror_descent,
    projected_q_ascent,
    soft_policy_iteration,
    trust_region_steps,
)
from mdtheory.rl.policy_mirror_descent.mdp import TabularMDP
from mdtheory.rl.policy_mirror_descent.models import from_gymnasium, garnet, gridworld
from mdtheory.rl.policy_mirror_descent.planning import (
    Solution,
    bellman_error,
    linear_program,
    modified_policy_iteration,
    policy_iteration,
    value_iteration,
)
from mdtheory.rl.policy_mirror_descent.values import bellman, evaluate, greedy, occupancy

__all__ = [
    "Iterate",
    "Solution",
    "TabularMDP",
    "adaptive_trust_region",
    "bellman",
    "bellman_error",
    "bounds",
    "evaluate",
    "from_gymnasium",
    "garnet",
    "geometric_steps",
    "greedy",
    "gridworld",
    "linear_program",
    "modified_policy_iteration",
    "natural_policy_gradient",
    "natural_step",
    "occupancy",
    "policy_iterates",
    "policy_iteration",
    "policy_mirror_descent",
    "projected_q_ascent",
    "soft_policy_iteration",
    "trust_region_steps",
    "value_iteration",
]
