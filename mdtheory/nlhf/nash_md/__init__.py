"""Preference games and Nash mirror descent.

The chapter 'Nash mirror descent' derives what stands here: the regularised preference game with
its Nash equilibrium (``preference``), and policies over sequences (``sequences``).
"""

from mdtheory.nlhf.nash_md.preference import (
    PreferenceGame,
    best_response,
    kl,
    magnetic_step,
    mixture,
    regularized_exploitability,
    regularized_nash,
    span,
)
from mdtheory.nlhf.nash_md.sequences import SequenceSpace

__all__ = [
    "PreferenceGame",
    "SequenceSpace",
    "best_response",
    "kl",
    "magnetic_step",
    "mixture",
    "regularized_exploitability",
    "regularized_nash",
    "span",
]
