"""Where each loss stops on a bandit whose data never change: one prompt, a table of answers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_simplex,
    require_tensor,
    require_values,
    values_known,
)
from mdtheory.convex.mirror_maps import Simplex, entropy_step

BISECTIONS, NEWTON = 100, 12


def stale_step(
    log_policy: Tensor, behaviour: Tensor, weight: Tensor, step_size: float | Tensor
) -> Tensor:
    r"""The expected step of weighted REINFORCE on old data: the mirror step of the entropy.

    Equation ``eq-stale-step``: with :math:`a = \mu \circ A` and :math:`b = \sum_y a(y)` the logits
    move by :math:`\eta(a - b\,\pi)`, the gradient of :math:`\langle a, \pi\rangle - \frac b2
    \lVert\pi\rVert_2^2` times the step size.

    Args:
        log_policy: :math:`\log\pi`, shape ``(..., n)``.
        behaviour: :math:`\mu`, probabilities under which the answers were drawn, likewise.
        weight: :math:`A(y)`, likewise.
        step_size: :math:`\eta > 0`, a number or one for each bandit, shape ``(...)``.

    Returns:
        Log-probabilities after the step.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: shapes that do not fit, no probabilities, or a step size out of range.
    """
    require_tensor("log_policy", log_policy)
    _check_bandit(behaviour, {"weight": weight})
    require_same_kind("log_policy", log_policy, "behaviour", behaviour)
    if log_policy.shape[-1] != behaviour.shape[-1]:
        raise ValueError(
            f"log_policy: expected {behaviour.shape[-1]} answers, got {tuple(log_policy.shape)}"
        )
    step = require_scale("step_size", step_size, log_policy, strict=True, trailing=1)
    gain = behaviour * weight
    slope = gain - gain.sum(-1, keepdim=True) * log_policy.exp()
    return entropy_step(log_policy, -slope, step)


def stale_limit(behaviour: Tensor, weight: Tensor) -> Tensor:
    r"""Where weighted REINFORCE on old data ends, from the uniform policy.

    Theorem ``thm-stale-hedge``: the Euclidean projection of :math:`a/b` onto the simplex where
    :math:`b = \sum_y \mu(y) A(y) > 0`; for :math:`b = 0` the answer with the largest
    :math:`a = \mu \circ A`, in equal shares where several are.

    Args:
        behaviour: :math:`\mu`, shape ``(..., n)``, probabilities.
        weight: :math:`A(y)`, likewise: what multiplies :math:`\log\pi(y)` in the loss. A sum
            :math:`b` within rounding of 0 is 0.

    Returns:
        The limit policy, probabilities ``(..., n)``.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: shapes that do not fit, no probabilities, or a sum :math:`b` below 0, where
            the limit depends on the start.
    """
    _check_bandit(behaviour, {"weight": weight})
    gain = behaviour * weight
    total = gain.sum(-1, keepdim=True)
    slack = 4 * gain.shape[-1] * torch.finfo(gain.dtype).eps * gain.abs().sum(-1, keepdim=True)
    require_values("weight", total, total >= -slack, "weights with a mean >= 0 under the behaviour")
    flat = total <= slack
    best = gain == gain.amax(-1, keepdim=True)
    corner = best / best.sum(-1, keepdim=True)
    target = gain / torch.where(flat, 1.0, total)
    return torch.where(flat, corner, Simplex().project(torch.where(flat, 0.0, target)))


class SquareLimit(NamedTuple):
    r"""The minimiser of OPMD's square loss.

    Attributes:
        policy: probabilities ``(..., n)``.
        curvature: :math:`\kappa \ge 0`, shape ``(...)``; for answers of the anchor it is
            :math:`\tau\,\mathrm{KL}(\pi_t\|\pi)`.
    """

    policy: Tensor
    curvature: Tensor


def opmd_limit(
    anchor: Tensor,
    rewards: Tensor,
    temperature: float | Tensor,
    behaviour: Tensor | None = None,
) -> SquareLimit:
    r"""Where OPMD stops: the minimiser of :math:`\mathbb{E}_\mu(r - \bar r - \tau d)^2`.

    Theorem ``thm-opmd``: :math:`\tau\log(\pi/\pi_t) + \kappa\,\pi/\mu = r - \bar r`, with the one
    :math:`\kappa \ge 0` at which the solution is a law. Bisection for :math:`\kappa`, and Newton's
    method for Lambert's function inside.

    Args:
        anchor: :math:`\pi_t`, positive probabilities, shape ``(..., n)``.
        rewards: :math:`r`, likewise.
        temperature: :math:`\tau > 0`, a number or one for each bandit, shape ``(...)``.
        behaviour: :math:`\mu`, positive probabilities; the anchor by default.

    Returns:
        The policy and :math:`\kappa`.

    Raises:
        TypeError: an argument is no floating-point tensor, or dtypes differ.
        ValueError: shapes that do not fit, no positive probabilities, a temperature out of range,
            or :math:`\sum_y\pi_t e^{(r - \bar r)/\tau} < 1`, which no anchor that is the behaviour
            has.
    """
    behaviour = anchor if behaviour is None else behaviour
    _check_bandit(behaviour, {"anchor": anchor, "rewards": rewards}, positive=True)
    require_simplex("anchor", anchor, positive=True)
    tau = require_scale(
        "temperature", temperature, rewards, rewards.shape[:-1], strict=True, widens=False,
        trailing=1,
    )  # fmt: skip
    centred = (rewards - (behaviour * rewards).sum(-1, keepdim=True)) / tau
    free = anchor.log() + centred  # the solution for kappa = 0, without the sum
    size = free.logsumexp(-1)
    slack = 8 * rewards.shape[-1] * torch.finfo(rewards.dtype).eps * (1 + centred.abs().amax(-1))
    require_values(
        "behaviour", size, size >= -slack, "a law under which the square has one minimum"
    )
    low = torch.zeros_like(size)
    high = (behaviour * centred.square()).sum(-1).sqrt()
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        heavy = _square_log(free, behaviour, middle).logsumexp(-1) > 0
        low, high = torch.where(heavy, middle, low), torch.where(heavy, high, middle)
    share = (low + high) / 2
    policy = _square_log(free, behaviour, share).softmax(-1)
    return SquareLimit(
        policy, share * (tau[..., 0] if isinstance(tau, Tensor) and tau.ndim else tau)
    )


def _square_log(free: Tensor, behaviour: Tensor, curvature: Tensor) -> Tensor:
    r"""Solution :math:`u` of :math:`u + \kappa e^u/\mu = s`, by Newton's method from above."""
    log_a = curvature[..., None].log() - behaviour.log()
    upper = (free + log_a).clamp(min=1).log() - log_a
    u = torch.minimum(free, upper)
    for _ in range(NEWTON):
        w = (u + log_a).exp()
        u = u - (u + w - free) / (1 + w)
    return u


