"""A small Hanabi of two players, thousands of games at once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_integers, require_number, require_values

HAND = 2
# Copies of the lowest rank, of those between, and of the highest.
COPIES = (3, 2, 1)
# The rules of thumb of the blueprint, as scores of moves before the softmax.
SHARPNESS = 2.0
SAFE, HINTED, GUESS = 8.0, 5.0, -6.0
TELL, TOLD_ALREADY, TELL_RANK = 4.0, 1.5, 0.5


@dataclass(frozen=True)
class HanabiState:
    """Games in play, each tensor with the games as its first axis.

    A card is a number, colour times the ranks plus rank; the number of kinds stands for none.

    Args:
        deck: the cards in the order in which they are drawn, ``(n, cards)``.
        drawn: how many have been drawn, ``(n,)``.
        hand: ``(n, 2, 2)``, of both players.
        possible: which kinds a card in hand may be by the hints it got, ``(n, 2, 2, kinds)``.
        hinted: whether a hint has pointed at it, ``(n, 2, 2)``.
        fireworks: the cards that lie there of each colour, ``(n, colours)``.
        gone: discarded copies of each kind, ``(n, kinds)``.
        hints: hints left, ``(n,)``.
        lives: lives left, ``(n,)``.
        turn: whose turn it is, ``(n,)``.
        left: moves left once the deck is empty, -1 before, ``(n,)``.
        over: whether the game is over, ``(n,)``.
    """

    deck: Tensor
    drawn: Tensor
    hand: Tensor
    possible: Tensor
    hinted: Tensor
    fireworks: Tensor
    gone: Tensor
    hints: Tensor
    lives: Tensor
    turn: Tensor
    left: Tensor
    over: Tensor

    def take(self, index: Tensor) -> HanabiState:
        """Some of the games, in memory of their own.

        Args:
            index: numbers or truth values.

        Returns:
            These games.
        """
        return HanabiState(*(getattr(self, field.name)[index] for field in fields(self)))

    def score(self) -> Tensor:
        """Cards that lie in the fireworks, ``(n,)``; they count when the lives are gone, too."""
        return self.fireworks.sum(-1)


class SmallHanabi:
    """Two players with two cards each; a card shows itself to the partner alone.

    A move plays or discards one of two cards, or tells the partner which of his cards have one
    colour or one rank. Moves are numbered in this order: play the first or the second card, discard
    the first or the second, hint at each colour, hint at each rank. A new card comes to the place
    of the old one. Full Hanabi has five colours, five ranks, five cards, eight hints, three lives.

    Args:
        colours: number of colours.
        ranks: number of ranks; three copies of the lowest, one of the highest, two of the others.
        hints: hints at the beginning, and at most.
        lives: cards that may be played in vain before the game ends.

    Raises:
        TypeError: no whole numbers.
        ValueError: fewer than two ranks or less than one of the others.

    Source:
        Bard et al. (2020) for the game as a challenge.
    """

    def __init__(self, colours: int = 2, ranks: int = 3, hints: int = 4, lives: int = 2) -> None:
        self.colours = require_count("colours", colours)
        self.ranks = require_count("ranks", ranks, 2)
        self.hints = require_count("hints", hints)
        self.lives = require_count("lives", lives)
        self.kinds = self.colours * self.ranks
        self.moves = 2 * HAND + self.colours + self.ranks
        low, middle, high = COPIES
        copies = [low] + [middle] * (self.ranks - 2) + [high]
        self.copies = torch.tensor(copies * self.colours)
        kinds = torch.arange(self.kinds)
        # One entry more, for the card that is none: of no colour and no rank.
        self.colour = torch.cat([kinds // self.ranks, torch.tensor([self.colours])])
        self.rank = torch.cat([kinds % self.ranks, torch.tensor([self.ranks])])

    def __repr__(self) -> str:
        return f"SmallHanabi({self.colours} colours, {self.ranks} ranks)"

    def deal(self, games: int, generator: torch.Generator) -> HanabiState:
        """Shuffled decks, and four cards dealt from each.

        Args:
            games: how many.
            generator: shuffles; the games live on its device.

        Returns:
            The games before the first move.
        """
        n, device = require_count("games", games), generator.device
        cards = torch.arange(self.kinds).repeat_interleave(self.copies).to(device)
        order = torch.rand(n, len(cards), generator=generator, device=device).argsort(-1)
        return self.begin(cards[order])

    def begin(self, deck: Tensor) -> HanabiState:
        """Games with given decks.

        Args:
            deck: cards in the order in which they are drawn, ``(n, cards)``.

        Returns:
            The games before the first move; the first two cards are the first player's.
        """
        n, device = len(deck), deck.device
        whole = deck.new_zeros(n)
        return HanabiState(
            deck=deck.clone(), drawn=whole + 2 * HAND,
            hand=deck[:, : 2 * HAND].reshape(n, 2, HAND).clone(),
            possible=torch.ones(n, 2, HAND, self.kinds, dtype=torch.bool, device=device),
            hinted=torch.zeros(n, 2, HAND, dtype=torch.bool, device=device),
            fireworks=deck.new_zeros(n, self.colours), gone=deck.new_zeros(n, self.kinds),
            hints=whole + self.hints, lives=whole + self.lives, turn=whole.clone(),
            left=whole - 1, over=torch.zeros(n, dtype=torch.bool, device=device),
        )  # fmt: skip

    def seen_by_all(self, state: HanabiState) -> Tensor:
        """Copies of each kind that lie open, played or discarded, ``(n, kinds)``."""
        colour, rank = self._tables(state)
        return state.gone + (rank[:-1] < state.fireworks[:, colour[:-1]])

    def hidden_from(self, state: HanabiState, player: Tensor | int) -> Tensor:
        """Copies of each kind that a player does not see, ``(n, kinds)``: his hand and the deck.

        Args:
            state: the games.
            player: one for all games, or ``(n,)``.

        Returns:
            Counts.
        """
        theirs = self._counts(self._hand(state, 1 - player))
        return self.copies.to(theirs.device) - self.seen_by_all(state) - theirs

    def legal(self, state: HanabiState) -> Tensor:
        """Which moves are legal, ``(n, moves)``; a hint must point at a card."""
        mine, theirs = self._hand(state, state.turn), self._hand(state, 1 - state.turn)
        colour, rank = self._tables(state)
        held = mine < self.kinds
        hint = (state.hints > 0)[:, None]
        options = torch.arange(max(self.colours, self.ranks), device=mine.device)
        same_colour = (colour[theirs][..., None] == options[: self.colours]).any(1)
        same_rank = (rank[theirs][..., None] == options[: self.ranks]).any(1)
        return torch.cat(
            [held, held & (state.hints < self.hints)[:, None], hint & same_colour,
             hint & same_rank], -1,
        )  # fmt: skip

    def apply(self, state: HanabiState, move: Tensor) -> HanabiState:
        """The games after a move in each; games that are over stay as they are.

        Args:
            state: the games.
            move: whole numbers ``(n,)``, legal where the game is not over.

        Returns:
            New games.

        Raises:
            TypeError: no whole numbers.
            ValueError: an illegal move.
        """
        require_integers("move", move)
        inside = (move >= 0) & (move < self.moves)
        require_values("move", move, inside | state.over, "moves of the game")
        legal = self.legal(state).gather(-1, move.clamp(0, self.moves - 1)[:, None])[:, 0]
        require_values("move", move, legal | state.over, "legal moves")
        return self._apply(state, move)

    def _apply(self, state: HanabiState, move: Tensor) -> HanabiState:
        """As :meth:`apply`, for inner loops."""
        going, me = ~state.over, state.turn
        rows = torch.arange(len(move), device=move.device)
        spends = going & (move < 2 * HAND)
        place = torch.where(spends, move % HAND, 0)
        card = torch.where(spends, state.hand[rows, me, place], self.kinds)
        colour, rank = self._tables(state)
        plays = spends & (move < HAND)
        # A column more, for the card that is none.
        reached = torch.nn.functional.pad(state.fireworks, (0, 1), value=-1)
        fits = plays & (rank[card] == reached.gather(-1, colour[card][:, None])[:, 0])
        one = torch.nn.functional.one_hot
        fireworks = state.fireworks + one(
            torch.where(fits, colour[card], self.colours), self.colours + 1
        )[:, :-1]  # fmt: skip
        wasted = torch.where(spends & ~fits, card, self.kinds)
        gone = state.gone + one(wasted, self.kinds + 1)[:, :-1]
        earns = (spends & ~plays) | (fits & (rank[card] == self.ranks - 1))
        hinting = going & ~spends
        hints = (state.hints + earns.long()).clamp(max=self.hints) - hinting.long()
        lives = state.lives - (plays & ~fits).long()
        size = state.deck.shape[1]
        more = state.drawn < size
        top = state.deck[rows, state.drawn.clamp(max=size - 1)]
        new = torch.where(more, top, self.kinds)
        hand, possible, hinted = state.hand.clone(), state.possible.clone(), state.hinted.clone()
        hand[rows, me, place] = torch.where(spends, new, hand[rows, me, place])
        possible[rows, me, place] |= spends[:, None]
        hinted[rows, me, place] &= ~spends
        self._hint(state, move - 2 * HAND, hinting, possible, hinted)
        drew = spends & more
        drawn = state.drawn + drew.long()
        left = state.left - (going & (state.left > 0)).long()
        left = torch.where(drew & (drawn == size), 2, left)
        done = (lives <= 0) | (left == 0) | (fireworks.sum(-1) == self.kinds)
        return HanabiState(
            state.deck, drawn, hand, possible, hinted, fireworks, gone, hints, lives,
            torch.where(going, 1 - me, me), left, state.over | done,
        )  # fmt: skip

    def _hint(
        self, state: HanabiState, told: Tensor, hinting: Tensor, possible: Tensor, hinted: Tensor
    ) -> None:
        """Write into ``possible`` and ``hinted`` what a hint says."""
        rows = torch.nonzero(hinting)[:, 0]
        if not len(rows):
            return
        told, partner = told[rows, None], 1 - state.turn[rows]
        colour, rank = (table[None] for table in self._tables(state))
        kinds = torch.where(told < self.colours, colour == told, rank == told - self.colours)
        points = kinds.gather(-1, state.hand[rows, partner])
        held = state.hand[rows, partner] < self.kinds
        kinds = kinds[:, None, :-1]
        says = torch.where(points[..., None], kinds, ~kinds) | ~held[..., None]
        possible[rows, partner] &= says
        hinted[rows, partner] |= points

    def blueprint(self, state: HanabiState, noise: float = 0.15) -> Tensor:
        """A policy by rules of thumb, softened, as log-probabilities ``(n, moves)``.

        Play what is playable for certain, then what a hint has pointed at and may well be; hint at
        what the partner can play; discard what nobody has pointed at. In games that are over
        nothing is meant.

        Args:
            state: the games.
            noise: share of the mass that goes evenly to all legal moves, in [0, 1].

        Returns:
            Log-probabilities, ``-inf`` where a move is not legal.

        Raises:
            ValueError: a noise out of range.
        """
        noise = require_number("noise", noise, 0.0, maximum=1.0)
        legal = self.legal(state)
        scores = self._rules(state).masked_fill(~legal, -torch.inf)
        ruled = (SHARPNESS * scores).softmax(-1)
        # A game that is over may have no legal move: a law all the same, so that nothing is NaN.
        even = legal.double() / legal.sum(-1, keepdim=True).clamp(min=1)
        mixed = torch.where(legal, (1 - noise) * ruled + noise * even, 0.0)
        nothing = ~legal.any(-1, keepdim=True)
        return torch.where(nothing, 1.0 / self.moves, mixed).log()

    def _rules(self, state: HanabiState) -> Tensor:
        rows = torch.arange(len(state.turn), device=state.turn.device)
        colour, rank = self._tables(state)
        next_rank = torch.nn.functional.pad(state.fireworks, (0, 1), value=-1)
        playable = rank == next_rank[:, colour]  # (n, kinds + 1), False for no card
        unseen = self.hidden_from(state, state.turn).clamp(min=0)[:, None]
        may = state.possible[rows, state.turn] * unseen
        total = may.sum(-1).clamp(min=1).double()
        chance = (may * playable[:, None, :-1]).sum(-1) / total
        hinted = state.hinted[rows, state.turn]
        guess = torch.where(hinted & (chance > 0.3), HINTED, GUESS + 4 * chance)
        play = torch.where(chance >= 1, SAFE, guess)
        later = 0.1 * torch.arange(HAND, device=rows.device, dtype=chance.dtype)
        discard = 1.5 * (~hinted).double() + (chance == 0).double() - later
        theirs, told = state.hand[rows, 1 - state.turn], state.hinted[rows, 1 - state.turn]
        useful = playable.gather(-1, theirs)
        worth = torch.where(useful, TELL - TOLD_ALREADY * told.to(chance.dtype), 0.0)
        n = len(rows)
        hints = worth.new_zeros(n, self.colours + 1)
        hints = hints.scatter_reduce(-1, colour[theirs], worth, "amax")[:, :-1]
        ranks = worth.new_zeros(n, self.ranks + 1)
        extra = torch.where(useful, worth + TELL_RANK, 0.0)
        ranks = ranks.scatter_reduce(-1, rank[theirs], extra, "amax")[:, :-1]
        return torch.cat([play, discard, hints, ranks], -1)

    def with_hand(
        self, state: HanabiState, player: int, cards: Tensor, deck: Tensor
    ) -> HanabiState:
        """The games with other cards in one hand and another deck.

        Args:
            state: the games.
            player: whose hand.
            cards: ``(n, 2)``.
            deck: ``(n, cards)``; what has been drawn does not matter.

        Returns:
            The games.
        """
        hand = state.hand.clone()
        hand[:, player] = cards
        return replace(state, hand=hand, deck=deck)

    def _hand(self, state: HanabiState, player: Tensor | int) -> Tensor:
        if isinstance(player, int):
            return state.hand[:, player]
        return state.hand[torch.arange(len(state.hand), device=state.hand.device), player]

    def _counts(self, cards: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(cards, self.kinds + 1).sum(-2)[..., :-1]

    def _tables(self, state: HanabiState) -> tuple[Tensor, Tensor]:
        return self.colour.to(state.deck.device), self.rank.to(state.deck.device)
