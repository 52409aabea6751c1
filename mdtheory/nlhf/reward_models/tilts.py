"""Exponential tilting: the mirror step from the reference, beside which best of n is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_broadcastable,
    require_finite,
    require_same_kind,
    require_scale,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import entropy_step, kl, require_log_probabilities

HALVINGS = 120


def tilted_policy(log_policy: Tensor, reward: Tensor, step_size: float | Tensor) -> Tensor:
    r"""The policy of greatest reward less divergence, :math:`q_\eta \propto \mu e^{\eta r}`.

    Equation ``eq-tilt``: one mirror step from the reference, whose step size is one over the
    weight of the divergence.

    Args:
        log_policy: the reference's log-probabilities, shape ``(..., k)``.
        reward: of a shape that broadcasts with it.
        step_size: at least 0; a tensor has the batch's shape.

    Returns:
        Log-probabilities ``(..., k)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no log-probabilities, rewards that are not finite, or a negative step size.
    """
    log_policy, reward = _pair(log_policy, reward)
    step = require_scale("step_size", step_size, log_policy, log_policy.shape[:-1], trailing=1)
    return entropy_step(log_policy, -reward, step)


def tilt_of_divergence(log_policy: Tensor, reward: Tensor, divergence: Tensor) -> Tensor:
    """The step size at which :func:`tilted_policy` has the given divergence from the reference.

    Args:
        log_policy: the reference's log-probabilities, shape ``(..., k)``.
        reward: of a shape that broadcasts with it.
        divergence: in nats, nonnegative, of the batch's shape.

    Returns:
        Step sizes of the batch's shape, by bisection.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: more than the divergence of the best answers from the reference.
    """
    log_policy, reward = _pair(log_policy, reward)
    divergence = _target("divergence", divergence, log_policy)
    legal = log_policy > -torch.inf
    highest = torch.where(legal, reward, -torch.inf).amax(-1, keepdim=True)
    most = -torch.where(legal & (reward == highest), log_policy, -torch.inf).logsumexp(-1)
    valid = (divergence >= 0) & (divergence < most)
    require_values("divergence", divergence, valid, "at least 0, and less than that of the best")
    return _solve(log_policy, reward, lambda q: kl(q, log_policy), divergence)


def tilt_of_reward(log_policy: Tensor, reward: Tensor, mean: Tensor) -> Tensor:
    """The step size at which :func:`tilted_policy` has the given mean reward.

    Args:
        log_policy: the reference's log-probabilities, shape ``(..., k)``.
        reward: of a shape that broadcasts with it.
        mean: from the reference's mean reward to less than the best, of the batch's shape.

    Returns:
        Step sizes of the batch's shape, by bisection.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a mean that no step reaches.
    """
    log_policy, reward = _pair(log_policy, reward)
    mean = _target("mean", mean, log_policy)
    legal = log_policy > -torch.inf
    low = (log_policy.exp() * reward).sum(-1)
    high = torch.where(legal, reward, -torch.inf).amax(-1)
    slack = 8 * torch.finfo(low.dtype).eps * reward.abs().amax(-1)
    require_values("mean", mean, (mean >= low - slack) & (mean < high),
                   "at least the reference's, and less than the best reward")  # fmt: skip
    return _solve(log_policy, reward, lambda q: (q.exp() * reward).sum(-1), mean)


class RankTilt(NamedTuple):
    """Tilt of a uniform rank: its ``step_size``, ``win_rate`` and ``divergence``."""

    step_size: Tensor
    win_rate: Tensor
    divergence: Tensor


def rank_tilt(step_size: Tensor) -> RankTilt:
    r"""The law :math:`\propto e^{\eta s}` of a rank that is uniform on [0, 1].

    Args:
        step_size: :math:`\eta > 0`, any shape.

    Returns:
        The step size, the mean rank, and the divergence from the uniform law.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: a step size that is not positive and finite.
    """
    b = require_tensor("step_size", step_size, 0)
    require_values("step_size", b, (b > 0) & b.isfinite(), "positive numbers")
    # Near 0 the two terms of the mean cancel; its series takes over.
    small = b < 1e-2
    away = torch.where(small, 1.0, b)
    mean = torch.where(small, 0.5 + b / 12 - b**3 / 720, -1 / torch.expm1(-away) - 1 / away)
    near = b.square() / 24 - b**4 / 960
    log_mass = away + torch.log(-torch.expm1(-away)) - away.log()
    return RankTilt(b.clone(), mean, torch.where(small, near, away * mean - log_mass))


def rank_tilt_of(*, win_rate: Tensor | None = None, divergence: Tensor | None = None) -> RankTilt:
    """The tilt of a uniform rank that has a given win rate, or a given divergence.

    Args:
        win_rate: between one half and 1, any shape.
        divergence: positive, any shape; exactly one of the two is given.

    Returns:
        As :func:`rank_tilt`, by bisection.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: both or neither, or a target that no step reaches.
    """
    if (win_rate is None) == (divergence is None):
        raise ValueError("win_rate, divergence: expected exactly one of them")
    if win_rate is not None:
        target = require_tensor("win_rate", win_rate, 0)
        require_values("win_rate", target, (target > 0.5) & (target < 1), "in (1/2, 1)")
    else:
        target = require_tensor("divergence", divergence, 0)
        require_values("divergence", target, (target > 0) & target.isfinite(), "positive numbers")
    part = 1 if win_rate is not None else 2
    return rank_tilt(_bisect(lambda b: rank_tilt(b)[part], target))


def _solve(
    log_policy: Tensor, reward: Tensor, measure: Callable[[Tensor], Tensor], target: Tensor
) -> Tensor:
    """The step is counted in units of the rewards' range, so that their unit does not matter."""
    unit = reward.amax(-1) - reward.amin(-1)
    unit = torch.where(unit > 0, unit, 1.0)
    scaled = reward / unit[..., None]
    found = _bisect(
        lambda step: measure(entropy_step(log_policy, -scaled, step[..., None])), target
    )
    return found / unit


def _bisect(measure: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
    """Where an increasing measure of a positive number meets its target."""
    low, high = torch.full_like(target, 1e-30), torch.ones_like(target)
    for _ in range(60):
        short = measure(high) < target
        if not bool(short.any()):
            break
        high = torch.where(short, 4 * high, high)
    for _ in range(HALVINGS):
        # Geometric until the ends are near: targets may be tiny.
        middle = torch.where(high > 2 * low, (low * high).sqrt(), (low + high) / 2)
        short = measure(middle) < target
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (low + high) / 2


def _pair(log_policy: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
    require_log_probabilities("log_policy", log_policy)
    require_finite("reward", require_tensor("reward", reward))
    require_same_kind("reward", reward, "log_policy", log_policy)
    require_broadcastable("reward", reward, "log_policy", log_policy)
    both = torch.broadcast_tensors(log_policy, reward)
    return both[0], both[1]


def _target(name: str, value: Tensor, log_policy: Tensor) -> Tensor:
    require_same_kind(name, require_tensor(name, value, 0), "log_policy", log_policy)
    require_broadcast(name, value.shape, log_policy.shape[:-1])
    return value.expand(torch.broadcast_shapes(value.shape, log_policy.shape[:-1])).contiguous()
