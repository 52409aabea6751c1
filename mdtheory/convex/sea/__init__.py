"""Between chance and malice: the stochastically extended adversarial model.

The chapter 'Between stochastic and adversarial' derives what stands here: the model
(``adversary``) and its special cases (``special_cases``), optimistic mirror descent and the
optimistic regularised leader with its step sizes (``optimistic``), the two-layer ensemble for
comparators that move (``ensemble``), and every bound of the chapter (``bounds``).
"""

from mdtheory.convex.sea import bounds
from mdtheory.convex.sea.adversary import StochasticallyExtendedAdversary
from mdtheory.convex.sea.bounds import regret_bound
from mdtheory.convex.sea.ensemble import EnsembleRecord, step_size_pool, two_layer_ensemble
from mdtheory.convex.sea.noise import bounded_noise
from mdtheory.convex.sea.optimistic import (
    SeaRecord,
    optimistic_ftrl,
    optimistic_mirror_descent,
)
from mdtheory.convex.sea.special_cases import (
    SPECIAL_CASES,
    adversarial,
    alternating,
    corrupted,
    iid,
    label_shift,
    mini_batches,
    random_order,
    rotating,
    slow_shift,
    switching,
)

__all__ = [
    "SPECIAL_CASES",
    "EnsembleRecord",
    "SeaRecord",
    "StochasticallyExtendedAdversary",
    "adversarial",
    "alternating",
    "bounded_noise",
    "bounds",
    "corrupted",
    "iid",
    "label_shift",
    "mini_batches",
    "optimistic_ftrl",
    "optimistic_mirror_descent",
    "random_order",
    "regret_bound",
    "rotating",
    "slow_shift",
    "step_size_pool",
    "switching",
    "two_layer_ensemble",
]
