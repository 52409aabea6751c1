"""Operations of the archive in the maze, and steps of the whole of phase one.

``python benchmarks/bench_exploration.py`` prints rates of this machine; ``pytest
benchmarks/bench_exploration.py`` times them with pytest-benchmark. No package that installs has an
archive of this kind, so a bare dictionary with the same rule, without nodes, counts and choices,
stands beside it as the least that can be done.

An operation is a way offered to the archive: looked up, compared, counted, and kept or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from mdtheory.rl.exploration import Archive, KeyDoorMaze, go_explore, held_actions, walk

WALKS, LENGTH, STEPS, REPEATS = 2000, 50, 50_000, 5
MAZE = KeyDoorMaze(3, 5, 3, 0.18, torch.Generator().manual_seed(0))


def recorded() -> list[tuple[Any, Any]]:
    """Walks from cells of an archive that has grown."""
    generator = torch.Generator().manual_seed(1)
    archive = go_explore(MAZE, MAZE.pixel_cell, 40_000, generator, explore=50, hold=4.0).archive
    choices = archive.select(generator, WALKS)
    plans = held_actions(WALKS, LENGTH, 4, 4.0, generator).tolist()
    return [
        (choice, walk(MAZE, choice.snapshot, MAZE.pixel_cell, plan))
        for choice, plan in zip(choices, plans, strict=True)
    ]


def offer(walks: list[tuple[Any, Any]]) -> Archive:
    """All walks into a new archive, with whose start every choice agrees."""
    archive = Archive(MAZE.pixel_cell(0), 0)
    for choice, trip in walks:
        archive.record(choice._replace(place=0), trip)
    return archive


def bare(walks: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The rule alone: the best pair for each cell."""
    best: dict[Any, Any] = {}
    for choice, trip in walks:
        for step, cell, snapshot, gain in trip.visits:
            way = (choice.score + gain, -(choice.length + step))
            if cell not in best or way > best[cell][0]:
                best[cell] = way, snapshot
    return best


def explore() -> Any:
    """Phase one as the chapter runs it."""
    generator = torch.Generator().manual_seed(2)
    return go_explore(MAZE, MAZE.pixel_cell, STEPS, generator, explore=LENGTH, hold=4.0, batch=10)


def fastest(function: Callable[[], Any]) -> float:
    """Least CPU time of some calls, seconds."""
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return min(times)


def test_record(benchmark: Any) -> None:
    walks = recorded()
    benchmark(offer, walks)


def test_explore(benchmark: Any) -> None:
    benchmark.pedantic(explore, rounds=3)


def main() -> None:
    """Print the rates."""
    walks = recorded()
    offered = sum(len(trip.visits) for _, trip in walks)
    record, least, whole = (
        fastest(f) for f in (lambda: offer(walks), lambda: bare(walks), explore)
    )
    print(f"ways offered to the archive a second: {offered / record:,.0f} ({offered} in all)")
    print(f"a bare dictionary: {offered / least:,.0f}; ratio {record / least:.1f}")
    print(f"steps of phase one a second, everything included: {STEPS / whole:,.0f}")
    assert offered / record > 100_000


if __name__ == "__main__":
    main()
