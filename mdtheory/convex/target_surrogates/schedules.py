"""How the step size changes from round to round, in every configuration at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mdtheory.checks import values_known
from mdtheory.convex.target_surrogates.losses import TargetLoss

Schedule = Literal["constant", "sqrt", "exponential", "adagrad", "line-search", "newton"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
# The search for a step in the target space: factor from try to try, and most tries.
SHRINK, TRIES = 0.7, 60
# Smallest weight of a row under the online Newton schedule.
LEAST_CURVATURE = 1e-5


class StepSchedule:
    r"""The step size of each round, in every configuration.

    Args:
        schedule: a name, or one name for each entry of the first axis.
        known: names that are allowed.
        batch: shape of the configurations.
        step: :math:`\eta` of the first round, broadcasts with them.
        rounds: T.
        argument: the argument's name, for the message.

    Raises:
        ValueError: an unknown name, or a number of names that does not fit.
    """

    def __init__(
        self,
        schedule: str | Sequence[str],
        known: Sequence[str],
        batch: tuple[int, ...],
        step: Tensor,
        rounds: int,
        argument: str = "schedule",
    ) -> None:
        self.names = name_list(argument, schedule, known, batch)
        self.batch, self.first, self.rounds = batch, step.expand(batch), rounds
        self.round, self._energy = 0, step.new_zeros(batch)

    def next(self, loss: TargetLoss, anchor: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Step sizes of the next round, and the loss values that they cost.

        Args:
            loss: the loss of the round's rows.
            anchor: the targets.
            gradient: its row gradients there.

        Returns:
            Step sizes and numbers of values, each of the shape of the configurations.
        """
        self.round += 1
        size = gradient.square().sum(-1).mean(-1).expand(self.batch)
        self._energy = self._energy + size
        free = torch.zeros_like(self.first)
        t, made = self.round, {}
        for name in set(self.names):
            tries = free
            if name == "sqrt":
                step = self.first / math.sqrt(t)
            elif name == "exponential":
                step = self.first * self.rounds ** (-t / self.rounds)
            elif name == "adagrad":
                # Without a gradient so far nothing moves, whatever the step.
                energy = torch.where(self._energy > 0, self._energy, 1.0)
                step = self.first / energy.sqrt()
            elif name == "line-search":
                step, tries = self._search(loss, anchor, gradient, size)
            else:
                step = self.first
            made[name] = (step, tries)
        return (
            by_name(self.names, {name: step for name, (step, _) in made.items()}),
            by_name(self.names, {name: tries for name, (_, tries) in made.items()}),
        )

    def weights(self, loss: TargetLoss, anchor: Tensor) -> Tensor | None:
        """Weights of the squares in the proximity term: curvatures under the Newton schedule.

        Args:
            loss: the loss of the round's rows.
            anchor: the targets.

        Returns:
            Weights of the shape of the targets, or ``None`` where all are 1.
        """
        if "newton" not in self.names:
            return None
        curvature = (loss._curvature(anchor) + LEAST_CURVATURE).expand(
            *self.batch, *anchor.shape[-2:]
        )
        ones = torch.ones_like(curvature)
        made = {name: curvature if name == "newton" else ones for name in self.names}
        return by_name(self.names, made)

    def _search(
        self, loss: TargetLoss, anchor: Tensor, gradient: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The largest step of the grid with Armijo's decrease of the loss along its gradient."""
        base = loss._row_values(anchor).mean(-1)
        step, tries = self.first, torch.zeros_like(self.first)
        searching = torch.ones_like(step, dtype=torch.bool)
        for _ in range(TRIES):
            value = loss._row_values(anchor - step[..., None, None] * gradient).mean(-1)
            tries = tries + searching
            searching = searching & ~(value <= base - step * size / 2)
            if values_known(value) and not bool(searching.any()):
                break
            step = torch.where(searching, SHRINK * step, step)
        return step, tries


def name_list(
    argument: str, names: str | Sequence[str], known: Sequence[str], batch: tuple[int, ...]
) -> tuple[str, ...]:
    """One name, or one for each entry of the first axis of the configurations.

    Args:
        argument: the argument's name, for the message.
        names: what came.
        known: what is allowed.
        batch: shape of the configurations.

    Returns:
        The names: one, or as many as the first axis is long.

    Raises:
        ValueError: an unknown name, or a number of names that does not fit.
    """
    if isinstance(names, str):
        listed: tuple[str, ...] = (names,)
    else:
        listed = tuple(names)
        if not batch or len(listed) != batch[0]:
            raise ValueError(
                f"{argument}: expected one name for each entry of the first axis of the "
                f"configurations {batch}, got {len(listed)}"
            )
    for name in listed:
        if name not in known:
            raise ValueError(f"{argument}: expected one of {tuple(known)}, got {name!r}")
    return listed


def by_name(names: tuple[str, ...], made: dict[str, Tensor]) -> Tensor:
    """Of each entry of the first axis what its name made.

    Args:
        names: one name, or one for each entry of the first axis.
        made: a tensor of all configurations for every name.

    Returns:
        A tensor of that shape.
    """
    if len(names) == 1:
        return made[names[0]]
    return torch.stack([made[name][i] for i, name in enumerate(names)])
