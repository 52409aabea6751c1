"""Slices to segment: brains from the volumes of a wheel, and drawn discs that need no data."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import require_count, require_number

# The volumes: voxels of 1 mm, one byte each, in Fortran order behind a header.
SHAPE, HEADER = (197, 233, 189), 352
# Voxel (98, 134, 72) is the origin of the atlas. One hemisphere is cut out of every coronal
# slice, 96 mm by 192 mm: the template is symmetric, so the other side would be the same again.
ORIGIN = (98, 134, 72)
FIRST_Y, LAST_Y = -64, 56
# Blocks along the y axis: 18 mm to train on, a gap, 4 mm to test on, a gap. Neighbours look alike.
BLOCK, TRAIN, TEST = 30, (0, 18), (22, 26)


class Slices(NamedTuple):
    """``images`` of shape ``(seeds, n, 1, h, w)`` and ``labels`` ``(seeds, n, h, w)``."""

    images: Tensor
    labels: Tensor


def brain_slices(
    seeds: int,
    count: int,
    generator: torch.Generator,
    *,
    test: bool = False,
    pixel: int = 4,
) -> Slices:
    """Coronal half slices of one averaged brain, deformed; the target is its deep grey matter.

    Every slice is one of the template, under a random affine and elastic map, with a bias field
    and noise. Slices for training and for testing come from blocks that lie 4 mm apart. More than
    half of the slices show brain but no target.

    Args:
        seeds: number of independent sets.
        count: slices in a set.
        generator: the source of chance, on the CPU.
        test: draw from the blocks for testing.
        pixel: side of a pixel in millimetres: 2, 3, 4 or 6.

    Returns:
        Images, float32, and labels, int64: 1 on the target, 0 elsewhere.

    Raises:
        ImportError: nilearn, whose wheel holds the volumes, is not installed.
        TypeError: an argument of the wrong kind.
        ValueError: a count below 1, or another side of a pixel.

    Source:
        The ICBM 152 template (2009a) as nilearn packs it.
    """
    require_count("seeds", seeds)
    require_count("count", count)
    if pixel not in (2, 3, 4, 6):
        raise ValueError(f"pixel: expected 2, 3, 4 or 6, got {pixel!r}")
    planes = _template(pixel)
    y = torch.arange(FIRST_Y, LAST_Y)
    phase = (y - FIRST_Y) % BLOCK
    low, high = TEST if test else TRAIN
    allowed = y[(phase >= low) & (phase < high)] + ORIGIN[1]
    picks = torch.randint(len(allowed), (seeds * count,), generator=generator)
    drawn = planes[:, allowed[picks]].movedim(1, 0)
    t1, target = _warped(drawn, generator).unbind(1)
    bias = _smooth_field(t1.shape, t1.shape[-1] / 4, generator)
    noise = 0.03 * torch.randn(2, *t1.shape, generator=generator)
    image = torch.hypot(t1 * (1 + 0.15 * bias) + noise[0], noise[1])
    return _packed((image - 0.25) / 0.25, target > 0.5, seeds)


def disc_slices(
    seeds: int,
    count: int,
    generator: torch.Generator,
    *,
    size: int = 20,
    sparse_share: float = 0.4,
) -> Slices:
    """Discs on a textured ground: bright ones are the target, dark ones are not.

    Args:
        seeds: number of independent sets.
        count: images in a set.
        generator: the source of chance, on the CPU.
        size: side of an image in pixels, a multiple of 4.
        sparse_share: probability of an image with dark discs only.

    Returns:
        Images, float32, and labels, int64: 1 on the target, 0 elsewhere.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a count below 1, a side that is no multiple of 4, a share outside [0, 1].
    """
    number = require_count("seeds", seeds) * require_count("count", count)
    if require_count("size", size, 8) % 4:
        raise ValueError(f"size: expected a multiple of 4, got {size!r}")
    if require_number("sparse_share", sparse_share, 0.0) > 1:
        raise ValueError(f"sparse_share: expected a number in [0, 1], got {sparse_share!r}")
    image = 0.25 * _smooth_field((number, size, size), 3.0, generator)
    label = torch.zeros(number, size, size, dtype=torch.bool)
    sparse = torch.rand(number, generator=generator) < sparse_share
    # Up to three dark discs, then up to three bright ones on top.
    many = 1 + (3 * torch.rand(2, number, generator=generator)).long().clamp(max=2)
    many[1] = torch.where(sparse, 0, many[1].clamp(min=2))
    grid = torch.stack(torch.meshgrid(*(torch.arange(size) + 0.5,) * 2, indexing="ij"))
    for kind, level in enumerate((-0.9, 0.9)):
        for k in range(3):
            u = torch.rand(4, number, generator=generator)
            radius = size * (0.1 + 0.1 * u[0])
            centre = radius + (size - 2 * radius) * u[1:3]
            inside = (grid - centre.T[..., None, None]).norm(dim=1) < radius[:, None, None]
            inside &= (many[kind] > k)[:, None, None]
            shade = level + 0.2 * (u[3] - 0.5)
            image = torch.where(inside, shade[:, None, None], image)
            label = torch.where(inside, torch.tensor(bool(kind)), label)
    image = image + 0.12 * torch.randn(image.shape, generator=generator)
    return _packed(image, label, seeds)


def _packed(image: Tensor, label: Tensor, seeds: int) -> Slices:
    images = image.float().unflatten(0, (seeds, -1))[:, :, None]
    return Slices(images, label.long().unflatten(0, (seeds, -1)))


@lru_cache(maxsize=2)
def _template(pixel: int) -> Tensor:
    """T1 and target of every coronal half slice, ``(2, 233, 96 / pixel, 192 / pixel)``."""
    t1, grey = (_volume(kind) for kind in ("t1", "gm"))
    x, y, z = (torch.arange(n) - o for n, o in zip(SHAPE, ORIGIN, strict=True))
    # Thalamus, putamen, caudate and pallidum: the grey matter within a box of the atlas. Its ends
    # lie in gaps between blocks: no slice could tell on which side of them it is.
    deep = (x > -36)[:, None, None] & ((y >= -36) & (y <= 23))[:, None]
    deep = deep & ((z > -14) & (z < 24))
    planes = torch.stack([t1, grey * deep])[:, 2:98].movedim(2, 1)
    planes = functional.pad(planes, (1, 2))
    return planes.unflatten(3, (-1, pixel)).unflatten(2, (-1, pixel)).mean((3, 5))


def _volume(kind: str) -> Tensor:
    spec = find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "nilearn is not installed; install it with: pip install 'mdtheory[images]'"
        )
    name = f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name
    voxels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=HEADER)
    return torch.from_numpy(voxels.reshape(SHAPE, order="F").astype(np.float32) / 255)


def _warped(planes: Tensor, generator: torch.Generator) -> Tensor:
    """One random affine and smooth elastic map for all planes of a slice, ``(n, planes, h, w)``."""
    n, _, h, w = planes.shape
    matrix = torch.eye(2) + 0.06 * torch.randn(n, 2, 2, generator=generator)
    shift = torch.randn(n, 2, 1, generator=generator) / 16
    grid = functional.affine_grid(torch.cat([matrix, shift], -1), [n, 1, h, w], False)
    for k in range(2):
        grid[..., k] += _smooth_field((n, h, w), w / 9, generator) / 27
    return functional.grid_sample(planes, grid, align_corners=False)


def _smooth_field(
    shape: tuple[int, ...] | torch.Size, width: float, generator: torch.Generator
) -> Tensor:
    """Smooth noise of mean square 1 on every image, ``(n, h, w)``; ``width`` in pixels."""
    field = torch.randn(tuple(shape), generator=generator)
    for axis in (1, 2):
        at = torch.arange(shape[axis], dtype=field.dtype)
        kernel = (-((at[:, None] - at) ** 2) / (2 * width**2)).exp()
        field = torch.tensordot(field, kernel, ([axis], [0])) if axis == 2 else (kernel @ field)
    return field / field.square().mean((1, 2), keepdim=True).sqrt()
