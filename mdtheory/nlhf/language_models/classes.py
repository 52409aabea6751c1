r"""Games between classes of answers, which are exact where a judge sees nothing but the class.

Answers are too many to list, their classes are few. If preferences depend on classes alone, a
policy's exploitability is that of its class shares, up to how far it moved within classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_integers,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import kl


def class_shares(log_policy: Tensor, classes: Tensor, count: int) -> Tensor:
    r"""How probable each class of answers is.

    Args:
        log_policy: :math:`\log\pi(y)` of all answers, shape ``(..., n)``.
        classes: the class of each answer, from 0 to ``count - 1``, shape ``(n,)``.
        count: number of classes.

    Returns:
        Log-probabilities :math:`\log\pi_c`, shape ``(..., count)``; ``-inf`` for empty classes.

    Raises:
        TypeError: no floating-point log-probabilities, or classes that are no integers.
        ValueError: shapes that differ, or a class out of range.
    """
    require_tensor("log_policy", log_policy)
    require_integers("classes", classes)
    require_shape("classes", classes, tuple(log_policy.shape[-1:]))
    kinds = require_count("count", count)
    inside = (classes >= 0) & (classes < kinds)
    require_values("classes", classes, inside, f"classes from 0 to {kinds - 1}")
    member = classes == torch.arange(kinds, device=classes.device)[:, None]  # (count, n)
    return log_policy[..., None, :].masked_fill(~member, -torch.inf).logsumexp(-1)


def divergence_within_classes(
    log_policy: Tensor, reference: Tensor, classes: Tensor, count: int
) -> Tensor:
    r"""What of the divergence the classes do not see.

    :math:`\mathrm{KL}(\pi\|\mu) - \mathrm{KL}(\pi_c\|\mu_c) = \sum_c
    \pi_c(c)\,\mathrm{KL}(\pi(\cdot|c)\|\mu(\cdot|c))`, at least 0, and 0 exactly where a policy has
    only reweighted the classes of its reference. It is by :math:`\tau` times this that the
    exploitability of a policy exceeds that of its class shares.

    Args:
        log_policy: :math:`\log\pi`, shape ``(..., n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        classes: as in :func:`class_shares`.
        count: likewise.

    Returns:
        The divergence, in nats, of the batch's shape.

    Raises:
        TypeError: as :func:`class_shares`, or dtypes that differ.
        ValueError: likewise.
    """
    require_same_kind("reference", require_tensor("reference", reference), "log_policy", log_policy)
    own = class_shares(log_policy, classes, count)
    base = class_shares(reference, classes, count)
    inside = log_policy - own[..., classes]
    other = reference - base[..., classes]
    member = classes == torch.arange(count, device=classes.device)[:, None]
    parts = [one[..., None, :].masked_fill(~member, -torch.inf) for one in (inside, other)]
    each = kl(*parts)  # an empty class has no mass on either side
    return (own.exp() * each).sum(-1)


def spread_over_classes(log_shares: Tensor, reference: Tensor, classes: Tensor) -> Tensor:
    r"""The policy with given class shares that is the reference within each class.

    With the Nash equilibrium of the class game it is that of the game between answers.

    Args:
        log_shares: :math:`\log\pi_c`, shape ``(..., count)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        classes: as in :func:`class_shares`; no class is empty.

    Returns:
        :math:`\log\pi_c(c(y)) + \log\mu(y|c(y))`, shape ``(..., n)``.

    Raises:
        TypeError: as :func:`class_shares`.
        ValueError: likewise.
    """
    require_tensor("log_shares", log_shares)
    base = class_shares(reference, classes, log_shares.shape[-1])
    return reference + (log_shares - base)[..., classes]


def log_normalisers(logits: Tensor, reference_logits: Tensor, weight: float | Tensor) -> Tensor:
    r"""What a mixture of next-token laws is divided by, :math:`\log\sum_v \pi^{1-\beta}\mu^\beta`.

    At most 0, by Hölder's inequality, and 0 exactly where both laws agree. The token-by-token
    mixture of two models differs from the mixture of their laws over answers by the sums of these
    along answers, which are not the same for all.

    Args:
        logits: those of :math:`\pi`, shape ``(..., V)``.
        reference_logits: those of :math:`\mu`, likewise.
        weight: :math:`\beta` in [0, 1], a number or a tensor of the batch's shape.

    Returns:
        Of the batch's shape.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: shapes that differ, or a weight outside [0, 1].
    """
    own = require_tensor("logits", logits).log_softmax(-1)
    require_same_kind("reference_logits", require_tensor("reference_logits", reference_logits),
                      "logits", logits)  # fmt: skip
    require_shape("reference_logits", reference_logits, tuple(logits.shape))
    share = require_scale(
        "weight", weight, own, own.shape[:-1], maximum=1.0, widens=False, trailing=1
    )
    return ((1 - share) * own + share * reference_logits.log_softmax(-1)).logsumexp(-1)
