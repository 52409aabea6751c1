"""Nash learning on language models of ``transformers``."""

from mdtheory.nlhf.language_models.intervals import Interval, clopper_pearson
from mdtheory.nlhf.language_models.judging import Rewards
from mdtheory.nlhf.language_models.likelihoods import (
    answer_mask,
    geometric_mixture,
    sequence_log_probs,
)
from mdtheory.nlhf.language_models.objectives import (
    ipo_loss,
    mirror_prox_loss,
    opponent_loss,
    pairs_loss,
    reward_loss,
    self_play_loss,
)
from mdtheory.nlhf.language_models.readers import PreferenceModel, RewardModel
from mdtheory.nlhf.language_models.sampling import sample_answers
from mdtheory.nlhf.language_models.trainer import PreferenceTrainer

__all__ = [
    "Interval",
    "PreferenceModel",
    "PreferenceTrainer",
    "RewardModel",
    "Rewards",
    "answer_mask",
    "clopper_pearson",
    "geometric_mixture",
    "ipo_loss",
    "mirror_prox_loss",
    "opponent_loss",
    "pairs_loss",
    "reward_loss",
    "sample_answers",
    "self_play_loss",
    "sequence_log_probs",
]
