"""The maze: who finds the treasure, and what robustification makes of it; under book/results.

Run from the repository root: ``python benchmarks/exploration_study.py``. Some five minutes on one
core; a killed study goes on where it was, from the cells in ``.cache/exploration_study``.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from pathlib import Path
from typing import Any

import torch

from mdtheory import runs
from mdtheory.rl.exploration import (
    DONE,
    BackwardGame,
    KeyDoorMaze,
    count_bonus,
    go_explore,
    random_play,
    replay_chances,
    robustify,
    tabulate,
)
from mdtheory.rl.mdpo import OnPolicySettings, train_on_policy
from mdtheory.rl.mdpo.on_policy import OnPolicyRun
from mdtheory.rl.policy_mirror_descent import evaluate, value_iteration

FOLDER = Path(".cache") / "exploration_study"
MAZES, SEEDS, ROBUST_SEEDS, LIMIT = 3, 10, 3, 300
TREASURE = 10.0
STICKY, DISCOUNT = 0.25, 0.99
# Method and steps; Go-Explore by cells and rule.
METHODS = (
    ("pixel 2021", 150_000), ("pixel uniform", 150_000), ("pixel 2019", 150_000),
    ("domain 2021", 150_000), ("random", 200_000), ("count", 1_000_000), ("greedy", 200_000),
)  # fmt: skip
ROBUST = ("backward", "start", "noiseless")
NETWORK = OnPolicySettings(
    copies=64, horizon=64, policy_learning_rate=1e-3, critic_batch=512, schedule="constant"
)


@functools.lru_cache
def maze_of(number: int) -> KeyDoorMaze:
    """The mazes of the study."""
    return KeyDoorMaze(3, 5, 3, 0.18, torch.Generator().manual_seed(number), limit=LIMIT)


def explore(maze: int, method: str, steps: int, seed: int) -> dict[str, Any]:
    """One exploration: when it first had the treasure, by both counts of steps."""
    torch.set_num_threads(1)
    begin, game = time.process_time(), maze_of(maze)
    generator = torch.Generator().manual_seed(1000 + seed)
    name, _, rule = method.partition(" ")
    if rule:
        cell = game.pixel_cell if name == "pixel" else game.domain_cell
        found = go_explore(
            game, cell, steps, generator, explore=50, hold=4.0, batch=10,
            rule=rule,  # type: ignore[arg-type]
        )  # fmt: skip
        curve = found.curve
    elif name == "random":
        curve = random_play(game, int, steps, generator, hold=4.0, limit=LIMIT).curve
    else:
        bonus = 1.0 if name == "count" else 0.0
        curve = count_bonus(
            game, int, steps, generator, bonus=bonus, rate=1.0, limit=LIMIT, optimism=5 * bonus,
            random=0.0 if bonus else 0.1,
        ).curve  # fmt: skip
    # The treasure is the only reward of 10.
    first = next(
        ((b.simulated, b.replayed) for a, b in itertools.pairwise(curve)
         if b.best - a.best >= TREASURE), None,
    )  # fmt: skip
    last = curve[-1]
    return {
        "first": first, "cells": last.cells, "best": last.best,
        "seconds": time.process_time() - begin,
    }  # fmt: skip


def demonstration(maze: int, seed: int) -> list[int]:
    """The shortest way with the highest score that phase one finds in 150,000 steps."""
    game = maze_of(maze)
    generator = torch.Generator().manual_seed(2000 + seed)
    archive = go_explore(
        game, game.pixel_cell, 150_000, generator, explore=50, hold=4.0, batch=10
    ).archive
    return archive.path(archive.nodes[archive.index[DONE]])


def make_robust(maze: int, how: str, steps: int, seed: int) -> dict[str, Any]:
    """One robustification: its exact value under sticky actions, over the exact optimum."""
    torch.set_num_threads(1)
    begin, game, way = time.process_time(), maze_of(maze), demonstration(maze, seed)
    mdp = game.sticky(STICKY, DISCOUNT)
    best = value_iteration(mdp, 1e-9).value[0].item()
    found = robustify(
        game, [way], torch.Generator().manual_seed(3000 + seed), discount=DISCOUNT,
        sticky=0.0 if how == "noiseless" else STICKY, steps=steps, curriculum=how != "start",
    )  # fmt: skip
    # The demonstration itself: its actions where it was, and equal chances elsewhere.
    clone, here = mdp.uniform_policy(), 0
    for action in way:
        clone[4 * here : 4 * here + 4] = torch.eye(4, dtype=clone.dtype)[action]
        here = int(game.next[here, action])
    return {
        "length": len(way),
        "optimum": best,
        "share": evaluate(mdp, found.policy)[0][0].item() / best,
        "cloned": evaluate(mdp, clone)[0][0].item() / best,
        "blind": replay_chances(game, way, STICKY)[-1].item(),
        "index": found.start_index,
        "success": found.success,
        "seconds": time.process_time() - begin,
    }


def train_network(maze: int, how: str, steps: int, seed: int) -> dict[str, Any]:
    """MDPO's loop with networks, all seeds as one program: from the start, or backward."""
    torch.set_num_threads(1)
    begin, game = time.process_time(), maze_of(maze)
    generator = torch.Generator().manual_seed(4000 + seed)
    mdp = game.sticky(STICKY, DISCOUNT)
    best = value_iteration(mdp, 1e-9).value[0].item()
    if how == "start":
        record = train_on_policy(game, steps, generator, seeds=5, settings=NETWORK)
        return {
            "returns": torch.nan_to_num(record.returns).amax(0).tolist(),
            "seconds": time.process_time() - begin,
        }
    run = OnPolicyRun(
        BackwardGame(game, [demonstration(maze, 0)], STICKY), steps, generator, "mdpo", 2, NETWORK
    )
    curve = []
    while run.done < run.iterations:
        run.iterate()
        if run.done % 20 == 0 or run.done == run.iterations:
            values = [evaluate(mdp, t)[0][0].item() / best for t in tabulate(run.policy, game)]
            curve.append([run.done, run.world.index[:, 0].tolist(), values])  # type: ignore[attr-defined]
    return {"curve": curve, "seconds": time.process_time() - begin}


