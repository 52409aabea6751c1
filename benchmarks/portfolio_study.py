"""The full portfolio study of the chapter 'Online learning', recorded under book/results.

Run from the repository root: ``python benchmarks/portfolio_study.py``. About four minutes on one
core, most of it for the universal portfolio.
"""

from __future__ import annotations

import math

import torch

from mdtheory import runs
from mdtheory.convex.mirror_maps import Simplex
from mdtheory.convex.online_learning import (
    Hedge,
    OnlineNewtonStep,
    PortfolioLosses,
    dirichlet,
    play,
    universal_portfolio,
)
from mdtheory.data import load_nyse
from mdtheory.device import default_device

STEP_SIZES = (0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
EPSILONS = (0.125, 0.5, 2.0, 8.0, 32.0, 128.0)
GAMMA = 0.5
SEEDS, SAMPLES, CHUNK = 10, 200_000, 20_000


def main() -> None:
    """Run every learner on the whole market and write the record."""
    device = default_device()
    relatives = load_nyse().relatives.to(device)
    days, stocks = relatives.shape
    losses = PortfolioLosses(relatives)
    best = -losses.loss_at(losses.best_comparator(Simplex()), days).item()
    start = relatives.new_full((stocks,), 1 / stocks)
    rows: list[tuple[str, float, int, float, float, float]] = []

    def add(method: str, setting: float, seed: int, wealth: float, bound: float) -> None:
        rows.append((method, setting, seed, wealth, best - wealth, bound))

    nothing = math.nan  # no theorem bounds the regret of these
    add("best constant", 0.0, 0, best, nothing)
    add("best stock", 0.0, 0, relatives.prod(0).max().log().item(), nothing)
    add("uniform constant", 0.0, 0, -losses.loss_at(start, days).item(), nothing)

    steps = relatives.new_tensor(STEP_SIZES)
    wide = PortfolioLosses(relatives[:, None].expand(-1, len(STEP_SIZES), -1))
    record = play(Hedge(start.expand(len(STEP_SIZES), -1), steps), wide, days)
    assert record.gradients is not None
    spread = record.gradients.amax(-1) - record.gradients.amin(-1)
    bounds = math.log(stocks) / steps + steps / 8 * (spread**2).sum(0)
    for step, loss, bound in zip(STEP_SIZES, record.losses.sum(0), bounds, strict=True):
        add("exponentiated gradient", step, 0, -loss.item(), bound.item())

    tangent = PortfolioLosses(relatives, tangent=True)
    for epsilon in EPSILONS:
        newton = OnlineNewtonStep(start, Simplex(), GAMMA, epsilon)
        game = play(newton, tangent, days, keep=False)
        growth = torch.logdet(newton.matrix) - stocks * math.log(epsilon)
        # No two points of the simplex are further apart than the square root of 2.
        bound = GAMMA * epsilon + growth / (2 * GAMMA)
        add("online Newton step", epsilon, 0, -game.losses.sum().item(), bound.item())

    # What thm-universal-portfolio promises for the exact integral; no finite sample has it.
    choices = math.lgamma(days + stocks) - math.lgamma(stocks) - math.lgamma(days + 1)
    for seed in range(SEEDS):
        generator = torch.Generator(device).manual_seed(seed)
        parts = [
            universal_portfolio(relatives, dirichlet((CHUNK,), stocks, generator))[-1]
            for _ in range(SAMPLES // CHUNK)
        ]
        wealth = torch.stack(parts).logsumexp(0) - math.log(len(parts))
        add("universal portfolio", float(SAMPLES), seed, wealth.item(), choices)

    names = ("method", "setting", "seed", "log_wealth", "regret", "bound")
    columns = {
        name: [f"{row[k]:.6f}" if k > 2 else row[k] for row in rows] for k, name in enumerate(names)
    }
    runs.write_record(
        "portfolio_study",
        columns,
        command="python benchmarks/portfolio_study.py",
        device=f"float64 on {runs.describe_device(device)}",
        seeds=SEEDS,
        note="setting: step size, epsilon (gamma 1/2) or number of samples; logarithms in nats",
    )


if __name__ == "__main__":
    main()
