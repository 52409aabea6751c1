"""Group-relative algorithms on old answers, recorded under book/results.

Run from the repository root: ``python benchmarks/group_relative_study.py``. Two minutes on one
core; a killed run goes on where it was, from the cells in ``.cache/group_relative_study``.

The task of the live cells, the products of two digits, with all algorithms and ten seeds of a cell
as one program; the interval between two copies of the policy and the learning rate are varied.
``--task twenty`` makes a second record of a larger task: numbers below 20, three digits, wider
networks, twice the prompts, five seeds; some five minutes.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch

from mdtheory import runs
from mdtheory.rl.group_relative import (
    ALGORITHMS,
    Products,
    stale_versions,
    train_group_relative,
)

TASKS: dict[str, dict[str, Any]] = {
    "table": {"size": 10, "hidden": (32, 32), "prompts": 8, "seeds": 10},
    "twenty": {"size": 20, "hidden": (64, 64), "prompts": 16, "seeds": 5},
}
STEPS = 300
INTERVALS = {"table": ("1", "5", "20", "offline"), "twenty": ("1", "20", "offline")}
RATES = (3e-3, 1e-3, 1e-2)
FOLDER = Path(".cache") / "group_relative_study"
COLUMNS = ("start", "value", "mean", "greedy", "entropy", "drift")


def run_cell(task: str, interval: str, learning_rate: float, seed: int) -> dict[str, Any]:
    """All algorithms and seeds of one setting."""
    torch.set_num_threads(1)
    begin = time.process_time()
    told = TASKS[task]
    every = math.inf if interval == "offline" else int(interval)
    record = train_group_relative(
        list(ALGORITHMS),
        stale_versions(STEPS, every),
        told["seeds"],
        torch.Generator().manual_seed(seed),
        task=Products(told["size"]),
        hidden=told["hidden"],
        prompts=told["prompts"],
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
    options = argparse.ArgumentParser()
    options.add_argument("--task", choices=list(TASKS), default="table")
    task = options.parse_args().task
    number = TASKS[task]["seeds"]
    rows: list[dict[str, Any]] = []
    seconds = 0.0
    for rate in RATES:
        grid = {"task": [task], "interval": INTERVALS[task], "learning_rate": [rate]}
        for cell in runs.sweep(run_cell, grid, seeds=[2], folder=FOLDER):
            seconds += cell.result["seconds"]
            for i, name in enumerate(ALGORITHMS):
                for seed in range(number):
                    numbers = {key: f"{cell.result[key][i][seed]:.4g}" for key in COLUMNS}
                    rows.append(cell.arguments | {"algorithm": name, "seed": seed} | numbers)
        print(f"learning rate {rate:g}: {seconds:.0f} CPU seconds so far", flush=True)
    runs.write_record(
        "group_relative_study" if task == "table" else f"group_relative_{task}",
        {key: [row[key] for row in rows] for key in rows[0]},
        command="python benchmarks/group_relative_study.py"
        + ("" if task == "table" else f" --task {task}"),
        device=runs.describe_device(torch.device("cpu")),
        seeds=number,
        note=f"{seconds:.0f} CPU seconds; groups of 8; value, greedy, entropy, drift at the end, "
        "mean over the curve of the value",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
