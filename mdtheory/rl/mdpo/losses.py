"""Losses of a policy: the MDPO objective, its off-policy form, and PPO beside them.

Everything is batched: the last axis is the batch of samples, the leading axes (seeds, step sizes)
are independent problems with one loss each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_broadcastable,
    require_number,
    require_same_kind,
    require_scale,
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
        weight: finite weight of each sample, at least 0, ``(..., n)``; steps that only reset an
            environment get 0, and then nothing of the sample counts, be it infinite or NaN. By
            default every sample counts the same.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: a wrong shape, a step size that is not positive, a weight that is negative or
            not finite, or weights that are all 0.

    Source:
        Tomar, Shani, Efroni and Ghavamzadeh (2022), equation 8 and algorithm 1.
    """
    samples = {"old_log_prob": old_log_prob, "advantage": advantage, "divergence": divergence}
    weight = _checked(log_prob, weight, samples)
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
    log_prob, old_log_prob, advantage, divergence = counted(
        weight, log_prob, old_log_prob, advantage, divergence
    )
    price = _over(divergence, step_size)
    ratio = (log_prob - old_log_prob).exp()
    return _mean(price - ratio * advantage, weight)


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
        ValueError: a wrong shape, a clip range outside (0, 1), or weights as in
            :func:`mdpo_loss`.

    Source:
        Schulman, Wolski, Dhariwal, Radford and Klimov (2017), equation 7.
    """
    weight = _checked(log_prob, weight, {"old_log_prob": old_log_prob, "advantage": advantage})
    if require_number("clip_range", clip_range, 0.0, strict=True) >= 1:
        raise ValueError(f"clip_range: expected a number in (0, 1), got {clip_range!r}")
    return ppo_loss_unchecked(log_prob, old_log_prob, advantage, clip_range, weight)


def ppo_loss_unchecked(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip_range: float,
    weight: Tensor | None = None,
) -> Tensor:
    """:func:`ppo_loss` for inner loops, on arguments that were checked before.

    The arguments are those of :func:`ppo_loss`.

    Returns:
        One loss for each leading index.
    """
    log_prob, old_log_prob, advantage = counted(weight, log_prob, old_log_prob, advantage)
    return _mean(-clipped_surrogate(log_prob - old_log_prob, advantage, clip_range), weight)


def clipped_surrogate(change: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    r"""PPO's clipped gain of each action, before the mean of ``eq-ppo-loss``; unchecked.

    Args:
        change: logarithm of the ratio :math:`\rho`, any shape.
        advantage: :math:`A`, of a shape that broadcasts with it.
        clip_range: :math:`\epsilon`, in (0, 1).

    Returns:
        :math:`\min(\rho A, \operatorname{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A)`, of the
        broadcast shape.
    """
    gains = advantage >= 0
    # The minimum bounds the ratio on one side only. It is cut before the exponential, which could
    # overflow behind a clip and would then have no gradient to multiply by 0.
    most, least = math.log1p(clip_range), math.log1p(-clip_range)
    clipped = torch.where(gains, change > most, change < least)
    edge = torch.where(gains, 1.0 + clip_range, 1.0 - clip_range).to(change.dtype)
    ratio = torch.where(clipped, edge, torch.where(clipped, 0.0, change).exp())
    return ratio * advantage


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
        ValueError: a wrong shape, a coefficient or the order out of range, or weights as in
            :func:`mdpo_loss`.

    Source:
        Tomar, Shani, Efroni and Ghavamzadeh (2022), section 4.2 and appendix on Tsallis entropy.
    """
    weight = _checked(log_prob, weight, {"old_log_prob": old_log_prob, "value": value})
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
    log_prob, value = counted(weight, log_prob, value)
    terms = _share(divergence_weight, log_prob, order) - value
    if old_log_prob is not None:
        (old_log_prob,) = counted(weight, old_log_prob)
        pull = order * (entropy_weight - divergence_weight)
        terms = terms + _share(pull, old_log_prob, order)
    return _mean(terms, weight)


