"""Policy mirror descent and policy iteration beside QuantEcon.py's ``DiscreteDP``.

``python benchmarks/bench_policy_mirror_descent.py`` prints both sides and their ratios, measured in
turns in one run; it needs ``pip install quantecon``. Two tasks:

- 10,000 small processes: policy mirror descent in one batch (steps that grow fast, enough of
  them to end at the optimum) against one ``DiscreteDP`` a process, by each of its three methods;
- one Garnet with 5,000 states and 10 actions, sparse: policy iteration and modified policy
  iteration against theirs. ``--slow`` also runs their ``policy_iteration`` on it, which factors a
  sparse matrix and takes a minute.

``pytest benchmarks/bench_policy_mirror_descent.py`` times ours with pytest-benchmark.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Entropy
from mdtheory.rl.policy_mirror_descent import (
    TabularMDP,
    evaluate,
    garnet,
    geometric_steps,
    modified_policy_iteration,
    policy_iteration,
    policy_mirror_descent,
)

BATCH, DISCOUNT, REPEATS, TOLERANCE = 10_000, 0.95, 5, 1e-8
SIZES = [(3, 2, 2), (5, 3, 2), (10, 4, 3)]  # states, actions, next states
# The fewest steps after which every process of the batch is at its optimum.
STEPS = dict(zip(SIZES, (4, 5, 6), strict=True))
LARGE = (5_000, 10, 10)


def small_processes(size: tuple[int, int, int]) -> TabularMDP:
    return garnet(*size, DISCOUNT, torch.Generator().manual_seed(0), (BATCH,))


def large_process() -> TabularMDP:
    return garnet(*LARGE, DISCOUNT, torch.Generator().manual_seed(1), sparse=True)


def descend(mdp: TabularMDP) -> torch.Tensor:
    steps = next(n for size, n in STEPS.items() if size[0] == mdp.states)
    return policy_mirror_descent(mdp, Entropy(), geometric_steps(1e6, 1e3, steps), steps)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_policy_mirror_descent_on_a_batch(benchmark, size):
    mdp = small_processes(size)
    policy = benchmark.pedantic(descend, (mdp,), rounds=REPEATS, warmup_rounds=1)
    gap = policy_iteration(mdp).value - evaluate(mdp, policy)[0]
    assert gap.abs().max() < TOLERANCE


@pytest.mark.parametrize("method", [policy_iteration, modified_policy_iteration])
def test_planning_on_one_large_process(benchmark, method):
    mdp = large_process()
    solution = benchmark.pedantic(method, (mdp,), rounds=REPEATS, warmup_rounds=1)
    ahead = mdp.look_ahead(solution.value).amax(-1)
    assert (ahead - solution.value).abs().max() < TOLERANCE


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(repeats):
        begin = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begin)
    return best, result


def compare_batches(discrete_dp: Any) -> None:
    for size in SIZES:
        mdp = small_processes(size)
        rewards, transitions = mdp.reward.numpy(), mdp.transition.numpy()

        def theirs(method: str, count: int, rewards=rewards, transitions=transitions):
            options = {} if method == "policy_iteration" else {"epsilon": TOLERANCE}
            return np.array([
                discrete_dp(rewards[k], transitions[k], DISCOUNT)
                .solve(method=method, max_iter=100_000, **options).v
                for k in range(count)
            ])  # fmt: skip

        ours, policy = seconds(lambda mdp=mdp: descend(mdp))
        howard, solution = seconds(lambda mdp=mdp: policy_iteration(mdp))
        gap = (solution.value - evaluate(mdp, policy)[0]).abs().max().item()
        print(f"{BATCH:,} processes, {size[0]} states, {size[1]} actions")
        print(f"  ours: policy mirror descent {ours:.3f} s ({STEPS[size]} steps, gap {gap:.0e})")
        print(f"  ours: policy iteration      {howard:.3f} s")
        for method, count in [
            ("policy_iteration", BATCH), ("modified_policy_iteration", 1_000),
            ("value_iteration", 500),
        ]:  # fmt: skip
            theirs(method, 3)  # compiles
            taken, values = seconds(lambda m=method, n=count: theirs(m, n), 2)
            taken *= BATCH / count
            gap = np.abs(values - solution.value[:count].numpy()).max()
            scaled = "" if count == BATCH else f", from {count:,} of them"
            print(
                f"  theirs: {method:26s} {taken:7.2f} s   ratio to our descent "
                f"{taken / ours:6.1f}, to our policy iteration {taken / howard:6.1f} "
                f"(gap {gap:.0e}{scaled})"
            )


def compare_large(discrete_dp: Any, slow: bool) -> None:
    import scipy.sparse

    mdp = large_process()
    rows = mdp.transition
    matrix = scipy.sparse.csr_matrix(
        (rows.values().numpy(), rows.col_indices().numpy(), rows.crow_indices().numpy()),
        shape=tuple(rows.shape),
    )
    states = np.repeat(np.arange(mdp.states), mdp.actions)
    actions = np.tile(np.arange(mdp.actions), mdp.states)
    problem = discrete_dp(mdp.reward.numpy().ravel(), matrix, DISCOUNT, states, actions)

    def modified():
        return problem.solve(method="modified_policy_iteration", epsilon=TOLERANCE, max_iter=10_000)

    modified()  # compiles
    theirs, result = seconds(modified)
    howard, solution = seconds(lambda: policy_iteration(mdp))
    ours, close = seconds(lambda: modified_policy_iteration(mdp, TOLERANCE))
    gap = np.abs(solution.value.numpy() - result.v).max()
    print(f"one sparse process, {mdp.states:,} states, {mdp.actions} actions (gap {gap:.0e})")
    print(f"  ours: policy iteration          {howard:.4f} s")
    print(f"  ours: modified policy iteration {ours:.4f} s ({close.iterations} greedy steps)")
    print(f"  theirs: modified policy iteration {theirs:.4f} s; "
          f"our policy iteration takes {howard / theirs:.1f} times that (asked: at most 15), "
          f"our modified one {ours / theirs:.1f} times")  # fmt: skip
    if slow:
        taken, result = seconds(lambda: problem.solve(method="policy_iteration"), 1)
        print(f"  theirs: policy iteration {taken:.2f} s   ratio {taken / howard:.0f}")


def main() -> None:
    try:
        from quantecon.markov import DiscreteDP
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed; install it with: pip install quantecon")
    torch.set_num_threads(1)  # as theirs; importing numba may have set another number
    print(f"discount {DISCOUNT}, {torch.get_num_threads()} thread(s) of PyTorch")
    compare_batches(DiscreteDP)
    compare_large(DiscreteDP, "--slow" in sys.argv[1:])


if __name__ == "__main__":
    main()
