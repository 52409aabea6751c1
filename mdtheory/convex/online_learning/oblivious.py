"""All rounds at once, where the losses do not depend on the decisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_same_kind, require_tensor, require_values
from mdtheory.convex.mirror_maps import MirrorMap, dual_step
from mdtheory.convex.mirror_maps.exact import differentiated
from mdtheory.convex.online_learning.learners import (
    FollowTheRegularizedLeader,
    Hedge,
    Learner,
    StepSize,
    number_like,
)

# A chunk of rounds holds about this many numbers, so that its passes stay in a core's cache.
CHUNK = 256 * 1024
# Rounds between two normalisations: a sum that grows for longer loses digits of the differences.
ROUNDS = 128
# Up to this many numbers a round, one cumulative sum beats one addition for each round.
NARROW = 4096


def hedge_decisions(losses: Tensor, step_size: float | Tensor, initial: Tensor) -> Tensor:
    r"""Decisions of :class:`Hedge` in all rounds, from one cumulative sum.

    Equation ``eq-hedge-closed``: :math:`p_t \propto p_1 \exp(-\eta\sum_{s<t} \ell_s)`.

    Args:
        losses: :math:`\ell_t`, shape ``(T, ..., d)``.
        step_size: :math:`\eta`, a number or a tensor that broadcasts with the batch.
        initial: :math:`p_1`, shape ``(..., d)`` or ``(d,)``.

    Returns:
        Probabilities, shape ``(T, ..., d)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape, a NaN or an infinity, ``initial`` is no probability vector, or
            a step size is not positive and finite.
    """
    learner = Hedge(_widened(initial, losses), step_size)
    return _kept(advance(learner, losses, keep=True))


def hedge_losses(losses: Tensor, step_size: float | Tensor, initial: Tensor) -> Tensor:
    r"""Loss of :class:`Hedge` in each round, :math:`\langle p_t, \ell_t\rangle`.

    The decisions of :func:`hedge_decisions` are used as they come and never stored, so memory
    does not grow with ``T * d`` beyond the losses themselves.

    Args:
        losses: :math:`\ell_t`, shape ``(T, ..., d)``.
        step_size: :math:`\eta`, a number or a tensor that broadcasts with the batch.
        initial: :math:`p_1`, shape ``(..., d)`` or ``(d,)``.

    Returns:
        Losses, shape ``(T, ...)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape, a NaN or an infinity, ``initial`` is no probability vector, or
            a step size is not positive and finite.
    """
    learner = Hedge(_widened(initial, losses), step_size)
    return advance(learner, losses, keep=False).losses


def ftrl_decisions(
    mirror_map: MirrorMap,
    gradients: Tensor,
    step_size: StepSize,
    initial: Tensor | None = None,
) -> Tensor:
    r"""Decisions of :class:`FollowTheRegularizedLeader` in all rounds, from one cumulative sum.

    Args:
        mirror_map: the geometry.
        gradients: :math:`g_t`, shape ``(T, ..., d)`` (``(T, ..., d, d)`` for matrices).
        step_size: a number, a tensor that broadcasts with the batch, or a sequence of numbers.
        initial: centre :math:`x_1`, shape ``(..., d)`` or ``(d,)``; the minimiser of the
            potential if ``None``.

    Returns:
        Decisions, shape ``(T, ..., d)``.

    Raises:
        TypeError: an argument of a wrong type, or a step size that is a callable.
        ValueError: a wrong shape, a NaN or an infinity, a point outside the domain, or a step
            size that is not positive and finite.
    """
    require_tensor("gradients", gradients, mirror_map.event_dims)
    if callable(step_size):
        raise TypeError("step_size: expected a number, a tensor or a sequence, got a callable")
    centre = (
        tuple(gradients.shape[1:])
        if initial is None
        else _widened(initial, gradients, mirror_map.event_dims)
    )
    learner = FollowTheRegularizedLeader(
        mirror_map, centre, step_size, dtype=gradients.dtype, device=gradients.device
    )
    return _kept(advance(learner, gradients, keep=True))


class Advance(NamedTuple):
    """Rounds played at once: decisions ``(T, ..., d)`` or ``None``, losses and steps."""

    decisions: Tensor | None
    losses: Tensor
    step_sizes: Tensor | None


def can_advance(learner: Learner) -> bool:
    """Whether :func:`advance` can play for the learner.

    Args:
        learner: any learner.

    Returns:
        True for Hedge and FTRL whose step sizes do not depend on what happens.
    """
    if type(learner) is Hedge:
        return learner._steps.constant is not None
    return type(learner) is FollowTheRegularizedLeader and learner._steps.oblivious


def advance(
    learner: Hedge | FollowTheRegularizedLeader, gradients: Tensor, *, keep: bool
) -> Advance:
    """Play all rounds of given gradients, and leave the learner where ``update`` would.

    Args:
        learner: a learner for which :func:`can_advance` is true.
        gradients: shape ``(T, ..., d)``, one gradient a round.
        keep: return the decisions and the step sizes.

    Returns:
        Decisions and step sizes if ``keep``, and the linear losses ``(T, ...)``.

    Raises:
        TypeError: another dtype than the learner's.
        ValueError: a wrong shape or device, a NaN or an infinity, or no finite step exists.
    """
    require_tensor("gradients", gradients, learner.event_dims)
    shape = tuple(learner._decision.shape)
    if tuple(gradients.shape[1:]) != shape or gradients.shape[0] == 0:
        raise ValueError(
            f"gradients: expected shape (T, {', '.join(map(str, shape))}) with T >= 1, "
            f"got {tuple(gradients.shape)}"
        )
    require_same_kind("gradients", gradients, "decision", learner._decision)
    rounds, events = gradients.shape[0], learner.event_dims
    if events == 2 and learner.mirror_map is not None:
        learner.mirror_map.check_gradient("gradients", gradients)
    axes = tuple(range(-events, 0))
    followed = differentiated(gradients, *learner._tensors())
    losses = gradients.new_empty(gradients.shape[: gradients.ndim - events])
    decisions = torch.empty_like(gradients) if keep and not followed else None
    parts: list[tuple[Tensor, Tensor]] = []
    played = (
        _hedge_chunks(learner, gradients)
        if isinstance(learner, Hedge)
        else _leader_chunks(learner, gradients)
    )
    with learner._all_or_nothing():
        for begin, end, points in played:
            if followed:  # nothing is written over, so that derivatives can be taken
                parts.append((points, (points * gradients[begin:end]).sum(axes)))
                continue
            if decisions is not None:
                decisions[begin:end] = points
                points = points * gradients[begin:end]
            else:
                points = points.mul_(gradients[begin:end])
            torch.sum(points, axes, out=losses[begin:end])
        if followed:
            points, losses = (torch.cat(each) for each in zip(*parts, strict=True))
            decisions = points if keep else None
        # A NaN or an infinity anywhere has reached the loss of its round or the normaliser there.
        require_values("gradients", losses, losses.isfinite(), "finite values and finite steps")
        learner._suffered = learner._suffered + losses.sum(0)
        learner._loss = losses[-1].clone()
        learner._finite("step_size", learner._decision)
    return Advance(decisions, losses, _step_sizes(learner, rounds) if keep else None)


def _hedge_chunks(learner: Hedge, gradients: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    step = learner._steps.constant
    assert step is not None
    log = learner._log
    for begin, end in _chunks(gradients):
        duals = _running(log, gradients[begin:end], step)
        yield begin, end, duals[:-1].softmax(-1)
        log = duals[-1].log_softmax(-1)
    learner._log, learner._decision = log, log.exp()
    learner.round += gradients.shape[0]
    learner.step_size = learner._steps.plain(step)


def _leader_chunks(
    learner: FollowTheRegularizedLeader, gradients: Tensor
) -> Iterator[tuple[int, int, Tensor]]:
    primal = learner.mirror_map._to_primal
    for begin, end in _chunks(gradients):
        totals = _running(learner._total, gradients[begin:end], -1.0)
        steps = _stacked(learner, end - begin, totals)
        following = primal(dual_step(learner._centre, totals[1:], steps))
        yield begin, end, torch.cat([learner._decision[None], following[:-1]])
        learner._total, learner._decision = totals[-1], following[-1]
        learner.round += end - begin
        learner.step_size = learner._steps.plain(learner._steps.at(learner.round - 1))


def _running(start: Tensor, gradients: Tensor, step: float | Tensor) -> Tensor:
    """``start - step * (sum of the first k gradients)`` for k = 0, ..., K."""
    if differentiated(start, gradients, *([step] if isinstance(step, Tensor) else [])):
        return torch.cat([start[None], -step * gradients]).cumsum(0)
    sums = gradients.new_empty((gradients.shape[0] + 1, *gradients.shape[1:]))
    sums[0] = start
    if start.numel() <= NARROW:
        torch.mul(gradients, -step, out=sums[1:])
        return torch.cumsum(sums, 0)
    for k in range(gradients.shape[0]):
        if isinstance(step, Tensor):
            torch.addcmul(sums[k], gradients[k], step, value=-1, out=sums[k + 1])
        else:
            torch.sub(sums[k], gradients[k], alpha=step, out=sums[k + 1])
    return sums


def _stacked(learner: FollowTheRegularizedLeader, count: int, like: Tensor) -> float | Tensor:
    if learner._steps.constant is not None:
        return learner._steps.constant
    values = [learner._steps.at(learner.round + k) for k in range(count)]
    steps = torch.tensor(values, dtype=like.dtype).to(like.device)
    return steps.reshape((count,) + (1,) * (like.ndim - 1))


def _step_sizes(learner: Hedge | FollowTheRegularizedLeader, rounds: int) -> Tensor:
    like = learner._suffered
    steps, batch = learner._steps, tuple(like.shape)
    if steps.constant is not None:
        constant = number_like(steps.plain(steps.constant), like)
        return constant.expand((rounds, *batch)).clone()
    values = [steps.at(round_) for round_ in range(learner.round - rounds, learner.round)]
    each = torch.tensor(values, dtype=like.dtype).to(like.device)
    return each.reshape((rounds,) + (1,) * len(batch)).expand((rounds, *batch)).clone()


def _chunks(gradients: Tensor) -> Iterator[tuple[int, int]]:
    size = max(1, min(ROUNDS, CHUNK // max(1, gradients[:1].numel())))
    for begin in range(0, gradients.shape[0], size):
        yield begin, min(begin + size, gradients.shape[0])


def _widened(initial: Tensor, losses: Tensor, event_dims: int = 1) -> Tensor:
    require_tensor("initial", initial, event_dims)
    require_tensor("losses", losses, event_dims)
    try:
        return initial.expand(losses.shape[1:])
    except RuntimeError:
        raise ValueError(
            f"initial: expected a shape that expands to {tuple(losses.shape[1:])}, "
            f"got {tuple(initial.shape)}"
        ) from None


def _kept(played: Advance) -> Tensor:
    assert played.decisions is not None
    return played.decisions
