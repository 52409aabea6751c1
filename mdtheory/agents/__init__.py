"""What acts and learns in a world: networks, laws of actions, policies and what they are fed.

Networks of all seeds at once (``networks``), laws of actions (``distributions``), policies and
their evaluation (``policies``), running moments (``normalization``), transitions (``replay``),
advantages (``advantages``), pieces of a batch (``minibatches``) and checkpoints (``checkpoints``).
The chapter 'Mirror descent policy optimisation' explains them.
"""

from mdtheory.agents.advantages import generalized_advantages, standardize
from mdtheory.agents.checkpoints import load_checkpoint, save_checkpoint
from mdtheory.agents.distributions import Categorical, Gaussian, SquashedGaussian
from mdtheory.agents.minibatches import minibatches
from mdtheory.agents.networks import Network, adam, clip_gradients
from mdtheory.agents.normalization import Moments, RewardScale
from mdtheory.agents.policies import Actor, Policy, evaluate, film
from mdtheory.agents.replay import Replay, Transitions

__all__ = [
    "Actor",
    "Categorical",
    "Gaussian",
    "Moments",
    "Network",
    "Policy",
    "Replay",
    "RewardScale",
    "SquashedGaussian",
    "Transitions",
    "adam",
    "clip_gradients",
    "evaluate",
    "film",
    "generalized_advantages",
    "load_checkpoint",
    "minibatches",
    "save_checkpoint",
    "standardize",
]
