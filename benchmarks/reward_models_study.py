"""Overoptimisation with ensembles, by best of n and by a policy, recorded under book/results.

Run from the repository root: ``python benchmarks/reward_models_study.py``. Some minutes on
one core; a killed run goes on where it was, from the cells in ``.cache/reward_models_study``.

A cell is one setting and eight seeds; all seeds, levels of noise and members are one program.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.nlhf.reward_models import (
    AnswerWorld,
    RewardEnsemble,
    best_of_n_curves,
    climb_objective,
    drop_from_peak,
    ensemble_objective,
    kl_estimates,
    train_reward_ensemble,
)

SEEDS, BLOCKS, MEMBERS, NOISE = 8, 2, 5, (0.0, 0.25)
ANSWERS, POOLS = 12_600, 4
DRAWS = [1, 4, 16, 64, 256, 1024, 4096, 12_500]
OBJECTIVES = {
    "single": ("single", 0.0), "mean": ("mean", 0.0), "UWO 0.1": ("UWO", 0.1),
    "UWO 0.5": ("UWO", 0.5), "UWO 1": ("UWO", 1.0), "WCO": ("WCO", 0.0),
}  # fmt: skip
SIZES = (1, 2, 3, 5, 8)
FOLDER = Path(".cache") / "reward_models_study"


class Setting(NamedTuple):
    """What differs between the settings; the first one is the paper's design, made small."""

    pairs: int = 8000
    epochs: int = 5
    width: int = 32
    shared: bool = True
    odd: float | None = None
    length_bias: float = 0.0
    first_weights: float = 1.0
    members: int = MEMBERS


FEW = Setting(pairs=2000, epochs=15)
SETTINGS = {
    "usual": Setting(members=max(SIZES)),
    "own pairs": FEW._replace(pairs=MEMBERS * FEW.pairs, shared=False),
    "few pairs": FEW,
    "large first weights": Setting(first_weights=2.5),
    "raters like length": FEW._replace(length_bias=0.7),
    "no odd answer seen": FEW._replace(odd=0.0),
    "2000 pairs": Setting(pairs=2000),
    "width 8": Setting(width=8),
    "1000 pairs": Setting(pairs=1000),
    "4000 pairs": Setting(pairs=4000),
    "width 64": Setting(width=64),
}
# In which all blocks of seeds are run, not the first alone.
CLOSER = ("usual", "own pairs")
# The policy: in which settings, weights of the divergence, steps.
POLICY = ("usual", "few pairs", "own pairs")
BETAS, STEPS, EVERY, SAMPLES, STEP_SIZE = (0.0, 0.01, 0.2), 200, 20, 64, 0.075
CLIMBED = {name: OBJECTIVES[name] for name in ("single", "mean", "UWO 0.1", "UWO 0.5", "WCO")}


def run_cell(setting: str, seed: int) -> dict[str, Any]:
    """One setting and a block of seeds."""
    torch.set_num_threads(1)
    begin = time.process_time()
    chosen = SETTINGS[setting]
    generator = torch.Generator().manual_seed(1000 + seed)
    world = AnswerWorld(SEEDS, generator)
    judged = world.compare(
        chosen.pairs, generator, noise=NOISE, odd=chosen.odd, length_bias=chosen.length_bias
    )
    ensemble = train_reward_ensemble(
        *judged, members=chosen.members, epochs=chosen.epochs, step_size=3e-3,
        generator=generator, shared=chosen.shared, hidden=(chosen.width, chosen.width),
        first_weights=chosen.first_weights,
    ).normalized(world.draw(1, 4000, generator=generator))  # fmt: skip
    result: dict[str, Any] = {"accuracy": accuracy(world, ensemble, generator).tolist()}
    result["curves"], result["best"] = curves(world, ensemble, generator)
    if setting in POLICY:
        result["policy"] = climbed(world, ensemble.first(MEMBERS), generator)
    result["seconds"] = time.process_time() - begin
    return result


def accuracy(world: AnswerWorld, ensemble: RewardEnsemble, generator: torch.Generator) -> Tensor:
    """How often a member ranks two reference answers as gold does, ``(seeds, noise)``."""
    x = world.draw(1, 4000, generator=generator)
    proxy, gold = ensemble(x)[..., :MEMBERS, :].unflatten(-1, (2, -1)), world.gold(x)
    right = (proxy[..., 0, :] > proxy[..., 1, :]) == (
        gold.unflatten(-1, (2, -1))[..., 0, :] > gold.unflatten(-1, (2, -1))[..., 1, :]
    )[:, :, None]
    return right.float().mean((-2, -1))


