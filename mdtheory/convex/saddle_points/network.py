"""A small UNet, one for every seed, all in one program."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdtheory.checks import require_count

GROUPS = 4  # of the normalisation, in every network


class UNet(nn.Module):
    """Networks with three levels and one convolution on each, ``seeds`` of them side by side.

    A convolution with as many groups as seeds keeps the networks apart: no parameter of one meets
    a feature of another.

    Args:
        seeds: number of networks.
        channels: of an image.
        classes: of a pixel.
        width: features of the first level, a multiple of 4; the others have twice and four times
            as many.
        generator: the source of the first parameters, on the CPU.

    Raises:
        TypeError: a number is no whole number.
        ValueError: a number is too small, or the width is no multiple of 4.
    """

    def __init__(
        self,
        seeds: int,
        channels: int = 1,
        classes: int = 2,
        *,
        width: int = 8,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.seeds = require_count("seeds", seeds)
        self.channels, self.classes = require_count("channels", channels), classes
        require_count("classes", classes, 2)
        if require_count("width", width) % GROUPS:
            raise ValueError(f"width: expected a multiple of {GROUPS}, got {width!r}")
        self.width = width
        a, b, c = width, 2 * width, 4 * width
        sizes = [(channels, a), (a, b), (b, c), (c + b, b), (b + a, a)]
        self.blocks = nn.ModuleList(_Block(seeds, *pair, generator) for pair in sizes)
        self.head = _convolution(seeds, a, classes, 1, generator)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of every pixel, and the latent of every image.

        Args:
            images: shape ``(seeds, n, channels, h, w)``; ``h`` and ``w`` are multiples of 4.

        Returns:
            Logits ``(seeds, n, classes, h, w)`` and latents ``(seeds, n, 4 width, h/4, w/4)``.
        """
        first = self.blocks[0](self._together(images))
        second = self.blocks[1](functional.max_pool2d(first, 2))
        latent = self.blocks[2](functional.max_pool2d(second, 2))
        up = self.blocks[3](self._joined(_doubled(latent), second))
        up = self.blocks[4](self._joined(_doubled(up), first))
        return self._apart(self.head(up)), self._apart(latent)

    def _together(self, x: Tensor) -> Tensor:
        """From ``(seeds, n, c, h, w)`` to ``(n, seeds c, h, w)``."""
        return x.transpose(0, 1).flatten(1, 2)

    def _apart(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.seeds, -1)).transpose(0, 1)

    def _joined(self, x: Tensor, y: Tensor) -> Tensor:
        """The features of both, seed by seed."""
        parts = [z.unflatten(1, (self.seeds, -1)) for z in (x, y)]
        return torch.cat(parts, 2).flatten(1, 2)


class _Block(nn.Module):
    def __init__(self, seeds: int, before: int, after: int, generator: torch.Generator) -> None:
        super().__init__()
        self.convolution = _convolution(seeds, before, after, 3, generator)
        self.norm = nn.GroupNorm(seeds * GROUPS, seeds * after)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.convolution(x)))


def _convolution(
    seeds: int, before: int, after: int, side: int, generator: torch.Generator
) -> nn.Conv2d:
    layer = nn.Conv2d(seeds * before, seeds * after, side, padding=side // 2, groups=seeds)
    reach = 1 / math.sqrt(before * side**2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-reach, reach, generator=generator)
    return layer


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0)
