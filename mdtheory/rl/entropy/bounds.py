"""Right-hand sides of the statements about entropy smoothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_scale

Number = float | Tensor


def reference_growth(updates: Tensor, factor: float) -> Tensor:
    r"""How far a cumulative mean can follow entropy: theorem ``thm-reference``.

    :math:`\Gamma(k + \kappa)/(\Gamma(k + 1)\Gamma(1 + \kappa))`, near
    :math:`k^{\kappa - 1}/\Gamma(1 + \kappa)` for many updates.

    Args:
        updates: :math:`k \ge 1`, floating point, any shape.
        factor: :math:`\kappa \ge 0`.

    Returns:
        :math:`M_k/M_1` of a history that rides the edge, of the same shape.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of range.
    """
    kappa = require_number("factor", factor, 0.0)
    k = torch.as_tensor(require_scale("updates", updates, updates, minimum=1.0))
    one = torch.ones((), dtype=k.dtype, device=k.device)
    # Gamma(kappa) at 0 is infinite only for k = 0.
    return (torch.lgamma(k + kappa) - torch.lgamma(k + 1) - torch.lgamma(one + kappa)).exp()


def window_growth(factor: float, window: int) -> float:
    r"""How much entropy that rides a sliding window grows in an update: ``thm-reference``.

    The root :math:`r > 0` of :math:`r^n = \frac\kappa n(1 + r + \dots + r^{n-1})`: above 1 for a
    factor above 1, below 1 for one below.

    Args:
        factor: :math:`\kappa > 0`.
        window: :math:`n \ge 1`.

    Returns:
        :math:`r`.

    Raises:
        TypeError: a number of the wrong kind.
        ValueError: a number out of range.
    """
    kappa = require_number("factor", factor, 0.0, strict=True)
    n = require_count("window", window)
    # In x = 1/r: n/kappa = x + ... + x^n, which rises with x.
    low, high = 0.0, max(1.0, n / kappa)
    for _ in range(200):
        middle = (low + high) / 2
        total = 0.0
        for _ in range(n):
            total = middle * (1 + total)
        low, high = (middle, high) if total < n / kappa else (low, middle)
    return 1 / high


def deviation_bound(
    reference: Number, low: Number, high: Number, turns: int, largest: Number
) -> tuple[Number, Number]:
    r"""The bounds of ``thm-deviation`` on :math:`\Delta_T = \sum_t|H_t - \bar H|`.

    Args:
        reference: :math:`\bar H`, between 0 and ``largest``.
        low: :math:`\kappa_\ell`.
        high: :math:`\kappa_r`.
        turns: :math:`T`.
        largest: the largest entropy that there is, :math:`\log|\mathcal V|`.

    Returns:
        The bound inside the corridor, and the one that always holds.

    Raises:
        ValueError: fewer than one turn.
    """
    require_count("turns", turns)
    inside = torch.maximum(torch.as_tensor(1 - low), torch.as_tensor(high - 1)) * reference
    always = torch.maximum(torch.as_tensor(reference), torch.as_tensor(largest - reference))
    if not isinstance(reference, Tensor):
        return turns * inside.item(), turns * always.item()
    return turns * inside, turns * always


def bias_bound(
    coefficient: Number,
    entropy: Number,
    best_entropy: Number,
    smoothing: Number = 0.0,
    strayed: Number = 0.0,
    best_strayed: Number = 0.0,
) -> Number:
    r"""What an optimum of the regularised objective can lose: theorem ``thm-entropy-bias``.

    Args:
        coefficient: :math:`\lambda`.
        entropy: :math:`H(\hat\pi)`, or the largest entropy that there is.
        best_entropy: :math:`H(\pi^*)`.
        smoothing: :math:`\rho = \lambda\beta\alpha`.
        strayed: :math:`P(\hat\pi)`, or 0.
        best_strayed: :math:`P(\pi^*)`.

    Returns:
        :math:`\lambda(H(\hat\pi) - H(\pi^*)) + \rho(P(\pi^*) - P(\hat\pi))`.
    """
    return coefficient * (entropy - best_entropy) + smoothing * (best_strayed - strayed)


def one_hot_bias(gap: float, answers: float) -> tuple[float, float]:
    r"""A bandit in which ``thm-entropy-bias`` is nearly attained, for :math:`\lambda = 1`.

    One answer is worth ``gap`` more than the others; the optimum of value plus entropy is the
    softmax of the rewards.

    Args:
        gap: :math:`x \ge 0`, in units of :math:`\lambda`.
        answers: how many there are, at least 2; as a float, so that there may be very many.

    Returns:
        What the optimum loses, and its entropy.
    """
    x = require_number("gap", gap, 0.0)
    others = require_number("answers", answers, 2.0) - 1
    odds = others * math.exp(-x)
    lost = x * odds / (1 + odds)
    return lost, lost + math.log1p(odds)
