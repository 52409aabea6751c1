"""TRPO's step: the natural gradient by conjugate gradients, then a line search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mdtheory.agents.policies import Policy
from mdtheory.rl.mdpo.losses import mean_over_samples


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, iterations: int
) -> Tensor:
    """Solve one symmetric positive definite system for each leading index.

    Args:
        product: multiplies vectors ``(..., d)`` by the matrices.
        right: right-hand sides, shape ``(..., d)``.
        iterations: at most so many products; ``d`` are exact up to rounding.

    Returns:
        Solutions, shape ``(..., d)``.
    """
    solution, residual = torch.zeros_like(right), right
    direction, size = residual, _inner(residual, residual)
    start = size
    for _ in range(iterations):
        image = product(direction)
        curvature = _inner(direction, image)
        # A system that is solved stands still; its direction is rounding noise.
        moving = (size > 1e-20 * start) & (curvature > 0)
        length = torch.where(moving, size / curvature, torch.zeros_like(size))
        solution = solution + length * direction
        residual = residual - length * image
        after = _inner(residual, residual)
        direction = residual + torch.where(moving, after / size, torch.zeros_like(size)) * direction
        size = after
    return solution


def fisher_product(
    policy: Policy, seen: Tensor, weight: Tensor, damping: float = 0.0
) -> Callable[[Tensor], Tensor]:
    r"""Multiplication by the Fisher matrix of the policies, averaged over states.

    Equation ``eq-fisher``: :math:`F v = \mathbb{E}_s J_s^\top M_s J_s v`, where :math:`J_s` is the
    derivative of logits (or mean and deviation) and :math:`M_s` their Fisher matrix. No second
    derivative of the network is needed.

    Args:
        policy: where the matrix is taken.
        seen: standardised observations, shape ``(seeds, n, observed)``.
        weight: weight of each state, ``(seeds, n)``.
        damping: multiple of the identity that is added.

    Returns:
        A function of vectors ``(seeds, p)``, the parameters laid out by :func:`flatten`.
    """
    law = policy.law(seen)
    total = weight.sum(-1, keepdim=True).clamp(min=1)
    share = (weight / total)[..., None]
    detached = law.detach()

    def product(vector: Tensor) -> Tensor:
        with torch.no_grad():
            change = policy.push(seen, unflatten(vector, policy.parameters))
            image = detached.metric(*change)
            # A deviation that no state changes has a single row, whose weight is 1.
            pulled = [m * share if m.shape[-2] == share.shape[-2] else m for m in image]
        result = torch.autograd.grad(tuple(law), policy.parameters, pulled, retain_graph=True)
        return flatten(result) + damping * vector

    return product


def trust_region_step(
    policy: Policy,
    seen: Tensor,
    action: Tensor,
    advantage: Tensor,
    weight: Tensor,
    *,
    radius: float = 0.01,
    iterations: int = 10,
    damping: float = 0.1,
    backtracks: int = 10,
    shrink: float = 0.8,
) -> Tensor:
    r"""One step of TRPO on the parameters of a policy, in place.

    Equation ``eq-trpo-step``: the direction :math:`F^{-1} g`, as long as the quadratic model of
    :math:`\mathrm{KL}(\pi_k \| \pi_\theta)` allows, and shortened until the surrogate has grown
    and the divergence itself is within the radius.

    Args:
        policy: the policies that acted; each seed takes a step of its own.
        seen: standardised observations, shape ``(seeds, n, observed)``.
        action: actions taken, ``(seeds, n)`` or ``(seeds, n, actions)``.
        advantage: advantages, ``(seeds, n)``.
        weight: weight of each sample, ``(seeds, n)``.
        radius: largest mean divergence, nats.
        iterations: products with the Fisher matrix.
        damping: multiple of the identity added to it.
        backtracks: steps of the line search.
        shrink: factor of the step's length from one to the next.

    Returns:
        Fraction of the full step that was taken, shape ``(seeds,)``; 0 where none was good.

    Source:
        Schulman, Levine, Abbeel, Jordan and Moritz (2015), section 6 and appendix C.
    """
    old = policy.law(seen)
    old_log_prob = old.log_prob(action).detach()
    gain = mean_over_samples((old.log_prob(action) - old_log_prob).exp() * advantage, weight)
    before = gain.detach()
    slope = flatten(torch.autograd.grad(gain.sum(), policy.parameters))
    old = old.detach()
    product = fisher_product(policy, seen, weight, damping)
    direction = conjugate_gradients(product, slope, iterations)
    curvature = _inner(direction, product(direction))
    length = torch.where(curvature > 0, (2 * radius / curvature).sqrt(), curvature)
    origin = flatten([p.detach() for p in policy.parameters])
    taken = torch.zeros_like(before)
    with torch.no_grad():
        for k in range(backtracks):
            fraction = torch.where(taken > 0, taken, torch.full_like(taken, shrink**k))
            _place(policy, origin + fraction[:, None] * length * direction)
            new = policy.law(seen)
            ratio = (new.log_prob(action) - old_log_prob).exp()
            better = mean_over_samples(ratio * advantage, weight) > before
            near = mean_over_samples(old.kl(new), weight) <= radius  # type: ignore[arg-type]
            taken = torch.where(better & near, fraction, torch.zeros_like(taken))
            if bool((taken > 0).all()):
                break
        _place(policy, origin + taken[:, None] * length * direction)
    return taken


def flatten(parts: Sequence[Tensor]) -> Tensor:
    """Tensors ``(seeds, ...)`` side by side, shape ``(seeds, p)``.

    Args:
        parts: tensors with a leading axis of seeds.

    Returns:
        One row for each seed.
    """
    return torch.cat([part.flatten(1) for part in parts], -1)


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """What :func:`flatten` laid out, in the shapes of ``like``.

    Args:
        vector: shape ``(seeds, p)``.
        like: tensors whose shapes are taken.

    Returns:
        One tensor for each of ``like``.
    """
    sizes = [math.prod(part.shape[1:]) for part in like]
    pieces = vector.split(sizes, -1)
    return [piece.reshape(part.shape) for piece, part in zip(pieces, like, strict=True)]


def _place(policy: Policy, vector: Tensor) -> None:
    for parameter, value in zip(
        policy.parameters, unflatten(vector, policy.parameters), strict=True
    ):
        parameter.copy_(value)


def _inner(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(-1, keepdim=True)
