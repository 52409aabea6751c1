"""Poker by magnetic mirror descent, and rounds of two solvers: records under book/results.

Run from the repository root: ``python benchmarks/games_study.py``; a few minutes on one core.

``games_study``: exploitability of the last iterate of magnetic mirror descent in the behavioural
form on Kuhn and Leduc poker, with a temperature that falls and with a magnet that moves, beside the
mean strategies of counterfactual regret minimisation, plain and with regret matching plus (both
with the players in turns; linear weights for the second).

``games_solver_study``: rounds until the duality gap of a matrix game of 300 by 300 is 1e-3, by
predictive regret matching and by optimistic mirror descent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.nlhf.games import (
    ExtensiveGame,
    exploitability,
    inverse_root,
    kuhn_poker,
    leduc_poker,
    magnetic_iterates,
    solve_matrix_game,
)
from mdtheory.nlhf.games.solver import LOOK
from mdtheory.nlhf.games.strategies import Strategies

ITERATIONS = {"kuhn": 30_000, "leduc": 30_000}
SCHEDULES = {"kuhn": (1.0, 1.0), "leduc": (5.0, 1.0)}  # of temperature and step
SIZE, GAP, MOST = 300, 1e-3, 20_000


def regret_minimisation(game: ExtensiveGame, iterations: int, plus: bool) -> Iterator[Strategies]:
    """Mean strategies of CFR or CFR+, the start included."""
    width = game.actions
    player = torch.cat([torch.full((count,), i) for i, count in enumerate(game.rows)])[game.order]
    owner = torch.nn.functional.pad(player.repeat_interleave(width), (2, 0), value=-1)
    legal = torch.isfinite(game.join(game.uniform()))
    regrets = torch.zeros(game.size, dtype=torch.float64)
    total = torch.zeros_like(regrets)
    logs = game.join(game.uniform())
    yield game.split(logs)
    for now in range(1, iterations + 1):
        for turn in (0, 1):
            probabilities = logs.exp()
            costs = game.losses(game.reach(logs))
            for begin, end in reversed(game.levels):
                mean = (game.level(costs, begin, end) * game.level(probabilities, begin, end)).sum(
                    -1
                )
                game.level(regrets, begin, end).add_(
                    (mean[:, None] - game.level(costs, begin, end))
                    * (player[begin:end] == turn)[:, None]
                )
                costs.index_add_(-1, game.above[begin:end], mean)
            regrets = torch.where(legal, regrets.clamp(min=0) if plus else regrets, 0.0)
            fresh = matched(game, regrets.clamp(min=0))
            logs = torch.where(owner == turn, fresh, logs)
        total += (now if plus else 1) * game.reach(logs)
        yield game.split(matched(game, torch.where(legal, total, 0.0)))


def matched(game: ExtensiveGame, amounts: Tensor) -> Tensor:
    """Log-probabilities in proportion to amounts, uniform where all of a row are 0."""
    rows = amounts[2:].unflatten(-1, (-1, game.actions))
    size = rows.sum(-1, keepdim=True)
    even = game.join(game.uniform())[2:].unflatten(-1, (-1, game.actions))
    logs = torch.where(size > 0, (rows / size).log(), even)
    return torch.nn.functional.pad(logs.flatten(), (2, 0))


def methods(name: str, game: ExtensiveGame) -> dict[str, Iterator[Strategies]]:
    count = ITERATIONS[name]
    heat, step = (inverse_root(c) for c in SCHEDULES[name])
    return {
        "annealed MMD": magnetic_iterates(game, count, heat, step, form="behavioural"),
        "moving magnet MMD": magnetic_iterates(
            game, count, 1.0, 0.1, magnet_rate=0.05, form="behavioural"
        ),
        "CFR, mean": regret_minimisation(game, count, plus=False),
        "CFR+, mean": regret_minimisation(game, count, plus=True),
    }


def poker() -> None:
    rows = []
    for name, game in (("kuhn", kuhn_poker()), ("leduc", leduc_poker())):
        marks = {round(10 ** (k / 8)) for k in range(100)} | {ITERATIONS[name]}
        for method, run in methods(name, game).items():
            for iteration, pair in enumerate(run):
                if iteration in marks:
                    level = exploitability(game, pair).item()
                    rows.append((name, method, iteration, f"{level:.6e}"))
            print(name, method, f"{level:.3e}")
    names = ("game", "method", "iteration", "exploitability")
    columns = {key: [row[i] for row in rows] for i, key in enumerate(names)}
    print(runs.write_record(
        "games_study", columns, command="python benchmarks/games_study.py",
        device=runs.describe_device(torch.device("cpu")), seeds=1,
        note="temperature and step c/sqrt(t) with c = 1, 1 on Kuhn and 5, 1 on Leduc; moving "
        "magnet: temperature 1, step 0.1, magnet rate 0.05",
    ))  # fmt: skip


def kinds() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": torch.float64}
    signs = torch.randint(0, 2, (SIZE, SIZE), generator=generator).double() * 2 - 1
    normal = torch.randn(SIZE, SIZE, **options)
    low = torch.randn(SIZE, 5, **options) @ torch.randn(5, SIZE, **options)
    found = {
        "uniform": 2 * torch.rand(SIZE, SIZE, **options) - 1, "signs": signs, "normal": normal,
        "rank 5": low,
    }  # fmt: skip
    return {name: payoff / payoff.abs().max() for name, payoff in found.items()}


def optimistic(payoff: Tensor, eta: float) -> int:
    """Rounds of optimistic mirror descent until its last or its mean iterate has the gap, or 0."""
    logs = [torch.zeros(SIZE, dtype=torch.float64) for _ in range(2)]
    total = [torch.zeros_like(part) for part in logs]
    before: list[Tensor] = []
    for now in range(1, MOST + 1):
        x, y = (part.softmax(0) for part in logs)
        gain = [payoff @ y, -(payoff.T @ x)]
        guess = before or gain
        logs = [z + eta * (2 * g - b) for z, g, b in zip(logs, gain, guess, strict=True)]
        before = gain
        # The operator is linear, so the mean's costs are the mean of the costs.
        total = [t + (g - t) / now for t, g in zip(total, gain, strict=True)]
        if now % LOOK == 0 and min(sum(g.max().item() for g in pair) for pair in (gain, total)) < (
            GAP
        ):
            return now
    return 0


def regret_matching_rounds(payoff: Tensor) -> int:
    low, high = 1, 2
    while not reaches(payoff, high):
        low, high = high, 2 * high
    while high - low > LOOK:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(payoff, middle) else (middle, high)
    return high


def reaches(payoff: Tensor, rounds: int) -> bool:
    try:
        solve_matrix_game(payoff, GAP, rounds)
    except ArithmeticError:
        return False
    return True


def solvers() -> None:
    rows = []
    for name, payoff in kinds().items():
        rows.append((name, "predictive regret matching", regret_matching_rounds(payoff)))
        for eta in (0.5, 2.0, 8.0, 32.0):
            rows.append((name, f"optimistic mirror descent, step {eta:g}", optimistic(payoff, eta)))
        print(rows[-5:])
    columns = {key: [row[i] for row in rows] for i, key in enumerate(("game", "method", "rounds"))}
    print(runs.write_record(
        "games_solver_study", columns, command="python benchmarks/games_study.py",
        device=runs.describe_device(torch.device("cpu")), seeds=1,
        note=f"{SIZE} by {SIZE}, gap {GAP:g}, payoffs scaled to [-1, 1]; 0 rounds: not reached in "
        f"{MOST:,}",
    ))  # fmt: skip


def main() -> None:
    """Run both studies and write the records."""
    torch.set_num_threads(1)
    assert math.isfinite(GAP)
    solvers()
    poker()


if __name__ == "__main__":
    main()
