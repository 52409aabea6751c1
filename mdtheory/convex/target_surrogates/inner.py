"""The inner loop: steps on the surrogate that ask the model and never the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, values_known
from mdtheory.convex.mirror_maps import MirrorMap
from mdtheory.convex.target_surrogates.losses import take_rows
from mdtheory.convex.target_surrogates.models import LinearModel, Model
from mdtheory.convex.target_surrogates.surrogates import (
    Coordinates,
    surrogate_change,
    surrogate_slope,
)


@dataclass(frozen=True)
class Armijo:
    r"""Backtracking: the first step that lowers the surrogate by a part of what its slope promises.

    Steps are in units of :math:`\eta`. An inner loop starts at ``start`` and tries ``growth``
    times its last step next. Where no try is accepted, the parameters stay.

    Args:
        start: first step tried.
        slope: part of the promised decrease that is asked for, in (0, 1).
        shrink: factor from try to try, in (0, 1).
        growth: factor from one inner step to the next, at least 1.
        tries: most tries of one inner step.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument out of range.

    Source:
        Armijo (1966).
    """

    start: float = 10.0
    slope: float = 0.5
    shrink: float = 0.7
    growth: float = 1.8
    tries: int = 60

    def __post_init__(self) -> None:
        require_number("start", self.start, 0.0, strict=True)
        for name in ("slope", "shrink"):
            value = getattr(self, name)
            if require_number(name, value, 0.0, strict=True) >= 1:
                raise ValueError(f"{name}: expected a number in (0, 1), got {value!r}")
        require_number("growth", self.growth, 1.0)
        require_count("tries", self.tries)


class InnerLoop(NamedTuple):
    """Where an inner loop ended, and what it cost in each instance.

    Attributes:
        parameters: shape of the parameters it began with.
        products: products with the transposed Jacobian, shape ``(...)``.
        values: evaluations of the model beside them, shape ``(...)``.
    """

    parameters: Tensor
    products: Tensor
    values: Tensor


def descend(
    model: Model,
    parameters: Tensor,
    gradient: Tensor,
    step: Tensor,
    inner_step: Tensor | Armijo,
    inner_steps: Tensor,
    longest: int,
    mirror_map: MirrorMap | None = None,
    coordinates: Coordinates = "primal",
    weights: Tensor | None = None,
) -> InnerLoop:
    r"""Gradient descent on the surrogate, for any model; unchecked.

    Equation ``eq-inner-step``: :math:`\omega \leftarrow \omega - \alpha\,J^*[\nabla\ell(z_t) +
    (\nabla\varphi(f(\omega)) - \nabla\varphi(z_t))/\eta]`. The gradient of the loss came before
    the loop and is not asked for again.

    Args:
        model: the model on the rows of the batch.
        parameters: :math:`\omega_t`, with all leading axes of the result.
        gradient: row gradients :math:`\nabla\ell(z_t)`.
        step: :math:`\eta`, broadcasts with the leading axes.
        inner_step: :math:`\alpha/\eta`, or a line search.
        inner_steps: :math:`m`, finite; an instance whose number is reached stays.
        longest: the largest of them.
        mirror_map: as in :func:`surrogate`.
        coordinates: as in :func:`surrogate`.
        weights: as in :func:`surrogate_change`.

    Returns:
        The parameters and the cost.
    """
    anchor, pull = model.linearize(parameters)
    geometry = (anchor, gradient, step, mirror_map, coordinates, weights)
    batch = parameters.shape[: parameters.ndim - model.parameter_dims]
    values = parameters.new_zeros(batch)
    if isinstance(inner_step, Armijo):
        trial = parameters.new_full(batch, inner_step.start)
        search = partial(_backtrack, model, inner_step, geometry)
    targets = anchor
    for j in range(longest):
        if j:
            targets, pull = model.linearize(parameters)
        slope = pull(surrogate_slope(targets, *geometry))
        active = (inner_steps > j).expand(batch)
        if isinstance(inner_step, Armijo):
            base = surrogate_change(targets, *geometry)
            found = search(parameters, slope, base, trial, active)
            parameters, trial, tries = found
            values = values + tries
        else:
            move = over_parameters(inner_step * step, model) * slope
            active = over_parameters(active, model)
            parameters = torch.where(active, parameters - move, parameters)
    return InnerLoop(parameters, inner_steps.expand(batch), values)


def descend_linear(
    model: LinearModel,
    parameters: Tensor,
    gradient: Tensor,
    step: Tensor,
    inner_step: Tensor,
    inner_steps: Tensor,
    index: Tensor | None = None,
) -> InnerLoop:
    r"""The same for a linear model in closed form: ``prop-inner-steps``; unchecked.

    After :math:`m` inner steps the parameters have moved by :math:`-\eta\,\varphi_m(X^\top X/n)
    \nabla h(\omega_t)` with :math:`\varphi_m(s) = (1 - (1 - as)^m)/s`, :math:`a = \alpha/\eta`.

    Args:
        model: the linear model whose rows are in the proximity term.
        parameters: :math:`\omega_t`, shape ``(..., d, k)``.
        gradient: row gradients.
        step: :math:`\eta`.
        inner_step: :math:`a = \alpha/\eta`.
        inner_steps: :math:`m`, also infinite.
        index: the rows of ``model`` that the gradient belongs to, shape ``(..., b)``; all rows
            without it.

    Returns:
        The parameters and the cost; infinitely many steps count as one solve, one product.
    """
    left, size, right = model.spectrum
    if index is not None:
        left = take_rows(left, index) * (model.rows / index.shape[-1])
    a, m = inner_step[..., None], inner_steps[..., None]
    x = a * size.square()
    # expm1 and log1p keep the digits of a small x, the power the sign of 1 - x below 0.
    part = torch.where(
        x < 0.5,
        -torch.expm1(m * torch.log1p(-x.clamp(max=0.5))),
        1 - torch.pow(1 - x, m),
    )
    part = torch.where(m.isinf(), 1.0, part)
    gain = torch.where(size > 0, part / size, 0.0)
    move = right @ (gain[..., None] * (left.mT @ gradient)) / model.rows**0.5
    moved = parameters - step[..., None, None] * move
    batch = moved.shape[:-2]
    products = torch.where(inner_steps.isinf(), 1.0, inner_steps).expand(batch)
    return InnerLoop(moved, products, products.new_zeros(batch))


def over_parameters(value: Tensor, model: Model) -> Tensor:
    """A tensor of the batch with the trailing axes of parameters.

    Args:
        value: shape ``(...)``.
        model: the model.

    Returns:
        Shape ``(..., 1)`` or ``(..., 1, 1)``.
    """
    return value.reshape(value.shape + (1,) * model.parameter_dims)


def squared_norm(parameters: Tensor, model: Model) -> Tensor:
    """Sum of the squares of parameters.

    Args:
        parameters: leading axes are instances.
        model: the model.

    Returns:
        Shape ``(...)``.
    """
    return parameters.square().sum(tuple(range(-model.parameter_dims, 0)))


def _backtrack(
    model: Model,
    rule: Armijo,
    geometry: tuple[Tensor, Tensor, Tensor, MirrorMap | None, Coordinates, Tensor | None],
    parameters: Tensor,
    slope: Tensor,
    base: Tensor,
    trial: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    step, promised = geometry[2], squared_norm(slope, model)
    searching, tries, moved = active, torch.zeros_like(base), parameters
    for _ in range(rule.tries):
        length = trial * step
        candidate = parameters - over_parameters(length, model) * slope
        value = surrogate_change(model(candidate), *geometry)
        tries = tries + searching
        # A value that is not finite fails the comparison.
        found = searching & (value <= base - rule.slope * length * promised)
        moved = torch.where(over_parameters(found, model), candidate, moved)
        searching = searching & ~found
        if values_known(value) and not bool(searching.any()):
            break
        trial = torch.where(searching, rule.shrink * trial, trial)
    return moved, rule.growth * trial, tries


def steps_tensor(inner_steps: float | Tensor, like: Tensor) -> Tensor:
    """Numbers of inner steps as a tensor beside ``like``.

    Args:
        inner_steps: a whole number, ``math.inf``, or a tensor of such.
        like: gives dtype and device.

    Returns:
        The tensor, of the dtype of ``like``.

    Raises:
        TypeError: neither a number nor a tensor.
        ValueError: not whole, or below 1.
    """
    if not isinstance(inner_steps, Tensor):
        if not isinstance(inner_steps, Real) or inner_steps != math.inf:
            require_count("inner_steps", inner_steps)  # type: ignore[arg-type]
        return like.new_full((), float(inner_steps))
    number = inner_steps.to(like.dtype)
    if values_known(number) and not bool(((number >= 1) & (number == number.floor())).all()):
        raise ValueError(f"inner_steps: expected whole numbers >= 1 or inf, got {inner_steps!r}")
    return number
