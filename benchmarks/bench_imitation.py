"""All seeds at once beside a loop over the seeds, for boosting with tables and from samples.

``python benchmarks/bench_imitation.py`` prints both sides and their ratios, measured in turns in
one run; ``pytest benchmarks/bench_imitation.py`` times the batched side with pytest-benchmark.

- Exact boosting: 50 random processes as one batch, and one after the other; the same results.
- From samples: ten seeds on Pendulum as one program, and one after the other with the same
  settings. The draws of the generator differ, so only times are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.environments import Pendulum
from mdtheory.rl.imitation import (
    BoostRecord,
    Demonstrations,
    ImitationRecord,
    ImitationSettings,
    boost_occupancies,
    demonstrate,
    mirror_learner,
    scripted_expert,
    state_action_occupancy,
    train_ail_boost,
)
from mdtheory.rl.policy_mirror_descent import TabularMDP, garnet

PROCESSES, ROUNDS, SEEDS = 50, 20, 10
SETTINGS = ImitationSettings(rounds=1, updates=100, evaluations=1, episodes=5)


def tables() -> tuple[TabularMDP, Tensor]:
    """Random processes and a random expert in each."""
    generator = torch.Generator().manual_seed(1)
    mdp = garnet(10, 4, 3, 0.9, generator, (PROCESSES,))
    noise = torch.randn(PROCESSES, 10, 4, generator=generator, dtype=torch.float64)
    start = torch.full((10,), 0.1, dtype=torch.float64)
    return mdp, state_action_occupancy(mdp, noise.softmax(-1), start)


def together(mdp: TabularMDP, expert: Tensor) -> BoostRecord:
    return boost_occupancies(mdp, expert, mirror_learner(2, 0.5), 0.2, ROUNDS)


def one_by_one(mdp: TabularMDP, expert: Tensor) -> list[BoostRecord]:
    return [
        together(TabularMDP(p, r, mdp.discount), e)
        for p, r, e in zip(mdp.transition, mdp.reward, expert, strict=True)
    ]


def shown(seeds: int) -> Demonstrations:
    world = Pendulum()
    generator = torch.Generator().manual_seed(1)
    return demonstrate(world, scripted_expert(world), generator, seeds=seeds, episodes=1)


def trained(data: Demonstrations) -> ImitationRecord:
    generator = torch.Generator().manual_seed(2)
    seeds = len(data.observation)
    return train_ail_boost(Pendulum(), data, generator, seeds=seeds, settings=SETTINGS)


def seconds(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


def test_both_sides_give_the_same_occupancies():
    mdp, expert = tables()
    alone = torch.stack([record.mixture for record in one_by_one(mdp, expert)], 1)
    torch.testing.assert_close(together(mdp, expert).mixture, alone)


def test_the_batch_is_five_times_faster_than_the_loop(benchmark):
    mdp, expert = tables()
    benchmark.pedantic(together, (mdp, expert), rounds=3, warmup_rounds=1)
    if not benchmark.enabled:
        return
    assert seconds(lambda: one_by_one(mdp, expert), 1) > 5 * benchmark.stats["min"]


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    mdp, expert = tables()
    batch, loop = (seconds(lambda f=f: f(mdp, expert), 3) for f in (together, one_by_one))
    print(
        f"tables, {PROCESSES} processes, {ROUNDS} rounds: batch {1e3 * batch:.0f} ms, loop "
        f"{1e3 * loop:.0f} ms, ratio {loop / batch:.1f}"
    )
    data = shown(SEEDS)
    each = [Demonstrations(*(part[k : k + 1] for part in data)) for k in range(SEEDS)]
    batch = seconds(lambda: trained(data), 2)
    loop = seconds(lambda: [trained(one) for one in each], 1)
    print(
        f"samples, {SEEDS} seeds, one round of {SETTINGS.updates} updates: batch {batch:.1f} s, "
        f"loop {loop:.1f} s, ratio {loop / batch:.1f}"
    )


if __name__ == "__main__":
    main()
