"""Processes to try things on: random ones, grids, and the tables of Gymnasium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.rl.policy_mirror_descent import sparse as sparse_rows
from mdtheory.rl.policy_mirror_descent.mdp import TabularMDP

F64 = torch.float64
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up, as in Gymnasium


def garnet(
    states: int,
    actions: int,
    branching: int,
    discount: float,
    generator: torch.Generator,
    batch: int | tuple[int, ...] = (),
    *,
    dtype: torch.dtype = F64,
    sparse: bool = False,
) -> TabularMDP:
    """Random processes without structure, the usual test bed.

    From every state and action lead ``branching`` ways, to different states drawn at random; their
    probabilities are the gaps that uniform cuts leave in the unit interval. Rewards are uniform in
    [0, 1].

    Args:
        states: number of states.
        actions: number of actions.
        branching: number of possible next states, at most ``states``.
        discount: in [0, 1).
        generator: source of the randomness; the tensors are made on its device.
        batch: leading axes, one process for each entry; a number is one axis.
        dtype: of the tensors.
        sparse: one process with a sparse transition matrix; needs an empty ``batch``.

    Returns:
        The processes.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a count below 1, more ways than states, or a batch of sparse processes.

    Source:
        Archibald, McKinnon and Thomas (1995); the variant with uniform cuts.
    """
    require_count("states", states)
    require_count("actions", actions)
    if require_count("branching", branching) > states:
        raise ValueError(f"branching: expected at most {states} states, got {branching!r}")
    _require_generator(generator)
    batch = (batch,) if isinstance(batch, int) else tuple(batch)
    if sparse and batch:
        raise ValueError(f"batch: expected () for a sparse process, got {batch!r}")
    device = generator.device
    shape = (*batch, states, actions, branching)
    rows = 1
    for length in shape[:-1]:
        rows *= require_count("batch", length)
    targets = _distinct(rows, states, branching, generator).reshape(shape)
    cuts = torch.rand((*shape[:-1], branching - 1), generator=generator, device=device, dtype=F64)
    cuts = cuts.sort(-1).values
    ends = cuts.new_zeros((*shape[:-1], 1)), cuts.new_ones((*shape[:-1], 1))
    chances = torch.cat([ends[0], cuts, ends[1]], -1).diff(dim=-1).to(dtype)
    reward = torch.rand(shape[:-1], generator=generator, device=device, dtype=F64).to(dtype)
    if sparse:
        starts = torch.arange(0, rows * branching + 1, branching, device=device)
        transition = sparse_rows.csr(
            starts, targets.flatten(), chances.flatten(), (states * actions, states)
        )
    else:
        transition = chances.new_zeros((*shape[:-1], states)).scatter_(-1, targets, chances)
    return TabularMDP(transition, reward, discount)


def gridworld(
    rows: Sequence[str], discount: float, *, slip: float = 0.0, dtype: torch.dtype = F64
) -> TabularMDP:
    """A walk on a map of characters: left, down, right, up.

    ``G`` is the goal: entering it gives 1 and ends the walk. ``H`` is a hole, which ends the walk
    without a reward. ``#`` is a wall; walking into it or off the map leaves one in place. All other
    characters are floor. Every cell is a state, in reading order, and the last state is the end,
    where nothing happens any more.

    Args:
        rows: lines of equal length, one character a cell.
        discount: in [0, 1).
        slip: probability of going to either side of where one wanted, half of it to each.
        dtype: of the tensors.

    Returns:
        One process with ``len(rows) * len(rows[0]) + 1`` states and 4 actions.

    Raises:
        TypeError: ``rows`` holds something other than texts.
        ValueError: no cells, lines of different lengths, or a slip outside [0, 1].
    """
    if isinstance(rows, str) or not all(isinstance(row, str) for row in rows):
        raise TypeError(f"rows: expected a sequence of texts, got {rows!r}")
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(f"rows: expected lines of one length, got {rows!r}")
    if require_number("slip", slip, 0.0) > 1:
        raise ValueError(f"slip: expected a number in [0, 1], got {slip!r}")
    height, width = len(rows), len(rows[0])
    end = height * width
    transition = torch.zeros(end + 1, 4, end + 1, dtype=dtype)
    reward = torch.zeros(end + 1, 4, dtype=dtype)
    transition[end, :, end] = 1

    def arrive(line: int, column: int, move: tuple[int, int]) -> int:
        to_line, to_column = line + move[0], column + move[1]
        inside = 0 <= to_line < height and 0 <= to_column < width
        if not inside or rows[to_line][to_column] == "#":
            return line * width + column
        return to_line * width + to_column

    for state in range(end):
        line, column = divmod(state, width)
        if rows[line][column] in "GH#":
            transition[state, :, end] = 1
            continue
        for action in range(4):
            chances = (1 - slip, slip / 2, slip / 2)
            for turn, chance in zip((0, 1, 3), chances, strict=True):
                target = arrive(line, column, MOVES[(action + turn) % 4])
                goes_on = rows[target // width][target % width] not in "GH"
                transition[state, action, target if goes_on else end] += chance
                if rows[target // width][target % width] == "G":
                    reward[state, action] += chance
    return TabularMDP(transition, reward, discount)


def from_gymnasium(environment: Any, discount: float) -> tuple[TabularMDP, Tensor]:
    """The table of an environment of Gymnasium's toy-text family, with its initial states.

    These environments (FrozenLake, Taxi, CliffWalking) know their own model:
    ``environment.unwrapped.P[state][action]`` lists what can happen as
    ``(probability, next state, reward, terminated)``. One state is added, the end: what has
    terminated goes there, whatever next state is written down, and earns nothing more. So what the
    table says about life after the end plays no part.

    Args:
        environment: made by ``gymnasium.make``.
        discount: in [0, 1).

    Returns:
        One process in float64, and the law of its first state, shape ``(S,)``; ``S`` is one more
        than the environment has.

    Raises:
        TypeError: the environment has no table.
        ValueError: the probabilities of the table do not sum to 1.
    """
    inner = getattr(environment, "unwrapped", environment)
    table = getattr(inner, "P", None)
    start = getattr(inner, "initial_state_distrib", None)
    if table is None or start is None:
        raise TypeError(
            "environment: expected one with a table P and an initial_state_distrib, got "
            f"{type(inner).__name__}"
        )
    states, actions = len(table), len(table[0])
    end = states
    transition = torch.zeros(states + 1, actions, states + 1, dtype=F64)
    reward = torch.zeros(states + 1, actions, dtype=F64)
    transition[end, :, end] = 1
    for state in range(states):
        for action in range(actions):
            for chance, target, gain, terminated in table[state][action]:
                transition[state, action, end if terminated else int(target)] += float(chance)
                reward[state, action] += float(chance) * float(gain)
    initial = torch.zeros(states + 1, dtype=F64)
    initial[:states] = torch.as_tensor([float(chance) for chance in start], dtype=F64)
    return TabularMDP(transition, reward, discount), initial


def _distinct(rows: int, states: int, branching: int, generator: torch.Generator) -> Tensor:
    """Uniform subsets of the states, sorted, shape ``(rows, branching)``."""
    device = generator.device
    if branching * branching > states:
        keys = torch.rand(rows, states, generator=generator, device=device)
        return keys.argsort(-1)[:, :branching].sort(-1).values
    # Few ways among many states: draw with repetition, and draw again the rows that repeat.
    chosen = torch.randint(states, (rows, branching), generator=generator, device=device)
    while True:
        chosen = chosen.sort(-1).values
        again = (chosen.diff(dim=-1) == 0).any(-1)
        left = int(again.sum())
        if left == 0:
            return chosen
        chosen[again] = torch.randint(states, (left, branching), generator=generator, device=device)


def _require_generator(generator: object) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator: expected a torch.Generator, got {type(generator).__name__}")
