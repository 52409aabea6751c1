"""Any two-player zero-sum game of OpenSpiel with explicit chance, through the extra ``games``."""

from __future__ import annotations

from typing import Any

import torch

from mdtheory.checks import require_extra
from mdtheory.nlhf.games.tree import ExtensiveGame
from mdtheory.nlhf.games.walk import Chance, Decision, Terminal


def from_openspiel(
    game: Any, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> ExtensiveGame:
    """A game of OpenSpiel in sequence form.

    The whole tree is walked through once, so it must be small enough for that. A row's name is
    OpenSpiel's information state string, a move's its number among the game's actions.

    Args:
        game: a ``pyspiel.Game``, or the text that ``pyspiel.load_game`` takes.
        dtype: of the payoffs.
        device: where the game lives.

    Returns:
        The game.

    Raises:
        ImportError: OpenSpiel is not installed.
        ValueError: not two players, not zero-sum, simultaneous moves, sampled chance, or a player
            who forgets.

    Source:
        Lanctot et al. (2019).
    """
    pyspiel = require_extra("pyspiel", "games")
    loaded = pyspiel.load_game(game) if isinstance(game, str) else game
    kind = loaded.get_type()
    wanted = {
        "two players": loaded.num_players() == 2,
        "a zero-sum game": kind.utility == pyspiel.GameType.Utility.ZERO_SUM,
        "moves one after the other": kind.dynamics == pyspiel.GameType.Dynamics.SEQUENTIAL,
        "explicit chance": kind.chance_mode != pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC,
        "information states": kind.provides_information_state_string,
    }
    for words, holds in wanted.items():
        if not holds:
            raise ValueError(f"game: expected {words}, got {kind.short_name}")
    return ExtensiveGame.from_tree(
        loaded.new_initial_state(), _describe, dtype=dtype, device=device
    )


def _describe(state: Any) -> Terminal | Chance | Decision:
    if state.is_terminal():
        return Terminal(state.player_return(0))
    if state.is_chance_node():
        return Chance([(p, state.child(action)) for action, p in state.chance_outcomes()])
    player = state.current_player()
    moves = [(str(action), state.child(action)) for action in state.legal_actions()]
    return Decision(player, state.information_state_string(player), moves)
