"""The special cases of the model, each an environment with exact variance and variation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.convex.sea.adversary import StochasticallyExtendedAdversary
from mdtheory.convex.sea.noise import bounded_noise, directions

Curvature = float | Sequence[float]


def iid(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    noise: float = 1.0,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""One distribution for all rounds: :math:`\Sigma^2 = 0`.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        noise: length :math:`s` of the longest noise; the variance is :math:`s^2/3`.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    drawn, variance = bounded_noise(rounds, seeds, dimension, generator)
    slope = _diagonal(drawn, 0.5)
    still = drawn.new_zeros(rounds, dimension)
    return StochasticallyExtendedAdversary(
        still, drawn, variance, curvature=curvature, offset=-slope, noise_scale=noise
    )


def adversarial(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""Each distribution a point mass: :math:`\sigma^2 = 0`, all is variation.

    The slopes are unit vectors that were drawn once; for the model they are nature's choice. The
    same stream as an i.i.d. one has the variance 1 and no variation: a stream may be read in two
    ways, and the bound holds for both.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    shape = (require_count("rounds", rounds), require_count("seeds", seeds))
    moves = directions((*shape, require_count("dimension", dimension)), generator)
    return StochasticallyExtendedAdversary(moves, curvature=curvature)


def rotating(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    noise: float = 0.0,
    period: float = 1000.0,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""A unit slope that turns in the plane of the first two coordinates.

    :math:`\Sigma_t^2 = (2\sin(\pi/\text{period}))^2`.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``, at least 2.
        generator: source of randomness; its device is where the environment lives.
        noise: length :math:`s` of the longest noise.
        period: rounds of one turn, above 0.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    drawn, variance = bounded_noise(
        rounds, seeds, require_count("dimension", dimension, 2), generator
    )
    turn = 2 * math.pi / require_number("period", period, 0.0, strict=True)
    angle = turn * _rounds(drawn)
    moves = drawn.new_zeros(rounds, dimension)
    moves[:, 0], moves[:, 1] = angle.cos(), angle.sin()
    return StochasticallyExtendedAdversary(
        moves, drawn, variance, curvature=curvature, noise_scale=noise
    )


def alternating(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    noise: float = 0.0,
    size: float = 1.0,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""Slopes that change their sign in every round, the worst for a hint of the last gradient.

    :math:`\Sigma_t^2 = 4a^2`.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        noise: length :math:`s` of the longest noise.
        size: length :math:`a` of the slopes.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    drawn, variance = bounded_noise(rounds, seeds, dimension, generator)
    signs = 1 - 2 * (_rounds(drawn) % 2)
    moves = require_number("size", size, 0.0) * signs[:, None] * _diagonal(drawn, 1.0)
    return StochasticallyExtendedAdversary(
        moves, drawn, variance, curvature=curvature, noise_scale=noise
    )


def corrupted(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    noise: float = 1.0,
    every: int = 50,
    size: float = 1.0,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""An i.i.d. stream with a corrupted round now and then.

    The total corruption is :math:`C = a\lfloor T/k\rfloor`; each corruption pushes towards the
    opposite side.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        noise: length :math:`s` of the longest noise.
        every: :math:`k`, a corrupted round after each so many.
        size: length :math:`a` of a corruption.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    drawn, variance = bounded_noise(rounds, seeds, dimension, generator)
    hit = (_rounds(drawn) % require_count("every", every) == 0).to(drawn.dtype)
    moves = require_number("size", size, 0.0) * hit[:, None] * _diagonal(drawn, 1.0)
    return StochasticallyExtendedAdversary(
        moves,
        drawn,
        variance,
        curvature=curvature,
        offset=-_diagonal(drawn, 0.5),
        noise_scale=noise,
    )


def switching(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    noise: float = 1.0,
    switches: int = 4,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""Distributions that are exchanged a few times, at equal distances.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        noise: length :math:`s` of the longest noise.
        switches: how often the distribution changes, at most ``T - 1``.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    drawn, variance = bounded_noise(rounds, seeds, dimension, generator)
    phases = require_count("switches", switches, 0) + 1
    if phases > rounds:
        raise ValueError(f"switches: expected at most {rounds - 1}, got {switches}")
    slopes = directions((phases, dimension), generator)
    phase = torch.arange(rounds, device=drawn.device) * phases // rounds
    return StochasticallyExtendedAdversary(
        slopes[phase], drawn, variance, curvature=curvature, noise_scale=noise
    )


def slow_shift(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    noise: float = 1.0,
    speed: float = 0.01,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""A slope that walks back and forth on a line of length 1: :math:`\Sigma_t\le v`.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        noise: length :math:`s` of the longest noise.
        speed: :math:`v` in [0, 1], the length of one step.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    drawn, variance = bounded_noise(rounds, seeds, dimension, generator)
    if require_number("speed", speed, 0.0) > 1:
        raise ValueError(f"speed: expected a number in [0, 1], got {speed!r}")
    walked = speed * _rounds(drawn)
    place = 0.5 - ((walked % 2) - 1).abs()
    moves = place[:, None] * _diagonal(drawn, 1.0)
    return StochasticallyExtendedAdversary(
        moves, drawn, variance, curvature=curvature, noise_scale=noise
    )


def mini_batches(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    noise: float = 1.0,
    size: int = 8,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""The i.i.d. stream seen through averages of so many samples: variance :math:`s^2/(3B)`.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        noise: length :math:`s` of the longest noise of one sample.
        size: :math:`B`, samples of a round.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    count = require_count("size", size)
    drawn, variance = bounded_noise(rounds, seeds, dimension, generator)
    for _ in range(count - 1):
        drawn = drawn + bounded_noise(rounds, seeds, dimension, generator)[0]
    still = drawn.new_zeros(rounds, dimension)
    return StochasticallyExtendedAdversary(
        still,
        drawn / count,
        variance / count,
        curvature=curvature,
        offset=-_diagonal(drawn, 0.5),
        noise_scale=noise,
    )


def random_order(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    passes: int = 1,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""Finitely many losses in random order, without replacement, in one or several passes.

    Given the past, the next loss is uniform on those that remain, so nature's :math:`F_t` is their
    mean, and it moves although nothing does. Every play passes through the same losses, which are
    unit slopes drawn once, so the sum of all losses does not depend on the order.

    Args:
        rounds: ``T``, a multiple of ``passes``; each pass has ``T / passes`` losses.
        seeds: number of independent orders.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        passes: :math:`P`, number of passes, each in an order of its own.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``; moves and variance differ from seed to seed.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range, or ``passes`` does not divide ``rounds``.
    """
    if require_count("rounds", rounds) % require_count("passes", passes):
        raise ValueError(f"passes: expected a divisor of {rounds} rounds, got {passes}")
    count = rounds // passes
    losses = directions((count, require_count("dimension", dimension)), generator)
    keys = torch.rand(
        passes, count, require_count("seeds", seeds), generator=generator, device=losses.device
    )
    # (passes, count, seeds, d): each pass and seed has an order of its own.
    drawn = losses[keys.argsort(1)]
    # Sums over what remains, this loss included, counted from the end of the pass.
    remaining = torch.arange(count, 0, -1, device=losses.device, dtype=losses.dtype)
    remaining = remaining[:, None, None]
    mean = drawn.flip(1).cumsum(1).flip(1) / remaining
    square = (drawn**2).sum(-1, keepdim=True).flip(1).cumsum(1).flip(1) / remaining
    variance = (square[..., 0] - (mean**2).sum(-1)).clamp(min=0)
    # The last loss of a pass is known: rounding must not leave it a variance.
    variance[:, -1] = 0.0
    shape = (rounds, seeds, dimension)
    return StochasticallyExtendedAdversary(
        mean.reshape(shape),
        (drawn - mean).reshape(shape),
        variance.reshape(shape[:-1]),
        curvature=curvature,
    )


