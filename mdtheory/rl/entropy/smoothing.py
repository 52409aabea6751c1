"""The loss of EPO: nested means, the corridor around past entropy, the weight of the phase."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)

Kind = Literal["relu", "indicator"]
KINDS = ("relu", "indicator")
Number = float | Tensor


def trajectory_entropy(entropy: Tensor, mask: Tensor) -> Tensor:
    r"""Mean over the turns of a trajectory of the mean over each turn's tokens.

    Equation ``eq-trajectory-entropy``. A turn without tokens is padding, and so is a token that
    the mask leaves out: what stands there is not looked at, and its gradient is exactly 0.

    Args:
        entropy: of each token's law, in nats, shape ``(..., turns, tokens)``.
        mask: which tokens are there, bool or the numbers 0 and 1, of a shape that broadcasts to it.

    Returns:
        Shape ``(...)``.

    Raises:
        TypeError: an argument is no tensor of the right kind.
        ValueError: a shape does not fit, or a trajectory has no tokens.

    Source:
        Xu et al. (2026).
    """
    require_tensor("entropy", entropy)
    if entropy.ndim < 2 or entropy.shape[-2] == 0:
        raise ValueError(
            f"entropy: expected shape (..., turns, tokens), got {tuple(entropy.shape)}"
        )
    return nested_mean(entropy, token_weights(require_mask(mask, entropy), entropy.dtype))


def corridor_penalty(
    entropy: Tensor, reference: Number, low: Number, high: Number, kind: Kind = "relu"
) -> Tensor:
    r"""How far an entropy is outside of the corridor around the reference.

    Equation ``eq-corridor``, :math:`[\kappa_\ell\bar H - H]_+ + [H - \kappa_r\bar H]_+`, or for
    ``"indicator"`` the number 1 outside and 0 inside, which has no gradient: ``prop-coefficient``.

    Args:
        entropy: :math:`H` of each token, at least 0, shape ``(...)``.
        reference: :math:`\bar H \ge 0`, a number or a tensor that broadcasts with ``entropy``.
        low: :math:`\kappa_\ell \ge 0`, likewise.
        high: :math:`\kappa_r \ge \kappa_\ell`, likewise.
        kind: ``"relu"`` or ``"indicator"``.

    Returns:
        The penalty, of the broadcast shape.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of range, or an unknown kind.

    Source:
        Xu et al. (2026); the indicator is that of their released code.
    """
    if not isinstance(entropy, Tensor) or not entropy.is_floating_point():
        raise TypeError("entropy: expected a floating-point tensor")
    reference = require_scale("reference", reference, entropy, entropy.shape)
    low, high = _require_corridor(low, high, entropy, entropy.shape)
    return outside(entropy, low * reference, high * reference, require_kind(kind) == "indicator")


def phase_weight(step: int, steps: int, decay: float = 3.0) -> float:
    r"""The weight of the smoothing at a step, ``eq-phase-weight``.

    :math:`\beta_k = 1 + e^{-\gamma_\beta k/\lfloor K/2\rfloor}`: from 2 downwards, above 1.

    Args:
        step: :math:`k`, from 0 to ``steps``.
        steps: :math:`K \ge 2`, the number of updates.
        decay: :math:`\gamma_\beta \ge 0`.

    Returns:
        :math:`\beta_k`.

    Raises:
        TypeError: a number of the wrong kind.
        ValueError: a number out of range.

    Source:
        Xu et al. (2026).
    """
    require_count("steps", steps, 2)
    if require_count("step", step, 0) > steps:
        raise ValueError(f"step: expected at most steps = {steps}, got {step!r}")
    return 1 + math.exp(-require_number("decay", decay, 0.0) * step / (steps // 2))


def epo_loss(
    policy_loss: Tensor,
    entropy: Tensor,
    mask: Tensor,
    reference: Number | None,
    weight: Number,
    coefficient: Number,
    penalty: Number,
    low: Number = 0.5,
    high: Number = 1.5,
    kind: Kind = "relu",
) -> Tensor:
    r"""The loss of entropy-regularised policy optimisation, ``eq-epo``.

    :math:`L - \lambda\,[H(\theta) - \beta_k\,\alpha\,P(\theta)]` with the nested means of the
    tokens' entropies and of their penalties over the trajectories of a batch.

    Args:
        policy_loss: :math:`L`, of every run, shape ``(...)``.
        entropy: of each token's law, in nats, shape ``(..., trajectories, turns, tokens)``.
        mask: which tokens are there, bool or 0 and 1, of a shape that broadcasts to it.
        reference: :math:`\bar H`, a number or shape ``(...)``, without gradient; ``None`` before
            there is a past: then nothing is smoothed.
        weight: :math:`\beta_k`, see :func:`phase_weight`; a number or shape ``(...)``.
        coefficient: :math:`\lambda`, likewise; 0 leaves the policy's loss.
        penalty: :math:`\alpha`, likewise; 0 is the plain bonus.
        low: :math:`\kappa_\ell`, likewise.
        high: :math:`\kappa_r`, likewise.
        kind: ``"relu"`` or ``"indicator"``.

    Returns:
        The loss of every run, shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not fit, a number out of range, or an unknown kind.

    Source:
        Xu et al. (2026).
    """
    if not isinstance(entropy, Tensor) or not entropy.is_floating_point():
        raise TypeError("entropy: expected a floating-point tensor")
    if entropy.ndim < 3 or 0 in entropy.shape[-3:]:
        raise ValueError(
            "entropy: expected shape (..., trajectories, turns, tokens), got "
            f"{tuple(entropy.shape)}"
        )
    batch = entropy.shape[:-3]
    if not isinstance(policy_loss, Tensor):
        raise TypeError(f"policy_loss: expected a tensor, got {type(policy_loss).__name__}")
    require_same_kind("policy_loss", policy_loss, "entropy", entropy)
    require_shape("policy_loss", policy_loss, tuple(batch))
    scales = {
        name: require_scale(name, value, entropy, batch, widens=False)
        for name, value in (
            ("weight", weight), ("coefficient", coefficient), ("penalty", penalty),
        )
    }  # fmt: skip
    indicator = require_kind(kind) == "indicator"
    low, high = _require_corridor(low, high, entropy, batch)
    lower = upper = None
    if reference is not None:
        reference = require_scale("reference", reference, entropy, batch, widens=False)
        lower, upper = (_past(edge * _held(reference), 3) for edge in (low, high))
    weights = token_weights(require_mask(mask, entropy), entropy.dtype)
    return policy_loss - entropy_terms(
        entropy, weights, lower, upper, scales["weight"], scales["coefficient"],
        scales["penalty"], indicator,
    )  # fmt: skip


def net_coefficient(
    entropy: Tensor,
    reference: Number,
    weight: Number,
    coefficient: Number,
    penalty: Number,
    low: Number = 0.5,
    high: Number = 1.5,
    kind: Kind = "relu",
) -> Tensor:
    r"""What multiplies the gradient of a token's entropy in an ascent step: ``prop-coefficient``.

    :math:`\lambda(1 + \alpha\beta)` below the corridor, :math:`\lambda` inside and on its edges,
    :math:`\lambda(1 - \alpha\beta)` above; for the indicator :math:`\lambda` everywhere.

    Args:
        entropy: :math:`H` of each token, shape ``(...)``.
        reference: :math:`\bar H \ge 0`.
        weight: :math:`\beta`.
        coefficient: :math:`\lambda`.
        penalty: :math:`\alpha`.
        low: :math:`\kappa_\ell`.
        high: :math:`\kappa_r`.
        kind: ``"relu"`` or ``"indicator"``.

    Returns:
        Of the broadcast shape.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an unknown kind, or a corridor that is none.
    """
    if not isinstance(entropy, Tensor) or not entropy.is_floating_point():
        raise TypeError("entropy: expected a floating-point tensor")
    reference = require_scale("reference", reference, entropy, entropy.shape)
    low, high = _require_corridor(low, high, entropy, entropy.shape)
    side = (entropy < low * reference).to(entropy) - (entropy > high * reference).to(entropy)
    if require_kind(kind) == "indicator":
        side = torch.zeros_like(side)
    return coefficient * (1 + penalty * weight * side)


# What the checked doors above and the training loop share; nothing below checks anything.


def token_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight of each token in its trajectory's nested mean; they sum to 1.

    Args:
        mask: which tokens are there, shape ``(..., turns, tokens)``.
        dtype: of the weights.

    Returns:
        Weights of the shape of the mask.
    """
    there = mask.to(dtype)
    tokens = there.sum(-1, keepdim=True)
    turns = (tokens > 0).to(dtype).sum(-2, keepdim=True)
    return there / (tokens.clamp(min=1) * turns)


