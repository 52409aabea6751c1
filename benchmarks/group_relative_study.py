"""Group-relative algorithms on old answers, recorded under book/results.

Run from the repository root: ``python benchmarks/group_relative_study.py``. Two minutes on one
core; a killed run goes on where it was, from the cells in ``.cache/group_relative_study``.

The task and the settings of the live cells, with all algorithms and ten seeds of a cell as one
program; the interval between two copies of the policy and the learning rate are varied.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch

from mdtheory import runs
from mdtheory.rl.group_relative import (
    ALGORITHMS,
    stale_versions,
    train_group_relative,
)

STEPS, SEEDS = 300, 10
INTERVALS = ("1", "5", "20", "offline")
RATES = (3e-3, 1e-3, 1e-2)
FOLDER = Path(".cache") / "group_relative_study"
COLUMNS = ("start", "value", "mean", "greedy", "entropy", "drift")


def run_cell(interval: str, learning_rate: float, seed: int) -> dict[str, Any]:
    """All algorithms and seeds of one setting."""
    torch.set_num_threads(1)
    begin = time.process_time()
    every = math.inf if interval == "offline" else int(interval)
    record = train_group_relative(
        list(ALGORITHMS),
        stale_versions(STEPS, every),
        SEEDS,
        torch.Generator().manual_seed(seed),
        learning_rate=learning_rate,
    )
    return {
        "start": record.value[0].tolist(),
        "value": record.value[-1].tolist(),
        "mean": record.value.mean(0).tolist(),
        "greedy": record.greedy[-1].tolist(),
        "entropy": record.entropy[-1].tolist(),
        "drift": record.drift[-1].tolist(),
        "seconds": time.process_time() - begin,
    }


def main() -> None:
    """Run what is missing and write the record."""
    rows: list[dict[str, Any]] = []
    seconds = 0.0
    for rate in RATES:
        grid = {"interval": INTERVALS, "learning_rate": [rate]}
        for cell in runs.sweep(run_cell, grid, seeds=[2], folder=FOLDER):
            seconds += cell.result["seconds"]
            for i, name in enumerate(ALGORITHMS):
                for seed in range(SEEDS):
                    numbers = {key: f"{cell.result[key][i][seed]:.4g}" for key in COLUMNS}
                    row = {"task": "table"} | cell.arguments | {"algorithm": name, "seed": seed}
                    rows.append(row | numbers)
        print(f"learning rate {rate:g}: {seconds:.0f} CPU seconds so far", flush=True)
    runs.write_record(
        "group_relative_study",
        {key: [row[key] for row in rows] for key in rows[0]},
        command="python benchmarks/group_relative_study.py",
        device=runs.describe_device(torch.device("cpu")),
        seeds=SEEDS,
        note=f"{seconds:.0f} CPU seconds; groups of 8; value, greedy, entropy, drift at the end, "
        "mean over the curve of the value",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
