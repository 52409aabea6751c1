"""The arrays of a game in sequence form, checked once where they enter."""

from __future__ import annotations

from torch import Tensor

from mdtheory.checks import (
    require_finite,
    require_integers,
    require_same_kind,
    require_tensor,
    require_truths,
    require_values,
)


def require_arrays(
    parents: tuple[Tensor, Tensor],
    legal: tuple[Tensor, Tensor],
    terminals: Tensor,
    payoff: Tensor,
    chance: Tensor,
) -> None:
    """Refuse what is no game in sequence form; the arguments are those of ``ExtensiveGame``.

    Args:
        parents: the sequence above each row, for each player.
        legal: the legal actions of each row, for each player.
        terminals: the last sequences of both players at each end.
        payoff: what the first player receives there.
        chance: the probability of chance on the way.

    Raises:
        TypeError: tensors of a wrong kind.
        ValueError: shapes that do not fit, a NaN, a row without an action, or sequences that are
            not there or not legal.
    """
    require_tensor("payoff", payoff)
    require_finite("payoff", payoff)
    require_tensor("chance", chance)
    require_same_kind("chance", chance, "payoff", payoff)
    require_values("chance", chance, (chance > 0) & (chance <= 1), "probabilities above 0")
    whole = {"terminals": terminals, "parents[0]": parents[0], "parents[1]": parents[1]}
    for name, value in whole.items():
        require_integers(name, value)
    count = payoff.shape[0]
    if payoff.ndim != 1 or chance.shape != payoff.shape or terminals.shape != (count, 2):
        raise ValueError(
            f"terminals: expected (k, 2) beside payoff and chance (k,), got "
            f"{tuple(terminals.shape)}, {tuple(payoff.shape)}, {tuple(chance.shape)}"
        )
    for player, (mine, allowed) in enumerate(zip(parents, legal, strict=True)):
        require_truths(f"legal[{player}]", allowed)
        if mine.ndim != 1 or allowed.ndim != 2 or len(mine) != len(allowed) or not len(mine):
            raise ValueError(
                f"legal[{player}]: expected shape (rows, actions) beside parents (rows,) with at "
                f"least one row, got {tuple(allowed.shape)} and {tuple(mine.shape)}"
            )
        if allowed.shape[1] != legal[0].shape[1]:
            raise ValueError(
                f"legal[{player}]: expected {legal[0].shape[1]} columns like the first player's, "
                f"got {allowed.shape[1]}"
            )
        require_values(f"legal[{player}]", allowed, allowed.any(-1), "an action in every row")
        for name, sequences in ((f"parents[{player}]", mine), ("terminals", terminals[:, player])):
            inside = (sequences >= -1) & (sequences < allowed.numel())
            require_values(name, sequences, inside, "sequences of the player, or -1")
            known = allowed.flatten()[sequences.clamp(min=0)] | (sequences < 0)
            require_values(name, sequences, known, "sequences that are legal")
