"""The best fixed point of a stream of smooth convex losses, certified; all plays at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.convex.mirror_maps import Ball, Box, Domain, Simplex

# What a total may exceed the least one by, relative to what the losses vary by.
GAP = 1e-10
OUTER, INNER, FALL = 60, 200, 0.2
# Newton's decrement, relative to the barrier's weight, from which a point is on the path.
CENTRED = 1e-4
Terms = Callable[[Tensor], tuple[Tensor, Tensor]]


class _Frame(NamedTuple):
    """A domain in units of its own: points are ``centre + size * y``."""

    centre: Tensor
    size: Tensor
    start: Tensor
    simplex: bool
    round_: bool


def best_of_linear_forms(forms: Tensor, terms: Terms, domain: Domain) -> Tensor:
    r"""Minimiser over a domain of :math:`\sum_t \varphi(\langle a_t, x\rangle)`, by a barrier.

    Newton's method follows the minimisers of the sum plus a shrinking barrier of the domain. The
    answer is certified: a convex function exceeds its minimum by at most
    :math:`\max_u \langle g, x - u\rangle`, which must be below ``GAP`` times
    :math:`\sum_t|\varphi'_t| \max_{u,v}\langle a_t, u - v\rangle` at most. So it does not depend
    on the units of the forms or of the domain.

    Args:
        forms: :math:`a_t`, shape ``(T, ..., d)``.
        terms: from :math:`\langle a_t, x\rangle`, shape ``(T, ...)``, to
            :math:`\varphi'` and :math:`\varphi''` there.
        domain: a ``Ball``, a ``Box`` or the ``Simplex``.

    Returns:
        Points, shape ``(..., d)``, of the dtype of the forms; a constant for autograd.

    Raises:
        TypeError: another domain.
        ArithmeticError: the best point is not certified.
    """
    double = forms.detach().double()
    with torch.no_grad():
        frame = _frame(domain, double[0])
        # In the frame's units a form is a number for its centre and a vector.
        shifts, rows = (double * frame.centre).sum(-1), double * frame.size
        y, gap, most = _follow(shifts, rows, terms, frame)
        if not bool((gap <= GAP * most).all()):
            worst = (gap / most).flatten().argmax()
            raise ArithmeticError(
                f"plays: expected a loss within {GAP * most.flatten()[worst]:.1e} of the least, "
                f"got one within {gap.flatten()[worst]:.1e}"
            )
        return domain._project((frame.centre + frame.size * y).to(forms.dtype))


def _follow(
    shifts: Tensor, rows: Tensor, terms: Terms, frame: _Frame
) -> tuple[Tensor, Tensor, Tensor]:
    """The point with the smallest certified gap on the path of the barrier."""
    y = frame.start.expand(rows.shape[1:])
    scale = _gradient(terms(shifts + (rows * y).sum(-1))[0], rows).abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    best, least, most = y, torch.full_like(scale[..., 0], torch.inf), torch.ones_like(scale[..., 0])
    weight = 1.0
    for _ in range(OUTER):
        for _ in range(INNER):
            y, moved = _newton(y, weight, scale, shifts, rows, terms, frame)
            if not bool(moved.any()):
                break
        slopes = terms(shifts + (rows * y).sum(-1))[0]
        gradient = _gradient(slopes, rows)
        gap, reach = _gap(gradient, y, rows, frame)
        better = gap < least
        best, least = torch.where(better[..., None], y, best), torch.where(better, gap, least)
        most = torch.where(better, (slopes.abs() * reach).sum(0), most)
        if bool((least <= GAP * most / 4).all()):
            break
        weight = weight * FALL
    return best, least, most


def _newton(
    y: Tensor, weight: float, scale: Tensor, shifts: Tensor, rows: Tensor, terms: Terms,
    frame: _Frame,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One damped step on the sum over its scale plus the weighted barrier; whether it moved."""

    def slope_at(point: Tensor) -> Tensor:
        slopes = terms(shifts + (rows * point).sum(-1))[0]
        return _gradient(slopes, rows) / scale + weight * _barrier(point, frame)[1]

    slopes, bends = terms(shifts + (rows * y).sum(-1))
    _, slope, curvature = _barrier(y, frame)
    gradient = _gradient(slopes, rows) / scale + weight * slope
    bent = (rows.movedim(0, -1) * bends.movedim(0, -1)[..., None, :]) @ rows.movedim(0, -2)
    # In coordinates in which the barrier's curvature is about 1.
    stretch = curvature.diagonal(dim1=-2, dim2=-1).rsqrt()
    matrix = bent / scale[..., None] + weight * curvature
    matrix = stretch[..., :, None] * matrix * stretch[..., None, :]
    sides = torch.stack([-stretch * gradient, stretch], -1)
    solved = torch.linalg.solve_ex(matrix, sides).result
    move = solved[..., 0]
    if frame.simplex:
        pulled, spread = (stretch[..., None] * solved).sum(-2).unbind(-1)
        move = move - (pulled / spread)[..., None] * solved[..., 1]
    move = stretch * move
    promised = (gradient * move).sum(-1)
    # Values of a loss that is almost flat are alike to the last digit, slopes are not: a step is
    # as long as it goes downhill at its end.
    open_ = (promised < -CENTRED * weight) & move.isfinite().all(-1)
    length, after, moved = torch.ones_like(promised), y, torch.zeros_like(open_)
    for _ in range(60):
        trial = y + torch.where(open_, length, 0.0)[..., None] * move
        inside = _barrier(trial, frame)[0] > 0
        slope_there = (slope_at(torch.where(inside[..., None], trial, y)) * move).sum(-1)
        found = open_ & ~moved & inside & (slope_there <= -0.1 * promised)
        after, moved = torch.where(found[..., None], trial, after), moved | found
        if bool((moved | ~open_).all()):
            break
        length = length / 2
    return after, moved


