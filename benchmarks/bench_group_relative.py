"""Training all algorithms and seeds at once beside loops over them, and the losses.

``python benchmarks/bench_group_relative.py`` prints both sides and their ratios, measured in turns
in one run on one thread; ``pytest benchmarks/bench_group_relative.py`` times ours with
pytest-benchmark.

- Our own function for all seeds, against the same function called once a seed.
- The same against a loop as one writes it for one model: ``torch.nn.Sequential``,
  ``torch.distributions.Categorical``, ``torch.optim.Adam``, one policy after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.distributions import Categorical

from mdtheory.rl.group_relative import (
    GroupRecord,
    Products,
    group_advantages,
    grpo_loss,
    stale_versions,
    train_group_relative,
)

STEPS, SEEDS, REPEATS, BASE = 100, 20, 3, 50
NAMES = ["REINFORCE", "GRPO", "AsymRE"]


def together(names: list[str], seeds: int) -> GroupRecord:
    """One program."""
    generator = torch.Generator().manual_seed(1)
    versions = stale_versions(STEPS, 20)
    return train_group_relative(names, versions, seeds, generator, base_steps=BASE)


def one_by_one(names: list[str], seeds: int) -> None:
    """The same function, a run at a time."""
    for name in names:
        for _ in range(seeds):
            together([name], 1)


def plain(seeds: int) -> None:
    """GRPO for one model at a time, with the parts that everybody uses."""
    task = Products()
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(task.features, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
            nn.Linear(32, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(BASE):
            prompts = torch.randint(task.prompts, (1, 64))
            label = task.answers[prompts]
            logits = model(task.inputs(prompts, label))
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), label.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        stale = {k: v.clone() for k, v in model.state_dict().items()}
        for k in range(STEPS):
            if k % 20 == 0:
                stale = {k: v.clone() for k, v in model.state_dict().items()}
            prompts = torch.randint(task.prompts, (1, 8)).repeat_interleave(8, 1)
            tokens = torch.zeros(1, 64, task.length, dtype=torch.long)
            old = torch.zeros(1, 64, task.length)
            with torch.no_grad():
                for place in range(task.length):
                    rows = task.inputs(prompts, tokens)[:, :, place]
                    law = Categorical(logits=torch.func.functional_call(model, stale, (rows,)))
                    tokens[..., place] = law.sample()
                    old[..., place] = law.log_prob(tokens[..., place])
            now = Categorical(logits=model(task.inputs(prompts, tokens))).log_prob(tokens)
            rewards = task.reward(prompts, tokens).reshape(8, 8)
            advantage = group_advantages(rewards, True).reshape(1, 64)
            loss = grpo_loss(now, old, advantage, average="tokens").sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """CPU seconds of the fastest repeat: other programs may share the machine."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def test_all_seeds_at_once(benchmark):
    record = benchmark.pedantic(together, (NAMES, SEEDS), rounds=REPEATS, warmup_rounds=1)
    assert record.value.shape[1:] == (len(NAMES), SEEDS)


def test_at_once_is_five_times_faster_than_the_loop(benchmark):
    benchmark.pedantic(together, (NAMES, SEEDS), rounds=1, warmup_rounds=1)
    if not benchmark.enabled:
        return
    fast = seconds(lambda: together(NAMES, SEEDS))
    slow = seconds(lambda: one_by_one(NAMES, 1)) * SEEDS
    assert slow > 5 * fast


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    together(["GRPO"], 1)
    for names in (["GRPO"], NAMES):
        fast = seconds(lambda n=names: together(n, SEEDS))
        # The loop takes as long for every seed: two are timed.
        slow = seconds(lambda n=names: one_by_one(n, 2)) * SEEDS / 2
        print(
            f"{len(names)} algorithm(s), {SEEDS} seeds, {STEPS} steps: at once {fast:.2f} s, "
            f"one run after the other {slow:.2f} s, ratio {slow / fast:.1f}"
        )
    fast = seconds(lambda: together(["GRPO"], SEEDS))
    slow = seconds(lambda: plain(2)) * SEEDS / 2
    print(
        f"GRPO, {SEEDS} seeds, {STEPS} steps: at once {fast:.2f} s, plain PyTorch one model after "
        f"the other {slow:.2f} s, ratio {slow / fast:.1f}"
    )


if __name__ == "__main__":
    main()
