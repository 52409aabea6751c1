"""MDPO beside PPO, TRPO and SAC on MuJoCo, recorded under book/results.

Run from the repository root: ``python benchmarks/mdpo_study.py``; it needs the extra ``mujoco``,
takes about an hour on one core and, killed and started again, goes on where it was. The flags say
which environments, how many steps and how many seeds; ``--write`` only writes the record of what
has finished. All seeds of a cell are one tensor program.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import torch

from mdtheory import runs
from mdtheory.device import default_device
from mdtheory.rl.mdpo import (
    OffPolicySettings,
    OnPolicySettings,
    evaluate,
    train_off_policy,
    train_on_policy,
)

CELLS = Path(".cache/mdpo_study")
# One batch of 2,048 steps for all, and the critic of the paper's implementation.
ON_POLICY = OnPolicySettings(
    copies=8,
    horizon=256,
    normalize=True,
    critic_learning_rate=3e-4,
    value_clip=0.2,
    restart_every=20,
)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "MDPO": ("mdpo", {}),
    "PPO": ("ppo", {}),
    "TRPO": ("trpo", {}),
    "MDPO, t0 = 10": ("mdpo", {"step_size": 10.0}),
    "MDPO, m = 1": ("mdpo", {"policy_steps": 1}),
}
POINTS = 30


def on_policy(
    environment: str, method: str, steps: int, seeds: int, seed: int, checkpoint: Path
) -> dict[str, Any]:
    """All seeds of one on-policy method: curve of training returns and the final evaluation."""
    algorithm, changes = VARIANTS[method]
    settings = OnPolicySettings(**{**vars(ON_POLICY), **changes})
    generator = torch.Generator(default_device()).manual_seed(seed)
    record = train_on_policy(
        environment, steps, generator,
        algorithm=algorithm, seeds=seeds, settings=settings, checkpoint=checkpoint,  # type: ignore[arg-type]
    )  # fmt: skip
    return _result(environment, record, generator) | {
        "divergence": record.divergences.mean(0).tolist()
    }


def off_policy(
    environment: str, method: str, steps: int, seeds: int, seed: int, checkpoint: Path
) -> dict[str, Any]:
    """All seeds of SAC or off-policy MDPO."""
    settings = OffPolicySettings()
    generator = torch.Generator(default_device()).manual_seed(seed)
    record = train_off_policy(
        environment, steps, generator,
        seeds=seeds, settings=settings.sac() if method == "SAC" else settings,
        checkpoint=checkpoint,
    )  # fmt: skip
    return _result(environment, record, generator)


def _result(environment: str, record: Any, generator: torch.Generator) -> dict[str, Any]:
    """At most POINTS means of the training curve, and ten greedy episodes."""
    final = evaluate(record.policy, environment, generator, episodes=10)
    size = math.ceil(len(record.seconds) / POINTS)
    return {
        "interactions": [part[-1].tolist() for part in record.interactions.split(size)],
        "returns": [part.nanmean(0).tolist() for part in record.returns.split(size)],
        "final": final.tolist(),
        "seconds": record.seconds.sum().item(),
    }


def plan(options: argparse.Namespace) -> list[tuple[Any, dict[str, list[Any]], str]]:
    """What to run, the most wanted first."""
    found = []
    for environment in options.environments:
        found += [
            (on_policy, {"environment": [environment], "method": [method],
                         "steps": [options.steps], "seeds": [options.seeds]}, method)
            for method in ("MDPO", "PPO", "TRPO")
        ]  # fmt: skip
    for environment in options.off_policy_environments:
        found += [
            (off_policy, {"environment": [environment], "method": [method],
                          "steps": [options.off_policy_steps],
                          "seeds": [options.off_policy_seeds]}, method)
            for method in ("SAC", "off-policy MDPO")
        ]  # fmt: skip
    for environment in options.environments[:1]:
        found += [
            (on_policy, {"environment": [environment], "method": [method],
                         "steps": [options.steps], "seeds": [options.seeds]}, method)
            for method in ("MDPO, t0 = 10", "MDPO, m = 1")
        ]  # fmt: skip
    return found


def write(cells: list[runs.Cell], planned: int, record: str, flags: list[str]) -> None:
    """The record of what has finished."""
    names = ("environment", "method", "steps", "kind", "seed", "interactions", "return")
    rows: list[list[str]] = []
    spent = []
    for cell in cells:
        a, result = cell.arguments, cell.result
        head = [a["environment"], a["method"], str(a["steps"])]
        spent.append(f"{a['environment']} {a['method']} {result['seconds']:.0f} s")
        for seed in range(a["seeds"]):
            for interactions, returns in zip(
                result["interactions"], result["returns"], strict=True
            ):
                rows.append([*head, "training", f"{seed}", f"{interactions[seed]}"])
                rows[-1].append(f"{returns[seed]:.5g}")
            last = result["interactions"][-1][seed]
            rows.append([*head, "final", f"{seed}", f"{last}", f"{result['final'][seed]:.5g}"])
            if "divergence" in result:
                rows.append([*head, "KL", f"{seed}", f"{last}"])
                rows[-1].append(f"{result['divergence'][seed]:.4g}")
    left = planned - len(cells)
    runs.write_record(
        record,
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        command=" ".join(["python benchmarks/mdpo_study.py", *flags]),
        device=f"float32 on {runs.describe_device(default_device())}",
        seeds=max((cell.arguments["seeds"] for cell in cells), default=0),
        note=(
            "On-policy: 8 environments, batches of 2,048 steps, 10 full-batch Adam steps at 3e-4 "
            "for the policy (TRPO: one step of radius 0.01), 5 epochs of 128 for the critic at "
            "3e-4 with value clip 0.2, observations and rewards normalised, t_k annealed from 1. "
            "Off-policy: 256 x 256, batch 256, one gradient step a step, 1,000 steps of warm-up, "
            "lambda 0.2, c = 1 for MDPO (old policy renewed every 1,000 steps) and 0.2 for SAC. "
            "kind training: mean return of the episodes that ended, sampled actions; final: mean "
            "over 10 greedy episodes with frozen statistics; KL: mean divergence of an iteration. "
            f"Cells of the plan that had not finished: {left}. Wall-clock, all seeds of a cell "
            f"together, on a machine shared with other work: {'; '.join(spent)}."
        ),
    )


def main() -> None:
    """Run what is missing, and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument("--environments", nargs="*", default=["HalfCheetah-v5", "Hopper-v5"])
    options.add_argument("--steps", type=int, default=300_000)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--off-policy-environments", nargs="*", default=["HalfCheetah-v5"])
    options.add_argument("--off-policy-steps", type=int, default=30_000)
    options.add_argument("--off-policy-seeds", type=int, default=3)
    options.add_argument("--folder", type=Path, default=CELLS, help="where finished cells are")
    options.add_argument("--record", default="mdpo_study", help="the name of the record")
    options.add_argument("--write", action="store_true", help="only write what has finished")
    given = options.parse_args()
    torch.set_num_threads(1)
    planned, cells = plan(given), []
    for function, grid, method in planned:
        if given.write:
            cells += runs.finished_cells(function, grid, seeds=[0], folder=given.folder)
            continue
        found = runs.sweep(function, grid, seeds=[0], folder=given.folder, checkpoints=True)
        cells += found
        result = found[0].result
        print(
            grid["environment"][0], method, f"{result['seconds']:.0f} s, final",
            *(f"{value:.0f}" for value in result["final"]), flush=True,
        )  # fmt: skip
    write(cells, len(planned), given.record, [flag for flag in sys.argv[1:] if flag != "--write"])


if __name__ == "__main__":
    main()
