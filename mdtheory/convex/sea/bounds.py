"""Every bound of the chapter, as a function of what the model is about."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mdtheory.checks import require_scale, require_values
from mdtheory.convex.online_learning.learners import number_like

Value = float | Tensor


def convex_pathwise(
    diameter: float,
    gradient_bound: Value,
    variation: Tensor,
    paid_movement: Tensor,
    offset: Value = 0.0,
) -> Tensor:
    r"""Regret of every run in the convex regime, ``thm-sea-convex``.

    :math:`\frac\Delta2\sqrt{\delta+4G^2+V_T} + 2\Delta\sqrt{V_T}
    - \frac14\sum_{t\ge2}\|x_t-x_{t-1}\|^2/\eta_{t-1}`.

    Args:
        diameter: :math:`\Delta`.
        gradient_bound: :math:`G`, a number or shape ``(...)``.
        variation: :math:`V_T`, shape ``(...)``.
        paid_movement: :math:`\sum_{t\ge2}\|x_t-x_{t-1}\|^2/\eta_{t-1}`, shape ``(...)``.
        offset: :math:`\delta`, a number or shape ``(...)``.

    Returns:
        The bound, shape ``(...)``.
    """
    start = offset + 4 * gradient_bound**2
    distance = diameter / 2 * (start + variation).sqrt()
    return distance + 2 * diameter * variation.sqrt() - paid_movement / 4


def expected_variation(
    gradient_bound: Value, smoothness: float, variance: Value, variation: Value, movement: Value
) -> Value:
    r"""The expected variation of the gradients, ``lem-sea-drift``.

    :math:`\mathbb E V_T \le G^2 + 8\sigma^2_{1:T} + 4\Sigma^2_{1:T} + 4L^2\,\mathbb E S_T`.

    Args:
        gradient_bound: :math:`G`.
        smoothness: :math:`L`.
        variance: :math:`\sigma^2_{1:T}`.
        variation: :math:`\Sigma^2_{1:T}`.
        movement: :math:`\mathbb E S_T`, the mean of the squared steps' sum.

    Returns:
        The bound, of the arguments' broadcast shape.
    """
    return gradient_bound**2 + 8 * variance + 4 * variation + 4 * smoothness**2 * movement


def ftrl_pathwise(
    diameter: float, gradient_bound: Value, offset: Value, variation: Tensor, movement: Tensor
) -> Tensor:
    r"""Regret of every run of the optimistic regularised leader, ``thm-sea-ftrl``.

    :math:`\nu + \frac{6\Delta^2G^2}\nu + \frac{3}{\sqrt2}\Delta\sqrt{V_T}
    - \frac{\nu}{3\Delta^2}S_T`.

    Args:
        diameter: :math:`\Delta`.
        gradient_bound: :math:`G`, a number or shape ``(...)``.
        offset: :math:`\nu > 0`, likewise.
        variation: :math:`V_T`, shape ``(...)``.
        movement: :math:`S_T`, shape ``(...)``.

    Returns:
        The bound, shape ``(...)``.
    """
    earned = offset / (3 * diameter**2) * movement
    first = offset + 6 * (diameter * gradient_bound) ** 2 / offset
    return first + 1.5 * math.sqrt(2) * diameter * variation.sqrt() - earned


def strongly_convex_pathwise(errors: Tensor, movements: Tensor, curvature: float) -> Tensor:
    r"""Curved regret of every run in the strongly convex regime, ``thm-sea-strongly-convex``.

    :math:`\sum_t\langle g_t, x_t-u\rangle - \frac\lambda2\|x_t-u\|^2
    \le \sum_t\frac{2}{\lambda t}\|g_t-m_t\|^2
    - \frac\lambda8\sum_{t\ge3}(t-2)\|x_t-x_{t-1}\|^2`.

    Args:
        errors: :math:`\|g_t-m_t\|^2`, shape ``(T, ...)``.
        movements: :math:`\|x_t-x_{t-1}\|^2` for :math:`t\ge2`, shape ``(T - 1, ...)``.
        curvature: :math:`\lambda`.

    Returns:
        The bound, shape ``(...)``.
    """
    rounds = torch.arange(1, len(errors) + 1, dtype=errors.dtype, device=errors.device)
    rounds = rounds.reshape(-1, *(1,) * (errors.ndim - 1))
    paid = (2 / (curvature * rounds) * errors).sum(0)
    return paid - curvature / 8 * ((rounds[1:] - 2) * movements).sum(0)


def curved_leader_pathwise(errors: Tensor, movements: Tensor, curvature: float) -> Tensor:
    r"""Curved regret of every run of the leader on parabolas, ``thm-sea-curved-leader``.

    :math:`\sum_t\langle g_t, x_t-u\rangle - \frac\lambda2\|x_t-u\|^2
    \le \sum_t\frac{1}{\lambda t}\|g_t-m_t\|^2
    - \frac\lambda6\sum_{t\ge2}(t-1)\|x_t-x_{t-1}\|^2`.

    The arguments are those of :func:`strongly_convex_pathwise`.

    Returns:
        The bound, shape ``(...)``.
    """
    rounds = torch.arange(1, len(errors) + 1, dtype=errors.dtype, device=errors.device)
    rounds = rounds.reshape(-1, *(1,) * (errors.ndim - 1))
    paid = (errors / (curvature * rounds)).sum(0)
    return paid - curvature / 6 * ((rounds[1:] - 1) * movements).sum(0)


def exp_concave_pathwise(
    diameter: float,
    gradient_bound: Value,
    gamma: float,
    dimension: int,
    variation: Tensor,
    movement: Tensor,
) -> Tensor:
    r"""Regret of every run in the exp-concave regime, ``thm-sea-exp-concave``.

    :math:`\frac{\Delta^2}{2}(1+\gamma G^2)
    + \frac{8d}{\gamma}\log\big(1+\frac{\gamma V_T}{8d}\big) - \frac14 S_T`.

    Args:
        diameter: :math:`\Delta`.
        gradient_bound: :math:`G`, a number or shape ``(...)``.
        gamma: :math:`\gamma`.
        dimension: :math:`d`.
        variation: :math:`V_T`, shape ``(...)``.
        movement: :math:`S_T`, shape ``(...)``.

    Returns:
        The bound, shape ``(...)``.
    """
    start = diameter**2 / 2 * (1 + gamma * gradient_bound**2)
    scale = 8 * dimension / gamma
    return start + scale * (variation / scale).log1p() - movement / 4


def dynamic_pathwise(
    diameter: float, path_length: Value, step_size: Value, variation: Tensor, movement: Tensor
) -> Tensor:
    r"""Dynamic regret of every run with one constant step size, ``thm-sea-dynamic``.

    :math:`\frac{\Delta^2 + 2\Delta P_T}{2\eta} + \eta V_T - \frac1{4\eta}S_T`.

    Args:
        diameter: :math:`\Delta`.
        path_length: :math:`P_T = \sum_{t\ge2}\|u_t-u_{t-1}\|`, a number or shape ``(...)``.
        step_size: :math:`\eta`, likewise.
        variation: :math:`V_T`, shape ``(...)``.
        movement: :math:`S_T`, shape ``(...)``.

    Returns:
        The bound, shape ``(...)``.
    """
    far = (diameter**2 + 2 * diameter * path_length) / (2 * step_size)
    return far + step_size * variation - movement / (4 * step_size)


def front_loaded(largest: Value, total: Value) -> Tensor:
    r"""The most that :math:`\sum_t a_t/t` can be, ``lem-sea-front-loading``.

    :math:`M\,(1 + \log(1 + S/M))` for :math:`0\le a_t\le M` and :math:`\sum_t a_t = S`; 0 for
    :math:`M = 0`.

    Args:
        largest: :math:`M\ge 0`, a number or any shape.
        total: :math:`S\ge 0`, a number or a shape that broadcasts with it.

    Returns:
        The bound.
    """
    like = next((v for v in (largest, total) if isinstance(v, Tensor)), torch.zeros(()).double())
    most, whole = number_like(largest, like), number_like(total, like)
    ratio = whole / torch.where(most > 0, most, 1.0)
    return most * (1 + ratio.log1p())


def random_order_variance(rounds: Value, spread: Value, largest: Value) -> Tensor:
    r"""The expected sum of the variances of a deck in random order, ``prop-sea-random-order``.

    :math:`n s^2\bigl(1 + \log(\tilde s^2/s^2)\bigr)`, and 0 for :math:`s = 0`.

    Args:
        rounds: :math:`n`, how many losses the deck has.
        spread: :math:`s^2 = \sup_x\frac1n\sum_i\|\nabla f_i(x)-\nabla\bar f(x)\|^2\ge0`.
        largest: :math:`\tilde s^2 = \frac1n\sum_i\sup_x\|\nabla f_i(x)-\nabla\bar f(x)\|^2`, at
            least the spread.

    Returns:
        The bound, of the broadcast shape.
    """
    values = (rounds, spread, largest)
    like = next((v for v in values if isinstance(v, Tensor)), torch.zeros(()).double())
    count, mean, most = (number_like(value, like) for value in values)
    ratio = torch.where(mean > 0, most, 1.0) / torch.where(mean > 0, mean, 1.0)
    return count * mean * (1 + ratio.log())


def curved_leader_bound(
    diameter: float,
    gradient_bound: Value,
    smoothness: float,
    variance: Value,
    variation: Value,
    curvature: float,
    largest_variance: Value,
    largest_variation: Value,
) -> Tensor:
    r"""Expected regret of the leader on parabolas, ``cor-sea-curved-leader``.

    :math:`\frac{G^2}\lambda + \frac4\lambda\bigl[2\phi(\sigma^2_{\max}, \sigma^2_{1:T})
    + \phi(\Sigma^2_{\max}, \Sigma^2_{1:T})\bigr]
    + \frac{4L^2\Delta^2}\lambda\log(1+5L/\lambda)`, :math:`\phi` being :func:`front_loaded`.

    Args:
        diameter: :math:`\Delta`.
        gradient_bound: :math:`G`, a number or shape ``(...)``.
        smoothness: :math:`L`.
        variance: :math:`\sigma^2_{1:T}`, a number or shape ``(...)``.
        variation: :math:`\Sigma^2_{1:T}`, likewise.
        curvature: :math:`\lambda > 0`.
        largest_variance: :math:`\sigma^2_{\max}`, a number or shape ``(...)``.
        largest_variation: :math:`\Sigma^2_{\max}`, likewise.

    Returns:
        The bound, of the broadcast shape.
    """
    drawn = 2 * front_loaded(largest_variance, variance)
    drawn = drawn + front_loaded(largest_variation, variation)
    condition = smoothness**2 * diameter**2 * math.log1p(5 * smoothness / curvature)
    return (gradient_bound**2 + 4 * drawn + 4 * condition) / curvature


def regret_bound(
    regime: Literal["convex", "strongly convex", "exp-concave", "dynamic"],
    *,
    diameter: float,
    gradient_bound: Value,
    smoothness: float,
    variance: Value,
    variation: Value,
    offset: Value = 0.0,
    curvature: float | None = None,
    largest_variance: Value | None = None,
    largest_variation: Value | None = None,
    gamma: float | None = None,
    dimension: int | None = None,
    path_length: Value | None = None,
    pool: int | None = None,
) -> Tensor:
    r"""The chapter's bounds on the expected regret, from variance and variation alone.

    With :math:`A = G^2 + 8\sigma^2_{1:T} + 4\Sigma^2_{1:T}`:

    - ``"convex"`` (``cor-sea-convex``), :math:`c = \sqrt{\delta+4G^2}`:
      :math:`\frac\Delta2 c + \frac52\Delta G + 5\sqrt2\Delta\sqrt{\sigma^2_{1:T}}
      + 5\Delta\sqrt{\Sigma^2_{1:T}} + 25\Delta^3L^2/c`.
    - ``"strongly convex"`` (``cor-sea-strongly-convex``), :math:`\phi` being :func:`front_loaded`:
      :math:`\frac{2G^2}\lambda + \frac8\lambda\bigl[2\phi(\sigma^2_{\max}, \sigma^2_{1:T})
      + \phi(\Sigma^2_{\max}, \Sigma^2_{1:T})\bigr]
      + \frac{8L^2\Delta^2}\lambda\log(2+8L/\lambda)`.
    - ``"exp-concave"`` (``cor-sea-exp-concave``):
      :math:`\frac{\Delta^2}2(1+\gamma G^2) + \frac{8d}\gamma\big[\log(1+\frac{\gamma A}{8d})
      + \log\max\{1, 16L^2\}\big]`.
    - ``"dynamic"`` (``thm-sea-ensemble``), for the pool of ``K`` step sizes of the theorem:
      :math:`\Delta G\sqrt{\log K} + \frac{15}2L\Delta^2\log K
      + \frac32\Delta\sqrt{A\log K} + 8LB
      + 3\sqrt{AB/2}` with :math:`B = \Delta^2+2\Delta P_T`.

    Args:
        regime: which bound.
        diameter: :math:`\Delta`.
        gradient_bound: :math:`G`, a number or shape ``(...)``.
        smoothness: :math:`L`.
        variance: :math:`\sigma^2_{1:T}`, a number or shape ``(...)``.
        variation: :math:`\Sigma^2_{1:T}`, summed from the second round, likewise.
        offset: :math:`\delta` of the convex regime.
        curvature: :math:`\lambda`, for the strongly convex regime.
        largest_variance: :math:`\sigma^2_{\max}`, for the strongly convex regime.
        largest_variation: :math:`\Sigma^2_{\max}`, for the strongly convex regime.
        gamma: :math:`\gamma`, for the exp-concave regime.
        dimension: :math:`d`, for the exp-concave regime.
        path_length: :math:`P_T`, for the dynamic regime.
        pool: :math:`K`, for the dynamic regime.

    Returns:
        The bound, shape ``(...)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an unknown regime, a number that is missing or negative, or a ``curvature``,
            ``gamma``, ``dimension`` or ``pool`` that is 0.

    Source:
        The rates: Sachs et al. (2022); Chen, Tu, Zhao and Zhang (2024). The constants: this book.
    """
    numbers = {
        "diameter": diameter,
        "gradient_bound": gradient_bound,
        "smoothness": smoothness,
        "variance": variance,
        "variation": variation,
        "offset": offset,
    }
    like = next((v for v in numbers.values() if isinstance(v, Tensor)), torch.zeros(()).double())
    diam, bound, smooth, var, move, start = (
        _at_least_zero(name, value, like) for name, value in numbers.items()
    )
    energy = bound**2 + 8 * var + 4 * move
    if regime == "convex":
        root = (start + 4 * bound**2).sqrt()
        chance = 5 * math.sqrt(2) * diam * var.sqrt() + 5 * diam * move.sqrt()
        fixed = diam / 2 * root + 2.5 * diam * bound
        return fixed + chance + 25 * diam**3 * smooth**2 / root
    if regime == "strongly convex":
        lam = _required("curvature", curvature, regime, like, strict=True)
        most = _required("largest_variance", largest_variance, regime, like)
        jump = _required("largest_variation", largest_variation, regime, like)
        drawn = 8 / lam * (2 * front_loaded(most, var) + front_loaded(jump, move))
        condition = 8 * smooth**2 * diam**2 / lam * (2 + 8 * smooth / lam).log()
        return 2 * bound**2 / lam + drawn + condition
    if regime == "exp-concave":
        bend = _required("gamma", gamma, regime, like, strict=True)
        scale = 8 * _required("dimension", dimension, regime, like, strict=True) / bend
        grown = (energy / scale).log1p() + (16 * smooth**2).clamp(min=1).log()
        return diam**2 / 2 * (1 + bend * bound**2) + scale * grown
    if regime == "dynamic":
        experts = _required("pool", pool, regime, like, strict=True).log()
        reach = diam**2 + 2 * diam * _required("path_length", path_length, regime, like)
        meta = diam * bound * experts.sqrt() + 7.5 * smooth * diam**2 * experts
        meta = meta + 1.5 * diam * (energy * experts).sqrt()
        return meta + 8 * smooth * reach + 3 * (energy * reach / 2).sqrt()
    raise ValueError(
        f"regime: expected 'convex', 'strongly convex', 'exp-concave' or 'dynamic', got {regime!r}"
    )


def _at_least_zero(name: str, value: Value, like: Tensor) -> Tensor:
    return number_like(require_scale(name, value, like), like)


def _required(
    name: str, value: Value | None, regime: str, like: Tensor, *, strict: bool = False
) -> Tensor:
    if value is None:
        raise ValueError(f"{name}: expected a number for the {regime} regime, got None")
    number = _at_least_zero(name, value, like)
    if strict:
        require_values(name, number, number > 0, "values above 0")
    return number
