"""Training all seeds at once beside a loop over seeds.

``python benchmarks/bench_entropy.py`` prints both and their ratio, measured in turns in one run;
``pytest benchmarks/bench_entropy.py`` times the batch with pytest-benchmark.

The loop calls the same function with one seed, 32 times: the arithmetic is the same, what is saved
is the price of starting each operation. One seed already has 128 episodes and all contexts in its
tensors, so the gain ends between 4 and 5, where the arithmetic is all that is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from mdtheory.rl.entropy import Mode, train_multi_turn

SEEDS, UPDATES = 32, 5


def train(seeds: int, seed: int = 0) -> torch.Tensor:
    """Entropies of a short training."""
    generator = torch.Generator().manual_seed(seed)
    record = train_multi_turn([Mode(0.02, 0.5)], seeds, UPDATES, generator=generator)
    return record.entropy


def loop(seeds: int) -> None:
    """One seed after the other."""
    for seed in range(seeds):
        train(1, seed)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ratio(turns: int) -> tuple[float, float, float]:
    """Best times of the batch and of the loop, in turns, and their ratio."""
    train(1)  # starts what torch starts once
    pairs = [(seconds(lambda: train(SEEDS)), seconds(lambda: loop(SEEDS))) for _ in range(turns)]
    batch, one_by_one = (min(column) for column in zip(*pairs, strict=True))
    return batch, one_by_one, one_by_one / batch


def test_training(benchmark):
    entropy = benchmark.pedantic(train, (SEEDS,), rounds=3, warmup_rounds=1)
    assert entropy.isfinite().all()


def test_the_batch_is_three_times_faster(benchmark):
    if not benchmark.enabled:
        pytest.skip("measures time")
    benchmark.pedantic(train, (SEEDS,), rounds=1)
    assert ratio(3)[2] > 3


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    batch, one_by_one, gain = ratio(3)
    print(
        f"{SEEDS} seeds, {UPDATES} updates: together {batch:.2f} s, one after the other "
        f"{one_by_one:.2f} s, ratio {gain:.1f}"
    )


if __name__ == "__main__":
    main()
