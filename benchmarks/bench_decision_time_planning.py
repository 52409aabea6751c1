"""Many games at once beside one after the other, and beside OpenSpiel's Hanabi.

``python benchmarks/bench_decision_time_planning.py`` prints both sides and their ratios, measured
in turns in one run; ``pytest benchmarks/bench_decision_time_planning.py`` times the batched side
with pytest-benchmark. OpenSpiel needs the extra ``games``, and is left out without it.

- Exact search of both players in 100 random tiny games, as one batch and game by game.
- Small Hanabi: twenty thousand games at once by the blueprint, and OpenSpiel's one by one with
  random moves, which cost less than the blueprint's and end the games sooner.
"""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.nlhf.decision_time_planning import (
    SmallHanabi,
    TinyHanabi,
    exact_search_policy,
    roll_out,
)

TINY, GAMES, THEIRS = 100, 20_000, 500


def payoffs() -> Tensor:
    """Random tiny games of four cards and three actions."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(TINY, 4, 4, 3, 3, generator=generator, dtype=torch.float64)


def together(payoff: Tensor) -> Tensor:
    game = TinyHanabi(payoff)
    return game.value(exact_search_policy(game, game.uniform(), 30.0))


def one_by_one(payoff: Tensor) -> Tensor:
    return torch.stack([together(table) for table in payoff])


def hanabi(games: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    game = SmallHanabi()
    return roll_out(game, game.deal(games, generator), generator)


def openspiel(games: int) -> None:
    import pyspiel

    rules = {"players": 2, "colors": 2, "ranks": 3, "hand_size": 2,
             "max_information_tokens": 4, "max_life_tokens": 2}  # fmt: skip
    loaded, chance = pyspiel.load_game("hanabi", rules), random.Random(1)
    for _ in range(games):
        state = loaded.new_initial_state()
        while not state.is_terminal():
            state.apply_action(chance.choice(state.legal_actions()))


def seconds(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def test_both_sides_give_the_same_values():
    payoff = payoffs()
    torch.testing.assert_close(together(payoff), one_by_one(payoff))


def test_the_batch_is_ten_times_faster_than_the_loop(benchmark):
    payoff = payoffs()
    benchmark.pedantic(together, (payoff,), rounds=5, warmup_rounds=1)
    if not benchmark.enabled:
        return
    assert seconds(lambda: one_by_one(payoff), 1) > 10 * benchmark.stats["min"]


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    payoff = payoffs()
    batch, loop = (seconds(lambda f=f: f(payoff), 5) for f in (together, one_by_one))
    print(
        f"exact search, {TINY} tiny games: batch {1e3 * batch:.2f} ms, loop {1e3 * loop:.1f} ms, "
        f"ratio {loop / batch:.0f}"
    )
    ours = seconds(lambda: hanabi(GAMES), 3) / GAMES
    print(f"small Hanabi: {1 / ours:.0f} games a second, all at once, by the blueprint")
    if importlib.util.find_spec("pyspiel") is not None:
        theirs = seconds(lambda: openspiel(THEIRS), 3) / THEIRS
        print(
            f"OpenSpiel: {1 / theirs:.0f} games a second, one by one, random moves; ratio "
            f"{theirs / ours:.1f}"
        )


if __name__ == "__main__":
    main()
