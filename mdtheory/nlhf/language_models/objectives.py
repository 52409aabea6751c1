r"""The losses, from log-probabilities of answers' tokens: one number a prompt, to be minimised.

Every function takes a group of :math:`n` answers to each of ``B`` prompts: ``log_probs`` and
``reference``, the log-probabilities of their tokens under policy and reference, shape ``(B, n, N)``
with 0 behind an answer's end. Nothing is differentiated but ``log_probs``. The gradient of the mean
over groups that were drawn as the function says is the one that it names; the estimators are those
of the earlier chapters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_shape, require_tensor
from mdtheory.nlhf.nash_md import policy_gradient_surrogate
from mdtheory.nlhf.online_preference.losses import PairLoss, ipo_contrast_loss, soft_label
from mdtheory.sequences import reinforce_surrogate


def opponent_loss(
    log_probs: Tensor, reference: Tensor, preferred: Tensor, temperature: float
) -> Tensor:
    r"""Nash-MD-PG and Nash-EMA-PG: answers of the policy against those of an opponent.

    Its mean gradient is :math:`-\nabla[\mathbb E_\pi P(y \succ o) - \tau\,\mathrm{KL}(\pi\|\mu)]`
    with the opponent :math:`o` held fixed. All :math:`n m` pairs of a prompt are judged, which has
    at most the variance of disjoint pairs.

    Args:
        log_probs: of answers drawn from the policy, shape ``(B, n, N)``.
        reference: likewise.
        preferred: :math:`P(y_i \succ y'_j)` against the opponent's answers, shape ``(B, n, m)``.
        temperature: :math:`\tau \ge 0`.

    Returns:
        Shape ``(B,)``.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: shapes that differ, an entry that is not finite, or a negative temperature.

    Source:
        Munos et al. (2024), section 7.
    """
    require_shape("preferred", preferred, (*log_probs.shape[:2], *preferred.shape[-1:]))
    won = require_tensor("preferred", preferred).mean(-1)
    return -policy_gradient_surrogate(log_probs, reference, won, temperature).mean(-1)


def self_play_loss(
    log_probs: Tensor, reference: Tensor, preferred: Tensor, temperature: float
) -> Tensor:
    r"""Regularised self-play: every answer of a group against the others.

    Its mean gradient is that of :func:`opponent_loss` against the policy itself. An answer is
    never compared with itself: that would shrink the preference's part of the gradient by
    :math:`(n-1)/n` and leave the penalty's as it is, another game's temperature.

    Args:
        log_probs: of answers drawn from the policy, shape ``(B, n, N)``, ``n`` at least 2.
        reference: likewise.
        preferred: :math:`P(y_i \succ y_j)`, shape ``(B, n, n)``; the diagonal is not read.
        temperature: :math:`\tau \ge 0`.

    Returns:
        Shape ``(B,)``.

    Raises:
        TypeError: as :func:`opponent_loss`.
        ValueError: likewise, or a group of one.
    """
    won = against_the_others(log_probs, preferred)
    return -policy_gradient_surrogate(log_probs, reference, won, temperature).mean(-1)


def mirror_prox_loss(
    log_probs: Tensor,
    reference: Tensor,
    average: Tensor,
    preferred: Tensor,
    temperature: float,
    step_size: float,
) -> Tensor:
    r"""Practical mirror prox: self-play that keeps to a slow average of itself.

    Its mean gradient is that of :math:`\mathbb E_\pi P(y \succ \pi) - \tau\,\mathrm{KL}(\pi\|\mu) -
    \frac1\gamma\mathrm{KL}(\pi\|\bar\pi)`, with opponent and average held fixed, times -1.

    Args:
        log_probs: of answers drawn from the policy, shape ``(B, n, N)``, ``n`` at least 2.
        reference: likewise.
        average: under :math:`\bar\pi`, likewise.
        preferred: :math:`P(y_i \succ y_j)`, shape ``(B, n, n)``; the diagonal is not read.
        temperature: :math:`\tau \ge 0`.
        step_size: :math:`\gamma > 0`, also infinite.

    Returns:
        Shape ``(B,)``.

    Raises:
        TypeError: as :func:`opponent_loss`.
        ValueError: likewise, a group of one, or a step that is not above 0.

    Source:
        The practical version is ours, see :func:`~mdtheory.nlhf.mirror_prox.practical_mirror_prox`.
    """
    tau = require_number("temperature", temperature, 0.0)
    near = 1 / require_number("step_size", step_size, 0.0, strict=True, infinite=True)
    require_shape("reference", reference, tuple(log_probs.shape))
    require_shape("average", average, tuple(log_probs.shape))
    won = against_the_others(log_probs, preferred)
    cost = tau * (log_probs - reference) + near * (log_probs - average)
    return -reinforce_surrogate(log_probs, won - 0.5, cost).mean(-1)


def pairs_loss(
    loss: PairLoss,
    log_probs: Tensor,
    reference: Tensor,
    preferred: Tensor,
    temperature: float,
) -> Tensor:
    r"""A loss of pairs with soft labels, over all pairs of a group.

    Args:
        loss: of :mod:`mdtheory.nlhf.online_preference.losses`, such as ``dpo_loss``.
        log_probs: of the group's answers, shape ``(B, n, N)``, ``n`` at least 2.
        reference: likewise.
        preferred: :math:`P(y_i \succ y_j)`, shape ``(B, n, n)``, read above the diagonal.
        temperature: :math:`\tau > 0`.

    Returns:
        Shape ``(B,)``.

    Raises:
        TypeError: as :func:`opponent_loss`.
        ValueError: likewise, a group of one, or a preference outside [0, 1].
    """
    count = _group(log_probs, preferred)
    first, second = torch.triu_indices(count, count, 1, device=log_probs.device)
    own, base = log_probs.sum(-1), reference.sum(-1)
    return soft_label(
        loss, preferred[:, first, second], own[:, first], own[:, second],
        base[:, first], base[:, second], temperature,
    ).mean(-1)  # fmt: skip


def ipo_loss(log_probs: Tensor, reference: Tensor, preferred: Tensor, temperature: float) -> Tensor:
    r"""Online IPO and IPO-MD: a quarter of :math:`\tau h^2 - (2P-1)\log\frac{\pi(y)}{\pi(y')}`.

    For answers of the policy its mean gradient is exactly that of :func:`self_play_loss`, which is
    what the quarter is for; for answers of the mixture it is IPO-MD's.

    Args:
        log_probs: of the group's answers, shape ``(B, n, N)``, ``n`` at least 2.
        reference: likewise.
        preferred: :math:`P(y_i \succ y_j)`, shape ``(B, n, n)``, read above the diagonal.
        temperature: :math:`\tau > 0`.

    Returns:
        Shape ``(B,)``.

    Raises:
        TypeError: as :func:`pairs_loss`.
        ValueError: likewise.

    Source:
        Calandriello et al. (2024).
    """
    return pairs_loss(ipo_contrast_loss, log_probs, reference, preferred, temperature) / 4


def reward_loss(log_probs: Tensor, reference: Tensor, reward: Tensor, temperature: float) -> Tensor:
    r"""RLHF: rewards less the mean of the others' in the group, and the penalty.

    Its mean gradient is :math:`-\nabla[\mathbb E_\pi r - \tau\,\mathrm{KL}(\pi\|\mu)]`.

    Args:
        log_probs: of answers drawn from the policy, shape ``(B, n, N)``, ``n`` at least 2.
        reference: likewise.
        reward: :math:`r(y_i)`, shape ``(B, n)``.
        temperature: :math:`\tau \ge 0`.

    Returns:
        Shape ``(B,)``.

    Raises:
        TypeError: as :func:`opponent_loss`.
        ValueError: likewise, or a group of one.
    """
    tau = require_number("temperature", temperature, 0.0)
    require_shape("reward", reward, tuple(log_probs.shape[:2]))
    require_shape("reference", reference, tuple(log_probs.shape))
    count = require_count("reward's answers", reward.shape[1], 2)
    others = (reward.sum(-1, keepdim=True) - reward) / (count - 1)
    cost = tau * (log_probs - reference)
    return -reinforce_surrogate(log_probs, reward - others, cost).mean(-1)


def against_the_others(log_probs: Tensor, preferred: Tensor) -> Tensor:
    """How often each answer of a group is preferred to the other ones.

    Args:
        log_probs: of the group's answers, shape ``(B, n, N)``.
        preferred: shape ``(B, n, n)``; the diagonal is not read.

    Returns:
        Shape ``(B, n)``.

    Raises:
        ValueError: shapes that differ, or a group of one.
    """
    count = _group(log_probs, preferred)
    itself = torch.eye(count, dtype=torch.bool, device=preferred.device)
    return preferred.masked_fill(itself, 0.0).sum(-1) / (count - 1)


def _group(log_probs: Tensor, preferred: Tensor) -> int:
    """The size of a group, which must have pairs."""
    require_tensor("log_probs", log_probs, 1)
    count = require_count("log_probs' answers", log_probs.shape[1], 2)
    require_shape("preferred", preferred, (log_probs.shape[0], count, count))
    return count
