"""Losses on answers of any origin: consistency in pairs, REC, OPMD, AsymRE."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)

Clip = Literal["none", "one_side", "two_side", "ring"]
Average = Literal["tokens", "responses", "constant"]
Form = Literal["kimi", "paper"]
EDGES = (0.2, 0.2, 0.6, 2.0)  # low, high, outer low, outer high


def pairwise_consistency_loss(
    rewards: Tensor,
    log_prob: Tensor,
    anchor_log_prob: Tensor,
    temperature: float | Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    r"""How far a group is from the optimum of the regularised objective: a variance.

    Equation ``eq-pairwise``: :math:`\sum_{i<j} w_i w_j (a_i - a_j)^2`, the weighted variance of
    :math:`a_i = r_i - \tau(\log\pi(y_i) - \log\pi_t(y_i))`. Its gradient at the anchor is
    :math:`2\tau` times that of group-relative REINFORCE, whatever law the answers come from.

    Args:
        rewards: :math:`r`, shape ``(..., K)``.
        log_prob: :math:`\log\pi(y_i)` of whole answers, shape ``(..., K)``.
        anchor_log_prob: :math:`\log\pi_t(y_i)`, likewise; no gradient runs through it.
        temperature: :math:`\tau > 0`, a number or one for each group, shape ``(...)``.
        weights: :math:`w \ge 0`, of a shape that broadcasts with ``(..., K)``, normalised here;
            uniform by default. An answer with the weight 0 is silent, whatever it holds.

    Returns:
        One loss a group, shape ``(...)``.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: shapes that do not fit, numbers out of range, or a group without weight.

    Source:
        Yao et al. (2026).
    """
    require_tensor("log_prob", log_prob)
    for name, other in (("rewards", rewards), ("anchor_log_prob", anchor_log_prob)):
        _check_like(name, other, log_prob)
    tau = require_scale(
        "temperature", temperature, log_prob, log_prob.shape[:-1], strict=True, widens=False,
        trailing=1,
    )  # fmt: skip
    if weights is None:
        weights = torch.ones_like(log_prob)
    else:
        require_tensor("weights", weights)
        require_same_kind("weights", weights, "log_prob", log_prob)
        require_broadcastable("weights", weights, "log_prob", log_prob)
        require_values("weights", weights, (weights >= 0) & weights.isfinite(), "weights >= 0")
        require_values("weights", weights, (weights > 0).any(-1), "a weight > 0 in every group")
    share = weights / weights.sum(-1, keepdim=True)
    log_ratio = log_prob - anchor_log_prob.detach()
    gap = torch.where(share > 0, rewards - tau * torch.where(share > 0, log_ratio, 0.0), 0.0)
    away = gap - (share * gap).sum(-1, keepdim=True)
    return (share * away.square()).sum(-1)


def clipped_mask(
    ratio: Tensor,
    advantage: Tensor,
    kind: Clip = "one_side",
    low: float = 0.2,
    high: float = 0.2,
    outer_low: float = 0.6,
    outer_high: float = 2.0,
) -> Tensor:
    r"""Which tokens keep their gradient, from the ratio of the policy to the one that acted.

    Equation ``eq-clip-masks``, edges included. ``"one_side"``: a ratio at most
    :math:`1 + \epsilon_h` where :math:`A \ge 0`, at least :math:`1 - \epsilon_l` where
    :math:`A \le 0`. ``"two_side"``: both, whatever the advantage. ``"ring"``: that, and what lies
    beyond :math:`1 - \epsilon_l'` or :math:`1 + \epsilon_h'` while its advantage pulls it back.
    ``"none"``: all.

    Args:
        ratio: :math:`\rho \ge 0`, any shape.
        advantage: :math:`A`, of a shape that broadcasts.
        kind: one of the names above.
        low: :math:`\epsilon_l`, in [0, 1].
        high: :math:`\epsilon_h \ge 0`.
        outer_low: :math:`\epsilon_l'`, in [``low``, 1]; read for ``"ring"`` alone.
        outer_high: :math:`\epsilon_h' \ge` ``high``; likewise.

    Returns:
        Truth values, of the broadcast shape.

    Raises:
        TypeError: no floating-point tensors, or dtypes differ.
        ValueError: shapes that do not broadcast, an unknown kind, or numbers out of range.

    Source:
        Yao et al. (2026), after the authors' code.
    """
    for name, value in (("ratio", ratio), ("advantage", advantage)):
        require_tensor(name, value, 0)
    require_same_kind("advantage", advantage, "ratio", ratio)
    require_broadcastable("advantage", advantage, "ratio", ratio)
    require_values("ratio", ratio, ratio >= 0, "ratios >= 0")
    require_values("advantage", advantage, ~advantage.isnan(), "numbers")
    _check_clip(kind, low, high, outer_low, outer_high)
    return clipped_mask_unchecked(ratio, advantage, kind, (low, high, outer_low, outer_high))


def clipped_mask_unchecked(
    ratio: Tensor,
    advantage: Tensor,
    kind: Clip,
    edges: tuple[float, float, float, float] = EDGES,
) -> Tensor:
    """:func:`clipped_mask` for inner loops, the four edges together.

    Args:
        ratio: as in :func:`clipped_mask`.
        advantage: as in :func:`clipped_mask`.
        kind: as in :func:`clipped_mask`, but ``"none"``.
        edges: ``low``, ``high``, ``outer_low``, ``outer_high``.

    Returns:
        Truth values, of the broadcast shape.
    """
    low, high, outer_low, outer_high = edges
    up, down = advantage >= 0, advantage <= 0
    not_high, not_low = ratio <= 1 + high, ratio >= 1 - low
    if kind == "one_side":
        return (up & not_high) | (down & not_low)
    inside = (not_high & not_low).expand(torch.broadcast_shapes(ratio.shape, advantage.shape))
    if kind == "two_side":
        return inside
    if kind == "ring":
        return inside | (up & (ratio <= 1 - outer_low)) | (down & (ratio >= 1 + outer_high))
    return torch.ones_like(inside)


def rec_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    mask: Tensor | None = None,
    kind: Clip = "one_side",
    importance: bool = True,
    *,
    low: float = 0.2,
    high: float = 0.2,
    outer_low: float = 0.6,
    outer_high: float = 2.0,
    average: Average = "tokens",
) -> Tensor:
    r"""REINFORCE with clipping: the family that holds GRPO's loss and plain REINFORCE.

    Equation ``eq-rec-loss``: the mean over tokens of :math:`-A\,M\,\log\pi`, or of
    :math:`-A\,M\,\rho\,\log\pi` with importance weights, where the ratio :math:`\rho` and the
    mask :math:`M` are held still.

    Args:
        log_prob: :math:`\log\pi` of each token given those before, shape ``(..., n, L)``:
            ``n`` answers, all groups together, of at most ``L`` tokens.
        old_log_prob: the same under the policy that acted, likewise; no gradient runs through it.
        advantage: :math:`A`, one for each answer, shape ``(..., n)``.
        mask: truth values, or 0 and 1, shape ``(..., n, L)``: which tokens are there; all by
            default. What a padded place holds is not read and has no gradient.
        kind: of :func:`clipped_mask`; ``"none"`` without importance weights is REINFORCE.
        importance: whether the ratio multiplies the advantage.
        low: as in :func:`clipped_mask`.
        high: as in :func:`clipped_mask`.
        outer_low: as in :func:`clipped_mask`.
        outer_high: as in :func:`clipped_mask`.
        average: ``"tokens"``: the sum over tokens, over their number, clipped ones counted;
            ``"responses"``: the mean over answers of the mean over their tokens (GRPO);
            ``"constant"``: the sum over tokens, over :math:`nL` (Dr. GRPO).

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind, or dtypes differ.
        ValueError: shapes that do not fit, an unknown name, numbers out of range, or a mask that
            leaves nothing to average.

    Source:
        Yao et al. (2026).
    """
    mask = _check_tokens(log_prob, {"old_log_prob": old_log_prob}, advantage, mask, average)
    _check_clip(kind, low, high, outer_low, outer_high)
    edges = (low, high, outer_low, outer_high)
    return rec_loss_unchecked(
        log_prob, old_log_prob, advantage, mask, kind, importance, edges, average
    )


def rec_loss_unchecked(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    mask: Tensor | None,
    kind: Clip,
    importance: bool,
    edges: tuple[float, float, float, float] = EDGES,
    average: Average = "tokens",
) -> Tensor:
    """:func:`rec_loss` for inner loops, the four edges of the masks together.

    Args:
        log_prob: as in :func:`rec_loss`.
        old_log_prob: as in :func:`rec_loss`.
        advantage: as in :func:`rec_loss`.
        mask: as in :func:`rec_loss`, truth values.
        kind: as in :func:`rec_loss`.
        importance: as in :func:`rec_loss`.
        edges: ``low``, ``high``, ``outer_low``, ``outer_high``.
        average: as in :func:`rec_loss`.

    Returns:
        One loss for each leading index.
    """
    log_prob, old_log_prob = _present(mask, log_prob, old_log_prob)
    weight = advantage[..., None]
    if kind != "none" or importance:
        ratio = (log_prob.detach() - old_log_prob.detach()).exp()
        if importance:
            weight = weight * ratio
        if kind != "none":
            kept = clipped_mask_unchecked(ratio, advantage[..., None], kind, edges)
            # Not a product: a ratio that has overflowed is silent behind the mask.
            weight = torch.where(kept, weight, 0.0)
    return _average(-weight * log_prob, mask, average)


def grpo_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    mask: Tensor | None = None,
    low: float = 0.2,
    high: float = 0.2,
    *,
    average: Average = "responses",
) -> Tensor:
    r"""The clipped surrogate of GRPO, without a divergence from a reference.

    Equation ``eq-grpo-loss``: the mean of
    :math:`-\min\{\rho A, \operatorname{clip}(\rho, 1 - \epsilon_l, 1 + \epsilon_h) A\}`. Its
    gradient is that of :func:`rec_loss` with one side and importance weights
    (``prop-coincide``); DAPO averages over ``"tokens"``, Dr. GRPO over a ``"constant"``.

    Args:
        log_prob: as in :func:`rec_loss`.
        old_log_prob: likewise.
        advantage: as in :func:`rec_loss`.
        mask: as in :func:`rec_loss`.
        low: :math:`\epsilon_l`, in [0, 1].
        high: :math:`\epsilon_h \ge 0`.
        average: as in :func:`rec_loss`.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind, or dtypes differ.
        ValueError: shapes that do not fit, an unknown name, numbers out of range, or a mask that
            leaves nothing to average.

    Source:
        Shao et al. (2024); Liu et al. (2025) for the constant.
    """
    mask = _check_tokens(log_prob, {"old_log_prob": old_log_prob}, advantage, mask, average)
    _check_clip("one_side", low, high, low, high)
    log_prob, old_log_prob = _present(mask, log_prob, old_log_prob)
    advantage = advantage[..., None]
    ratio = (log_prob - old_log_prob.detach()).exp()
    edge = torch.where(advantage >= 0, torch.full_like(advantage, 1 + high), 1 - low)
    beyond = torch.where(advantage >= 0, ratio > edge, ratio < edge)
    # A ratio that has overflowed behind the edge must not meet the gradient 0.
    inside = torch.where(beyond, 0.0, log_prob - old_log_prob.detach()).exp()
    terms = -advantage * torch.where(beyond, edge, inside)
    return _average(terms if mask is None else torch.where(mask, terms, 0.0), mask, average)


def opmd_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    mask: Tensor | None = None,
    coefficient: float = 0.1,
    form: Form = "kimi",
    *,
    average: Average = "tokens",
) -> Tensor:
    r"""Online policy mirror descent with a square in place of the divergence.

    Equation ``eq-opmd``, with :math:`d = \log\pi - \log\pi_{\mathrm{old}}`. ``"kimi"``: the mean
    over tokens of :math:`-A \log\pi + c\,d^2`. ``"paper"``: the mean over answers of
    :math:`-A \log\pi(y) + \frac c2 d(y)^2` with whole answers, whose gradient is that of
    :math:`\frac1{2c}(A - c\,d(y))^2`; where it stops is ``thm-opmd``.

    Args:
        log_prob: as in :func:`rec_loss`.
        old_log_prob: likewise.
        advantage: as in :func:`rec_loss`.
        mask: as in :func:`rec_loss`.
        coefficient: :math:`c \ge 0`, the temperature :math:`\tau` of the form ``"paper"``.
        form: one of the names above.
        average: as in :func:`rec_loss`, of the form ``"kimi"``.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind, or dtypes differ.
        ValueError: shapes that do not fit, an unknown name, numbers out of range, or a mask that
            leaves nothing to average.

    Source:
        Kimi Team (2025) for the square; Yao et al. (2026) for both forms.
    """
    mask = _check_tokens(log_prob, {"old_log_prob": old_log_prob}, advantage, mask, average)
    require_number("coefficient", coefficient, 0.0)
    if form not in get_args(Form):
        raise ValueError(f"form: expected one of {get_args(Form)}, got {form!r}")
    return opmd_loss_unchecked(log_prob, old_log_prob, advantage, mask, coefficient, form, average)


def opmd_loss_unchecked(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    mask: Tensor | None,
    coefficient: float,
    form: Form,
    average: Average = "tokens",
) -> Tensor:
    """:func:`opmd_loss` for inner loops.

    The arguments are those of :func:`opmd_loss`.

    Returns:
        One loss for each leading index.
    """
    log_prob, old_log_prob = _present(mask, log_prob, old_log_prob)
    apart = log_prob - old_log_prob.detach()
    if form == "paper":
        square = apart.sum(-1).square()
        return (-advantage * log_prob.sum(-1) + coefficient / 2 * square).mean(-1)
    terms = -advantage[..., None] * log_prob + coefficient * apart.square()
    return _average(terms, mask, average)


def asymmetric_loss(
    log_prob: Tensor,
    advantage: Tensor,
    mask: Tensor | None = None,
    shift: float = 0.1,
    *,
    average: Average = "tokens",
) -> Tensor:
    r"""AsymRE: REINFORCE with the baseline a little below the mean, and nothing else.

    Equation ``eq-asymre``: the mean of :math:`-(A + \beta)\log\pi`; the part
    :math:`-\beta\log\pi` is imitation of all answers, good and bad.

    Args:
        log_prob: as in :func:`rec_loss`.
        advantage: :math:`A`, without the shift, shape ``(..., n)``.
        mask: as in :func:`rec_loss`.
        shift: :math:`\beta`.
        average: as in :func:`rec_loss`. ``"constant"`` is the loss of whole answers over ``L``,
            the others agree with it up to a factor where all answers have equal lengths.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind, or dtypes differ.
        ValueError: shapes that do not fit, an unknown name, a shift that is not finite, or a mask
            that leaves nothing to average.

    Source:
        Arnal et al. (2025).
    """
    mask = _check_tokens(log_prob, {}, advantage, mask, average)
    require_number("shift", shift)
    (log_prob,) = _present(mask, log_prob)
    return _average(-(advantage[..., None] + shift) * log_prob, mask, average)


def _present(mask: Tensor | None, *parts: Tensor) -> tuple[Tensor, ...]:
    """Token values with 0 where there is no token, so that no gradient reaches padding."""
    return parts if mask is None else tuple(torch.where(mask, part, 0.0) for part in parts)


def _average(terms: Tensor, mask: Tensor | None, average: Average) -> Tensor:
    """Mean of terms ``(..., n, L)`` that are 0 where there is no token."""
    if mask is None or average == "constant":
        return terms.mean((-2, -1))
    if average == "tokens":
        return terms.sum((-2, -1)) / mask.sum((-2, -1))
    return (terms.sum(-1) / mask.sum(-1)).mean(-1)


def _check_like(name: str, value: Tensor, log_prob: Tensor) -> None:
    require_tensor(name, value)
    require_same_kind(name, value, "log_prob", log_prob)
    require_shape(name, value, tuple(log_prob.shape))


def _check_tokens(
    log_prob: Tensor,
    others: dict[str, Tensor],
    advantage: Tensor,
    mask: Tensor | None,
    average: str,
) -> Tensor | None:
    """Refuse what does not fit, and return the mask as truth values."""
    require_tensor("log_prob", log_prob)
    if log_prob.ndim < 2:
        raise ValueError(f"log_prob: expected shape (..., n, L), got {tuple(log_prob.shape)}")
    for name, other in others.items():
        _check_like(name, other, log_prob)
    require_tensor("advantage", advantage)
    require_same_kind("advantage", advantage, "log_prob", log_prob)
    require_shape("advantage", advantage, tuple(log_prob.shape[:-1]))
    if average not in get_args(Average):
        raise ValueError(f"average: expected one of {get_args(Average)}, got {average!r}")
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask: expected a torch.Tensor, got {type(mask).__name__}")
    require_shape("mask", mask, tuple(log_prob.shape))
    require_values("mask", mask, (mask == 0) | (mask == 1), "truth values, or 0 and 1")
    mask = mask.bool()
    some = mask.any(-1) if average == "responses" else mask.flatten(-2).any(-1)
    require_values("mask", mask, some, "a token in everything that is averaged")
    return mask


def _check_clip(kind: str, low: float, high: float, outer_low: float, outer_high: float) -> None:
    if kind not in get_args(Clip):
        raise ValueError(f"kind: expected one of {get_args(Clip)}, got {kind!r}")
    require_number("low", low, 0.0, maximum=1.0)
    require_number("high", high, 0.0, infinite=True)
    if kind == "ring":
        require_number("outer_low", outer_low, low, maximum=1.0)
        require_number("outer_high", outer_high, high, infinite=True)
