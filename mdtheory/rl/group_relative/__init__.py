"""Group-relative REINFORCE: one step of a square loss on answers of any origin.

The chapter 'Group-relative REINFORCE' derives what stands here: advantages and weights of a group
(``advantages``), the losses (``losses``), where each of them stops on a bandit (``limits``), the
right-hand sides of the theorems (``bounds``), arithmetic with a verifiable reward
(``arithmetic``), training on old answers (``training``), and the same without chance (``exact``).
"""

from mdtheory.rl.group_relative import bounds
from mdtheory.rl.group_relative.advantages import RedWeights, group_advantages, red_weights
from mdtheory.rl.group_relative.arithmetic import Measures, Products, imitate
from mdtheory.rl.group_relative.exact import ExactRecord, train_on_all_answers
from mdtheory.rl.group_relative.limits import (
    SquareLimit,
    asymmetric_value,
    clip_stop,
    opmd_limit,
    prompt_weight,
    stale_limit,
    stale_step,
)
from mdtheory.rl.group_relative.losses import (
    asymmetric_loss,
    clipped_mask,
    grpo_loss,
    opmd_loss,
    pairwise_consistency_loss,
    rec_loss,
)
from mdtheory.rl.group_relative.training import (
    ALGORITHMS,
    Answers,
    GroupRecord,
    stale_versions,
    train_group_relative,
)

__all__ = [
    "ALGORITHMS",
    "Answers",
    "ExactRecord",
    "GroupRecord",
    "Measures",
    "Products",
    "RedWeights",
    "SquareLimit",
    "asymmetric_loss",
    "asymmetric_value",
    "bounds",
    "clip_stop",
    "clipped_mask",
    "group_advantages",
    "grpo_loss",
    "imitate",
    "opmd_limit",
    "opmd_loss",
    "pairwise_consistency_loss",
    "prompt_weight",
    "rec_loss",
    "red_weights",
    "stale_limit",
    "stale_step",
    "stale_versions",
    "train_group_relative",
    "train_on_all_answers",
]
