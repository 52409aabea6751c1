"""Hedge's regret over a grid of horizons and experts, recorded under book/results.

Run from the repository root: ``python benchmarks/hedge_study.py``; about a minute on one core.
Each cell plays many seeds in one batch, with the step size of ``thm-hedge``, against fair coins
(losses 0 and 1) and against the adversary that always charges the heaviest expert.
"""

from __future__ import annotations

import math

import torch

from mdtheory import runs
from mdtheory.convex.mirror_maps import Simplex
from mdtheory.convex.online_learning import (
    Adversary,
    Hedge,
    LinearLosses,
    bounds,
    play,
    punish_heaviest,
    regret,
)
from mdtheory.device import default_device

HORIZONS = (10, 30, 100, 300, 1_000, 3_000, 10_000)
EXPERTS = (2, 3, 10, 30, 100)
SEEDS = 100


def main() -> None:
    """Play every cell and write the record."""
    device = default_device()
    generator = torch.Generator(device).manual_seed(0)
    rows: list[tuple[str, int, int, float, float, float]] = []
    for experts in EXPERTS:
        for horizon in HORIZONS:
            step = math.sqrt(8 * math.log(experts) / horizon)
            shape = (horizon, SEEDS, experts)
            coins = torch.randint(2, shape, generator=generator, device=device, dtype=torch.int8)
            start = torch.full((SEEDS, experts), 1 / experts, dtype=torch.float64, device=device)
            bound = bounds.hedge(experts, horizon)
            streams = {"fair coins": LinearLosses(coins.double())}
            games = {
                name: play(Hedge(start, step), stream, horizon, keep=False)
                for name, stream in streams.items()
            }
            # The adversary draws nothing, so one play is all of them.
            games["heaviest charged"] = play(
                Hedge(start[:1], step), Adversary(punish_heaviest), horizon, keep=False
            )
            for name, record in games.items():
                best = Simplex().minimize_linear(record.total_gradient)
                result = regret(record, best, linear=True)
                runs.check_bound("thm-hedge", result, result.new_tensor(bound))
                rows.append(
                    (name, experts, horizon, result.mean().item(), result.max().item(), bound)
                )
    names = ("losses", "experts", "rounds", "mean_regret", "largest_regret", "bound")
    columns = {
        name: [f"{row[k]:.6f}" if k > 2 else row[k] for row in rows] for k, name in enumerate(names)
    }
    runs.write_record(
        "hedge_study",
        columns,
        command="python benchmarks/hedge_study.py",
        device=f"float64 on {runs.describe_device(device)}",
        seeds=SEEDS,
        note="regret against the best expert in hindsight; the adversary is one play, not a sample",
    )


if __name__ == "__main__":
    main()
