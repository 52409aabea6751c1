"""An ensemble trained as one program beside a loop over members and seeds.

``python benchmarks/bench_reward_models.py`` prints both sides and their ratios, measured in turns
in one run; ``pytest benchmarks/bench_reward_models.py`` times the batched side.

- Training: seeds, levels of noise and members as one program; and one network after the other,
  once as anybody would write it (modules, a data loader's shuffled minibatches by hand, Adam as
  PyTorch makes it) and once by calling the same program for each network.
- The estimator for best of n at N = 12,600, and a loop over its definition's coefficients.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.nlhf.reward_models import (
    AnswerWorld,
    Comparisons,
    RewardEnsemble,
    best_of_n_estimate,
    train_reward_ensemble,
)

SEEDS, MEMBERS, NOISE = 16, 5, (0.0, 0.25)
PAIRS, EPOCHS, BATCH, STEP_SIZE = 640, 1, 64, 3e-3
COPIES = SEEDS * MEMBERS * len(NOISE)


def judged() -> Comparisons:
    generator = torch.Generator().manual_seed(1)
    return AnswerWorld(SEEDS, generator).compare(PAIRS, generator, noise=NOISE)


def together(data: Comparisons, width: int) -> RewardEnsemble:
    generator = torch.Generator().manual_seed(2)
    return train_reward_ensemble(
        *data, members=MEMBERS, epochs=EPOCHS, step_size=STEP_SIZE, generator=generator,
        hidden=(width, width), batch=BATCH,
    )  # fmt: skip


def one_by_one(data: Comparisons, width: int) -> list[RewardEnsemble]:
    """The same program for every network."""
    generator = torch.Generator().manual_seed(2)
    return [
        train_reward_ensemble(
            data.first[seed, 0], data.second[seed, 0], data.won[seed, level], members=1,
            epochs=EPOCHS, step_size=STEP_SIZE, generator=generator, hidden=(width, width),
            batch=BATCH,
        )
        for seed in range(SEEDS) for level in range(len(NOISE)) for _ in range(MEMBERS)
    ]  # fmt: skip


def with_modules(data: Comparisons, width: int) -> list[torch.nn.Module]:
    """The same work as PyTorch's own parts do it."""
    generator = torch.Generator().manual_seed(2)
    networks: list[torch.nn.Module] = []
    for seed in range(SEEDS):
        for level in range(len(NOISE)):
            for _ in range(MEMBERS):
                network = torch.nn.Sequential(
                    torch.nn.Linear(16, width), torch.nn.ReLU(),
                    torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 1),
                )  # fmt: skip
                optimizer = torch.optim.Adam(network.parameters(), STEP_SIZE)
                first, second = data.first[seed, 0], data.second[seed, 0]
                for _ in range(EPOCHS):
                    order = torch.randperm(PAIRS, generator=generator)
                    for pick in order.split(BATCH):
                        margin = (network(first[pick]) - network(second[pick]))[:, 0]
                        loss = functional.binary_cross_entropy_with_logits(
                            margin, data.won[seed, level, pick]
                        )
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                networks.append(network)
    return networks


def pools() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, COPIES, 12_600, generator=generator, dtype=torch.float64).unbind(0)


def estimate_by_loop(proxy: Tensor, gold: Tensor, n: int) -> Tensor:
    """One pool after the other, with logarithms of factorials."""
    size = proxy.shape[-1]
    total = math.lgamma(size + 1) - math.lgamma(n + 1) - math.lgamma(size - n + 1)
    found = []
    for scores, truth in zip(proxy, gold, strict=True):
        ranked = truth[scores.argsort()].tolist()
        found.append(sum(
            ranked[i - 1] * math.exp(
                math.lgamma(i) - math.lgamma(n) - math.lgamma(i - n + 1) - total
            ) for i in range(n, size + 1)
        ))  # fmt: skip
    return torch.tensor(found, dtype=torch.float64)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU time, the least of several: other programs on the machine do not count."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def test_both_sides_of_the_estimator_agree():
    proxy, gold = (part[:2] for part in pools())
    torch.testing.assert_close(
        best_of_n_estimate(proxy, gold, 500), estimate_by_loop(proxy, gold, 500), rtol=0, atol=1e-8
    )


def test_training_as_one_program_is_ten_times_faster_than_the_loop(benchmark):
    data = judged()
    benchmark.pedantic(together, (data, 32), rounds=3, warmup_rounds=1)
    if not benchmark.enabled:
        return
    batch = seconds(lambda: together(data, 32), 3)
    assert seconds(lambda: with_modules(data, 32), 1) > 10 * batch


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    data = judged()
    for width in (16, 32, 64):
        batch = seconds(lambda w=width: together(data, w), 3)
        loop, same = (
            seconds(lambda f=f, w=width: f(data, w), 1) for f in (with_modules, one_by_one)
        )
        print(
            f"training, {COPIES} networks of width {width}, {EPOCHS * PAIRS // BATCH} steps: one "
            f"program {1e3 * batch:.0f} ms; a loop of modules {1e3 * loop:.0f} ms, ratio "
            f"{loop / batch:.1f}; a loop over our program {1e3 * same:.0f} ms, ratio "
            f"{same / batch:.1f}"
        )
    proxy, gold = pools()
    batch = seconds(lambda: best_of_n_estimate(proxy, gold, 500), 3)
    loop = seconds(lambda: estimate_by_loop(proxy[:4], gold[:4], 500), 1) * COPIES / 4
    print(
        f"estimator, {COPIES} pools of 12,600: one call {1e3 * batch:.0f} ms, loop (4 of them, "
        f"scaled) {1e3 * loop:.0f} ms, ratio {loop / batch:.1f}"
    )


if __name__ == "__main__":
    main()
