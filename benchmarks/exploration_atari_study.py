"""Phase one on Montezuma's Revenge and Pitfall, recorded under book/results.

Run from the repository root, with the extra ``atari`` installed:
``python benchmarks/exploration_atari_study.py``. Some three minutes of one core for each run of
400,000 steps; a killed study goes on where it was, from the cells in
``.cache/exploration_atari_study``. ``--write`` records what is finished and runs nothing.

A step is an action held for four frames, without sticky actions; a life lost ends an episode or a
walk. The rivals begin every episode at the start.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdtheory import runs
from mdtheory.environments.atari import Atari
from mdtheory.rl.exploration.archive import Archive
from mdtheory.rl.exploration.cells import downscale
from mdtheory.rl.exploration.explore import Progress, go_explore
from mdtheory.rl.exploration.rivals import count_bonus, random_play

FOLDER = Path(".cache") / "exploration_atari_study"
STEPS, SEEDS, BATCH = 400_000, 3, 10
GRID = 10_000  # steps between two points of a recorded curve
# In the memory of Montezuma's Revenge: room, x, y, the objects held, and a death being shown.
ROOM, X, Y, HELD, DYING = 3, 42, 43, 65, 55
DEATH = {"montezuma_revenge": DYING, "pitfall": -1}
# What is run, in the order of its importance.
PLAN = (
    ("montezuma_revenge", "memory"),
    ("montezuma_revenge", "pixels"),
    ("montezuma_revenge", "random"),
    ("montezuma_revenge", "count"),
    ("pitfall", "pixels"),
    ("pitfall", "random"),
)
ORDER = [([seed], run) for plan in (PLAN[:4], PLAN[4:]) for seed in range(SEEDS) for run in plan]


def pixel_cell(game: Atari) -> Hashable:
    """The picture, 11 by 8 in nine greys."""
    return downscale(game.screen()).numpy().tobytes()


def memory_cell(game: Atari) -> Hashable:
    """Montezuma's room, her place in squares of 16, and what she holds."""
    memory = game.memory()
    return (
        int(memory[ROOM]), int(memory[X]) // 16, int(memory[Y]) // 16, int(memory[HELD]) & 0x1E
    )  # fmt: skip


def run_game(game: str, mode: str, steps: int, seed: int) -> dict[str, Any]:
    """One run: its curve, when each score was first reached, and its best way."""
    torch.set_num_threads(1)
    begin = time.process_time()
    atari = Atari(game, death=DEATH[game])
    montezuma = game == "montezuma_revenge"
    generator = torch.Generator().manual_seed(seed)
    result: dict[str, Any] = {}
    curve: list[Progress]
    if mode in ("random", "count"):
        cell = memory_cell if montezuma else pixel_cell
        if mode == "random":
            play = random_play(atari, cell, steps, generator)
        else:
            play = count_bonus(
                atari, cell, steps, generator, bonus=0.1, rate=0.2, patience=8,
                sign=True,
            )  # fmt: skip
        curve = play.curve
        rooms = [[steps, len({c[0] for c in play.cells})]] if montezuma else []  # type: ignore[index]
    else:
        found: set[int] = set()
        rooms, known = [], 0

        def look(progress: Progress, archive: Archive) -> None:
            nonlocal known
            if not montezuma:
                return
            for snapshot in archive.snapshots[known:]:
                if snapshot is not None:
                    atari.restore(snapshot)
                    found.add(int(atari.memory()[ROOM]))
            known = len(archive)
            rooms.append([progress.simulated, len(found)])

        cell = memory_cell if mode == "memory" else pixel_cell
        record = go_explore(atari, cell, steps, generator, batch=BATCH, on_batch=look)
        curve, archive = record.curve, record.archive
        best = max(range(len(archive)), key=lambda i: (archive.scores[i], -archive.lengths[i]))
        result["path"] = archive.path(archive.nodes[best])
        result["replayed"] = record.replayed
        result["cells"] = len(archive)
    result["curve"] = thin(curve, steps, "path" in result)
    result["rooms"] = thin_rooms(rooms, steps)
    result["first"] = [
        [after.simulated, after.replayed, after.best]
        for before, after in itertools.pairwise(curve)
        if after.best > before.best
    ]
    result["seconds"] = time.process_time() - begin
    return result


