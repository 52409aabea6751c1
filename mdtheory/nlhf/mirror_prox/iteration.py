"""Nash mirror prox, and the single call beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from mdtheory.checks import require_count, require_scale, require_values
from mdtheory.nlhf.nash_md import PreferenceGame
from mdtheory.nlhf.nash_md.preference import require_game

# What to add to the payoffs of the actions, given the exact ones.
Error = Callable[[Tensor], Tensor]


class MirrorProxIterate(NamedTuple):
    r"""A policy :math:`\pi_k` and the half step :math:`\pi_{k+1/2}` that is taken from it."""

    policy: Tensor
    half: Tensor


def nash_mirror_prox(
    game: PreferenceGame, iterations: int, step_size: float | Tensor = 2.0
) -> Tensor:
    r"""Nash mirror prox: the policy after some iterations of two magnetic steps each.

    Equation ``eq-mirror-prox``. Theorem ``thm-nash-mirror-prox`` holds for steps up to 2 at every
    temperature, and up to :func:`largest_step` at a given one; any step above 0 is carried out.

    Args:
        game: preference games; the iteration starts at their references.
        iterations: number of iterations, at least 0; each asks for preferences twice.
        step_size: :math:`\gamma > 0`, a number or a tensor of the batch's shape.

    Returns:
        The last policy, log-probabilities ``(..., n)``.

    Raises:
        TypeError: no preference game, or a step of another kind.
        ValueError: a step that is not above 0, or a negative number of iterations.

    Source:
        Tiapkin et al. (2025).
    """
    run = _mirror_prox(*_prepared(game, iterations, step_size), last=False)
    *_, now = deque(run, maxlen=1)
    return now.policy


def nash_mirror_prox_iterates(
    game: PreferenceGame,
    iterations: int,
    step_size: float | Tensor = 2.0,
    *,
    payoff_error: Error | None = None,
) -> Iterator[MirrorProxIterate]:
    r"""The iterates of :func:`nash_mirror_prox`, the start among them, each with its half step.

    Args:
        game: as in :func:`nash_mirror_prox`.
        iterations: likewise.
        step_size: likewise.
        payoff_error: called with the payoffs :math:`P(\cdot \succ o)`, of shape ``(..., n)``,
            before each of the two steps; what it returns is added to them (theorem
            ``thm-mirror-prox-inexact``).

    Returns:
        An iterator over ``iterations + 1`` pairs, the policy and the half step from it, both
        log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :func:`nash_mirror_prox`.
        ValueError: likewise, or errors that are not finite or of another shape.
    """
    known, count, step = _prepared(game, iterations, step_size)
    run = _mirror_prox(_Erring(known, payoff_error) if payoff_error else known, count, step)
    return (MirrorProxIterate(now.policy.clone(), now.half.clone()) for now in run)


def preference_mirror_descent(
    game: PreferenceGame, iterations: int, step_size: float | Tensor | None = None
) -> Tensor:
    r"""Magnetic mirror descent on a preference game: one step an iteration, against oneself.

    Equation ``eq-preference-mmd``.

    Args:
        game: preference games; the iteration starts at their references.
        iterations: number of steps, at least 0; each asks for preferences once.
        step_size: :math:`\gamma > 0`, a number or a tensor of the batch's shape. By default
            :math:`4\tau`, the best of theorem ``thm-preference-mmd``; it needs :math:`\tau > 0`.

    Returns:
        The last policy, log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :func:`nash_mirror_prox`.
        ValueError: likewise.

    Source:
        Sokota et al. (2023).
    """
    *_, last = deque(preference_mirror_descent_iterates(game, iterations, step_size), maxlen=1)
    return last


def preference_mirror_descent_iterates(
    game: PreferenceGame, iterations: int, step_size: float | Tensor | None = None
) -> Iterator[Tensor]:
    r"""The iterates of :func:`preference_mirror_descent`, the start among them.

    Args:
        game: as in :func:`preference_mirror_descent`.
        iterations: likewise.
        step_size: likewise.

    Returns:
        An iterator over ``iterations + 1`` policies, log-probabilities ``(..., n)``.
    """
    if step_size is None:
        step_size = 4 * require_game(game).temperature
    known, count, step = _prepared(game, iterations, step_size)

    def run() -> Iterator[Tensor]:
        policy = known.policy()
        for left in range(count, -1, -1):
            yield policy.clone()
            if left:
                policy = known.step(policy, policy, step)

    return run()


def _mirror_prox(
    game: PreferenceGame,
    iterations: int,
    step: float | Tensor,
    *,
    last: bool = True,
) -> Iterator[MirrorProxIterate]:
    """Every policy with its half step, the last one's only if asked for."""
    policy = game.policy()
    for left in range(iterations, -1, -1):
        half = game.step(policy, policy, step) if left or last else policy
        yield MirrorProxIterate(policy, half)
        if left:
            policy = game.step(policy, half, step)


class _Erring(PreferenceGame):
    """A game whose payoffs are only known up to errors."""

    def __init__(self, game: PreferenceGame, payoff_error: Error) -> None:
        vars(self).update(vars(game))
        self.payoff_error = payoff_error

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
    game: PreferenceGame, iterations: int, step_size: float | Tensor
) -> tuple[PreferenceGame, int, float | Tensor]:
    step = require_scale(
        "step_size", step_size, require_game(game).preference, game.batch_shape,
        strict=True, widens=False, trailing=1,
    )  # fmt: skip
    return game, require_count("iterations", iterations, 0), step
