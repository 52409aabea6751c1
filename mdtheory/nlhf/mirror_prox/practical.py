"""The practical version: proximal steps by policy gradients, with an averaged target."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.nlhf.nash_md import PreferenceGame
from mdtheory.nlhf.nash_md.preference import require_game
from mdtheory.sequences import SequenceSpace, exact_gradient, sampled_gradient


def proximal_gradient(
    space: SequenceSpace,
    game: PreferenceGame,
    logits: Tensor,
    opponent_logits: Tensor,
    target_logits: Tensor,
    step_size: float,
    *,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Policy gradient of one proximal step, exact or from samples.

    Proposition ``prop-proximal-gradient``: the gradient with respect to the logits of
    :math:`\langle P(\cdot\succ o), \pi\rangle - \tau\,\mathrm{KL}(\pi\|\mu) -
    \frac1\gamma\mathrm{KL}(\pi\|\bar\pi)`, with the opponent :math:`o` held fixed.

    Args:
        space: the sequences, ``N`` of them.
        game: preference games between sequences.
        logits: those of :math:`\pi`, shape ``(..., prefixes, vocabulary)``.
        opponent_logits: those of :math:`o`, likewise.
        target_logits: those of :math:`\bar\pi`, likewise.
        step_size: :math:`\gamma > 0`; infinite means that no target is kept to.
        samples: pairs of answers to estimate it from; by default it is exact, by enumeration.
        generator: the source of chance; needed with ``samples``.

    Returns:
        The direction of ascent, shape ``(..., prefixes, vocabulary)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, or a number out of range.

    Source:
        The specification is ours; Tiapkin et al. (2025) descend proximal steps by policy gradients.
    """
    matrix = _game(space, game).preference
    near = 1 / require_number("step_size", step_size, 0.0, strict=True, infinite=True)
    policy, opponent = space.log_probs(logits), space.log_probs(opponent_logits)
    target = space.log_probs(target_logits)
    cost = game._weight * (policy - game.reference) + near * (policy - target)
    batch = torch.broadcast_shapes(matrix.shape[:-2], opponent.shape[:-1], cost.shape[:-1])
    logits, opponent_logits = (
        each.expand(*batch, *each.shape[-2:]) for each in (logits, opponent_logits)
    )
    if samples is None:
        payoff = (matrix @ opponent.exp()[..., None])[..., 0] - 0.5
        return exact_gradient(space, logits, payoff - cost)
    if generator is None:
        raise ValueError("generator: expected a torch.Generator with samples, got None")
    count = require_count("samples", samples)
    mine, theirs = (space.sample(each, count, generator) for each in (logits, opponent_logits))
    rows = matrix.expand(*batch, space.count, space.count).flatten(-2)
    won = rows.gather(-1, mine * space.count + theirs) - 0.5
    paid = cost.expand(*batch, space.count).gather(-1, mine)
    return sampled_gradient(space, logits, mine, won - paid)


def proximal_ascent(
    space: SequenceSpace,
    game: PreferenceGame,
    opponent_logits: Tensor,
    target_logits: Tensor,
    step_size: float,
    *,
    steps: int,
    learning_rate: float,
) -> Tensor:
    r"""Exact gradient steps on one proximal problem, from the target.

    Against enough of them the closed form ``eq-magnetic-step`` is reached.

    Args:
        space: the sequences, ``N`` of them.
        game: preference games between sequences.
        opponent_logits: those of the opponent, shape ``(..., prefixes, vocabulary)``.
        target_logits: those of :math:`\bar\pi`, likewise.
        step_size: :math:`\gamma > 0`, also infinite.
        steps: number of gradient steps, at least 0.
        learning_rate: their length, above 0.

    Returns:
        Logits ``(..., prefixes, vocabulary)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, or a number out of range.
    """
    rate = require_number("learning_rate", learning_rate, 0.0, strict=True)
    logits = space.check("target_logits", target_logits).clone()
    for _ in range(require_count("steps", steps, 0)):
        logits = logits + rate * proximal_gradient(
            space, game, logits, opponent_logits, target_logits, step_size
        )
    return logits


def practical_mirror_prox(
    space: SequenceSpace,
    game: PreferenceGame,
    updates: int,
    *,
    step_size: float = 2.0,
    learning_rate: float = 1.0,
    decay: float = 0.9,
    samples: int | None = None,
    generator: torch.Generator | None = None,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""One online policy that is its own opponent, and a slow average of it that it keeps to.

    Equation ``eq-practical``. Every update takes one gradient step of
    :func:`proximal_gradient` with the online policy as the opponent, then moves the target's
    logits by the share :math:`\kappa` towards the online ones. Both start at the
    reference, unless told otherwise.

    Args:
        space: the sequences, ``N`` of them.
        game: preference games between sequences.
        updates: number of gradient steps, at least 0.
        step_size: :math:`\gamma > 0`, also infinite.
        learning_rate: length of a gradient step, above 0.
        decay: :math:`1 - \kappa` in [0, 1), what the target keeps; 0 is regularised self-play.
        samples: pairs of answers for each gradient; by default it is exact.
        generator: the source of chance; needed with ``samples``.
        start: an earlier result to go on from.

    Returns:
        Logits of the online policy and of its target.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, or a number out of range.

    Source:
        Ours, after the description in Tiapkin et al. (2025).
    """
    rate = require_number("learning_rate", learning_rate, 0.0, strict=True)
    kept = require_number("decay", decay, 0.0)
    if kept >= 1:
        raise ValueError(f"decay: expected a number in [0, 1), got {kept!r}")
    reference = space.logits(_game(space, game).reference)
    online, target = (reference, reference) if start is None else start
    space.check("start", online)
    space.check("start", target)
    for _ in range(require_count("updates", updates, 0)):
        direction = proximal_gradient(
            space, game, online, online, target, step_size, samples=samples, generator=generator
        )
        online = online + rate * direction
        target = online + kept * (target - online)
    return online.clone(), target.clone()


def _game(space: SequenceSpace, game: PreferenceGame) -> PreferenceGame:
    if require_game(game).actions != space.count:
        raise ValueError(f"game: expected {space.count} sequences, got {game.actions} actions")
    return game
