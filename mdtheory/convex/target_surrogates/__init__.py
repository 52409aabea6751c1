"""Target-based surrogates: majorise where gradients are dear, minimise where they are cheap.

The chapter 'Target-based surrogates' derives what stands here: losses of targets (``losses``),
models (``models``), the surrogate and its half step (``surrogates``), the inner loop (``inner``),
the outer loops (``algorithms``, with ``schedules`` and ``run``), their rates (``bounds``) and the
methods beside them (``baselines``).
"""

from mdtheory.convex.target_surrogates import bounds
from mdtheory.convex.target_surrogates.algorithms import (
    draw_batches,
    majorize_minimize,
    target_sgd,
    target_step,
)
from mdtheory.convex.target_surrogates.baselines import METHODS, parameter_sgd
from mdtheory.convex.target_surrogates.inner import Armijo, InnerLoop, descend, descend_linear
from mdtheory.convex.target_surrogates.losses import (
    LinearCost,
    LogisticLoss,
    SoftmaxLoss,
    SquaredLoss,
    TargetLoss,
)
from mdtheory.convex.target_surrogates.models import LinearModel, Model, TorchModel
from mdtheory.convex.target_surrogates.run import TargetRecord
from mdtheory.convex.target_surrogates.schedules import SCHEDULES
from mdtheory.convex.target_surrogates.surrogates import exact_projection, half_step, surrogate

__all__ = [
    "METHODS",
    "SCHEDULES",
    "Armijo",
    "InnerLoop",
    "LinearCost",
    "LinearModel",
    "LogisticLoss",
    "Model",
    "SoftmaxLoss",
    "SquaredLoss",
    "TargetLoss",
    "TargetRecord",
    "TorchModel",
    "bounds",
    "descend",
    "descend_linear",
    "draw_batches",
    "exact_projection",
    "half_step",
    "majorize_minimize",
    "parameter_sgd",
    "surrogate",
    "target_sgd",
    "target_step",
]
