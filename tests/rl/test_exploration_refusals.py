"""What the chapter's functions refuse, by the argument's name."""

import math

import pytest
import torch

from mdtheory.environments import CartPole
from mdtheory.rl import exploration as ex

F64 = torch.float64
LOCK = ex.CombinationLock(3, 2)
WAY = LOCK.combination.tolist()
SEEN = torch.zeros(4, dtype=F64)
IMAGE = torch.zeros(6, 5, dtype=torch.uint8)
MDP = LOCK.mdp(0.9)


def gen():
    return torch.Generator().manual_seed(0)


def explore(**more):
    given = {"environment": LOCK, "cell": int, "steps": 10, "generator": gen()} | more
    return ex.go_explore(**given)


def robust(**more):
    given = {"environment": LOCK, "demonstrations": [WAY], "generator": gen(), "steps": 10} | more
    return ex.robustify(**given)


def count(**more):
    return ex.count_bonus(LOCK, int, 10, gen(), **more)


VALUES = {
    "rule": [
        lambda: ex.selection_weights(SEEN, rule="2020"),
        lambda: ex.Archive("a", 0, "best"),
        lambda: explore(rule="2020"),
        lambda: ex.simulate_lock(2, 2, 1, gen(), rule="best"),
    ],
    "seen": [
        lambda: ex.selection_weights(SEEN - 1),
        lambda: ex.selection_weights(SEEN * torch.nan),
    ],
    "chosen": [lambda: ex.selection_weights(SEEN, SEEN[:2])],
    "since_new": [lambda: ex.selection_weights(SEEN, SEEN, SEEN - 1)],
    "level": [lambda: ex.selection_weights(SEEN, level=SEEN[:1], rule="2019")],
    "neighbours": [
        lambda: ex.selection_weights(SEEN, neighbours=torch.ones(4, 5), rule="2019"),
        lambda: ex.selection_weights(SEEN, neighbours=torch.ones(4, 2).bool(), rule="2019"),
    ],
    "count_weights": [lambda: ex.selection_weights(SEEN, count_weights=(0, 0, -1), rule="2019")],
    "n": [lambda: ex.Archive("a", 0).select(gen(), 0)],
    "node": [lambda: ex.Archive("a", 0).path(3), lambda: ex.Archive("a", 0).path(-1)],
    "steps": [lambda: explore(steps=0), lambda: robust(steps=0),
              lambda: ex.random_play(LOCK, int, 0, gen()), lambda: ex.derailment(-1, 0.1)],
    "explore": [lambda: explore(explore=0), lambda: ex.lock_trials(2, 2, 0)],
    "hold": [lambda: explore(hold=0.5), lambda: ex.random_play(LOCK, int, 9, gen(), hold=0.0)],
    "batch": [lambda: explore(batch=0)],
    "workers": [lambda: explore(workers=0)],
    "image": [lambda: ex.downscale(torch.full((3, 3), 256)), lambda: ex.downscale(IMAGE[0])],
    "width": [lambda: ex.downscale(IMAGE, 0)],
    "height": [lambda: ex.downscale(IMAGE, 2, 0)],
    "depth": [lambda: ex.downscale(IMAGE, 2, 2, 256), lambda: ex.CombinationLock(0, 2),
              lambda: ex.lock_trials(2, 0, 1)],
    "cells": [lambda: ex.split_score([])],
    "fraction": [lambda: ex.split_score([1], 0.0), lambda: ex.split_score([1], 1.5)],
    "images": [lambda: ex.choose_cell_size(IMAGE, gen())],
    "tries": [lambda: ex.choose_cell_size(IMAGE[None], gen(), tries=-1)],
    "actions": [lambda: ex.CombinationLock(2, 1), lambda: ex.lock_trials(1, 2, 1),
                lambda: ex.replay_chances(LOCK, [], 0.1), lambda: ex.replay_chances(LOCK, [7], 0.1),
                lambda: ex.replay_chances(LOCK, [*WAY, 0], 0.1)],
    "runs": [lambda: ex.simulate_lock(2, 2, 1, gen(), runs=0)],
    "step_size": [lambda: ex.lock_descent(2, 2, 0.0, 3), lambda: robust(step_size=0.0)],
    "iterations": [lambda: ex.lock_descent(2, 2, 1.0, -1)],
    "rooms": [lambda: ex.KeyDoorMaze(rooms=1)],
    "side": [lambda: ex.KeyDoorMaze(side=1)],
    "keys": [lambda: ex.KeyDoorMaze(rooms=2, keys=3)],
    "deadly": [lambda: ex.KeyDoorMaze(deadly=1.0), lambda: ex.KeyDoorMaze(deadly=-0.1)],
    "limit": [lambda: ex.KeyDoorMaze(2, 3, 1, limit=0), lambda: robust(limit=0),
              lambda: count(limit=0), lambda: ex.random_play(LOCK, int, 9, gen(), limit=0)],
    "p": [lambda: LOCK.sticky(1.5)],
    "next": [lambda: ex.TableGame(LOCK.next, LOCK.reward[:2], LOCK.end),
             lambda: ex.TableGame(LOCK.next + 5, LOCK.reward, LOCK.end)],
    "demonstrations": [lambda: robust(demonstrations=[]), lambda: ex.BackwardGame(LOCK, [])],
    "sticky": [lambda: robust(sticky=1.0), lambda: ex.StickyGame(LOCK, -0.1),
               lambda: ex.replay_chances(LOCK, WAY, 1.1),
               lambda: ex.BackwardGame(LOCK, [WAY], 1.0)],
    "threshold": [lambda: robust(threshold=0.0), lambda: robust(threshold=1.1),
                  lambda: ex.BackwardGame(LOCK, [WAY], threshold=0.0)],
    "window": [lambda: robust(window=0), lambda: ex.BackwardGame(LOCK, [WAY], window=0)],
    "back": [lambda: robust(back=0), lambda: ex.BackwardGame(LOCK, [WAY], back=0)],
    "trials": [lambda: ex.BackwardGame(LOCK, [WAY], trials=0)],
    "episodes": [lambda: robust(episodes=0)],
    "discount": [lambda: robust(discount=1.0), lambda: count(discount=1.0)],
    "bonus": [lambda: count(bonus=-1.0)],
    "rate": [lambda: count(rate=1.5)],
    "random": [lambda: count(random=-0.5)],
    "patience": [lambda: count(patience=0)],
    "slip": [lambda: ex.derailment(3, 1.5)],
    "law": [lambda: ex.policy_slope(MDP, MDP.uniform_policy(), torch.ones(4, dtype=F64))],
}  # fmt: skip
TYPES = {
    "explore": [lambda: ex.lock_trials(2, 2, 1.5), lambda: ex.lock_lower_bound(2, 2, -math.inf)],
    "environment": [lambda: explore(environment=CartPole()), lambda: robust(environment=CartPole()),
                    lambda: ex.random_play(3, int, 9, gen()),
                    lambda: ex.count_bonus(CartPole(), int, 9, gen())],
    "game": [lambda: ex.StickyGame(CartPole()), lambda: ex.replay_chances(3, WAY, 0.1)],
    "image": [lambda: ex.downscale(torch.rand(3, 3)),
              lambda: ex.downscale(torch.ones(3, 3, dtype=torch.bool))],
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "name", "call"),
    [(error, name, call)
     for error, table in ((ValueError, VALUES), (TypeError, TYPES))
     for name, calls in table.items() for call in calls],
)  # fmt: skip
def test_refuses(error, name, call):
    with pytest.raises(error, match=name):
        call()


def test_a_maze_without_a_way_is_refused():
    with pytest.raises(ValueError, match="deadly"):
        ex.KeyDoorMaze(2, 4, 2, 0.999, gen())


def test_what_comes_back_is_the_callers():
    actions = [0, 1, 1]
    walk = ex.walk(LOCK, 0, int, actions)
    assert walk.actions is not actions
    table = LOCK.sticky(0.1)
    table.reward.zero_()
    assert LOCK.reward.sum() == 1
