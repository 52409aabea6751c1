"""The Nash equilibrium of the regularised preference game, by Newton's method."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_number
from mdtheory.nlhf.games.newton import regularized_equilibrium
from mdtheory.nlhf.nash_md.preference import PreferenceGame, require_game


def regularized_nash(game: PreferenceGame, tolerance: float = 1e-12) -> Tensor:
    r"""The Nash equilibrium of the regularised preference game.

    Theorem ``thm-regularised-nash``: the only policy with
    :math:`\pi \propto \mu\,e^{P(\cdot\succ\pi)/\tau}`. Newton's method on the logarithm of this
    equation, whose Jacobian is invertible; from a high temperature down, in shorter steps of the
    temperature where it does not arrive.

    Args:
        game: preference games, of temperatures above 0.
        tolerance: the span of :math:`\tau(\log\pi - \log\mu) - P(\cdot\succ\pi)` at the answer,
            in units of preference, never asked below what the dtype can hold.

    Returns:
        Log-probabilities ``(..., n)`` of the batch's shape. Gradients flow to the preferences, the
        reference and the temperature.

    Raises:
        TypeError: no preference game.
        ValueError: a temperature of 0.
        ArithmeticError: no policy within the tolerance was found.

    Source:
        Munos et al. (2024), proposition 1, for existence and uniqueness.
    """
    require_game(game, positive=True)
    require_number("tolerance", tolerance, 0.0, strict=True)
    like = game.preference
    tau = torch.as_tensor(game.temperature, dtype=like.dtype, device=like.device)
    # P and P - 1/2 agree up to a constant, and the second is skew.
    return regularized_equilibrium(0.5 - like, (game.actions,), game.reference, tau, tolerance)
