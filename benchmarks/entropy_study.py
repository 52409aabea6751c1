"""EPO, its parts and its variants on LockChain, recorded under book/results.

Run from the repository root: ``python benchmarks/entropy_study.py``. About ten minutes on one
core; a killed run goes on where it was, from the cells in ``.cache/entropy_study``.

Two worlds: "short" has 20 turns, 4 locks and networks of width 32; "long" has 30, 5 and 64. An arm
is a way to treat entropy; all arms of a seed meet the same world, first weights and random
numbers. All arms but the last five were fixed before any result was seen; these, and the second
block of seeds, were added after the first block. So the second block is a test of what the first
one suggests.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.rl.entropy import Mode, train_multi_turn

BLOCKS, EACH = 2, 16  # seeds come in blocks, one program each
UPDATES, TAIL = 100, 20
FOLDER = Path(".cache") / "entropy_study"
WORLDS: dict[str, dict[str, Any]] = {
    "short": {"turns": 20, "locks": 4, "width": 32},
    "long": {"turns": 30, "locks": 5, "width": 64},
}
ARMS: dict[str, Mode] = {
    "none": Mode(),
    "bonus .005": Mode(0.005),
    "bonus .02": Mode(0.02),
    "bonus .1": Mode(0.1),
    "half": Mode(0.02, 0.5),
    "strong": Mode(0.02, 2.0),
    # Four times the learning rate, where entropy swings.
    "fast none": Mode(rate=4.0),
    "fast bonus": Mode(0.02, rate=4.0),
    "fast strong": Mode(0.02, 2.0, rate=4.0),
    # The corridor of the paper's tables; the released code's penalty; other references.
    "tables": Mode(0.02, 0.1, 0.0, 2.0),
    "indicator": Mode(0.02, 0.5, kind="indicator"),
    "sliding": Mode(0.02, 2.0, reference="sliding"),
    "fixed": Mode(0.02, 2.0, reference="fixed"),
    # Attempts to repair too much of a bonus.
    "large strong": Mode(0.1, 5.0),
    "large low roof": Mode(0.1, 5.0, 0.0, 0.7),
    "large fixed roof": Mode(0.1, 2.0, 0.0, 0.85, reference="fixed"),
    # Without a clip of the ratio.
    "loose none": Mode(rate=4.0),
    "loose bonus": Mode(0.02, rate=4.0),
    "loose strong": Mode(0.02, 2.0, rate=4.0),
    # Which part does it: a weaker penalty, a larger bonus, the floor alone, the roof alone.
    "fast half": Mode(0.02, 0.5, rate=4.0),
    "fast bonus .05": Mode(0.05, rate=4.0),
    "fast floor": Mode(0.02, 2.0, 0.5, 1e6, rate=4.0),
    "fast roof": Mode(0.02, 2.0, 0.0, 1.5, rate=4.0),
    "loose half": Mode(0.02, 0.5, rate=4.0),
}
LONG = ("none", "bonus .02", "half", "strong")
CURVES = ("success", "entropy", "early", "late", "reference")


def run_arm(world: str, arm: str, updates: int, seed: int) -> dict[str, Any]:
    """One arm for a block of seeds."""
    torch.set_num_threads(1)
    begin = time.process_time()
    record = train_multi_turn(
        [ARMS[arm]], EACH, updates, generator=torch.Generator().manual_seed(700 + seed),
        clip=1e6 if arm.startswith("loose") else 0.2, **WORLDS[world],
    )  # fmt: skip
    curves = {name: getattr(record, name)[:, 0] for name in CURVES}
    success, entropy = curves["success"], curves["entropy"]
    smooth = success.unfold(0, 10, 1).mean(-1)
    rewarded = record.rewarded[:, 0] > 0
    first = torch.where(rewarded.any(0), rewarded.int().argmax(0), updates)
    return {
        "success": success[-TAIL:].mean(0).tolist(),
        "drop": (smooth.amax(0) - smooth[-1]).tolist(),
        "entropy": entropy[-TAIL:].mean(0).tolist(),
        "highest": entropy.amax(0).tolist(),
        "variation": entropy.diff(dim=0).abs().sum(0).tolist(),
        "first": first.tolist(),
        "curves": {name: _rounded(values) for name, values in curves.items()},
        "seconds": time.process_time() - begin,
    }


def _rounded(values: Tensor) -> list[list[float]]:
    return [[round(x, 5) for x in row] for row in values.tolist()]


def main() -> None:
    """Run what is missing and write the two records."""
    rows: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    grids = {
        world: {"world": [world], "arm": list(arms), "updates": [UPDATES]}
        for world, arms in (("short", ARMS), ("long", LONG))
    }
    for block in range(BLOCKS):  # so that a run cut short has fewer seeds, not fewer arms
        for grid in grids.values():
            runs.sweep(run_arm, grid, seeds=[block], folder=FOLDER)
    for world, grid in grids.items():
        arms = grid["arm"]
        cells = runs.sweep(run_arm, grid, seeds=range(BLOCKS), folder=FOLDER)
        for arm in arms:
            blocks = [cell.result for cell in cells if cell.arguments["arm"] == arm]
            for block, result in enumerate(blocks):
                for k in range(EACH):
                    row = {"world": world, "arm": arm, "block": block, "seed": block * EACH + k}
                    for name in ("success", "drop", "entropy", "highest", "variation"):
                        row[name] = f"{result[name][k]:.4f}"
                    rows.append(row | {"first": result["first"][k]})
            # Each curve's mean over seeds; of success the interquartile mean.
            curves = {
                name: torch.tensor([block["curves"][name] for block in blocks]).movedim(1, 0)
                .flatten(1)
                for name in CURVES
            }  # fmt: skip
            cut = curves["success"].shape[1] // 4
            success = curves["success"].sort(1).values[:, cut:-cut].mean(1)
            for update in range(UPDATES):
                path = {"world": world, "arm": arm, "update": update}
                for name in CURVES:
                    value = success if name == "success" else curves[name].nanmean(1)
                    path[name] = f"{value[update].item():.4f}"
                paths.append(path)
    shared: dict[str, Any] = {
        "command": "python benchmarks/entropy_study.py",
        "device": f"float32 on {runs.describe_device(torch.device('cpu'))}",
        "seeds": BLOCKS * EACH,
    }
    setting = (
        "LockChain, verbs 5, objects 8, goals 4; short: 20 turns, 4 locks, width 32; long: 30, 5, "
        f"64. GRPO, 16 groups of 8 episodes, 4 epochs, Adam 0.003, clip 0.2, {UPDATES} updates. "
    )
    _write("entropy_study", rows, shared, setting + (
        f"success and entropy: mean over the last {TAIL} updates, success exact; drop: from the "
        "best mean of ten updates to the last; highest: largest entropy; variation: total "
        "variation of entropy; first: first update with a reward"
    ))  # fmt: skip
    _write("entropy_curves", paths, shared, setting + (
        "means over seeds of each update, of success the interquartile mean; early and late: "
        "entropy in the first and last third of the turns"
    ))  # fmt: skip


def _write(name: str, rows: list[dict[str, Any]], shared: dict[str, Any], note: str) -> None:
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    runs.write_record(name, columns, note=note, **shared)


if __name__ == "__main__":
    main()
