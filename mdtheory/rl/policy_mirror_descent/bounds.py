"""The right sides of the chapter's theorems, with their constants, and what goes into them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_number,
    require_simplex,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import MirrorMap
from mdtheory.rl.policy_mirror_descent.mdp import F64, TabularMDP, require_mdp
from mdtheory.rl.policy_mirror_descent.values import require_simplex_map


def stationary_law(mdp: TabularMDP, policy: Tensor) -> Tensor:
    r"""The law of states that a policy leaves as it is, :math:`\nu = P_\pi^\top \nu`.

    Args:
        mdp: dense processes.
        policy: probabilities, shape ``(..., S, A)``.

    Returns:
        Probabilities, shape ``(..., S)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``policy`` is none, the process is sparse, or more than one law is stationary.
    """
    require_mdp(mdp)
    mdp.check_policy("policy", policy)
    if mdp.is_sparse:
        raise ValueError("mdp: expected a dense process, got a sparse one")
    follow = mdp._double()._follow(policy.to(F64))
    eye = torch.eye(mdp.states, dtype=F64, device=follow.device)
    system = (eye - follow).mT.clone()
    system[..., -1, :] = (
        1  # the laws sum to 1, in place of an equation that follows from the others
    )
    right = torch.zeros_like(system[..., 0])
    right[..., -1] = 1
    law, failed = torch.linalg.solve_ex(system, right[..., None])
    law = law[..., 0].clamp(min=0)
    moved = (law[..., None, :] @ follow)[..., 0, :]
    if bool((failed != 0).any()) or not bool(((moved - law).abs() < 1e-8).all()):
        raise ValueError("policy: expected one stationary law, got a process with several")
    return law.to(policy.dtype)


def distance(
    mirror_map: MirrorMap,
    best: Tensor,
    policy: Tensor,
    law: Tensor,
    *,
    feasible: Tensor | None = None,
) -> Tensor:
    r"""Mean divergence :math:`\Phi = \mathbb{E}_{s\sim\nu}\, D_\psi(\pi^*(s), \pi(s))`.

    Args:
        mirror_map: a map on the simplex.
        best: the policy to reach, shape ``(..., S, A)``.
        policy: where one is, shape ``(..., S, A)``.
        law: weights of the states :math:`\nu`, shape ``(..., S)``.
        feasible: which actions there are, as ``TabularMDP.feasible``; all by default.

    Returns:
        Shape ``(...)``.

    Raises:
        TypeError: no mirror map, or no tensors.
        ValueError: a map that is not on the simplex, or policies that it does not know.
    """
    chosen = require_simplex_map(mirror_map)
    require_tensor("law", law)
    if feasible is None:
        return (law * chosen.divergence(best, policy)).sum(-1)
    for name, given in (("best", best), ("policy", policy)):
        require_simplex(name, require_tensor(name, given))
        require_values(name, given, feasible | (given == 0), "the probability 0 where an action is "
                       "not feasible")  # fmt: skip
    # Entries that agree add nothing.
    best, policy = (torch.where(feasible, given, 1.0) for given in (best, policy))
    return (law * chosen._divergence(best, policy)).sum(-1)


def mean_rate(
    divergence: Tensor, start_gap: Tensor, steps: Sequence[float], discount: float
) -> Tensor:
    r"""Theorem ``thm-pmd-sublinear``, for the gaps after 0, 1, ..., K - 1 updates.

    Args:
        divergence: :math:`\Phi_0` under the occupancy of the best policy, shape ``(...)``.
        start_gap: mean of :math:`V^* - V^0` under the same law, shape ``(...)``.
        steps: :math:`\eta_0, \dots, \eta_{K-1}`.
        discount: :math:`\gamma`.

    Returns:
        Shape ``(K, ...)``.

    Raises:
        ValueError: no steps, or a discount outside [0, 1).
    """
    _require_discount(discount)
    _require_tensors(divergence=divergence, start_gap=start_gap)
    require_count("steps (their number)", len(steps))
    taken = torch.stack([divergence.new_full((), step) for step in steps])
    taken = taken.reshape(-1, *[1] * divergence.ndim)
    largest, total = taken.cummax(0).values, taken.cumsum(0)
    return (divergence + largest * start_gap) / ((1 - discount) * total)


def linear_rate(
    divergence: Tensor,
    gap: Tensor,
    mismatch: Tensor,
    first_step: float,
    discount: float,
    iterations: int,
) -> Tensor:
    r"""Theorem ``thm-pmd-geometric``, for the gaps after 0, 1, ..., K updates.

    Args:
        divergence: :math:`\Phi_0` under the occupancy of the best policy, shape ``(...)``.
        gap: :math:`\delta_0`, shape ``(...)``.
        mismatch: :math:`\vartheta`, above 1, shape ``(...)``.
        first_step: :math:`\eta_0`.
        discount: :math:`\gamma`.
        iterations: ``K``.

    Returns:
        Shape ``(K + 1, ...)``.

    Raises:
        ValueError: a step, a discount or a count out of range.
    """
    _require_discount(discount)
    eta = require_number("first_step", first_step, 0.0, strict=True)
    _require_tensors(divergence=divergence, gap=gap, mismatch=mismatch)
    start = gap + divergence / ((1 - discount) * eta * (mismatch - 1))
    return (1 - 1 / mismatch) ** _counts(gap, iterations) * start


def stationary_rate(
    divergence: Tensor, gap: Tensor, first_step: float, discount: float, iterations: int
) -> Tensor:
    r"""Theorem ``thm-pmd-stationary``, for the gaps after 0, 1, ..., K updates.

    Args:
        divergence: :math:`\Phi_0` under the stationary law, shape ``(...)``.
        gap: :math:`\delta_0` under the stationary law, shape ``(...)``.
        first_step: :math:`\eta_0`.
        discount: :math:`\gamma`.
        iterations: ``K``.

    Returns:
        Shape ``(K + 1, ...)``; the entry of 0 updates is infinite where the discount is 0.

    Raises:
        ValueError: a step, a discount or a count out of range.
    """
    _require_discount(discount)
    eta = require_number("first_step", first_step, 0.0, strict=True)
    _require_tensors(divergence=divergence, gap=gap)
    bottom = (1 - discount) * _counts(gap, iterations) + discount
    return (discount * gap + divergence / eta) / bottom


def regularised_rate(
    divergence: Tensor,
    gap: Tensor,
    step_size: float,
    temperature: float,
    discount: float,
    iterations: int,
) -> Tensor:
    r"""Theorem ``thm-pmd-regularised``, for :math:`\delta_k + (\tau + 1/\eta)\Phi_k`.

    Args:
        divergence: :math:`\Phi_0` under the stationary law, shape ``(...)``.
        gap: :math:`\delta_0` under the stationary law, shape ``(...)``.
        step_size: :math:`\eta`, infinite allowed.
        temperature: :math:`\tau > 0`.
        discount: :math:`\gamma`.
        iterations: ``K``.

    Returns:
        Shape ``(K + 1, ...)``.

    Raises:
        ValueError: a step, a temperature, a discount or a count out of range.
    """
    _require_discount(discount)
    tau = require_number("temperature", temperature, 0.0, strict=True)
    require_number("step_size", step_size, 0.0, strict=True, infinite=True)
    _require_tensors(divergence=divergence, gap=gap)
    rate = max(discount, 1 / (1 + step_size * tau))
    return rate ** _counts(gap, iterations) * (gap + (tau + 1 / step_size) * divergence)


def natural_rate(
    value_distance: Tensor,
    log_distance: Tensor,
    step_size: float,
    temperature: float,
    discount: float,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    r"""Theorem ``thm-npg-sup``, for the distances after 1, ..., K updates.

    Args:
        value_distance: :math:`\|Q^*_\tau - Q^0_\tau\|_\infty`, shape ``(...)``.
        log_distance: :math:`\|\log\pi^*_\tau - \log\pi_0\|_\infty`, shape ``(...)``.
        step_size: the natural step :math:`\alpha`, at most :math:`(1-\gamma)/\tau`.
        temperature: :math:`\tau > 0`.
        discount: :math:`\gamma`.
        iterations: ``K``.

    Returns:
        Bounds on the distances of the action values and of the log-policies, ``(K, ...)`` each.

    Raises:
        ValueError: a step, a temperature, a discount or a count out of range.
    """
    _require_discount(discount)
    tau = require_number("temperature", temperature, 0.0, strict=True)
    alpha = require_number("step_size", step_size, 0.0, strict=True)
    _require_tensors(value_distance=value_distance, log_distance=log_distance)
    kept = 1 - alpha * tau / (1 - discount)
    if kept < -1e-12:
        raise ValueError(f"step_size: expected at most {(1 - discount) / tau!r}, got {step_size!r}")
    constant = value_distance + 2 * tau * max(kept, 0.0) * log_distance
    powers = (1 - alpha * tau) ** _counts(value_distance, iterations - 1)
    return discount * constant * powers, 2 * constant / tau * powers


def contraction(gap: Tensor, discount: float, iterations: int) -> Tensor:
    r"""Theorem ``thm-policy-iteration``: :math:`\gamma^k` times the first distance.

    Args:
        gap: :math:`\|V^*_\tau - V^0_\tau\|_\infty`, shape ``(...)``.
        discount: :math:`\gamma`.
        iterations: ``K``.

    Returns:
        Shape ``(K + 1, ...)``.

    Raises:
        ValueError: a discount or a count out of range.
    """
    _require_discount(discount)
    _require_tensors(gap=gap)
    return discount ** _counts(gap, iterations) * gap


def _counts(like: Tensor, iterations: int) -> Tensor:
    require_count("iterations", iterations, 0)
    counts = torch.arange(iterations + 1, dtype=like.dtype, device=like.device)
    return counts.reshape(-1, *[1] * like.ndim)


def _require_discount(discount: float) -> None:
    if require_number("discount", discount, 0.0) >= 1:
        raise ValueError(f"discount: expected a number below 1, got {discount!r}")


def _require_tensors(**given: Tensor) -> None:
    for name, tensor in given.items():
        require_tensor(name, tensor, 0)
