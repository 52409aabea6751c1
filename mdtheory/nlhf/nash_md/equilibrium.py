"""The Nash equilibrium of the regularised preference game, by Newton's method."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_number
from mdtheory.nlhf.games.newton import regularized_equilibrium
from mdtheory.nlhf.nash_md.preference import require_positive


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
        ValueError: likewise, or a temperature of 0.
        ArithmeticError: no policy within the tolerance was found.

    Source:
        Munos et al. (2024), proposition 1, for existence and uniqueness.
    """
    game = require_positive(preference, reference, temperature)
    require_number("tolerance", tolerance, 0.0, strict=True)
    tau = torch.as_tensor(game.temperature, dtype=preference.dtype, device=preference.device)
    # P and P - 1/2 agree up to a constant, and the second is skew.
    costs = 0.5 - game.preference
    return regularized_equilibrium(costs, (game.actions,), game.reference, tau, tolerance)
