"""Reward models, what best of n makes of them, and how far they may be optimised.

The chapter 'Reward models' derives what stands here: Bradley and Terry's model and its fit to a
table (``rewards``), ensembles of networks fitted to judged pairs (``ensembles``), best of n
(``best_of_n``) beside the mirror step (``tilts``), overoptimisation (``overoptimization``) in a
world whose true reward is known (``answers``), and the statements' constants (``bounds``).
Networks that compare two answers and need no reward (``networks``), and checked matrices of
preferences (``preferences``), lead on to the chapter 'Nash mirror descent'.
"""

from mdtheory.nlhf.reward_models.answers import AnswerWorld
from mdtheory.nlhf.reward_models.best_of_n import (
    best_of_n_divergence,
    best_of_n_estimate,
    best_of_n_policy,
    best_of_n_win_rate,
    rank,
)
from mdtheory.nlhf.reward_models.ensembles import (
    RewardEnsemble,
    bradley_terry_loss,
    ensemble_objective,
    train_reward_ensemble,
)
from mdtheory.nlhf.reward_models.networks import Comparisons, NeuralPreference, fit_preference
from mdtheory.nlhf.reward_models.overoptimization import (
    Curves,
    KLEstimates,
    best_of_n_curves,
    climb_objective,
    conditional_gold,
    drop_from_peak,
    kl_estimates,
)
from mdtheory.nlhf.reward_models.preferences import require_preference
from mdtheory.nlhf.reward_models.rewards import bradley_terry, bradley_terry_preference
from mdtheory.nlhf.reward_models.tilts import (
    RankTilt,
    rank_tilt,
    rank_tilt_of,
    tilt_of_divergence,
    tilt_of_reward,
    tilted_policy,
)

__all__ = [
    "AnswerWorld",
    "Comparisons",
    "Curves",
    "KLEstimates",
    "NeuralPreference",
    "RankTilt",
    "RewardEnsemble",
    "best_of_n_curves",
    "best_of_n_divergence",
    "best_of_n_estimate",
    "best_of_n_policy",
    "best_of_n_win_rate",
    "bradley_terry",
    "bradley_terry_loss",
    "bradley_terry_preference",
    "climb_objective",
    "conditional_gold",
    "drop_from_peak",
    "ensemble_objective",
    "fit_preference",
    "kl_estimates",
    "rank",
    "rank_tilt",
    "rank_tilt_of",
    "require_preference",
    "tilt_of_divergence",
    "tilt_of_reward",
    "tilted_policy",
    "train_reward_ensemble",
]
