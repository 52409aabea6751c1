"""What matters in MDPO on CartPole and Pendulum, recorded under book/results.

Run from the repository root: ``python benchmarks/mdpo_classic_study.py``; some twenty minutes on
one core. Killed and started again, it goes on where it was. The environments are the tensor
programs of the chapter, and all seeds of a row are one program.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch

from mdtheory import runs
from mdtheory.device import default_device
from mdtheory.rl.mdpo import (
    CartPole,
    OffPolicySettings,
    OnPolicySettings,
    Pendulum,
    evaluate,
    train_off_policy,
    train_on_policy,
)

CELLS = Path(".cache/mdpo_classic_study")
WORLDS = {"CartPole": CartPole(), "Pendulum": Pendulum()}
SETTINGS = {
    "CartPole": OnPolicySettings(),
    "Pendulum": OnPolicySettings(
        copies=10, horizon=201, discount=0.95, policy_learning_rate=3e-3, critic_learning_rate=3e-3
    ),
}
STEPS = {"CartPole": 150_000, "Pendulum": 120_600}
MDPO = "MDPO, m = 10"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    MDPO: ("mdpo", {}),
    "MDPO, m = 1": ("mdpo", {"policy_steps": 1}),
    "m = 1, rate × 10": ("mdpo", {"policy_steps": 1, "faster": 10}),
    "m = 10, no divergence": ("mdpo", {"step_size": 1e9, "schedule": "constant"}),
    "KL(old, new)": ("mdpo", {"direction": "old-new"}),
    "t = 1 throughout": ("mdpo", {"schedule": "constant"}),
    "Tsallis, q = 2": ("mdpo", {"order": 2.0}),
    "PPO": ("ppo", {}),
    "PPO, minibatches of 64": ("ppo", {"policy_batch": 64}),
    "TRPO": ("trpo", {}),
}
OFF_POLICY = OffPolicySettings(hidden=(64, 64), learning_rate=1e-3, warm_up=1000, record_every=201)
OFF_POLICY_STEPS, OFF_POLICY_SEEDS = 10_050, 5
POINTS = 25


def on_policy(environment: str, method: str, steps: int, seeds: int, seed: int) -> dict[str, Any]:
    """All seeds of one variant."""
    algorithm, changes = VARIANTS[method]
    common = vars(SETTINGS[environment])
    rate = common["policy_learning_rate"] * changes.get("faster", 1)
    others = {key: value for key, value in changes.items() if key != "faster"}
    settings = OnPolicySettings(**{**common, "policy_learning_rate": rate, **others})
    generator = torch.Generator(default_device()).manual_seed(seed)
    record = train_on_policy(
        WORLDS[environment], steps, generator,
        algorithm=algorithm, seeds=seeds, settings=settings,  # type: ignore[arg-type]
    )  # fmt: skip
    found = _result(environment, record, generator)
    return found | {"divergence": record.divergences.mean(0).tolist()}


def off_policy(environment: str, method: str, steps: int, seeds: int, seed: int) -> dict[str, Any]:
    """All seeds of SAC or off-policy MDPO."""
    settings = OFF_POLICY.sac() if method == "SAC" else OFF_POLICY
    generator = torch.Generator(default_device()).manual_seed(seed)
    record = train_off_policy(WORLDS[environment], steps, generator, seeds=seeds, settings=settings)
    return _result(environment, record, generator)


def _result(environment: str, record: Any, generator: torch.Generator) -> dict[str, Any]:
    final = evaluate(record.policy, WORLDS[environment], generator, episodes=20)
    size = math.ceil(len(record.seconds) / POINTS)
    return {
        "interactions": [part[-1].tolist() for part in record.interactions.split(size)],
        "returns": [part.nanmean(0).tolist() for part in record.returns.split(size)],
        "final": final.tolist(),
        "mean": record.returns.nanmean(0).tolist(),
        "seconds": record.seconds.sum().item(),
    }


def main() -> None:
    """Run what is missing, and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--folder", type=Path, default=CELLS, help="where finished cells are")
    given = options.parse_args()
    torch.set_num_threads(1)
    cells = []
    for environment, steps in STEPS.items():
        for method in VARIANTS:
            grid = {"environment": [environment], "method": [method], "steps": [steps],
                    "seeds": [given.seeds]}  # fmt: skip
            cells += runs.sweep(on_policy, grid, seeds=[0], folder=given.folder)
            print(environment, method, cells[-1].result["final"], flush=True)
    for method in ("SAC", "off-policy MDPO"):
        grid = {"environment": ["Pendulum"], "method": [method], "steps": [OFF_POLICY_STEPS],
                "seeds": [OFF_POLICY_SEEDS]}  # fmt: skip
        cells += runs.sweep(off_policy, grid, seeds=[0], folder=given.folder)
        print(method, cells[-1].result["final"], flush=True)
    names = ("environment", "method", "steps", "kind", "seed", "interactions", "return")
    rows: list[list[str]] = []
    for cell in cells:
        a, result = cell.arguments, cell.result
        head = [a["environment"], a["method"], str(a["steps"])]
        for seed in range(a["seeds"]):
            for interactions, returns in zip(
                result["interactions"], result["returns"], strict=True
            ):
                rows.append([*head, "training", f"{seed}", f"{interactions[seed]}"])
                rows[-1].append(f"{returns[seed]:.5g}")
            last = f"{result['interactions'][-1][seed]}"
            for kind, key in (("final", "final"), ("mean", "mean"), ("KL", "divergence")):
                if key in result:
                    rows.append([*head, kind, f"{seed}", last, f"{result[key][seed]:.5g}"])
            rows.append([*head, "seconds", f"{seed}", last, f"{result['seconds']:.1f}"])
    runs.write_record(
        "mdpo_classic_study",
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        command="python benchmarks/mdpo_classic_study.py",
        device=f"float32 on {runs.describe_device(default_device())}",
        seeds=given.seeds,
        note=(
            "On-policy: batches of 2,048 (CartPole, 16 copies) and 2,010 steps (Pendulum, 10 "
            "copies), settings of benchmarks/mdpo_classic_study.py, nothing tuned for a variant. "
            f"Off-policy: {OFF_POLICY_SEEDS} seeds, {OFF_POLICY_STEPS} steps, 64 x 64, batch 256, "
            "rate 1e-3, lambda 0.2, c = 1 for MDPO. kind training: mean return of the episodes "
            "that ended, sampled actions; final: mean over 20 greedy episodes; mean: mean of the "
            "training returns over all iterations; KL: mean divergence of an iteration; seconds: "
            "wall-clock of all seeds together, on a machine shared with other work."
        ),
    )


if __name__ == "__main__":
    main()
