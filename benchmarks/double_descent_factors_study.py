"""Adam and random mini-batches on random features, for the record in book/results.

Run from the repository root: ``python benchmarks/double_descent_factors_study.py``; some minutes on
one core. The other factors of the chapter have closed forms and are computed on the page; these two
have none. The problem, its features and its seeds are those of the page. A method and a width is
one cell of a sweep, whose results are kept in ``--folder``.

- ``Adam``: all rows, rate 0.001, started at 0.
- ``batch 10``: ten rows drawn with replacement in every step, started at 0; the step is the inverse
  of the largest squared norm of a row times the number of rows in a batch, which is stable.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from mdtheory import runs
from mdtheory.convex.double_descent import random_features, teacher_problem

SEEDS, DRAWN, BATCH, RATE = 10, 20, 10, 1e-3
WIDTHS = (50, 100, 400)
MARKS = (100, 1000, 10_000, 100_000)
METHODS = ("Adam", "batch 10")


def train(method: str, width: int, seed: int) -> list[list[float]]:
    """One cell: rows (steps, seed, training loss, test loss)."""
    generator = torch.Generator().manual_seed(seed)
    problem = teacher_problem(DRAWN, generator)
    weights = 1.5 * torch.randn(DRAWN, 20, 1000, generator=generator, dtype=torch.float64)
    inputs, targets, others, truth = (part[:SEEDS] for part in problem)
    z, other = (random_features(x, weights[:SEEDS, :, :width], "tanh") for x in (inputs, others))
    y = targets[..., None]
    beta = torch.zeros(SEEDS, width, 1, dtype=torch.float64)
    solver = torch.optim.Adam([beta], lr=RATE)
    step = 1 / (BATCH * z.square().sum(-1).amax(-1))[:, None, None]
    rows = []
    for done in range(1, MARKS[-1] + 1):
        if method == "Adam":
            beta.grad = z.mT @ (z @ beta - y)
            solver.step()
        else:
            at = torch.randint(z.shape[1], (SEEDS, BATCH, 1), generator=generator)
            x, part = torch.take_along_dim(z, at, 1), torch.take_along_dim(y, at, 1)
            beta -= step * (x.mT @ (x @ beta - part))
        if done in MARKS:
            fitted = (z @ beta - y).square().mean((1, 2))
            errors = ((other @ beta)[..., 0] - truth).square().mean(1)
            rows += [[done, s, fitted[s].item(), errors[s].item()] for s in range(SEEDS)]
    return rows


def main() -> None:
    """Run what is missing and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "double_descent_factors"
    )
    chosen = options.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    grid = {"method": list(METHODS), "width": list(WIDTHS)}
    cells = runs.sweep(train, grid, seeds=[0], folder=chosen.folder)
    names = ("method", "width", "steps", "seed", "train_loss", "test_loss")
    rows = [
        [*cell.arguments.values(), *map(int, row[:2]), *(f"{n:.4g}" for n in row[2:])]
        for cell in cells
        for row in cell.result
    ]
    runs.write_record(
        "double_descent_factors_study",
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        command="python benchmarks/double_descent_factors_study.py",
        device=f"float64 on {runs.describe_device(torch.device('cpu'))}",
        seeds=SEEDS,
        note=(
            f"teacher problem, 100 rows, tanh features of weights 1.5 N(0, 1); Adam at {RATE:g} on "
            f"the whole squared error, batches of {BATCH} at the inverse of {BATCH} times the "
            f"largest squared row; {time.process_time() - begin:.0f} CPU seconds in the last run."
        ),
    )


if __name__ == "__main__":
    main()
