"""Optimistic mirror descent and the optimistic leader with the step sizes of the SEA model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import Ball, Domain, Mahalanobis, Simplex, dual_step
from mdtheory.convex.online_learning import Environment, simplex_quadratic
from mdtheory.convex.online_learning.learners import number_like

Regime = Literal["convex", "strongly convex", "exp-concave"]


class SeaRecord(NamedTuple):
    r"""What a run in the model leaves behind; ``T`` rounds, batch ``...``.

    Attributes:
        loss: :math:`\sum_t f_t(x_t)`, shape ``(...)``.
        linear_loss: :math:`\sum_t \langle g_t, x_t\rangle`, shape ``(...)``.
        total_gradient: :math:`\sum_t g_t`, shape ``(..., d)``.
        variation: :math:`V_T = \sum_t \|g_t - m_t\|_2^2`, shape ``(...)``.
        movement: :math:`S_T = \sum_{t\ge2}\|x_t - x_{t-1}\|_2^2`, shape ``(...)``.
        paid_movement: :math:`\sum_{t\ge2}\|x_t - x_{t-1}\|_2^2/\eta_{t-1}`, shape ``(...)``; with
            the matrices of the exp-concave regime it is ``movement``.
        step_size: the last round's step size :math:`\eta_T`, a number or shape ``(...)``.
        matrix: :math:`H_T` of the exp-concave regime, shape ``(..., d, d)``, else ``None``.
        losses: :math:`f_t(x_t)`, shape ``(T, ...)``, or ``None`` where rounds were not kept.
        decisions: :math:`x_t`, shape ``(T, ..., d)``, or ``None``.
        gradients: :math:`g_t`, shape ``(T, ..., d)``, or ``None``.
    """

    loss: Tensor
    linear_loss: Tensor
    total_gradient: Tensor
    variation: Tensor
    movement: Tensor
    paid_movement: Tensor
    step_size: Tensor
    matrix: Tensor | None
    losses: Tensor | None
    decisions: Tensor | None
    gradients: Tensor | None


def optimistic_mirror_descent(
    environment: Environment,
    initial: Tensor,
    domain: Domain,
    rounds: int,
    *,
    regime: Regime = "convex",
    gradient_bound: float | Tensor | None = None,
    offset: float | Tensor = 0.0,
    curvature: float | None = None,
    gamma: float | None = None,
    step_size: float | Tensor | None = None,
    hints: bool = True,
    keep: bool = True,
) -> SeaRecord:
    r"""Optimistic mirror descent with the last gradient as the hint.

    Algorithm ``alg-sea``: from the anchor :math:`\hat x_t` one mirror step with the hint
    :math:`m_t = g_{t-1}` gives the decision :math:`x_t`, and one with the gradient :math:`g_t` the
    next anchor; :math:`m_1 = 0`. The regime says how long they are.

    - ``"convex"`` (``thm-sea-convex``): :math:`\eta_t = \Delta/\sqrt{\delta + 4G^2 + V_{t-1}}`.
    - ``"strongly convex"`` (``thm-sea-strongly-convex``): :math:`\eta_t = 2/(\lambda t)`.
    - ``"exp-concave"`` (``thm-sea-exp-concave``): step size 1 under the potential
      :math:`\frac12 x^\top H_t x` with
      :math:`H_t = (1 + \gamma G^2)I + \frac\gamma2\sum_{s<t} g_s g_s^\top`.

    Args:
        environment: see :class:`mdtheory.convex.online_learning.Environment`.
        initial: first anchor :math:`\hat x_1`, shape ``(..., d)`` with the whole batch of plays.
        domain: where the learner plays, of finite diameter :math:`\Delta`; a ``Ball`` or the
            ``Simplex`` in the exp-concave regime.
        rounds: number of rounds ``T``.
        regime: which step sizes.
        gradient_bound: :math:`G`, at least every :math:`\|g_t\|_2`: a number or shape ``(...)``;
            for the convex (without ``step_size``) and the exp-concave regime.
        offset: :math:`\delta \ge 0` of the convex regime, likewise.
        curvature: :math:`\lambda > 0` of the strongly convex regime.
        gamma: :math:`\gamma > 0` of the exp-concave regime; see
            :func:`mdtheory.convex.online_learning.bounds.exp_concave_gamma`.
        step_size: a constant step size in the place of the convex regime's, a number or shape
            ``(...)`` (``thm-sea-dynamic``).
        hints: ``False`` plays without hints, :math:`m_t = 0`: online gradient descent with the
            same rule for its steps.
        keep: keep decisions, gradients and losses of every round.

    Returns:
        The record of the run.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``initial`` lies outside the domain, a number is missing or out of range, a
            gradient is longer than ``gradient_bound``, or the environment gave a wrong shape, a
            NaN or an infinity.

    Source:
        Chiang et al. (2012); Chen, Tu, Zhao and Zhang (2024) for the model's step sizes.
    """
    if regime not in get_args(Regime):
        raise ValueError(f"regime: expected one of {get_args(Regime)}, got {regime!r}")
    if step_size is not None and regime != "convex":
        raise ValueError(f"step_size: expected None in the {regime} regime, got {step_size!r}")
    run = Run(environment, initial, domain, rounds, keep=keep)
    if regime == "exp-concave":
        return _exp_concave(run, domain, gradient_bound, gamma, hints)
    if step_size is not None:
        constant = run.per_play("step_size", step_size, strict=True)
    elif regime == "strongly convex":
        lam = run.number("curvature", curvature, regime)
    else:
        limit = run.limit_gradients(gradient_bound, regime)
        start = run.per_play("offset", offset) + 4 * limit**2
        require_values("gradient_bound", start, start > 0, "a positive bound where offset is 0")
        diameter = domain.diameter(initial.shape[-1])
    anchor, hint = initial, torch.zeros_like(initial)
    for round_ in range(1, run.rounds + 1):
        if step_size is not None:
            step = constant
        elif regime == "strongly convex":
            step = initial.new_full((), 2 / (lam * round_))
        else:
            step = diameter / (start + run.variation).sqrt()
        size = step[..., None]
        decision = domain._project(dual_step(anchor, hint, size))
        gradient = run.suffer(decision, hint, step)
        anchor = domain._project(dual_step(anchor, gradient, size))
        if hints:
            hint = gradient
    return run.record()


def _exp_concave(
    run: Run,
    domain: Domain,
    gradient_bound: float | Tensor | None,
    gamma: float | None,
    hints: bool,
) -> SeaRecord:
    if not isinstance(domain, (Ball, Simplex)):
        raise ValueError(f"domain: expected a Ball or the Simplex, got {domain!r}")
    bend = run.number("gamma", gamma, "exp-concave")
    limit = run.limit_gradients(gradient_bound, "exp-concave")
    anchor = run.initial
    eye = torch.eye(anchor.shape[-1], dtype=anchor.dtype, device=anchor.device)
    matrix = (1 + bend * limit**2).expand(anchor.shape[:-1])[..., None, None] * eye
    hint, one = torch.zeros_like(anchor), anchor.new_ones(())
    for _ in range(run.rounds):
        run.matrix = matrix
        nearest = _nearest(matrix, domain, anchor)
        dual = (matrix @ anchor[..., None])[..., 0]
        decision = nearest(dual_step(dual, hint, 1.0))
        gradient = run.suffer(decision, hint, one)
        anchor = nearest(dual_step(dual, gradient, 1.0))
        matrix = matrix + bend / 2 * gradient[..., :, None] * gradient[..., None, :]
        if hints:
            hint = gradient
    return run.record()


def _nearest(matrix: Tensor, domain: Domain, start: Tensor) -> Callable[[Tensor], Tensor]:
    """From a dual to the point of the domain, in the norm of the matrix."""
    if isinstance(domain, Ball):
        return Mahalanobis(matrix, domain)._to_primal
    return lambda dual: simplex_quadratic(matrix, dual, start)


def optimistic_ftrl(
    environment: Environment,
    initial: Tensor,
    domain: Domain,
    rounds: int,
    *,
    regime: Literal["convex", "strongly convex"] = "convex",
    offset: float | Tensor | None = None,
    curvature: float | None = None,
    hints: bool = True,
    keep: bool = True,
) -> SeaRecord:
    r"""Optimistic follow the regularised leader with the last gradient as the hint.

    Algorithm ``alg-sea-ftrl``, with :math:`m_t = g_{t-1}`, :math:`m_1 = 0` and the sum
    :math:`G_{t-1}` of the gradients so far.

    - ``"convex"`` (``thm-sea-ftrl``): :math:`x_t` minimises
      :math:`\langle G_{t-1} + m_t, x\rangle + \|x - x_0\|^2/\eta_t` with
      :math:`\eta_t = \Delta^2 / (\nu + \sum_{s<t}\eta_s\|g_s - m_s\|^2)`.
    - ``"strongly convex"`` (``thm-sea-curved-leader``): :math:`x_t` minimises
      :math:`\sum_{s<t}[\langle g_s, x\rangle + \frac\lambda2\|x - x_s\|^2]
      + \langle m_t, x\rangle`.

    Args:
        environment: see :class:`mdtheory.convex.online_learning.Environment`.
        initial: the centre :math:`x_0`, shape ``(..., d)`` with the whole batch of plays; in the
            strongly convex regime it is the first decision.
        domain: where the learner plays, of finite diameter :math:`\Delta`.
        rounds: number of rounds ``T``.
        regime: which regulariser.
        offset: :math:`\nu > 0` of the convex regime, a number or shape ``(...)``; about
            :math:`\Delta G` makes the theorem's bound small.
        curvature: :math:`\lambda > 0` of the strongly convex regime.
        hints: ``False`` plays without hints, :math:`m_t = 0`.
        keep: keep decisions, gradients and losses of every round.

    Returns:
        The record of the run.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: as :func:`optimistic_mirror_descent`.

    Source:
        Sachs, Hadiji, van Erven and Guzmán (2022), algorithms (2) and (4).
    """
    if regime not in ("convex", "strongly convex"):
        raise ValueError(f"regime: expected 'convex' or 'strongly convex', got {regime!r}")
    run = Run(environment, initial, domain, rounds, keep=keep)
    if regime == "convex":
        if offset is None:
            raise ValueError("offset: expected a positive number in the convex regime, got None")
        denominator = run.per_play("offset", offset, strict=True)
        square = domain.diameter(initial.shape[-1]) ** 2
    else:
        lam = run.number("curvature", curvature, regime)
    leader, hint = torch.zeros_like(initial), torch.zeros_like(initial)
    for round_ in range(1, run.rounds + 1):
        if regime == "convex":
            step = square / denominator
            dual = dual_step(initial, run.total + hint, step[..., None] / 2)
            decision = domain._project(dual)
        else:
            # One round without curvature: any point minimises, and the centre is played.
            step = initial.new_full((), 1 / (lam * max(round_ - 1, 1)))
            mean = leader / max(round_ - 1, 1)
            dual = dual_step(mean, run.total + hint, step)
            decision = domain._project(dual) if round_ > 1 else initial
            leader = leader + decision
        error = run.variation
        gradient = run.suffer(decision, hint, step)
        if regime == "convex":
            denominator = denominator + step * (run.variation - error)
        if hints:
            hint = gradient
    return run.record()


class Run:
    """The sums of a run, checked on entry, and the half of a round that all learners share.

    Args:
        environment: the other side of the game.
        initial: first point, shape ``(..., d)``.
        domain: where the learner plays.
        rounds: number of rounds.
        keep: keep every round.
    """

    def __init__(
        self, environment: Environment, initial: Tensor, domain: Domain, rounds: int, *, keep: bool
    ) -> None:
        require_tensor("initial", initial)
        if not isinstance(domain, Domain):
            raise TypeError(f"domain: expected a Domain, got {type(domain).__name__}")
        domain.check("initial", initial)
        self.rounds = require_count("rounds", rounds)
        last = getattr(environment, "rounds", None)
        if last is not None and rounds > last:
            raise ValueError(f"rounds: expected at most {last} for this environment, got {rounds}")
        self.environment, self.initial, self.keep = environment, initial, keep
        self.batch = tuple(initial.shape[:-1])
        self.round = 0
        self.loss = self.linear_loss = initial.new_zeros(self.batch)
        self.variation = self.movement = self.paid_movement = self.loss
        self.longest = self.loss
        self.total = torch.zeros_like(initial)
        self._ones = initial.new_ones(initial.shape[-1])
        self.step: Tensor = initial.new_ones(())
        self.limit: Tensor | None = None
        self.matrix: Tensor | None = None
        self.decision: Tensor | None = None
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def number(self, name: str, value: float | None, regime: str) -> float:
        """A number above 0 that this regime needs."""
        if value is None:
            raise ValueError(f"{name}: expected a positive number in the {regime} regime, got None")
        return require_number(name, value, 0.0, strict=True)

    def per_play(self, name: str, value: float | Tensor, *, strict: bool = False) -> Tensor:
        """A number, at least 0, for each play.

        Args:
            name: the argument's name, for the message.
            value: a number, or a tensor that broadcasts to the batch.
            strict: ask for numbers above 0.

        Returns:
            The tensor, of a shape that broadcasts to the batch.
        """
        scale = require_scale(name, value, self.initial, self.batch, strict=strict, widens=False)
        return number_like(scale, self.initial).clone()

    def limit_gradients(self, bound: float | Tensor | None, regime: str) -> Tensor:
        """The bound on the gradients, which the record will check.

        Args:
            bound: :math:`G`, a number or a tensor that broadcasts to the batch.
            regime: what needs it, for the message.

        Returns:
            The tensor, of a shape that broadcasts to the batch.
        """
        if bound is None:
            raise ValueError(f"gradient_bound: expected a number in the {regime} regime, got None")
        self.limit = self.per_play("gradient_bound", bound)
        return self.limit

    def suffer(self, decision: Tensor, hint: Tensor, step: Tensor) -> Tensor:
        r"""Play the decision, and add the round to all sums.

        Args:
            decision: :math:`x_t`, shape ``(..., d)``.
            hint: :math:`m_t`, shape ``(..., d)``.
            step: :math:`\eta_t`, a shape that broadcasts to the batch.

        Returns:
            The gradient :math:`g_t`, shape ``(..., d)``.
        """
        self.round += 1
        # The environment gets a copy, and what it gives back may be a buffer that it fills again.
        loss, gradient = self.environment(self.round, decision.clone())
        if self.round == 1:
            require_shape("loss", loss, self.batch)
            require_shape("gradient", gradient, tuple(self.initial.shape))
            require_same_kind("gradient", gradient, "initial", self.initial)
        gradient = gradient.clone()
        if self.decision is not None:
            moved = self._square(decision - self.decision)
            self.movement = self.movement + moved
            self.paid_movement = self.paid_movement + moved / self.step
        self.decision, self.step = decision, step
        self.loss = self.loss + loss
        self.linear_loss = self.linear_loss + (gradient * decision) @ self._ones
        self.total = self.total + gradient
        self.variation = self.variation + self._square(gradient - hint)
        if self.limit is not None:
            self.longest = torch.maximum(self.longest, self._square(gradient))
        if self.keep:
            self.kept.append((loss.clone(), decision, gradient))
        return gradient

    def record(self) -> SeaRecord:
        """What the run leaves behind, found free of NaN."""
        # A NaN or an infinity of any round is still in these sums.
        sums = self.loss + self.linear_loss + self.variation
        require_values("environment", sums, sums.isfinite(), "finite losses and gradients")
        if self.limit is not None:
            slack, longest = 1 + 1e3 * torch.finfo(sums.dtype).eps, self.longest.sqrt()
            fits = longest <= slack * self.limit
            require_values("gradient_bound", longest, fits, "a bound on every gradient")
        kept: list[Tensor | None] = [None, None, None]
        if self.keep:
            kept = [torch.stack(rounds) for rounds in zip(*self.kept, strict=True)]
        return SeaRecord(
            self.loss,
            self.linear_loss,
            self.total,
            self.variation,
            self.movement,
            self.paid_movement,
            self.step,
            self.matrix,
            *kept,
        )

    def _square(self, x: Tensor) -> Tensor:
        # With a few coordinates a product with ones is faster than a sum over the last axis.
        return (x * x) @ self._ones
