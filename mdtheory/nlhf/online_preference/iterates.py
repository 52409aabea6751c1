"""Descent of the expected losses: gradient steps, and Newton's, which are mirror steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_finite, require_number, require_tensor
from mdtheory.convex.mirror_maps import mixture
from mdtheory.nlhf.nash_md import PreferenceGame
from mdtheory.nlhf.nash_md.preference import require_game
from mdtheory.nlhf.online_preference.exact import _column, require_weight


def newton_iterates(
    game: PreferenceGame,
    iterations: int,
    length: float,
    weight: float | Tensor = 0.0,
    sampling: Tensor | None = None,
    log_policy: Tensor | None = None,
) -> Tensor:
    r"""Damped Newton steps on an IPO loss: mirror steps, theorem ``thm-ipo-newton``.

    Each step is ``eq-magnetic-step`` against the law that samples, with the step size
    :math:`\gamma = s/(\tau(1 - s))`: Online IPO is regularised self-play, and IPO-MD with
    :math:`\beta = s` is Nash-MD with :math:`\eta = s/\tau`.

    Args:
        game: preference games, of temperatures above 0.
        iterations: number of steps.
        length: :math:`s` in (0, 1), the share of Newton's step that is taken.
        weight: :math:`\beta` in [0, 1] of the reference in the mixture that samples.
        sampling: :math:`\log m`, a law that stays (offline); ``weight`` is not used then.
        log_policy: where it starts, :math:`\log\pi`; ``None``: the reference.

    Returns:
        The policies, log-probabilities of shape ``(iterations + 1, ..., n)``.

    Raises:
        TypeError: no preference game, or a law of another dtype.
        ValueError: a temperature of 0, no policy of the game, or a length or a weight outside its
            range.

    Source:
        The chapter; Munos et al. (2024), equation (5), for the step.
    """
    require_game(game, positive=True)
    require_count("iterations", iterations, 0)
    share = require_number("length", length, 0.0, strict=True)
    if share >= 1:
        raise ValueError(f"length: expected a number in (0, 1), got {length!r}")
    mixed = require_weight(weight, game)
    now = game.policy() if log_policy is None else game.check("log_policy", log_policy)
    step = share / ((1 - share) * _column(game.temperature))
    if sampling is not None:
        game.check("sampling", sampling)
    found = [now]
    for _ in range(iterations):
        law = mixture(now, game.reference, mixed) if sampling is None else sampling
        now = game.step(now, law, step)
        found.append(now)
    return torch.stack(torch.broadcast_tensors(*found))


def descend(
    gradient: Callable[[Tensor], Tensor], log_policy: Tensor, step_size: float, iterations: int
) -> Tensor:
    """Plain gradient descent on the logits of a softmax.

    Args:
        gradient: from log-probabilities ``(..., n)`` to a gradient of that shape.
        log_policy: where it starts, log-probabilities ``(..., n)``.
        step_size: what a gradient is multiplied by.
        iterations: number of steps.

    Returns:
        The policies, log-probabilities of shape ``(iterations + 1, ..., n)``.

    Raises:
        TypeError: the policy is no floating-point tensor.
        ValueError: a step that is not above 0, or logits that are not finite.
    """
    require_finite("log_policy", require_tensor("log_policy", log_policy))
    require_number("step_size", step_size, 0.0, strict=True)
    require_count("iterations", iterations, 0)
    now = log_policy.log_softmax(-1)
    found = [now]
    for _ in range(iterations):
        now = (now - step_size * gradient(now)).log_softmax(-1)
        found.append(now)
    return torch.stack(found)
