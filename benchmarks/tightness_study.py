"""The hardest instances of the book's bounds, recorded under book/results.

Run from the repository root: ``python benchmarks/tightness_study.py convex`` (or ``sea``); a minute
on one core. Each bound of the part's registry in ``tools/tight`` is climbed with its own seed, so
a bound that is added changes no other row.
"""

from __future__ import annotations

import argparse
import importlib
import json
import zlib
from pathlib import Path

import torch

from mdtheory import runs
from tools.tight import Problem, climb, recorded, verdict

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Search the registry of a part, or some of its labels, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", help="a module of tools.tight")
    parser.add_argument("--only", nargs="*", default=None, help="labels; others keep their rows")
    parser.add_argument("--steps", type=int, default=400)
    chosen = parser.parse_args()
    problems: list[Problem] = importlib.import_module(f"tools.tight.{chosen.part}").PROBLEMS
    old = recorded(ROOT)
    found = []
    for problem in problems:
        if chosen.only is not None and problem.label not in chosen.only and problem.label in old:
            found.append(old[problem.label])
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(problem.label.encode()))
        found.append(climb(problem, generator, steps=chosen.steps))
        print(f"{found[-1].label:32} {found[-1].random:8.3g} {found[-1].hardest:8.3g}", flush=True)
    runs.write_record(
        f"tightness_{chosen.part}",
        {
            "label": [row.label for row in found],
            "random": [f"{row.random:.6g}" for row in found],
            "hardest": [f"{row.hardest:.6g}" for row in found],
            "verdict": [verdict(row.hardest) for row in found],
            "vector": [json.dumps(row.vector) for row in found],
        },
        command=f"python benchmarks/tightness_study.py {chosen.part}",
        device=runs.describe_device(torch.device("cpu")),
        seeds=1,
        note="left over right of each bound: the largest of 256 random instances, and the largest "
        "that a hill climb of 64 instances finds; vector is its instance",
    )


if __name__ == "__main__":
    main()
