"""Advantages from sampled trajectories: exponentially weighted sums of temporal differences.

The chapter 'Mirror descent policy optimisation' explains it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
    require_truths,
)


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    discount: float,
    gae_lambda: float,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Generalised advantage estimates, with termination and truncation told apart.

    Equation ``eq-gae``: :math:`\delta_t = r_t + \gamma (1 - \mathrm{term}_t) V(s_{t+1}) - V(s_t)`
    and :math:`A_t = \delta_t + \gamma \lambda (1 - \mathrm{end}_t) A_{t+1}`, where an episode ends
    by termination or truncation. After a termination nothing follows, so the next value is 0;
    after a truncation the world would have gone on, so the value of the last observation stands
    in for what was cut off.

    Args:
        rewards: reward of each step, shape ``(T, ...)``.
        values: :math:`V` of the observation before each step and after the last,
            shape ``(T + 1, ...)``. The entry after a step that ended an episode must be the value
            of the observation in which it ended, as under gymnasium's next-step autoreset.
        terminated: whether the step reached a terminal state, bool, ``(T, ...)``.
        truncated: whether a time limit cut the episode after the step, bool, ``(T, ...)``.
        discount: :math:`\gamma` in [0, 1].
        gae_lambda: :math:`\lambda` in [0, 1].
        resets: steps that only reset the environment (their action was ignored), bool,
            ``(T, ...)``; none by default.

    Returns:
        Advantages and value targets :math:`A_t + V(s_t)`, each of shape ``(T, ...)``.
        Both are 0 at steps that only reset.

    Raises:
        TypeError: an argument is no tensor of the right kind.
        ValueError: a wrong shape, or a discount or gae_lambda outside [0, 1].

    Source:
        Schulman, Moritz, Levine, Jordan and Abbeel (2016); Pardo, Tavakoli, Levdik and Kormushev
        (2018) for time limits.
    """
    require_tensor("rewards", rewards)
    require_tensor("values", values)
    require_same_kind("values", values, "rewards", rewards)
    require_shape("values", values, (rewards.shape[0] + 1, *rewards.shape[1:]))
    marks = {"terminated": terminated, "truncated": truncated}
    for name, mark in (marks if resets is None else {**marks, "resets": resets}).items():
        require_shape(name, require_truths(name, mark), tuple(rewards.shape))
    for name, number in {"discount": discount, "gae_lambda": gae_lambda}.items():
        if require_number(name, number, 0.0) > 1:
            raise ValueError(f"{name}: expected a number in [0, 1], got {number!r}")
    advantages = temporal_sums(
        rewards, values, terminated, terminated | truncated, discount, gae_lambda, resets
    )
    targets = advantages + values[:-1]
    if resets is not None:
        targets = torch.where(resets, torch.zeros_like(targets), targets)
    return advantages, targets


def temporal_sums(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
    resets: Tensor | None,
) -> Tensor:
    """The recursion of :func:`generalized_advantages`, unchecked.

    Args:
        rewards: as there.
        values: as there.
        terminated: as there.
        ended: terminated or truncated, ``(T, ...)``.
        discount: as there.
        gae_lambda: as there.
        resets: as there.

    Returns:
        Advantages, shape ``(T, ...)``.
    """
    after = torch.where(terminated, 0.0, values[1:])
    differences = rewards + discount * after - values[:-1]
    if resets is not None:
        differences = differences.masked_fill(resets, 0.0)
        ended = ended | resets
    advantages = torch.empty_like(differences)
    following = torch.zeros_like(differences[0])
    for t in range(differences.shape[0] - 1, -1, -1):
        following = following.masked_fill(ended[t], 0.0)
        following = torch.add(differences[t], following, alpha=discount * gae_lambda)
        advantages[t] = following
    return advantages


def standardize(advantages: Tensor, weight: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over the samples that count.

    Args:
        advantages: shape ``(..., n)``.
        weight: weights of the samples, at least 0, same shape; 0 silences a sample.

    Returns:
        Standardised advantages, same shape, 0 where the weight is 0; all 0 where they are equal.
    """
    counts = weight > 0
    advantages = torch.where(counts, advantages, 0.0)
    total = weight.sum(-1, keepdim=True)
    share = weight / torch.where(total > 0, total, 1.0)
    # In units of the largest, so that squares neither vanish nor overflow.
    largest = advantages.abs().amax(-1, keepdim=True)
    scaled = advantages / torch.where(largest > 0, largest, 1.0)
    centred = scaled - (share * scaled).sum(-1, keepdim=True)
    deviation = (share * centred.square()).sum(-1, keepdim=True).sqrt()
    # Equal advantages say nothing about actions: what rounding leaves of them is not blown up.
    differ = deviation > 64 * torch.finfo(scaled.dtype).eps
    return torch.where(counts & differ, centred / torch.where(differ, deviation, 1.0), 0.0)
