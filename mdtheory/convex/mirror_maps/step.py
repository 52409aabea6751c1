"""The one update of the book: a mirror step is linear in the dual."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_same_kind, require_scale, require_tensor, require_values
from mdtheory.convex.mirror_maps.base import MirrorMap, require_event
from mdtheory.convex.mirror_maps.exact import differentiated


def dual_step(
    dual: Tensor,
    gradient: Tensor,
    step_size: float | Tensor,
    magnet: Tensor | None = None,
    magnet_weight: float | Tensor = 0.0,
) -> Tensor:
    r"""One mirror step in dual coordinates, the same for every geometry; unchecked.

    Equation ``eq-dual-step``: with :math:`b = 1 / (1/\eta + w)` and :math:`a = w b`,
    :math:`\theta' = (1 - a)\,\theta + a\,\zeta - b\,g`. It is the kernel of every algorithm of the
    book; :func:`mirror_step` is the door at which arguments are checked.

    Args:
        dual: where the step starts, :math:`\theta`.
        gradient: :math:`g`.
        step_size: :math:`\eta > 0`, a number, or a tensor that broadcasts with ``dual`` (so with
            its trailing axes); infinite is allowed where ``magnet_weight`` is positive.
        magnet: dual of the magnet, :math:`\zeta`; needed where ``magnet_weight`` is positive.
        magnet_weight: :math:`w \ge 0`, shaped like ``step_size``.

    Returns:
        The next dual :math:`\theta'`, of the broadcast shape.

    Source:
        Beck and Teboulle (2003) for the plain step; Sokota et al. (2023) for the magnet.
    """
    if magnet is None:
        return dual - step_size * gradient
    b = 1 / (1 / step_size + magnet_weight)
    # 1 - a, written so that it stays exact where a is close to 1.
    kept = _positive(1 / (1 + magnet_weight * step_size), step_size, dual)
    return scaled(kept, dual) + scaled(magnet_weight * b, magnet) - b * gradient


def mirror_step(
    mirror_map: MirrorMap,
    point: Tensor,
    gradient: Tensor,
    step_size: float | Tensor,
    magnet: Tensor | None = None,
    magnet_weight: float | Tensor = 0.0,
) -> Tensor:
    r"""One mirror step from point to point.

    Equation ``eq-mirror-step``: the minimiser over the domain of
    :math:`\langle g, x\rangle + w\,D_\psi(x, z) + D_\psi(x, x_t) / \eta`.

    Args:
        mirror_map: the geometry.
        point: where the step starts, :math:`x_t`, shape ``(..., d)`` or ``(..., d, d)``.
        gradient: :math:`g`, of a shape that broadcasts with ``point``.
        step_size: :math:`\eta > 0`, a number or a tensor with the batch shape of ``point``
            (no trailing axis); infinite is allowed where ``magnet_weight`` is positive.
        magnet: the magnet :math:`z`, a point; needed where ``magnet_weight`` is positive.
        magnet_weight: :math:`w \ge 0`, shaped like ``step_size``.

    Returns:
        The next point.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: a wrong shape, a NaN, a point outside the domain, a step size or a weight out
            of range, or no finite step exists.

    Source:
        Beck and Teboulle (2003) for the plain step; Sokota et al. (2023) for the magnet.
    """
    if not isinstance(mirror_map, MirrorMap):
        raise TypeError(f"mirror_map: expected a MirrorMap, got {mirror_map!r}")
    mirror_map.check_point("point", point)
    mirror_map.check_gradient("gradient", gradient)
    magnet_dual = None
    if magnet is not None:
        mirror_map.check_point("magnet", magnet)
        magnet_dual = mirror_map._step_dual(magnet)
    _check_duals(point, gradient, magnet, mirror_map.event_dims, "point")
    step, weight = step_and_weight(step_size, magnet_weight, point, magnet, mirror_map.event_dims)
    dual = dual_step(mirror_map._step_dual(point), gradient, step, magnet_dual, weight)
    try:
        return mirror_map.check_result("dual", mirror_map._to_primal(dual))
    except ValueError as error:
        raise ValueError(
            "step_size: expected a step that ends at a point of the domain, "
            f"got {step_size!r} ({error})"
        ) from error


def step_and_weight(
    step_size: float | Tensor,
    magnet_weight: float | Tensor,
    dual: Tensor,
    magnet: Tensor | None,
    event_dims: int,
) -> tuple[float | Tensor, float | Tensor]:
    """Check a step size and a weight, and give tensors the trailing axes of a point.

    Args:
        step_size: as in :func:`mirror_step`.
        magnet_weight: as in :func:`mirror_step`.
        dual: the tensor that they will meet.
        magnet: the magnet, or ``None``.
        event_dims: trailing axes of one dual, 1 or 2.

    Returns:
        Step and weight, numbers or tensors that broadcast with ``dual``.

    Raises:
        TypeError: neither a number nor a tensor of the dtype of ``dual``.
        ValueError: out of range, of a wrong shape, or a weight without a magnet.
    """
    step = _per_point("step_size", step_size, dual, event_dims)
    weight = _per_point("magnet_weight", magnet_weight, dual, event_dims)
    if magnet is None and (isinstance(weight, Tensor) or weight > 0):
        raise ValueError("magnet: expected a magnet where magnet_weight is given, got None")
    if isinstance(step, Tensor):
        valid = (step > 0) & (step.isfinite() | (weight > 0))
        require_values("step_size", step, valid, "steps > 0, infinite only under a magnet")
    elif step == 0:
        raise ValueError("step_size: expected a step > 0, got 0")
    elif step == math.inf:
        reach = weight if isinstance(weight, Tensor) else dual.new_full((), weight)
        require_values("step_size", reach, reach > 0, "a finite step where magnet_weight is 0")
    return step, weight


def _per_point(name: str, value: float | Tensor, dual: Tensor, event_dims: int) -> float | Tensor:
    value = require_scale(name, value, dual, infinite=name == "step_size")
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    trailing = dual.ndim - value.ndim
    fits = trailing == event_dims and all(
        mine in (1, its) or its == 1
        for mine, its in zip(value.shape, dual.shape[: value.ndim], strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name}: expected a number or the batch shape of a point {tuple(dual.shape)}, "
            f"got {tuple(value.shape)}"
        )
    return value.reshape(value.shape + (1,) * trailing)


def _check_duals(
    dual: Tensor,
    gradient: Tensor,
    magnet: Tensor | None,
    event_dims: int,
    name: str,
) -> None:
    require_tensor(name, dual, event_dims)
    others = {"gradient": gradient} if magnet is None else {"gradient": gradient, "magnet": magnet}
    for other_name, other in others.items():
        require_tensor(other_name, other, event_dims)
        require_same_kind(other_name, other, name, dual)
        require_event(other_name, other, name, dual, event_dims)


def scaled(factor: float | Tensor, dual: Tensor) -> Tensor:
    """``factor * dual``, where a factor of 0 takes away even an infinite dual.

    Args:
        factor: at least 0, a number or a tensor that broadcasts with ``dual``.
        dual: finite entries, or infinite ones.

    Returns:
        Of the broadcast shape. An infinite entry has no slope in the factor.
    """
    if not isinstance(factor, Tensor):
        return factor * dual if factor else torch.zeros_like(dual)
    if not differentiated(factor):
        return torch.where(factor == 0, 0.0, factor * dual)
    endless = dual.isinf()
    product = factor * torch.where(endless, 0.0, dual)
    return torch.where(endless & (factor > 0), dual, product)


def _positive(kept: float | Tensor, step_size: float | Tensor, dual: Tensor) -> float | Tensor:
    """What is kept of a dual, above 0 for a finite step: what has no weight stays without."""
    least = torch.finfo(dual.dtype).tiny
    if not isinstance(kept, Tensor):  # then the step is a number, too
        return max(kept, least) if step_size < math.inf else kept
    if isinstance(step_size, Tensor):
        return torch.where(step_size < math.inf, kept.clamp(min=least), kept)
    return kept.clamp(min=least) if step_size < math.inf else kept
