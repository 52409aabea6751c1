"""Losses of a policy: the MDPO objective, its off-policy form, and PPO beside them.

Everything is batched: the last axis is the batch of samples, the leading axes (seeds, step sizes)
are independent problems with one loss each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_number,
    require_same_kind,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import log_q_of_log


def mdpo_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    divergence: Tensor,
    step_size: float | Tensor,
    *,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Negative MDPO objective on samples of the old policy; descend it to improve the policy.

    Equation ``eq-mdpo-loss``: the weighted mean over samples of
    :math:`-\rho\, A + D / t` with :math:`\rho = \exp(\log\pi_\theta - \log\pi_k)`.

    Args:
        log_prob: log-probability of each action under the policy being changed, ``(..., n)``.
        old_log_prob: the same under the policy that acted, stored when it acted, ``(..., n)``.
        advantage: advantages of the old policy, reward units, ``(..., n)``.
        divergence: divergence from the old to the new policy in each state, new policy in the
            first slot, nats for the KL, ``(..., n)``.
        step_size: :math:`t > 0`, a number or a tensor ``(...)``; infinite leaves the surrogate.
        weight: nonnegative weight of each sample, ``(..., n)``; steps that only reset an
            environment get 0. By default every sample counts the same.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: shapes do not broadcast, or the step size is not positive.

    Source:
        Tomar, Shani, Efroni and Ghavamzadeh (2022), equation 8 and algorithm 1.
    """
    _check(log_prob, old_log_prob=old_log_prob, advantage=advantage, divergence=divergence)
    step = _positive("step_size", step_size, log_prob)
    return mdpo_loss_unchecked(log_prob, old_log_prob, advantage, divergence, step, weight)


