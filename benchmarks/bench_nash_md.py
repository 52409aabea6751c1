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


def problem(n: int) -> nm.PreferenceGame:
    generator = torch.Generator().manual_seed(n)
    preference = nm.random_preference(n, generator, (GAMES,))
    reference = torch.randn(GAMES, n, generator=generator, dtype=torch.float64).log_softmax(-1)
    tau = torch.linspace(0.05, 1, GAMES, dtype=torch.float64)
    return nm.PreferenceGame(preference, reference, tau)


def alone(games: nm.PreferenceGame) -> list[nm.PreferenceGame]:
    """Every game of the batch as a game of its own."""
    each = zip(games.preference, games.reference, games.temperature, strict=True)
    return [nm.PreferenceGame(p, mu, t.item()) for p, mu, t in each]


def loop(games: list[nm.PreferenceGame]) -> Tensor:
    return torch.stack([nm.nash_md(game, ITERATIONS) for game in games])


@pytest.mark.parametrize("n", SIZES)
def test_a_batch_of_games(benchmark, n):
    games = problem(n)
    last = benchmark.pedantic(nm.nash_md, (games, ITERATIONS), rounds=REPEATS, warmup_rounds=1)
    torch.testing.assert_close(last, loop(alone(games)))


def main() -> None:
    torch.set_num_threads(1)
    for n in SIZES:
        games = problem(n)
        single = alone(games)
        best = [float("inf")] * 2
        for _ in range(REPEATS):
            for k, work in enumerate((
                lambda games=games: nm.nash_md(games, ITERATIONS),
                lambda single=single: loop(single),
            )):  # fmt: skip
                begin = time.perf_counter()
                work()
                best[k] = min(best[k], time.perf_counter() - begin)
        print(f"n = {n:2d}: batch {best[0]:.3f} s, loop {best[1]:.3f} s, {best[1] / best[0]:.1f}x")


if __name__ == "__main__":
    main()
