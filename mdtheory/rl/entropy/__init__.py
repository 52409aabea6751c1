"""EPO: a bonus on entropy that is smoothed towards its own past, for agents of many turns.

The chapter 'Entropy' derives what stands here: the loss and its parts (``smoothing``), what it
does while no reward arrives (``silence``), the right-hand sides of the theorems (``bounds``), a
world whose optimum is known exactly (``lock_chain``), rooms of MiniGrid as tables (``grid``), and
training in both (``training``).
"""

from mdtheory.rl.entropy import bounds
from mdtheory.rl.entropy.grid import GridRooms
from mdtheory.rl.entropy.lock_chain import LockChain, Optimum, TurnWorld
from mdtheory.rl.entropy.silence import SilentRecord, entropy_gradient, silent_flow
from mdtheory.rl.entropy.smoothing import (
    corridor_penalty,
    epo_loss,
    net_coefficient,
    phase_weight,
    trajectory_entropy,
)
from mdtheory.rl.entropy.training import (
    Mode,
    MultiTurnRecord,
    TokenPolicy,
    train_multi_turn,
)

__all__ = [
    "GridRooms",
    "LockChain",
    "Mode",
    "MultiTurnRecord",
    "Optimum",
    "SilentRecord",
    "TokenPolicy",
    "TurnWorld",
    "bounds",
    "corridor_penalty",
    "entropy_gradient",
    "epo_loss",
    "net_coefficient",
    "phase_weight",
    "silent_flow",
    "train_multi_turn",
    "trajectory_entropy",
]
