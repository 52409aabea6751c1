"""The constants of the chapter's statements, as functions that the tests hold to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_scale, require_tensor

GRID, REACH = 4001, 14.0


def fit_error_bound(answers: int, comparisons: float | Tensor, reward_range: float) -> Tensor:
    r"""Bound of ``thm-fit-error`` on the mean squared error of a fit over the pairs drawn.

    Args:
        answers: :math:`d`, number of rewards that are fitted, at least 2.
        comparisons: :math:`m`, how many were judged, positive.
        reward_range: :math:`B`, the largest difference of rewards in a pair, positive.

    Returns:
        :math:`(d - 1) / (4 m\, \sigma'(B)^2)`, shaped like ``comparisons``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of its range.
    """
    require_count("answers", answers, 2)
    like = comparisons if isinstance(comparisons, Tensor) else torch.zeros((), dtype=torch.float64)
    m = require_scale("comparisons", comparisons, like, strict=True)
    b = require_number("reward_range", reward_range, 0.0, strict=True)
    slope = math.exp(-b) / (1 + math.exp(-b)) ** 2
    return torch.as_tensor((answers - 1) / (4 * m * slope**2), dtype=like.dtype)


def regret_factor(n: float | Tensor) -> Tensor:
    r"""How much best of n may enlarge an error: :math:`n/\sqrt{2n - 1}` of ``thm-bon-regret``.

    Args:
        n: answers drawn, at least 1, any shape.

    Returns:
        Of that shape.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: below 1.
    """
    like = n if isinstance(n, Tensor) else torch.zeros((), dtype=torch.float64)
    n = torch.as_tensor(require_scale("n", n, like, minimum=1.0), dtype=like.dtype)
    return n / (2 * n - 1).sqrt()


def error_variance(members: int, correlation: float) -> float:
    r"""Variance of the mean of equally correlated errors of variance 1, :math:`c + (1 - c)/k`.

    Args:
        members: :math:`k`.
        correlation: :math:`c` in [0, 1].

    Returns:
        The variance.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of its range.
    """
    r = require_number("correlation", correlation, 0.0, maximum=1.0)
    return r + (1 - r) / require_count("members", members)


def log_mean_tail(level: Tensor, members: int, correlation: float) -> Tensor:
    r"""Logarithm of how often the mean of the members' errors exceeds a level.

    Args:
        level: :math:`t`, any shape.
        members: :math:`k`.
        correlation: :math:`c` in [0, 1]; errors are Gaussian with mean 0 and variance 1.

    Returns:
        Shaped like ``level``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of its range.
    """
    spread = math.sqrt(error_variance(members, correlation))
    return torch.special.log_ndtr(-require_tensor("level", level, 0) / spread)


def log_worst_case_tail(level: Tensor, members: int, correlation: float) -> Tensor:
    """Logarithm of how often *all* members' errors exceed a level, by quadrature.

    The arguments are those of :func:`log_mean_tail`.

    Returns:
        Shaped like ``level``; about six digits for levels between -6 and 6.
    """
    require_tensor("level", level, 0)
    error_variance(members, correlation)  # looks at both numbers
    if correlation == 1:
        return torch.special.log_ndtr(-level)
    z = torch.linspace(-REACH, REACH, GRID, dtype=level.dtype, device=level.device)
    rest = (level[..., None] - math.sqrt(correlation) * z) / math.sqrt(1 - correlation)
    inside = members * torch.special.log_ndtr(-rest) - z.square() / 2
    width = 2 * REACH / (GRID - 1)
    return inside.logsumexp(-1) + math.log(width) - math.log(2 * math.pi) / 2


def log_worst_case_floor(level: Tensor, members: int, correlation: float) -> Tensor:
    """The lower bound of ``thm-ensemble-tail`` on :func:`log_worst_case_tail`.

    The arguments are those of :func:`log_mean_tail`.

    Returns:
        Shaped like ``level``.
    """
    require_tensor("level", level, 0)
    v, r = error_variance(members, correlation), correlation
    shared = torch.special.log_ndtr(-level * math.sqrt(r) / v)
    own = torch.special.log_ndtr(-level * math.sqrt(1 - r) / (members * v))
    return shared + members * own
