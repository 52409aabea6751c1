"""A public environment as a world of turns: rooms of MiniGrid with a key and a door, as tables."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_extra, require_tensor

ACTIONS = 6  # left, right, forward, pick up, drop, toggle; MiniGrid's seventh does nothing
OBJECTS, STATES = 11, 3  # kinds of cells and states of doors, as MiniGrid numbers them


class GridRooms:
    """Rooms of MiniGrid, such as DoorKey, explored once and played as tables ever after.

    An agent sees the cells before it, takes the key, opens the door, and reaches the goal, which
    is paid 1 once; a turn is one token, one of six actions. The rooms' own program says what each
    action does in each state that can be reached, and nothing else of it is used: the tables are
    its rules, so episodes are tensor programs and success is exact.

    Args:
        seeds: number of worlds side by side, each with its own layouts.
        layouts: layouts of each; a group of episodes begins in one of them.
        turns: turns in an episode.
        name: an environment of MiniGrid whose only reward is that of the goal.
        first_layout: which layouts they are, counted from here.

    Raises:
        ImportError: MiniGrid is not installed.
        TypeError: a number is no whole number.
        ValueError: a number is too small.

    Attributes:
        features: what is seen: kind and state of each cell of the view and the direction, one-hot,
            where they vary; float32, shape ``(seeds, contexts, inputs)``.
        following: the next state of each action, ``(seeds, contexts, 6)``.
        reached: whether the action reaches the goal, bool, likewise.
    """

    tokens: tuple[int, ...] = (ACTIONS,)

    def __init__(
        self,
        seeds: int,
        layouts: int,
        turns: int,
        name: str = "MiniGrid-DoorKey-5x5-v0",
        *,
        first_layout: int = 0,
    ) -> None:
        self.seeds, self.turns = require_count("seeds", seeds), require_count("turns", turns)
        require_count("layouts", layouts)
        require_extra("minigrid", "agents")
        gymnasium = require_extra("gymnasium", "notebooks")
        # MiniGrid registers its environments under its own name.
        environment = gymnasium.make(f"minigrid:{name}").unwrapped
        worlds = [
            [_explore(environment, first_layout + seed * layouts + k) for k in range(layouts)]
            for seed in range(seeds)
        ]
        environment.close()
        most = max(sum(len(part[0]) for part in parts) for parts in worlds)
        everything = torch.cat([part[0] for parts in worlds for part in parts])
        # What is the same in every view says nothing.
        varies = everything.amax(0) > everything.amin(0)
        self.features = torch.zeros(seeds, most, int(varies.sum()))
        self.following = torch.zeros(seeds, most, ACTIONS, dtype=torch.int64)
        self.reached = torch.zeros(seeds, most, ACTIONS, dtype=torch.bool)
        self.first = torch.zeros(seeds, layouts, dtype=torch.int64)
        for seed, parts in enumerate(worlds):
            begin = 0
            for k, (seen, following, reached) in enumerate(parts):
                end = begin + len(seen)
                self.features[seed, begin:end] = seen[:, varies]
                self.following[seed, begin:end] = following + begin
                self.reached[seed, begin:end] = reached
                self.first[seed, k] = begin
                begin = end

    def start(self, groups: int, generator: torch.Generator) -> Tensor:
        """First contexts: a layout for each group.

        Args:
            groups: number of groups.
            generator: source of the layouts, on the CPU.

        Returns:
            Contexts, int64, shape ``(seeds, groups)``.
        """
        layouts = self.first.shape[1]
        drawn = torch.randint(layouts, (self.seeds, groups), generator=generator)
        return self.first.gather(1, drawn)

    def step(self, context: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """One turn everywhere; unchecked.

        Args:
            context: int64, shape ``(..., seeds, episodes)``.
            action: int64, same shape.

        Returns:
            The next contexts, and whether the goal was reached.
        """
        seed = torch.arange(self.seeds)[:, None]
        return self.following[seed, context, action], self.reached[seed, context, action]

    def success(self, log_policy: Tensor) -> Tensor:
        """Probability that a policy reaches the goal in time, by dynamic programming: exact.

        Args:
            log_policy: log-probabilities of the actions, ``(..., seeds, contexts, 6)``.

        Returns:
            The mean over layouts, shape ``(..., seeds)``.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: the shape does not fit.
        """
        require_tensor("log_policy", log_policy)
        if log_policy.shape[-3:] != self.following.shape:
            raise ValueError(
                f"log_policy: expected shape (..., {', '.join(map(str, self.following.shape))}), "
                f"got {tuple(log_policy.shape)}"
            )
        law = log_policy.exp()
        ahead = torch.zeros_like(law[..., 0])
        index = self.following.flatten(1).expand(*ahead.shape[:-1], -1)
        for _ in range(self.turns):
            after = ahead.gather(-1, index).unflatten(-1, law.shape[-2:])
            ahead = (law * torch.where(self.reached, 1.0, after)).sum(-1)
        first = self.first.expand(*ahead.shape[:-1], -1)
        return ahead.gather(-1, first).mean(-1)

    def shortest(self) -> Tensor:
        """Turns that the best policy needs from each first state, by dynamic programming.

        Returns:
            Whole numbers, shape ``(seeds, layouts)``; more than there are states if there is no
            way.
        """
        count = self.following.shape[1]
        away = torch.full(self.following.shape[:2], count + 1)
        index = self.following.flatten(1)
        while True:
            after = away.gather(1, index).unflatten(1, self.following.shape[1:])
            better = torch.minimum(away, 1 + torch.where(self.reached, 0, after).amin(-1))
            if torch.equal(better, away):
                return away.gather(1, self.first)
            away = better


def _explore(environment: Any, layout: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every state that can be reached: what is seen, and what each action does."""
    environment.reset(seed=layout)
    environment.max_steps = 2**31
    waiting = [_kept(environment)]
    places = {_name(environment): 0}
    seen, following, reached = [], [], []
    at = 0
    while at < len(waiting):
        state, waiting[at] = waiting[at], ()
        _put(environment, state)
        seen.append(_seen(environment.gen_obs()))
        row, won = [], []
        for action in range(ACTIONS):
            _put(environment, state)
            _, reward, done, _, _ = environment.step(action)
            won.append(bool(done) and reward > 0)
            name = _name(environment)
            if name not in places:
                places[name] = len(waiting)
                waiting.append(_kept(environment))
            row.append(places[name])
        following.append(row)
        reached.append(won)
        at += 1
    return torch.stack(seen), torch.tensor(following), torch.tensor(reached)


def _kept(environment: Any) -> Any:
    """All that changes from turn to turn, in memory of its own."""
    parts = environment.grid, environment.agent_pos, environment.agent_dir, environment.carrying
    return copy.deepcopy(parts)


def _put(environment: Any, state: Any) -> None:
    parts = copy.deepcopy(state)
    environment.grid, environment.agent_pos, environment.agent_dir, environment.carrying = parts
    environment.step_count = 0


def _name(environment: Any) -> tuple[Any, ...]:
    carried = environment.carrying
    return (
        tuple(int(x) for x in environment.agent_pos), int(environment.agent_dir),
        None if carried is None else carried.encode(), environment.grid.encode().tobytes(),
    )  # fmt: skip


def _seen(observation: Any) -> Tensor:
    """Kind and state of each cell, and the direction, as numbers 0 and 1."""
    image = torch.as_tensor(observation["image"]).long()
    one_hot = torch.nn.functional.one_hot
    parts = [
        one_hot(image[..., 0], OBJECTS).flatten(), one_hot(image[..., 2], STATES).flatten(),
        one_hot(torch.tensor(int(observation["direction"])), 4),
    ]  # fmt: skip
    return torch.cat(parts).float()
