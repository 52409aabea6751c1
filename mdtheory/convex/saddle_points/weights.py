"""The weights of AdaWAC: a mirror step of the bit entropy, and what its log certifies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import (
    require_integers,
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
    require_truths,
    require_values,
)
from mdtheory.convex.mirror_maps import dual_step

ORDERS = ("weights_first", "simultaneous")


def weight_step(
    weights: Tensor,
    supervised: Tensor,
    consistency: Tensor,
    step_size: float,
) -> Tensor:
    r"""One mirror step of the weights towards the larger loss, equation ``eq-weight-step``.

    It is linear in the logit: :math:`\operatorname{logit} b_i` grows by
    :math:`\eta_B(\ell_i - \rho_i)`.

    Args:
        weights: :math:`b`, shape ``(..., n)``, in (0, 1).
        supervised: losses :math:`\ell`, of the same shape, at least 0.
        consistency: losses :math:`\rho`, likewise.
        step_size: :math:`\eta_B \ge 0`.

    Returns:
        The next weights, of the same shape. What rounding would make 0 or 1 becomes the smallest
        normal number, or the largest number below 1: a training run carries logits instead.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: shapes that differ, weights outside (0, 1), losses that are negative or not
            finite, or a step below 0.

    Source:
        Dong, Xie and Ward (2023).
    """
    require_tensor("weights", weights)
    inside = (weights > 0) & (weights < 1)
    require_values("weights", weights, inside, "weights in (0, 1)")
    require_losses(supervised, consistency)
    require_same_kind("supervised", supervised, "weights", weights)
    require_shape("supervised", supervised, tuple(weights.shape))
    step = require_number("step_size", step_size, 0.0)
    logits = dual_step(torch.logit(weights), consistency - supervised, step)
    limits = torch.finfo(weights.dtype)
    return logits.sigmoid().clamp(limits.tiny, 1 - limits.eps / 2)


def weight_regret(
    weights: Tensor, supervised: Tensor, consistency: Tensor, drawn: Tensor | None = None
) -> Tensor:
    r"""What the best constant weights would have gained: the left side of ``thm-certificate``.

    Args:
        weights: those that were used, shape ``(rounds, ..., batch)``, in [0, 1].
        supervised: the losses :math:`\ell` of the rounds, of the same shape.
        consistency: the losses :math:`\rho` of the rounds, likewise.
        drawn: which sample each entry belongs to, int64 of the same shape; by default the batch
            is the same ``n`` samples in every round.

    Returns:
        :math:`\max(\sum\ell_i, \sum\rho_i) - \sum[b_i\ell_i + (1 - b_i)\rho_i]` of every sample,
        each sum over the rounds in which it was drawn; shape ``(..., n)``. Never-drawn samples
        have 0.

    Raises:
        TypeError: no floating-point tensors, or ``drawn`` is no tensor of whole numbers.
        ValueError: shapes that differ, weights outside [0, 1], losses that are negative or not
            finite, or a sample below 0.
    """
    require_tensor("weights", weights)
    require_values("weights", weights, (weights >= 0) & (weights <= 1), "weights in [0, 1]")
    require_losses(supervised, consistency)
    require_shape("supervised", supervised, tuple(weights.shape))
    played = weights * supervised + (1 - weights) * consistency
    totals = [_per_sample(part, drawn) for part in (supervised, consistency, played)]
    return torch.maximum(totals[0], totals[1]) - totals[2]


def weight_bound(
    supervised: Tensor,
    consistency: Tensor,
    step_size: float,
    drawn: Tensor | None = None,
    *,
    order: str = "weights_first",
) -> Tensor:
    r"""The right side of ``thm-certificate``, :math:`W` of every sample.

    Args:
        supervised: the losses :math:`\ell` of the rounds, shape ``(rounds, ..., batch)``.
        consistency: the losses :math:`\rho` of the rounds, likewise.
        step_size: :math:`\eta_B > 0`; infinite where the weights come first.
        drawn: as in :func:`weight_regret`.
        order: ``"weights_first"``, the losses meet the weights that they have just moved, or
            ``"simultaneous"``, they meet the weights before.

    Returns:
        :math:`\log 2/\eta_B`, and where the order is simultaneous
        :math:`+ \frac{\eta_B}8\sum(\ell_i - \rho_i)^2`; shape ``(..., n)``.

    Raises:
        TypeError: as :func:`weight_regret`.
        ValueError: likewise, a step that is not above 0, or an unknown order.
    """
    require_order(order)
    require_losses(supervised, consistency)
    if not (step_size == math.inf and order == "weights_first"):
        require_number("step_size", step_size, 0.0, strict=True)
    squares = _per_sample((supervised - consistency) ** 2, drawn)
    start = math.log(2) / step_size
    if order == "weights_first":
        return torch.full_like(squares, start)
    return start + step_size / 8 * squares


def separating_scale(supervised: Tensor, distance: Tensor, dense: Tensor) -> Tensor:
    r"""A factor :math:`\lambda` of the consistency that parts dense from sparse samples.

    With :math:`\rho_i = \lambda\delta_i` a sample goes to the supervised loss where
    :math:`\ell_i/\delta_i > \lambda`, so the factor must lie between the ratios of the groups.

    Args:
        supervised: losses :math:`\ell` at the end of a warm start, shape ``(n,)``.
        distance: :math:`\delta`, the consistency at :math:`\lambda = 1`, above 0, likewise.
        dense: truth values, likewise; both groups have a sample.

    Returns:
        The geometric mean of the groups' median ratios where the dense group's is the larger, a
        number without axes; else NaN: no factor sends the groups where they should go.

    Raises:
        TypeError: no floating-point tensors, or ``dense`` holds no truth values.
        ValueError: shapes that differ, an empty group, or losses out of range.
    """
    require_tensor("supervised", supervised)
    require_losses(supervised, distance)
    require_values("distance", distance, distance > 0, "distances above 0")
    require_shape("dense", require_truths("dense", dense), tuple(supervised.shape))
    if supervised.ndim != 1 or not 0 < int(dense.sum()) < len(dense):
        raise ValueError("dense: expected both kinds of samples along one axis")
    ratio = supervised / distance
    high, low = ratio[dense].quantile(0.5), ratio[~dense].quantile(0.5)
    return torch.where(high > low, (high * low).sqrt(), torch.nan)


def require_order(order: str) -> str:
    """Refuse what is no order of the two updates.

    Args:
        order: what came.

    Returns:
        ``order`` itself.

    Raises:
        ValueError: neither ``"weights_first"`` nor ``"simultaneous"``.
    """
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {ORDERS}, got {order!r}")
    return order


def require_losses(supervised: Tensor, consistency: Tensor) -> None:
    """Refuse what are no two tensors of losses.

    Args:
        supervised: losses of any shape with an axis.
        consistency: of the same shape.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: shapes that differ, or an entry that is negative or not finite.
    """
    for name, value in (("supervised", supervised), ("consistency", consistency)):
        require_tensor(name, value)
        valid = (value >= 0) & value.isfinite()
        require_values(name, value, valid, "finite losses >= 0")
    require_same_kind("consistency", consistency, "supervised", supervised)
    require_shape("consistency", consistency, tuple(supervised.shape))


def _per_sample(values: Tensor, drawn: Tensor | None) -> Tensor:
    """Sums over the rounds, sample by sample."""
    if drawn is None:
        return values.sum(0)
    require_shape("drawn", require_integers("drawn", drawn), tuple(values.shape))
    require_values("drawn", drawn, drawn >= 0, "samples >= 0")
    count = int(drawn.max()) + 1
    where, what = (x.movedim(0, -2).flatten(-2) for x in (drawn, values))
    return values.new_zeros(*where.shape[:-1], count).scatter_add(-1, where, what)
