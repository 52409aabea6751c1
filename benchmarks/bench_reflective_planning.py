"""All scenes at once beside a loop over the scenes: scores, tracking, and reflection.

``python benchmarks/bench_reflective_planning.py`` prints both sides and their ratios, measured in
turns in one run; ``pytest benchmarks/bench_reflective_planning.py`` times the batched side with
pytest-benchmark. Both sides give the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mdtheory.rl.reflective_planning import (
    PLANS,
    MaskedDenoiser,
    Scenes,
    decode,
    draw_scenes,
    features,
    lattice_plans,
    planning_score,
    reflect,
)

SCENES, DRAFTS = 1024, 100
CV = partial(planning_score, agents="constant_velocity")


def plans() -> tuple[Scenes, Tensor]:
    """Scenes, and a plan of the lattice for each."""
    scene = draw_scenes(SCENES, torch.Generator().manual_seed(1))
    return scene, lattice_plans(scene)[:, 20]


def together(scene: Scenes, waypoints: Tensor) -> Tensor:
    return planning_score(scene, waypoints).total


def one_by_one(scene: Scenes, waypoints: Tensor) -> Tensor:
    return torch.stack([planning_score(scene[k], waypoints[k]).total for k in range(SCENES)])


def planner() -> tuple[MaskedDenoiser, Scenes, Tensor, Tensor]:
    """An untrained planner and its drafts."""
    scene = draw_scenes(DRAFTS, torch.Generator().manual_seed(2))
    seen = features(scene)
    model = MaskedDenoiser(PLANS.size, seen.shape[-1], 16, 1)
    return model, scene, seen, decode(model, seen)


def mended(model: MaskedDenoiser, scene: Scenes, seen: Tensor, drafts: Tensor) -> Tensor:
    return reflect(model, scene, seen, drafts, CV, 2, 4)[0]


def mended_one_by_one(
    model: MaskedDenoiser, scene: Scenes, seen: Tensor, drafts: Tensor
) -> Tensor:  # fmt: skip
    each = [slice(k, k + 1) for k in range(len(drafts))]
    return torch.cat([mended(model, scene[k], seen[k], drafts[k]) for k in each])


def seconds(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


def test_both_sides_give_the_same():
    scene, waypoints = plans()
    torch.testing.assert_close(
        together(scene[:50], waypoints[:50]),
        torch.stack([planning_score(scene[k], waypoints[k]).total for k in range(50)]),
    )
    arguments = planner()
    worth = [
        CV(arguments[1], PLANS.values(tokens.unflatten(-1, (-1, 2)))).total
        for tokens in (mended(*arguments), mended_one_by_one(*arguments))
    ]
    torch.testing.assert_close(*worth)


def test_the_batch_is_fifty_times_faster_than_the_loop(benchmark):
    scene, waypoints = plans()
    benchmark.pedantic(together, (scene, waypoints), rounds=3, warmup_rounds=1)
    if not benchmark.enabled:
        return
    assert seconds(lambda: one_by_one(scene, waypoints), 1) > 50 * benchmark.stats["min"]


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    scene, waypoints = plans()
    batch, loop = (seconds(lambda f=f: f(scene, waypoints), 3) for f in (together, one_by_one))
    print(f"scores of {SCENES} plans: batch {1e3 * batch:.1f} ms, loop {1e3 * loop:.0f} ms, "
          f"ratio {loop / batch:.0f}")  # fmt: skip
    arguments = planner()
    batch, loop = (seconds(lambda f=f: f(*arguments), 2) for f in (mended, mended_one_by_one))
    print(f"reflection of {DRAFTS} drafts: batch {batch:.2f} s, loop {loop:.2f} s, "
          f"ratio {loop / batch:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
