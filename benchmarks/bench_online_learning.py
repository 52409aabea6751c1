"""Hedge over all rounds at once, beside plain NumPy one seed at a time.

``python benchmarks/bench_online_learning.py`` prints both sides and their ratio, measured in turns
in one run; ``pytest benchmarks/bench_online_learning.py`` times ours with pytest-benchmark.
What is computed: the regret of every seed. What is given: the losses, in memory.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from mdtheory.convex.online_learning import Hedge, LinearLosses, play

ROUNDS, EXPERTS, SEEDS = 10_000, 100, 256
STEP_SIZE = math.sqrt(8 * math.log(EXPERTS) / ROUNDS)
TARGETS = {torch.float64: 8.0, torch.float32: 11.0}
NUMPY_SEEDS = 8  # the loop's cost is the same for every seed; so many are timed
REPEATS = 3


def make_losses(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(ROUNDS, SEEDS, EXPERTS, generator=generator, dtype=dtype)


def regret_of_all_seeds(losses: Tensor) -> Tensor:
    """Ours, through the front door, with its checks."""
    start = losses.new_full((SEEDS, EXPERTS), 1 / EXPERTS)
    record = play(Hedge(start, STEP_SIZE), LinearLosses(losses), ROUNDS, keep=False)
    return record.losses.sum(0) - record.total_gradient.amin(-1)


def regret_of_one_seed(losses: np.ndarray) -> float:
    """A well-written loop: one exponential a round, nothing allocated in it."""
    total = np.zeros(EXPERTS, losses.dtype)
    weights = np.empty_like(total)
    suffered = 0.0
    for loss in losses:
        np.multiply(total, -STEP_SIZE, out=weights)
        np.subtract(weights, weights.max(), out=weights)
        np.exp(weights, out=weights)
        suffered += float(weights @ loss) / float(weights.sum())
        total += loss
    return suffered - float(total.min())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_hedge_regret_of_256_seeds(benchmark, dtype):
    losses = make_losses(dtype)
    result = benchmark.pedantic(regret_of_all_seeds, (losses,), rounds=REPEATS, warmup_rounds=1)
    expected = regret_of_one_seed(np.ascontiguousarray(losses[:, 0].numpy()))
    tolerance = 1e-9 if dtype == torch.float64 else 1e-2
    assert result[0].item() == pytest.approx(expected, rel=tolerance)


def side_by_side(dtype: torch.dtype) -> tuple[float, float]:
    """Seeds a second, ours and NumPy's; the best of some turns of each."""
    losses = make_losses(dtype)
    single = [np.ascontiguousarray(losses[:, s].numpy()) for s in range(NUMPY_SEEDS)]
    ours, theirs = 0.0, 0.0
    regret_of_all_seeds(losses)
    for _ in range(REPEATS):
        begin = time.perf_counter()
        mine = regret_of_all_seeds(losses)
        ours = max(ours, SEEDS / (time.perf_counter() - begin))
        begin = time.perf_counter()
        other = [regret_of_one_seed(seed) for seed in single]
        theirs = max(theirs, NUMPY_SEEDS / (time.perf_counter() - begin))
    gap = np.abs(mine[:NUMPY_SEEDS].double().numpy() - np.array(other)).max()
    if not gap < (1e-6 if dtype == torch.float64 else 1.0):
        raise SystemExit(f"{dtype}: the two sides differ by {gap}")
    return ours, theirs


def main() -> None:
    print(
        f"Hedge, {ROUNDS:,} rounds, {EXPERTS} experts, {SEEDS} seeds, "
        f"{torch.get_num_threads()} threads"
    )
    for dtype, target in TARGETS.items():
        ours, theirs = side_by_side(dtype)
        print(
            f"{dtype!s:14s} ours {ours:8.1f} seeds/s   NumPy {theirs:6.2f} seeds/s   "
            f"ratio {ours / theirs:5.1f} (asked: {target:g})"
        )


if __name__ == "__main__":
    main()