def clip_stop(success: Tensor, low: float = 0.2, high: float = 0.2) -> Tensor:
    r"""How far one-sided clipping lets the right one of two answers rise on old data.

    Proposition ``prop-clip-stop``:
    :math:`\min\{1, \max\{(1 + \epsilon_h)p, 1 - (1 - \epsilon_l)(1 - p)\}\}`, with importance
    weights and without.

    Args:
        success: :math:`p`, the right answer's probability when the data were drawn, in [0, 1].
        low: :math:`\epsilon_l`, in [0, 1].
        high: :math:`\epsilon_h \ge 0`.

    Returns:
        The probability at which the flow stops, of the shape of ``success``.

    Raises:
        TypeError: no floating-point tensor, or no numbers.
        ValueError: a number out of range.
    """
    _check_success(success)
    require_number("low", low, 0.0, maximum=1.0)
    require_number("high", high, 0.0, infinite=True)
    return torch.maximum((1 + high) * success, 1 - (1 - low) * (1 - success)).clamp(max=1)


def prompt_weight(success: Tensor, group: int, *, unbiased: bool = True) -> Tensor:
    r"""How much larger GRPO's expected step on a prompt is than REINFORCE's.

    Proposition ``prop-groups``: :math:`\mathbb{E}[s]/\mathbb{E}[s^2]` with :math:`s^2 = q(1 - q)`
    and :math:`Kq` binomial, times :math:`\sqrt{(K-1)/K}` if the deviation is the unbiased one.
    Many answers make it :math:`1/\sqrt{p(1-p)}`.

    Args:
        success: :math:`p`, the probability of a right answer, in (0, 1).
        group: :math:`K \ge 2`.
        unbiased: as in :func:`group_advantages`, whose ``epsilon`` is left out.

    Returns:
        The ratio of the steps, of the shape of ``success``.

    Raises:
        TypeError: no floating-point tensor, or no whole number.
        ValueError: a number out of range.
    """
    _check_success(success)
    inside = (success > 0) & (success < 1)
    require_values("success", success, inside, "probabilities in (0, 1)")
    require_count("group", group, 2)
    count = torch.arange(group + 1, dtype=success.dtype, device=success.device)
    ways = math.lgamma(group + 1) - torch.lgamma(count + 1) - torch.lgamma(group - count + 1)
    p = success[..., None]
    chance = (ways + count * p.log() + (group - count) * torch.log1p(-p)).exp()
    square = count / group * (1 - count / group)
    ratio = (chance * square.sqrt()).sum(-1) / (chance * square).sum(-1)
    return ratio * ((group - 1) / group) ** 0.5 if unbiased else ratio


def asymmetric_value(success: Tensor, shift: float | Tensor) -> Tensor:
    r"""Value of AsymRE's limit when rewards are 0 and 1.

    Corollary ``cor-asymre``: 1 for :math:`\beta \le p`, :math:`p + p(1 - p)/\beta` beyond.

    Args:
        success: :math:`p`, the value of the law of the data, in (0, 1].
        shift: :math:`\beta \ge 0`, a number or a tensor that broadcasts.

    Returns:
        Values, of the broadcast shape.

    Raises:
        TypeError: no floating-point tensor, or dtypes differ.
        ValueError: shapes that do not broadcast, or a number out of range.
    """
    _check_success(success)
    beta = require_scale("shift", shift, success, success.shape)
    return success + success * (1 - success) / success.clamp(min=beta)


def _check_success(success: Tensor) -> None:
    require_tensor("success", success, 0)
    valid = (success >= 0) & (success <= 1)
    require_values("success", success, valid, "probabilities in [0, 1]")


def _check_bandit(behaviour: Tensor, others: dict[str, Tensor], *, positive: bool = False) -> None:
    require_tensor("behaviour", behaviour)
    for name, other in others.items():
        require_tensor(name, other)
        require_same_kind(name, other, "behaviour", behaviour)
        require_shape(name, other, tuple(behaviour.shape))
        require_finite(name, other)
    if values_known(behaviour):
        require_simplex("behaviour", behaviour, positive=positive)
