"""How far a proxy may be optimised: curves by best of n and by a policy, and their measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_finite,
    require_number,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import dual_step
from mdtheory.nlhf.reward_models.best_of_n import best_of_n_estimate
from mdtheory.nlhf.reward_models.ensembles import ensemble_objective


class Curves(NamedTuple):
    """What was optimised and what came of it, ``proxy`` and ``gold``, shape ``(..., len(n))``."""

    proxy: Tensor
    gold: Tensor


def best_of_n_curves(
    rewards: Tensor,
    gold: Tensor,
    n: Sequence[int],
    objectives: Mapping[str, tuple[str, float]],
) -> dict[str, Curves]:
    """Proxy and gold of the best of n, for several objectives of one ensemble.

    Args:
        rewards: of the members, in one unit, shape ``(..., members, N)``.
        gold: shape that broadcasts with ``(..., N)``.
        n: numbers from 1 to N.
        objectives: name to kind and weight of
            :func:`~mdtheory.nlhf.reward_models.ensemble_objective`; the kind ``"single"`` is one
            member at a time, and the mean over them of what each alone attains.

    Returns:
        Name to its curves, in float64.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not broadcast, an unknown kind, or an ``n`` out of range.
    """
    require_finite("rewards", require_tensor("rewards", rewards))
    if rewards.ndim < 2:
        raise ValueError(f"rewards: expected shape (..., members, N), got {tuple(rewards.shape)}")
    gold = require_tensor("gold", gold).double()
    found = {}
    for name, (kind, weight) in objectives.items():
        if kind == "single":
            each, truth = rewards.double(), gold[..., None, :]
        else:
            each, truth = ensemble_objective(rewards.double(), kind, weight, dim=-2), gold
        pair = Curves(*(best_of_n_estimate(each, value, n) for value in (each, truth)))
        found[name] = Curves(*(part.mean(-2) for part in pair)) if kind == "single" else pair
    return found


def conditional_gold(proxy: Tensor, gold: Tensor, edges: Tensor) -> Tensor:
    r"""Mean gold between quantiles of the proxy, :math:`h(s)` of equation ``eq-conditional-gold``.

    Args:
        proxy: shape ``(..., N)``.
        gold: of a shape that broadcasts with it.
        edges: quantiles from 0 to 1, rising, shape ``(b + 1,)``; each interval must hold one of
            the N answers at least.

    Returns:
        Shape ``(..., b)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: edges that do not rise, or an interval without an answer.
    """
    require_finite("proxy", require_tensor("proxy", proxy))
    require_finite("gold", require_tensor("gold", gold))
    require_broadcastable("gold", gold, "proxy", proxy)
    proxy, gold = torch.broadcast_tensors(proxy, gold)
    require_shape("edges", require_tensor("edges", edges), (edges.shape[-1],))
    require_values("edges", edges, (edges >= 0) & (edges <= 1), "quantiles in [0, 1]")
    at = (edges.double() * proxy.shape[-1]).round().long()
    counts = at.diff()
    require_values("edges", counts, counts > 0, "intervals with at least one answer each")
    ranked = gold.gather(-1, proxy.argsort(-1)).double()
    sums = torch.cat([torch.zeros_like(ranked[..., :1]), ranked.cumsum(-1)], -1)
    return (sums[..., at].diff(dim=-1) / counts).to(gold.dtype)


class KLEstimates(NamedTuple):
    """Three estimates of one divergence; only ``k1`` and ``k3`` have it as their mean."""

    k1: Tensor
    k2: Tensor
    k3: Tensor


def kl_estimates(log_ratio: Tensor) -> KLEstimates:
    r"""Estimates of a policy's divergence from samples of its own, equation ``eq-kl-estimates``.

    Args:
        log_ratio: :math:`L = \log\pi(y) - \log\mu(y)` for :math:`y \sim \pi`, shape
            ``(..., samples)``.

    Returns:
        Means of :math:`L`, :math:`L^2/2` and :math:`e^{-L} - 1 + L`, of the batch's shape.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: values that are not finite.

    Source:
        Schulman (2020), 'Approximating KL divergence'.
    """
    require_finite("log_ratio", require_tensor("log_ratio", log_ratio))
    k3 = torch.expm1(-log_ratio) + log_ratio
    return KLEstimates(log_ratio.mean(-1), log_ratio.square().mean(-1) / 2, k3.mean(-1))


def climb_objective(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    kl_weight: float | Tensor,
    steps: int,
    step_size: float,
    samples: int,
    generator: torch.Generator,
    every: int = 1,
) -> Tensor:
    r"""A Gaussian policy :math:`N(\theta, I)` climbs an objective less a divergence, by REINFORCE.

    Equation ``eq-gaussian-step``. The Fisher matrix of this family is the identity and its
    divergence is the squared distance of the means over 2: the natural gradient is a mirror step
    of the Euclidean map, and the reference is its magnet.

    Args:
        objective: answers ``(..., samples, d)`` to what is maximised, ``(..., samples)``.
        start: first mean, the reference's, shape ``(..., d)``; all of it is one program.
        kl_weight: :math:`\beta \ge 0`; a tensor has the batch's shape.
        steps: mirror steps.
        step_size: :math:`\eta`.
        samples: answers for each step, at least 2; their mean is the baseline.
        generator: source of randomness, on the device of ``start``.
        every: steps from one mean that is returned to the next; it must divide ``steps``.

    Returns:
        Means, shape ``(steps // every + 1, ..., d)``, the start first.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of its range.
    """
    require_finite("start", require_tensor("start", start))
    weight = require_scale("kl_weight", kl_weight, start, start.shape[:-1], trailing=1)
    require_number("step_size", step_size, 0.0, strict=True)
    require_count("samples", samples, 2)
    if require_count("steps", steps) % require_count("every", every):
        raise ValueError(f"every: expected a divisor of {steps} steps, got {every!r}")
    mean, magnet, kept = start.clone(), start, [start.clone()]
    for step in range(1, steps + 1):
        noise = torch.randn(
            *start.shape[:-1], samples, start.shape[-1],
            generator=generator, device=start.device, dtype=start.dtype,
        )  # fmt: skip
        value = objective(mean[..., None, :] + noise)
        gain = (value - value.mean(-1, keepdim=True)) / (samples - 1)
        gradient = (gain[..., None] * noise).sum(-2)
        mean = dual_step(mean, -gradient, step_size, magnet, weight)
        if step % every == 0:
            kept.append(mean.clone())
    return torch.stack(kept)


def drop_from_peak(curve: Tensor) -> Tensor:
    """How much gold is lost after its best point: the measure of overoptimisation.

    Args:
        curve: gold as the proxy is optimised further and further, shape ``(..., points)``; take
            the drop of each seed, and only then a mean.

    Returns:
        The largest value less the last one, of the batch's shape.

    Raises:
        TypeError: not a floating-point tensor.
    """
    return require_tensor("curve", curve).amax(-1) - curve[..., -1]
