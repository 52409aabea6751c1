"""What the outer loops share: checked arguments, the choice of inner loop, the account."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_finite,
    require_integers,
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
    steps_tensor,
)
from mdtheory.convex.target_surrogates.losses import TargetLoss
from mdtheory.convex.target_surrogates.models import LinearModel, Model
from mdtheory.convex.target_surrogates.surrogates import (
    Coordinates,
    check_geometry,
    positive_tensor,
)


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
    require_integers("batches", batches)
    if batches.ndim < 2 or 0 in batches.shape:
        raise ValueError(f"batches: expected shape (T, ..., b), got {tuple(batches.shape)}")
    valid = (batches >= 0) & (batches < model.rows)
    require_values("batches", batches, valid, f"rows from 0 to {model.rows - 1}")
    return batches


class Run:
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
        self.batch: tuple[int, ...] = ()
        self.parameters = parameters.detach()
        self._widen(loss._row_values(targets).shape[:-1])
        self._widen(self.step.shape)
        self._widen(self.inner_steps.shape)
        if batches is not None:
            self._widen(batches.shape[1:-1])

    def _widen(self, shape: torch.Size) -> None:
        """Take the axes of one more argument among those of the configurations."""
        try:
            self.batch = tuple(torch.broadcast_shapes(self.batch, shape))
        except RuntimeError:
            raise ValueError(
                "parameters: expected leading axes that broadcast with those of the data, the "
                "step sizes, the inner steps (number and size) and the batches, "
                f"got {tuple(shape)} after {self.batch}"
            ) from None
        trailing = self.parameters.shape[self.parameters.ndim - self.model.parameter_dims :]
        self.parameters = self.parameters.expand(*self.batch, *trailing)

    def all_steps(self) -> list[float]:
        """Every number of inner steps that is asked for; [1] where values are not known."""
        if not isinstance(self._given_steps, Tensor):
            return [float(self._given_steps)]
        known = values_known(self.inner_steps)
        return self.inner_steps.flatten().tolist() if known else [1.0]

    def set_inner_step(
        self, inner_step: float | Tensor | Armijo | None, batches: Tensor | None
    ) -> None:
        r"""Settle the inner step and with it the kind of inner loop.

        Args:
            inner_step: :math:`\alpha/\eta`, a line search, or ``None`` for the default.
            batches: the rows of all rounds, if there are batches.

        Raises:
            TypeError: a tensor of another dtype than the parameters.
            ValueError: not positive, no default for this model, or an infinite number of inner
                steps where the exact minimiser is not known.
        """
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
        if isinstance(self.inner_step, Tensor):
            self._widen(self.inner_step.shape)
        self.closed_form = linear is not None and self.mirror_map is None and fixed
        if math.inf in self.all_steps() and not self.closed_form:
            raise ValueError(
                "inner_steps: expected a finite number unless the model is linear, without a map "
                "and with a fixed inner step, got inf"
            )
        finite = [m for m in self.all_steps() if m != math.inf]
        self._longest = int(max(finite, default=1))

    def inner(
        self,
        model: Model,
        parameters: Tensor,
        gradient: Tensor,
        step: Tensor,
        weights: Tensor | None = None,
        index: Tensor | None = None,
    ) -> InnerLoop:
        r"""The inner loop of a round, in closed form where there is one.

        Args:
            model: the model of the round's rows.
            parameters: where it begins.
            gradient: row gradients of the loss.
            step: :math:`\eta` of the round.
            weights: as in :func:`surrogate_change`.
            index: as in :func:`descend_linear`.

        Returns:
            Where it ends, and its cost.
        """
        inner_step = self.inner_step
        if isinstance(model, LinearModel) and self.closed_form and weights is None:
            assert isinstance(inner_step, Tensor)
            return descend_linear(
                model, parameters, gradient, step, inner_step, self.inner_steps, index
            )
        if weights is not None and isinstance(inner_step, Tensor):
            # The weighted surrogate is smoother by the largest weight of the batch.
            inner_step = inner_step / weights.amax((-1, -2))
        return descend(
            model, parameters, gradient, step, inner_step, self.inner_steps, self._longest,
            self.mirror_map, self.coordinates, weights,
        )  # fmt: skip


class Account:
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
        """Note what a round cost.

        Args:
            step: the step size of the round.
            end: what its inner loop gave.
            loss_values: values of the loss that a search asked for.
        """
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
        """Make an entry of the record.

        Args:
            rounds: number of rounds made.
            loss: the full loss, shape ``(...)``.
        """
        self.rounds.append(rounds)
        self.entries["losses"].append(loss.detach().expand(self.batch))
        for name, spent in self.spent.items():
            self.entries[name].append(spent)
        if self.step is not None:
            self.steps.append(self.step)

    def close(self, parameters: Tensor) -> TargetRecord:
        """The record of all entries."""
        return TargetRecord(
            rounds=torch.stack(
                [self.like.new_full((), number, dtype=torch.int64) for number in self.rounds]
            ),
            parameters=parameters,
            step_sizes=torch.stack(self.steps),
            **{name: torch.stack(entry) for name, entry in self.entries.items()},
        )
