"""The outer loops: majorise and minimise, and its stochastic form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mdtheory.checks import require_count
from mdtheory.convex.mirror_maps import MirrorMap
from mdtheory.convex.target_surrogates.inner import Armijo, InnerLoop, squared_norm
from mdtheory.convex.target_surrogates.losses import TargetLoss
from mdtheory.convex.target_surrogates.models import Model
from mdtheory.convex.target_surrogates.run import Account, Run, TargetRecord, check_batches
from mdtheory.convex.target_surrogates.schedules import SCHEDULES, Schedule, StepSchedule
from mdtheory.convex.target_surrogates.surrogates import Coordinates

Proximity = Literal["batch", "all"]


def target_step(
    loss: TargetLoss,
    model: Model,
    parameters: Tensor,
    step_size: float | Tensor,
    inner_steps: float | Tensor,
    *,
    inner_step: float | Tensor | Armijo | None = None,
    mirror_map: MirrorMap | None = None,
    coordinates: Coordinates = "primal",
) -> InnerLoop:
    r"""One outer round: one gradient of the loss, then :math:`m` steps on the surrogate.

    Algorithm ``alg-target-mm``, lines 1 to 3; on a mini-batch pass the loss and the model of its
    rows.

    Args:
        loss: the loss.
        model: the model.
        parameters: :math:`\omega_t`; leading axes are instances.
        step_size: :math:`\eta > 0`, a number or a tensor that broadcasts with the instances.
        inner_steps: :math:`m \ge 1`, likewise; ``math.inf`` (the exact minimiser) for linear
            models without a map.
        inner_step: :math:`\alpha/\eta`, a number or a tensor, or a line search; by default one
            over the squared norm of the Jacobian, for linear models.
        mirror_map: as in :func:`surrogate`.
        coordinates: as in :func:`surrogate`.

    Returns:
        The next parameters, products with the Jacobian and evaluations of the model.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape or a number out of range.

    Source:
        Lavington, Vaswani, Babanezhad, Schmidt and Le Roux (2023), algorithm 1.
    """
    run = Run(loss, model, parameters, step_size, inner_steps, mirror_map, coordinates)
    run.set_inner_step(inner_step, None)
    gradient = loss._gradient(model(run.parameters)).detach()
    return run.inner(model, run.parameters, gradient, run.step)


def majorize_minimize(
    loss: TargetLoss,
    model: Model,
    parameters: Tensor,
    step_size: float | Tensor,
    rounds: int,
    inner_steps: float | Tensor,
    *,
    inner_step: float | Tensor | Armijo | None = None,
    mirror_map: MirrorMap | None = None,
    coordinates: Coordinates = "primal",
    keep_targets: bool = False,
) -> TargetRecord:
    r"""Majorise and minimise with all rows.

    Algorithm ``alg-target-mm``; ``thm-mm-descent`` and ``thm-exact-projection`` bound it.

    Args:
        loss: the loss.
        model: the model.
        parameters: :math:`\omega_0`; leading axes are instances.
        step_size: as in :func:`target_step`.
        rounds: T, outer rounds.
        inner_steps: as in :func:`target_step`.
        inner_step: as in :func:`target_step`.
        mirror_map: as in :func:`surrogate`.
        coordinates: as in :func:`surrogate`.
        keep_targets: record the targets of every round.

    Returns:
        The record, with T + 1 entries.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape or a number out of range.

    Source:
        Lavington, Vaswani, Babanezhad, Schmidt and Le Roux (2023), algorithm 1.
    """
    require_count("rounds", rounds)
    run = Run(loss, model, parameters, step_size, inner_steps, mirror_map, coordinates)
    run.set_inner_step(inner_step, None)
    account, norms, kept = Account(run.batch, run.parameters), [], []
    current = run.parameters
    for t in range(rounds + 1):
        anchor, pull = model.linearize(current)
        gradient = loss._gradient(anchor)
        account.enter(t, loss._row_values(anchor).mean(-1))
        norms.append(squared_norm(pull(gradient), model).sqrt().expand(run.batch))
        if keep_targets:
            kept.append(anchor.expand(*run.batch, *anchor.shape[-2:]).clone())
        if t < rounds:
            end = run.inner(model, current, gradient, run.step)
            current = end.parameters
            account.spend(run.step, end)
    record = account.close(current)
    targets = torch.stack(kept) if keep_targets else None
    return record._replace(gradient_norms=torch.stack(norms), targets=targets)


def target_sgd(
    loss: TargetLoss,
    model: Model,
    parameters: Tensor,
    step_size: float | Tensor,
    batches: Tensor,
    inner_steps: float | Tensor,
    *,
    schedule: Schedule | Sequence[Schedule] = "constant",
    proximity: Proximity = "batch",
    inner_step: float | Tensor | Armijo | None = None,
    mirror_map: MirrorMap | None = None,
    coordinates: Coordinates = "primal",
    every: int = 1,
) -> TargetRecord:
    r"""Target-based stochastic optimisation with mini-batches, all configurations at once.

    Algorithm ``alg-target-sgd``. Numbers of inner steps, step sizes, schedules and seeds are
    leading axes and broadcast.

    Args:
        loss: the loss of all rows.
        model: the model of all rows.
        parameters: :math:`\omega_0`; leading axes are configurations.
        step_size: :math:`\eta > 0` of the first round, as in :func:`target_step`.
        batches: rows of each round, int64, shape ``(T, b)`` or ``(T, ..., b)`` with leading axes
            that broadcast with the configurations; see :func:`draw_batches`.
        inner_steps: as in :func:`target_step`.
        schedule: how the step size changes, of :data:`SCHEDULES`; or one name for each entry of
            the first axis of the configurations.
        proximity: whether the surrogate holds the sampled rows alone (``"batch"``) or all rows
            (``"all"``: linear models without a map; the algorithm of ``thm-target-sgd``).
        inner_step: as in :func:`target_step`; by default one over the largest squared length of
            a row, the same for all batches, so that m = 1 is SGD.
        mirror_map: as in :func:`surrogate`.
        coordinates: as in :func:`surrogate`.
        every: rounds between two entries of the record; the last round is always one.

    Returns:
        The record.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape, an unknown name or a number out of range.

    Source:
        Lavington, Vaswani, Babanezhad, Schmidt and Le Roux (2023), algorithm 2 and section 4.
    """
    if proximity not in get_args(Proximity):
        raise ValueError(f"proximity: expected one of {get_args(Proximity)}, got {proximity!r}")
    require_count("every", every)
    run = Run(
        loss, model, parameters, step_size, inner_steps, mirror_map, coordinates,
        check_batches(batches, model),
    )  # fmt: skip
    run.set_inner_step(inner_step, batches)
    if proximity == "all" and not run.closed_form:
        raise ValueError(
            "proximity: expected 'batch' unless the model is linear, without a map and with a "
            "fixed inner step"
        )
    steps = StepSchedule(schedule, SCHEDULES, run.batch, run.step, batches.shape[0])
    if "newton" in steps.names and (proximity == "all" or math.inf in run.all_steps()):
        raise ValueError("schedule: expected finite inner_steps on the batch for 'newton'")
    account, current = Account(run.batch, run.parameters), run.parameters
    account.enter(0, loss._row_values(model(current)).mean(-1))
    for t, index in enumerate(batches, start=1):
        part, rows = loss.select(index), model.select(index)
        anchor = rows(current).detach()
        gradient = part._gradient(anchor)
        step, tries = steps.next(part, anchor, gradient)
        weights = steps.weights(part, anchor)
        if proximity == "all":
            end = run.inner(model, current, gradient, step, index=index)
        else:
            end = run.inner(rows, current, gradient, step, weights)
        current = end.parameters
        account.spend(step, end, tries)
        if t % every == 0 or t == len(batches):
            account.enter(t, loss._row_values(model(current)).mean(-1))
    return account.close(current)


def draw_batches(
    rounds: int,
    rows: int,
    batch_size: int,
    generator: torch.Generator,
    shape: tuple[int, ...] = (),
) -> Tensor:
    """Uniform subsets of the rows, without replacement within a batch.

    Args:
        rounds: T.
        rows: n.
        batch_size: b, at most n.
        generator: source of randomness; its device is where the batches live.
        shape: leading axes, such as ``(seeds,)``.

    Returns:
        Rows, int64, shape ``(T, *shape, b)``.

    Raises:
        TypeError: a count is no whole number.
        ValueError: a count below 1, or a batch larger than the rows.
    """
    require_count("rounds", rounds)
    if require_count("batch_size", batch_size) > require_count("rows", rows):
        raise ValueError(f"batch_size: expected at most {rows} rows, got {batch_size}")

    def one() -> Tensor:
        keys = torch.rand((*shape, rows), generator=generator, device=generator.device)
        return keys.topk(batch_size, sorted=False).indices

    return torch.stack([one() for _ in range(rounds)])
