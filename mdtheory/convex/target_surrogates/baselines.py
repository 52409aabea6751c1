"""The methods beside which the target-based ones are judged, on the same batches and grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mdtheory.checks import require_count, values_known
from mdtheory.convex.target_surrogates.inner import InnerLoop, over_parameters, squared_norm
from mdtheory.convex.target_surrogates.losses import TargetLoss
from mdtheory.convex.target_surrogates.models import Model
from mdtheory.convex.target_surrogates.run import Account, Run, TargetRecord, check_batches
from mdtheory.convex.target_surrogates.schedules import (
    SHRINK,
    TRIES,
    StepSchedule,
    by_name,
    name_list,
)

Method = Literal["sgd", "line-search", "adam", "adagrad"]
METHODS: tuple[Method, ...] = get_args(Method)
# Adam's decay rates and the number that keeps it from dividing by zero.
BETAS, EPSILON = (0.9, 0.999), 1e-8


def parameter_sgd(
    loss: TargetLoss,
    model: Model,
    parameters: Tensor,
    step_size: float | Tensor,
    batches: Tensor,
    *,
    method: Method | Sequence[Method] = "sgd",
    schedule: str | Sequence[str] = "constant",
    every: int = 1,
) -> TargetRecord:
    r"""Stochastic gradient methods in the parameters, all configurations at once.

    - ``"sgd"``: :math:`\omega - \eta_t\nabla h_B(\omega)`.
    - ``"line-search"``: the same with the largest :math:`\eta_t 0.7^j` for which
      :math:`h_B` falls by half of what its slope promises.
    - ``"adam"``: with the usual decay rates 0.9 and 0.999.
    - ``"adagrad"``: with one step size, :math:`\eta_t/(\sum_{s\le t}\|\nabla h_B\|^2)^{1/2}`.

    Args:
        loss: the loss of all rows.
        model: the model of all rows.
        parameters: :math:`\omega_0`; leading axes are configurations.
        step_size: :math:`\eta > 0`, a number or a tensor that broadcasts with the
            configurations.
        batches: as in :func:`target_sgd`.
        method: of :data:`METHODS`, or one name for each entry of the first axis of the
            configurations.
        schedule: ``"constant"``, ``"sqrt"`` or ``"exponential"``, or one for each entry of that
            axis.
        every: as in :func:`target_sgd`.

    Returns:
        The record; one product with the Jacobian a round.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape, an unknown name or a number out of range.

    Source:
        Robbins and Monro (1951); Vaswani et al. (2019); Kingma and Ba (2015); Streeter and
        McMahan (2010).
    """
    require_count("every", every)
    check_batches(batches, model)
    run = Run(loss, model, parameters, step_size, 1, None, "primal", batches)
    names = name_list("method", method, METHODS, run.batch)
    known = ("constant", "sqrt", "exponential")
    steps = StepSchedule(schedule, known, run.batch, run.step, batches.shape[0])
    account, current = Account(run.batch, run.parameters), run.parameters
    first, second = torch.zeros_like(current), torch.zeros_like(current)
    energy = current.new_zeros(run.batch)
    account.enter(0, loss._row_values(model(current)).mean(-1))
    for t, index in enumerate(batches, start=1):
        part, rows = loss.select(index), model.select(index)
        targets, pull = rows.linearize(current)
        cotangent = part._gradient(targets)
        gradient = pull(cotangent)
        step, tries = steps.next(part, targets, cotangent)
        if "adam" in names:
            first = BETAS[0] * first + (1 - BETAS[0]) * gradient
            second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
        if "adagrad" in names:
            energy = energy + squared_norm(gradient, model)
        lengths, directions = {"sgd": step}, {"sgd": gradient}
        if "adam" in names:
            scale = (second / (1 - BETAS[1] ** t)).sqrt() + EPSILON
            lengths["adam"], directions["adam"] = step / (1 - BETAS[0] ** t), first / scale
        if "adagrad" in names:
            lengths["adagrad"] = step / torch.where(energy > 0, energy, 1.0).sqrt()
        if "line-search" in names:
            lengths["line-search"], tries = _search(
                part, rows, current, targets, gradient, step, names
            )
        length = by_name(names, lengths)
        direction = by_name(names, {name: directions.get(name, gradient) for name in names})
        current = current - over_parameters(length, model) * direction
        free = torch.zeros_like(step)
        account.spend(length, InnerLoop(current, free + 1, free), tries)
        if t % every == 0 or t == len(batches):
            account.enter(t, loss._row_values(model(current)).mean(-1))
    return account.close(current)


def _search(
    loss: TargetLoss,
    model: Model,
    parameters: Tensor,
    targets: Tensor,
    gradient: Tensor,
    step: Tensor,
    names: tuple[str, ...],
) -> tuple[Tensor, Tensor]:
    """Armijo's rule on the loss of the batch, for those that search.

    A search that finds nothing ends at its smallest step.
    """
    base = loss._row_values(targets).mean(-1)
    promised = squared_norm(gradient, model)
    searching = torch.ones_like(step, dtype=torch.bool)
    if len(names) > 1:
        mine = [searching[i] & (name == "line-search") for i, name in enumerate(names)]
        searching = torch.stack(mine)
    tries = torch.zeros_like(step)
    for _ in range(TRIES):
        candidate = parameters - over_parameters(step, model) * gradient
        value = loss._row_values(model(candidate)).mean(-1)
        tries = tries + searching
        searching = searching & ~(value <= base - step * promised / 2)
        if values_known(value) and not bool(searching.any()):
            break
        step = torch.where(searching, SHRINK * step, step)
    return step, tries
