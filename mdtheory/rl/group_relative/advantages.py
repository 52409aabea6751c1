"""What a group of answers says about each of them: centred rewards, and the weights of RED."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.checks import require_finite, require_number, require_tensor

RedKind = Literal["drop", "weight", "weight_centred"]


def group_advantages(
    rewards: Tensor,
    normalize: bool = False,
    shift: float = 0.0,
    *,
    epsilon: float = 1e-6,
    unbiased: bool = True,
) -> Tensor:
    r"""Rewards of a group less their mean, what group-relative methods call advantages.

    Equation ``eq-group-advantage``: :math:`A_i = r_i - \bar r`, divided by the group's standard
    deviation if asked (GRPO), plus a shift (AsymRE). Leave-one-out (RLOO) is :math:`K/(K-1)` times
    the first.

    Args:
        rewards: :math:`r`, shape ``(..., K)``: the last axis is one group, the answers to one
            prompt.
        normalize: whether to divide by the standard deviation plus ``epsilon``.
        shift: :math:`\beta`, added at the end; above 0 the baseline lies below the mean.
        epsilon: at least 0.
        unbiased: whether the variance is the sum of squares over :math:`K - 1`, as in
            ``torch.std``, or over :math:`K`.

    Returns:
        Advantages, shape ``(..., K)``; equal rewards have the advantage ``shift``.

    Raises:
        TypeError: no floating-point tensor, or no numbers.
        ValueError: no group, rewards that are not finite, ``epsilon`` below 0, or an unbiased
            deviation of a single answer.

    Source:
        Shao et al. (2024) with ``normalize``, Liu et al. (2025) without; Arnal et al. (2025)
        for the shift.
    """
    _check_rewards(rewards)
    require_number("shift", shift)
    require_number("epsilon", epsilon, 0.0)
    if normalize and unbiased and rewards.shape[-1] < 2:
        raise ValueError(
            "rewards: expected a group of at least 2 answers for an unbiased deviation, got 1"
        )
    return group_advantages_unchecked(rewards, normalize, shift, epsilon, unbiased)


def group_advantages_unchecked(
    rewards: Tensor,
    normalize: bool = False,
    shift: float = 0.0,
    epsilon: float = 1e-6,
    unbiased: bool = True,
) -> Tensor:
    """:func:`group_advantages` for inner loops.

    The arguments are those of :func:`group_advantages`.

    Returns:
        Advantages, shape ``(..., K)``.
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    if normalize:
        spread = centred.square().sum(-1, keepdim=True) / (rewards.shape[-1] - unbiased)
        root = spread.sqrt() + epsilon
        centred = centred / torch.where(root > 0, root, 1.0)
    return centred + shift


class RedWeights(NamedTuple):
    """What RED makes of a group; its advantages are ``factor * (rewards - baseline)``.

    Attributes:
        factor: one for each answer, at least 0, shape ``(..., K)``.
        baseline: shape ``(..., 1)``.
    """

    factor: Tensor
    baseline: Tensor


def red_weights(
    rewards: Tensor,
    kind: RedKind = "weight",
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> RedWeights:
    r"""Weights and baseline of RED, which reshape the data instead of the loss.

    Equation ``eq-red``. ``"drop"``: where more answers lie below the mean than not, as many of
    them as are too many, drawn at random, get the factor 0, and the baseline is the mean of the
    rest. ``"weight"``: the factor :math:`e^{(r_i - \bar r)/\lambda}` around the plain mean.
    ``"weight_centred"``: the same factor around the weighted mean, which is consistent in pairs.

    Args:
        rewards: :math:`r`, shape ``(..., K)``.
        kind: one of the names above.
        temperature: :math:`\lambda > 0`, of the weights.
        generator: source of the draw, on the device of the rewards; needed for ``"drop"``.

    Returns:
        Factor and baseline.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an unknown kind, no generator where one is needed, or numbers out of range.

    Source:
        Yao et al. (2026), after the authors' code; ``"weight_centred"`` is ours.
    """
    _check_rewards(rewards)
    require_number("temperature", temperature, 0.0, strict=True)
    if kind not in get_args(RedKind):
        raise ValueError(f"kind: expected one of {get_args(RedKind)}, got {kind!r}")
    if kind == "drop" and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator: expected a torch.Generator for 'drop', got {generator!r}")
    return red_weights_unchecked(rewards, kind, temperature, generator)


def red_weights_unchecked(
    rewards: Tensor, kind: RedKind, temperature: float, generator: torch.Generator | None
) -> RedWeights:
    """:func:`red_weights` for inner loops.

    The arguments are those of :func:`red_weights`.

    Returns:
        Factor and baseline.
    """
    mean = rewards.mean(-1, keepdim=True)
    if kind == "drop":
        good = rewards >= mean
        draw = torch.rand(
            rewards.shape, generator=generator, dtype=rewards.dtype, device=rewards.device
        )
        # Rank among the bad ones in the order of the draw; good ones come last.
        rank = torch.where(good, 2.0, draw).argsort(-1).argsort(-1)
        keep = (good | (rank < good.sum(-1, keepdim=True))).to(rewards.dtype)
        return RedWeights(keep, (keep * rewards).sum(-1, keepdim=True) / keep.sum(-1, keepdim=True))
    factor = ((rewards - mean) / temperature).exp()
    if kind == "weight":
        return RedWeights(factor, mean)
    share = (rewards / temperature).softmax(-1)
    return RedWeights(factor, (share * rewards).sum(-1, keepdim=True))


def _check_rewards(rewards: Tensor) -> None:
    require_tensor("rewards", rewards)
    require_finite("rewards", rewards)
