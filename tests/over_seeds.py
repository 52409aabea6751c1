"""Grades answers directly, many times: points of each file, problem and seed, as JSON.

Run as a program, with the library without answers first on the path.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch

from mdtheory.course import load_grader
from mdtheory.course.kernel import to_array


def points(grader_file: Path, answers: Path, seeds: int) -> dict[str, dict[str, list[float]]]:
    """File to problem to the points for each seed."""
    grader = load_grader(grader_file)
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(answers.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"answer_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        def call(function, *arguments, module=module):
            tensors = [
                torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments
            ]
            try:
                return to_array(getattr(module, function)(*tensors))
            except Exception:  # a wrong answer may raise, or be refused
                return np.array(np.nan)

        found[path.stem] = {
            problem: [float(check(call, np.random.default_rng(seed))) for seed in range(seeds)]
            for problem, check in grader.checks.items()
        }
    return found


if __name__ == "__main__":
    np.seterr(all="ignore")
    json.dump(points(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])), sys.stdout)
