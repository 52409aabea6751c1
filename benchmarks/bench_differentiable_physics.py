"""A thousand rollouts as one batch beside a loop over copies; assigned pairs beside all pairs.

``python benchmarks/bench_differentiable_physics.py`` prints both sides and their ratios, measured
in turns in one run; ``pytest benchmarks/bench_differentiable_physics.py`` times the batched side
with pytest-benchmark.

- 1,024 rollouts of each world with their gradients, as one batch and one after the other (of the
  loop only the first 32 are run, and counted 32 times).
- The gradient of the Chamfer loss through the chosen pairs, and through all pairs and both minima.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.environments import CartPoleSwingup, Differentiable, Pendulum, Puck, Rope
from mdtheory.rl.differentiable_physics import chamfer_loss, demonstrate, rollout

COPIES, LOOPED, STEPS = 1024, 32, 50
WORLDS = {"pendulum": Pendulum, "cart-pole": CartPoleSwingup, "puck": Puck, "rope": Rope}


def parts(world: Differentiable) -> tuple[Tensor, Tensor]:
    """Starts, and the weights of a linear policy."""
    generator = torch.Generator().manual_seed(1)
    weights = 0.1 * torch.randn(world.observed, world.actions, generator=generator)
    return world.reset((COPIES,), generator), weights.requires_grad_()


def gradient(world: Differentiable, start: Tensor, weights: Tensor) -> Tensor:
    """Of the mean square of all states."""
    states = rollout(world, lambda seen: (seen @ weights).tanh(), start, STEPS)
    return torch.autograd.grad(states.square().mean((-1, -2)).sum(), weights)[0]


def looped(world: Differentiable, start: Tensor, weights: Tensor) -> Tensor:
    """One copy after the other."""
    return sum((gradient(world, row, weights) for row in start), torch.zeros_like(weights))


def seconds(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def ratio(name: str) -> tuple[float, float]:
    """CPU seconds of the batch and of the whole loop."""
    world = WORLDS[name]()
    start, weights = parts(world)
    batch = seconds(lambda: gradient(world, start, weights), 3)
    loop = seconds(lambda: looped(world, start[:LOOPED], weights), 2)
    return batch, loop * COPIES / LOOPED


def all_pairs(states: Tensor, shown: Tensor) -> Tensor:
    """The loss by one distance for each pair, all of them in the graph."""
    apart = torch.cdist(states, shown.expand(len(states), -1, -1)) / states.shape[-1] ** 0.5
    return apart.amin(-1).mean(-1) + apart.amin(-2).mean(-1)


def slopes(loss: Callable[[Tensor, Tensor], Tensor], states: Tensor, shown: Tensor) -> Tensor:
    return torch.autograd.grad(loss(states, shown).sum(), states)[0]


def clouds() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shown = Pendulum().features(demonstrate(Pendulum()).states)
    return torch.randn(256, 120, 3, generator=generator).requires_grad_(), shown


def test_both_sides_give_the_same_gradients():
    for kind in WORLDS.values():
        world = kind()
        start, weights = parts(world)
        together = gradient(world, start[:8], weights)
        torch.testing.assert_close(
            together, looped(world, start[:8], weights), rtol=1e-3, atol=1e-4
        )
    states, shown = clouds()
    torch.testing.assert_close(
        slopes(chamfer_loss, states, shown), slopes(all_pairs, states, shown), rtol=1e-3, atol=1e-5
    )


def test_the_batch_is_fifty_times_faster_than_the_loop(benchmark):
    world = Pendulum()
    start, weights = parts(world)
    benchmark.pedantic(gradient, (world, start, weights), rounds=3, warmup_rounds=1)
    if not benchmark.enabled:
        return
    batch, loop = ratio("pendulum")
    assert loop > 50 * batch


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    for name in WORLDS:
        batch, loop = ratio(name)
        print(
            f"{name}, {COPIES} rollouts of {STEPS} steps with gradients: batch "
            f"{1e3 * batch:.0f} ms, loop {loop:.1f} s, ratio {loop / batch:.0f}"
        )
    states, shown = clouds()
    chosen = seconds(lambda: slopes(chamfer_loss, states, shown), 3)
    every = seconds(lambda: slopes(all_pairs, states, shown), 3)
    print(
        f"Chamfer gradient of {len(states)} rollouts: chosen pairs {1e3 * chosen:.0f} ms, "
        f"all pairs {1e3 * every:.0f} ms, ratio {every / chosen:.1f}"
    )


if __name__ == "__main__":
    main()
