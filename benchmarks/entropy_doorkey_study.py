"""Entropy bonus and smoothing in MiniGrid's DoorKey, recorded under book/results.

Run from the repository root, with the extra ``agents`` installed:
``python benchmarks/entropy_doorkey_study.py``. Some five minutes on one core; a killed run goes on
where it was, from the cells in ``.cache/entropy_doorkey_study``.

Each seed has two layouts of its own; all arms of a seed meet the same ones, the same first
weights and random numbers. Arms and seeds were fixed before any result of these seeds was seen.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from mdtheory import runs
from mdtheory.rl.entropy import GridRooms, Mode, train_multi_turn

BLOCKS, EACH, LAYOUTS = 1, 8, 2
UPDATES, TURNS, WIDTH = 60, 60, 64
FOLDER = Path(".cache") / "entropy_doorkey_study"
ARMS: dict[str, Mode] = {
    "none": Mode(),
    "bonus .005": Mode(0.005),
    "bonus .02": Mode(0.02),
    "bonus .05": Mode(0.05),
    "half": Mode(0.02, 0.5),
    "strong": Mode(0.02, 2.0),
}


def run_all(updates: int, seed: int) -> dict[str, Any]:
    """All arms for a block of seeds."""
    torch.set_num_threads(1)
    begin = time.process_time()
    # Layouts from 1000 on: smaller numbers were looked at while the setting was chosen.
    rooms = GridRooms(EACH, LAYOUTS, TURNS, first_layout=1000 + seed * EACH * LAYOUTS)
    record = train_multi_turn(
        list(ARMS.values()), EACH, updates, world=rooms, width=WIDTH,
        generator=torch.Generator().manual_seed(900 + seed),
    )  # fmt: skip
    half = (record.success >= 0.5).int()
    first = torch.where(half.amax(0) > 0, half.argmax(0), updates)
    return {
        "mean": record.success.mean(0).tolist(),
        "last": record.success[-5:].mean(0).tolist(),
        "half": first.tolist(),
        "entropy": record.entropy[-5:].mean(0).tolist(),
        "variation": record.entropy.diff(dim=0).abs().sum(0).tolist(),
        "chance": record.success[0].mean().item(),
        "shortest": rooms.shortest().double().mean().item(),
        "seconds": time.process_time() - begin,
    }


def main() -> None:
    """Run what is missing and write the record."""
    rows: list[dict[str, Any]] = []
    cells = runs.sweep(run_all, {"updates": [UPDATES]}, seeds=range(BLOCKS), folder=FOLDER)
    for at, arm in enumerate(ARMS):
        for cell in cells:
            for k in range(EACH):
                row: dict[str, Any] = {"arm": arm, "seed": cell.seed * EACH + k}
                for name in ("mean", "last", "entropy", "variation"):
                    row[name] = f"{cell.result[name][at][k]:.4f}"
                rows.append(row | {"half": cell.result["half"][at][k]})
    chance = sum(cell.result["chance"] for cell in cells) / len(cells)
    way = sum(cell.result["shortest"] for cell in cells) / len(cells)
    runs.write_record(
        "entropy_doorkey",
        {key: [row[key] for row in rows] for key in rows[0]},
        command="python benchmarks/entropy_doorkey_study.py",
        device=f"float32 on {runs.describe_device(torch.device('cpu'))}",
        seeds=BLOCKS * EACH,
        note=(
            f"MiniGrid-DoorKey-5x5-v0, {LAYOUTS} layouts a seed, {TURNS} turns, reward 1 at the "
            f"goal, shortest way {way:.1f} turns, success of the first policies {chance:.4f}; "
            f"GRPO, 16 groups of 8 episodes, 4 epochs, Adam 0.003, width {WIDTH}, {UPDATES} "
            "updates; mean: exact success over all updates; last: over the last five; half: "
            "updates until it is one half; entropy: over the last five; variation: of entropy"
        ),
    )


if __name__ == "__main__":
    main()
