"""Majorities that go in circles: criteria as voters."""

from __future__ import annotations

from torch import Tensor

from mdtheory.checks import require_finite, require_tensor
from mdtheory.nlhf.reward_models import require_preference


def criteria_preference(ratings: Tensor) -> Tensor:
    r"""Preferences of a vote in which every criterion has one voice.

    :math:`P[i, j]` is the share of criteria in which ``i`` is rated above ``j``, and a tie counts
    half for each.

    Args:
        ratings: shape ``(..., n, criteria)``.

    Returns:
        Preferences, shape ``(..., n, n)``.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: fewer than two axes, an empty one, or a NaN.
    """
    require_tensor("ratings", ratings)
    if ratings.ndim < 2 or 0 in ratings.shape[-2:]:
        raise ValueError(f"ratings: expected shape (..., n, criteria), got {tuple(ratings.shape)}")
    require_finite("ratings", ratings)
    ahead = ratings[..., :, None, :] - ratings[..., None, :, :]
    return ((ahead.sign() + 1) / 2).mean(-1)


def three_cycles(preference: Tensor) -> Tensor:
    r"""All triples that go in a circle, :math:`i \succ j \succ k \succ i`.

    Args:
        preference: :math:`P`, shape ``(n, n)``.

    Returns:
        Indices, shape ``(cycles, 3)``, each cycle once and with its smallest index first, in
        lexicographic order; whole numbers on the device of ``preference``.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: no matrix of preferences, or a batch of them.
    """
    require_preference("preference", preference)
    if preference.ndim != 2:
        raise ValueError(f"preference: expected shape (n, n), got {tuple(preference.shape)}")
    beats = preference > 0.5
    cycle = beats[:, :, None] & beats[None, :, :] & beats.T[:, None, :]
    found = cycle.nonzero()
    return found[(found[:, 0] < found[:, 1]) & (found[:, 0] < found[:, 2])]
