"""The learners that are calls of the one update: mirror descent, Hedge, FTRL and optimism."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
)
from mdtheory.convex.mirror_maps import MirrorMap, dual_step
from mdtheory.convex.mirror_maps.base import inner
from mdtheory.convex.mirror_maps.exact import logarithm

StepSize = float | Tensor | Sequence[float] | Callable[[int], float | Tensor]


class Learner(ABC):
    r"""One side of the online protocol: announce a point, then learn a gradient.

    Definition ``def-protocol``. In round :math:`t` a learner stands at ``decision``, a tensor
    ``(..., d)`` (or ``(..., d, d)``) whose leading axes are independent plays;
    ``update(gradient)`` ends the round. An update that raises leaves the learner as it was.

    A learner owns its memory: what it is given is copied, and so is each tensor of its state that
    is read from it.

    Attributes:
        round: the round that is being played, from 1.
        event_dims: trailing axes of one decision: 1 for vectors, 2 for matrices.
        mirror_map: the geometry, where the learner has one.
        step_size: step size of the last update, broadcastable with the batch, or ``None``
            before the first one and where the step is no single number.
    """

    event_dims: int = 1
    mirror_map: MirrorMap | None = None
    step_size: float | Tensor | None = None

    def __init__(self, decision: Tensor) -> None:
        self._decision = decision.clone()
        self.round = 1
        self._suffered = decision.new_zeros(decision.shape[: decision.ndim - self.event_dims])
        self._loss = self._suffered

    @property
    def decision(self) -> Tensor:
        """The point :math:`x_t` of the current round, shape ``(..., d)``; a copy."""
        return self._decision.clone()

    @property
    def suffered(self) -> Tensor:
        r"""Loss so far, :math:`\sum_{s<t} \langle g_s, x_s\rangle`, shape ``(...)``; a copy."""
        return self._suffered.clone()

    @property
    def loss(self) -> Tensor:
        """Linearised loss of the last round, shape ``(...)``; a copy."""
        return self._loss.clone()

    @abstractmethod
    def update(self, gradient: Tensor) -> None:
        """End the round: learn the gradient and move.

        Args:
            gradient: gradient (or a subgradient) of the round's loss at ``decision``, of the
                shape, dtype and device of ``decision``.

        Raises:
            TypeError: no floating-point tensor, or another dtype.
            ValueError: another shape or device, a NaN or an infinity, a step size out of range,
                or no finite step exists.
        """

    def _tensors(self) -> list[Tensor]:
        """What a round is computed from: the state, and a constant step size."""
        steps: StepSizes | None = getattr(self, "_steps", None)
        held = [*vars(self).values(), None if steps is None else steps.constant]
        return [value for value in held if isinstance(value, Tensor)]

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put everything back if what is inside raises; tensors are replaced, never written to."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _finish(self, decision: Tensor, loss: Tensor) -> None:
        self._decision = self._finite("step_size", decision)
        self._loss, self._suffered = loss, self._suffered + loss
        self.round += 1

    def _receive(self, gradient: Tensor) -> Tensor:
        """Check the gradient; the linearised loss of the round.

        That loss finds a NaN or an infinity of the gradient without a
        pass of its own over it.
        """
        require_tensor("gradient", gradient, self.event_dims)
        require_shape("gradient", gradient, tuple(self._decision.shape))
        require_same_kind("gradient", gradient, "decision", self._decision)
        loss = inner(gradient, self._decision, self.event_dims)
        require_values("gradient", loss, loss.isfinite(), "finite values")
        if self.event_dims == 2 and self.mirror_map is not None:
            self.mirror_map.check_gradient("gradient", gradient)
        return loss

    def _finite(self, name: str, point: Tensor) -> Tensor:
        total = point.sum(tuple(range(-self.event_dims, 0)))
        require_values(name, total, total.isfinite(), "values with a finite step")
        return point


class OnlineMirrorDescent(Learner):
    r"""Online mirror descent.

    Algorithm ``alg-omd``: :math:`x_{t+1}` minimises
    :math:`\eta_t\langle g_t, x\rangle + D_\psi(x, x_t)` over the domain of the map. The dual is
    carried from step to step where the map allows it, and re-anchored at the point otherwise.

    Args:
        mirror_map: the geometry; its domain is where the learner plays.
        initial: first decision, shape ``(..., d)`` (``(..., d, d)`` for matrices).
        step_size: :math:`\eta_t > 0`: a number; a tensor that broadcasts with the batch shape of
            ``initial`` (no trailing axis; more step sizes than plays widen the batch); a
            sequence, one number a round; or a callable from the round (from 1) to a number or a
            tensor, called once a round after the gradient has come.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``initial`` lies outside the domain or has no dual; a step size is not
            positive and finite.

    Source:
        Nemirovski and Yudin (1983); Beck and Teboulle (2003); Orabona, *A modern introduction to
        online learning*, chapter 6.
    """

    def __init__(self, mirror_map: MirrorMap, initial: Tensor, step_size: StepSize) -> None:
        self.mirror_map: MirrorMap = mirror_map
        self.event_dims = mirror_map.event_dims
        mirror_map.check_point("initial", initial)
        self._steps = StepSizes(step_size, initial, self.event_dims)
        initial = self._steps.widen(initial)
        self._dual = mirror_map._step_dual(initial)
        super().__init__(initial)

    def update(self, gradient: Tensor) -> None:
        """End the round with a mirror step; see :meth:`Learner.update`.

        Args:
            gradient: shape of ``decision``.

        Raises:
            TypeError: no floating-point tensor, or another dtype.
            ValueError: another shape or device, a NaN or an infinity, a step size out of range,
                or no finite step exists.
        """
        with self._all_or_nothing():
            loss = self._receive(gradient)
            step = self._steps.at(self.round)
            dual = self._dual
            if not self.mirror_map.carries_dual:
                dual = self.mirror_map._step_dual(self._decision)
            self._dual = dual_step(dual, gradient, step)
            self.step_size = self._steps.plain(step)
            self._finish(self.mirror_map._to_primal(self._dual), loss)


class Hedge(Learner):
    r"""Hedge, also called exponential weights: entropic mirror descent in log space.

    Algorithm ``alg-hedge``: :math:`p_{t+1,i} \propto p_{t,i}\exp(-\eta_t g_{t,i})`. Logarithms
    are carried, so probabilities below the smallest positive number do no harm. With step sizes
    that change this is mirror descent (``thm-omd``); the variant with a guarantee for them is
    :class:`FollowTheRegularizedLeader` with the entropy.

    Args:
        initial: first probabilities, shape ``(..., d)``; zeros stay zero.
        step_size: :math:`\eta_t > 0`, as in :class:`OnlineMirrorDescent`.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``initial`` is no probability vector, or a step size is not positive and
            finite.

    Source:
        Littlestone and Warmuth (1994); Freund and Schapire (1997).
    """

    def __init__(self, initial: Tensor, step_size: StepSize) -> None:
        require_simplex("initial", require_tensor("initial", initial))
        self._steps = StepSizes(step_size, initial, 1)
        initial = self._steps.widen(initial)
        self._log = logarithm(initial)
        super().__init__(initial)

    @property
    def log_decision(self) -> Tensor:
        """Logarithms of ``decision``, shape ``(..., d)``; a copy."""
        return self._log.clone()

    def update(self, gradient: Tensor) -> None:
        """End the round with an exponential step; see :meth:`Learner.update`.

        Args:
            gradient: shape of ``decision``.

        Raises:
            TypeError: no floating-point tensor, or another dtype.
            ValueError: another shape or device, a NaN or an infinity, a step size out of range,
                or no finite step exists.
        """
        with self._all_or_nothing():
            loss = self._receive(gradient)
            step = self._steps.at(self.round)
            self._log = dual_step(self._log, gradient, step).log_softmax(-1)
            self.step_size = self._steps.plain(step)
            self._finish(self._log.exp(), loss)


class FollowTheRegularizedLeader(Learner):
    r"""Follow the regularised leader, also called dual averaging or lazy mirror descent.

    Algorithm ``alg-ftrl``: :math:`x_{t+1}` minimises
    :math:`\langle\sum_{s\le t} g_s, x\rangle + r(x)/\eta_t` over the domain. The regulariser
    :math:`r` is :math:`D_\psi(\cdot, x_1)` where an initial point is given, and the potential
    :math:`\psi` itself where a shape is given; then :math:`x_1` minimises :math:`\psi`.

    Args:
        mirror_map: the geometry; its domain is where the learner plays.
        initial: first decision, shape ``(..., d)``; or the shape of the decisions, a tuple.
        step_size: :math:`\eta_t > 0`, as in :class:`OnlineMirrorDescent`. It makes
            :math:`x_{t+1}`, so it is chosen before :math:`g_{t+1}` comes; ``thm-ftrl`` asks that
            it never grows.
        dtype: of the decisions, where a shape is given.
        device: of the decisions, where a shape is given.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``initial`` lies outside the domain or has no dual, a shape has no minimiser
            of the potential, or a step size is not positive and finite.

    Source:
        Shalev-Shwartz (2007); Nesterov (2009); Orabona, chapter 7.
    """

    def __init__(
        self,
        mirror_map: MirrorMap,
        initial: Tensor | tuple[int, ...],
        step_size: StepSize,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        self.mirror_map: MirrorMap = mirror_map
        self.event_dims = mirror_map.event_dims
        if isinstance(initial, Tensor):
            mirror_map.check_point("initial", initial)
            self._steps = StepSizes(step_size, initial, self.event_dims)
            decision = self._steps.widen(initial)
            self._centre = mirror_map._step_dual(decision)
        else:
            centre = torch.zeros(initial, dtype=dtype, device=device)
            require_tensor("initial", centre, self.event_dims)
            self._steps = StepSizes(step_size, centre, self.event_dims)
            self._centre = self._steps.widen(centre)
            decision = mirror_map.to_primal(self._centre)
        super().__init__(decision)
        self._total = torch.zeros_like(decision)

    @property
    def total_gradient(self) -> Tensor:
        r"""Sum of the gradients so far, :math:`\sum_{s<t} g_s`, shape of ``decision``; a copy."""
        return self._total.clone()

    def update(self, gradient: Tensor) -> None:
        """End the round with a step along all gradients so far; see :meth:`Learner.update`.

        Args:
            gradient: shape of ``decision``.

        Raises:
            TypeError: no floating-point tensor, or another dtype.
            ValueError: another shape or device, a NaN or an infinity, a step size out of range,
                or no finite step exists.
        """
        with self._all_or_nothing():
            loss = self._receive(gradient)
            self._total = self._total + gradient
            step = self._steps.at(self.round)
            self.step_size = self._steps.plain(step)
            dual = dual_step(self._centre, self._total, step)
            self._finish(self.mirror_map._to_primal(dual), loss)


class OptimisticMirrorDescent(Learner):
    r"""Optimistic mirror descent in its two-step form.

    Algorithm ``alg-optimistic``: with a hint :math:`m_t` of the gradient to come,
    :math:`x_t` minimises :math:`\eta_t\langle m_t, x\rangle + D_\psi(x, \hat x_t)` and
    :math:`\hat x_{t+1}` minimises :math:`\eta_t\langle g_t, x\rangle + D_\psi(x, \hat x_t)`.
    Without hints both are the step of :class:`OnlineMirrorDescent`.

    Args:
        mirror_map: the geometry; its domain is where the learner plays.
        initial: first anchor :math:`\hat x_1`, shape ``(..., d)``.
        step_size: :math:`\eta_t`, as in :class:`OnlineMirrorDescent`. A callable is asked once a
            round, before :math:`x_t` is chosen: from round 2 it may read :math:`V_{t-1}` from
            ``variation``; for round 1 it is asked by the constructor, where :math:`V_0 = 0`.
        hint: the hint :math:`m_1` of the first round, shape of ``initial``; 0 if ``None``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``initial`` lies outside the domain or has no dual, the hint has another
            shape or a NaN, or a step size is not positive and finite.

    Source:
        Chiang et al. (2012); Rakhlin and Sridharan (2013).
    """

    def __init__(
        self,
        mirror_map: MirrorMap,
        initial: Tensor,
        step_size: StepSize,
        *,
        hint: Tensor | None = None,
    ) -> None:
        self.mirror_map: MirrorMap = mirror_map
        self.event_dims = mirror_map.event_dims
        mirror_map.check_point("initial", initial)
        self._steps = StepSizes(step_size, initial, self.event_dims)
        initial = self._steps.widen(initial)
        super().__init__(initial)
        self._variation = torch.zeros_like(self._suffered)
        self._anchor = initial
        self._dual = mirror_map._step_dual(initial)
        self._step = self._steps.at(1)
        self._ahead = self._hint(hint)
        self._decision = self._hinted()

    @property
    def anchor(self) -> Tensor:
        r"""The point :math:`\hat x_t`, shape ``(..., d)``; a copy."""
        return self._anchor.clone()

    @property
    def hint(self) -> Tensor:
        """The hint :math:`m_t` of the current round, shape ``(..., d)``; a copy."""
        return self._ahead.clone()

    @property
    def variation(self) -> Tensor:
        r""":math:`V_{t-1} = \sum_{s<t} \|g_s - m_s\|_*^2` in the dual norm, ``(...)``; a copy."""
        return self._variation.clone()

    def update(self, gradient: Tensor, hint: Tensor | None = None) -> None:
        """End the round: learn the gradient, move the anchor, and step ahead with the next hint.

        Args:
            gradient: gradient of the round's loss at ``decision``, of its shape.
            hint: hint :math:`m_{t+1}` for the gradient of the *next* round, of the same shape;
                ``None`` is no hint, that is 0.

        Raises:
            TypeError: no floating-point tensor, or another dtype.
            ValueError: another shape or device, a NaN or an infinity, a step size out of range,
                or no finite step exists.
        """
        with self._all_or_nothing():
            self._steps.require(self.round)
            loss = self._receive(gradient)
            hint = self._hint(hint)
            missed = self.mirror_map.dual_norm(gradient - self._ahead)
            self._variation = self._variation + missed**2
            self._dual = dual_step(self._anchored(), gradient, self._step)
            self._anchor = self._finite("step_size", self.mirror_map._to_primal(self._dual))
            self.step_size = self._steps.plain(self._step)
            # The last round of a sequence looks ahead with its last step once more.
            self._step = self._steps.at(self._steps.within(self.round + 1))
            self._ahead = hint
            self._finish(self._hinted(), loss)

    def _hint(self, hint: Tensor | None) -> Tensor:
        if hint is None:
            return torch.zeros_like(self._decision)
        require_tensor("hint", hint, self.event_dims)
        require_shape("hint", hint, tuple(self._decision.shape))
        require_same_kind("hint", hint, "decision", self._decision)
        require_values("hint", hint, hint.isfinite(), "finite values")
        return hint.clone()

    def _hinted(self) -> Tensor:
        ahead = dual_step(self._anchored(), self._ahead, self._step)
        return self._finite("step_size", self.mirror_map._to_primal(ahead))

    def _anchored(self) -> Tensor:
        carried = self.mirror_map.carries_dual
        return self._dual if carried else self.mirror_map._step_dual(self._anchor)


class StepSizes:
    """Step sizes of a learner, checked: the constant ones once, the others as they come.

    Args:
        step_size: a number, a tensor with the batch shape, a sequence or a callable.
        point: a point of the learner, shape ``(..., d)``.
        event_dims: trailing axes of a point.

    Raises:
        TypeError: none of these, or a tensor of another dtype.
        ValueError: not positive and finite, or a tensor that does not broadcast.
    """

    def __init__(self, step_size: StepSize, point: Tensor, event_dims: int) -> None:
        self._event_dims = event_dims
        self._point = point
        self.batch = tuple(point.shape[: point.ndim - event_dims])
        self._rule: Callable[[int], float | Tensor] | None = None
        self.constant: float | Tensor | None = None
        self.oblivious = not callable(step_size)
        self.rounds: int | None = None
        if callable(step_size):
            self._rule = step_size
        elif isinstance(step_size, Sequence) and not isinstance(step_size, str):
            values = [require_number("step_size", v, 0.0, strict=True) for v in step_size]
            self._rule = lambda round_: values[round_ - 1]
            self.rounds = len(values)
        else:
            if isinstance(step_size, Tensor):
                self.batch = require_broadcast("step_size", step_size.shape, self.batch)
            self.constant = self._checked(step_size)

    def widen(self, point: Tensor) -> Tensor:
        """A copy of the point, its batch widened to that of the step sizes."""
        trailing = tuple(point.shape[point.ndim - self._event_dims :])
        return point.expand(self.batch + trailing).clone()

    def at(self, round_: int) -> float | Tensor:
        """Step size of a round, a number or a tensor that broadcasts with points."""
        if self.constant is not None:
            return self.constant
        assert self._rule is not None
        self.require(round_)
        return self._checked(self._rule(round_))

    def require(self, round_: int) -> None:
        """Refuse a round beyond the end of a sequence."""
        if self.rounds is not None and round_ > self.rounds:
            raise ValueError(
                f"step_size: expected one entry a round, got {self.rounds} for round {round_}"
            )

    def within(self, round_: int) -> int:
        """The round, or the last of a sequence that ends before."""
        return round_ if self.rounds is None else min(round_, self.rounds)

    def plain(self, step: float | Tensor) -> float | Tensor:
        """A copy of a step size of :meth:`at` with the batch shape, without trailing axes."""
        if not isinstance(step, Tensor):
            return step
        kept = max(0, step.ndim - self._event_dims)
        return step.reshape(step.shape[:kept]).clone()

    def _checked(self, value: float | Tensor) -> float | Tensor:
        scale = require_scale(
            "step_size", value, self._point, self.batch,
            strict=True, widens=False, trailing=self._event_dims,
        )  # fmt: skip
        return scale.clone() if isinstance(scale, Tensor) else scale


def number_like(value: float | Tensor, like: Tensor) -> Tensor:
    """A number as a tensor without axes, beside ``like``; a tensor stays what it is.

    Args:
        value: a number or a tensor.
        like: gives dtype and device.

    Returns:
        The tensor.
    """
    return value if isinstance(value, Tensor) else like.new_full((), value)
