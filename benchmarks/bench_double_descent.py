"""Test errors of all widths, seeds and numbers of steps at once, beside loops over the widths.

``python benchmarks/bench_double_descent.py`` prints both sides and their ratios, measured in turns
in one run; ``pytest benchmarks/bench_double_descent.py`` times ours with pytest-benchmark.
What is computed: the test errors after 10^1, ..., 10^4 steps (13 marks), ten widths and ten seeds.
What is given: the features of all widths, in memory. NumPy stands there twice: taking the steps one
after the other for each width and seed, which is what the closed form replaces, and with the same
closed form for one width and seed after the other, so that the second ratio is what the batching
alone gives: nothing to speak of, as the time goes into the decompositions. The first is timed on
one seed and counted per seed. Seconds are CPU seconds of one thread.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import Tensor

from mdtheory.convex.double_descent import (
    Problem,
    gradient_descent_solution,
    random_features,
    teacher_problem,
)

WIDTHS = (30, 50, 80, 90, 100, 110, 130, 200, 400, 1000)
MARKS = np.unique(np.logspace(1, 4, 13).round().astype(int))
SEEDS, SLOW_SEEDS, REPEATS = 10, 1, 3
TARGETS = {"steps": 20.0, "closed form": 0.5}


def make_data() -> tuple[Problem, list[tuple[Tensor, Tensor]]]:
    """The problem, and the features of its training and test rows for every width."""
    generator = torch.Generator().manual_seed(0)
    problem = teacher_problem(SEEDS, generator)
    weights = 1.5 * torch.randn(SEEDS, 20, WIDTHS[-1], generator=generator, dtype=torch.float64)
    parts = (problem.inputs, problem.test_inputs)
    first, second = (random_features(part, weights, "tanh") for part in parts)
    return problem, [(first[..., :p].contiguous(), second[..., :p].contiguous()) for p in WIDTHS]


def all_errors(problem: Problem, features: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Ours, through the front door, with its checks; shape (widths, marks, seeds)."""
    steps, rows = torch.from_numpy(MARKS).double()[:, None], []
    for z, other in features:
        step = 1 / torch.linalg.matrix_norm(z, 2).square()
        beta = gradient_descent_solution(z, problem.targets, step, steps)
        fitted = (other @ beta.movedim(0, -1)).movedim(-1, 0)
        rows.append((fitted - problem.test_targets).square().mean(-1))
    return torch.stack(rows)


def one_seed(
    problem: Problem, features: list[tuple[Tensor, Tensor]], seed: int, closed: bool
) -> np.ndarray:
    """The same of one seed in plain NumPy, one width after the other; shape (widths, marks)."""
    y, truth = problem.targets[seed].numpy(), problem.test_targets[seed].numpy()
    rows = []
    for first, second in features:
        z, other = first[seed].numpy(), second[seed].numpy()
        if closed:
            left, values, right = np.linalg.svd(z, full_matrices=False)
            shown = left.T @ y
            share = [-np.expm1(t * np.log1p(-(values**2) / values[0] ** 2 * 0.9999999999999999))
                     for t in MARKS]  # fmt: skip
            found = [right.T @ (part / values * shown) for part in share]
        else:
            step, beta, found = 1 / np.linalg.norm(z, 2) ** 2, np.zeros(z.shape[1]), []
            for t in range(1, MARKS[-1] + 1):
                beta -= step * (z.T @ (z @ beta - y))
                if t in MARKS:
                    found.append(beta.copy())
        rows.append([((other @ beta - truth) ** 2).mean() for beta in found])
    return np.array(rows)


def test_a_table_of_test_errors(benchmark):
    data = make_data()
    result = benchmark.pedantic(all_errors, data, rounds=REPEATS, warmup_rounds=1)
    assert result[..., 0].numpy() == pytest.approx(one_seed(*data, 0, True), rel=1e-7)


def main() -> None:
    torch.set_num_threads(1)
    data = make_data()
    print(
        f"{len(WIDTHS)} widths, {SEEDS} seeds, {len(MARKS)} marks up to {MARKS[-1]:,} steps, "
        "1 thread"
    )
    all_errors(*data)
    for name, seeds in (("steps", SLOW_SEEDS), ("closed form", SEEDS)):
        ours, theirs = float("inf"), float("inf")
        for _ in range(REPEATS):
            begin = time.process_time()
            mine = all_errors(*data)
            ours = min(ours, (time.process_time() - begin) / SEEDS)
            begin = time.process_time()
            rows = [one_seed(*data, seed, name == "closed form") for seed in range(seeds)]
            theirs = min(theirs, (time.process_time() - begin) / seeds)
        gap = np.abs(mine[..., :seeds].numpy() / np.stack(rows, -1) - 1).max()
        if not gap < 1e-6:
            raise SystemExit(f"{name}: the two sides differ by {gap}")
        print(
            f"{name:12s} ours {1e3 * ours:7.1f} ms a seed   NumPy {1e3 * theirs:8.1f} ms   "
            f"ratio {theirs / ours:6.1f} (asked: {TARGETS[name]:g})"
        )


if __name__ == "__main__":
    main()
