"""Roads of minidrive: straight, then a bend, then straight again, and coordinates along them.

A place on a road is (s, l): metres along its centre line, and metres to its left. The plane has
its origin where the road begins, its first axis along the road there. The chapter 'Reflective
planning' explains it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Road(NamedTuple):
    """Centre lines: ``entry`` metres straight on, ``bend`` metres of one curvature, straight on.

    Attributes:
        entry: metres before the bend, at least 0; any shape that broadcasts with places.
        curvature: of the bend, 1/m; positive to the left, 0 for a straight road.
        bend: length of the bend, m.
    """

    entry: Tensor
    curvature: Tensor
    bend: Tensor


def to_plane(road: Road, places: Tensor) -> Tensor:
    r"""Points of the plane, equation ``eq-road``; unchecked.

    Args:
        road: fields of a shape that broadcasts with that of the places without their last axis.
        places: (s, l), m, shape ``(..., 2)``, with :math:`|\kappa l| < 1` on the bend.

    Returns:
        (x, y), m, shape ``(..., 2)``.
    """
    s, left = places.unbind(-1)
    past = (s - road.entry).clamp(min=0)
    arc = torch.minimum(past, road.bend)
    x, y = _along(arc, road.curvature)
    angle = road.curvature * arc
    cosine, sine, rest = angle.cos(), angle.sin(), past - arc
    x = torch.minimum(s, road.entry) + x + rest * cosine - left * sine
    return torch.stack([x, y + rest * sine + left * cosine], -1)


def to_road(road: Road, points: Tensor) -> Tensor:
    r"""Places on a road, the inverse of :func:`to_plane`; unchecked.

    Nothing cancels where the road is almost straight: with :math:`Y` the height over the tangent,
    :math:`l = (2Y - \kappa(X^2 + Y^2)) / (1 + \sqrt{\kappa^2 X^2 + (1 - \kappa Y)^2})`.

    Args:
        road: as there, its bend less than half a turn.
        points: (x, y), m, shape ``(..., 2)``, nearer to the centre line than its radius.

    Returns:
        (s, l), m, shape ``(..., 2)``.
    """
    x, y = points.unbind(-1)
    k, ahead = road.curvature, x - road.entry
    height = 1 - k * y
    straight = k == 0
    angle = torch.atan2(k * ahead, height)
    arc = torch.where(straight, ahead, angle / torch.where(straight, 1.0, k))
    radial = (2 * y - k * (ahead * ahead + y * y)) / (1 + torch.hypot(k * ahead, height))
    # Beyond the bend: the frame at its end.
    end_x, end_y = _along(road.bend, k)
    end = k * road.bend
    cosine, sine = end.cos(), end.sin()
    forth, aside = ahead - end_x, y - end_y
    before, beyond = ahead < 0, arc > road.bend
    s = torch.where(beyond, road.bend + forth * cosine + aside * sine, arc)
    left = torch.where(beyond, aside * cosine - forth * sine, radial)
    return torch.stack([torch.where(before, x, road.entry + s), torch.where(before, y, left)], -1)


def heading(road: Road, s: Tensor) -> Tensor:
    """Direction of a road, in radians against its beginning.

    Args:
        road: as for :func:`to_plane`.
        s: metres along it, of a shape that broadcasts.

    Returns:
        Angles of the broadcast shape, positive to the left.
    """
    return road.curvature * torch.minimum((s - road.entry).clamp(min=0), road.bend)


def _along(arc: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor]:
    """End of an arc that starts along the first axis; exact for curvature 0, too."""
    half = curvature * arc / 2
    chord = arc * torch.sinc(half / math.pi)
    return chord * half.cos(), chord * half.sin()
