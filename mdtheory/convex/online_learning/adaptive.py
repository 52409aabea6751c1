"""Learners that learn their geometry from the gradients: AdaGrad and the online Newton step."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_simplex,
    require_tensor,
    require_values,
    values_known,
)
from mdtheory.convex.mirror_maps import Ball, Box, Domain, Mahalanobis, Simplex, dual_step
from mdtheory.convex.mirror_maps.domains import euclidean_norm
from mdtheory.convex.mirror_maps.exact import differentiated
from mdtheory.convex.mirror_maps.quadratic import secular_root
from mdtheory.convex.online_learning.graded import ROUNDINGS, graded_svd
from mdtheory.convex.online_learning.learners import Learner, number_like

# Bold changes of the support before the active-set method takes over.
GUESSES = 8
Kind = Literal["norm", "diagonal", "full"]


class AdaGrad(Learner):
    r"""AdaGrad: gradient descent whose metric is the square root of the gradients' energy.

    Algorithm ``alg-adagrad``: with a metric :math:`H_t` made from the gradients up to
    :math:`g_t`, :math:`x_{t+1}` is the point of the domain nearest to
    :math:`x_t - \eta H_t^{-1} g_t` in the norm of :math:`H_t`.

    - ``"norm"`` (``cor-adagrad-norm``): :math:`H_t = (\sum_{s\le t}\|g_s\|^2)^{1/2} I`.
    - ``"diagonal"`` (``thm-adagrad-diagonal``): the same for each coordinate by itself.
    - ``"full"`` (``thm-adagrad-full``): :math:`H_t = (\sum_{s\le t} g_s g_s^\top)^{1/2}`.

    A direction in which no gradient has come has no metric and does not move, unless the ball
    asks it to give way. Any other counts in full, however small its gradients were: the metric is
    kept by its root, so no square hides a small direction beside a large one. A direction is left
    out only where it is no larger than the rounding error of the gradients that make it, and it
    is as exact as their angles allow (:func:`graded.graded_svd`).

    Args:
        initial: first decision, shape ``(..., d)``.
        domain: where the learner plays: a ``Ball``; a ``Box`` or ``None`` (the whole space),
            not for ``"full"`` on a box; any ``Domain`` for ``"norm"``.
        kind: which metric.
        step_size: :math:`\eta`, a number, or a tensor that broadcasts with ``initial``. By
            default diameter / sqrt 2 for ``"norm"``, the sides of the box or the diameter of the
            ball / sqrt 2 for ``"diagonal"`` and the diameter / sqrt 2 for ``"full"``: the best
            for their bounds.
        epsilon: :math:`\varepsilon\ge 0`, added to the metric as :math:`\varepsilon I`.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``initial`` lies outside the domain, a kind or a domain that is not known, no
            step size where the domain has no diameter, or a number out of range.

    Source:
        Duchi, Hazan and Singer (2011); Streeter and McMahan (2010) for the norm.
    """

    def __init__(
        self,
        initial: Tensor,
        domain: Domain | None,
        kind: Kind = "diagonal",
        *,
        step_size: float | Tensor | None = None,
        epsilon: float = 0.0,
    ) -> None:
        _check_start(initial, domain)
        if kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {get_args(Kind)}, got {kind!r}")
        allowed = {"norm": (Domain,), "diagonal": (Ball, Box), "full": (Ball,)}[kind]
        if domain is not None and not isinstance(domain, allowed):
            names = " or ".join(a.__name__ for a in allowed)
            raise ValueError(f"domain: expected None or a {names} for {kind!r}, got {domain!r}")
        self.kind, self.domain = kind, domain
        self.epsilon = require_number("epsilon", epsilon, 0.0)
        self._rate = _rate(step_size, initial, domain, kind)
        d = initial.shape[-1]
        shape = {"norm": (1,), "diagonal": (d,), "full": (d, d)}[kind]
        # R with R'R = energy; for "full" its rows are orthogonal, and their errors are known.
        self._root = initial.new_zeros((*initial.shape[:-1], *shape))
        self._doubt = self._root
        super().__init__(initial)

    @property
    def energy(self) -> Tensor:
        r"""What the gradients have summed to: the square of the metric without epsilon.

        Shape ``(..., 1)`` for ``"norm"``, ``(..., d)`` for ``"diagonal"`` and ``(..., d, d)`` for
        ``"full"``. A copy.
        """
        return self._root.mT @ self._root if self.kind == "full" else self._root * self._root

    def update(self, gradient: Tensor) -> None:
        """End the round with a step in the metric; see :meth:`Learner.update`.

        Args:
            gradient: shape of ``decision``.

        Raises:
            TypeError: no floating-point tensor, or another dtype.
            ValueError: another shape or device, a NaN or an infinity, no finite step exists, or
                derivatives are asked of the kind ``"full"``.
        """
        with self._all_or_nothing():
            loss = self._receive(gradient)
            if self.kind == "full":
                self._finish(self._full_step(gradient), loss)
                return
            size = euclidean_norm(gradient)[..., None] if self.kind == "norm" else gradient
            if differentiated(self._root, size):  # a pair of zeros has no slope
                some = (self._root > 0) | (size != 0)
                root = torch.hypot(torch.where(some, self._root, 1.0), size)
                self._root = torch.where(some, root, 0.0)
            else:
                self._root = torch.hypot(self._root, size)
            self._finite("gradient", self.energy)
            metric = self._root + self.epsilon
            if self.kind == "norm":
                self.step_size = (self._rate / metric)[..., 0]
            # The step of size eta under the potential x' H x / 2, divided by H where there is one.
            moved = dual_step(self._decision, _over(gradient, metric), self._rate)
            self._finish(self._into(moved, metric), loss)

    def _full_step(self, gradient: Tensor) -> Tensor:
        r"""The step with the whole matrix.

        With the gradients as rows of :math:`M = U S V^\top` the root of their energy is
        :math:`V S V^\top`. The last of them is :math:`V S u` with the last row :math:`u` of
        :math:`U`, so without epsilon the step is :math:`V u`: no small number divides.
        """
        if differentiated(gradient, self._decision):
            raise ValueError(
                "gradient: expected one that needs no derivatives, for the decomposition of kind "
                "'full' has none; pass gradient.detach()"
            )
        rows = torch.cat([self._root, gradient[..., None, :]], -2)
        error = ROUNDINGS * torch.finfo(gradient.dtype).eps * gradient[..., None, :].abs()
        doubt = torch.cat([self._doubt, error], -2)
        left, lengths, axes, self._doubt = graded_svd(rows, doubt)
        self._root = lengths[..., None] * axes
        self._finite("gradient", self.energy.sum(-1))
        metric = lengths + self.epsilon
        pull = _over(lengths * left[..., -1, :], metric)
        moved = dual_step(self._decision, _turn(axes.mT, pull), self._rate)
        if self.domain is None:
            return moved
        # In the axes of the metric; the directions outside share the metric epsilon.
        inside = _turn(axes, moved)
        rest = moved - _turn(axes.mT, inside)
        length = torch.linalg.vector_norm(rest, dim=-1, keepdim=True)
        spread = torch.cat([metric, torch.full_like(length, self.epsilon)], -1)
        near = self._into(torch.cat([inside, length], -1), spread)
        back = _turn(axes.mT, near[..., :-1]) + rest * _over(near[..., -1:], length)
        return self.domain._project(back)

    def _into(self, moved: Tensor, metric: Tensor) -> Tensor:
        """Nearest point of the domain in the norm of the metric, a diagonal in these axes."""
        if self.domain is None:
            return moved
        # A box is a product of intervals and a multiple of the identity changes no distance's
        # order, so there the Euclidean projection is the nearest point in the metric as well.
        if self.kind == "norm" or isinstance(self.domain, Box):
            return self.domain._project(moved)
        assert isinstance(self.domain, Ball)  # by the constructor
        known = metric > 0
        if values_known(metric) and bool(known.all()):
            shift = secular_root(metric * moved, metric, self.domain.radius)
            moved = torch.where(shift > 0, metric * moved / (metric + shift), moved)
            return self.domain._project(moved)
        # What stands in where there is no metric is of its size: units must not matter.
        usual = torch.where(known.any(-1, keepdim=True), metric.amax(-1, keepdim=True), 1.0)
        weight = torch.where(known, metric, usual)
        turned = torch.where(known, metric * moved, 0.0)
        shift = secular_root(turned, weight, self.domain.radius)
        # Directions without a metric cost nothing: they give way as far as the ball asks, which
        # is the limit of small equal metrics.
        near = torch.where(shift > 0, turned / (weight + shift), torch.where(known, moved, 0.0))
        rest = torch.where(known, 0.0, moved)
        reach = torch.linalg.vector_norm(near, dim=-1, keepdim=True)
        radius = self.domain.radius
        # On the border there is none; the root of what rounding leaves there would be 1e-8.
        spare = (radius - reach) * (radius + reach)
        some = (shift <= 0) & (spare > 0)
        room = torch.where(some, torch.where(some, spare, 1.0).sqrt(), 0.0)
        length = torch.linalg.vector_norm(rest, dim=-1, keepdim=True)
        over = length > room
        rest = torch.where(over, rest * (room / torch.where(over, length, 1.0)), rest)
        return self.domain._project(near + rest)


class OnlineNewtonStep(Learner):
    r"""The online Newton step for exp-concave losses.

    Algorithm ``alg-newton-step``: :math:`A_0 = \varepsilon I`,
    :math:`A_t = A_{t-1} + g_t g_t^\top`, and :math:`x_{t+1}` is the point of the domain nearest to
    :math:`x_t - A_t^{-1} g_t / \gamma` in the norm of :math:`A_t`: a mirror step of size
    :math:`1/\gamma` under the Mahalanobis potential of :math:`A_t`. Regret ``thm-newton-step``.

    Args:
        initial: first decision, shape ``(..., d)``.
        domain: a ``Ball``, the ``Simplex`` or ``None`` (the whole space).
        gamma: :math:`\gamma > 0`, a number or a tensor with the batch shape of ``initial`` (more
            of them widen the batch); :func:`bounds.exp_concave_gamma` gives the theorem's.
        epsilon: :math:`\varepsilon > 0`, likewise; by default :math:`1 / (\gamma D)^2` with the
            diameter :math:`D` of the domain.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``initial`` lies outside the domain, a domain that is not known, no epsilon
            where the domain has no diameter, or a number out of range.

    Source:
        Hazan, Agarwal and Kale (2007).
    """

    def __init__(
        self,
        initial: Tensor,
        domain: Domain | None,
        gamma: float | Tensor,
        epsilon: float | Tensor | None = None,
    ) -> None:
        _check_start(initial, domain)
        if domain is not None and not isinstance(domain, (Ball, Simplex)):
            raise ValueError(f"domain: expected None, a Ball or the Simplex, got {domain!r}")
        self.domain = domain
        self.gamma = _positive("gamma", gamma, initial)
        if epsilon is None:
            if domain is None:
                raise ValueError("epsilon: expected a number on a domain without diameter")
            # A single point has diameter 0; any positive number serves there.
            diameter = domain.diameter(initial.shape[-1]) or 1.0
            epsilon = 1 / (self.gamma * diameter) ** 2
        self.epsilon = _positive("epsilon", epsilon, initial)
        gammas = number_like(self.gamma, initial)
        spread = number_like(self.epsilon, initial)
        batch = require_broadcast("gamma", gammas.shape, initial.shape[:-1])
        batch = require_broadcast("epsilon", spread.shape, batch)
        initial = initial.expand(*batch, initial.shape[-1])
        self._rate = (1 / gammas).expand(batch)
        eye = torch.eye(initial.shape[-1], dtype=initial.dtype, device=initial.device)
        self._matrix = spread.expand(batch)[..., None, None] * eye
        super().__init__(initial)

    @property
    def matrix(self) -> Tensor:
        """The matrix :math:`A_{t-1}`, shape ``(..., d, d)``; a copy."""
        return self._matrix.clone()

    def update(self, gradient: Tensor) -> None:
        """End the round with a Newton step; see :meth:`Learner.update`.

        Args:
            gradient: shape of ``decision``.

        Raises:
            TypeError: no floating-point tensor, or another dtype.
            ValueError: another shape or device, a NaN or an infinity, or no finite step exists.
        """
        with self._all_or_nothing():
            loss = self._receive(gradient)
            matrix = self._matrix + gradient[..., :, None] * gradient[..., None, :]
            self._finite("gradient", matrix.sum(-1))
            self._matrix = matrix
            # Under the potential x' A_t x / 2.
            dual = dual_step(_turn(matrix, self._decision), gradient, self._rate[..., None])
            if isinstance(self.domain, Simplex):
                point = simplex_quadratic(matrix, dual, self._decision)
            else:
                point = Mahalanobis(matrix, self.domain)._to_primal(dual)
            self._finish(point, loss)


def simplex_quadratic(matrix: Tensor, linear: Tensor, start: Tensor) -> Tensor:
    r"""Minimiser over the simplex of :math:`\frac12 x^\top A x - \langle b, x\rangle`.

    It is the mirror step's last half under the Mahalanobis potential on the simplex: with
    :math:`b = A y` it is the point nearest to :math:`y` in the norm of :math:`A`. An active-set
    method: it solves on the support, steps back to the border where the solution leaves the
    simplex, and adds the coordinate whose multiplier has the wrong sign; after finitely many
    steps the conditions of optimality hold to rounding. Before that it guesses the support by
    changing all wrong coordinates at once, which is right most of the time but may cycle.

    Args:
        matrix: :math:`A`, symmetric and positive definite, shape ``(..., d, d)``.
        linear: :math:`b`, shape ``(..., d)``.
        start: a point of the simplex to start from, shape ``(..., d)``; the closer, the faster.

    Returns:
        The minimisers, shape ``(..., d)``.

    Raises:
        TypeError: no floating-point tensors, or different dtypes.
        ValueError: wrong shapes, ``start`` is no probability vector, a NaN, a matrix that is not
            positive definite, or one so ill-conditioned that rounding hides the optimum.
    """
    require_tensor("matrix", matrix, 2)
    require_tensor("linear", linear)
    require_shape("linear", linear, tuple(matrix.shape[:-1]))
    require_same_kind("linear", linear, "matrix", matrix)
    require_shape("start", start, tuple(matrix.shape[:-1]))
    require_same_kind("start", start, "matrix", matrix)
    require_simplex("start", start)
    scale = matrix.abs().amax((-2, -1)) + linear.abs().amax(-1)
    require_values("matrix", scale, scale.isfinite(), "finite values, and so of linear")
    d = matrix.shape[-1]
    tolerance = 8 * d * torch.finfo(matrix.dtype).eps * scale
    eye = torch.eye(d, dtype=matrix.dtype, device=matrix.device)
    point, done = _guessed(matrix, linear, start, eye, tolerance)
    if not values_known(done) or bool(done.all()):
        return point
    free = point > 0
    for _ in range(20 * d + 20):
        target, level = _on_support(matrix, linear, point, free, eye)
        outside = free & (target < 0)
        leaves = outside.any(-1)
        # Where the solution leaves the simplex: go as far as the border, and drop what hits it.
        ratio = torch.where(outside, point / (point - target), torch.inf)
        length, hit = ratio.min(-1, keepdim=True)
        back = point + torch.where(leaves[..., None], length, 0.0) * (target - point)
        back = back.clamp(min=0).scatter(-1, hit, 0.0)
        # Where it stays inside: add the coordinate with the most negative multiplier.
        multiplier = _turn(matrix, target) - linear - level
        multiplier = torch.where(free, torch.inf, multiplier)
        lowest, entering = multiplier.min(-1, keepdim=True)
        optimal = ~leaves & (lowest[..., 0] >= -tolerance)
        step = torch.where(leaves[..., None], back, target)
        point = torch.where(done[..., None], point, step)
        dropped = free.scatter(-1, hit, torch.zeros_like(hit, dtype=torch.bool))
        added = free.scatter(-1, entering, torch.ones_like(entering, dtype=torch.bool))
        moved = torch.where(leaves[..., None], dropped, added)
        done = done | optimal
        free = torch.where(done[..., None], free, moved)
        if bool(done.all()):
            return point
    raise ValueError("matrix: expected one whose optimum rounding does not hide")


def _guessed(
    matrix: Tensor, linear: Tensor, start: Tensor, eye: Tensor, tolerance: Tensor
) -> tuple[Tensor, Tensor]:
    """Optima where a few bold changes of the support find them, ``start`` elsewhere."""
    free = start > 0
    for _ in range(GUESSES):
        target, level = _on_support(matrix, linear, start * free, free, eye)
        multiplier = _turn(matrix, target) - linear - level
        wanted = torch.where(free, target >= 0, multiplier < -tolerance[..., None])
        done = (wanted == free).all(-1)
        if not values_known(done) or bool(done.all()):
            break
        free = wanted
    return torch.where(done[..., None], target, start), done


def _on_support(
    matrix: Tensor, linear: Tensor, point: Tensor, free: Tensor, eye: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimiser among the vectors of sum 1 on the support, and its multiplier ``(..., 1)``."""
    mask = free.to(matrix.dtype)
    # Off the support the matrix is the identity and both right-hand sides are 0.
    held = matrix * mask[..., :, None] * mask[..., None, :] + eye * (1 - mask)[..., None, :]
    factor, failed = torch.linalg.cholesky_ex(held)
    require_values("matrix", failed, failed == 0, "positive definite matrices")
    # Solved for the move from the point, so that rounding is relative to the move.
    sides = torch.stack([(linear - _turn(matrix, point)) * mask, mask], -1)
    pulled, spread = torch.cholesky_solve(sides, factor).unbind(-1)
    total = spread.sum(-1, keepdim=True)
    level = (1 - point.sum(-1, keepdim=True) - pulled.sum(-1, keepdim=True)) / total
    target = point + pulled + level * spread
    # Both moves may be large beside their sum; what rounding left of them is solved for again.
    left = (linear + level - _turn(matrix, target)) * mask
    pulled = torch.cholesky_solve(left[..., None], factor)[..., 0]
    more = (1 - target.sum(-1, keepdim=True) - pulled.sum(-1, keepdim=True)) / total
    return target + pulled + more * spread, level + more


