"""MDPO, PPO, TRPO and SAC beside Stable-Baselines3 and sb3-contrib, in one run.

``python benchmarks/bench_mdpo.py`` prints the table; it needs the extra ``baselines`` and takes
some ten minutes. Both sides have the same environment of gymnasium, networks, batch, number of
gradient steps and one thread. Their seeds run one after the other, ours as one tensor program and,
for comparison, one seed alone. On a machine that is shared, the seconds of this process's CPU are
fairer than those of the clock; both are printed.
``pytest benchmarks/bench_mdpo.py`` times one iteration of each of ours with pytest-benchmark.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from mdtheory import runs
from mdtheory.checks import require_extra
from mdtheory.rl.mdpo import (
    CartPole,
    OffPolicySettings,
    OnPolicySettings,
    evaluate,
    train_off_policy,
    train_on_policy,
)
from mdtheory.rl.mdpo.on_policy import OnPolicyRun

SEEDS, EPISODES = 5, 20
# Ten passes over the full batch, for policy and critic: ten gradient steps, as n_epochs=10 there.
FULL = OnPolicySettings(critic_epochs=10, critic_batch=None, critic_learning_rate=3e-4)
# sb3-contrib's TRPO: 15 products, and 10 epochs of 128 for the critic at 1e-3.
TRUST = OnPolicySettings(
    conjugate_steps=15, critic_epochs=10, critic_batch=128, critic_learning_rate=1e-3
)
OURS = {"PPO": ("ppo", FULL), "MDPO": ("mdpo", FULL), "TRPO": ("trpo", TRUST)}
TARGETS = {"PPO": 1.5, "MDPO": 1.3, "TRPO": 1.0, "SAC": 1.2}


class Timing(NamedTuple):
    """Steps a second by CPU and by the clock, and final returns."""

    by_cpu: float
    by_clock: float
    returns: torch.Tensor


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.process_time() - cpu, time.perf_counter() - clock


def ours_on_policy(name: str, steps: int, seeds: int) -> Timing:
    algorithm, settings = OURS[name]
    generator = torch.Generator().manual_seed(0)
    record, cpu, clock = timed(
        lambda: train_on_policy(
            "CartPole-v1", steps, generator,
            algorithm=algorithm, seeds=seeds, settings=settings,  # type: ignore[arg-type]
        )
    )  # fmt: skip
    made = len(record.seconds) * settings.copies * settings.horizon * seeds
    final = evaluate(record.policy, "CartPole-v1", generator, episodes=EPISODES)
    return Timing(made / cpu, made / clock, final.double())


def theirs_on_policy(name: str, steps: int, seeds: int) -> Timing:
    library = require_extra("stable_baselines3", "baselines")
    gymnasium = require_extra("gymnasium", "notebooks")
    vector = require_extra("stable_baselines3.common.vec_env", "baselines")
    evaluation = require_extra("stable_baselines3.common.evaluation", "baselines")
    spent_cpu, spent_clock, final, made = 0.0, 0.0, [], 0
    steps = steps // 2048 * 2048
    for seed in range(seeds):
        worlds = vector.DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 16)
        if name == "PPO":
            model = library.PPO(
                "MlpPolicy", worlds, n_steps=128, batch_size=2048, n_epochs=10, seed=seed,
                device="cpu",
            )  # fmt: skip
        else:
            contrib = require_extra("sb3_contrib", "baselines")
            model = contrib.TRPO(
                "MlpPolicy", worlds, n_steps=128, batch_size=128, seed=seed, device="cpu"
            )
        _, cpu, clock = timed(lambda model=model: model.learn(steps))
        spent_cpu, spent_clock, made = spent_cpu + cpu, spent_clock + clock, made + steps
        alone = gymnasium.make("CartPole-v1")
        mean, _ = evaluation.evaluate_policy(model, alone, n_eval_episodes=EPISODES)
        final.append(float(mean))
    return Timing(made / spent_cpu, made / spent_clock, torch.tensor(final, dtype=torch.float64))


def ours_sac(steps: int, seeds: int) -> Timing:
    settings = OffPolicySettings(warm_up=100).sac()
    generator = torch.Generator().manual_seed(0)
    record, cpu, clock = timed(
        lambda: train_off_policy("Pendulum-v1", steps, generator, seeds=seeds, settings=settings)
    )
    updates = (steps - settings.warm_up) * seeds
    final = evaluate(record.policy, "Pendulum-v1", generator, episodes=EPISODES)
    return Timing(updates / cpu, updates / clock, final.double())


def theirs_sac(steps: int, seeds: int) -> Timing:
    library = require_extra("stable_baselines3", "baselines")
    gymnasium = require_extra("gymnasium", "notebooks")
    evaluation = require_extra("stable_baselines3.common.evaluation", "baselines")
    spent_cpu, spent_clock, final = 0.0, 0.0, []
    for seed in range(seeds):
        model = library.SAC(
            "MlpPolicy", gymnasium.make("Pendulum-v1"), learning_starts=100, ent_coef=0.2,
            batch_size=256, seed=seed, device="cpu",
        )  # fmt: skip
        _, cpu, clock = timed(lambda model=model: model.learn(steps))
        spent_cpu, spent_clock = spent_cpu + cpu, spent_clock + clock
        mean, _ = evaluation.evaluate_policy(
            model, gymnasium.make("Pendulum-v1"), n_eval_episodes=EPISODES
        )
        final.append(float(mean))
    updates = (steps - 100) * seeds
    return Timing(
        updates / spent_cpu, updates / spent_clock, torch.tensor(final, dtype=torch.float64)
    )


def shown(returns: torch.Tensor) -> str:
    middle, low, high = runs.bootstrap_interval(
        returns, torch.Generator().manual_seed(0), statistic="iqm"
    )
    return f"{middle:7.1f} [{low:.1f}, {high:.1f}]"


def row(name: str, timing: Timing, other: Timing | None = None, target: float = 0.0) -> None:
    text = f"{name:34s} {timing.by_cpu:9.0f} {timing.by_clock:9.0f}   {shown(timing.returns)}"
    if other is not None:
        text += f"   ratio {timing.by_cpu / other.by_cpu:.2f} by CPU, "
        text += f"{timing.by_clock / other.by_clock:.2f} by clock (asked: {target:g})"
    print(text, flush=True)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=100_000, help="of each seed on CartPole")
    options.add_argument("--sac-steps", type=int, default=2000, help="of each seed on Pendulum")
    options.add_argument("--only", nargs="+", default=["PPO", "MDPO", "TRPO", "SAC"])
    given = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{SEEDS} seeds, {torch.get_num_threads()} thread, torch {torch.__version__}")
    print(f"CartPole-v1, 16 environments, batches of 2,048, {given.steps:,} steps a seed; then")
    print(f"SAC on Pendulum-v1, 256 x 256, batch 256, {given.sac_steps:,} steps a seed")
    print(f"{'':34s} {'/s (CPU)':>9s} {'/s':>9s}   final return, iqm [95 %]")
    peers: dict[str, Timing] = {}
    for name in ("PPO", "TRPO"):
        if name in given.only or (name == "PPO" and "MDPO" in given.only):
            peers[name] = theirs_on_policy(name, given.steps, SEEDS)
            row(f"Stable-Baselines3 {name}", peers[name])
    for name in ("PPO", "MDPO", "TRPO"):
        if name in given.only:
            peer = peers["TRPO" if name == "TRPO" else "PPO"]
            together = ours_on_policy(name, given.steps, SEEDS)
            row(f"ours {name}, {SEEDS} seeds as one", together, peer, TARGETS[name])
            row(f"ours {name}, one seed alone", ours_on_policy(name, given.steps, 1), peer,
                TARGETS[name])  # fmt: skip
    if "SAC" in given.only:
        peer = theirs_sac(given.sac_steps, SEEDS)
        row("Stable-Baselines3 SAC, updates", peer)
        together = ours_sac(given.sac_steps, SEEDS)
        row(f"ours SAC, {SEEDS} seeds as one", together, peer, TARGETS["SAC"])
        row("ours SAC, one seed alone", ours_sac(given.sac_steps, 1), peer, TARGETS["SAC"])


@pytest.mark.parametrize("name", OURS)
def test_one_iteration_of_five_seeds(benchmark, name):
    algorithm, settings = OURS[name]
    generator = torch.Generator().manual_seed(0)
    run = OnPolicyRun(CartPole(), 10**7, generator, algorithm, SEEDS, settings)  # type: ignore[arg-type]
    benchmark.pedantic(run.iterate, rounds=5, warmup_rounds=1)
    assert run.done == (6 if benchmark.enabled else 1)  # --benchmark-disable calls it once


if __name__ == "__main__":
    main()
