"""Imitation: boosting over occupancy measures, and what else matches an expert.

The chapter 'Imitation by boosting' derives what stands here: occupancies and their mixtures
(``occupancies``), boosting with exact oracles and weak ones (``boosting``), the right-hand sides of
the theorems (``bounds``), discriminators and ValueDICE's objective on tables (``discriminators``),
demonstrations (``demonstrations``), boosting from samples with DAC as a setting (``training``), and
rivals without an ensemble (``rivals``).
"""

from mdtheory.environments import CartPoleSwingup
from mdtheory.rl.imitation import bounds
from mdtheory.rl.imitation.boosting import (
    BoostRecord,
    best_learner,
    boost_occupancies,
    mirror_learner,
    mirror_occupancies,
)
from mdtheory.rl.imitation.demonstrations import Demonstrations, demonstrate, scripted_expert
from mdtheory.rl.imitation.discriminators import (
    dice_objective,
    dice_values,
    discriminator_loss,
    fit_discriminator,
)
from mdtheory.rl.imitation.occupancies import (
    ensemble_weights,
    frank_wolfe_gap,
    initial_law,
    occupancy_divergence,
    policy_of_occupancy,
    state_action_occupancy,
)
from mdtheory.rl.imitation.rivals import behaviour_clone, iq_learn, value_dice
from mdtheory.rl.imitation.training import (
    Ensemble,
    ImitationRecord,
    ImitationSettings,
    train_ail_boost,
)

__all__ = [
    "BoostRecord",
    "CartPoleSwingup",
    "Demonstrations",
    "Ensemble",
    "ImitationRecord",
    "ImitationSettings",
    "behaviour_clone",
    "best_learner",
    "boost_occupancies",
    "bounds",
    "demonstrate",
    "dice_objective",
    "dice_values",
    "discriminator_loss",
    "ensemble_weights",
    "fit_discriminator",
    "frank_wolfe_gap",
    "initial_law",
    "iq_learn",
    "mirror_learner",
    "mirror_occupancies",
    "occupancy_divergence",
    "policy_of_occupancy",
    "scripted_expert",
    "state_action_occupancy",
    "train_ail_boost",
    "value_dice",
]
