"""Mirror prox on bilinear games beside the published `cooper`, and beside a NumPy loop.

``python benchmarks/bench_saddle_points.py`` prints both sides and their ratios, measured in turns
in one run; ``pytest benchmarks/bench_saddle_points.py`` times ours with pytest-benchmark.

- On the whole space with squares mirror prox is the extragradient method, which `cooper-optim`
  (extra ``baselines``) has as ``ExtraSGD``: one game, 200 games in one program on both sides, and
  200 games one after the other there. Both end at the same points.
- With the entropies on simplices no package that installs has it; a NumPy loop over the games.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mdtheory.convex.mirror_maps import Entropy, Euclidean
from mdtheory.convex.saddle_points import duality_gap, matrix_operator, mirror_prox

GAMES, ACTIONS, STEPS, REPEATS = 200, 10, 200, 5
Pair = tuple[Tensor, Tensor]


def draw(games: int) -> Tensor:
    """Matrices with entries uniform in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    shape = (games, ACTIONS, ACTIONS)
    return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1


def free(matrix: Tensor) -> Pair:
    """Ours with squares, from ones."""
    start = (torch.ones(ACTIONS, dtype=torch.float64),) * 2
    maps = (Euclidean(), Euclidean())
    return mirror_prox(matrix_operator(matrix), maps, start, 0.1, STEPS).last


def simplex(matrix: Tensor) -> Pair:
    """Ours with entropies: the average of the looks ahead."""
    start = (torch.full((ACTIONS,), 1 / ACTIONS, dtype=torch.float64),) * 2
    maps = (Entropy(), Entropy())
    return mirror_prox(matrix_operator(matrix), maps, start, 0.9, STEPS).average


def by_cooper(matrix: Tensor) -> Pair:
    """``ExtraSGD`` for both players, gradients by autograd, as its documentation does it."""
    from cooper.optim.torch_optimizers import ExtraSGD  # type: ignore[import-not-found]

    shape = (*matrix.shape[:-2], ACTIONS)
    x, y = (torch.ones(shape, dtype=torch.float64).requires_grad_() for _ in range(2))
    down, up = ExtraSGD([x], lr=0.1), ExtraSGD([y], lr=0.1, maximize=True)

    def gradients() -> None:
        down.zero_grad()
        up.zero_grad()
        torch.einsum("...i,...ij,...j->", x, matrix, y).backward()

    for _ in range(STEPS):
        gradients()
        down.extrapolation()
        up.extrapolation()
        gradients()
        down.step()
        up.step()
    return x.detach(), y.detach()


def by_numpy(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One game with entropies."""
    log_x = log_y = np.zeros(ACTIONS)
    total = np.zeros((2, ACTIONS))

    def law(logs: np.ndarray) -> np.ndarray:
        weights = np.exp(logs - logs.max())
        return weights / weights.sum()

    for _ in range(STEPS):
        x, y = law(log_x), law(log_y)
        u, v = law(log_x - 0.9 * (matrix @ y)), law(log_y + 0.9 * (x @ matrix))
        total += u, v
        log_x, log_y = log_x - 0.9 * (matrix @ v), log_y + 0.9 * (u @ matrix)
    return total[0] / STEPS, total[1] / STEPS


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


def test_many_games(benchmark):
    matrix = draw(GAMES)
    average = benchmark.pedantic(simplex, (matrix,), rounds=REPEATS, warmup_rounds=1)
    assert duality_gap(matrix, *average).max() < 2 * np.log(ACTIONS) / (0.9 * STEPS)


def test_the_batch_is_ten_times_faster_than_the_loop(benchmark):
    matrix = draw(GAMES)
    benchmark.pedantic(simplex, (matrix,), rounds=REPEATS, warmup_rounds=1)
    if not benchmark.enabled:
        return
    slow = seconds(lambda: [by_numpy(game) for game in matrix.numpy()], 1)
    assert slow > 10 * benchmark.stats["min"]


def test_cooper_ends_at_the_same_points():
    pytest.importorskip("cooper")
    matrix = draw(3)
    for ours, theirs in zip(free(matrix), by_cooper(matrix), strict=True):
        torch.testing.assert_close(ours, theirs)


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    for games, words in ((1, "one game"), (GAMES, f"{GAMES} games in one program")):
        matrix = draw(games)
        apart = max(
            (ours - theirs).abs().max().item()
            for ours, theirs in zip(free(matrix), by_cooper(matrix), strict=True)
        )
        mine, theirs = seconds(lambda m=matrix: free(m)), seconds(lambda m=matrix: by_cooper(m))
        print(
            f"squares, {words}, {STEPS} steps: ours {1e3 * mine:.1f} ms, cooper "
            f"{1e3 * theirs:.1f} ms, ratio {theirs / mine:.1f}; apart by {apart:.0e}"
        )
    matrix = draw(GAMES)
    loop = seconds(lambda: [by_cooper(game) for game in matrix[:10]], 2) * GAMES / 10
    mine = seconds(lambda: free(matrix))
    print(
        f"squares, {GAMES} games, cooper one after the other (10 timed): {1e3 * loop:.0f} ms, "
        f"ratio {loop / mine:.0f}"
    )
    theirs = seconds(lambda: [by_numpy(game) for game in matrix.numpy()[:20]], 2) * GAMES / 20
    mine = seconds(lambda: simplex(matrix))
    gap = duality_gap(matrix, *simplex(matrix)).max().item()
    print(
        f"entropies, {GAMES} games, {STEPS} steps: ours {1e3 * mine:.1f} ms, NumPy one after the "
        f"other (20 timed) {1e3 * theirs:.0f} ms, ratio {theirs / mine:.0f}; largest gap {gap:.3f}"
    )


if __name__ == "__main__":
    main()
