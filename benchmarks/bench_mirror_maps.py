"""Projection of 10,000 vectors of 1,000 numbers on the simplex, beside well-written NumPy.

``python benchmarks/bench_mirror_maps.py`` prints both sides and their ratio, measured in turns in
one run; ``pytest benchmarks/bench_mirror_maps.py`` times ours with pytest-benchmark.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Simplex

ROWS, COLUMNS, REPEATS = 10_000, 1_000, 3


def make_points(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, COLUMNS, generator=generator, dtype=dtype)


def project_with_numpy(points: np.ndarray) -> np.ndarray:
    """The usual projection: sort, cumulative sums, threshold; vectorised over the rows."""
    ordered = -np.sort(-points, axis=1)
    sums = np.cumsum(ordered, axis=1) - 1
    counts = np.arange(1, points.shape[1] + 1, dtype=points.dtype)
    support = (ordered * counts > sums).sum(axis=1)
    threshold = sums[np.arange(len(points)), support - 1] / support.astype(points.dtype)
    return np.maximum(points - threshold[:, None], 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_projection_on_the_simplex(benchmark, dtype):
    points = make_points(dtype)
    result = benchmark.pedantic(Simplex().project, (points,), rounds=REPEATS, warmup_rounds=1)
    expected = torch.from_numpy(project_with_numpy(points[:100].numpy()))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(result[:100], expected, rtol=0, atol=tolerance)


def main() -> None:
    print(f"simplex projection, ({ROWS:,}, {COLUMNS:,}), {torch.get_num_threads()} threads")
    for dtype in (torch.float64, torch.float32):
        points = make_points(dtype)
        rows, domain = points.numpy(), Simplex()
        ours, theirs = float("inf"), float("inf")
        for _ in range(REPEATS):
            begin = time.perf_counter()
            mine = domain.project(points)
            ours = min(ours, time.perf_counter() - begin)
            begin = time.perf_counter()
            other = project_with_numpy(rows)
            theirs = min(theirs, time.perf_counter() - begin)
        gap = np.abs(mine.numpy() - other).max()
        print(
            f"{dtype!s:14s} ours {ours:6.3f} s   NumPy {theirs:6.3f} s   "
            f"ratio {theirs / ours:5.2f} (asked: 1)   largest difference {gap:.1e}"
        )


if __name__ == "__main__":
    main()
