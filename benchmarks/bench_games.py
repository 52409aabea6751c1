"""Games beside OpenSpiel and HiGHS.

``python benchmarks/bench_games.py`` prints both sides and their ratios, measured in turns in one
run; it needs ``pip install open_spiel`` (the extra ``games``), and SciPy for HiGHS. With
``--record`` the figures go into book/results. Four tasks:

- one iteration of dilated magnetic mirror descent on Kuhn and on Leduc poker, against OpenSpiel's
  Python implementation, with a check that the iterates agree;
- NashConv of a random strategy of Leduc poker, against OpenSpiel's Python;
- dense matrix games of 1,000 by 1,000 to a certified gap of 1e-3, against the linear programme of
  HiGHS (and 2,000 by 2,000 alone; ``--slow`` also gives that one to HiGHS).

``pytest benchmarks/bench_games.py`` times ours with pytest-benchmark.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mdtheory import runs
from mdtheory.nlhf.games import (
    ExtensiveGame,
    MatrixGame,
    from_openspiel,
    kuhn_poker,
    leduc_poker,
    magnetic_mirror_descent,
    nash_conv,
    solve_matrix_game,
)

TEMPERATURE, STEP, GAP = 0.1, 0.5, 1e-3
POKER = {"kuhn": kuhn_poker, "leduc": leduc_poker}


def random_strategies(game: ExtensiveGame) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        torch.rand(legal.shape, generator=generator, dtype=torch.float64)
        .masked_fill(~legal, 0.0)
        .log()
        .log_softmax(-1)
        for legal in game.legal
    )
    return first, second


def dense(size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    return 2 * torch.rand(size, size, generator=generator, dtype=torch.float64) - 1


@pytest.mark.parametrize("name", POKER)
def test_a_hundred_iterations_of_the_dilated_form(benchmark, name):
    game = POKER[name]()
    last = benchmark.pedantic(
        magnetic_mirror_descent, (game, 100, TEMPERATURE, STEP), rounds=3, warmup_rounds=1
    )
    assert nash_conv(game, last) < nash_conv(game, game.uniform())


@pytest.mark.parametrize("name", POKER)
def test_nash_conv(benchmark, name):
    game = POKER[name]()
    pair = random_strategies(game)
    assert benchmark(nash_conv, game, pair) > 0


def test_a_matrix_game_of_a_thousand(benchmark):
    payoff = dense(1000)
    pair = benchmark.pedantic(solve_matrix_game, (payoff, GAP), rounds=2, warmup_rounds=1)
    assert nash_conv(MatrixGame(payoff), pair) <= GAP


def seconds(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(repeats):
        begin = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begin)
    return best, result


Row = tuple[str, float, float]


def report(task: str, ours: float, theirs: float) -> Row:
    print(f"{task:20s} ours {ours:.3e} s   theirs {theirs:.3e} s   ratio {theirs / ours:8.1f}")
    return task, ours, theirs


def compare_iterations(pyspiel: Any) -> list[Row]:
    from open_spiel.python.algorithms import mmd_dilated

    rows = []
    for name, count in (("kuhn", 200), ("leduc", 8)):
        loaded = pyspiel.load_game(f"{name}_poker")
        theirs = mmd_dilated.MMDDilatedEnt(loaded, TEMPERATURE, STEP)
        game = from_openspiel(loaded)

        def iterate(theirs=theirs, count=count):
            for _ in range(count):
                theirs.update_sequences()

        def ours(game=game, count=count):
            return magnetic_mirror_descent(game, count, TEMPERATURE, STEP)

        ours()
        taken, found = seconds(ours, 5)
        other, _ = seconds(iterate, 1)
        policy = theirs.get_policies()
        worst = max(
            abs(policy.policy_for_key(key)[int(move)] - found[player][row, action].exp().item())
            for player in (0, 1)
            for row, key in enumerate(game.information[player])
            for action, move in enumerate(game.moves[player][row])
        )
        print(f"{name}: after {count} iterations the strategies differ by at most {worst:.1e}")
        assert worst < 1e-10
        rows.append(report(f"dilated {name}", taken / count, other / count))
    return rows


def compare_nash_conv(pyspiel: Any) -> list[Row]:
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import exploitability

    loaded = pyspiel.load_game("leduc_poker")
    game = from_openspiel(loaded)
    pair = random_strategies(game)
    table = policies.TabularPolicy(loaded)
    for player in (0, 1):
        for row, key in enumerate(game.information[player]):
            for action, move in enumerate(game.moves[player][row]):
                table.policy_for_key(key)[int(move)] = pair[player][row, action].exp().item()
    taken, value = seconds(lambda: nash_conv(game, pair), 20)
    other, wanted = seconds(lambda: exploitability.nash_conv(loaded, table), 3)
    assert abs(value.item() - wanted) < 1e-9
    return [report("nash_conv leduc", taken, other)]


def compare_matrices(slow: bool) -> list[Row]:
    import numpy as np
    from scipy.optimize import linprog

    rows = []
    for size in (1000, 2000):
        payoff = dense(size)
        taken, pair = seconds(lambda payoff=payoff: solve_matrix_game(payoff, GAP), 3)
        gap = nash_conv(MatrixGame(payoff), pair).item()
        print(f"{size} by {size}: ours {taken:.3f} s, gap {gap:.2e}")
        if size == 2000 and not slow:
            continue
        table = payoff.numpy()
        goal = np.append(np.zeros(size), -1.0)
        under = np.hstack([-table.T, np.ones((size, 1))])
        even = np.append(np.ones(size), 0.0)[None]

        def theirs(goal=goal, under=under, even=even, size=size):
            return linprog(
                goal, under, np.zeros(size), even, [1.0],
                bounds=[(0, None)] * size + [(None, None)], method="highs",
            )  # fmt: skip

        other, result = seconds(theirs, 1)
        assert result.status == 0
        assert abs(MatrixGame(payoff).value(pair).item() + result.fun) <= GAP
        rows.append(report(f"matrix {size}", taken, other))
    return rows


def main() -> None:
    try:
        import pyspiel
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed; install it with: pip install open_spiel")
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    rows = compare_iterations(pyspiel) + compare_nash_conv(pyspiel)
    rows += compare_matrices("--slow" in arguments)
    if "--record" in arguments:
        columns = {
            "task": [row[0] for row in rows],
            "ours": [f"{row[1]:.6e}" for row in rows],
            "theirs": [f"{row[2]:.6e}" for row in rows],
            "ratio": [f"{row[2] / row[1]:.3f}" for row in rows],
        }
        print(runs.write_record(
            "games_speed", columns, command="python benchmarks/bench_games.py --record",
            device=runs.describe_device(torch.device("cpu")), seeds=1,
            note="seconds an iteration or a call, best of several; OpenSpiel's Python, HiGHS",
        ))  # fmt: skip


if __name__ == "__main__":
    main()
