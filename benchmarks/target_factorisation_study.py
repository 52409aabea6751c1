"""Matrix factorisation by target-based and other methods, recorded under book/results.

Run from the repository root: ``python benchmarks/target_factorisation_study.py``; some minutes on
one core. Targets ``A x`` of normal inputs x in 6 dimensions, with the 10 x 6 matrix A of condition
number 1e5, are fitted by ``W2 W1 x`` with inner dimension ``rank``, or by ``W x`` (rank 'linear').
The gap is to the least loss of that rank, known from the singular values.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.convex.target_surrogates import (
    METHODS,
    Armijo,
    LinearModel,
    Model,
    SquaredLoss,
    TargetRecord,
    TorchModel,
    draw_batches,
    parameter_sgd,
    target_sgd,
)

ROWS, INPUTS, OUTPUTS, BATCH, ROUNDS, SEEDS = 1_000, 6, 10, 100, 40, 5
RANKS = (0, 1, 4, 10)  # 0 is the linear model
INNER_STEPS = (1, 10, 100, 1000)
STEPS = 4.0 ** torch.arange(-5, 2).double()
CONDITION = 1e5


def product(rank: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The function ``W2 W1 x`` of flat parameters."""

    def function(parameters: Tensor, inputs: Tensor) -> Tensor:
        cut = INPUTS * rank
        into = parameters[..., :cut].unflatten(-1, (INPUTS, rank))
        out = parameters[..., cut:].unflatten(-1, (rank, OUTPUTS))
        return inputs @ into @ out

    return function


def main() -> None:
    """Run all ranks and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = options.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = normal(ROWS, INPUTS)
    left, right = (torch.linalg.qr(normal(size, INPUTS)).Q for size in (OUTPUTS, INPUTS))
    sizes = CONDITION ** -torch.linspace(0, 1, INPUTS).double()
    targets = inputs @ (right * sizes) @ left.mT
    loss = SquaredLoss(targets)
    # Eckart and Young: the best product of some rank keeps the largest singular values.
    tails = torch.linalg.svdvals(targets / ROWS**0.5).square() / 2
    batches = draw_batches(rounds, ROWS, BATCH, generator, (SEEDS,))
    names = ("method", "inner_steps", "rank", "step_size", "oracle_calls", "products")
    names += ("gap", "gap_low", "gap_high")
    rows: list[list[str]] = []
    begin = time.perf_counter()
    for rank in RANKS:
        if rank:
            model: Model = TorchModel(product(rank), inputs)
            start = normal(SEEDS, (INPUTS + OUTPUTS) * rank) / INPUTS**0.5
        else:
            model, start = LinearModel(inputs), normal(SEEDS, INPUTS, OUTPUTS) / INPUTS**0.5
        least = tails[rank:].sum().item() if rank else 0.0
        plays: list[tuple[str, int, Tensor, TargetRecord]] = [
            (
                "sso",
                m,
                torch.ones(1).double(),
                target_sgd(
                    loss, model, start, torch.ones(1, 1).double(), batches, m, inner_step=Armijo()
                ),
            )
            for m in INNER_STEPS
        ]
        for method in METHODS:
            given = 256 * STEPS if method == "line-search" else STEPS
            record = parameter_sgd(loss, model, start, given[:, None], batches, method=method)
            plays.append((method, 1, given, record))
        for method, m, steps, record in plays:
            gaps = torch.where(record.losses.isfinite(), record.losses - least, 1e300)
            best = int(gaps[-1].quantile(0.5, dim=-1).argmin())
            ends = runs.bootstrap_interval(gaps[:, best].mT.clamp(min=1e-16), generator)
            label = str(rank or "linear")
            for k, calls in enumerate(record.rounds.tolist()):
                rows.append([method, f"{m}", label, f"{steps[best].item():.5g}", f"{calls}"])
                rows[-1] += [f"{record.products[k, best].mean().item():g}"]
                rows[-1] += [f"{end[k].item():.5g}" for end in ends]
            print(
                f"{time.perf_counter() - begin:6.0f} s  rank {label} {method} m={m} "
                f"step {steps[best].item():.3g} ({best}): {ends[0][-1].item():.2e} "
                f"after {rounds // 2}: {ends[0][rounds // 2].item():.2e}",
                flush=True,
            )
    runs.write_record(
        "target_factorisation_study",
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        command="python benchmarks/target_factorisation_study.py",
        device=f"float64 on {runs.describe_device(torch.device('cpu'))}",
        seeds=SEEDS,
        note=(
            f"{ROWS} rows, batches of {BATCH}; A has singular values from 1 to 1/{CONDITION:g}. "
            "sso: step 1 = 1/L, Armijo inside; for the squared loss its surrogate at this step is "
            "the loss of the batch itself, so m inner steps are m steps of descent on it. The "
            "others: the best of 7 constant steps, 4^-5..4^1 (line-search: start 256 times "
            "higher). Gap of the full loss to the least one of that rank (Eckart and Young), at "
            "least 1e-16; median over random starts and batches with a 95 % bootstrap interval. "
            f"{time.perf_counter() - begin:.0f} s in all."
        ),
    )


if __name__ == "__main__":
    main()
