"""Nash mirror prox beside its rivals, from 3 to 1,000 actions, for the record in book/results.

Run from the repository root: ``python benchmarks/mirror_prox_study.py``; about two minutes on one
core. Three kinds of rows:

- ``reach``: how many preference queries (``at``: the accuracy in KL) a method needs on random
  games; its median and its worst game. Where a game did not get there, the limit stands.
- ``curve``: the KL after so many queries (``at``), median and worst game.
- ``step``: the longest step at which every one of the first iterations contracts as the theorem
  says (``at``: the smallest of them over the games is ``worst``), on a grid of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.device import default_device
from mdtheory.nlhf.mirror_prox import (
    largest_step,
    nash_mirror_prox_iterates,
    preference_mirror_descent_iterates,
)
from mdtheory.nlhf.nash_md import (
    PreferenceGame,
    cyclic_preference,
    kl,
    nash_md_iterates,
    random_preference,
    regularized_nash,
)

STEP_GAMES, STEP_ITERATIONS = 60, 40
GAMES = {3: 200, 20: 100, 100: 20, 300: 5, 1000: 2}
LIMITS = {3: 20_000, 20: 20_000, 100: 8_000, 300: 4_000, 1000: 2_000}
TEMPERATURES = (0.02, 0.1, 0.5)
ACCURACIES = (1e-2, 1e-4, 1e-6, 1e-8)
STEPS = 2.0 ** (torch.arange(0, 97, dtype=torch.float64) / 16)  # from 1 to 64
Rows = list[tuple[object, ...]]


def prox(step: float) -> Callable[[PreferenceGame, int], Iterator[Tensor]]:
    def run(games: PreferenceGame, queries: int) -> Iterator[Tensor]:
        return (now.policy for now in nash_mirror_prox_iterates(games, queries // 2, step))

    return run


def longest(games: PreferenceGame, queries: int) -> Iterator[Tensor]:
    return prox(float(largest_step(games.temperature)))(games, queries)


def single(games: PreferenceGame, queries: int) -> Iterator[Tensor]:
    return preference_mirror_descent_iterates(games, queries)


def nash_md(games: PreferenceGame, queries: int) -> Iterator[Tensor]:
    return nash_md_iterates(games, queries)


METHODS = {
    "Nash mirror prox": (prox(2.0), 2),
    "Nash mirror prox, longest step": (longest, 2),
    "magnetic mirror descent": (single, 1),
    "Nash-MD": (nash_md, 1),
}


def random_games(actions: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    preference = random_preference(actions, generator, (count,))
    draws = torch.randn(
        count, actions, generator=generator, device=generator.device, dtype=torch.float64
    )
    return preference, draws.log_softmax(-1)


def methods(rows: Rows, actions: int, tau: float, generator: torch.Generator) -> None:
    """The rows ``reach`` and ``curve`` of one number of actions and one temperature."""
    games = PreferenceGame(*random_games(actions, GAMES[actions], generator), tau)
    star, limit = regularized_nash(games), LIMITS[actions]
    for name, (run, per_iteration) in METHODS.items():
        needed = {accuracy: torch.full((len(star),), float(limit)) for accuracy in ACCURACIES}
        head = (name, actions, tau, len(star))
        next_row = 2
        for k, policy in enumerate(run(games, limit)):
            queries, far = k * per_iteration, kl(star, policy).cpu()
            for accuracy, when in needed.items():
                when[:] = torch.where((far <= accuracy) & (when == limit), float(queries), when)
            if queries >= next_row:
                middle, worst = far.median().item(), far.max().item()
                rows.append(("curve", *head, queries, f"{middle:.4e}", f"{worst:.4e}"))
                next_row = math.ceil(next_row * 1.3)
            if far.max() < 1e-12:
                break
        for accuracy, when in needed.items():
            middle, worst = when.median().item(), when.max().item()
            rows.append(("reach", *head, accuracy, f"{middle:.0f}", f"{worst:.0f}"))


def steps(rows: Rows, name: str, preference: Tensor, reference: Tensor, tau: float) -> None:
    """The row ``step`` of some games: all steps of the grid are one batch."""
    star = regularized_nash(PreferenceGame(preference, reference, tau))
    grid = STEPS.to(preference)[:, None].expand(-1, len(star))
    games = PreferenceGame(preference.expand(len(grid), *preference.shape), reference, tau)
    good, before = torch.ones_like(grid, dtype=torch.bool), None
    for now in nash_mirror_prox_iterates(games, STEP_ITERATIONS, grid):
        far = kl(star, now.policy)
        if before is not None:
            good &= (far * (1 + grid * tau) <= before * (1 + 1e-9)) | (before < 1e-10)
        before = far
    longest_good = torch.where(good.cummin(0).values.bool(), grid, 0.0).amax(0)
    middle, worst = longest_good.median().item(), longest_good.min().item()
    rows.append((
        "step", name, preference.shape[-1], tau, len(star), STEPS.max().item(), f"{middle:.4f}",
        f"{worst:.4f}",
    ))  # fmt: skip


def main() -> None:
    """Run every cell and write the record."""
    device = default_device()
    rows: Rows = []
    for actions in GAMES:
        generator = torch.Generator(device).manual_seed(actions)
        for tau in TEMPERATURES:
            methods(rows, actions, tau, generator)
        print(f"{actions} actions: done")
    for actions in (3, 5, 11, 21):
        generator = torch.Generator(device).manual_seed(actions)
        for tau in (0.001, *TEMPERATURES):
            preference, reference = random_games(actions, STEP_GAMES, generator)
            steps(rows, "random games", preference, reference, tau)
            sure = 0.5 + 0.5 * (preference - 0.5).sign()
            steps(rows, "random tournaments", sure, reference, tau)
            ring = cyclic_preference(0.5, actions, device=device).expand(STEP_GAMES, -1, -1)
            steps(rows, "cycles", ring, reference, tau)
    print("steps: done")
    names = ("kind", "method", "actions", "temperature", "games", "at", "median", "worst")
    path = runs.write_record(
        "mirror_prox_study", {name: [row[i] for row in rows] for i, name in enumerate(names)},
        command="python benchmarks/mirror_prox_study.py", device=runs.describe_device(device),
        seeds=GAMES[3], note="preferences uniform on [0, 1], normal logits of the references",
    )  # fmt: skip
    print(path)


if __name__ == "__main__":
    main()
