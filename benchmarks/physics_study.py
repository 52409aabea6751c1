"""Imitation through physics beside its rivals and in other physics, recorded under book/results.

Run from the repository root: ``python benchmarks/physics_study.py``; about half an hour on one
core for all plans. A killed run goes on where it was, from the cells in ``.cache/physics_study``;
``--finished`` records what is on disk alone, and the record's note says how many plans those are.

A cell is one world and one plan. All methods of a plan and all seeds are one batch, and start from
the same cloned policies, one for each seed; all have the one demonstration.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.environments import CartPoleSwingup, Differentiable, Pendulum, Puck, Rope
from mdtheory.rl.differentiable_physics import (
    Imitator,
    behaviour_cloning,
    demonstrate,
    rollout,
    success_rate,
    train_ild,
    train_likelihood_ratio,
)

SEEDS, STARTS = 5, 100
FRAMES = 8  # steps between two frames of a film
FOLDER = Path(".cache") / "physics_study"
WORLDS = {
    "pendulum": Pendulum, "cartpole": CartPoleSwingup, "puck": Puck,
    "hard puck": lambda: Puck("hard"), "rope": Rope,
}  # fmt: skip
SPREADS = {
    "pendulum": (0.05, 0.3, 0.6), "cartpole": (0.02, 0.1, 0.3), "puck": (0.05, 0.1, 0.2),
    "hard puck": (0.05, 0.1, 0.2), "rope": (0.02, 0.08, 0.16),
}  # fmt: skip
PHYSICS: dict[str, list[dict[str, float]]] = {
    "pendulum": [{"mass": 0.8}, {"mass": 1.2}, {"length": 1.1}],
    "cartpole": [{"pole_mass": 0.07}, {"pole_mass": 0.15}, {"half_length": 0.55}],
    "puck": [{"friction": 1.0}, {"friction": 2.5}, {"mass": 1.5}],
    "hard puck": [{"friction": 1.0}, {"friction": 2.5}, {"mass": 1.5}],
    "rope": [{"stiffness": 100.0}, {"mass": 0.15}, {"gravity": 7.0}],
}
NOISE = {"pendulum": 0.25, "cartpole": 0.3, "puck": 0.3, "hard puck": 0.3, "rope": 0.6}
RATES = {"pendulum": 2e-3, "cartpole": 2e-3, "puck": 2e-3, "hard puck": 2e-3, "rope": 1e-3}
# Loss, steps between cuts (0: none), weight of the deviation.
METHODS = {
    "ILD": ("chamfer", 10, 1.0), "matching": ("matching", 10, 1.0),
    "deviation alone": ("deviation", 10, 1.0), "coverage alone": ("coverage", 10, 1.0),
    "ILD, no cuts": ("chamfer", 0, 1.0), "matching, no cuts": ("matching", 0, 1.0),
    "ILD, cut 5": ("chamfer", 5, 1.0), "ILD, cut 25": ("chamfer", 25, 1.0),
    "ILD, alpha 0.1": ("chamfer", 10, 0.1), "ILD, alpha 10": ("chamfer", 10, 10.0),
}  # fmt: skip
PLANS = {
    "methods": ["ILD", "matching", "deviation alone", "coverage alone", "ILD, no cuts",
                "matching, no cuts"],
    "few": ["ILD", "matching", "ILD, no cuts"],
    "two": ["ILD", "matching"],
    "knobs": ["ILD, cut 5", "ILD, cut 25", "ILD, alpha 0.1", "ILD, alpha 10"],
}  # fmt: skip


def words(physics: dict[str, float]) -> str:
    """Such as ``mass 0.8``."""
    return ", ".join(f"{name} {value:g}" for name, value in physics.items())


def tests_of(world: str) -> dict[str, dict[str, Any]]:
    """Where a policy is evaluated: arguments of ``success_rate``."""
    near, usual, far = SPREADS[world]
    found: dict[str, dict[str, Any]] = {
        f"spread {near:g}": {"spread": near}, f"spread {usual:g}": {"spread": usual},
        f"spread {far:g}": {"spread": far},
    }  # fmt: skip
    for physics in PHYSICS[world]:
        found[words(physics)] = {"spread": usual, "parameters": physics}
    found[f"noise {NOISE[world]:g}"] = {"spread": usual, "noise": NOISE[world]}
    return found


def judged(world: str, policy: Imitator, names: list[str] | None = None) -> dict[str, list[float]]:
    """Success of each policy in each test."""
    environment = WORLDS[world]()
    found = {}
    for name, options in tests_of(world).items():
        if names is None or name in names:
            generator = torch.Generator().manual_seed(5)
            found[name] = success_rate(
                environment, policy, generator, copies=STARTS, **options
            ).tolist()  # fmt: skip
    return found


def filmed(world: str, policy: Imitator | None) -> list[list[float]]:
    """States of the first seed (or of the expert), from the home state, a few of them."""
    environment = WORLDS[world]()
    if policy is None:
        states = demonstrate(environment, steps=environment.duration).states
    else:
        start = environment.home().expand(policy.seeds, 1, -1)
        with torch.no_grad():
            states = rollout(environment, policy, start, environment.duration)[0, 0]
    return [[round(x, 4) for x in row] for row in states[::FRAMES].tolist()]


def of_expert(world: str) -> dict[str, list[float]]:
    """Success of the expert itself, from as many starts as a seed has."""
    environment: Differentiable = WORLDS[world]()
    found = {}
    for name, options in tests_of(world).items():
        generator = torch.Generator().manual_seed(5)
        states = environment.reset((SEEDS, STARTS), generator, options["spread"])
        path = [states]
        for step in range(environment.duration - 1):
            action = environment.expert(states, step)
            if "noise" in options:
                action = action + options["noise"] * torch.randn(action.shape, generator=generator)
            states = environment.step(states, action, options.get("parameters"))
            path.append(states)
        found[name] = environment.success(torch.stack(path, -2)).float().mean(-1).tolist()
    return found


def run_cell(world: str, plan: str, iterations: int, seed: int) -> dict[str, Any]:
    """One plan in one world, all methods and seeds."""
    torch.set_num_threads(1)
    begin = time.process_time()
    environment = WORLDS[world]()
    shown = demonstrate(environment)
    generator = torch.Generator().manual_seed(1 + seed)
    cloned = behaviour_cloning(environment, shown, generator, seeds=SEEDS)
    rate = RATES[world]
    result: dict[str, Any] = {}

    def told(
        success: dict[str, list[float]], losses: Tensor, norms: Tensor, film: list[list[float]]
    ) -> dict[str, Any]:
        return {"success": success, "first": losses[0].tolist(), "last": losses[-1].tolist(),
                "norm": norms.amax(0).tolist(), "curve": losses[::10].tolist(),
                "film": film}  # fmt: skip

    if plan == "likelihood ratio":
        record = train_likelihood_ratio(
            environment, shown, seeds=SEEDS, iterations=iterations, generator=generator,
            policy=cloned, learning_rate=rate,
        )  # fmt: skip
        result[plan] = told(judged(world, record.policy), record.losses, record.gradient_norms,
                            filmed(world, record.policy))  # fmt: skip
    elif plan == "cloning":
        nothing = torch.full((1, SEEDS), float("nan"))
        result["BC"] = told(judged(world, cloned), nothing, nothing, filmed(world, cloned))
        result["expert"] = told(of_expert(world), nothing, nothing, filmed(world, None))
    elif plan == "retrained":
        # In every other physics, from the old demonstration.
        names = ["ILD"] if world == "pendulum" else ["ILD, no cuts"]
        arms = [(name, physics) for name in names for physics in PHYSICS[world]]
        parameters = {
            key: torch.tensor([[physics.get(key, usual)] for _, physics in arms
                               for _ in range(SEEDS)])
            for key, usual in environment.constants.items()
        }  # fmt: skip
        record = trained(world, [name for name, _ in arms], iterations, cloned, generator,
                         parameters)  # fmt: skip
        for k, (name, physics) in enumerate(arms):
            rows = slice(k * SEEDS, (k + 1) * SEEDS)
            success = judged(world, record.policy.rows(rows), [words(physics)])
            result[f"{name}; {words(physics)}"] = told(
                success, record.losses[:, rows], record.gradient_norms[:, rows], []
            )
    else:
        record = trained(world, PLANS[plan], iterations, cloned, generator)
        for k, name in enumerate(PLANS[plan]):
            rows = slice(k * SEEDS, (k + 1) * SEEDS)
            policy = record.policy.rows(rows)
            result[name] = told(judged(world, policy), record.losses[:, rows],
                                record.gradient_norms[:, rows], filmed(world, policy))  # fmt: skip
    result["seconds"] = time.process_time() - begin
    return result


def trained(
    world: str, names: list[str], iterations: int, cloned: Imitator, generator: torch.Generator,
    parameters: dict[str, Tensor] | None = None,
) -> Any:  # fmt: skip
    """Methods side by side from the same cloned policies."""
    rows = [METHODS[name] for name in names for _ in range(SEEDS)]
    environment = WORLDS[world]()
    return train_ild(
        environment, demonstrate(environment), loss=[loss for loss, _, _ in rows],
        seeds=len(rows), iterations=iterations, generator=generator,
        policy=cloned.rows(torch.arange(SEEDS).repeat(len(names))),
        truncation=torch.tensor([cut for _, cut, _ in rows]),
        alpha=torch.tensor([alpha for _, _, alpha in rows]),
        learning_rate=RATES[world], parameters=parameters,
    )  # fmt: skip


def grids() -> list[dict[str, Any]]:
    """Arguments of one sweep each, the most wanted first."""
    wanted = [
        ("pendulum", "cloning", 0), ("puck", "cloning", 0), ("rope", "cloning", 0),
        ("pendulum", "methods", 200), ("rope", "two", 80), ("puck", "few", 80),
        ("pendulum", "retrained", 100), ("pendulum", "likelihood ratio", 400),
        ("hard puck", "cloning", 0), ("hard puck", "few", 80), ("puck", "retrained", 80),
        ("puck", "likelihood ratio", 300), ("cartpole", "cloning", 0), ("cartpole", "few", 200),
        ("pendulum", "knobs", 200), ("rope", "likelihood ratio", 200),
    ]  # fmt: skip
    return [{"world": [w], "plan": [p], "iterations": [n]} for w, p, n in wanted]


def main() -> None:
    """Run what is missing and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument("--finished", action="store_true", help="record what is on disk alone")
    options.add_argument("--only", nargs=2, metavar=("WORLD", "PLAN"), help="run one plan alone")
    chosen = options.parse_args()
    if chosen.only:
        wanted = [g for g in grids() if [g["world"][0], g["plan"][0]] == chosen.only]
        for grid in wanted:
            runs.sweep(run_cell, grid, seeds=[0], folder=FOLDER)
        return
    run = runs.finished_cells if chosen.finished else runs.sweep
    rows: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    spent, plans = 0.0, 0
    for grid in grids():
        for cell in run(run_cell, grid, seeds=[0], folder=FOLDER):
            seconds = cell.result.pop("seconds")
            spent, plans = spent + seconds, plans + 1
            print(cell.arguments, f"{seconds:.0f} CPU s", flush=True)
            for method, found in cell.result.items():
                means = {k: f"{sum(v) / len(v):.2f}" for k, v in found["success"].items()}
                print(f"  {method:32}", means, flush=True)
                wanted = cell.arguments["world"] == "rope" and found.get("film")
                for k, state in enumerate(found["film"] if wanted else []):
                    frames.append(
                        {"world": cell.arguments["world"], "method": method, "step": FRAMES * k}
                        | {f"x{j}": x for j, x in enumerate(state[: len(state) // 2])}
                    )  # fmt: skip
                for test, values in found["success"].items():
                    for seed, value in enumerate(values):
                        rows.append(dict(cell.arguments) | {
                            "method": method, "test": test, "seed": seed, "starts": STARTS,
                            "success": value,
                            "first": f"{found['first'][seed]:.4g}",
                            "last": f"{found['last'][seed]:.4g}",
                            "norm": f"{found['norm'][seed]:.4g}",
                        })  # fmt: skip
    device = f"float32 on {runs.describe_device(torch.device('cpu'))}"
    command = "python benchmarks/physics_study.py" + " --finished" * chosen.finished
    columns = {name: [row[name] for row in frames] for name in frames[0]}
    runs.write_record(
        "physics_films", columns, command=command, device=device, seeds=1,
        note="the rope's beads, x and y in turn, from the home state, first seed of each method",
    )  # fmt: skip
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    runs.write_record(
        "physics_study", columns, command=command, device=device, seeds=SEEDS,
        note=(
            f"{plans} of {len(grids())} plans; success: share of {STARTS} starts; one "
            "demonstration, 24 rollouts of each seed in an iteration, all methods of a plan from "
            "the same cloned policies; first, last: training loss of the method's own kind; norm: "
            "largest norm of the parameter gradient. "
            "retrained: in the physics named, from the demonstration in the usual one; "
            f"{spent:.0f} CPU s in all on one thread"
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
