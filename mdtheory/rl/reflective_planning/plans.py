"""Plans as tokens: the codebook of minidrive, and waypoints to tokens and back.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

from torch import Tensor

from mdtheory.rl.reflective_planning.codebook import Codebook

# Metres ahead and to the left, 129 codes each.
PLANS = Codebook((0.0, -24.0), (64.0, 24.0), (0.5, 0.375))


def tokens_of(waypoints: Tensor, codebook: Codebook = PLANS) -> Tensor:
    """Tokens x1, y1, x2, y2, ... of plans.

    Args:
        waypoints: m, shape ``(..., N, 2)``.
        codebook: of waypoints.

    Returns:
        Codes, int64 ``(..., 2 N)``.

    Raises:
        ValueError: a waypoint outside of the codebook.
    """
    return codebook.encode(waypoints).flatten(-2)


def waypoints_of(tokens: Tensor, codebook: Codebook = PLANS) -> Tensor:
    """Waypoints of plans; unchecked, for loops that run often.

    Args:
        tokens: codes, int64 ``(..., 2 N)``.
        codebook: of waypoints.

    Returns:
        Metres, shape ``(..., N, 2)``.
    """
    return codebook.values(tokens.unflatten(-1, (-1, 2)))
