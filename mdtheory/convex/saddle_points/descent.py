"""Saddle problems: the duality gap, and three ways to take mirror steps in both variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_finite,
    require_same_kind,
    require_simplex,
    require_tensor,
)
from mdtheory.convex.mirror_maps import MirrorMap, dual_step
from mdtheory.convex.mirror_maps.step import step_and_weight

Pair = tuple[Tensor, Tensor]
# From a pair (x, y) to (grad_x f, -grad_y f).
Operator = Callable[[Tensor, Tensor], Pair]
Step = float | Tensor
ORDERS = ("simultaneous", "ascent_first")


class SaddleRecord(NamedTuple):
    r"""What a run leaves; each entry is a pair, of :math:`x` and of :math:`y`.

    Attributes:
        points: the points that are averaged, shape ``(steps, ..., d)``.
        average: their mean, shape ``(..., d)``.
        last: where the next step would start, likewise.
    """

    points: Pair
    average: Pair
    last: Pair


def duality_gap(payoff: Tensor, x: Tensor, y: Tensor) -> Tensor:
    r"""Duality gap of a matrix game, equation ``eq-duality-gap``.

    :math:`f(x, y) = x^\top A y`; **x minimises** over its simplex and y maximises over his.

    Args:
        payoff: :math:`A`, shape ``(..., n, m)``.
        x: probabilities, shape ``(..., n)``.
        y: probabilities, shape ``(..., m)``.

    Returns:
        :math:`\max_v f(x, v) - \min_u f(u, y)`, at least 0 up to rounding and 0 at saddle points
        alone; of the broadcast batch shape.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: shapes that do not fit, or no probabilities.
    """
    _require_payoff(payoff)
    for name, point, size in (("x", x, payoff.shape[-2]), ("y", y, payoff.shape[-1])):
        require_tensor(name, point)
        require_same_kind(name, point, "payoff", payoff)
        if point.shape[-1] != size:
            raise ValueError(f"{name}: expected shape (..., {size}), got {tuple(point.shape)}")
        require_simplex(name, point)
    try:
        torch.broadcast_shapes(payoff.shape[:-2], x.shape[:-1], y.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"x, y: expected batch shapes that broadcast with {tuple(payoff.shape[:-2])}, got "
            f"{tuple(x.shape[:-1])} and {tuple(y.shape[:-1])}"
        ) from None
    return (x[..., None, :] @ payoff)[..., 0, :].amax(-1) - (payoff @ y[..., None])[..., 0].amin(-1)


def matrix_operator(payoff: Tensor) -> Operator:
    r"""The operator :math:`(Ay, -A^\top x)` of a matrix game, equation ``eq-saddle-operator``.

    Args:
        payoff: :math:`A`, shape ``(..., n, m)``.

    Returns:
        A function of ``x`` and ``y`` of shapes ``(..., n)`` and ``(..., m)``.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: fewer than two axes, an empty one, a NaN or an infinity.
    """
    _require_payoff(payoff)

    def operator(x: Tensor, y: Tensor) -> Pair:
        return (payoff @ y[..., None])[..., 0], -(x[..., None, :] @ payoff)[..., 0, :]

    return operator


def saddle_mirror_descent(
    operator: Operator,
    maps: tuple[MirrorMap, MirrorMap],
    start: Pair,
    step_size: Step | tuple[Step, Step],
    steps: int,
    order: str = "simultaneous",
) -> SaddleRecord:
    r"""Mirror descent in :math:`x` and mirror ascent in :math:`y`, equation ``eq-saddle-descent``.

    Args:
        operator: from a pair to :math:`(\nabla_x f, -\nabla_y f)`, of the shapes of the pair.
        maps: the mirror maps of :math:`x` and of :math:`y`.
        start: the pair :math:`(x_1, y_1)`, shapes ``(..., d)`` and ``(..., e)``.
        step_size: :math:`\eta`, a number or a tensor of the batch's shape, or a pair of these.
        steps: :math:`T`.
        order: ``"simultaneous"``: both gradients at :math:`(x_t, y_t)`, which is averaged.
            ``"ascent_first"``: :math:`y` moves, then :math:`x` with the gradient at
            :math:`(x_t, y_{t+1})`, which is averaged; two calls of the operator a step.

    Returns:
        The record.

    Raises:
        TypeError: no mirror maps, no pair of tensors, or dtypes that differ.
        ValueError: a wrong shape or range, an unknown order, or iterates that overflow.

    Source:
        Nemirovski et al. (2009) for the averages.
    """
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {ORDERS}, got {order!r}")
    state = _State(operator, maps, start, step_size)

    def step(state: _State) -> Pair:
        x, y = state.point
        slope = state.operator(x, y)
        if order == "ascent_first":
            state.move(1, slope[1])
            y = state.point[1]
            state.move(0, state.operator(x, y)[0])
        else:
            state.move(1, slope[1])
            state.move(0, slope[0])
        return x, y

    return _run(state, step, steps)


def mirror_prox(
    operator: Operator,
    maps: tuple[MirrorMap, MirrorMap],
    start: Pair,
    step_size: Step | tuple[Step, Step],
    steps: int,
) -> SaddleRecord:
    r"""Mirror prox: look ahead, then move with the gradient found there, ``eq-saddle-prox``.

    Theorem ``thm-saddle-prox`` holds for steps up to :func:`largest_step`; two calls of the
    operator a step. The points that are averaged are the looks ahead.

    Args:
        operator: as in :func:`saddle_mirror_descent`.
        maps: as there.
        start: as there.
        step_size: as there.
        steps: :math:`T`.

    Returns:
        The record.

    Raises:
        TypeError: as there.
        ValueError: likewise.

    Source:
        Nemirovski (2004); Korpelevich (1976) in the Euclidean geometry.
    """

    def step(state: _State) -> Pair:
        ahead = state.ahead(state.operator(*state.point))
        for player, slope in enumerate(state.operator(*ahead)):
            state.move(player, slope)
        return ahead

    return _run(_State(operator, maps, start, step_size), step, steps)


def optimistic_mirror_prox(
    operator: Operator,
    maps: tuple[MirrorMap, MirrorMap],
    start: Pair,
    step_size: Step | tuple[Step, Step],
    steps: int,
) -> SaddleRecord:
    r"""Mirror prox that looks ahead with the last gradient: one call a step, ``eq-saddle-popov``.

    Theorem ``thm-saddle-optimistic`` holds for steps up to :func:`largest_step` with one call.
    The first look ahead uses the gradient at the start, one call more.

    Args:
        operator: as in :func:`saddle_mirror_descent`.
        maps: as there.
        start: as there.
        step_size: as there.
        steps: :math:`T`.

    Returns:
        The record; the points that are averaged are the looks ahead.

    Raises:
        TypeError: as there.
        ValueError: likewise.

    Source:
        Popov (1980); with mirror maps Chiang et al. (2012).
    """
    state = _State(operator, maps, start, step_size)
    hint = state.operator(*state.point)

    def step(state: _State) -> Pair:
        nonlocal hint
        ahead = state.ahead(hint)
        hint = state.operator(*ahead)
        for player, slope in enumerate(hint):
            state.move(player, slope)
        return ahead

    return _run(state, step, steps)


def _require_payoff(payoff: Tensor) -> None:
    require_tensor("payoff", payoff)
    if payoff.ndim < 2 or 0 in payoff.shape[-2:]:
        raise ValueError(f"payoff: expected shape (..., n, m), got {tuple(payoff.shape)}")
    require_finite("payoff", payoff)


class _State:
    """Where both variables are, in the dual and in the primal space; arguments checked once."""

    def __init__(
        self,
        operator: Operator,
        maps: tuple[MirrorMap, MirrorMap],
        start: Pair,
        step_size: Step | tuple[Step, Step],
    ) -> None:
        if len(maps) != 2 or not all(isinstance(one, MirrorMap) for one in maps):
            raise TypeError(f"maps: expected two mirror maps, got {maps!r}")
        if not isinstance(start, tuple | list) or len(start) != 2:
            raise TypeError(f"start: expected a pair of tensors, got {type(start).__name__}")
        self.maps, self.operator = maps, operator
        for k in (0, 1):
            maps[k].check_point(f"start[{k}]", start[k])
        require_same_kind("start[1]", start[1], "start[0]", start[0])
        self.point: list[Tensor] = list(start)
        steps = step_size if isinstance(step_size, tuple) else (step_size, step_size)
        if len(steps) != 2:
            raise ValueError(f"step_size: expected one or two step sizes, got {len(steps)}")
        self._fill(self.operator(*self.point))
        self.steps = [
            step_and_weight(steps[k], 0.0, self.point[k], None, maps[k].event_dims)[0]
            for k in (0, 1)
        ]
        self.dual = [maps[k]._step_dual(self.point[k]) for k in (0, 1)]

    def ahead(self, slopes: Pair) -> Pair:
        """The points that a step from here would reach; nothing moves."""
        x, y = (
            self.maps[k]._to_primal(dual_step(self.dual[k], slopes[k], self.steps[k]))
            for k in (0, 1)
        )
        return x, y

    def move(self, player: int, slope: Tensor) -> None:
        one = self.maps[player]
        dual = dual_step(self.dual[player], slope, self.steps[player])
        self.point[player] = one._to_primal(dual)
        self.dual[player] = dual if one.carries_dual else one._step_dual(self.point[player])

    def _fill(self, slopes: Pair) -> None:
        """Refuse gradients of a wrong kind, and give the points the batch of both."""
        for k, slope in enumerate(slopes):
            one = self.maps[k]
            name = f"operator(...)[{k}]"
            one.check_gradient(name, slope)
            require_same_kind(name, slope, f"start[{k}]", self.point[k])
            events = slice(slope.ndim - one.event_dims, None)
            mine = self.point[k].shape[self.point[k].ndim - one.event_dims :]
            if slope.shape[events] != mine:
                raise ValueError(
                    f"{name}: expected the shape of start[{k}] {tuple(self.point[k].shape)}, got "
                    f"{tuple(slope.shape)}"
                )
            batch = torch.broadcast_shapes(
                slope.shape[: -one.event_dims], self.point[k].shape[: -one.event_dims]
            )
            self.point[k] = self.point[k].expand(*batch, *mine)


def _run(state: _State, step: Callable[[_State], Pair], steps: int) -> SaddleRecord:
    played = [step(state) for _ in range(require_count("steps", steps))]
    points = [torch.stack(each) for each in zip(*played, strict=True)]
    means = [each.mean(0) for each in points]
    for k in (0, 1):
        state.maps[k].check_result("step_size", means[k])
        state.maps[k].check_result("step_size", state.point[k])
    return SaddleRecord(
        (points[0], points[1]), (means[0], means[1]), (state.point[0], state.point[1])
    )