def mdpo_loss_unchecked(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    divergence: Tensor,
    step_size: float | Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """:func:`mdpo_loss` for inner loops, on arguments that were checked before.

    Args:
        log_prob: as in :func:`mdpo_loss`.
        old_log_prob: as in :func:`mdpo_loss`.
        advantage: as in :func:`mdpo_loss`.
        divergence: as in :func:`mdpo_loss`.
        step_size: a number, or a tensor that broadcasts with the samples.
        weight: as in :func:`mdpo_loss`.

    Returns:
        One loss for each leading index.
    """
    ratio = (log_prob - old_log_prob).exp()
    return mean_over_samples(divergence / step_size - ratio * advantage, weight)


def ppo_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip_range: float = 0.2,
    *,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Negative clipped surrogate of PPO: no divergence, a ratio that gains nothing far out.

    Equation ``eq-ppo-loss``: the mean of
    :math:`-\min(\rho A, \operatorname{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A)`.

    Args:
        log_prob: log-probability of each action under the policy being changed, ``(..., n)``.
        old_log_prob: the same under the policy that acted, ``(..., n)``.
        advantage: advantages of the old policy, ``(..., n)``.
        clip_range: :math:`\epsilon`, in (0, 1).
        weight: as in :func:`mdpo_loss`.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: shapes do not broadcast, or the clip range is outside (0, 1).

    Source:
        Schulman, Wolski, Dhariwal, Radford and Klimov (2017), equation 7.
    """
    _check(log_prob, old_log_prob=old_log_prob, advantage=advantage)
    if require_number("clip_range", clip_range, 0.0, strict=True) >= 1:
        raise ValueError(f"clip_range: expected a number in (0, 1), got {clip_range!r}")
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return mean_over_samples(-torch.minimum(ratio * advantage, clipped * advantage), weight)


def off_policy_actor_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    value: Tensor,
    divergence_weight: float | Tensor,
    entropy_weight: float | Tensor,
    *,
    order: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Actor loss of off-policy MDPO, on actions drawn from the policy that is being changed.

    Equation ``eq-off-policy-loss``: the mean of
    :math:`c \log_q \pi_\theta + q (\lambda - c) \log_q \pi_k - Q`.
    Gradients reach the policy through ``log_prob``, ``old_log_prob`` and ``value``, all of which
    depend on the reparametrised action. With :math:`c = \lambda` and ``order`` 1 it is the actor
    loss of SAC.

    Args:
        log_prob: log-density of the drawn actions under the policy being changed, ``(..., n)``.
        old_log_prob: their log-density under the old policy, ``(..., n)``.
        value: their action value :math:`Q`, reward units, ``(..., n)``.
        divergence_weight: :math:`c = 1 / t \ge 0`, a number or a tensor ``(...)``.
        entropy_weight: :math:`\lambda \ge 0`, a number or a tensor ``(...)``.
        order: :math:`q > 0` of the Tsallis logarithm; 1 is the natural one.
        weight: as in :func:`mdpo_loss`.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: shapes do not broadcast, or a weight or the order is out of range.

    Source:
        Tomar, Shani, Efroni and Ghavamzadeh (2022), section 4.2 and appendix on Tsallis entropy.
    """
    _check(log_prob, old_log_prob=old_log_prob, value=value)
    require_number("order", order, 0.0, strict=True)
    c = _nonnegative("divergence_weight", divergence_weight, log_prob)
    bonus = _nonnegative("entropy_weight", entropy_weight, log_prob)
    return off_policy_actor_loss_unchecked(log_prob, old_log_prob, value, c, bonus, order, weight)


def off_policy_actor_loss_unchecked(
    log_prob: Tensor,
    old_log_prob: Tensor | None,
    value: Tensor,
    divergence_weight: float | Tensor,
    entropy_weight: float | Tensor,
    order: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """:func:`off_policy_actor_loss` for inner loops, on arguments that were checked before.

    Args:
        log_prob: as in :func:`off_policy_actor_loss`.
        old_log_prob: as there; ``None`` where both weights are equal and nothing of it is left.
        value: as there.
        divergence_weight: a number, or a tensor that broadcasts with the samples.
        entropy_weight: like ``divergence_weight``.
        order: as there.
        weight: as there.

    Returns:
        One loss for each leading index.
    """
    terms = divergence_weight * log_q_of_log(log_prob, order) - value
    if old_log_prob is not None:
        pull = order * (entropy_weight - divergence_weight)
        terms = terms + pull * log_q_of_log(old_log_prob, order)
    return mean_over_samples(terms, weight)


def mean_over_samples(terms: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over the last axis, weighted where weights are given.

    Args:
        terms: one number for each sample, shape ``(..., n)``.
        weight: nonnegative weights of a shape that broadcasts, or ``None``.

    Returns:
        Means, shape ``(...)``; 0 where all weights are 0.
    """
    if weight is None:
        return terms.mean(-1)
    total = weight.expand_as(terms).sum(-1)
    return (weight * terms).sum(-1) / torch.where(total > 0, total, torch.ones_like(total))


def _check(log_prob: Tensor, **others: Tensor) -> None:
    require_tensor("log_prob", log_prob)
    for name, other in others.items():
        require_tensor(name, other)
        require_same_kind(name, other, "log_prob", log_prob)
        require_broadcastable(name, other, "log_prob", log_prob)


def _positive(name: str, number: float | Tensor, samples: Tensor) -> float | Tensor:
    if isinstance(number, Tensor):
        require_values(name, number, number > 0, "numbers > 0")
        return _per_problem(name, number, samples)
    if number == float("inf"):
        return number
    return require_number(name, number, 0.0, strict=True)


def _nonnegative(name: str, number: float | Tensor, samples: Tensor) -> float | Tensor:
    if isinstance(number, Tensor):
        require_values(name, number, (number >= 0) & number.isfinite(), "finite numbers >= 0")
        return _per_problem(name, number, samples)
    return require_number(name, number, 0.0)


def _per_problem(name: str, number: Tensor, samples: Tensor) -> Tensor:
    """A number for each leading index, ready to meet the samples."""
    require_same_kind(name, number, "log_prob", samples)
    require_broadcastable(name, number[..., None], "log_prob", samples)
    return number[..., None]