def curves(
    world: AnswerWorld, ensemble: RewardEnsemble, generator: torch.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gold of the best of n, mean over pools, and errors among the single members' best."""
    found: dict[str, list[Tensor]] = {}
    errors: list[Tensor] = []
    for _ in range(POOLS):
        x = world.draw(1, ANSWERS, generator=generator)
        rewards, gold = ensemble(x), world.gold(x)
        usual = rewards[:, :, :MEMBERS]
        for name, pair in best_of_n_curves(usual, gold, DRAWS, OBJECTIVES).items():
            found.setdefault(f"{name}|{MEMBERS}", []).append(pair.gold)
            found.setdefault(f"{name}|{MEMBERS}|proxy", []).append(pair.proxy)
        for size in SIZES if ensemble.members > MEMBERS else ():
            if size != MEMBERS:
                some = {name: OBJECTIVES[name] for name in ("mean", "UWO 0.5", "WCO")}
                for name, pair in best_of_n_curves(rewards[:, :, :size], gold, DRAWS, some).items():
                    found.setdefault(f"{name}|{size}", []).append(pair.gold)
        top = usual.topk(24, -1).indices  # (seeds, noise, member, 24)
        picked = usual[:, :, None].expand(-1, -1, MEMBERS, -1, -1)
        picked = picked.gather(-1, top[..., None, :].expand(-1, -1, -1, MEMBERS, -1))
        truth = gold[:, :, None].expand_as(usual).gather(-1, top)
        error = picked - truth[..., None, :]
        errors.append(torch.stack([error.mean((-3, -2, -1)), error.std(-2).mean((-2, -1))], -1))
    gold_curves = {name: torch.stack(v).mean(0).tolist() for name, v in found.items()}
    best = torch.stack(errors).mean(0)
    return gold_curves, {"shared": best[..., 0].tolist(), "spread": best[..., 1].tolist()}


def climbed(
    world: AnswerWorld, ensemble: RewardEnsemble, generator: torch.Generator
) -> dict[str, Any]:
    """A Gaussian policy climbs each objective with each weight of the divergence."""
    arms = [("single", member) for member in range(MEMBERS)]
    arms += [(name, 0) for name in CLIMBED if name != "single"]
    start = torch.zeros(SEEDS, len(NOISE), len(arms), len(BETAS), world.features)

    def objective(x: Tensor) -> Tensor:
        rewards = ensemble(x.flatten(2, -2)).unflatten(-1, x.shape[2:-1])
        rows = []
        for at, (name, member) in enumerate(arms):
            kind, weight = CLIMBED[name]
            mine = rewards[:, :, :, at]
            rows.append(
                mine[:, :, member]
                if kind == "single"
                else ensemble_objective(mine, kind, weight, dim=2)
            )
        return torch.stack(rows, 2)

    means = climb_objective(
        objective, start, kl_weight=torch.tensor(BETAS), steps=STEPS, step_size=STEP_SIZE,
        samples=SAMPLES, generator=generator, every=EVERY,
    )  # fmt: skip
    gold, k2 = [], []
    for mean in means:
        noise = torch.randn(*start.shape[:-1], 1000, world.features, generator=generator)
        gold.append(world.gold(mean[..., None, :] + noise).mean(-1))
        ratio = (noise * mean[..., None, :]).sum(-1) + mean.square().sum(-1)[..., None] / 2
        k2.append(kl_estimates(ratio).k2)
    curves_ = torch.stack(gold)
    found = {
        "gold": curves_, "kl": means.square().sum(-1) / 2, "k2": torch.stack(k2),
        "drop": drop_from_peak(curves_.movedim(0, -1))[None],
    }  # fmt: skip
    result: dict[str, Any] = {}
    for name in CLIMBED:
        mine = [at for at, arm in enumerate(arms) if arm[0] == name]
        # (points, seeds, noise, betas); each single policy by itself, then the mean over members.
        result[name] = {key: value[:, :, :, mine].mean(3).tolist() for key, value in found.items()}
    return result


def main() -> None:
    """Run what is missing and write the records."""
    options = argparse.ArgumentParser()
    options.add_argument("--finished", action="store_true", help="record what is on disk alone")
    run = runs.finished_cells if options.parse_args().finished else runs.sweep
    rows: list[dict[str, Any]] = []
    climbs: list[dict[str, Any]] = []
    for block in range(BLOCKS):
        for setting in SETTINGS if block == 0 else CLOSER:
            for cell in run(run_cell, {"setting": [setting]}, seeds=[block], folder=FOLDER):
                write_cell(setting, block, cell.result, rows, climbs)
    device = f"float32 on {runs.describe_device(torch.device('cpu'))}"
    numbered = max(row["seed"] for row in rows) + 1
    for name, table, note in (
        ("reward_models_study", rows, STUDY_NOTE), ("reward_models_policy", climbs, POLICY_NOTE),
    ):  # fmt: skip
        columns = {key: [row[key] for row in table] for key in table[0]}
        runs.write_record(
            name, columns, command="python benchmarks/reward_models_study.py", device=device,
            seeds=numbered, note=note,
        )  # fmt: skip


STUDY_NOTE = (
    f"gold at n answers, best of n by proxy, mean over {POOLS} pools of {ANSWERS} answers, in "
    "standard deviations of the reference; members normalised on 4000 reference answers; single: "
    "mean of what each member alone attains. noise: share of flipped labels. accuracy: of a "
    "member on pairs of the reference. shared, spread: mean of the members' errors, and their "
    "standard deviation over members, among each member's best 24 of a pool. proxy_end: the "
    f"objective itself at the largest n. Settings: {SETTINGS!r}"
).replace("Setting", "")
POLICY_NOTE = (
    f"N(m, I) by {STEPS} mirror steps of size {STEP_SIZE} with {SAMPLES} samples; beta: weight of "
    "the divergence; gold_k and kl_k after k steps, k2: the estimate E log^2 / 2 at the end; "
    f"drop: from the best of the points every {EVERY} steps to the last, each policy by itself, "
    "then the mean over members"
)


def write_cell(
    setting: str, block: int, result: dict[str, Any], rows: list[Any], climbs: list[Any]
) -> None:
    """Rows of one cell for both records, and a line on the screen."""
    for key, curve in result["curves"].items():
        name, members, *proxy = key.split("|")
        if proxy:
            continue
        ends = result["curves"].get(f"{key}|proxy")
        for seed, levels in enumerate(curve):
            for level, values in enumerate(levels):
                row: dict[str, Any] = {
                    "setting": setting, "noise": NOISE[level], "seed": block * SEEDS + seed,
                    "objective": name, "members": members,
                }  # fmt: skip
                row |= {f"gold_{n}": f"{v:.4f}" for n, v in zip(DRAWS, values, strict=True)}
                row["proxy_end"] = f"{ends[seed][level][-1]:.4f}" if ends else ""
                for what in ("shared", "spread"):
                    row[what] = f"{result['best'][what][seed][level]:.4f}"
                row["accuracy"] = f"{result['accuracy'][seed][level]:.4f}"
                rows.append(row)
        if members == str(MEMBERS):
            last = torch.tensor(curve)[:, 1]
            drop = drop_from_peak(last).mean()
            print(f"{setting:20} block {block} {name:8} gold at the end {last[:, -1].mean():+.2f} "
                  f"drop {drop:.2f} ({result['seconds']:.0f} CPU s)", flush=True)  # fmt: skip
    for name, told in result.get("policy", {}).items():
        part = {key: torch.tensor(value) for key, value in told.items()}
        for seed in range(SEEDS):
            for level, noise in enumerate(NOISE):
                for at, beta in enumerate(BETAS):
                    row = {
                        "setting": setting, "noise": noise, "seed": block * SEEDS + seed,
                        "objective": name, "beta": beta,
                    }  # fmt: skip
                    for k in range(0, STEPS // EVERY + 1, 2):
                        for key in ("gold", "kl"):
                            row[f"{key}_{k * EVERY}"] = f"{part[key][k, seed, level, at]:.4f}"
                    for key in ("k2", "drop"):
                        row[key] = f"{part[key][-1, seed, level, at]:.4f}"
                    climbs.append(row)
        ends = [round(v, 2) for v in part["gold"][-1, :, 1].mean(0).tolist()]
        print(f"{setting:20} block {block} policy {name:8} {ends}", flush=True)


if __name__ == "__main__":
    main()
