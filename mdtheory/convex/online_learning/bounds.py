r"""Every bound of the chapter, with its constant.

Each function is the right-hand side of one labelled statement. Values that belong to rounds have
shape ``(T, ...)``; the batch ``...`` is that of the plays. They compute and check nothing: a
number that breaks an assumption of the statement gives a number that bounds nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.convex.mirror_maps import MirrorMap

__all__ = [
    "adagrad_diagonal",
    "adagrad_full",
    "adagrad_norm",
    "exp_concave_gamma",
    "exp_concave_surrogate",
    "exponentiated_gradient",
    "follow_the_leader",
    "gradient_descent",
    "hedge",
    "hedge_ranges",
    "hedge_second_order",
    "mirror_descent",
    "mirror_descent_adaptive",
    "newton_step",
    "newton_step_worst_case",
    "optimistic",
    "optimistic_master",
    "optimistic_players",
    "strongly_convex",
    "strongly_convex_worst_case",
    "universal_portfolio",
]


def mirror_descent(
    divergence: Tensor,
    step_size: float | Tensor,
    dual_norms: Tensor,
    strong_convexity: float,
) -> Tensor:
    r"""Regret of mirror descent with one step size, ``thm-omd``.

    :math:`D_\psi(u, x_1)/\eta + \frac{\eta}{2\mu}\sum_t \|g_t\|_*^2`.

    Args:
        divergence: :math:`D_\psi(u, x_1)`, shape ``(...)``.
        step_size: :math:`\eta`, a number or shape ``(...)``.
        dual_norms: :math:`\|g_t\|_*`, shape ``(T, ...)``.
        strong_convexity: :math:`\mu`.

    Returns:
        The bound, shape ``(...)``.
    """
    return divergence / step_size + step_size / (2 * strong_convexity) * (dual_norms**2).sum(0)


def mirror_descent_adaptive(
    largest_divergence: float | Tensor,
    step_sizes: Tensor,
    dual_norms: Tensor,
    strong_convexity: float,
) -> Tensor:
    r"""Regret of mirror descent with step sizes that never grow, ``thm-omd-adaptive``.

    :math:`B/\eta_T + \frac{1}{2\mu}\sum_t \eta_t\|g_t\|_*^2` with
    :math:`B \ge \max_t D_\psi(u, x_t)`.

    Args:
        largest_divergence: :math:`B`, a number or shape ``(...)``.
        step_sizes: :math:`\eta_t`, shape ``(T, ...)``.
        dual_norms: :math:`\|g_t\|_*`, shape ``(T, ...)``.
        strong_convexity: :math:`\mu`.

    Returns:
        The bound, shape ``(...)``.
    """
    paid = (step_sizes * dual_norms**2).sum(0)
    return largest_divergence / step_sizes[-1] + paid / (2 * strong_convexity)


def gradient_descent(
    diameter: float, gradient_norm: float, rounds: int, *, anytime: bool = False
) -> float:
    r"""Regret of projected gradient descent, ``cor-gradient-descent``.

    :math:`D G\sqrt T` with :math:`\eta = D/(G\sqrt T)`, and :math:`\frac32 D G\sqrt T` with
    :math:`\eta_t = D/(G\sqrt t)`.

    Args:
        diameter: :math:`D`, at least every :math:`\|x_t - u\|_2`.
        gradient_norm: :math:`G`, at least every :math:`\|g_t\|_2`.
        rounds: :math:`T`.
        anytime: whether the step size is the one that does not know :math:`T`.

    Returns:
        The bound.
    """
    return (1.5 if anytime else 1.0) * diameter * gradient_norm * math.sqrt(rounds)


def adagrad_norm(diameter: float, gradients: Tensor) -> Tensor:
    r"""Regret of AdaGrad with one step size, ``cor-adagrad-norm``.

    :math:`\sqrt2\, D\, (\sum_t\|g_t\|_2^2)^{1/2}`.

    Args:
        diameter: :math:`D`, at least every :math:`\|x_t - u\|_2`.
        gradients: :math:`g_t`, shape ``(T, ..., d)``.

    Returns:
        The bound, shape ``(...)``.
    """
    return math.sqrt(2) * diameter * (gradients**2).sum((0, -1)).sqrt()


def adagrad_diagonal(widths: float | Tensor, gradients: Tensor) -> Tensor:
    r"""Regret of diagonal AdaGrad on a box, ``thm-adagrad-diagonal``.

    :math:`\sqrt2\sum_i D_i\,(\sum_t g_{t,i}^2)^{1/2}`, the step of coordinate :math:`i` being
    :math:`D_i/\sqrt2`. It holds on the ball too, with :math:`D_i` its diameter.

    Args:
        widths: :math:`D_i`, at least every :math:`|x_{t,i}-u_i|`; a number or shape ``(d,)``.
        gradients: :math:`g_t`, shape ``(T, ..., d)``.

    Returns:
        The bound, shape ``(...)``.
    """
    return math.sqrt(2) * (widths * (gradients**2).sum(0).sqrt()).sum(-1)


def adagrad_full(
    distance: float | Tensor, step_size: float, gradients: Tensor, epsilon: float = 0.0
) -> Tensor:
    r"""Regret of AdaGrad with the full matrix, ``thm-adagrad-full``.

    :math:`\frac{B^2\varepsilon}{2\eta}
    + \big(\frac{B^2}{2\eta} + \eta\big)\operatorname{tr}\big(\sum_t g_t g_t^\top\big)^{1/2}`.

    Args:
        distance: :math:`B`, at least every :math:`\|x_t-u\|_2`; a number or shape ``(...)``.
        step_size: :math:`\eta`.
        gradients: :math:`g_t`, shape ``(T, ..., d)``.
        epsilon: :math:`\varepsilon`.

    Returns:
        The bound, shape ``(...)``.
    """
    # The trace of the root of G'G is the sum of the singular values of G, rows the gradients.
    trace = torch.linalg.svdvals(gradients.movedim(0, -2)).sum(-1)
    near = distance**2 / (2 * step_size)
    return near * epsilon + (near + step_size) * trace


def follow_the_leader(
    potential_range: Tensor,
    step_sizes: float | Tensor,
    dual_norms: Tensor,
    strong_convexity: float,
) -> Tensor:
    r"""Regret of follow the regularised leader, ``thm-ftrl``.

    :math:`(r(u) - \min r)/\eta_{T-1} + \frac{1}{2\mu}\sum_t \eta_{t-1}\|g_t\|_*^2` with
    :math:`\eta_0 = \eta_1`: the step size of a round is the one behind its decision.

    Args:
        potential_range: :math:`r(u) - \min r`, shape ``(...)``; :math:`D_\psi(u, x_1)` where the
            learner was given an initial point.
        step_sizes: :math:`\eta_t`, a number, or shape ``(T, ...)`` as ``play`` records them.
        dual_norms: :math:`\|g_t\|_*`, shape ``(T, ...)``.
        strong_convexity: :math:`\mu`.

    Returns:
        The bound, shape ``(...)``.
    """
    if isinstance(step_sizes, Tensor):
        behind = torch.cat([step_sizes[:1], step_sizes[:-1]])
        paid = (behind * dual_norms**2).sum(0)
        return potential_range / behind[-1] + paid / (2 * strong_convexity)
    return mirror_descent(potential_range, step_sizes, dual_norms, strong_convexity)


def hedge(experts: int, rounds: int, step_size: float | None = None) -> float:
    r"""Regret of Hedge from the uniform start on losses in [0, 1], ``thm-hedge``.

    :math:`\log d/\eta + \eta T/8`; with :math:`\eta = \sqrt{8\log d/T}` it is
    :math:`\sqrt{T\log d/2}`.

    Args:
        experts: :math:`d`.
        rounds: :math:`T`.
        step_size: :math:`\eta`; the best if ``None``.

    Returns:
        The bound.
    """
    if step_size is None:
        return math.sqrt(rounds * math.log(experts) / 2)
    return math.log(experts) / step_size + step_size * rounds / 8


def hedge_ranges(divergence: float | Tensor, step_size: float | Tensor, ranges: Tensor) -> Tensor:
    r"""Regret of Hedge on losses of any range, ``thm-hedge``.

    :math:`\mathrm{KL}(u, p_1)/\eta + \frac{\eta}{8}\sum_t c_t^2`.

    Args:
        divergence: :math:`\mathrm{KL}(u, p_1)`, at most :math:`\log d` from the uniform start; a
            number or shape ``(...)``.
        step_size: :math:`\eta`, a number or shape ``(...)``.
        ranges: :math:`c_t`, largest minus smallest loss of a round, shape ``(T, ...)``.

    Returns:
        The bound, shape ``(...)``.
    """
    return divergence / step_size + step_size / 8 * (ranges**2).sum(0)


def hedge_second_order(
    divergence: float | Tensor, step_size: float | Tensor, decisions: Tensor, losses: Tensor
) -> Tensor:
    r"""Regret of Hedge on losses that are at least 0, ``thm-hedge``.

    :math:`\mathrm{KL}(u, p_1)/\eta + \frac{\eta}{2}\sum_t\sum_i p_{t,i}\ell_{t,i}^2`.

    Args:
        divergence: :math:`\mathrm{KL}(u, p_1)`, a number or shape ``(...)``.
        step_size: :math:`\eta`, a number or shape ``(...)``.
        decisions: :math:`p_t`, shape ``(T, ..., d)``.
        losses: :math:`\ell_t`, shape ``(T, ..., d)``.

    Returns:
        The bound, shape ``(...)``.
    """
    second = (decisions * losses**2).sum(-1).sum(0)
    return divergence / step_size + step_size / 2 * second


def strongly_convex(dual_norms: Tensor, curvature: float) -> Tensor:
    r"""Regret of gradient descent with :math:`\eta_t = 1/(\lambda t)`, ``thm-strongly-convex``.

    :math:`\sum_t \|g_t\|_2^2 / (2\lambda t)`.

    Args:
        dual_norms: :math:`\|g_t\|_2`, shape ``(T, ...)``.
        curvature: :math:`\lambda`.

    Returns:
        The bound, shape ``(...)``.
    """
    rounds = torch.arange(1, len(dual_norms) + 1, dtype=dual_norms.dtype, device=dual_norms.device)
    weights = rounds.reshape((-1,) + (1,) * (dual_norms.ndim - 1))
    return (dual_norms**2 / (2 * curvature * weights)).sum(0)


def strongly_convex_worst_case(gradient_norm: float, curvature: float, rounds: int) -> float:
    r"""The closed form of :func:`strongly_convex`, ``thm-strongly-convex``.

    :math:`\frac{G^2}{2\lambda}(1 + \log T)`.

    Args:
        gradient_norm: :math:`G`, at least every :math:`\|g_t\|_2`.
        curvature: :math:`\lambda`.
        rounds: :math:`T`.

    Returns:
        The bound.
    """
    return gradient_norm**2 / (2 * curvature) * (1 + math.log(rounds))


def exp_concave_gamma(alpha: float, reach: float) -> float:
    r"""The :math:`\gamma` of ``lem-exp-concave``, :math:`\frac12\min\{1/M, \alpha\}`.

    Args:
        alpha: :math:`\alpha`, for which :math:`\exp(-\alpha f)` is concave.
        reach: :math:`M`, at least every :math:`|\langle g, u - x\rangle|`; the product :math:`GD`
            of a bound on gradients and the diameter will do.

    Returns:
        The largest :math:`\gamma` that the lemma allows.
    """
    return min(1 / reach if reach else math.inf, alpha) / 2


def exp_concave_surrogate(slope: Tensor, gamma: float | Tensor) -> Tensor:
    r"""Upper bound of :math:`f(x) - f(u)` for an exp-concave loss, ``lem-exp-concave``.

    :math:`s - \frac{\gamma}{2}s^2` with :math:`s = \langle\nabla f(x), x-u\rangle`.

    Args:
        slope: :math:`s`, any shape.
        gamma: :math:`\gamma`, a number or a shape that broadcasts with ``slope``.

    Returns:
        The bound, shape of ``slope``.
    """
    return slope - gamma / 2 * slope**2


def newton_step(
    gamma: float | Tensor, epsilon: float | Tensor, distance: float | Tensor, matrix: Tensor
) -> Tensor:
    r"""Regret of the online Newton step, ``thm-newton-step``.

    :math:`\frac{\gamma\varepsilon}{2}\|x_1-u\|_2^2
    + \frac{1}{2\gamma}\log\frac{\det A_T}{\det A_0}`; the first term is at most
    :math:`1/(2\gamma)` for :math:`\varepsilon = 1/(\gamma D)^2`.

    Args:
        gamma: :math:`\gamma`, a number or shape ``(...)``.
        epsilon: :math:`\varepsilon`, :math:`A_0 = \varepsilon I`, likewise.
        distance: :math:`\|x_1 - u\|_2` or an upper bound of it.
        matrix: :math:`A_T`, shape ``(..., d, d)``.

    Returns:
        The bound, shape ``(...)``.
    """
    start = epsilon if isinstance(epsilon, Tensor) else matrix.new_full((), epsilon)
    growth = torch.logdet(matrix) - matrix.shape[-1] * start.log()
    return gamma * epsilon * distance**2 / 2 + growth / (2 * gamma)


def newton_step_worst_case(
    gamma: float, diameter: float, gradient_norm: float, dimension: int, rounds: int
) -> float:
    r"""The closed form of :func:`newton_step`, ``thm-newton-step``.

    :math:`\frac{1}{2\gamma}\big[1 + d\log\big(1 + \frac{T G^2}{d\varepsilon}\big)\big]` with
    :math:`\varepsilon = 1/(\gamma D)^2`.

    Args:
        gamma: :math:`\gamma`.
        diameter: :math:`D`.
        gradient_norm: :math:`G`, at least every :math:`\|g_t\|_2`.
        dimension: :math:`d`.
        rounds: :math:`T`.

    Returns:
        The bound.
    """
    energy = rounds * gradient_norm**2 * (gamma * diameter) ** 2
    return (1 + dimension * math.log1p(energy / dimension)) / (2 * gamma)


def optimistic_master(
    mirror_map: MirrorMap,
    comparator: Tensor,
    decisions: Tensor,
    anchors: Tensor,
    gradients: Tensor,
    hints: Tensor,
    step_sizes: Tensor,
) -> Tensor:
    r"""Regret of optimistic mirror descent, the inequality of every run, ``lem-optimistic-master``.

    :math:`\sum_t \frac{1}{\eta_t}[D(u,\hat x_t) - D(u,\hat x_{t+1})]
    + \sum_t\langle g_t - m_t, x_t - \hat x_{t+1}\rangle
    - \sum_t\frac{1}{\eta_t}[D(\hat x_{t+1}, x_t) + D(x_t, \hat x_t)]`.

    Args:
        mirror_map: the geometry.
        comparator: :math:`u`, shape ``(..., d)``.
        decisions: :math:`x_t`, shape ``(T, ..., d)``.
        anchors: :math:`\hat x_1, \ldots, \hat x_{T+1}`, shape ``(T + 1, ..., d)``.
        gradients: :math:`g_t`, shape ``(T, ..., d)``.
        hints: :math:`m_t`, shape ``(T, ..., d)``.
        step_sizes: :math:`\eta_t`, shape ``(T, ...)``.

    Returns:
        The bound, shape ``(...)``.
    """
    axes = tuple(range(-mirror_map.event_dims, 0))
    before, after = anchors[:-1], anchors[1:]
    gained = mirror_map.divergence(comparator, before) - mirror_map.divergence(comparator, after)
    missed = ((gradients - hints) * (decisions - after)).sum(axes)
    moved = mirror_map.divergence(after, decisions) + mirror_map.divergence(decisions, before)
    return ((gained - moved) / step_sizes + missed).sum(0)


def optimistic(
    divergence: Tensor,
    step_size: float | Tensor,
    error_norms: Tensor,
    move_norms: Tensor,
    strong_convexity: float,
) -> Tensor:
    r"""Regret of optimistic mirror descent with one step size, ``thm-optimistic``.

    :math:`D(u,\hat x_1)/\eta + \frac{\eta}{\mu}\sum_t\|g_t-m_t\|_*^2
    - \frac{\mu}{4\eta}\sum_{t\ge2}\|x_t-x_{t-1}\|^2`.

    Args:
        divergence: :math:`D(u,\hat x_1)`, shape ``(...)``.
        step_size: :math:`\eta`, a number or shape ``(...)``.
        error_norms: :math:`\|g_t-m_t\|_*`, shape ``(T, ...)``.
        move_norms: :math:`\|x_t-x_{t-1}\|` for :math:`t\ge2`, shape ``(T - 1, ...)``.
        strong_convexity: :math:`\mu`.

    Returns:
        The bound, shape ``(...)``.
    """
    errors = step_size / strong_convexity * (error_norms**2).sum(0)
    moves = strong_convexity / (4 * step_size) * (move_norms**2).sum(0)
    return divergence / step_size + errors - moves


def optimistic_players(
    rows: int, columns: int, largest: float, step_size: float, rounds: int
) -> float:
    r"""Duality gap of the averages of two optimistic Hedges, ``cor-optimistic-players``.

    :math:`\frac1T\big(\frac{\log n + \log m}{\eta} + 2\eta a^2\big)` for
    :math:`\eta\le 1/(2a)`.

    Args:
        rows: :math:`n`.
        columns: :math:`m`.
        largest: :math:`a`, the largest absolute entry of the matrix.
        step_size: :math:`\eta`.
        rounds: :math:`T`.

    Returns:
        The bound.
    """
    start = (math.log(rows) + math.log(columns)) / step_size
    return (start + 2 * step_size * largest**2) / rounds


def exponentiated_gradient(assets: int, rounds: int, ratio: float) -> float:
    r"""Regret of exponentiated gradient on portfolios, ``cor-exponentiated-gradient``.

    :math:`(\rho - 1)\sqrt{T\log d/2}` with :math:`\eta = \sqrt{8\log d/T}/(\rho - 1)`; for
    another step size see :func:`hedge_ranges`.

    Args:
        assets: :math:`d`.
        rounds: :math:`T`.
        ratio: :math:`\rho`, at least every ratio of two relatives of one day.

    Returns:
        The bound in nats of wealth.
    """
    return (ratio - 1) * hedge(assets, rounds)


def universal_portfolio(assets: int, rounds: int) -> float:
    r"""Regret of the universal portfolio with the uniform prior, ``thm-universal-portfolio``.

    :math:`\log\binom{T+d-1}{d-1} \le (d-1)\log(T+1)`.

    Args:
        assets: :math:`d`.
        rounds: :math:`T`.

    Returns:
        The bound in nats of wealth.
    """
    return math.lgamma(rounds + assets) - math.lgamma(assets) - math.lgamma(rounds + 1)
