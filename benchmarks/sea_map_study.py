"""The interpolation map: regret over noise and drift, recorded under book/results.

Run from the repository root: ``python benchmarks/sea_map_study.py`` makes ``sea_map_study``
(64 x 64 cells, 256 seeds, 1,000 rounds; about 3 minutes on two free cores for both learners
together), and ``python benchmarks/sea_map_study.py --long`` makes ``sea_long_study`` (100,000
rounds; on a CPU with 16 x 16 cells and 64 seeds, on a GPU with the cells and seeds of the first).

Linear losses on the unit ball in 5 dimensions: the expected slope has a constant part of length 1/2
and a part across it, of length ``drift``, that changes its sign in every round; the noise lies in
the ball of radius ``noise``. All cells share the same draws.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.convex.mirror_maps import Ball
from mdtheory.convex.sea import (
    StochasticallyExtendedAdversary,
    bounded_noise,
    bounds,
    optimistic_mirror_descent,
    regret_bound,
)
from mdtheory.device import default_device

DIMENSION = 5
LARGEST = 1.0
# So many cells at a time stay in a core's cache.
CHUNK = 32
_draws: tuple[Tensor, Tensor] | None = None


def environment(
    noise: Tensor, drift: Tensor, draws: tuple[Tensor, Tensor]
) -> StochasticallyExtendedAdversary:
    """Cells of the map, batch ``(cells, seeds)``."""
    drawn, variance = draws
    signs = 1 - 2 * (torch.arange(1, len(drawn) + 1, device=drawn.device, dtype=drawn.dtype) % 2)
    moves = drawn.new_zeros(len(drawn), 1, DIMENSION)
    moves[:, 0, 1] = signs
    offset = drawn.new_zeros(DIMENSION)
    offset[0] = -0.5
    return StochasticallyExtendedAdversary(
        moves,
        drawn,
        variance,
        offset=offset,
        noise_scale=noise[:, None],
        drift_scale=drift[:, None],
    )


def draw(rounds: int, seeds: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The noise that all cells share."""
    generator = torch.Generator(device).manual_seed(0)
    return bounded_noise(rounds, seeds, DIMENSION, generator)


def prepare(rounds: int, seeds: int) -> None:
    """Make the draws of a worker process."""
    global _draws
    torch.set_num_threads(1)
    _draws = draw(rounds, seeds, torch.device("cpu"))


def cells(noise: Tensor, drift: Tensor) -> Tensor:
    """Mean regret with hints, its standard error, mean regret without, worst ratio, bound."""
    assert _draws is not None
    game = environment(noise, drift, _draws)
    domain, rounds, start = Ball(1.0), game.rounds, game.start()
    limit = game.gradient_bound(1.0)
    best = game.best_comparator(domain)
    regrets = []
    for hints in (True, False):
        record = optimistic_mirror_descent(
            game, start, domain, rounds, gradient_bound=limit, hints=hints, keep=False
        )
        regrets.append(record.loss - game.loss_at(best, rounds))
        if hints:
            covered = bounds.convex_pathwise(2.0, limit, record.variation, record.paid_movement)
            worst = (regrets[0] / covered).amax(-1)
    bound = regret_bound(
        "convex",
        diameter=2.0,
        gradient_bound=limit.amax(-1),
        smoothness=0.0,
        variance=game.variances.sum(0).mean(-1),
        variation=game.variations.sum(0).mean(-1),
    )
    error = regrets[0].std(-1) / regrets[0].shape[-1] ** 0.5
    return torch.stack([regrets[0].mean(-1), error, regrets[1].mean(-1), worst, bound], -1).cpu()


def main() -> None:
    """Play every cell and write the record."""
    global _draws
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="100,000 rounds")
    long = parser.parse_args().long
    device = default_device()
    small = long and device.type == "cpu"
    side, seeds = (16, 64) if small else (64, 256)
    rounds = 100_000 if long else 1_000
    axis = torch.linspace(0, LARGEST, side, dtype=torch.float64, device=device)
    noise, drift = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    begin = time.perf_counter()
    if device.type == "cpu":
        workers = os.cpu_count() or 1
        with ProcessPoolExecutor(
            workers, get_context("spawn"), initializer=prepare, initargs=(rounds, seeds)
        ) as pool:
            parts = list(pool.map(cells, noise.split(CHUNK), drift.split(CHUNK)))
    else:
        workers = 1
        _draws = draw(rounds, seeds, device)
        parts = [cells(n, v) for n, v in zip(noise.split(1024), drift.split(1024), strict=True)]
    seconds = time.perf_counter() - begin
    results = torch.cat(parts)
    worst = results[:, 3]
    runs.check_bound("thm-sea-convex", worst, torch.ones_like(worst))
    runs.check_bound("cor-sea-convex", results[:, 0], results[:, 4])
    columns = {"noise": noise, "drift": drift} | dict(
        zip(("regret", "error", "plain", "worst_ratio", "bound"), results.unbind(-1), strict=True)
    )
    name = "sea_long_study" if long else "sea_map_study"
    runs.write_record(
        name,
        {key: [f"{value:.5g}" for value in column.tolist()] for key, column in columns.items()},
        command=f"python benchmarks/sea_map_study.py{' --long' if long else ''}",
        device=f"float64 on {device.type}, {workers} process(es) of one thread",
        seeds=seeds,
        note=f"linear losses on the unit ball, d = {DIMENSION}, T = {rounds}; regret with hints "
        f"and plain (without) are means over seeds, error the standard error of the first, "
        f"worst_ratio the largest ratio of a seed's regret to its pathwise bound; "
        f"{seconds:.0f} s",
    )
    print(f"{name}: {len(noise)} cells, {seconds:.0f} s")


if __name__ == "__main__":
    main()
