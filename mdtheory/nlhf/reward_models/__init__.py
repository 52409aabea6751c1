"""Models of preferences and their fits.

A reward explains preferences through Bradley and Terry's model (``rewards``), a network needs
no reward (``networks``), and matrices of preferences are checked once (``preferences``). The
chapter 'Nash mirror descent' derives what stands here.
"""

from mdtheory.nlhf.reward_models.networks import Comparisons, NeuralPreference, fit_preference
from mdtheory.nlhf.reward_models.preferences import require_preference
from mdtheory.nlhf.reward_models.rewards import bradley_terry, bradley_terry_preference

__all__ = [
    "Comparisons",
    "NeuralPreference",
    "bradley_terry",
    "bradley_terry_preference",
    "fit_preference",
    "require_preference",
]