def main() -> None:
    """Run what is missing and write the records."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", choices=("explore", "robust", "network"))
    only = options.parse_args().only
    shared: dict[str, Any] = {
        "command": "python benchmarks/exploration_study.py",
        "device": runs.describe_device(torch.device("cpu")),
    }
    if only in (None, "robust"):
        record_robust(shared)
    if only in (None, "explore"):
        record_exploration(shared)
    if only in (None, "network"):
        record_networks(shared)


def record_exploration(shared: dict[str, Any]) -> None:
    """Who finds the treasure, and when."""
    rows = []
    for method, steps in METHODS:
        grid = {"maze": range(MAZES), "method": [method], "steps": [steps]}
        cells = runs.sweep(explore, grid, seeds=range(SEEDS), folder=FOLDER)
        for cell in cells:
            told, result = cell.arguments, cell.result
            first = result["first"] or (float("nan"), float("nan"))
            rows.append({
                "maze": told["maze"], "method": method, "seed": cell.seed, "budget": steps,
                "first": f"{first[0]:.0f}", "replayed": f"{first[1]:.0f}",
                "cells": result["cells"], "best": f"{result['best']:.0f}",
                "seconds": f"{result['seconds']:.2f}",
            })  # fmt: skip
        solved = [c.result["first"][0] for c in cells if c.result["first"]]
        print(method, f"{len(solved)} of {len(cells)}", sorted(solved)[len(solved) // 2 :][:1],
              f"{sum(c.result['seconds'] for c in cells):.0f} s", flush=True)  # fmt: skip
    note = (
        f"KeyDoorMaze(3, 5, 3, 0.18) from generators 0 to {MAZES - 1}; Go-Explore: walks of 50 "
        "steps, mean hold 4, 10 cells a batch, method is cells and rule; count: Q-learning on "
        "true states, bonus 1/sqrt(N(s, a)), rate 1, first value 5; greedy: without bonus, random "
        "action with chance 0.1; episodes of at most 300 steps. first: steps simulated until the "
        "treasure, replayed: the same with every return played again, nan: not within the budget"
    )
    _write("exploration_study", rows, shared | {"seeds": SEEDS}, note)


def record_robust(shared: dict[str, Any]) -> None:
    """Phase two on tables."""
    rows = []
    for how in ROBUST:
        steps = 2_000_000 if how == "backward" else 300_000
        grid = {"maze": range(MAZES), "how": [how], "steps": [steps]}
        for cell in runs.sweep(make_robust, grid, seeds=range(ROBUST_SEEDS), folder=FOLDER):
            told, result = cell.arguments, cell.result
            rows.append({
                "maze": told["maze"], "how": how, "seed": cell.seed, "budget": told["steps"],
                "length": result["length"], "optimum": f"{result['optimum']:.6f}",
                **{k: f"{result[k]:.5f}" for k in ("share", "cloned", "blind", "success")},
                "index": result["index"], "seconds": f"{result['seconds']:.1f}",
            })  # fmt: skip
            print(rows[-1], flush=True)
    _write("exploration_robust", rows, shared | {"seeds": ROBUST_SEEDS}, (
        f"robustify under sticky actions with chance {STICKY}, discount {DISCOUNT}, one "
        "demonstration of a phase one of 150,000 steps; share: exact value at the start over "
        "the exact optimum; cloned: the demonstration's actions in its states, else equal chances; "
        "blind: chance to stand before the last action when played blindly; start: without "
        "curriculum; noiseless: trained without sticky actions, evaluated with them"
    ))  # fmt: skip


def record_networks(shared: dict[str, Any]) -> None:
    """Phase two, and no phase one, with networks in the book's own loop."""
    rows = []
    for how, steps in (("start", 200_000), ("backward", 600_000)):
        grid = {"maze": [0], "how": [how], "steps": [steps]}
        for cell in runs.sweep(train_network, grid, seeds=[0], folder=FOLDER):
            result = cell.result
            print(how, result, flush=True)
            if how == "start":
                rows += [
                    {"how": how, "seed": k, "steps": steps, "index": 0, "share": "nan",
                     "best": f"{best:.4f}", "seconds": f"{result['seconds']:.0f}"}
                    for k, best in enumerate(result["returns"])
                ]  # fmt: skip
            else:
                rows += [
                    {"how": how, "seed": k, "steps": done * NETWORK.copies * NETWORK.horizon,
                     "index": index[k], "share": f"{values[k]:.5f}", "best": "nan",
                     "seconds": f"{result['seconds']:.0f}"}
                    for done, index, values in result["curve"] for k in range(len(values))
                ]  # fmt: skip
    _write("exploration_networks", rows, shared | {"seeds": 2}, (
        "train_on_policy (MDPO, copies 64, horizon 64, two layers of 64, Adam 1e-3, step size 1 "
        "constant) on maze 0; start: five seeds without sticky actions from the start, best: the "
        "highest mean return of an iteration; backward: BackwardGame with sticky actions 0.25, one "
        "demonstration, two seeds; share: exact value over the exact optimum, index: where "
        "episodes begin"
    ))  # fmt: skip


def _write(name: str, rows: list[dict[str, Any]], shared: dict[str, Any], note: str) -> None:
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    runs.write_record(name, columns, note=note, **shared)


if __name__ == "__main__":
    main()