def nested_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over turns and tokens; a weight of 0 silences its token.

    Args:
        values: shape ``(..., turns, tokens)``.
        weights: of :func:`token_weights`, same shape.

    Returns:
        Shape ``(...)``.
    """
    return (weights * torch.where(weights > 0, values, 0.0)).sum((-2, -1))


def outside(entropy: Tensor, lower: Number, upper: Number, indicator: bool | Tensor) -> Tensor:
    """The penalty of ``eq-corridor``; unchecked.

    Args:
        entropy: any shape.
        lower: lower edge, of a shape that broadcasts with it.
        upper: upper edge, likewise.
        indicator: where the penalty is 1 in place of the distance; a truth value or likewise.

    Returns:
        Of the broadcast shape.
    """
    below, above = lower - entropy, entropy - upper
    distance = below.relu() + above.relu()
    if indicator is False:
        return distance
    flag = ((below > 0) | (above > 0)).to(entropy)
    return flag if indicator is True else torch.where(indicator, flag, distance)


def entropy_terms(
    entropy: Tensor,
    weights: Tensor,
    lower: Number | None,
    upper: Number | None,
    weight: Number,
    coefficient: Number,
    penalty: Number,
    indicator: bool | Tensor,
) -> Tensor:
    r""":math:`\lambda\,[H - \beta\alpha P]` of every run, ``eq-epo``; unchecked.

    Args:
        entropy: shape ``(..., trajectories, turns, tokens)``.
        weights: of :func:`token_weights`.
        lower: lower edge of the corridor with three trailing axes of length 1, or ``None``.
        upper: upper edge.
        weight: number or shape ``(...)``.
        coefficient: likewise.
        penalty: likewise.
        indicator: which kind of penalty, a truth value or of a shape that meets ``entropy``.

    Returns:
        Shape ``(...)``.
    """
    total = nested_mean(entropy, weights).mean(-1)
    if lower is not None and upper is not None:
        beyond = outside(entropy, lower, upper, indicator)
        total = total - weight * penalty * nested_mean(beyond, weights).mean(-1)
    return coefficient * total


def require_mask(mask: Tensor, entropy: Tensor) -> Tensor:
    """A mask as truth values, with at least one token in each trajectory.

    Args:
        mask: as in :func:`trajectory_entropy`.
        entropy: what it belongs to.

    Returns:
        Truth values of the shape of ``entropy``.

    Raises:
        TypeError: no tensor.
        ValueError: another device, a shape that does not fit, other numbers than 0 and 1, or a
            trajectory without tokens.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask: expected a tensor, got {type(mask).__name__}")
    if mask.device != entropy.device:
        raise ValueError(f"mask: expected device {entropy.device}, got {mask.device}")
    require_broadcast("mask", mask.shape, entropy.shape, "the entropies", widens=False)
    if mask.dtype != torch.bool:
        require_values("mask", mask, (mask == 0) | (mask == 1), "truth values, or 0 and 1")
    there = (mask != 0).expand(entropy.shape)
    require_values("mask", mask, there.flatten(-2).any(-1), "a token in every trajectory")
    return there


def require_kind(kind: str) -> str:
    """One of the penalties' names."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
    return kind


def _require_corridor(
    low: Number, high: Number, like: Tensor, batch: tuple[int, ...]
) -> tuple[Number, Number]:
    low = require_scale("low", low, like, batch, widens=False)
    high = require_scale("high", high, like, batch, widens=False)
    wide = torch.as_tensor(high >= low)
    require_values("high", wide, wide, "an upper edge at least the lower one")
    return low, high


def _held(value: Number) -> Number:
    return value.detach() if isinstance(value, Tensor) else value


def _past(value: Number, trailing: int) -> Number:
    """With trailing axes, so that a run's number meets its tokens."""
    return value.reshape(value.shape + (1,) * trailing) if isinstance(value, Tensor) else value
