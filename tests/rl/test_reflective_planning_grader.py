"""The grader of the assignment gives a point for what is right in an answer with one slip."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mdtheory.course import load_grader
from mdtheory.course.kernel import to_array

ROOT = Path(__file__).resolve().parents[2]
GRADER = load_grader(ROOT / "exercises" / "rl" / "reflective_planning.py")


def answer(number: int):
    """The functions of a wrong answer, called as the grader calls them."""
    path = ROOT / "tests" / "answers" / "rl" / "reflective_planning" / f"wrong_{number}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def points(problem: str, function, seed: int) -> float:
    def call(_, *arguments):
        tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        return to_array(function(*tensors))

    return float(GRADER.checks[problem](call, np.random.default_rng(seed)))


def counts_once_more(plan, safety, fill, value, rounds, radius):
    """The right plans, and one round too many."""
    reference = GRADER.checks["reflect"].__globals__["_reflect"]
    tables = safety.numpy(), fill.numpy(), value.numpy()
    drafts = plan.reshape(-1, plan.shape[-1]).numpy()
    found = np.array([reference(y, *tables, rounds, radius) for y in drafts])
    found[:, -1] += 1
    return torch.from_numpy(found).reshape(*plan.shape[:-1], -1)


@pytest.mark.parametrize("seed", range(5))
def test_one_slip_costs_its_own_points(seed):
    # Clipped, else right: what is inside of the grid counts.
    assert points("encode", answer(2).encode, seed) == 1
    # Rounded down, not clipped: no code is right.
    assert points("encode", answer(1).encode, seed) == 0
    # The last plan with the right number of rounds: that number counts.
    assert points("reflect", answer(1).reflect, seed) == 1
    # The best plan with one round too many: the plan counts.
    assert points("reflect", counts_once_more, seed) == 1
