"""The outer loops: majorise and minimise, and its stochastic form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_finite,
    require_same_kind,
    require_tensor,
    require_values,
    values_known,
)
from mdtheory.convex.mirror_maps import MirrorMap
from mdtheory.convex.target_surrogates.inner import (
    Armijo,
    InnerLoop,
    descend,
    descend_linear,
    squared_norm,
    steps_tensor,
)
from mdtheory.convex.target_surrogates.losses import TargetLoss
from mdtheory.convex.target_surrogates.models import LinearModel, Model
from mdtheory.convex.target_surrogates.surrogates import (
    Coordinates,
    check_geometry,
    positive_tensor,
)

Schedule = Literal["constant", "sqrt", "exponential", "adagrad", "line-search", "newton"]
Proximity = Literal["batch", "all"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
# The search for a step in the target space: factor from try to try, and most tries.
SHRINK, TRIES = 0.7, 60
# Smallest weight of a row under the online Newton schedule.
LEAST_CURVATURE = 1e-5


class TargetRecord(NamedTuple):
    """What a run left behind, at K of its rounds.

    Attributes:
        rounds: numbers of outer rounds made before each entry, int64, shape ``(K,)``.
        losses: the full loss then, shape ``(K, ...)``.
        parameters: the last parameters.
        oracle_calls: gradients of the loss asked for, shape ``(K, ...)``.
        loss_values: values of the loss that a line search asked for, shape ``(K, ...)``.
        products: products with the transposed Jacobian, shape ``(K, ...)``.
        values: evaluations of the model alone by Armijo's rule, shape ``(K, ...)``.
        step_sizes: the step size of the round before each entry, shape ``(K - 1, ...)``.
        gradient_norms: norm of the gradient of h at each entry, ``majorize_minimize`` only.
        targets: targets at each entry, ``majorize_minimize`` only and if asked for.
    """

    rounds: Tensor
    losses: Tensor
    parameters: Tensor
    oracle_calls: Tensor
    loss_values: Tensor
    products: Tensor
    values: Tensor
    step_sizes: Tensor
    gradient_norms: Tensor | None = None
    targets: Tensor | None = None


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
    run = _Run(loss, model, parameters, step_size, inner_steps, mirror_map, coordinates)
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
    run = _Run(loss, model, parameters, step_size, inner_steps, mirror_map, coordinates)
    run.set_inner_step(inner_step, None)
    book, norms, kept = _Book(run.batch, run.parameters), [], []
    current = run.parameters
    for t in range(rounds + 1):
        anchor, pull = model.linearize(current)
        gradient = loss._gradient(anchor)
        book.enter(t, loss._row_values(anchor).mean(-1))
        norms.append(squared_norm(pull(gradient), model).sqrt().expand(run.batch))
        if keep_targets:
            kept.append(anchor.expand(*run.batch, *anchor.shape[-2:]))
        if t < rounds:
            end = run.inner(model, current, gradient, run.step)
            current = end.parameters
            book.spend(run.step, end)
    record = book.close(current)
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
    run = _Run(
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
    book, current = _Book(run.batch, run.parameters), run.parameters
    book.enter(0, loss._row_values(model(current)).mean(-1))
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
        book.spend(step, end, tries)
        if t % every == 0 or t == len(batches):
            book.enter(t, loss._row_values(model(current)).mean(-1))
    return book.close(current)


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
        return self._by_name({k: v[0] for k, v in made.items()}), self._by_name(
            {k: v[1] for k, v in made.items()}
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
        return self._by_name(made)

    def _by_name(self, made: dict[str, Tensor]) -> Tensor:
        if len(made) == 1:
            return next(iter(made.values()))
        return torch.stack([made[name][i] for i, name in enumerate(self.names)])

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


def check_batches(batches: Tensor, model: Model) -> Tensor:
    """Refuse what are no rows of the model.

    Args:
        batches: what came.
        model: the model of all rows.

    Returns:
        ``batches`` itself.

    Raises:
        TypeError: not int64.
        ValueError: a wrong shape, or a row that does not exist.
    """
    if not isinstance(batches, Tensor) or batches.dtype != torch.int64:
        came = batches.dtype if isinstance(batches, Tensor) else type(batches).__name__
        raise TypeError(f"batches: expected an int64 tensor, got {came}")
    if batches.ndim < 2 or 0 in batches.shape:
        raise ValueError(f"batches: expected shape (T, ..., b), got {tuple(batches.shape)}")
    valid = (batches >= 0) & (batches < model.rows)
    require_values("batches", batches, valid, f"rows from 0 to {model.rows - 1}")
    return batches


class _Run:
    """Checked arguments of a run, broadcast to its configurations."""

    def __init__(
        self,
        loss: TargetLoss,
        model: Model,
        parameters: Tensor,
        step_size: float | Tensor,
        inner_steps: float | Tensor,
        mirror_map: MirrorMap | None,
        coordinates: Coordinates,
        batches: Tensor | None = None,
    ) -> None:
        require_tensor("parameters", parameters)
        if parameters.ndim < model.parameter_dims:
            raise ValueError(
                f"parameters: expected at least {model.parameter_dims} axes, "
                f"got {tuple(parameters.shape)}"
            )
        require_finite("parameters", parameters)
        if isinstance(model, LinearModel):
            require_same_kind("parameters", parameters, "features", model.features)
            if parameters.shape[-2] != model.features.shape[-1]:
                raise ValueError(
                    f"parameters: expected shape (..., {model.features.shape[-1]}, k), "
                    f"got {tuple(parameters.shape)}"
                )
        with torch.no_grad():
            targets = loss.check_targets("parameters (their targets)", model(parameters))
        check_geometry(mirror_map, coordinates)
        self.model, self.mirror_map, self.coordinates = model, mirror_map, coordinates
        self.step = positive_tensor("step_size", step_size, parameters)
        self.inner_steps = steps_tensor(inner_steps, parameters)
        self._given_steps = inner_steps
        shapes = [loss._row_values(targets).shape[:-1], self.step.shape, self.inner_steps.shape]
        if batches is not None:
            shapes.append(batches.shape[1:-1])
        try:
            self.batch = tuple(torch.broadcast_shapes(*shapes))
        except RuntimeError:
            raise ValueError(
                "parameters: expected leading axes that broadcast with those of the data, the "
                f"step sizes, the inner steps and the batches, got {[tuple(s) for s in shapes]}"
            ) from None
        trailing = parameters.shape[parameters.ndim - model.parameter_dims :]
        self.parameters = parameters.detach().expand(*self.batch, *trailing)

    def all_steps(self) -> list[float]:
        """Every number of inner steps that is asked for; [1] where values are not known."""
        if not isinstance(self._given_steps, Tensor):
            return [float(self._given_steps)]
        known = values_known(self.inner_steps)
        return self.inner_steps.flatten().tolist() if known else [1.0]

    def set_inner_step(
        self, inner_step: float | Tensor | Armijo | None, batches: Tensor | None
    ) -> None:
        linear = self.model if isinstance(self.model, LinearModel) else None
        if isinstance(inner_step, Armijo):
            self.inner_step: Tensor | Armijo = inner_step
        elif inner_step is not None:
            self.inner_step = positive_tensor("inner_step", inner_step, self.parameters)
        elif linear is None:
            raise ValueError("inner_step: expected a number or Armijo() for this model, got None")
        else:
            squared = linear.lipschitz if batches is None else linear.row_bound
            self.inner_step = 1 / torch.where(squared > 0, squared, 1.0)
        fixed = isinstance(self.inner_step, Tensor)
        self.closed_form = linear is not None and self.mirror_map is None and fixed
        if math.inf in self.all_steps() and not self.closed_form:
            raise ValueError(
                "inner_steps: expected a finite number unless the model is linear, without a map "
                "and with a fixed inner step, got inf"
            )
        self._longest = 1 if self.closed_form else int(max(self.all_steps()))

    def inner(
        self,
        model: Model,
        parameters: Tensor,
        gradient: Tensor,
        step: Tensor,
        weights: Tensor | None = None,
        index: Tensor | None = None,
    ) -> InnerLoop:
        """The inner loop of a round, in closed form where there is one."""
        inner_step = self.inner_step
        if isinstance(model, LinearModel) and self.closed_form and weights is None:
            assert isinstance(inner_step, Tensor)
            return descend_linear(
                model, parameters, gradient, step, inner_step, self.inner_steps, index
            )
        if weights is not None and isinstance(inner_step, Tensor):
            # The weighted surrogate is smoother by the largest weight of the batch.
            inner_step = inner_step / weights.amax((-1, -2))
        longest = int(max(self.all_steps()))
        return descend(
            model, parameters, gradient, step, inner_step, self.inner_steps, longest,
            self.mirror_map, self.coordinates, weights,
        )  # fmt: skip


class _Book:
    """What a run costs and reaches."""

    def __init__(self, batch: tuple[int, ...], like: Tensor) -> None:
        self.batch, self.like = batch, like
        self.spent = {
            name: like.new_zeros(batch)
            for name in ("oracle_calls", "loss_values", "products", "values")
        }
        self.entries: dict[str, list[Tensor]] = {name: [] for name in ("losses", *self.spent)}
        self.rounds: list[int] = []
        self.steps: list[Tensor] = []
        self.step: Tensor | None = None

    def spend(self, step: Tensor, end: InnerLoop, loss_values: Tensor | None = None) -> None:
        self.step = step.expand(self.batch)
        costs: dict[str, float | Tensor] = {
            "oracle_calls": 1.0,
            "products": end.products,
            "values": end.values,
        }
        if loss_values is not None:
            costs["loss_values"] = loss_values
        self.spent = {name: spent + costs.get(name, 0.0) for name, spent in self.spent.items()}

    def enter(self, rounds: int, loss: Tensor) -> None:
        self.rounds.append(rounds)
        self.entries["losses"].append(loss.detach().expand(self.batch))
        for name, spent in self.spent.items():
            self.entries[name].append(spent)
        if self.step is not None:
            self.steps.append(self.step)

    def close(self, parameters: Tensor) -> TargetRecord:
        return TargetRecord(
            rounds=torch.tensor(self.rounds, device=self.like.device),
            parameters=parameters,
            step_sizes=torch.stack(self.steps),
            **{name: torch.stack(entry) for name, entry in self.entries.items()},
        )
