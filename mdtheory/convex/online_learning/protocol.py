"""The online protocol: environments, the game against a learner, and regret."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_finite,
    require_same_kind,
    require_shape,
    require_tensor,
)
from mdtheory.convex.online_learning.environments import LinearLosses
from mdtheory.convex.online_learning.learners import (
    FollowTheRegularizedLeader,
    Hedge,
    Learner,
    OptimisticMirrorDescent,
    number_like,
)
from mdtheory.convex.online_learning.oblivious import advance, can_advance


class Environment(Protocol):
    """The other side of the protocol: a loss and its gradient at the learner's decision.

    Any callable ``(round, decision) -> (loss, gradient)`` is one: ``round`` counts from 1,
    ``decision`` has shape ``(..., d)``, ``loss`` shape ``(...)`` and ``gradient`` the shape of
    ``decision``. An environment that also has ``loss_at(comparator, rounds)`` tells the true loss
    of a fixed point, one with ``hint(round)`` hints at the gradient of a coming round, and one
    with ``rounds`` has a last round.
    """

    def __call__(self, round_: int, decision: Tensor, /) -> tuple[Tensor, Tensor]:
        """Loss and gradient of the round at the decision."""


@runtime_checkable
class KnowsLosses(Protocol):
    """An environment that knows the true loss of a comparator."""

    def loss_at(self, comparator: Tensor, rounds: int) -> Tensor:
        """Total loss of a fixed point.

        Args:
            comparator: the point, of a shape that broadcasts with ``(..., d)``.
            rounds: how many rounds count, from the first.

        Returns:
            Values of shape ``(...)``.
        """


class GameRecord(NamedTuple):
    r"""What a game leaves behind; ``T`` rounds, batch ``...``.

    Attributes:
        decisions: :math:`x_t`, shape ``(T, ..., d)``, or ``None`` where they were not kept.
        gradients: :math:`g_t`, shape ``(T, ..., d)``, or ``None`` where they were not kept.
        losses: :math:`f_t(x_t)`, shape ``(T, ...)``.
        linear_losses: :math:`\langle g_t, x_t\rangle`, shape ``(T, ...)``.
        total_gradient: :math:`\sum_t g_t`, shape ``(..., d)``.
        step_sizes: step size of each update, shape ``(T, ...)``, or ``None`` where the learner
            has no single step size or decisions were not kept.
        environment: the environment that was played.
    """

    decisions: Tensor | None
    gradients: Tensor | None
    losses: Tensor
    linear_losses: Tensor
    total_gradient: Tensor
    step_sizes: Tensor | None
    environment: Environment


def play(
    learner: Learner, environment: Environment | Tensor, rounds: int, *, keep: bool = True
) -> GameRecord:
    r"""Play the online game.

    Definition ``def-protocol``: in each round the learner announces :math:`x_t`, suffers
    :math:`f_t(x_t)` and learns :math:`g_t`. Where the losses are linear and do not depend on the
    decisions, Hedge with a constant step and FTRL play all rounds as one cumulative sum.

    Args:
        learner: the learner; it goes on from the state that it is in.
        environment: see :class:`Environment`; a tensor ``(T, ..., d)`` stands for the
            :class:`LinearLosses` with these vectors.
        rounds: number of rounds ``T``.
        keep: keep decisions and gradients of every round; without them memory does not grow
            with ``T * d``.

    Returns:
        The record of the game.

    Raises:
        TypeError: ``rounds`` is no whole number, or the environment gave a wrong type.
        ValueError: ``rounds`` is below 1 or more than the environment has, or the environment
            gave a wrong shape, a NaN or an infinity.
    """
    require_count("rounds", rounds)
    if isinstance(environment, Tensor):
        environment = LinearLosses(environment)
    last = getattr(environment, "rounds", None)
    if last is not None and rounds > last:
        raise ValueError(f"rounds: expected at most {last} for this environment, got {rounds}")
    if isinstance(environment, LinearLosses) and can_advance(learner):
        assert isinstance(learner, (Hedge, FollowTheRegularizedLeader))
        gradients = environment.losses[:rounds]
        decisions, losses, steps = advance(learner, gradients, keep=keep)
        return GameRecord(
            decisions,
            gradients.clone() if keep else None,
            losses,
            losses.clone(),
            gradients.sum(0),
            steps,
            environment,
        )
    return _play_rounds(learner, environment, rounds, keep)


def regret(record: GameRecord, comparator: Tensor, *, linear: bool | None = None) -> Tensor:
    r"""Regret of a game against a comparator.

    Equation ``eq-regret``: :math:`\sum_t f_t(x_t) - f_t(u)`, or its linear upper bound
    :math:`\sum_t \langle g_t, x_t - u\rangle`.

    Args:
        record: what :func:`play` returned.
        comparator: a fixed point :math:`u`, of a shape that broadcasts with the ``(..., d)`` of
            a decision; or one point a round, shape ``(T, ..., d)`` with as many axes as
            ``record.gradients`` (then the regret is the linear one).
        linear: whether to linearise; by default only where the environment has no ``loss_at``.

    Returns:
        Regret, shape ``(...)``.

    Raises:
        TypeError: ``comparator`` is no floating-point tensor of the decisions' dtype.
        ValueError: ``comparator`` does not fit or is elsewhere, true losses are asked of an
            environment that has none, or a moving comparator meets a record without gradients.
    """
    require_tensor("comparator", comparator)
    require_same_kind("comparator", comparator, "the decisions", record.total_gradient)
    shape = tuple(record.total_gradient.shape)
    event_dims = len(shape) - record.losses.ndim + 1
    moving = comparator.ndim == len(shape) + 1
    if comparator.ndim > len(shape) + 1 or comparator.shape[-event_dims:] != shape[-event_dims:]:
        raise ValueError(
            f"comparator: expected a shape that broadcasts with {shape}, "
            f"got {tuple(comparator.shape)}"
        )
    known = isinstance(record.environment, KnowsLosses)
    if linear is None:
        linear = moving or not known
    axes = tuple(range(-event_dims, 0))
    if moving:
        if record.gradients is None or not linear:
            raise ValueError("comparator: a moving one needs kept gradients and linear regret")
        if comparator.shape[0] != record.losses.shape[0]:
            raise ValueError(
                f"comparator: expected one point for each of {record.losses.shape[0]} rounds, "
                f"got shape {tuple(comparator.shape)}"
            )
        require_broadcastable("comparator", comparator, "the gradients", record.gradients)
        return record.linear_losses.sum(0) - (record.gradients * comparator).sum(axes).sum(0)
    require_broadcastable("comparator", comparator, "a decision", record.total_gradient)
    if linear:
        return record.linear_losses.sum(0) - (record.total_gradient * comparator).sum(axes)
    if not isinstance(record.environment, KnowsLosses):
        raise ValueError("linear: expected True for an environment without loss_at, got False")
    return record.losses.sum(0) - record.environment.loss_at(comparator, record.losses.shape[0])


def _play_rounds(learner: Learner, environment: Environment, rounds: int, keep: bool) -> GameRecord:
    decisions, gradients, losses, linear, steps = [], [], [], [], []
    hints = getattr(environment, "hint", None)
    total = torch.zeros_like(learner.decision)
    batch = tuple(learner.suffered.shape)
    last = getattr(environment, "rounds", None)
    for round_ in range(1, rounds + 1):
        # The environment gets a copy, and what it gives back may be a buffer that it fills again.
        loss, gradient = environment(round_, learner.decision)
        if not isinstance(loss, Tensor):
            raise TypeError(f"loss: expected a torch.Tensor, got {type(loss).__name__}")
        require_shape("loss", loss, batch)
        if keep:  # replaced by the update, never written to
            decisions.append(learner._decision)
        if isinstance(learner, OptimisticMirrorDescent) and hints is not None:
            known = last is None or round_ < last
            learner.update(gradient, hints(round_ + 1) if known else None)
        else:
            learner.update(gradient)
        losses.append(loss.clone())
        linear.append(learner._loss)
        total = total + gradient
        if keep:
            gradients.append(gradient.clone())
            if learner.step_size is not None:
                step = number_like(learner.step_size, total)
                steps.append(step.expand(batch))
    all_losses = torch.stack(losses)
    require_finite("loss", all_losses)
    return GameRecord(
        torch.stack(decisions) if keep else None,
        torch.stack(gradients) if keep else None,
        all_losses,
        torch.stack(linear),
        total,
        torch.stack(steps) if len(steps) == rounds else None,
        environment,
    )
