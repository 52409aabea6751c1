"""Nash-MD on a batch of games against a loop over the games.

``python benchmarks/bench_nash_md.py`` prints both sides and their ratio for 200 games of each size,
measured in turns in one run. ``pytest benchmarks/bench_nash_md.py`` times the batch.
"""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from mdtheory.nlhf import nash_md as nm

GAMES, ITERATIONS, REPEATS = 200, 300, 3
SIZES = (4, 8, 12, 20)


def problem(n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    preference = nm.random_preference(n, generator, (GAMES,))
    reference = torch.randn(GAMES, n, generator=generator, dtype=torch.float64).log_softmax(-1)
    return preference, reference, torch.linspace(0.05, 1, GAMES, dtype=torch.float64)


def loop(preference: Tensor, reference: Tensor, tau: Tensor) -> Tensor:
    each = zip(preference, reference, tau.tolist(), strict=True)
    return torch.stack([nm.nash_md(nm.PreferenceGame(p, mu, t), ITERATIONS) for p, mu, t in each])


@pytest.mark.parametrize("n", SIZES)
def test_a_batch_of_games(benchmark, n):
    arguments = problem(n)
    last = benchmark.pedantic(nm.nash_md, (*arguments, ITERATIONS), rounds=REPEATS, warmup_rounds=1)
    torch.testing.assert_close(last, loop(*arguments))


def main() -> None:
    torch.set_num_threads(1)
    for n in SIZES:
        arguments = problem(n)
        best = [float("inf")] * 2
        for _ in range(REPEATS):
            for k, work in enumerate(
                (lambda a: nm.nash_md(nm.PreferenceGame(*a), ITERATIONS), lambda a: loop(*a))
            ):
                begin = time.perf_counter()
                work(arguments)
                best[k] = min(best[k], time.perf_counter() - begin)
        print(f"n = {n:2d}: batch {best[0]:.3f} s, loop {best[1]:.3f} s, {best[1] / best[0]:.1f}x")


if __name__ == "__main__":
    main()
