"""Phase one: return to a cell, explore from there, keep what is new or better."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_extra, require_number
from mdtheory.environments.simulators import Simulator, require_simulator
from mdtheory.rl.exploration.archive import DONE, Archive, Choice, Rule, Visit, Walk

CellMap = Callable[[Any], Hashable]


class Progress(NamedTuple):
    """How far an exploration has come.

    Attributes:
        simulated: steps of the game so far.
        replayed: steps if every return had been played again from the start.
        cells: cells in the archive.
        best: highest score so far.
    """

    simulated: int
    replayed: int
    cells: int
    best: float


class Exploration(NamedTuple):
    """What :func:`go_explore` returns.

    Attributes:
        archive: the cells, with the way to each.
        curve: a point after each batch, and after each rise of the best score.
        simulated: steps of the game in all.
        replayed: steps if every return had been played again from the start.
    """

    archive: Archive
    curve: list[Progress]
    simulated: int
    replayed: int


def held_actions(
    n: int, steps: int, actions: int, hold: float, generator: torch.Generator
) -> Tensor:
    """Random actions, each held for a geometric number of steps.

    Args:
        n: sequences.
        steps: length of each.
        actions: number of actions, drawn with equal chances.
        hold: mean number of steps that a draw is held, at least 1.
        generator: source of randomness.

    Returns:
        int64, shape ``(n, steps)``.
    """
    change = torch.rand(n, steps, generator=generator, device=generator.device) < 1 / hold
    change[:, 0] = True
    fresh = torch.randint(actions, (n, steps), generator=generator, device=generator.device)
    place = torch.arange(steps, device=generator.device).expand(n, steps)
    last = torch.where(change, place, 0).cummax(1).values
    return fresh.gather(1, last)


def walk(simulator: Simulator, snapshot: Any, cell: CellMap, actions: list[int]) -> Walk:
    """Return to a state and make these actions, until they or the game are over; unchecked.

    Args:
        simulator: the game.
        snapshot: where to begin.
        cell: what counts as the same place, a function of :meth:`Simulator.view`.
        actions: what to do.

    Returns:
        What came of it; what is over is in the cell ``DONE``.
    """
    step, view, state = simulator.step, simulator.view, simulator.state
    simulator.restore(snapshot)
    best: dict[Hashable, float] = {}
    visits, gain, number, here = [], 0.0, 0, None
    for number, action in enumerate(actions, 1):
        reward, over = step(action)
        gain += reward
        if over:
            visits.append(Visit(number, DONE, None, gain))
            break
        there = cell(view())
        if there == here and not reward:
            continue
        here = there
        before = best.get(there)
        if before is None or gain > before:
            best[there] = gain
            visits.append(Visit(number, there, state(), gain))
    return Walk(actions[:number], visits)


def go_explore(
    environment: Simulator,
    cell: CellMap,
    steps: int,
    generator: torch.Generator,
    *,
    explore: int = 100,
    hold: float = 20.0,
    rule: Rule = "2021",
    batch: int = 100,
    workers: int = 1,
    on_batch: Callable[[Progress, Archive], None] | None = None,
) -> Exploration:
    """Explore a game from what was already reached: first return, then explore.

    Algorithm ``alg-go-explore``. Cells are chosen a batch at a time; walks from them are
    independent, and enter the archive in the order in which their cells were chosen, so that the
    result does not depend on how many processes make them.

    Args:
        environment: the game, which must be deterministic from a restored state.
        cell: what counts as the same place, a function of what :meth:`Simulator.view` returns.
        steps: steps of the game to make in all.
        generator: source of randomness, on the CPU.
        explore: steps of a walk at most.
        hold: mean number of steps that a random action is held, at least 1.
        rule: how cells are chosen, see :func:`selection_weights`.
        batch: cells chosen before the archive changes.
        workers: processes that make walks, through joblib; game and cells must then be picklable.
        on_batch: called after each batch with how far it has come, and the archive.

    Returns:
        Archive, curve, and the steps by both counts. ``steps`` are made exactly.

    Raises:
        ImportError: more than one worker without joblib.
        TypeError: ``environment`` is no simulator.
        ValueError: a number out of range, or an unknown rule.

    Source:
        Ecoffet et al. (2019), section 2.1; Ecoffet et al. (2021).
    """
    require_simulator("environment", environment)
    for name, value in (("steps", steps), ("explore", explore), ("batch", batch),
                        ("workers", workers)):  # fmt: skip
        require_count(name, value)
    require_number("hold", hold, 1.0)
    environment.reset()
    archive = Archive(cell(environment.view()), environment.state(), rule)
    curve = [Progress(0, 0, 1, 0.0)]
    simulated = replayed = 0
    best = 0.0
    run = _walker(environment, cell, workers)
    while simulated < steps:
        left = steps - simulated
        length = min(explore, left)
        choices = archive.select(generator, min(batch, max(1, left // length)))
        plans = held_actions(len(choices), length, environment.actions, hold, generator).tolist()
        for choice, trip in zip(choices, run(choices, plans), strict=True):
            replayed += choice.length
            archive.record(choice, trip)
            for visit in trip.visits:
                if choice.score + visit.gain > best:
                    best, at = choice.score + visit.gain, visit.step
                    curve.append(Progress(simulated + at, replayed + at, len(archive), best))
            simulated += len(trip.actions)
            replayed += len(trip.actions)
        curve.append(Progress(simulated, replayed, len(archive), best))
        if on_batch is not None:
            on_batch(curve[-1], archive)
    return Exploration(archive, curve, simulated, replayed)


def _walker(
    environment: Simulator, cell: CellMap, workers: int
) -> Callable[[list[Choice], list[list[int]]], list[Walk]]:
    """What makes the walks of a batch, here or in other processes."""
    if workers == 1:
        return lambda choices, plans: _walks(environment, cell, choices, plans)
    joblib = require_extra("joblib", "notebooks")

    def run(choices: list[Choice], plans: list[list[int]]) -> list[Walk]:
        shares = [
            joblib.delayed(_walks)(environment, cell, choices[k::workers], plans[k::workers])
            for k in range(min(workers, len(choices)))
        ]
        walks: list[Walk] = [Walk([], [])] * len(choices)
        for k, share in enumerate(joblib.Parallel(n_jobs=workers)(shares)):
            walks[k::workers] = share
        return walks

    return run


def _walks(
    environment: Simulator, cell: CellMap, choices: list[Choice], plans: list[list[int]]
) -> list[Walk]:
    return [
        walk(environment, choice.snapshot, cell, plan)
        for choice, plan in zip(choices, plans, strict=True)
    ]
