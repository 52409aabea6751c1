"""The Nash equilibrium of the regularised preference game, by Newton's method."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_number, values_known
from mdtheory.convex.mirror_maps import span
from mdtheory.nlhf.nash_md.preference import PreferenceGame, require_positive

# Newton's method is started at a temperature that is easy and follows it down by this factor.
EASY, COOLING = 0.25, 0.5
SLOWEST = 0.95
NEWTON_STEPS = 100


def regularized_nash(
    preference: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    tolerance: float = 1e-12,
) -> Tensor:
    r"""The Nash equilibrium of the regularised preference game.

    Theorem ``thm-regularised-nash``: the only policy with
    :math:`\pi \propto \mu\,e^{P(\cdot\succ\pi)/\tau}`. Newton's method on the logarithm of this
    equation, whose Jacobian is invertible; from a high temperature down, in shorter steps of the
    temperature where it does not arrive.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.
        tolerance: the span of :math:`\tau(\log\pi - \log\mu) - P(\cdot\succ\pi)` at the answer,
            in units of preference, never asked below what the dtype can hold.

    Returns:
        Log-probabilities ``(..., n)`` of the batch's shape.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, a temperature of 0, or no policy within the tolerance was found.

    Source:
        Munos et al. (2024), proposition 1, for existence and uniqueness.
    """
    game = require_positive(preference, reference, temperature)
    require_number("tolerance", tolerance, 0.0, strict=True)
    policy = game.policy()
    if not values_known(policy):
        return policy.clone()
    tau = torch.as_tensor(game.temperature, dtype=policy.dtype, device=policy.device)
    warm, factor = EASY, COOLING
    while bool((tau < warm).any()):
        warmer = PreferenceGame(preference, reference, tau.clamp(min=warm))
        try:
            policy = _newton(warmer, policy, max(tolerance, 1e-6))
        except ValueError:
            # The last policy was too far away: go half of the way, on a log scale.
            if warm == EASY or factor > SLOWEST:
                raise
            warm, factor = warm / math.sqrt(factor), math.sqrt(factor)
            continue
        warm *= factor
    return _newton(game, policy, tolerance)


class _Residual(NamedTuple):
    """The equation's left side less its right one, up to a constant, and its span."""

    value: Tensor
    size: Tensor


def _residual(game: PreferenceGame, policy: Tensor) -> _Residual:
    value = game._weight * (policy - game.reference) - game.preferred(policy)
    return _Residual(value, span(value))


def _newton(game: PreferenceGame, policy: Tensor, tolerance: float) -> Tensor:
    # In units of preference, what the rounding of log-probabilities and of n products leaves.
    eps = torch.finfo(policy.dtype).eps
    reach = 1 + game.temperature * (1 + game.reference.abs().amax(-1))
    floor = (8 * eps * math.sqrt(game.actions) * reach).clamp(min=tolerance)
    here = _residual(game, policy)
    for _ in range(NEWTON_STEPS):
        active = here.size > floor
        if not bool(active.any()):
            return policy
        policy, here = _damped(game, policy, here, _direction(game, policy, here), active)
    raise ValueError(
        f"tolerance: expected one that Newton's method meets in {NEWTON_STEPS} steps, got "
        f"{tolerance!r} with {here.size.max().item()!r} left"
    )


def _direction(game: PreferenceGame, policy: Tensor, here: _Residual) -> Tensor:
    """Newton's change of the log-probabilities, with the residual's free constant."""
    p, n = policy.exp(), game.actions
    system = p.new_zeros(*p.shape[:-1], n + 1, n + 1)
    # P and P - 1/2 agree on changes p d, whose sum is 0.
    system[..., :n, :n] = (0.5 - game.preference) * p[..., None, :]
    system.diagonal(dim1=-2, dim2=-1)[..., :n] += game._weight
    system[..., :n, n] = 1
    system[..., n, :n] = p
    right = torch.cat([-here.value, torch.zeros_like(p[..., :1])], -1)
    return torch.linalg.solve(system, right)[..., :n]


def _damped(
    game: PreferenceGame, policy: Tensor, here: _Residual, change: Tensor, active: Tensor
) -> tuple[Tensor, _Residual]:
    """The longest of the steps 1, 1/2, 1/4, ... that makes the residual smaller, in each game."""
    size, waiting = 1.0, active
    value, left = here
    while bool(waiting.any()) and size > 1e-12:
        trial = (policy + size * change).log_softmax(-1)
        there = _residual(game, trial)
        better = waiting & (there.size <= (1 - size / 4) * here.size)
        policy = torch.where(better[..., None], trial, policy)
        value = torch.where(better[..., None], there.value, value)
        left = torch.where(better, there.size, left)
        waiting = waiting & ~better
        size /= 2
    return policy, _Residual(value, left)
