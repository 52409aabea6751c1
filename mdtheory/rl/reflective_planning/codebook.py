"""Coordinates as codes: a uniform grid for each of them, and what is near on it.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_integers,
    require_number,
    require_tensor,
    require_values,
)


class Codebook:
    r"""A uniform grid of codes for a coordinate, or one for each of several coordinates.

    Equation ``eq-codebook``: code :math:`k` stands for :math:`\mathrm{low} + k\,\mathrm{step}`, and
    a coordinate gets the nearest code. The codes are those with a value of at most ``high``.

    Args:
        low: the first value; a number, or one for each coordinate of a point.
        high: no value lies above it; shaped like ``low``.
        step: distance of two neighbours, above 0; shaped like ``low``.

    Attributes:
        size: number of codes, the same for all coordinates.
        coordinates: how many coordinates a point has; 0 where ``low`` is a number, and then
            every entry of a tensor is coded alike.

    Raises:
        TypeError: an entry is no number.
        ValueError: ``high`` below ``low``, lengths that differ, or coordinates with different
            numbers of codes, which no vocabulary could share.
    """

    def __init__(
        self,
        low: float | Sequence[float],
        high: float | Sequence[float],
        step: float | Sequence[float],
    ) -> None:
        lows, highs, steps = (_numbers(n, v) for n, v in (("low", low), ("high", high),
                                                          ("step", step)))  # fmt: skip
        if not len(lows) == len(highs) == len(steps):
            raise ValueError(f"step: expected {len(lows)} numbers like low and high")
        for first, last, width in zip(lows, highs, steps, strict=True):
            require_number("step", width, 0.0, strict=True)
            require_number("high", last, first)
        # A ninth digit: 0.3 does not divide 0.9 in floating point, and is meant to.
        sizes = {
            math.floor((b - a) / d + 1e-9) + 1 for a, b, d in zip(lows, highs, steps, strict=True)
        }
        if len(sizes) != 1:
            raise ValueError(f"step: expected as many codes for each coordinate, got {sizes}")
        self.size = sizes.pop()
        self.coordinates = 0 if isinstance(low, (int, float)) else len(lows)
        self._low, self._step = lows, steps

    def encode(self, values: Tensor) -> Tensor:
        """The nearest codes; ties go to the even one.

        Args:
            values: shape ``(...)``, or ``(..., coordinates)`` for a codebook of points. None may
                be further than half a step from a code.

        Returns:
            Codes, int64, of the same shape.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another last axis, or a value outside of the grid: nothing is clipped.
        """
        low, step = self._grid(require_tensor("values", values, 0))
        place = (values - low) / step
        inside = (place >= -0.5) & (place <= self.size - 0.5)
        require_values("values", values, inside, f"values within half a step of {self!r}")
        return place.round().clamp(0, self.size - 1).long()

    def decode(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What codes stand for.

        Args:
            codes: int64 in [0, size), shape ``(...)`` or ``(..., coordinates)``.
            dtype: of the result.

        Returns:
            Values, of the same shape.

        Raises:
            TypeError: no tensor of integers.
            ValueError: another last axis, or no code.
        """
        valid = (require_integers("codes", codes) >= 0) & (codes < self.size)
        require_values("codes", codes, valid, f"codes in [0, {self.size})")
        return self.values(codes, dtype)

    def values(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """As :meth:`decode`, unchecked. The arguments are those of :meth:`decode`.

        Returns:
            Values, of the same shape.
        """
        place = codes.to(dtype)
        low, step = self._grid(place)
        return low + place * step

    def contains(self, values: Tensor) -> Tensor:
        """Which points can be coded.

        Args:
            values: as for :meth:`encode`.

        Returns:
            Truth values ``(...)``: whether every coordinate is within half a step of a code.

        Raises:
            ValueError: another last axis.
        """
        low, step = self._grid(require_tensor("values", values, 0))
        place = (values - low) / step
        inside = (place >= -0.5) & (place <= self.size - 0.5)
        return inside.all(-1) if self.coordinates else inside

    def neighbourhood(self, delta: int, device: torch.device | str | None = None) -> Tensor:
        r"""Offsets of two coordinates of at most ``delta`` codes in all, the nearest first.

        Args:
            delta: :math:`\delta \ge 0`, the largest sum of both absolute offsets.
            device: where the result lives.

        Returns:
            int64 of shape ``(2 delta^2 + 2 delta + 1, 2)``; the first is (0, 0).

        Raises:
            TypeError: not a whole number.
            ValueError: below 0.
        """
        reach = torch.arange(-require_count("delta", delta, 0), delta + 1, device=device)
        both = torch.cartesian_prod(reach, reach).reshape(-1, 2)
        distance = both.abs().sum(-1)
        order = distance.argsort(stable=True)
        return both[order[: int((2 * delta + 2) * delta + 1)]]

    def __repr__(self) -> str:
        ends = [(a, a + d * (self.size - 1), d) for a, d in zip(self._low, self._step, strict=True)]
        return f"Codebook({', '.join(f'{a:g} to {b:g} by {d:g}' for a, b, d in ends)})"

    def _grid(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.coordinates and like.shape[-1:] != (self.coordinates,):
            raise ValueError(
                f"values: expected shape (..., {self.coordinates}), got {tuple(like.shape)}"
            )
        low, step = torch.tensor([self._low, self._step], dtype=like.dtype, device=like.device)
        return (low, step) if self.coordinates else (low[0], step[0])


def _numbers(name: str, value: float | Sequence[float]) -> list[float]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [require_number(name, entry) for entry in value]
    return [require_number(name, value)]
