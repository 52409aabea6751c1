"""Target-based and other stochastic methods over a grid, and what they cost, under book/results.

Run from the repository root: ``python benchmarks/target_grid_study.py``; some minutes on one core.
``target_grid_study`` holds the gap after the same number of oracle calls for every number of inner
steps, step size, schedule and batch size on two data sets. ``target_cost_study`` follows each
method's best configuration, and prices it with an oracle made 1, 10 and 100 times dearer.

- breast cancer: standardised columns and an intercept, logistic loss with a ridge of 0.01 on the
  logits, without which the minimum would hardly exist; the reference is Newton's method's end.
- digits: pixels over 16 and an intercept, softmax loss. The classes can be separated (checked), so
  the infimum is 0 and the gap is the loss itself.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor

from mdtheory import runs
from mdtheory.convex.target_surrogates import (
    METHODS,
    SCHEDULES,
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    TargetLoss,
    TargetRecord,
    descend,
    descend_linear,
    draw_batches,
    parameter_sgd,
    target_sgd,
)

ROUNDS, SEEDS, POINTS = 300, 5, 20
BATCHES = (5, 25, 125, 0)  # 0 is all rows
COST_BATCHES = (25, 0)
INNER_STEPS = (1.0, 10.0, 100.0, math.inf)
FACTORS = 4.0 ** torch.arange(-3, 6).double()
# Newton's weights need the loop itself, so its inner loop is followed for these only.
NEWTON_STEPS = (1.0, 10.0, 100.0)
# Schedules that every method has; the target-based one has more, which the record names.
COMMON = ("constant", "sqrt", "exponential")
DEAR = (1, 10, 100)
RIDGE = 0.01


class Problem(NamedTuple):
    """A data set: loss, model and the reference minimum."""

    name: str
    loss: TargetLoss
    model: LinearModel
    start: Tensor
    minimum: float


class Cell(NamedTuple):
    """A method on a batch size: one program over step sizes and seeds, or several m at once."""

    method: str
    schedule: str
    batch: int
    inner_steps: tuple[float, ...]
    steps: Tensor


def breast_cancer() -> Problem:
    """Breast cancer, with the minimum found by Newton's method."""
    data = load_breast_cancer()
    x = torch.from_numpy(data.data).double()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    loss = LogisticLoss(torch.from_numpy(data.target).double()[:, None], ridge=RIDGE)
    model, here = LinearModel(x), torch.zeros(x.shape[1], 1, dtype=x.dtype)
    for _ in range(100):
        targets = model(here)
        slope = model.pull(loss.gradient(targets))
        curvature = (x.mT * loss.curvature(targets).mT) @ x / len(x)
        move = torch.linalg.solve(curvature, slope)
        decrement = (move * slope).sum()
        here = here - move * (1 if decrement < 0.1 else 0.3)
        if decrement < 1e-28:
            break
    if not slope.norm() < 1e-12:
        raise SystemExit(f"no minimum was found: slope {slope.norm():.1e}")
    start = torch.zeros_like(here)
    return Problem("breast_cancer", loss, model, start, loss.value(model(here)).item())


