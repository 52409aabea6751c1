"""Mirror maps, their domains and the one update of the book.

The chapter 'Mirror maps' derives what stands here: the step (``step``), the interface of a mirror
map (``base``), the simplex in logarithms (``log_space``), the domains and their projections
(``domains``), and the maps themselves.
"""

from mdtheory import moved
from mdtheory.convex.mirror_maps.base import MirrorMap
from mdtheory.convex.mirror_maps.domains import Ball, Box, Domain, Simplex
from mdtheory.convex.mirror_maps.entropies import BinaryEntropy, Entropy, PositiveEntropy
from mdtheory.convex.mirror_maps.log_space import (
    entropy_step,
    kl,
    kl_terms,
    mixture,
    require_log_probabilities,
    span,
)
from mdtheory.convex.mirror_maps.matrices import LogDet, VonNeumann
from mdtheory.convex.mirror_maps.quadratic import Euclidean, Mahalanobis, PNorm
from mdtheory.convex.mirror_maps.step import dual_step, mirror_step
from mdtheory.convex.mirror_maps.tsallis import (
    LogBarrier,
    Tsallis,
    bregman_map,
    log_q,
    log_q_of_log,
    tsallis_divergence,
)

__getattr__ = moved.names_of(__name__)

__all__ = [
    "Ball",
    "BinaryEntropy",
    "Box",
    "Domain",
    "Entropy",
    "Euclidean",
    "LogBarrier",
    "LogDet",
    "Mahalanobis",
    "MirrorMap",
    "PNorm",
    "PositiveEntropy",
    "Simplex",
    "Tsallis",
    "VonNeumann",
    "bregman_map",
    "dual_step",
    "entropy_step",
    "kl",
    "kl_terms",
    "log_q",
    "log_q_of_log",
    "mirror_step",
    "mixture",
    "require_log_probabilities",
    "span",
    "tsallis_divergence",
]
