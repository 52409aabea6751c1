"""Planning when the decision is due: search as one mirror step from a blueprint.

The chapter 'Decision-time planning' derives what stands here: games with a common payoff as lists
of their ends (``common_payoff``, ``ends``), the smallest of them (``tiny``), the searches
(``search``), the right-hand sides of the theorems (``bounds``), and a small Hanabi for thousands of
games at once (``hanabi``, ``beliefs``, ``playing``).
"""

from mdtheory.nlhf.decision_time_planning import bounds
from mdtheory.nlhf.decision_time_planning.beliefs import Belief
from mdtheory.nlhf.decision_time_planning.bounds import safe_step
from mdtheory.nlhf.decision_time_planning.common_payoff import CommonPayoffGame
from mdtheory.nlhf.decision_time_planning.hanabi import HanabiState, SmallHanabi
from mdtheory.nlhf.decision_time_planning.playing import (
    HanabiRecord,
    hanabi_action_values,
    play_hanabi,
    roll_out,
)
from mdtheory.nlhf.decision_time_planning.search import (
    action_values,
    exact_search_policy,
    magnetic_search,
    mirror_descent_search,
    sampled_action_values,
)
from mdtheory.nlhf.decision_time_planning.tiny import TinyHanabi

__all__ = [
    "Belief",
    "CommonPayoffGame",
    "HanabiRecord",
    "HanabiState",
    "SmallHanabi",
    "TinyHanabi",
    "action_values",
    "bounds",
    "exact_search_policy",
    "hanabi_action_values",
    "magnetic_search",
    "mirror_descent_search",
    "play_hanabi",
    "roll_out",
    "safe_step",
    "sampled_action_values",
]
