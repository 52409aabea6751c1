"""Rewards behind preferences: what a reward prefers, and the reward that fits best."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import (
    require_broadcast,
    require_finite,
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.nlhf.reward_models.preferences import require_preference

NEWTON_STEPS = 200


def bradley_terry_preference(reward: Tensor) -> Tensor:
    r"""Preferences that a reward explains, :math:`P[y, z] = \sigma(r_y - r_z)`.

    Equation ``eq-bradley-terry``.

    Args:
        reward: :math:`r`, shape ``(..., n)``.

    Returns:
        Shape ``(..., n, n)``.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: a wrong shape, a NaN or an infinity.

    Source:
        Bradley and Terry (1952).
    """
    require_finite("reward", require_tensor("reward", reward))
    return (reward[..., :, None] - reward[..., None, :]).sigmoid()


def bradley_terry(
    preference: Tensor, weights: Tensor | None = None, tolerance: float = 1e-12
) -> Tensor:
    r"""The reward of greatest likelihood, when pairs are drawn and judged by given preferences.

    It minimises :math:`-\sum_{y \ne z} w[y, z]\, P[y, z] \log\sigma(r_y - r_z)`, a convex function,
    by Newton's method with halved steps. Where :math:`P` comes from a reward the weights do not
    matter; elsewhere they do.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        weights: how often a pair is drawn, nonnegative, shape ``(..., n, n)``; only the sum of
            ``w[y, z]`` and ``w[z, y]`` counts. All pairs alike by default. Where the sum is 0 the
            preference is not looked at, whatever it is.
        tolerance: largest entry of the gradient that is allowed, per unit of weight of a row;
            never asked below what the dtype can hold.

    Returns:
        Rewards of mean 0, shape ``(..., n)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape or range, or no maximum exists: pairs that are drawn do not
            connect all actions, or some actions always win against the others.
        ArithmeticError: the tolerance was not met.

    Source:
        Bradley and Terry (1952); Zermelo (1929) for when a maximum exists.
    """
    require_number("tolerance", tolerance, 0.0, strict=True)
    pairs = _pairs(require_tensor("preference", preference, 2), weights)
    # What is never drawn says nothing, not even that it is unknown.
    known = (pairs > 0) | torch.eye(pairs.shape[-1], dtype=torch.bool, device=pairs.device)
    preference = require_preference("preference", torch.where(known, preference, 0.5))
    won = pairs * preference
    drawn = won + won.mT
    _require_connected(won)
    tolerance = max(tolerance, 16 * torch.finfo(won.dtype).eps)
    reward = torch.zeros_like(won[..., 0])
    scale = drawn.sum(-1).amax(-1)
    loss = _loss(reward, won)
    for _ in range(NEWTON_STEPS):
        chance = bradley_terry_preference(reward)
        gradient = (drawn * chance - won).sum(-1)
        if bool((gradient.abs().amax(-1) <= tolerance * scale).all()):
            return reward - reward.mean(-1, keepdim=True)
        curvature = drawn * chance * (1 - chance)
        # The Laplacian of a connected graph; the constant shift makes it invertible.
        hessian = torch.diag_embed(curvature.sum(-1)) - curvature
        shift = curvature.sum((-2, -1), keepdim=True) / curvature.shape[-1] ** 2
        change = torch.linalg.solve(hessian + shift, -gradient[..., None])[..., 0]
        slope = (gradient * change).sum(-1)
        size = torch.ones_like(slope)
        for _ in range(60):
            trial = _loss(reward + size[..., None] * change, won)
            slack = 8 * torch.finfo(loss.dtype).eps * (scale + loss.abs())
            worse = trial > loss + size * slope / 4 + slack
            if not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        reward = reward + size[..., None] * change
        loss = _loss(reward, won)
    left = (gradient.abs().amax(-1) / scale).max().item()
    raise ArithmeticError(
        f"tolerance: {tolerance!r} was not met in {NEWTON_STEPS} Newton steps; {left!r} is left"
    )


def _pairs(preference: Tensor, weights: Tensor | None) -> Tensor:
    """How often each pair is drawn, symmetric, 0 on the diagonal and at most 1."""
    if weights is None:
        return _off_diagonal(torch.ones_like(preference))
    require_tensor("weights", weights, 2)
    require_same_kind("weights", weights, "preference", preference)
    require_shape("weights", weights, (*weights.shape[:-2], *preference.shape[-2:]))
    require_broadcast("weights", weights.shape[:-2], preference.shape[:-2])
    require_values("weights", weights, (weights >= 0) & weights.isfinite(), "finite weights >= 0")
    pairs = _off_diagonal(weights / 2 + weights.mT / 2)
    largest = pairs.amax((-2, -1), keepdim=True)
    return pairs / torch.where(largest > 0, largest, 1.0)


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))


def _loss(reward: Tensor, won: Tensor) -> Tensor:
    ahead = reward[..., :, None] - reward[..., None, :]
    return -(won * functional.logsigmoid(ahead)).sum((-2, -1))


def _require_connected(won: Tensor) -> None:
    """Every action beats every other along some path of wins (Zermelo's condition)."""
    reach = (won > 0).to(won.dtype) + torch.eye(won.shape[-1], dtype=won.dtype, device=won.device)
    steps = 1
    while steps < won.shape[-1]:
        reach = (reach @ reach > 0).to(won.dtype)
        steps *= 2
    require_values(
        "preference, weights", reach, reach > 0,
        "a path of wins from every action to every other (else rewards run away)",
    )  # fmt: skip
