"""Nash mirror prox on 200 games in one call, beside a loop over the games.

``python benchmarks/bench_mirror_prox.py`` prints both sides and their ratios, measured in turns in
one run. ``pytest benchmarks/bench_mirror_prox.py`` times the batch with pytest-benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mdtheory.nlhf.mirror_prox import nash_mirror_prox
from mdtheory.nlhf.nash_md import PreferenceGame, kl, regularized_nash

GAMES, ITERATIONS, REPEATS, TOLERANCE = 200, 120, 5, 1e-8
SIZES = (4, 8, 12, 20)


def random_games(actions: int) -> PreferenceGame:
    """Preferences that are uniform in [0, 1], random references, temperatures from .05 to 1."""
    generator = torch.Generator().manual_seed(actions)
    shape = (GAMES, actions, actions)
    upper = torch.rand(shape, generator=generator, dtype=torch.float64).triu(1)
    eye = torch.eye(actions, dtype=torch.float64)
    preference = upper + (1 - upper.mT).tril(-1) + eye / 2
    draws = torch.randn(GAMES, actions, generator=generator, dtype=torch.float64)
    tau = torch.linspace(0.05, 1, GAMES, dtype=torch.float64)
    return PreferenceGame(preference, draws.log_softmax(-1), tau)


def together(games: PreferenceGame) -> Tensor:
    return nash_mirror_prox(games, ITERATIONS)


def one_by_one(games: PreferenceGame) -> Tensor:
    each = zip(games.preference, games.reference, games.temperature, strict=True)
    return torch.stack([
        nash_mirror_prox(PreferenceGame(preference, reference, tau.item()), ITERATIONS)
        for preference, reference, tau in each
    ])  # fmt: skip


@pytest.mark.parametrize("actions", SIZES)
def test_a_batch_of_games(benchmark, actions):
    games = random_games(actions)
    policy = benchmark.pedantic(together, (games,), rounds=REPEATS, warmup_rounds=1)
    assert kl(regularized_nash(games), policy).max() < TOLERANCE


@pytest.mark.parametrize("actions", SIZES)
def test_the_batch_is_ten_times_faster_than_the_loop(benchmark, actions):
    games = random_games(actions)
    benchmark.pedantic(together, (games,), rounds=REPEATS, warmup_rounds=1)
    if not benchmark.enabled:
        return
    slow, fast = seconds(lambda: one_by_one(games), 1)[0], benchmark.stats["min"]
    assert slow > 10 * fast, f"{slow / fast:.1f} times"


def seconds(work: Callable[[], Tensor], repeats: int = REPEATS) -> tuple[float, Tensor]:
    best, result = float("inf"), None
    for _ in range(repeats):
        begin = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begin)
    assert result is not None
    return best, result


def main() -> None:
    """Print both sides."""
    for actions in SIZES:
        games = random_games(actions)
        star = regularized_nash(games)
        together(games)
        slow, alone = seconds(lambda games=games: one_by_one(games), 2)
        fast, policy = seconds(lambda games=games: together(games))
        apart = (alone - policy).abs().max().item()
        far = kl(star, policy).max().item()
        print(
            f"n = {actions:2d}: {GAMES} games, {ITERATIONS} iterations: one call {1e3 * fast:.1f} "
            f"ms, loop {1e3 * slow:.0f} ms, ratio {slow / fast:.0f}; KL to the equilibrium at most "
            f"{far:.0e}, difference of the two {apart:.0e}"
        )


if __name__ == "__main__":
    main()
