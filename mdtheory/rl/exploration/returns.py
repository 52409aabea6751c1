"""What a return is worth: ways played blindly under noise, and laws of first states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_simplex
from mdtheory.rl.exploration.tables import F64, TableGame, follow, require_game
from mdtheory.rl.policy_mirror_descent import TabularMDP, evaluate, occupancy


def derailment(steps: int, slip: float) -> float:
    r"""Chance to get back to a place that is ``steps`` away, proposition ``prop-derailment``.

    :math:`(1 - \varepsilon)^L` where each step slips with chance :math:`\varepsilon`, and a slip
    is fatal.

    Args:
        steps: L, at least 0.
        slip: :math:`\varepsilon` in [0, 1].

    Returns:
        The chance.

    Raises:
        ValueError: a number out of range.
    """
    require_count("steps", steps, 0)
    if require_number("slip", slip, 0.0) > 1:
        raise ValueError(f"slip: expected a probability, got {slip!r}")
    return (1 - slip) ** steps


def replay_chances(game: TableGame, actions: Sequence[int], sticky: float) -> Tensor:
    r"""Chance to stand where a way leads, when its actions are played blindly under noise.

    Proposition ``prop-derailment``: at least :math:`(1 - p)^c` after ``c`` actions that differ
    from the one before, with equality where every slip ends the game. The law of state and last
    action is carried forward exactly.

    Args:
        game: the game.
        actions: the way, from the start.
        sticky: chance p that the last action is repeated; before the first it is action 0.

    Returns:
        Chances before each action, float64, shape ``(len(actions),)``; the first is 1.

    Raises:
        TypeError: ``game`` is no table game.
        ValueError: a way that the game does not allow, or a chance outside [0, 1].
    """
    require_game("game", game)
    if require_number("sticky", sticky, 0.0) > 1:
        raise ValueError(f"sticky: expected a probability, got {sticky!r}")
    states, _ = follow(game, actions)
    law = torch.zeros(game.states, game.actions, dtype=F64)  # of state and last action
    law[game.initial, 0] = 1.0
    chances = []
    for state, action in zip(states.tolist(), actions, strict=True):
        chances.append(law[state].sum())
        made = sticky * law
        made[:, action] += (1 - sticky) * law.sum(1)
        going = torch.where(game.end, 0.0, made)
        law = torch.stack([
            torch.zeros(game.states, dtype=F64).index_add(0, game.next[:, a], going[:, a])
            for a in range(game.actions)
        ], 1)  # fmt: skip
    return torch.stack(chances)


def action_changes(actions: Sequence[int]) -> Tensor:
    """How many of the actions so far differ from the one before; before the first it is 0.

    Args:
        actions: the way.

    Returns:
        Counts before each action, int64, shape ``(len(actions),)``.
    """
    way = torch.tensor([0, *actions])
    return torch.cat([torch.zeros(1, dtype=torch.int64), way.diff().ne(0).cumsum(0)])[:-1]


def policy_slope(mdp: TabularMDP, policy: Tensor, law: Tensor) -> Tensor:
    r"""The steepest ascent of the value from a law of first states, over all other policies.

    Equation ``eq-policy-slope``: :math:`\max_{\pi'}\langle\nabla_\pi V^\pi(\rho), \pi' - \pi
    \rangle = \frac{1}{1-\gamma} \sum_s d_\rho^\pi(s) \max_a A^\pi(s, a)`.

    Args:
        mdp: the processes.
        policy: probabilities, shape ``(..., S, A)``.
        law: of the first state, :math:`\rho`, shape ``(..., S)``.

    Returns:
        The slope, at least 0, shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``policy`` or ``law`` is no probability, or has a wrong shape.
    """
    require_simplex("law", law)
    value, action_value = evaluate(mdp, policy)
    best = (action_value - value[..., None]).amax(-1)
    return (occupancy(mdp, policy, law) * best).sum(-1) / (1 - mdp.discount)
