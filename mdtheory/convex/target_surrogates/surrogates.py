"""The surrogate in the target space, its half step and the exact minimiser."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mdtheory.checks import require_scale
from mdtheory.convex.mirror_maps import MirrorMap, dual_step, mirror_step
from mdtheory.convex.online_learning.learners import number_like
from mdtheory.convex.target_surrogates.losses import TargetLoss
from mdtheory.convex.target_surrogates.models import LinearModel

Coordinates = Literal["primal", "dual"]


def surrogate(
    loss: TargetLoss,
    targets: Tensor,
    anchor: Tensor,
    step_size: float | Tensor,
    mirror_map: MirrorMap | None = None,
    *,
    coordinates: Coordinates = "primal",
) -> Tensor:
    r"""The surrogate :math:`\ell(z_t)+\langle\nabla\ell(z_t), z-z_t\rangle+\frac1\eta D(z, z_t)`.

    Equation ``eq-surrogate``; ``thm-majorisation`` says when it lies above the loss. The anchor
    and its gradient are constants: autograd goes through ``targets`` alone.

    Args:
        loss: the loss :math:`\ell`.
        targets: :math:`z = f(\omega)`, shape ``(..., n, k)``.
        anchor: :math:`z_t = f(\omega_t)`, a shape that broadcasts with ``targets``.
        step_size: :math:`\eta > 0`, a number or a tensor that broadcasts with the leading axes.
        mirror_map: geometry of a row; without one D is half the squared Euclidean distance.
        coordinates: whether rows are points of the map, with the divergence of its potential
            (``"primal"``), or duals, with the divergence of its conjugate (``"dual"``: logits).

    Returns:
        Values of shape ``(...)``.

    Raises:
        TypeError: an argument of a wrong type or dtype.
        ValueError: a wrong shape, a step size that is not positive and finite, or a row outside
            the domain of the map.

    Source:
        Lavington, Vaswani, Babanezhad, Schmidt and Le Roux (2023).
    """
    loss.check_targets("targets", targets)
    loss.check_targets("anchor", anchor)
    step = positive_tensor("step_size", step_size, targets)
    check_geometry(mirror_map, coordinates)
    if mirror_map is not None and coordinates == "primal":
        mirror_map.check_point("targets", targets, border=True)
        mirror_map.check_point("anchor", anchor)
    anchor = anchor.detach()
    gradient = loss._gradient(anchor).detach()
    change = surrogate_change(targets, anchor, gradient, step, mirror_map, coordinates)
    return loss._row_values(anchor).mean(-1).detach() + change


def half_step(
    loss: TargetLoss,
    anchor: Tensor,
    step_size: float | Tensor,
    mirror_map: MirrorMap | None = None,
) -> Tensor:
    r"""The step of the targets alone, :math:`z_{t+1/2}`: one mirror step in every row.

    Equation ``eq-half-step``; ``prop-completed-square`` says what it is for.

    Args:
        loss: the loss.
        anchor: :math:`z_t`, shape ``(..., n, k)``; with a map, rows are points of its domain.
        step_size: as in :func:`surrogate`.
        mirror_map: geometry of a row, Euclidean without one.

    Returns:
        Targets, shape of ``anchor``.

    Raises:
        TypeError: as :func:`surrogate`.
        ValueError: as :func:`surrogate`, or no finite step exists.
    """
    loss.check_targets("anchor", anchor)
    step = positive_tensor("step_size", step_size, anchor)
    gradient = loss._gradient(anchor)
    if mirror_map is None:
        return dual_step(anchor, gradient, step[..., None, None])
    check_geometry(mirror_map, "primal")
    batch = torch.broadcast_shapes(gradient.shape[:-2], step.shape)
    wide = anchor.expand(*batch, *anchor.shape[-2:])
    return mirror_step(mirror_map, wide, gradient, step.expand(batch)[..., None])


def exact_projection(
    loss: TargetLoss, model: LinearModel, parameters: Tensor, step_size: float | Tensor
) -> Tensor:
    r"""The exact minimiser of the surrogate of a linear model: :math:`X^+ z_{t+1/2}`.

    ``prop-completed-square``: the parameters (of least norm) whose targets are nearest to the
    half step.

    Args:
        loss: the loss.
        model: the linear model.
        parameters: :math:`\omega_t`, shape ``(..., d, k)``.
        step_size: as in :func:`surrogate`.

    Returns:
        Parameters, shape ``(..., d, k)``.

    Raises:
        TypeError: as :func:`surrogate`, or the model is not linear.
        ValueError: as :func:`surrogate`.
    """
    if not isinstance(model, LinearModel):
        raise TypeError(f"model: expected a LinearModel, got {type(model).__name__}")
    return model.project(half_step(loss, model(parameters), step_size))


def surrogate_change(
    targets: Tensor,
    anchor: Tensor,
    gradient: Tensor,
    step: Tensor,
    mirror_map: MirrorMap | None = None,
    coordinates: Coordinates = "primal",
    weights: Tensor | None = None,
) -> Tensor:
    r"""Surrogate less its value at the anchor, unchecked, for inner loops.

    Args:
        targets: shape ``(..., n, k)``.
        anchor: shape ``(..., n, k)``.
        gradient: row gradients at the anchor.
        step: a tensor that broadcasts with the leading axes.
        mirror_map: as in :func:`surrogate`.
        coordinates: as in :func:`surrogate`.
        weights: weights of the squares, shape of the targets; Euclidean only.

    Returns:
        Values of shape ``(...)``.
    """
    moved = _difference(targets, anchor)
    linear = (gradient * moved).sum(-1)
    if mirror_map is None:
        square = moved.square() if weights is None else weights * moved.square()
        distance = square.sum(-1) / 2
    elif coordinates == "primal":
        distance = mirror_map._divergence(targets, anchor)
    else:
        slope = (mirror_map._to_primal(anchor) * moved).sum(-1)
        distance = mirror_map._conjugate(targets) - mirror_map._conjugate(anchor) - slope
    return (linear + distance / step[..., None]).mean(-1)


def surrogate_slope(
    targets: Tensor,
    anchor: Tensor,
    gradient: Tensor,
    step: Tensor,
    mirror_map: MirrorMap | None = None,
    coordinates: Coordinates = "primal",
    weights: Tensor | None = None,
) -> Tensor:
    r"""Row gradients of the surrogate in the targets; arguments of :func:`surrogate_change`.

    The arguments are those of :func:`surrogate_change`.

    Returns:
        Row gradients, shape of the targets.
    """
    if mirror_map is None:
        moved = _difference(targets, anchor)
        moved = moved if weights is None else weights * moved
    elif coordinates == "primal":
        moved = mirror_map._step_dual(targets) - mirror_map._step_dual(anchor)
    else:
        moved = mirror_map._to_primal(targets) - mirror_map._to_primal(anchor)
    return gradient + moved / step[..., None, None]


def _difference(targets: Tensor, anchor: Tensor) -> Tensor:
    """``targets - anchor``, and 0 where both are the same infinity: logits of a masked class."""
    same = targets.isinf() & (targets == anchor)
    return torch.where(same, 0.0, targets) - torch.where(same, 0.0, anchor)


def check_geometry(mirror_map: MirrorMap | None, coordinates: str) -> None:
    """Refuse what is no geometry of rows.

    Args:
        mirror_map: a map of vectors, or ``None``.
        coordinates: ``"primal"`` or ``"dual"``.

    Raises:
        TypeError: no mirror map.
        ValueError: a map of matrices, or unknown coordinates.
    """
    if mirror_map is not None and not isinstance(mirror_map, MirrorMap):
        raise TypeError(f"mirror_map: expected a MirrorMap or None, got {mirror_map!r}")
    if mirror_map is not None and mirror_map.event_dims != 1:
        raise ValueError(f"mirror_map: expected a map of vectors, got {mirror_map!r}")
    if coordinates not in get_args(Coordinates):
        raise ValueError(
            f"coordinates: expected one of {get_args(Coordinates)}, got {coordinates!r}"
        )


def positive_tensor(name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """A positive finite number or tensor, as a tensor beside ``like``.

    Args:
        name: the argument's name, for the message.
        value: what came.
        like: gives dtype and device.

    Returns:
        The tensor.

    Raises:
        TypeError: neither a number nor a tensor of that dtype.
        ValueError: not positive or not finite.
    """
    return number_like(require_scale(name, value, like, strict=True), like)
