"""A grid of target-based runs as one program, beside plain NumPy one configuration at a time.

``python benchmarks/bench_target_surrogates.py`` prints both sides and their ratio, measured in
turns in one run; ``pytest benchmarks/bench_target_surrogates.py`` times ours with pytest-benchmark.
What is computed: the full loss at the end of every configuration. What is given: the data and the
rows of the batches, in memory. NumPy stands there twice: with the inner loop as it is written in
the paper, and with the closed form that ours uses, so that the second ratio is what the batching
alone gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mdtheory.convex.target_surrogates import LinearModel, LogisticLoss, draw_batches, target_sgd

ROWS, COLUMNS, BATCH, ROUNDS, SEEDS = 569, 31, 25, 200, 20
INNER_STEPS, STEPS, RIDGE = (1, 10, 100), 4.0 ** np.arange(-4, 3), 0.01
# At larger steps the runs are chaotic and cannot be compared.
# Configurations that NumPy is timed on: so many seeds, all steps and numbers of inner steps.
NUMPY_SEEDS = 1
TARGETS = {"inner loop": 20.0, "closed form": 12.0}
REPEATS = 3


def make_data() -> tuple[LogisticLoss, LinearModel, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    features = features * torch.logspace(0, -1.5, COLUMNS, dtype=torch.float64)
    hidden = 3 * torch.randn(COLUMNS, 1, generator=generator, dtype=torch.float64)
    dice = torch.rand(ROWS, 1, generator=generator, dtype=torch.float64)
    labels = (dice < (features @ hidden).sigmoid()).double()
    batches = draw_batches(ROUNDS, ROWS, BATCH, generator, (SEEDS,))
    return LogisticLoss(labels, ridge=RIDGE), LinearModel(features), batches


def all_configurations(loss: LogisticLoss, model: LinearModel, batches: Tensor) -> Tensor:
    """Ours, through the front door, with its checks; shape (inner steps, steps, seeds)."""
    counts = torch.tensor(INNER_STEPS).double()[:, None, None]
    start = model.features.new_zeros(COLUMNS, 1)
    steps = torch.from_numpy(STEPS)[:, None]
    return target_sgd(loss, model, start, steps, batches, counts, every=ROUNDS).losses[-1]


def inner_loop(x: np.ndarray, slope: np.ndarray, step: float, a: float, m: int) -> np.ndarray:
    """The move of a round, by the loop of the paper."""
    n, move = len(x), np.zeros(x.shape[1])
    pull = x.T @ slope / n
    for _ in range(m):
        move -= a * (step * pull + x.T @ (x @ move) / n)
    return move


def closed_form(x: np.ndarray, slope: np.ndarray, step: float, a: float, m: int) -> np.ndarray:
    """The same by a singular value decomposition of the batch."""
    left, size, right = np.linalg.svd(x / len(x) ** 0.5, full_matrices=False)
    gain = (1 - (1 - a * size**2) ** m) / np.where(size > 1e-12, size, np.inf)
    return -step * (right.T @ (gain * (left.T @ slope))) / len(x) ** 0.5


def one_configuration(
    move: Callable[..., np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    batches: np.ndarray,
    step: float,
    m: int,
) -> float:
    """One configuration in plain NumPy."""
    a, here = 1 / (x * x).sum(1).max(), np.zeros(x.shape[1])
    for rows in batches:
        part = x[rows]
        z = part @ here
        here = here + move(part, 1 / (1 + np.exp(-z)) - y[rows] + RIDGE * z, step, a, m)
    z = x @ here
    return float((np.logaddexp(0, z) - y * z + RIDGE / 2 * z * z).mean())


def numpy_configurations(move: Callable[..., np.ndarray], seeds: int) -> np.ndarray:
    """The grid of some seeds."""
    loss, model, batches = make_data()
    x, y = model.features.numpy(), loss.data[:, 0].numpy()
    rows = [np.ascontiguousarray(batches[:, s].numpy()) for s in range(seeds)]
    return np.array(
        [
            [[one_configuration(move, x, y, part, step, m) for part in rows] for step in STEPS]
            for m in INNER_STEPS
        ]
    )


def test_a_grid_of_configurations(benchmark):
    data = make_data()
    result = benchmark.pedantic(all_configurations, data, rounds=REPEATS, warmup_rounds=1)
    for move in (inner_loop, closed_form):
        expected = numpy_configurations(move, 1)
        assert result[..., :1].numpy() == pytest.approx(expected, rel=1e-8)


def main() -> None:
    torch.set_num_threads(1)
    data = make_data()
    count = len(INNER_STEPS) * len(STEPS)
    print(
        f"target_sgd, {ROWS} x {COLUMNS}, batches of {BATCH}, {ROUNDS} rounds, "
        f"{count * SEEDS} configurations, 1 thread"
    )
    mine = all_configurations(*data)
    for name, move in (("inner loop", inner_loop), ("closed form", closed_form)):
        ours, theirs = 0.0, 0.0
        for _ in range(REPEATS):
            begin = time.perf_counter()
            mine = all_configurations(*data)
            ours = max(ours, count * SEEDS / (time.perf_counter() - begin))
            begin = time.perf_counter()
            other = numpy_configurations(move, NUMPY_SEEDS)
            theirs = max(theirs, count * NUMPY_SEEDS / (time.perf_counter() - begin))
        gap = np.abs(mine[..., :NUMPY_SEEDS].numpy() - other).max()
        if not gap < 1e-8:
            raise SystemExit(f"{name}: the two sides differ by {gap}")
        print(
            f"{name:12s} ours {ours:7.0f} configurations/s   NumPy {theirs:6.1f}   "
            f"ratio {ours / theirs:5.1f} (asked: {TARGETS[name]:g})"
        )


if __name__ == "__main__":
    main()
