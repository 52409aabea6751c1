"""Games as the lists of their ends: values, reaches and posteriors by sums over them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.nlhf.games import ExtensiveGame


class Ends(NamedTuple):
    """All ends of a game, and the choices on the way to each.

    Args:
        chance: ``(Z,)``, the product of the probabilities of chance on the way.
        choices: whole numbers ``(Z, T)``: the choices in a flat vector over the actions of all
            rows, one row after the other; ``-1`` where there is none.
        owner: ``(rows,)``: whose row it is.
        legal: truth values ``(rows, actions)``.
    """

    chance: Tensor
    choices: Tensor
    owner: Tensor
    legal: Tensor

    @property
    def actions(self) -> int:
        """Actions of a row, the illegal ones included."""
        return self.legal.shape[1]

    def taken(self, policy: Tensor) -> Tensor:
        """The probability of each choice on the way to each end, 1 where there is none.

        Args:
            policy: probabilities ``(..., rows, actions)``.

        Returns:
            Shape ``(..., Z, T)``.
        """
        flat = torch.nn.functional.pad(policy.flatten(-2), (0, 1), value=1.0)
        return flat[..., self.choices]  # -1 is the last entry

    def conditional(self, policy: Tensor) -> Tensor:
        """How chance, the others, and the player from then on lead from a choice to an end.

        What the player did before he came to the row is left out: he knows it.

        Args:
            policy: probabilities ``(..., rows, actions)``.

        Returns:
            Weights ``(..., T, Z)``, for each choice on the way to each end.
        """
        taken, rows = self.taken(policy), self.choices // self.actions
        whose = torch.where(self.choices >= 0, self.owner[rows], -1)
        position = torch.arange(self.choices.shape[1], device=self.choices.device)
        weights = []
        for t in position:
            own = (whose == whose[:, t, None]) & (position < t)
            counted = torch.where(own | (position == t), 1.0, taken)
            weights.append(self.chance * counted.prod(-1))
        return torch.stack(weights, -2)

    def gathered(self, values: Tensor) -> Tensor:
        """Sums over the ends behind each action.

        Args:
            values: of each choice on the way to each end, ``(..., T, Z)``.

        Returns:
            Shape ``(..., rows, actions)``.
        """
        slots = self.legal.numel()
        index = torch.where(self.choices >= 0, self.choices, slots).T.flatten()
        total = values.new_zeros(*values.shape[:-2], slots + 1)
        total = total.index_add(-1, index, values.flatten(-2))
        return total[..., :-1].unflatten(-1, tuple(self.legal.shape))

    def values(self, policy: Tensor, payoff: Tensor) -> Tensor:
        r"""What an action is worth to a player who is in the row, equation ``eq-search-value``.

        Args:
            policy: probabilities ``(..., rows, actions)``.
            payoff: of the ends, ``(..., Z)``; or ``(..., T, Z)``, for whoever chooses there.

        Returns:
            Shape ``(..., rows, actions)``; 0 where an action is not legal, and in rows to which
            chance and the others do not lead.
        """
        weights = self.conditional(policy)
        if payoff.ndim < 2 or payoff.shape[-2:] != weights.shape[-2:]:
            payoff = payoff[..., None, :]
        mass = self.gathered(weights)
        worth = self.gathered(weights * payoff)
        return torch.where(mass > 0, worth / torch.where(mass > 0, mass, 1.0), 0.0)

    def reach(self, policy: Tensor) -> Tensor:
        """The probability of coming to each row.

        Args:
            policy: probabilities ``(..., rows, actions)``.

        Returns:
            Shape ``(..., rows)``.
        """
        path = self.chance * self.taken(policy).prod(-1)
        every = path[..., None, :].expand(*path.shape[:-1], self.choices.shape[1], -1)
        return self.gathered(every).sum(-1)

    def sampled(
        self, policy: Tensor, payoff: Tensor, samples: int, generator: torch.Generator
    ) -> Tensor:
        """Action values from ends that are drawn by their law, given the row and the action.

        The ends behind the actions of a row follow each other in one order, and what leads to the
        row has the same probability behind each; so one uniform number a sample, shared by all
        actions of a row, is one history for all of them.

        Args:
            policy: probabilities ``(..., rows, actions)``.
            payoff: ``(..., Z)``, or ``(..., T, Z)`` for whoever chooses there.
            samples: ends for each action.
            generator: draws them.

        Returns:
            Shape ``(..., rows, actions)``, 0 as in :meth:`values`.
        """
        steps, count = self.choices.shape[1], len(self.chance)
        # Places (step, end) of all choices, sorted by action; behind one action by end.
        place = torch.nonzero(self.choices.T >= 0)
        slot = self.choices[place[:, 1], place[:, 0]]
        key = slot * count + place[:, 1]
        order = key.argsort()
        place, slot = place[order], slot[order]
        weights = self.conditional(policy)[..., place[:, 0], place[:, 1]]
        payoff = payoff if payoff.shape[-2:] == (steps, count) else payoff[..., None, :].expand(
            *payoff.shape[:-1], steps, count
        )  # fmt: skip
        payoff = payoff[..., place[:, 0], place[:, 1]]
        batch = torch.broadcast_shapes(weights.shape[:-1], payoff.shape[:-1])
        weights, payoff = weights.expand(*batch, -1), payoff.expand(*batch, -1)
        slots = self.legal.numel()
        mass = weights.new_zeros(*batch, slots).index_add(-1, slot, weights)
        total = torch.where(mass > 0, mass, 1.0)
        share = (weights / total[..., slot]).cumsum(-1)
        # The sums of the actions before are whole numbers, up to rounding: made exact.
        before = (mass > 0).to(mass.dtype).cumsum(-1) - (mass > 0).to(mass.dtype)
        first = torch.searchsorted(slot, torch.arange(slots, device=slot.device))
        start = torch.nn.functional.pad(share, (1, 0))[..., first]
        share = share - start[..., slot] + before[..., slot]
        drawn = torch.rand(
            *batch, len(self.legal), 1, samples,
            generator=generator, dtype=mass.dtype, device=mass.device,
        )  # fmt: skip
        wanted = before.unflatten(-1, tuple(self.legal.shape))[..., None] + drawn
        found = torch.searchsorted(share.contiguous(), wanted.flatten(-3), right=True)
        last = torch.searchsorted(slot, torch.arange(slots, device=slot.device), right=True) - 1
        low = first.repeat_interleave(samples).expand_as(found)
        high = last.repeat_interleave(samples).expand_as(found)
        found = found.maximum(low).minimum(high).clamp(0, len(slot) - 1)
        values = payoff.gather(-1, found).unflatten(-1, (*self.legal.shape, samples)).mean(-1)
        return torch.where(mass.unflatten(-1, tuple(self.legal.shape)) > 0, values, 0.0)


def ends_of(game: ExtensiveGame) -> Ends:
    """The ends of a zero-sum game, the first player's rows before the second player's.

    Args:
        game: a game in extensive form.

    Returns:
        Its ends, in the order in which the walk through the game found them.
    """
    legal = torch.cat(game.legal)
    owner = torch.arange(2, device=legal.device).repeat_interleave(
        torch.tensor(game.rows, device=legal.device)
    )
    choices = chains(game.parents, game.terminals, game.actions)
    return Ends(game.chance, choices, owner, legal)


def chains(parents: tuple[Tensor, Tensor], terminals: Tensor, actions: int) -> Tensor:
    """From the last sequences of both players to all of their choices.

    Args:
        parents: the sequence above each row, for each player, -1 where there is none.
        terminals: the last sequences at each end, ``(Z, 2)``.
        actions: of a row.

    Returns:
        Choices as :class:`Ends` has them, ``(Z, T)``, each player's from the root on.
    """
    columns: list[Tensor] = []
    for player, above in enumerate(parents):
        shift, mine, now = player * len(parents[0]) * actions, [], terminals[:, player]
        while bool((now >= 0).any()):
            mine.append(torch.where(now >= 0, now + shift, -1))
            now = torch.where(now >= 0, above[now.clamp(min=0) // actions], -1)
        columns += reversed(mine)
    if not columns:
        return terminals.new_full((len(terminals), 1), -1)
    return torch.stack(columns, -1)
