"""Games in which all players receive the same: any number of players, as a list of ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import (
    require_finite,
    require_integers,
    require_same_kind,
    require_tensor,
    require_values,
    values_known,
)
from mdtheory.convex.mirror_maps import require_log_probabilities
from mdtheory.nlhf.decision_time_planning.ends import Ends, chains
from mdtheory.nlhf.games.walk import CHANCE_TOLERANCE, Describe, walk


class CommonPayoffGame:
    r"""A game with perfect recall in which all players receive the same.

    Definition ``def-blueprint``. A policy is a tuple with one tensor of log-probabilities
    ``(..., rows, actions)`` a player, ``-inf`` where an action is not legal; a *row* is an
    information set. An action is legal where some end lies behind it.

    Args:
        payoff: what all receive at each end, ``(..., Z)``; leading axes are many games that differ
            in their payoffs alone.
        chance: the product of the probabilities of chance on the way to each end, ``(Z,)``.
        rows: whole numbers ``(Z, T)``: the rows on the way to each end, ``-1`` for none.
        actions: whole numbers ``(Z, T)``: what is chosen there, ``-1`` for nothing.
        owner: whole numbers ``(rows,)``, not descending: which player chooses in each row.

    Raises:
        TypeError: tensors of a wrong kind.
        ValueError: shapes that do not fit, a NaN, a player without a row, a row on the way to no
            end, or ends that are not all ends of a game: behind uniform play their probabilities
            do not sum to 1.
    """

    def __init__(
        self, payoff: Tensor, chance: Tensor, rows: Tensor, actions: Tensor, owner: Tensor
    ) -> None:
        _require_arrays(payoff, chance, rows, actions, owner)
        count = len(owner)
        width = int(actions.max()) + 1
        choices = torch.where(rows >= 0, rows * width + actions, -1)
        legal = torch.zeros(count * width + 1, dtype=torch.bool, device=payoff.device)
        legal[choices.flatten()] = True
        self._open(payoff, Ends(chance.clone(), choices, owner.clone(),
                                legal[:-1].reshape(count, width)))  # fmt: skip

    def _open(self, payoff: Tensor, ends: Ends) -> None:
        self.payoff, self.ends = payoff.clone(), ends
        self.rows = tuple(torch.bincount(ends.owner).tolist())
        self.players, self.actions = len(self.rows), ends.actions
        self.legal = ends.legal.split(self.rows)
        require_values("rows", ends.owner, ends.legal.any(-1), "every row on the way to an end")
        even = torch.cat(self.uniform(), -2).exp()
        total = (ends.chance * ends.taken(even).prod(-1)).sum()
        if not abs(float(total) - 1) <= max(CHANCE_TOLERANCE, len(ends.chance) * _eps(payoff)):
            raise ValueError(
                "chance: expected all ends of a game, whose probabilities under uniform play sum "
                f"to 1, got {float(total)!r}"
            )

    @staticmethod
    def from_tree(
        root: object,
        describe: Describe,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> CommonPayoffGame:
        """Walk through a game of two players; what the first receives, both receive.

        Args:
            root: the first state, of any type.
            describe: as :meth:`mdtheory.nlhf.games.ExtensiveGame.from_tree` takes it.
            dtype: of the payoffs.
            device: where the tensors live.

        Returns:
            The game.

        Raises:
            ValueError: no game with perfect recall.
        """
        parents, legal, terminals, payoff, chance, *_ = walk(root, describe, dtype, device)
        owner = torch.arange(2).repeat_interleave(torch.tensor([len(mine) for mine in parents]))
        choices = chains(parents, terminals, legal[0].shape[1])
        game = CommonPayoffGame.__new__(CommonPayoffGame)
        game._open(payoff, Ends(chance, choices, owner.to(payoff.device), torch.cat(legal)))
        return game

    def __repr__(self) -> str:
        rows = " and ".join(map(str, self.rows))
        return f"CommonPayoffGame({rows} information sets, {len(self.ends.chance)} ends)"

    @property
    def decisions(self) -> int:
        """The largest number of decisions, of all players, on the way to an end."""
        return int((self.ends.choices >= 0).sum(-1).max())

    @property
    def reward_range(self) -> Tensor:
        """How far payoffs lie apart at most, of the shape of the batch of games."""
        return self.payoff.amax(-1) - self.payoff.amin(-1)

    def uniform(self) -> tuple[Tensor, ...]:
        """The policy that chooses evenly among the legal actions."""
        return tuple(mine.to(self.payoff.dtype).log().log_softmax(-1) for mine in self.legal)

    def check(self, name: str, log_policy: object) -> Tensor:
        """Refuse what is no policy of this game.

        Args:
            name: the argument's name, for the message.
            log_policy: one tensor of log-probabilities ``(..., rows, actions)`` a player.

        Returns:
            The probabilities of all rows, ``(..., all rows, actions)``.

        Raises:
            TypeError: not one tensor a player, of the dtype of the payoffs.
            ValueError: a wrong shape, a NaN, an illegal action, or a wrong sum.
        """
        laws = require_policies(name, log_policy, self.payoff, self.players)
        for player, (law, legal) in enumerate(zip(laws, self.legal, strict=True)):
            here = f"{name}[{player}]"
            if law.shape[-2:] != legal.shape:
                raise ValueError(
                    f"{here}: expected shape (..., {legal.shape[0]}, {legal.shape[1]}), got "
                    f"{tuple(law.shape)}"
                )
            allowed = legal | (law == -torch.inf)
            require_values(here, law, allowed, "-inf where an action is not legal")
        shapes = [law.shape[:-2] for law in laws]
        try:
            batch = torch.broadcast_shapes(self.payoff.shape[:-1], *shapes)
        except RuntimeError:
            raise ValueError(
                f"{name}: expected batch shapes that broadcast with "
                f"{tuple(self.payoff.shape[:-1])}, got {[tuple(shape) for shape in shapes]}"
            ) from None
        return torch.cat([law.expand(*batch, *law.shape[-2:]) for law in laws], -2).exp()

    def value(self, log_policy: tuple[Tensor, ...]) -> Tensor:
        """The expected return, equation ``eq-team-value``.

        Args:
            log_policy: one tensor ``(..., rows, actions)`` a player.

        Returns:
            Of the batch's shape.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        taken = self.ends.taken(self.check("log_policy", log_policy)).prod(-1)
        return (self.ends.chance * self.payoff * taken).sum(-1)

    def action_values(self, log_policy: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The return expected after an action by whoever is in a row, equation ``eq-search-value``.

        Args:
            log_policy: one tensor ``(..., rows, actions)`` a player.

        Returns:
            Shaped like it; 0 where an action is not legal, and in rows to which chance and the
            others do not lead.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        values = self.ends.values(self.check("log_policy", log_policy), self.payoff)
        return values.split(self.rows, -2)

    def reach(self, log_policy: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The probability of coming to each row.

        Args:
            log_policy: one tensor ``(..., rows, actions)`` a player.

        Returns:
            One tensor ``(..., rows)`` a player.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        reach = self.ends.reach(self.check("log_policy", log_policy))
        return reach.split(self.rows, -1)

    def sampled_values(
        self, log_policy: tuple[Tensor, ...], samples: int, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Action values from sampled ends.

        Args:
            log_policy: as in :func:`sampled_action_values`.
            samples: :math:`M`, draws for each row, at least 1.
            generator: draws them.

        Returns:
            One tensor a player, shaped like the blueprint's.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        policy = self.check("log_policy", log_policy)
        values = self.ends.sampled(policy, self.payoff, samples, generator)
        return values.split(self.rows, -2)


def require_policies(name: str, value: object, like: Tensor, players: int) -> Sequence[Tensor]:
    """Refuse what is not one tensor of log-probabilities a player.

    Args:
        name: the argument's name, for the message.
        value: what came.
        like: the payoff, whose dtype and device they must have.
        players: how many there are.

    Returns:
        The tensors.

    Raises:
        TypeError: no tuple of so many floating-point tensors of that dtype.
        ValueError: another device, a NaN, or exponentials that do not sum to 1.
    """
    if not isinstance(value, (tuple, list)) or len(value) != players:
        length = f" of length {len(value)}" if isinstance(value, (tuple, list)) else ""
        raise TypeError(
            f"{name}: expected one tensor for each of {players} players, got "
            f"{type(value).__name__}{length}"
        )
    for player, law in enumerate(value):
        require_tensor(f"{name}[{player}]", law)
        require_same_kind(f"{name}[{player}]", law, "the payoff", like)
        require_log_probabilities(f"{name}[{player}]", law)
    return value


def _eps(payoff: Tensor) -> float:
    return torch.finfo(payoff.dtype).eps


def _require_arrays(
    payoff: Tensor, chance: Tensor, rows: Tensor, actions: Tensor, owner: Tensor
) -> None:
    require_tensor("payoff", payoff)
    require_finite("payoff", payoff)
    require_tensor("chance", chance)
    require_same_kind("chance", chance, "payoff", payoff)
    require_values("chance", chance, (chance > 0) & (chance <= 1), "probabilities above 0")
    for name, value in {"rows": rows, "actions": actions, "owner": owner}.items():
        require_integers(name, value)
    count = payoff.shape[-1]
    if chance.shape != (count,) or rows.ndim != 2 or len(rows) != count or not rows.numel():
        raise ValueError(
            f"rows: expected (Z, T) beside payoff (..., Z) and chance (Z,), got "
            f"{tuple(rows.shape)}, {tuple(payoff.shape)}, {tuple(chance.shape)}"
        )
    if actions.shape != rows.shape:
        raise ValueError(
            f"actions: expected shape {tuple(rows.shape)} like rows, got {tuple(actions.shape)}"
        )
    if owner.ndim != 1 or not len(owner):
        raise ValueError(f"owner: expected shape (rows,), got {tuple(owner.shape)}")
    require_values("rows", rows, (rows >= -1) & (rows < len(owner)), "rows that owner has, or -1")
    nobody = (actions == -1) == (rows == -1)
    require_values("actions", actions, (actions >= -1) & nobody, "an action where a row is")
    if not values_known(owner):
        return
    steps = owner.diff(prepend=owner.new_zeros(1))
    require_values("owner", owner, (steps >= 0) & (steps <= 1), "players 0, 1, ... in order")
