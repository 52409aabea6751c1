"""Exploration: first return, then explore, and make what was found stand noise.

The chapter 'Exploration' derives what stands here: cells (``cells``), the archive (``archive``),
phase one (``explore``) and what does not return (``rivals``), the combination lock (``lock``),
games as tables (``tables``) and a maze of keys and doors (``maze``), what a return is worth
(``returns``), and phase two (``robust``, ``curriculum``).
"""

from mdtheory.rl.exploration.archive import (
    DONE,
    RULES,
    Archive,
    Choice,
    Visit,
    Walk,
    selection_weights,
)
from mdtheory.rl.exploration.cells import CellSize, choose_cell_size, downscale, split_score
from mdtheory.rl.exploration.curriculum import BackwardGame, StickyGame, tabulate
from mdtheory.rl.exploration.explore import Exploration, Progress, go_explore, held_actions, walk
from mdtheory.rl.exploration.lock import (
    CombinationLock,
    gradient_bound,
    lock_descent,
    lock_lower_bound,
    lock_recursion,
    lock_trials,
    lock_variance,
    mirror_bound,
    simulate_lock,
)
from mdtheory.rl.exploration.maze import KeyDoorMaze
from mdtheory.rl.exploration.returns import (
    action_changes,
    derailment,
    policy_slope,
    replay_chances,
)
from mdtheory.rl.exploration.rivals import Play, count_bonus, random_play
from mdtheory.rl.exploration.robust import Robust, move_back, robustify
from mdtheory.rl.exploration.tables import TableGame

__all__ = [
    "DONE",
    "RULES",
    "Archive",
    "BackwardGame",
    "CellSize",
    "Choice",
    "CombinationLock",
    "Exploration",
    "KeyDoorMaze",
    "Play",
    "Progress",
    "Robust",
    "StickyGame",
    "TableGame",
    "Visit",
    "Walk",
    "action_changes",
    "choose_cell_size",
    "count_bonus",
    "derailment",
    "downscale",
    "go_explore",
    "gradient_bound",
    "held_actions",
    "lock_descent",
    "lock_lower_bound",
    "lock_recursion",
    "lock_trials",
    "lock_variance",
    "mirror_bound",
    "move_back",
    "policy_slope",
    "random_play",
    "replay_chances",
    "robustify",
    "selection_weights",
    "simulate_lock",
    "split_score",
    "tabulate",
    "walk",
]