def label_shift(
    rounds: int,
    seeds: int,
    dimension: int,
    generator: torch.Generator,
    *,
    samples: int = 20,
    accuracy: float = 0.7,
    period: float = 500.0,
    curvature: Curvature = 0.0,
) -> StochasticallyExtendedAdversary:
    r"""Online label shift: the classes' proportions drift, and only a classifier tells them.

    The loss of a round is :math:`F_t = \sum_y \mu_{t,y} R_y` with known class losses
    :math:`R_y(x) = \frac12 x^\top A x + \langle r_y, x\rangle` and unknown proportions
    :math:`\mu_t` of three classes. The learner sees the predictions of a classifier with the known
    confusion matrix :math:`C` (columns are true classes) on :math:`n` unlabelled samples; their
    frequencies :math:`\hat q` give the unbiased estimate :math:`\hat\mu = C^{-1}\hat q`, whose
    covariance :math:`C^{-1}(\operatorname{diag} q - qq^\top)C^{-\top}/n` is known.

    Args:
        rounds: ``T``.
        seeds: number of independent plays.
        dimension: ``d``.
        generator: source of randomness; its device is where the environment lives.
        samples: :math:`n`, unlabelled samples of a round.
        accuracy: of the classifier on every class, in (1/3, 1].
        period: rounds of one cycle of the proportions.
        curvature: as in :class:`StochasticallyExtendedAdversary`.

    Returns:
        The environment, batch ``(seeds,)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range.
    """
    shape = (require_count("rounds", rounds), require_count("seeds", seeds))
    count = require_count("samples", samples)
    if not 1 / 3 < require_number("accuracy", accuracy) <= 1:
        raise ValueError(f"accuracy: expected a number in (1/3, 1], got {accuracy!r}")
    slopes = directions((3, require_count("dimension", dimension)), generator)
    turn = 2 * math.pi / require_number("period", period, 0.0, strict=True)
    phase = turn * torch.arange(rounds, device=slopes.device, dtype=slopes.dtype)
    thirds = 2 * math.pi / 3 * torch.arange(3, device=slopes.device, dtype=slopes.dtype)
    proportions = (1 + 0.9 * (phase[:, None] + thirds).cos()) / 3  # (T, 3)
    eye = torch.eye(3, dtype=slopes.dtype, device=slopes.device)
    confusion = accuracy * eye + (1 - accuracy) / 2 * (1 - eye)
    predicted = proportions @ confusion.mT  # (T, 3): q_t = C mu_t
    edges = predicted.cumsum(-1)[:, None, None, :2]
    draws = torch.rand(*shape, count, 1, generator=generator, device=slopes.device).double()
    classes = (draws > edges).sum(-1)  # (T, seeds, n)
    frequency = torch.stack([(classes == y).double().mean(-1) for y in range(3)], -1)
    # What one prediction of each class adds to the slope: the rows of C^{-T} r.
    told = torch.linalg.solve(confusion.mT, slopes)
    error = (frequency - predicted[:, None]) @ told
    covariance = torch.diag_embed(predicted) - predicted[:, :, None] * predicted[:, None, :]
    variance = ((covariance @ told) * told).sum((-2, -1)) / count
    return StochasticallyExtendedAdversary(
        proportions @ slopes,
        error,
        variance[:, None].expand(shape).contiguous(),
        curvature=curvature,
    )


SPECIAL_CASES: dict[str, Callable[..., StochasticallyExtendedAdversary]] = {
    "i.i.d.": iid,
    "adversarial": adversarial,
    "rotating": rotating,
    "alternating": alternating,
    "corrupted": corrupted,
    "random order": random_order,
    "switching": switching,
    "slow shift": slow_shift,
    "mini-batches": mini_batches,
    "label shift": label_shift,
}


def _diagonal(like: Tensor, length: float) -> Tensor:
    """The vector of this length with equal coordinates."""
    return like.new_full((like.shape[-1],), length / math.sqrt(like.shape[-1]))


def _rounds(like: Tensor) -> Tensor:
    return torch.arange(1, like.shape[0] + 1, device=like.device, dtype=like.dtype)