def thin(curve: list[Progress], steps: int, replays: bool) -> list[list[float]]:
    """The last point at or before every multiple of GRID: steps, replayed, cells, best."""
    rows, k = [], 0
    for mark in range(GRID, steps + 1, GRID):
        while k + 1 < len(curve) and curve[k + 1].simulated <= mark:
            k += 1
        rows.append([mark, *curve[k][1:]])
    if not replays:
        rows = [[mark, mark, *rest] for mark, _, *rest in rows]
    return rows


def thin_rooms(rooms: list[list[int]], steps: int) -> list[int]:
    """Rooms known at every multiple of GRID; the rivals' are known at the end only."""
    rows, k = [], 0
    for mark in range(GRID, steps + 1, GRID):
        while k + 1 < len(rooms) and rooms[k + 1][0] <= mark:
            k += 1
        rows.append(rooms[k][1] if rooms and rooms[k][0] <= mark else 1)
    return rows


def draw_path(actions: list[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Where a way through Montezuma's rooms leads, and a small picture of each room on it."""
    atari = Atari("montezuma_revenge", death=DYING)
    atari.reset()
    rows, rooms, score = [], {}, 0.0
    for step, action in enumerate(actions, 1):
        reward, _ = atari.step(action)
        score += reward
        memory = atari.memory()
        room = int(memory[ROOM])
        rows.append({
            "step": step, "room": room, "x": int(memory[X]), "y": int(memory[Y]),
            "score": f"{score:.0f}",
        })  # fmt: skip
        if room not in rooms:
            small = downscale(atari.screen(), 40, 42, 15).clamp(max=15)
            rooms[room] = "".join(f"{level:x}" for level in small.flatten().tolist())
    pictures = [{"room": room, "cells": cells} for room, cells in rooms.items()]
    return rows, pictures


def main() -> None:
    """Run what is missing and write the records."""
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--write", action="store_true", help="record what is finished")
    told = options.parse_args()
    rows: list[dict[str, Any]] = []
    best: tuple[float, list[int], str] = (-np.inf, [], "")
    # Seed by seed, so that a study cut short has whole comparisons; Pitfall last.
    for seeds, (game, mode) in ORDER:
        for seed in seeds:
            grid = {"game": [game], "mode": [mode], "steps": [told.steps]}
            run = runs.finished_cells if told.write else runs.sweep
            for cell in run(run_game, grid, seeds=[seed], folder=FOLDER):
                result = cell.result
                last = result["curve"][-1]
                print(game, mode, seed, last, result["rooms"][-1], result["first"][:6],
                      f"{result['seconds']:.0f} s", flush=True)  # fmt: skip
                first = min((f[0] for f in result["first"]), default=float("nan"))
                rows += [
                    {"game": game, "mode": mode, "seed": seed, "steps": int(steps),
                     "replayed": int(replayed), "cells": int(cells), "best": f"{score:.0f}",
                     "rooms": rooms, "first": f"{first:.0f}",
                     "seconds": f"{result['seconds']:.0f}"}
                    for (steps, replayed, cells, score), rooms in zip(
                        result["curve"], result["rooms"], strict=True
                    )
                ]  # fmt: skip
                score = last[3]
                if game == "montezuma_revenge" and "path" in result and score > best[0]:
                    best = score, result["path"], f"{mode}, seed {seed}"
    path, pictures = draw_path(best[1])
    shared: dict[str, Any] = {
        "command": "python benchmarks/exploration_atari_study.py",
        "device": runs.describe_device(torch.device("cpu")),
        "seeds": SEEDS,
    }
    setting = (
        f"ale-py, {told.steps} steps of four frames a run, no sticky actions, a life lost ends a "
        f"walk or an episode; Go-Explore of 2021: weights 1/sqrt(seen + 1), walks of 100 steps, "
        f"mean hold 20, {BATCH} cells a batch. "
    )
    _write("exploration_atari", rows, shared, setting + (
        "best: highest score so far; first: step of the first reward above 0; replayed: steps if "
        "returns were played again; rooms: Montezuma only, the rivals' at the end only; seconds: "
        "of the whole run, CPU"
    ))  # fmt: skip
    _write("exploration_path", path, shared, setting + f"best way found ({best[2]}), step by step")
    _write("exploration_rooms", pictures, shared, setting + (
        "rooms on that way, 42 rows of 40 grey levels, 0 to f"
    ))  # fmt: skip


def _write(name: str, rows: list[dict[str, Any]], shared: dict[str, Any], note: str) -> None:
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    runs.write_record(name, columns, note=note, **shared)


if __name__ == "__main__":
    main()
