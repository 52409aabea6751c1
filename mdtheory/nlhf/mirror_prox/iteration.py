"""Nash mirror prox, and the single call beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_values
from mdtheory.nlhf.nash_md import PreferenceGame
from mdtheory.nlhf.nash_md.preference import require_step

# What to add to the payoffs of the actions, given the exact ones.
Error = Callable[[Tensor], Tensor]


class MirrorProxIterate(NamedTuple):
    r"""A policy :math:`\pi_k` and the half step :math:`\pi_{k+1/2}` that is taken from it."""

    policy: Tensor
    half: Tensor


def nash_mirror_prox(
    preference: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    iterations: int,
    step_size: float | Tensor = 2.0,
) -> Tensor:
    r"""Nash mirror prox: the policy after some iterations of two magnetic steps each.

    Equation ``eq-mirror-prox``. Theorem ``thm-nash-mirror-prox`` holds for steps up to 2 at every
    temperature, and up to :func:`largest_step` at a given one; any step above 0 is carried out.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``; the iteration starts there.
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.
        iterations: number of iterations, at least 0; each asks for preferences twice.
        step_size: :math:`\gamma > 0`, a number or a tensor of the batch's shape.

    Returns:
        The last policy, log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, a step that is not above 0, or a negative number of iterations.

    Source:
        Tiapkin et al. (2025).
    """
    game, step = _prepared(preference, reference, temperature, step_size)
    run = _extrapolated(game, step, require_count("iterations", iterations, 0), last=False)
    *_, now = deque(run, maxlen=1)
    return now.policy


def nash_mirror_prox_iterates(
    preference: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    iterations: int,
    step_size: float | Tensor = 2.0,
    *,
    payoff_error: Error | None = None,
) -> Iterator[MirrorProxIterate]:
    r"""The iterates of :func:`nash_mirror_prox`, the start among them, each with its half step.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``; the iteration starts there.
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.
        iterations: number of iterations, at least 0.
        step_size: :math:`\gamma > 0`, a number or a tensor of the batch's shape.
        payoff_error: called with the payoffs :math:`P(\cdot \succ o)`, of shape ``(..., n)``,
            before each of the two steps; what it returns is added to them (theorem
            ``thm-mirror-prox-inexact``).

    Yields:
        ``iterations + 1`` times the policy and the half step from it.

    Returns:
        An iterator over pairs of log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, a step that is not above 0, or a negative number of iterations.

    Source:
        Tiapkin et al. (2025).
    """
    game, step = _prepared(preference, reference, temperature, step_size, payoff_error)
    run = _extrapolated(game, step, require_count("iterations", iterations, 0))
    return (MirrorProxIterate(now.policy.clone(), now.half.clone()) for now in run)


def preference_mirror_descent(
    preference: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    iterations: int,
    step_size: float | Tensor | None = None,
) -> Tensor:
    r"""Magnetic mirror descent on a preference game: one step an iteration, against oneself.

    Equation ``eq-preference-mmd``.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``; the iteration starts there.
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.
        iterations: number of steps, at least 0; each asks for preferences once.
        step_size: :math:`\gamma > 0`, a number or a tensor of the batch's shape. By default
            :math:`4\tau`, the best of theorem ``thm-preference-mmd``; it needs :math:`\tau > 0`.

    Returns:
        The last policy, log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, a step that is not above 0, or a negative number of iterations.

    Source:
        Sokota et al. (2023).
    """
    run = preference_mirror_descent_iterates(
        preference, reference, temperature, iterations, step_size
    )
    *_, last = deque(run, maxlen=1)
    return last


def preference_mirror_descent_iterates(
    preference: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    iterations: int,
    step_size: float | Tensor | None = None,
) -> Iterator[Tensor]:
    r"""The iterates of :func:`preference_mirror_descent`, the start among them.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``; the iteration starts there.
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.
        iterations: number of steps, at least 0.
        step_size: as in :func:`preference_mirror_descent`.

    Yields:
        ``iterations + 1`` policies, log-probabilities ``(..., n)``.

    Returns:
        An iterator over log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, a step that is not above 0, or a negative number of iterations.

    Source:
        Sokota et al. (2023).
    """
    if step_size is None:
        step_size = 4 * PreferenceGame(preference, reference, temperature).temperature
    game, step = _prepared(preference, reference, temperature, step_size)
    count = require_count("iterations", iterations, 0)

    def run() -> Iterator[Tensor]:
        policy = game.policy()
        for left in range(count, -1, -1):
            yield policy.clone()
            if left:
                policy = game.step(policy, policy, step)

    return run()


def _extrapolated(
    game: PreferenceGame, step: float | Tensor, count: int, *, last: bool = True
) -> Iterator[MirrorProxIterate]:
    """Every policy with its half step; the last one's, which leads nowhere, only if asked for."""
    policy = game.policy()
    for left in range(count, -1, -1):
        half = game.step(policy, policy, step) if left or last else policy
        yield MirrorProxIterate(policy, half)
        if left:
            policy = game.step(policy, half, step)


class _Erring(PreferenceGame):
    """A game whose payoffs are only known up to errors."""

    payoff_error: Error

    def preferred(self, opponent: Tensor) -> Tensor:
        exact = super().preferred(opponent)
        error = self.payoff_error(exact)
        if not isinstance(error, Tensor) or error.shape != exact.shape:
            came = tuple(error.shape) if isinstance(error, Tensor) else error
            raise ValueError(
                f"payoff_error: expected tensors of shape {tuple(exact.shape)}, got {came}"
            )
        require_values("payoff_error", error, error.isfinite(), "finite errors")
        return exact + error


def _prepared(
    preference: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    step_size: float | Tensor,
    payoff_error: Error | None = None,
) -> tuple[PreferenceGame, float | Tensor]:
    if payoff_error is None:
        game = PreferenceGame(preference, reference, temperature)
    else:
        game = _Erring(preference, reference, temperature)
        game.payoff_error = payoff_error
    step = require_step(step_size, game)
    if isinstance(step, Tensor):
        # The policies then have the batch shape of all four.
        shape = torch.broadcast_shapes(step.shape[:-1], game.batch_shape)
        if shape != game.batch_shape:
            raise ValueError(
                f"step_size: expected a shape that broadcasts to {tuple(game.batch_shape)}, got "
                f"{tuple(step.shape[:-1])}"
            )
    return game, step
