"""Online preference optimisation: IPO, online IPO, IPO-MD, and the losses beside them.

The chapter 'Online preference optimisation' derives what stands here: losses of pairs
(``losses``), their means over a preference game with closed gradients (``exact``, and
``parameters`` for sequences and networks), and descent (``iterates``).
"""

from mdtheory.nlhf.online_preference.exact import (
    Variances,
    contrastive_variance,
    dpo_gradient,
    expected_loss,
    ipo_gradient,
    ipo_md_gradient,
    ipo_md_loss,
    online_ipo_gradient,
    response_gradient,
)
from mdtheory.nlhf.online_preference.iterates import descend, newton_iterates
from mdtheory.nlhf.online_preference.losses import (
    dpo_loss,
    inpo_loss,
    ipo_contrast_loss,
    ipo_loss,
    kto_loss,
    log_ratio_margin,
    slic_loss,
    soft_label,
    sppo_loss,
    xpo_loss,
)
from mdtheory.nlhf.online_preference.parameters import score_gradient

__all__ = [
    "Variances",
    "contrastive_variance",
    "descend",
    "dpo_gradient",
    "dpo_loss",
    "expected_loss",
    "inpo_loss",
    "ipo_contrast_loss",
    "ipo_gradient",
    "ipo_loss",
    "ipo_md_gradient",
    "ipo_md_loss",
    "kto_loss",
    "log_ratio_margin",
    "newton_iterates",
    "online_ipo_gradient",
    "response_gradient",
    "score_gradient",
    "slic_loss",
    "soft_label",
    "sppo_loss",
    "xpo_loss",
]