def _gradient(slopes: Tensor, rows: Tensor) -> Tensor:
    return (slopes[..., None] * rows).sum(0)


def _barrier(y: Tensor, frame: _Frame) -> tuple[Tensor, Tensor, Tensor]:
    """Room left, which is positive inside, and gradient and Hessian of minus its logarithms."""
    if frame.simplex:
        return y.amin(-1), -1 / y, torch.diag_embed(1 / (y * y))
    if frame.round_:
        room = (1 - (y * y).sum(-1))[..., None]
        eye = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
        outer = 4 * y[..., :, None] * y[..., None, :] / room[..., None] ** 2
        return room[..., 0], 2 * y / room, 2 * eye / room[..., None] + outer
    below, above = 1 + y, 1 - y
    room = torch.minimum(below, above).amin(-1)
    return room, 1 / above - 1 / below, torch.diag_embed(1 / below**2 + 1 / above**2)


def _gap(gradient: Tensor, y: Tensor, rows: Tensor, frame: _Frame) -> tuple[Tensor, Tensor]:
    """The certificate, and how far every form reaches over the domain."""
    if frame.simplex:
        lowest = gradient.amin(-1)
        return ((gradient - lowest[..., None]) * y).sum(-1), rows.amax(-1) - rows.amin(-1)
    if frame.round_:
        length = torch.linalg.vector_norm(gradient, dim=-1)
        return length + (gradient * y).sum(-1), 2 * torch.linalg.vector_norm(rows, dim=-1)
    return (gradient.abs() + gradient * y).sum(-1), 2 * rows.abs().sum(-1)


def _frame(domain: Domain, like: Tensor) -> _Frame:
    zero, one = torch.zeros_like(like), torch.ones_like(like)
    if isinstance(domain, Simplex):
        return _Frame(zero, one, one / like.shape[-1], True, False)
    if isinstance(domain, Ball):
        return _Frame(zero, domain.radius * one, zero, False, True)
    if isinstance(domain, Box):
        low, high = (bound.to(like.device).expand_as(like) for bound in domain._as_double())
        return _Frame(low + (high - low) / 2, (high - low) / 2, zero, False, False)
    raise TypeError(f"domain: expected a Ball, Box or Simplex, got {domain!r}")