def mean_over_samples(terms: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over the last axis, weighted where weights are given.

    Args:
        terms: one number for each sample, shape ``(..., n)``.
        weight: nonnegative weights of a shape that broadcasts, or ``None``; a weight of 0 takes
            even an infinite term away.

    Returns:
        Means, shape ``(...)``; 0 where all weights are 0.
    """
    return _mean(counted(weight, terms)[0], weight)


def _mean(terms: Tensor, weight: Tensor | None) -> Tensor:
    """The same, of terms that are finite where they have no weight."""
    if weight is None:
        return terms.mean(-1)
    total = weight.expand_as(terms).sum(-1)
    return (weight * terms).sum(-1) / torch.where(total > 0, total, 1.0)


def counted(weight: Tensor | None, *parts: Tensor) -> tuple[Tensor, ...]:
    """Samples with 0 in place of what has no weight, before a NaN or an overflow can come of it.

    Args:
        weight: weights, or ``None`` where all samples count.
        *parts: tensors whose shapes broadcast with it.

    Returns:
        The parts; no gradient reaches what has no weight.
    """
    if weight is None:
        return parts
    counts = weight > 0
    return tuple(torch.where(counts, part, 0.0) for part in parts)


def _over(divergence: Tensor, step_size: float | Tensor) -> Tensor:
    """Divergences over the step size; an infinite step forgets even infinite ones."""
    if isinstance(step_size, Tensor):
        return torch.where(step_size.isinf(), 0.0, divergence / step_size)
    return torch.zeros_like(divergence) if math.isinf(step_size) else divergence / step_size


def _share(factor: float | Tensor, log_value: Tensor, order: float) -> Tensor:
    """A factor times Tsallis logarithms; a factor of 0 takes away even infinite ones."""
    nothing = torch.as_tensor(factor == 0, device=log_value.device)
    return factor * log_q_of_log(torch.where(nothing, 0.0, log_value), order)


def _checked(log_prob: Tensor, weight: Tensor | None, others: dict[str, Tensor]) -> Tensor | None:
    """Weights in units of the largest, so that their sum neither overflows nor vanishes."""
    require_tensor("log_prob", log_prob)
    number = log_prob.shape[-1]
    for name, other in others.items():
        require_tensor(name, other)
        require_same_kind(name, other, "log_prob", log_prob)
        if other.shape[-1] != number:
            raise ValueError(
                f"{name}: expected {number} samples in the last axis, as log_prob "
                f"{tuple(log_prob.shape)} has, got {tuple(other.shape)}"
            )
        require_broadcastable(name, other, "log_prob", log_prob)
    if weight is None:
        return None
    shapes = [log_prob.shape, *(other.shape for other in others.values())]
    _check_weight(weight, log_prob, torch.broadcast_shapes(*shapes))
    return weight / weight.amax(-1, keepdim=True)


def _check_weight(weight: Tensor, log_prob: Tensor, shape: torch.Size) -> None:
    require_tensor("weight", weight)
    require_same_kind("weight", weight, "log_prob", log_prob)
    if weight.shape[-1] != shape[-1]:
        raise ValueError(
            f"weight: expected {shape[-1]} samples in the last axis, got {tuple(weight.shape)}"
        )
    require_broadcast("weight", weight.shape, shape, "the samples", widens=False)
    require_values("weight", weight, (weight >= 0) & weight.isfinite(), "finite weights >= 0")
    some = (weight > 0).any(-1)
    require_values("weight", weight, some, "a weight > 0 in every problem, all of one are 0")


def _positive(name: str, number: float | Tensor, samples: Tensor) -> float | Tensor:
    ready = require_scale(name, number, samples, strict=True, infinite=True)
    return _per_problem(name, ready, samples) if isinstance(ready, Tensor) else ready


def _nonnegative(name: str, number: float | Tensor, samples: Tensor) -> float | Tensor:
    ready = require_scale(name, number, samples)
    return _per_problem(name, ready, samples) if isinstance(ready, Tensor) else ready


def _per_problem(name: str, number: Tensor, samples: Tensor) -> Tensor:
    """A number for each leading index, ready to meet the samples."""
    require_broadcastable(name, number[..., None], "log_prob", samples)
    return number[..., None]
