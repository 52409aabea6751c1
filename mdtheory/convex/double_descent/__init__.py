"""Double descent: what gradient descent finds, and after how many steps.

The chapter 'Double descent' derives what stands here: random features and their condition
(``features``), algorithms as filters of singular values (``filters``), the coefficients that they
have found (``solutions``), the statements' right-hand sides (``bounds``), and two-layer networks,
in which nothing has a closed form (``networks``).
"""

from mdtheory.convex.double_descent import bounds
from mdtheory.convex.double_descent.bounds import noise_bound, steps_to_fit
from mdtheory.convex.double_descent.features import (
    PeakHeight,
    Problem,
    effective_condition,
    peak_height,
    random_features,
    teacher_problem,
)
from mdtheory.convex.double_descent.filters import (
    gradient_descent_filter,
    heavy_ball_filter,
    heavy_ball_tuning,
    ridge_filter,
)
from mdtheory.convex.double_descent.networks import (
    TwoLayerNetwork,
    TwoLayerRecord,
    train_two_layer,
)
from mdtheory.convex.double_descent.solutions import (
    cyclic_solution,
    descent_iterates,
    gradient_descent_solution,
    heavy_ball_solution,
    preconditioned_solution,
    ridge_solution,
)

__all__ = [
    "PeakHeight",
    "Problem",
    "TwoLayerNetwork",
    "TwoLayerRecord",
    "bounds",
    "cyclic_solution",
    "descent_iterates",
    "effective_condition",
    "gradient_descent_filter",
    "gradient_descent_solution",
    "heavy_ball_filter",
    "heavy_ball_solution",
    "heavy_ball_tuning",
    "noise_bound",
    "peak_height",
    "preconditioned_solution",
    "random_features",
    "ridge_filter",
    "ridge_solution",
    "steps_to_fit",
    "teacher_problem",
    "train_two_layer",
]
