"""What does not return: random play, and values with a bonus for what was seldom seen."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mdtheory.checks import require_count, require_number
from mdtheory.environments.simulators import Simulator, require_simulator
from mdtheory.rl.exploration.explore import CellMap, Progress, held_actions

BLOCK = 4096  # random numbers drawn at once


class Play(NamedTuple):
    """What a rival leaves behind.

    Attributes:
        curve: how far it had come, after each episode.
        cells: cells that it saw, in the order in which it found them.
    """

    curve: list[Progress]
    cells: list[object]


def random_play(
    environment: Simulator,
    cell: CellMap,
    steps: int,
    generator: torch.Generator,
    *,
    hold: float = 20.0,
    limit: int = 4500,
) -> Play:
    """Random actions, held as in :func:`go_explore`, every episode from the start.

    Args:
        environment: the game.
        cell: what counts as the same place.
        steps: steps of the game in all.
        generator: source of randomness, on the CPU.
        hold: mean number of steps that an action is held.
        limit: steps of an episode at most.

    Returns:
        What it saw.

    Raises:
        TypeError: ``environment`` is no simulator.
        ValueError: a number out of range.
    """
    require_simulator("environment", environment)
    for name, value in (("steps", steps), ("limit", limit)):
        require_count(name, value)
    require_number("hold", hold, 1.0)
    seen: dict[object, None] = {}
    curve, done, best = [Progress(0, 0, 1, 0.0)], 0, 0.0
    while done < steps:
        environment.reset()
        seen.setdefault(cell(environment.view()))
        plan = held_actions(1, min(limit, steps - done), environment.actions, hold, generator)
        score, over = 0.0, False
        for action in plan[0].tolist():
            reward, over = environment.step(action)
            done += 1
            score += reward
            if score > best:
                best = score
                curve.append(Progress(done, done, len(seen), best))
            if over:
                break
            seen.setdefault(cell(environment.view()))
        curve.append(Progress(done, done, len(seen), best))
    return Play(curve, list(seen))


def count_bonus(
    environment: Simulator,
    cell: CellMap,
    steps: int,
    generator: torch.Generator,
    *,
    bonus: float = 0.1,
    rate: float = 0.2,
    discount: float = 0.99,
    random: float = 0.0,
    patience: int = 1,
    limit: int = 4500,
    optimism: float | None = None,
    sign: bool = False,
) -> Play:
    r"""Q-learning on cells with a reward for what was seldom seen; episodes from the start.

    Equation ``eq-count-bonus``: to the reward comes :math:`\beta / \sqrt{N(c, a)}`, where ``N``
    counts how often the action was taken in the cell.

    Args:
        environment: the game.
        cell: what the values depend on; the value of a cell is the same wherever in it one is.
        steps: steps of the game in all.
        generator: source of randomness, on the CPU.
        bonus: :math:`\beta`, 0 for none.
        rate: of learning, in (0, 1].
        discount: :math:`\gamma`, in [0, 1).
        random: chance of a random action.
        patience: steps that an action is held while the cell stays the same.
        limit: steps of an episode at most.
        optimism: first value of every action; by default :math:`\beta / (1 - \gamma)`, as if every
            step to come were the first. With 0 the learner stays with the first action that it
            tries, whose bonus is above it.
        sign: whether the values see only the sign of the game's reward.

    Returns:
        What it saw.

    Raises:
        TypeError: ``environment`` is no simulator.
        ValueError: a number out of range.

    Source:
        Strehl and Littman (2008), the bonus; Watkins and Dayan (1992), the learner.
    """
    require_simulator("environment", environment)
    for name, count in (("steps", steps), ("patience", patience), ("limit", limit)):
        require_count(name, count)
    require_number("bonus", bonus, 0.0)
    for name, number in (("rate", rate), ("random", random)):
        if require_number(name, number, 0.0) > 1:
            raise ValueError(f"{name}: expected a number in [0, 1], got {number!r}")
    if require_number("discount", discount, 0.0) >= 1:
        raise ValueError(f"discount: expected a number in [0, 1), got {discount!r}")
    if optimism is None:
        optimism = bonus / (1 - discount)
    actions = environment.actions
    values: dict[object, list[float]] = {}
    counts: dict[object, list[int]] = {}
    curve, done, best = [Progress(0, 0, 1, 0.0)], 0, 0.0
    draws: list[float] = []
    while done < steps:
        environment.reset()
        here = cell(environment.view())
        score, age, over = 0.0, 0, False
        while not over and age < limit and done < steps:
            if here not in values:
                values[here], counts[here] = [optimism] * actions, [0] * actions
            if len(draws) < 2:
                draws = torch.rand(BLOCK, generator=generator).tolist()
            value, first = values[here], draws.pop()
            most = max(value)
            choices = [a for a in range(actions) if value[a] == most]
            if first < random:
                choices = list(range(actions))
            action = choices[int(draws.pop() * len(choices)) if len(choices) > 1 else 0]
            gain, weight, there = 0.0, 1.0, here
            for _ in range(patience):
                reward, over = environment.step(action)
                done, age, score = done + 1, age + 1, score + reward
                gain += weight * ((reward > 0) - (reward < 0) if sign else reward)
                weight *= discount
                if score > best:
                    best = score
                    curve.append(Progress(done, done, len(values), best))
                if over or age >= limit or done >= steps:
                    break
                there = cell(environment.view())
                if there != here:
                    break
            counts[here][action] += 1
            ahead = 0.0 if over else weight * max(values.get(there, [optimism]))
            target = gain + bonus / counts[here][action] ** 0.5 + ahead
            value[action] += rate * (target - value[action])
            here = there
        curve.append(Progress(done, done, len(values), best))
    return Play(curve, list(values))
