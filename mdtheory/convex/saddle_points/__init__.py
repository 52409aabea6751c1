"""Saddle points: two players, or a learner and the weights of its samples.

The chapter 'Saddle points' derives what stands here: the duality gap and mirror steps in two
variables (``descent``), the right-hand sides of the theorems (``bounds``), the weights of AdaWAC
and what their log certifies (``weights``), and segmentation with them: slices (``images``), a small
network (``network``), training (``segmentation``), measures (``scores``).
"""

from mdtheory.convex.saddle_points import bounds
from mdtheory.convex.saddle_points.bounds import largest_step
from mdtheory.convex.saddle_points.descent import (
    SaddleRecord,
    duality_gap,
    matrix_operator,
    mirror_prox,
    optimistic_mirror_prox,
    saddle_mirror_descent,
)
from mdtheory.convex.saddle_points.images import Slices, brain_slices, disc_slices
from mdtheory.convex.saddle_points.network import UNet
from mdtheory.convex.saddle_points.scores import dice, hausdorff95, ranking
from mdtheory.convex.saddle_points.segmentation import (
    ARMS,
    SegmentationRecord,
    latent_distance,
    logged_weights,
    segment,
    train_segmentation,
)
from mdtheory.convex.saddle_points.weights import (
    separating_scale,
    weight_bound,
    weight_regret,
    weight_step,
)

__all__ = [
    "ARMS",
    "SaddleRecord",
    "SegmentationRecord",
    "Slices",
    "UNet",
    "bounds",
    "brain_slices",
    "dice",
    "disc_slices",
    "duality_gap",
    "hausdorff95",
    "largest_step",
    "latent_distance",
    "logged_weights",
    "matrix_operator",
    "mirror_prox",
    "optimistic_mirror_prox",
    "ranking",
    "saddle_mirror_descent",
    "segment",
    "separating_scale",
    "train_segmentation",
    "weight_bound",
    "weight_regret",
    "weight_step",
]
