"""Two layers for a comparator that moves: a pool of step sizes, and a Hedge that trusts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.convex.mirror_maps import Domain, dual_step
from mdtheory.convex.online_learning import Environment
from mdtheory.convex.online_learning.learners import number_like
from mdtheory.convex.sea.optimistic import Run, SeaRecord


class EnsembleRecord(NamedTuple):
    r"""What a run of the ensemble leaves behind; ``K`` step sizes, ``T`` rounds, batch ``...``.

    Attributes:
        record: the run of the decisions :math:`x_t` that were played; its ``step_size`` is the
            last one of the upper layer.
        step_sizes: :math:`\eta_k`, shape ``(K,)``.
        correction: :math:`\rho`.
        weights: :math:`p_{t,k}`, shape ``(T, K, ...)``, or ``None`` where rounds were not kept.
        base_decisions: :math:`x_{t,k}`, shape ``(T, K, ..., d)``, or ``None``.
        base_losses: :math:`\sum_t\langle g_t, x_{t,k}\rangle`, shape ``(K, ...)``.
        base_movements: :math:`\sum_{t\ge2}\|x_{t,k}-x_{t-1,k}\|^2`, shape ``(K, ...)``.
        meta_loss: :math:`\sum_t\langle p_t, \ell_t\rangle`, shape ``(...)``.
        meta_losses: :math:`\sum_t\ell_{t,k}`, shape ``(K, ...)``.
        mean_movement: :math:`\sum_t\sum_k p_{t,k}\|x_{t,k}-x_{t-1,k}\|^2`, shape ``(...)``.
    """

    record: SeaRecord
    step_sizes: Tensor
    correction: float
    weights: Tensor | None
    base_decisions: Tensor | None
    base_losses: Tensor
    base_movements: Tensor
    meta_loss: Tensor
    meta_losses: Tensor
    mean_movement: Tensor


def step_size_pool(
    diameter: float, gradient_bound: float, smoothness: float, rounds: int
) -> list[float]:
    r"""Step sizes that are within a factor of 2 of every one that could be best.

    Equation ``eq-sea-pool``: :math:`\eta_k = 2^{1-k}/(8L)` for :math:`k = 1, \ldots, K`, the first
    of them at most :math:`\Delta/(G\sqrt{50T})` being the last.

    Args:
        diameter: :math:`\Delta`.
        gradient_bound: :math:`G`.
        smoothness: :math:`L`.
        rounds: :math:`T`.

    Returns:
        The step sizes, falling.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number that is not above 0, or out of proportion with the others.
    """
    largest = 1 / (8 * require_number("smoothness", smoothness, 0.0, strict=True))
    smallest = require_number("diameter", diameter, 0.0, strict=True) / (
        require_number("gradient_bound", gradient_bound, 0.0, strict=True)
        * math.sqrt(50 * require_count("rounds", rounds))
    )
    if not 0 < smallest < math.inf or not 0 < largest / smallest < math.inf:
        raise ValueError(
            f"smoothness: expected numbers whose step sizes are finite and above 0, got a pool "
            f"from {largest!r} to {smallest!r}"
        )
    count = 1 + max(0, math.ceil(math.log2(largest / smallest)))
    return [largest / 2**k for k in range(count)]


def two_layer_ensemble(
    environment: Environment,
    initial: Tensor,
    domain: Domain,
    rounds: int,
    *,
    gradient_bound: float,
    smoothness: float,
    step_sizes: Sequence[float] | None = None,
    correction: float | None = None,
    offset: float | None = None,
    keep: bool = True,
) -> EnsembleRecord:
    r"""The collaborative two-layer ensemble: small dynamic regret without a step size to choose.

    Algorithm ``alg-sea-ensemble``, theorem ``thm-sea-ensemble``. In the lower layer each step size
    of a pool runs optimistic gradient descent on the *same* gradients :math:`g_t`; in the upper
    one an optimistic Hedge weighs them by the losses
    :math:`\ell_{t,k} = \langle g_t, x_{t,k}\rangle + \rho\|x_{t,k}-x_{t-1,k}\|^2`, which
    charge a step size for its restlessness, with the hints
    :math:`\langle g_{t-1}, x_{t,k}\rangle + \rho\|x_{t,k}-x_{t-1,k}\|^2` and the rate
    :math:`\varepsilon_t = \sqrt{\log K}\,/\,(\delta' + \sum_{s<t} c_s^2)^{1/2}`, where :math:`c_s`
    is half the range of the errors of the hints. The decision is the weighted mean.

    Args:
        environment: see :class:`mdtheory.convex.online_learning.Environment`.
        initial: first anchor of every step size, shape ``(..., d)`` with the batch of plays.
        domain: where the learner plays, of finite diameter :math:`\Delta`.
        rounds: number of rounds ``T``.
        gradient_bound: :math:`G`, at least every :math:`\|g_t\|_2`.
        smoothness: :math:`L`, of the expected losses.
        step_sizes: the pool :math:`\eta_k`; :func:`step_size_pool` if ``None``.
        correction: :math:`\rho\ge 0`; :math:`2L` if ``None``.
        offset: :math:`\delta' > 0`; :math:`\Delta^2G^2 + 9L^2\Delta^4\log K` if ``None``.
        keep: keep every round.

    Returns:
        The record of the run.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: as :func:`optimistic_mirror_descent`.

    Source:
        Chen, Tu, Zhao and Zhang (2024), after Zhao, Zhang, Zhang and Zhou (2020).
    """
    run = Run(environment, initial, domain, rounds, keep=keep)
    run.limit_gradients(gradient_bound, "dynamic")
    require_number("gradient_bound", gradient_bound, 0.0, strict=True)
    require_number("smoothness", smoothness, 0.0, strict=True)
    diameter = domain.diameter(initial.shape[-1])
    if step_sizes is None:
        step_sizes = step_size_pool(diameter, gradient_bound, smoothness, rounds)
    pool = [require_number("step_sizes", value, 0.0, strict=True) for value in step_sizes]
    if not pool:
        raise ValueError("step_sizes: expected at least one step size, got none")
    if correction is None:
        correction = 2 * smoothness
    lam = require_number("correction", correction, 0.0)
    log_count = math.log(len(pool))
    if offset is None:
        offset = (diameter * gradient_bound) ** 2 + 9 * smoothness**2 * diameter**4 * log_count
    spent = initial.new_full(run.batch, require_number("offset", offset, 0.0, strict=True))

    all_sizes = torch.stack([number_like(value, initial) for value in pool])
    sizes = all_sizes.reshape(-1, *(1,) * initial.ndim)
    anchor = initial.expand(len(pool), *initial.shape)
    hint, before = torch.zeros_like(initial), None
    total = anchor.new_zeros(anchor.shape[:-1])
    base_losses, base_movements, meta_losses = total, total, total
    meta_loss = mean_movement = run.loss
    kept: list[tuple[Tensor, Tensor]] = []
    for _ in range(run.rounds):
        base = domain._project(dual_step(anchor, hint, sizes))
        moved = ((base - (base if before is None else before)) ** 2).sum(-1)
        guess = (hint * base).sum(-1) + lam * moved
        rate = (log_count / spent).sqrt()
        # Optimistic Hedge as the regularised leader, from uniform weights.
        uniform = torch.zeros_like(total)
        weights = dual_step(uniform, total + guess, rate).softmax(0)
        decision = (weights[..., None] * base).sum(0)
        gradient = run.suffer(decision, hint, rate)
        along = (gradient * base).sum(-1)
        losses = along + lam * moved
        missed = losses - guess
        spent = spent + ((missed.amax(0) - missed.amin(0)) / 2) ** 2
        total = total + losses
        base_losses, base_movements = base_losses + along, base_movements + moved
        meta_losses, meta_loss = total, meta_loss + (weights * losses).sum(0)
        mean_movement = mean_movement + (weights * moved).sum(0)
        anchor = domain._project(dual_step(anchor, gradient, sizes))
        hint, before = gradient, base
        if keep:
            kept.append((weights, base))
    all_weights, bases = (
        (torch.stack(rounds) for rounds in zip(*kept, strict=True)) if keep else (None, None)
    )
    return EnsembleRecord(
        run.record(),
        all_sizes,
        lam,
        all_weights,
        bases,
        base_losses,
        base_movements,
        meta_loss,
        meta_losses,
        mean_movement,
    )
