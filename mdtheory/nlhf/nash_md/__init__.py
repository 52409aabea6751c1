"""Preference games and Nash mirror descent.

The chapter 'Nash mirror descent' derives what stands here: the regularised preference game with
its Nash equilibrium (``preference``).
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

__all__ = [
    "PreferenceGame",
    "best_response",
    "kl",
    "magnetic_step",
    "mixture",
    "regularized_exploitability",
    "regularized_nash",
    "span",
]
