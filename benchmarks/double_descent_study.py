"""Two-layer networks on digits: width x factor x steps, for the record in book/results.

Run from the repository root: ``python benchmarks/double_descent_study.py``; about a quarter of an
hour on one core. A configuration and a group of widths, all seeds at once, is one cell of a sweep,
whose results are kept in ``--folder``: run it again and it goes on where it was.

100 training rows, 10 one-hot outputs, so that a network with ``h`` hidden units has 75 h + 10
weights for 1,000 numbers to fit and can fit them from about h = 13. A fifth of the training labels
is replaced by random ones (but for 'clean'), the 600 test rows are clean. Columns are standardised
over all digits and divided by 8, so that rows have norm about 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from mdtheory import runs
from mdtheory.convex.double_descent import train_two_layer

ROWS, TEST_ROWS, CLASSES, SEEDS, NOISE = 100, 600, 10, 5, 0.2
# Widths that are about as dear as one another share a program.
GROUPS = ((2, 4, 8), (12, 16, 24), (40,), (100,), (200,))
SHORT = (30, 100, 300, 1000, 3000, 10_000)
LONG = (*SHORT, 30_000, 100_000)
CONFIGURATIONS: dict[str, dict[str, float | int | str | bool]] = {
    "descent": {"optimizer": "descent", "step_size": 1.5},
    "rate / 10": {"optimizer": "descent", "step_size": 0.15},
    "momentum": {"optimizer": "momentum", "step_size": 1.5, "long": True},
    "Adam": {"optimizer": "adam", "step_size": 3e-3},
    "Adam, rate / 30": {"optimizer": "adam", "step_size": 1e-4},
    "batch 10": {"optimizer": "descent", "step_size": 1.5, "batch": 10},
    "output start / 10": {"optimizer": "descent", "step_size": 1.5, "output_scale": 0.01},
    "output start x 10": {"optimizer": "descent", "step_size": 1.5, "output_scale": 1.0},
    "Adam, output start x 10": {"optimizer": "adam", "step_size": 3e-3, "output_scale": 1.0},
    "normalised units": {"optimizer": "descent", "step_size": 1.5, "normalize": True},
    "inputs / 5": {"optimizer": "descent", "step_size": 1.5, "input_scale": 0.2},
    "clean labels": {"optimizer": "descent", "step_size": 1.5, "noise": 0.0},
    "Adam, clean labels": {"optimizer": "adam", "step_size": 3e-3, "noise": 0.0},
}


def digits(noise: float, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training rows and one-hot labels, test rows and labels, seeds along the first axis."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float()
    x = scale * (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3) / 8
    y = torch.from_numpy(labels).long()
    parts = []
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(x), generator=generator)[: ROWS + TEST_ROWS]
        shown = y[order[:ROWS]].clone()
        replaced = torch.rand(ROWS, generator=generator) < noise
        drawn = torch.randint(CLASSES, (ROWS,), generator=generator)
        shown[replaced] = drawn[replaced]
        hot = torch.nn.functional.one_hot(shown, CLASSES).float()
        parts.append((x[order[:ROWS]], hot, x[order[ROWS:]], y[order[ROWS:]]))
    first, second, third, fourth = (torch.stack(part) for part in zip(*parts, strict=True))
    return first, second, third, fourth


def train(configuration: str, group: int, seed: int) -> list[list[float]]:
    """One cell: rows (width, weights, steps, seed, training loss, test loss, test error)."""
    options = dict(CONFIGURATIONS[configuration])
    noise, scale = float(options.pop("noise", NOISE)), float(options.pop("input_scale", 1.0))
    # The widest is the dearest, and has nothing left to learn after 10,000 steps.
    marks = LONG if options.pop("long", False) and group < len(GROUPS) - 1 else SHORT
    inputs, targets, others, labels = digits(noise, scale)
    record = train_two_layer(
        inputs, targets, GROUPS[group], steps=marks[-1], marks=marks,
        generator=torch.Generator().manual_seed(seed), **options,  # type: ignore[arg-type]
    )  # fmt: skip
    clean = torch.nn.functional.one_hot(labels, CLASSES).float()
    rows = []
    for done, losses, network in zip(marks, record.train_losses, record.networks, strict=True):
        found = network(others)
        errors = (found - clean).square().sum(-1).mean(-1)
        wrong = (found.argmax(-1) != labels).float().mean(-1)
        counts = network.parameter_counts(record.widths)
        for i, width in enumerate(record.widths):
            for s in range(SEEDS):
                numbers = (losses[i, s], errors[i, s], wrong[i, s])
                rows.append([width, counts[i], done, s, *(float(n.double()) for n in numbers)])
    return rows


def main() -> None:
    """Run what is missing and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "double_descent_study"
    )
    options.add_argument("--jobs", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    grid = {"configuration": list(CONFIGURATIONS), "group": list(range(len(GROUPS)))}
    cells = runs.sweep(train, grid, seeds=[0], folder=chosen.folder, jobs=chosen.jobs)
    names = ("configuration", "width", "weights", "steps", "seed")
    names += ("train_loss", "test_loss", "test_error")
    rows = [
        [cell.arguments["configuration"], *map(int, row[:4]), *(f"{n:.4g}" for n in row[4:])]
        for cell in cells
        for row in cell.result
    ]
    runs.write_record(
        "double_descent_study",
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        command="python benchmarks/double_descent_study.py",
        device=f"float32 on {runs.describe_device(torch.device('cpu'))}",
        seeds=SEEDS,
        note=(
            f"digits, {ROWS} training rows, {TEST_ROWS} clean test rows, one-hot targets, "
            f"{NOISE:.0%} of the training labels replaced; losses are squared errors summed over "
            "the outputs, mean over rows; inf or nan: diverged. Step sizes of descent and momentum "
            "are 1.5 (or 0.15) / (1 + largest eigenvalue of the first features' second moments); "
            f"{time.process_time() - begin:.0f} CPU seconds in the last run."
        ),
    )


if __name__ == "__main__":
    main()
