"""What a player of the small Hanabi knows about his own hand, exactly."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from mdtheory.nlhf.decision_time_planning.hanabi import HAND, HanabiState, SmallHanabi


class Belief:
    """The law of a player's own two cards, given what he has seen of a partner with the blueprint.

    Equation ``eq-hand-posterior``, kept up from move to move: cards that leave the own hand show
    themselves, new ones come from what is not seen, hints cut, and a partner's move is weighed by
    its probability under the blueprint with each hand. Own moves say nothing that the player did
    not know.

    Args:
        game: the rules.
        state: the games before the first move.
        player: whose hand, 0 or 1.
        noise: of the blueprint.
    """

    def __init__(
        self, game: SmallHanabi, state: HanabiState, player: int, noise: float = 0.15
    ) -> None:
        self.game, self.player, self.noise = game, player, noise
        kinds, device = game.kinds, state.deck.device
        unseen = game.hidden_from(state, player).double()
        pairs = unseen[:, :, None] * (unseen[:, None, :] - torch.eye(kinds, device=device))
        # Counts below 0 come with a factor 0.
        weights = unseen.new_zeros(len(unseen), kinds + 1, kinds + 1)
        weights[:, :kinds, :kinds] = pairs.clamp(min=0)
        self.weights = _normalized(weights)

    def update(self, before: HanabiState, move: Tensor, after: HanabiState) -> None:
        """Take in a move of each game.

        Args:
            before: the games before it.
            move: the moves, ``(n,)``.
            after: the games after it.
        """
        going = ~before.over
        mine = going & (before.turn == self.player)
        self._weigh_partner(before, move, going & ~mine)
        spends = move < 2 * HAND
        for place in range(HAND):
            self._draw(before, after, mine & spends & (move % HAND == place), place)
        know = after.possible[:, self.player]
        know = torch.nn.functional.pad(know, (0, 1), value=True)
        self.weights = self.weights * (know[:, 0, :, None] & know[:, 1, None, :])
        self._partner_drew(before, move, after, going & ~mine & spends)
        self.weights = _normalized(self.weights)

    def _weigh_partner(self, before: HanabiState, move: Tensor, games: Tensor) -> None:
        """The likelihood of the partner's move, with each hand that is possible."""
        rows = torch.nonzero(games)[:, 0]
        if not len(rows):
            return
        which, first, second = torch.nonzero(self.weights[rows] > 0, as_tuple=True)
        cards = torch.stack([first, second], -1)
        state = before.take(rows[which])
        state = self.game.with_hand(state, self.player, cards, state.deck)
        law = self.game.blueprint(state, self.noise).exp()
        likely = law.gather(-1, move[rows[which]][:, None])[:, 0]
        self.weights[rows[which], first, second] *= likely

    def _draw(self, before: HanabiState, after: HanabiState, games: Tensor, place: int) -> None:
        """The card at a place has shown itself, and another one came from what is not seen."""
        rows = torch.nonzero(games)[:, 0]
        if not len(rows):
            return
        kinds = self.game.kinds
        weights = self.weights[rows] if place == 0 else self.weights[rows].mT
        shown = before.hand[rows, self.player, place]
        other = weights[torch.arange(len(rows), device=rows.device), shown]  # (rows, other card)
        unseen = self.game.hidden_from(after.take(rows), self.player).double()
        held = torch.eye(kinds + 1, dtype=unseen.dtype, device=rows.device)[:, :-1]
        rest = (unseen[:, None] - held).clamp(min=0)  # (rows, other card, new card)
        drawn = other[..., None] * rest
        none = (before.drawn[rows] >= before.deck.shape[1])[:, None]
        fresh = torch.zeros_like(weights)
        fresh[:, :kinds] = torch.where(none[..., None], 0.0, drawn.mT)
        fresh[:, kinds] = torch.where(none, other, 0.0)
        self.weights[rows] = fresh if place == 0 else fresh.mT

    def _partner_drew(
        self, before: HanabiState, move: Tensor, after: HanabiState, games: Tensor
    ) -> None:
        """The partner's new card came from the deck: the less likely, the more of it are mine."""
        games = games & (before.drawn < before.deck.shape[1])
        rows = torch.nonzero(games)[:, 0]
        if not len(rows):
            return
        new = after.hand[rows, 1 - self.player, move[rows] % HAND]
        unseen = self.game.hidden_from(after.take(rows), self.player)
        before_it = unseen.gather(-1, new[:, None])[:, 0] + 1
        mine = (torch.arange(self.game.kinds + 1, device=rows.device) == new[:, None]).long()
        left = before_it[:, None, None] - mine[:, :, None] - mine[:, None, :]
        self.weights[rows] = self.weights[rows] * left.clamp(min=0)

    def sample(self, rows: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Hands drawn from the belief.

        Args:
            rows: which games, ``(r,)``.
            samples: hands for each.
            generator: draws them.

        Returns:
            Cards ``(r, samples, 2)``.
        """
        width = self.game.kinds + 1
        total = self.weights[rows].flatten(1).cumsum(-1)
        drawn = torch.rand(
            len(rows), samples, generator=generator, dtype=total.dtype, device=total.device
        )  # fmt: skip
        found = torch.searchsorted(total, drawn * total[:, -1:], right=True)
        return torch.stack([found // width, found % width], -1)

    def of_games(self, rows: Tensor) -> Belief:
        """The belief about some of the games, in memory of its own.

        Args:
            rows: which, ``(r,)``.

        Returns:
            A belief.
        """
        part = copy.copy(self)
        part.weights = self.weights[rows]
        return part

    def of_the_truth(self, state: HanabiState) -> Tensor:
        """What the belief says of the hand that the player really has, ``(n,)``."""
        first, second = state.hand[:, self.player].unbind(-1)
        return self.weights[torch.arange(len(first), device=first.device), first, second]


def _normalized(weights: Tensor) -> Tensor:
    return weights / weights.sum((-2, -1), keepdim=True)
