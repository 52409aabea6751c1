"""Policies over sequences of tokens: their laws and the estimators of their gradients.

Sequences so few that all are listed (``spaces``), tokens that a policy of any kind has drawn
(``tokens``), and one policy gradient: as a loss, exact, or from samples (``gradients``). The
chapter 'Nash mirror descent' explains them.
"""

from mdtheory.sequences.gradients import (
    CREDITS,
    exact_gradient,
    reinforce_surrogate,
    sampled_gradient,
    token_gains,
)
from mdtheory.sequences.spaces import SequenceSpace
from mdtheory.sequences.tokens import token_log_probs

__all__ = [
    "CREDITS",
    "SequenceSpace",
    "exact_gradient",
    "reinforce_surrogate",
    "sampled_gradient",
    "token_gains",
    "token_log_probs",
]