def digits() -> Problem:
    """Digits, with the check that they can be separated."""
    data = load_digits()
    x = torch.from_numpy(data.data).double() / 16
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    labels = torch.nn.functional.one_hot(torch.from_numpy(data.target).long(), 10).double()
    loss, model = SoftmaxLoss(labels), LinearModel(x)
    start = torch.zeros(x.shape[1], 10, dtype=x.dtype)
    here = start.clone().requires_grad_()
    solver = torch.optim.LBFGS([here], max_iter=2000, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value = loss.value(model(here))
        value.backward()
        return value

    solver.step(closure)
    # Below log(2)/n every row has its class on top, and stretching drives the loss to 0.
    if not loss.value(model(here)).item() < math.log(2) / model.rows:
        raise SystemExit("digits: the classes were not separated")
    return Problem("digits", loss, model, start, 0.0)


def play(problem: Problem, cell: Cell, batches: dict[int, Tensor], every: int) -> TargetRecord:
    """All numbers of inner steps, step sizes and seeds of a cell; losses (K, M, E, S)."""
    whole = cell.batch == problem.model.rows
    chosen = batches[cell.batch]
    start, steps = problem.start, cell.steps[:, None]
    if cell.method == "sso":
        newton = cell.schedule == "newton"
        return target_sgd(
            problem.loss, problem.model, start, steps, chosen,
            torch.tensor(cell.inner_steps).double()[:, None, None],
            schedule=cell.schedule,
            # With all rows both surrogates are the same, and this one keeps its decomposition.
            proximity="all" if whole and not newton else "batch",
            every=every,
        )  # fmt: skip
    # A leading axis of length 1 stands for m = 1.
    return parameter_sgd(
        problem.loss, problem.model, start, steps[None], chosen,
        method=cell.method, schedule=cell.schedule, every=every,
    )  # fmt: skip


def units(problem: Problem) -> dict[str, Tensor]:
    """The grids of step sizes, in the natural unit of each method."""
    step = FACTORS / problem.loss.smoothness
    return {
        "sso": step,
        "newton": FACTORS,
        "sgd": step / problem.model.row_bound,
        "line-search": step / problem.model.row_bound * 4.0**3,
        "adam": FACTORS * 0.05,
        "adagrad": FACTORS,
    }


def grid(problem: Problem) -> list[Cell]:
    """All cells of a data set."""
    unit, cells = units(problem), []
    for size in BATCHES:
        batch = size or problem.model.rows
        for schedule in SCHEDULES:
            newton = schedule == "newton"
            if newton and isinstance(problem.loss, SoftmaxLoss):
                continue
            counts = NEWTON_STEPS if newton else INNER_STEPS
            cells.append(Cell("sso", schedule, batch, counts, unit["newton" if newton else "sso"]))
        for method in METHODS:
            for schedule in COMMON:
                cells.append(Cell(method, schedule, batch, (1.0,), unit[method]))
    return cells


def seconds_of(action: Callable[[], object], repeats: int = 200) -> float:
    """Median seconds of a call."""
    action()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[repeats // 2]


def unit_costs(problem: Problem, index: Tensor) -> dict[str, float]:
    """Seconds of one gradient and one value of the loss, one inner step and one exact solve."""
    loss, model, one = problem.loss.select(index), problem.model.select(index), torch.ones(())
    one, here = one.double(), problem.start
    targets = model(here)
    gradient = loss._gradient(targets)
    inner = 1 / problem.model.row_bound
    few, many = (
        seconds_of(lambda m=m: descend(model, here, gradient, one, inner, one * m, m))
        for m in (1, 11)
    )
    return {
        "oracle": seconds_of(lambda: loss._gradient(model(here))),
        "value": seconds_of(lambda: loss._row_values(targets).mean(-1)),
        "inner": (many - few) / 10,
        "solve": seconds_of(
            lambda: descend_linear(
                problem.model.select(index), here, gradient, one, inner, one * math.inf
            )
        ),
    }


def summary(gap: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Median over the last axis with its interval; what diverged counts as infinite."""
    clean = torch.where(gap.isfinite(), gap.clamp(min=1e-16), 1e300)
    return runs.bootstrap_interval(clean.movedim(-1, 0), generator)


def number(value: float) -> str:
    """Five digits, or inf."""
    return "inf" if value >= 1e299 else f"{value:.5g}"


def main() -> None:
    """Run both data sets and write both records."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = options.parse_args().rounds
    torch.set_num_threads(1)
    names = ("data", "method", "schedule", "batch", "inner_steps", "step_size")
    names += ("gap", "gap_low", "gap_high", "oracle_calls", "products")
    rows: list[list[str]] = []
    costs = (*names, *(f"seconds_{dear}" for dear in DEAR))
    priced: list[list[str]] = []
    measured = []
    begin = time.perf_counter()
    for problem in (breast_cancer(), digits()):
        generator = torch.Generator().manual_seed(0)
        n = problem.model.rows
        batches = {
            size or n: draw_batches(rounds, n, size, generator, (SEEDS,))
            if size
            else torch.arange(n).expand(rounds, 1, n)
            for size in BATCHES
        }
        # The best (gap, cell, step) of every method, number of inner steps and batch size.
        best: dict[tuple[str, float, int], tuple[float, Cell, float]] = {}
        for cell in grid(problem):
            record = play(problem, cell, batches, rounds)
            middle, low, high = summary(record.losses[-1] - problem.minimum, generator)
            for i, m in enumerate(cell.inner_steps):
                for j, step in enumerate(cell.steps.tolist()):
                    gap = middle[i, j].item()
                    interval = (low[i, j].item(), high[i, j].item())
                    rows.append([problem.name, cell.method, cell.schedule, str(cell.batch)])
                    rows[-1] += [f"{m:g}", *map(number, (step, gap, *interval))]
                    rows[-1] += [f"{rounds}", f"{record.products[-1, i, j, 0].item():g}"]
                    key = (cell.method, m, cell.batch)
                    if key not in best or gap < best[key][0]:
                        best[key] = (gap, cell, step)
            least = zip(cell.inner_steps, middle.amin(1).tolist(), strict=True)
            print(
                f"{time.perf_counter() - begin:6.0f} s  {problem.name} {cell.method} "
                f"{cell.schedule} b={cell.batch}: "
                + "  ".join(f"m={m:g} {gap:.2e}" for m, gap in least)
            )
        prices = {size or n: unit_costs(problem, batches[size or n][0, 0]) for size in COST_BATCHES}
        for batch, cost in prices.items():
            said = ", ".join(f"{name} {1e6 * value:.1f}" for name, value in cost.items())
            measured.append(f"{problem.name}, {batch} rows: {said}")
        for (method, m, batch), (_, cell, step) in best.items():
            if batch not in prices:
                continue
            single = cell._replace(inner_steps=(m,), steps=torch.tensor([step]).double())
            record = play(problem, single, batches, max(1, rounds // POINTS))
            cost = prices[batch]
            middle, low, high = summary(record.losses[:, 0, 0] - problem.minimum, generator)
            for k in range(len(record.rounds)):
                calls = record.oracle_calls[k, 0, 0, 0].item()
                values = record.loss_values[k, 0, 0].mean().item()
                products = record.products[k, 0, 0, 0].item()
                inner = products * cost["solve" if m == math.inf else "inner"]
                seconds = [
                    dear * (calls * cost["oracle"] + values * cost["value"]) + inner
                    for dear in DEAR
                ]
                priced.append(
                    [problem.name, method, cell.schedule, str(batch), f"{m:g}", number(step)]
                    + [number(part[k].item()) for part in (middle, low, high)]
                    + [f"{calls:g}", f"{products:g}"]
                    + [f"{second:.4g}" for second in seconds]
                )
    shared = {
        "command": "python benchmarks/target_grid_study.py",
        "device": f"float64 on {runs.describe_device(torch.device('cpu'))}",
        "seeds": SEEDS,
    }
    data = (
        "breast_cancer: standardised, intercept, logistic loss with ridge 0.01 on the logits, gap "
        "to Newton's minimum; digits: pixels/16, intercept, softmax loss, separable (checked), so "
        "the gap is the loss; median over seeds with a 95 % bootstrap interval (all rows: nothing "
        "is random); inf: diverged. Sampled-rows surrogate, inner step 1/max|x_i|^2, so sso with "
        "m = 1 is SGD. sso steps are in 1/L times 4^-3..4^5, sgd in 1/(L max|x_i|^2) times the "
        "same, line-search starts 64 times higher, adam 0.05 times, adagrad and newton 1 times the "
        "same. Every method has the schedules constant, sqrt and exponential; sso has three more. "
        "Best means: the smallest median on these same seeds and batches."
    )
    runs.write_record(
        "target_grid_study",
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        note=f"{data} {rounds} oracle calls each; {time.perf_counter() - begin:.0f} s in all.",
        **shared,
    )
    runs.write_record(
        "target_cost_study",
        {name: [row[i] for row in priced] for i, name in enumerate(costs)},
        note=(
            f"{data} Each method with its best schedule and step of target_grid_study. Seconds are "
            "modelled: counts times unit costs measured in this run, the gradients and values of "
            "the loss 1, 10 and 100 times dearer; an exact solve (inner_steps inf) is one product "
            "and costs a decomposition. Unit costs in microseconds: " + "; ".join(measured)
        ),
        **shared,
    )


if __name__ == "__main__":
    main()
