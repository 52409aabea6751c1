"""Preference games and Nash mirror descent.

The chapter 'Nash mirror descent' derives what stands here: the regularised preference game
(``preference``) with its Nash equilibrium (``equilibrium``), where preferences come from
(``models``, and ``mdtheory.nlhf.reward_models`` for those of rewards and networks) and their cycles
(``judges``), the algorithm with its rate (``descent``), and policy gradients (``policy_gradient``)
for policies over sequences (``mdtheory.sequences``).
"""

from mdtheory import moved
from mdtheory.convex.mirror_maps import kl, mixture, span
from mdtheory.nlhf.games import exploitability
from mdtheory.nlhf.nash_md.descent import (
    nash_md,
    nash_md_iterates,
    nash_md_rate,
    self_play_iterates,
    shifted_temperature,
)
from mdtheory.nlhf.nash_md.equilibrium import regularized_nash
from mdtheory.nlhf.nash_md.judges import criteria_preference, three_cycles
from mdtheory.nlhf.nash_md.models import cyclic_preference, dice_preference, random_preference
from mdtheory.nlhf.nash_md.policy_gradient import (
    expected_gradient,
    nash_ema_pg,
    nash_md_pg,
    objective_gradient,
    policy_gradient_surrogate,
    reward_pg,
)
from mdtheory.nlhf.nash_md.preference import PreferenceGame, best_response, magnetic_step
from mdtheory.nlhf.reward_models import (
    Comparisons,
    NeuralPreference,
    bradley_terry,
    bradley_terry_preference,
    fit_preference,
)
from mdtheory.sequences import SequenceSpace

__all__ = [
    "Comparisons",
    "NeuralPreference",
    "PreferenceGame",
    "SequenceSpace",
    "best_response",
    "bradley_terry",
    "bradley_terry_preference",
    "criteria_preference",
    "cyclic_preference",
    "dice_preference",
    "expected_gradient",
    "exploitability",
    "fit_preference",
    "kl",
    "magnetic_step",
    "mixture",
    "nash_ema_pg",
    "nash_md",
    "nash_md_iterates",
    "nash_md_pg",
    "nash_md_rate",
    "objective_gradient",
    "policy_gradient_surrogate",
    "random_preference",
    "regularized_nash",
    "reward_pg",
    "self_play_iterates",
    "shifted_temperature",
    "span",
    "three_cycles",
]

__getattr__ = moved.names_of(__name__)
