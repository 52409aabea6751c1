"""Nash mirror prox: two calls of the magnetic step, and a linear rate with a step that is long.

The chapter 'Nash mirror prox' derives what stands here: the iteration and the single call beside
it (``iteration``), the right-hand sides of the theorems (``bounds``), and a version that takes
policy gradients on sequences (``practical``).
"""

from mdtheory.nlhf.mirror_prox import bounds
from mdtheory.nlhf.mirror_prox.bounds import largest_step
from mdtheory.nlhf.mirror_prox.iteration import (
    MirrorProxIterate,
    nash_mirror_prox,
    nash_mirror_prox_iterates,
    preference_mirror_descent,
    preference_mirror_descent_iterates,
)
from mdtheory.nlhf.mirror_prox.practical import (
    practical_mirror_prox,
    proximal_ascent,
    proximal_gradient,
)

__all__ = [
    "MirrorProxIterate",
    "bounds",
    "largest_step",
    "nash_mirror_prox",
    "nash_mirror_prox_iterates",
    "practical_mirror_prox",
    "preference_mirror_descent",
    "preference_mirror_descent_iterates",
    "proximal_ascent",
    "proximal_gradient",
]