def _check_start(initial: Tensor, domain: Domain | None) -> None:
    require_tensor("initial", initial)
    require_values("initial", initial, initial.isfinite(), "finite values")
    if domain is None:
        return
    if not isinstance(domain, Domain):
        raise TypeError(f"domain: expected None or a Domain, got {type(domain).__name__}")
    domain.check("initial", initial)


def _rate(
    step_size: float | Tensor | None, initial: Tensor, domain: Domain | None, kind: Kind
) -> float | Tensor:
    if isinstance(step_size, Tensor):
        require_broadcast(
            "step_size", step_size.shape, initial.shape, "the first decision", widens=False
        )
        return _positive("step_size", step_size, initial)
    if step_size is not None:
        return _positive("step_size", step_size, initial)
    if domain is None:
        raise ValueError("step_size: expected a number on a domain without diameter, got None")
    if kind == "diagonal" and isinstance(domain, Box):
        low, high = domain._bounds(initial)
        return (high - low) / math.sqrt(2)
    return domain.diameter(initial.shape[-1]) / math.sqrt(2)


def _positive(name: str, value: float | Tensor, initial: Tensor) -> float | Tensor:
    scale = require_scale(name, value, initial, strict=True)
    return scale.clone() if isinstance(scale, Tensor) else scale


def _turn(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x[..., None])[..., 0]


def _over(gradient: Tensor, metric: Tensor) -> Tensor:
    """``gradient / metric``, and 0 where the metric is 0."""
    return torch.where(metric > 0, gradient / torch.where(metric > 0, metric, 1.0), 0.0)
