"""Boosting beside its rivals on swing-ups, recorded under book/results.

Run from the repository root: ``python benchmarks/imitation_study.py``; the extra ``dmc`` adds the
task of the DeepMind Control suite, which is left out without it. Half an hour or so on one core; a
killed run goes on where it was, from the cells in ``.cache/imitation_study``.

A cell is one setting: all boosting methods and all seeds are one program, each rival another. All
methods of a setting get the same demonstrations. Scores are (return - random) / (expert - random).
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.agents import evaluate
from mdtheory.environments import CartPoleSwingup, DeepMindEnvironment, Environment, Pendulum
from mdtheory.rl.imitation import (
    Demonstrations,
    ImitationSettings,
    behaviour_clone,
    demonstrate,
    iq_learn,
    scripted_expert,
    train_ail_boost,
    value_dice,
)

SEEDS, SUITE_SEEDS, EPISODES, MANY = 10, 5, 20, 200
FOLDER = Path(".cache") / "imitation_study"
BOOSTING = {  # weighting, step, loss
    "AILBoost 0.2": ("boost", 0.2, "reverse_kl"),
    "AILBoost 0.05": ("boost", 0.05, "reverse_kl"),
    "uniform weights": ("uniform", 0.0, "reverse_kl"),
    "last learner alone": ("last", 0.0, "reverse_kl"),
    "DAC": ("uniform", 0.0, "logistic"),
}
RIVALS = {"BC": behaviour_clone, "ValueDICE": value_dice, "IQ-Learn": iq_learn}
# Updates and discriminator steps of a round, and rounds: the updates are the same in total, and
# each round has its roll-outs on top.
USUAL = (250, 50, 24)
SWEEP = ((1000, 50, 6), (100, 20, 60), (1000, 200, 6))


def environment_of(name: str) -> Environment:
    """The environment that a name stands for."""
    if name == "suite":
        return DeepMindEnvironment("cartpole", "swingup", repeat=4)
    return Pendulum() if name == "pendulum" else CartPoleSwingup()


def references(name: str) -> tuple[float, float]:
    """Mean returns of the expert and of uniform actions."""
    world, generator = environment_of(name), torch.Generator().manual_seed(7)

    def guess(observation: Tensor) -> Tensor:
        drawn = torch.rand(*observation.shape[:-1], world.actions, generator=generator)
        return 2 * drawn - 1

    episodes = 20 if name == "suite" else MANY
    found = [
        demonstrate(world, actor, generator, seeds=1, episodes=episodes).returns.mean().item()
        for actor in (scripted_expert(world), guess)
    ]
    return found[0], found[1]


def demonstrations(name: str, number: int, seeds: int) -> Demonstrations:
    """The same for all methods."""
    world = environment_of(name)
    generator = torch.Generator().manual_seed(100 + number)
    return demonstrate(world, scripted_expert(world), generator, seeds=seeds, episodes=number)


def run_cell(
    world: str, demos: int, method: str, updates: int, disc: int, rounds: int, relabel: bool,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """One setting: the boosting methods side by side, or one rival, all seeds."""
    torch.set_num_threads(1)
    begin = time.process_time()
    seeds = SUITE_SEEDS if world == "suite" else SEEDS
    environment, shown = environment_of(world), demonstrations(world, demos, seeds)
    expert, random = references(world)
    length = shown.observation.shape[1] // demos
    settings = ImitationSettings(
        rounds=rounds, updates=updates, discriminator_steps=disc, samples=2 * length,
        relabel=relabel, evaluations=3 if world != "suite" else 2,
        episodes=EPISODES if world != "suite" else 4,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1 + seed)

    def score(returns: Tensor) -> list[list[float]]:
        return ((returns - random) / (expert - random)).tolist()

    result: dict[str, Any] = {"expert": expert, "random": random}
    if method in RIVALS:
        more = {} if method == "IQ-Learn" else {"steps": 2000}
        policy = RIVALS[method](
            environment, shown, generator, seeds=seeds, settings=settings, **more
        )
        value = evaluate(policy, environment, generator, episodes=settings.episodes)
        spent = rounds * (2 * updates + 2 * length) if method == "IQ-Learn" else 0
        nothing = [[float("nan")] * seeds]
        result[method] = {"interactions": [spent], "last": score(value[None]),
                          "ensemble": nothing, "divergence": nothing}  # fmt: skip
    else:
        names = arms_of(world, relabel)
        arms = [BOOSTING[name] for name in names for _ in range(seeds)]
        every = Demonstrations(*(part.repeat(len(names), 1, 1) for part in shown[:3]),
                               shown.returns.repeat(len(names), 1))  # fmt: skip
        weighting, step, loss = zip(*arms, strict=True)
        record = train_ail_boost(
            environment, every, generator, seeds=len(arms), settings=settings,
            weighting=weighting, step=step, loss=loss,
        )  # fmt: skip
        for k, name in enumerate(names):
            mine = slice(k * seeds, (k + 1) * seeds)
            result[name] = {
                "interactions": record.interactions.tolist(),
                "last": score(record.last[:, mine]), "ensemble": score(record.ensemble[:, mine]),
                "divergence": record.divergence[:, mine].tolist(),
            }  # fmt: skip
    result["seconds"] = time.process_time() - begin
    return result


def arms_of(world: str, relabel: bool) -> list[str]:
    """The boosting methods of a cell."""
    if not relabel:
        return ["DAC"]
    return ["AILBoost 0.2", "DAC"] if world == "suite" else list(BOOSTING)


def grids() -> list[dict[str, Any]]:
    """Arguments of one sweep each, the most wanted first."""

    def grid(
        world: str, demos: int, methods: list[str], plan: tuple[int, int, int] = USUAL,
        relabel: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        return {"world": [world], "demos": [demos], "method": methods, "updates": [plan[0]],
                "disc": [plan[1]], "rounds": [plan[2]], "relabel": [relabel]}  # fmt: skip

    offline = ["BC", "ValueDICE"]
    wanted = [grid("pendulum", 1, ["boosting", *offline])]
    wanted.append(grid("pendulum", 1, ["boosting"], SWEEP[0]))
    wanted.append(grid("pendulum", 5, ["boosting", *offline]))
    if importlib.util.find_spec("dm_control") is not None:
        wanted.append(grid("suite", 1, ["boosting", *offline]))
    wanted.append(grid("swingup", 1, ["boosting", *offline]))
    wanted += [grid("pendulum", 1, ["boosting"], plan) for plan in SWEEP[1:]]
    wanted.append(grid("pendulum", 1, ["boosting"], relabel=False))
    wanted.append(grid("pendulum", 1, ["IQ-Learn"]))
    return wanted


def main() -> None:
    """Run what is missing and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument("--finished", action="store_true", help="record what is on disk alone")
    run = runs.finished_cells if options.parse_args().finished else runs.sweep
    rows: list[dict[str, Any]] = []
    scales: dict[str, str] = {}
    for grid in grids():
        for cell in run(run_cell, grid, seeds=[0], folder=FOLDER):
            told, result = cell.arguments, cell.result
            expert, random = result["expert"], result["random"]
            scales[told["world"]] = f"{told['world']}: expert {expert:.1f}, random {random:.1f}"
            found = {k: v for k, v in result.items() if isinstance(v, dict)}
            for method, part in found.items():
                ends = {name: torch.tensor(part[name][-1]) for name in ("last", "ensemble")}
                print(
                    f"{told['world']:8} {told['demos']} {method:18} {told['updates']:4} "
                    f"{told['disc']:3} relabel {told['relabel']!s:5}: "
                    + "  ".join(f"{name} {value.mean():.2f}" for name, value in ends.items())
                    + f"  ({result['seconds']:.0f} CPU s)",
                    flush=True,
                )
                for k, spent in enumerate(part["interactions"]):
                    for seed in range(len(part["last"][k])):
                        row = dict(told) | {"method": method, "interactions": spent, "seed": seed}
                        for name in ("last", "ensemble", "divergence"):
                            row[name] = f"{part[name][k][seed]:.4g}"
                        rows.append(row)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    runs.write_record(
        "imitation_study", columns, command="python benchmarks/imitation_study.py",
        device=f"float32 on {runs.describe_device(torch.device('cpu'))}", seeds=SEEDS,
        note=(
            "scores are (return - random)/(expert - random) of mean actions over "
            f"{EPISODES} episodes ({SUITE_SEEDS} seeds and 4 episodes for the suite's "
            f"cartpole-swingup, action repeat 4); {'; '.join(scales.values())}. updates, disc: "
            "policy updates and discriminator steps of a round; every learner is also rolled out "
            "for two episodes. relabel: whether rewards are computed anew at each update. "
            "ensemble: one learner an episode; divergence: 1 less a running mean of the loss"
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
