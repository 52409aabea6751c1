"""The chapter's rates with mini-batches, and how many inner steps they ask for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_scale, require_values
from mdtheory.convex.online_learning.learners import number_like

Value = float | Tensor


def exponential_rate(
    distance: Value, noise: Value, rounds: int, condition: Value, curvature: Value
) -> Tensor:
    r"""How far the exact projection is from its goal, ``thm-target-exponential`` (1).

    :math:`r_0 e^{-\mu\eta(T-1)/(2.5\log T)} + \frac53\frac{s_*}\mu\frac{\log T}{\sqrt T}` with the
    steps :math:`\eta_t = \eta T^{-t/T}`, :math:`\eta\le b/(2nL)`.

    Args:
        distance: :math:`r_0`, in the norm of the targets; a number or any shape.
        noise: :math:`s_*` of ``eq-target-noise``, likewise.
        rounds: :math:`T\ge3`.
        condition: :math:`1/(\mu\eta)\ge2`, likewise.
        curvature: :math:`\mu>0`, likewise.

    Returns:
        The bound, of the broadcast shape.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    far, drawn, ratio, bend = _numbers(distance, noise, condition, curvature)
    late = math.log(require_count("rounds", rounds, 3))
    fallen = (-(rounds - 1) / (2.5 * ratio * late)).exp()
    return far * fallen + 5 / 3 * drawn / bend * late / math.sqrt(rounds)


def inexact_rate(
    distance: Value,
    noise: Value,
    rounds: int,
    condition: Value,
    curvature: Value,
    remainder: Value,
    gradient: Value,
) -> Tensor:
    r"""The same with so many inner steps, ``thm-target-exponential`` (2).

    :math:`r_0 e^{-\mu\eta(T-1)/(5\log T)} + 3.1\frac{s_*}\mu\frac{\log T}{\sqrt T}
    + \frac4\mu q^m\sigma_*`.

    Args:
        distance: as in :func:`exponential_rate`, and likewise ``noise``, ``rounds``, ``condition``
            and ``curvature``.
        noise: :math:`s_*`.
        rounds: :math:`T\ge3`.
        condition: :math:`1/(\mu\eta)\ge2`.
        curvature: :math:`\mu>0`.
        remainder: :math:`q^m`, at most :math:`\frac\mu{4L}\sqrt{b/n}`.
        gradient: :math:`\sigma_* = (\mathbb E\|g_B(z^*)\|^2)^{1/2}`.

    Returns:
        The bound, of the broadcast shape.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    far, drawn, ratio, bend = _numbers(distance, noise, condition, curvature)
    left = number_like(require_scale("remainder", remainder, far), far)
    slope = number_like(require_scale("gradient", gradient, far), far)
    late = math.log(require_count("rounds", rounds, 3))
    fallen = (-(rounds - 1) / (5 * ratio * late)).exp()
    chance = 3.1 * drawn / bend * late / math.sqrt(rounds)
    return far * fallen + chance + 4 / bend * left * slope


def inner_steps_needed(
    shrink: float, smoothness: float, curvature: float, share: float = 1.0
) -> int:
    r"""The smallest :math:`m` with :math:`q^m\le\frac\mu{4L}\sqrt{b/n}`.

    Args:
        shrink: :math:`q = 1 - as` in [0, 1) for the smallest positive eigenvalue :math:`s`.
        smoothness: :math:`L`.
        curvature: :math:`\mu` in (0, L].
        share: :math:`b/n` in (0, 1].

    Returns:
        The number of inner steps, at least 1.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    if not 0 <= require_number("shrink", shrink, 0.0) < 1:
        raise ValueError(f"shrink: expected a number in [0, 1), got {shrink!r}")
    if not 0 < require_number("share", share, 0.0) <= 1:
        raise ValueError(f"share: expected a number in (0, 1], got {share!r}")
    top = require_number("smoothness", smoothness, 0.0, strict=True)
    if not 0 < require_number("curvature", curvature, 0.0) <= top:
        raise ValueError(f"curvature: expected a number in (0, {top!r}], got {curvature!r}")
    goal = curvature / (4 * top) * math.sqrt(share)
    if shrink == 0:
        return 1
    return max(1, math.ceil(math.log(goal) / math.log(shrink)))


def _numbers(
    distance: Value, noise: Value, condition: Value, curvature: Value
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = (distance, noise, condition, curvature)
    like = next((v for v in given if isinstance(v, Tensor)), torch.zeros(()).double())
    names = ("distance", "noise", "condition", "curvature")
    far, drawn, ratio, bend = (
        number_like(require_scale(name, value, like), like)
        for name, value in zip(names, given, strict=True)
    )
    require_values("condition", ratio, ratio >= 2, "numbers of at least 2")
    require_values("curvature", bend, bend > 0, "numbers above 0")
    return far, drawn, ratio, bend
