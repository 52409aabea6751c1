"""A grid of noise and drift, all cells and seeds at once, beside a NumPy loop one play at a time.

``python benchmarks/bench_sea.py`` prints both sides and their ratio, measured in turns in one run;
``pytest benchmarks/bench_sea.py`` times ours with pytest-benchmark. What is computed: the regret
of optimistic mirror descent in every cell and for every seed, and the variation of its gradients.
What is given: the draws, in memory, shared by all cells.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from mdtheory.convex.mirror_maps import Ball
from mdtheory.convex.sea import StochasticallyExtendedAdversary, optimistic_mirror_descent
from mdtheory.convex.sea.special_cases import bounded_noise

ROUNDS, DIMENSION, CELLS, SEEDS = 1000, 5, 12, 64
CURVATURES = [0.2, 0.4, 0.6, 0.8, 1.0]
RADIUS = 1.0
TARGETS = {torch.float64: 50.0, torch.float32: 50.0}
NUMPY_PLAYS = 6  # the loop's cost is the same for every play; so many are timed
REPEATS = 3


def make_grid(dtype: torch.dtype) -> StochasticallyExtendedAdversary:
    """12 x 12 cells x 64 seeds with common random numbers."""
    generator = torch.Generator().manual_seed(0)
    noise, variance = bounded_noise(ROUNDS, SEEDS, DIMENSION, generator, dtype=dtype)
    angle = 2 * math.pi / 250 * torch.arange(1, ROUNDS + 1, dtype=dtype)
    moves = torch.zeros(ROUNDS, DIMENSION, dtype=dtype)
    moves[:, 0], moves[:, 1] = angle.cos(), angle.sin()
    scales = torch.linspace(0.0, 1.0, CELLS, dtype=dtype)
    return StochasticallyExtendedAdversary(
        moves,
        noise,
        variance,
        curvature=CURVATURES,
        offset=torch.full((DIMENSION,), -0.2, dtype=dtype),
        noise_scale=scales[:, None, None],
        drift_scale=scales[None, :, None],
    )


def regret_of_all_plays(environment: StochasticallyExtendedAdversary) -> tuple[Tensor, Tensor]:
    """Ours, through the front door, with its checks."""
    domain = Ball(RADIUS)
    record = optimistic_mirror_descent(
        environment,
        environment.start(),
        domain,
        ROUNDS,
        gradient_bound=environment.gradient_bound(RADIUS),
        keep=False,
    )
    comparator = environment.best_comparator(domain)
    return record.loss - environment.loss_at(comparator, ROUNDS), record.variation


def regret_of_one_play(
    slopes: np.ndarray, curvature: np.ndarray, bound: float, comparator: np.ndarray
) -> tuple[float, float]:
    """A well-written loop: few calls a round, everything scalar in plain Python."""
    anchor, hint = np.zeros_like(curvature), np.zeros_like(curvature)
    start, variation, loss = 4 * bound * bound, 0.0, 0.0
    half = curvature / 2
    for slope in slopes:
        step = 2 * RADIUS / math.sqrt(start + variation)
        x = anchor - step * hint
        length = math.sqrt(x @ x)
        if length > RADIUS:
            x *= RADIUS / length
        gradient = curvature * x
        loss += float(x @ (gradient * 0.5 + slope))
        gradient += slope
        error = gradient - hint
        variation += float(error @ error)
        anchor = anchor - step * gradient
        length = math.sqrt(anchor @ anchor)
        if length > RADIUS:
            anchor *= RADIUS / length
        hint = gradient
    fixed = len(slopes) * float(half @ comparator**2) + float(slopes.sum(0) @ comparator)
    return loss - fixed, variation


def numpy_plays(environment: StochasticallyExtendedAdversary) -> list[tuple]:
    """The streams of some plays on the diagonal of the grid, ready for the loop."""
    bounds = environment.gradient_bound(RADIUS)
    comparators = environment.best_comparator(Ball(RADIUS))
    curvature = environment.curvature.numpy()
    plays = []
    for k in range(NUMPY_PLAYS):
        cell = k * (CELLS - 1) // max(NUMPY_PLAYS - 1, 1)
        scale = environment.noise_scale.flatten()[cell]
        slopes = environment.offset + scale * (environment.moves + environment.noise[:, k])
        at = (cell, cell, k)
        plays.append((at, slopes.numpy(), curvature, bounds[at].item(), comparators[at].numpy()))
    return plays


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_regret_of_a_grid_of_noise_and_drift(benchmark, dtype):
    environment = make_grid(dtype)
    regret, variation = benchmark.pedantic(
        regret_of_all_plays, (environment,), rounds=REPEATS, warmup_rounds=1
    )
    tolerance = 1e-9 if dtype == torch.float64 else 2e-2
    for at, *play in numpy_plays(environment):
        expected = regret_of_one_play(*play)
        assert regret[at].item() == pytest.approx(expected[0], rel=tolerance, abs=tolerance)
        assert variation[at].item() == pytest.approx(expected[1], rel=tolerance, abs=tolerance)


def side_by_side(dtype: torch.dtype) -> tuple[float, float]:
    """Rounds of plays a second, ours and NumPy's; the best of some turns of each."""
    environment = make_grid(dtype)
    plays = numpy_plays(environment)
    ours, theirs = 0.0, 0.0
    regret_of_all_plays(environment)
    for _ in range(REPEATS):
        begin = time.perf_counter()
        mine = regret_of_all_plays(environment)[0]
        ours = max(ours, CELLS**2 * SEEDS * ROUNDS / (time.perf_counter() - begin))
        begin = time.perf_counter()
        other = [regret_of_one_play(*play)[0] for _, *play in plays]
        theirs = max(theirs, len(plays) * ROUNDS / (time.perf_counter() - begin))
    gap = max(abs(mine[at].item() - r) for (at, *_), r in zip(plays, other, strict=True))
    if not gap < (1e-8 if dtype == torch.float64 else 0.1):
        raise SystemExit(f"{dtype}: the two sides differ by {gap}")
    return ours, theirs


def main() -> None:
    print(
        f"Optimistic mirror descent, {ROUNDS:,} rounds, d = {DIMENSION}, {CELLS} x {CELLS} cells "
        f"x {SEEDS} seeds, {torch.get_num_threads()} threads"
    )
    for dtype, target in TARGETS.items():
        ours, theirs = side_by_side(dtype)
        print(
            f"{dtype!s:14s} ours {ours / 1e6:7.2f} M seed-rounds/s   "
            f"NumPy {theirs / 1e6:7.4f} M seed-rounds/s   "
            f"ratio {ours / theirs:5.1f} (asked: {target:g})"
        )


if __name__ == "__main__":
    main()
