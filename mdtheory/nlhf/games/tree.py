"""Two-player zero-sum games in extensive form, as two trees of sequences and a sparse payoff."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from mdtheory.checks import require_values
from mdtheory.convex.mirror_maps import require_log_probabilities
from mdtheory.nlhf.games.arrays import require_arrays
from mdtheory.nlhf.games.strategies import Strategies, ZeroSumGame, require_pair, units
from mdtheory.nlhf.games.walk import Describe, walk


class ExtensiveGame(ZeroSumGame[Strategies]):
    r"""A zero-sum game of two players with perfect recall, in sequence form.

    Definition ``def-sequence-form``. An *information set* of a player is a row of ``actions``
    sequences, of which the legal ones count; sequence ``j * actions + a`` is to have reached row
    ``j`` and to choose ``a`` there. A strategy is a tensor of log-probabilities
    ``(..., rows, actions)``, ``-inf`` where an action is not legal, and ``strategies`` is always
    the pair of the first player's and the second player's. Leading axes are many strategies at
    once; the game is one. All operations go through the tree level by level, both players' trees
    together.

    Args:
        parents: for each player a whole tensor ``(rows,)``: the sequence that the player chose
            last before a row, ``-1`` where there is none.
        legal: for each player truth values ``(rows, actions)``.
        terminals: whole numbers ``(k, 2)``: the last sequence of each player, ``-1`` for none.
        payoff: ``(k,)``, what the first player receives there.
        chance: ``(k,)``, the product of the probabilities of chance on the way.
        information: names of the rows, for each player.
        moves: names of the actions of each row, for each player.

    Raises:
        TypeError: tensors of a wrong kind.
        ValueError: shapes that do not fit, a NaN, a row without an action or before its parent.

    Source:
        von Stengel (1996) and Koller, Megiddo and von Stengel (1996) for the sequence form.
    """

    def __init__(
        self,
        parents: tuple[Tensor, Tensor],
        legal: tuple[Tensor, Tensor],
        terminals: Tensor,
        payoff: Tensor,
        chance: Tensor,
        information: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
        moves: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]] | None = None,
    ) -> None:
        require_arrays(parents, legal, terminals, payoff, chance)
        self.payoff, self.chance, self.terminals = (
            value.clone() for value in (payoff, chance, terminals)
        )
        self.parents = (parents[0].to(payoff.device).clone(), parents[1].to(payoff.device).clone())
        self.actions = legal[0].shape[1]
        self.rows = (len(parents[0]), len(parents[1]))
        self.legal = (legal[0].to(payoff.device).clone(), legal[1].to(payoff.device).clone())
        self.information = information or (range(self.rows[0]), range(self.rows[1]))
        self.moves = moves
        self._arrange(parents)
        self._connect(terminals, payoff, chance)

    def _arrange(self, parents: tuple[Tensor, Tensor]) -> None:
        """Number the rows of both players level by level; slots 0 and 1 are the empty sequences."""
        device, width, first = self.payoff.device, self.actions, self.rows[0]
        rows = []
        for mine, shift in zip(parents, (0, first), strict=True):
            above = torch.where(mine >= 0, mine // width + shift, -1)
            rows.append(above.tolist())
        level: list[int] = []
        for row, above_row in enumerate(rows[0] + rows[1]):
            if above_row >= row:
                raise ValueError(f"parents: expected earlier rows, got {above_row} above {row}")
            level.append(0 if above_row < 0 else level[above_row] + 1)
        levels = torch.tensor(level)
        order = torch.sort(levels, stable=True).indices
        ends = torch.bincount(levels).cumsum(0).tolist()
        self.levels = list(zip([0, *ends[:-1]], ends, strict=True))
        position = torch.empty_like(order)
        position[order] = torch.arange(len(order))
        self.order, self.position = order.to(device), position.to(device)
        slots = []
        for player, (mine, shift) in enumerate(zip(parents, (0, first), strict=True)):
            slots.append(self._slots(mine.to(device), player, shift))
        self.above = torch.cat(slots)[self.order]
        self._legal = torch.cat(self.legal)[self.order]
        self.size = 2 + width * len(order)
        self._allowed = torch.nn.functional.pad(self._legal.flatten(), (2, 0), value=True)

    def _slots(self, sequences: Tensor, player: int, shift: int) -> Tensor:
        """Where sequences of one player stand in the vector of both."""
        row = sequences.clamp(min=0) // self.actions + shift
        there = 2 + self.position[row] * self.actions + sequences.clamp(min=0) % self.actions
        return torch.where(sequences >= 0, there, player)

    def _connect(self, terminals: Tensor, payoff: Tensor, chance: Tensor) -> None:
        """The operator F as a sparse matrix: what a unit of each sequence costs its player."""
        first = self._slots(terminals[:, 0], 0, 0)
        second = self._slots(terminals[:, 1], 1, self.rows[0])
        pair, inverse = (first * self.size + second).unique(return_inverse=True)
        none = payoff.new_zeros(len(pair))
        amount = none.index_add(0, inverse, chance * payoff)
        often = none.index_add(0, inverse, chance)
        first, second = pair // self.size, pair % self.size
        self._rows, self._columns = torch.cat([first, second]), torch.cat([second, first])
        self._entries = torch.cat([-amount, amount])
        self._often = torch.cat([often, often])

    @staticmethod
    def from_tree(
        root: object,
        describe: Describe,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> ExtensiveGame:
        """Walk through a game once and build its sequence form.

        Args:
            root: the first state, of any type.
            describe: says for a state whether it is a :class:`Terminal`, a move of
                :class:`Chance` or a :class:`Decision`, with the states that follow.
            dtype: of the payoffs.
            device: where the tensors live.

        Returns:
            The game.

        Raises:
            ValueError: a player forgets what he knew or did, the moves differ where the
                information is the same, or the probabilities of chance do not sum to 1.
        """
        return ExtensiveGame(*walk(root, describe, dtype, device))

    def __repr__(self) -> str:
        return (
            f"ExtensiveGame({self.rows[0]} and {self.rows[1]} information sets, "
            f"{len(self._entries) // 2} pairs of sequences with a payoff)"
        )

    def double(self) -> ExtensiveGame:
        """The game with its payoffs in double precision."""
        other = self._with(self.payoff.double(), self._entries.double(), self._often.double())
        other.chance = self.chance.double()
        return other

    def normalized(self) -> tuple[ExtensiveGame, Tensor, Tensor]:
        """The game in units of its own: payoffs from -1 to 1, or 0 where all are equal.

        Returns:
            A game with the same equilibria, and the centre and half the range of the payoffs:
            ``payoff = centre + half * normalized``. Where all payoffs are equal the half is 1.
        """
        centre, half = units(self.payoff.amin(), self.payoff.amax())
        # What the second player pays where the first receives the centre, at every end.
        shift = centre * self._often * self._signs()
        entries = (self._entries - shift) / half
        return self._with((self.payoff - centre) / half, entries, self._often), centre, half

    def _signs(self) -> Tensor:
        half = torch.ones_like(self._often[: len(self._often) // 2])
        return torch.cat([-half, half])

    def _with(self, payoff: Tensor, entries: Tensor, often: Tensor) -> ExtensiveGame:
        other = copy.copy(self)
        other.payoff, other._entries, other._often = payoff, entries, often
        return other

    def uniform(self) -> Strategies:
        """The strategies that choose evenly among the legal actions."""
        first, second = (mine.to(self.payoff.dtype).log() for mine in self.legal)
        return first.log_softmax(-1), second.log_softmax(-1)

    def check(self, name: str, strategies: object) -> Tensor:
        """Refuse what is no pair of strategies of this game.

        Args:
            name: the argument's name, for the message.
            strategies: log-probabilities ``(..., rows, actions)`` of each player.

        Returns:
            Both in one tensor, rows ordered by level.

        Raises:
            TypeError: no pair of tensors of the dtype of the payoffs.
            ValueError: a wrong shape, a NaN, an illegal action, or a wrong sum.
        """
        pair = require_pair(name, strategies, self.payoff)
        for player, (mine, legal) in enumerate(zip(pair, self.legal, strict=True)):
            here = f"{name}[{player}]"
            if mine.shape[-2:] != legal.shape:
                raise ValueError(
                    f"{here}: expected shape (..., {legal.shape[0]}, {legal.shape[1]}), got "
                    f"{tuple(mine.shape)}"
                )
            require_log_probabilities(here, mine)
            allowed = legal | (mine == -torch.inf)
            require_values(here, mine, allowed, "-inf where an action is not legal")
        if pair[0].shape[:-2] != pair[1].shape[:-2]:
            raise ValueError(
                f"{name}: expected one batch shape, got {tuple(pair[0].shape[:-2])} and "
                f"{tuple(pair[1].shape[:-2])}"
            )
        return self.join(pair)

    def join(self, pair: Strategies) -> Tensor:
        """Both players' rows in one vector, ordered by level, behind the two empty sequences.

        Args:
            pair: tensors ``(..., rows, actions)``.

        Returns:
            Shape ``(..., size)``; 0 in the first two slots.
        """
        flat = torch.cat(pair, -2).index_select(-2, self.order).flatten(-2)
        return torch.nn.functional.pad(flat, (2, 0))

    def split(self, joint: Tensor) -> Strategies:
        """The inverse of :meth:`join`.

        Args:
            joint: shape ``(..., size)``.

        Returns:
            Tensors ``(..., rows, actions)``, the first player's and the second's.
        """
        rows = joint[..., 2:].unflatten(-1, (-1, self.actions))
        both = rows.index_select(-2, self.position)
        return both[..., : self.rows[0], :], both[..., self.rows[0] :, :]

    def legal_logs(self) -> Tensor:
        """Joined logarithms ``(size,)``: 0 where an action is legal and ``-inf`` elsewhere."""
        return torch.where(self._allowed, self.payoff.new_zeros(()), -torch.inf)

    def reach(self, logs: Tensor) -> Tensor:
        r"""From behaviour to sequences: :math:`x_{ja} = x_{p(j)}\, b_j(a)`, level by level.

        Equation ``eq-sequence-weights``.

        Args:
            logs: log-probabilities of both players' choices, joined, ``(..., size)``.

        Returns:
            Weights of the sequences ``(..., size)``.
        """
        total = logs.clone()
        for begin, end in self.levels[1:]:
            above = total.index_select(-1, self.above[begin:end])
            self.level(total, begin, end).add_(above[..., None])
        return total.exp()

    def row_weights(self, weights: Tensor) -> Tensor:
        """The weight of the sequence above each row: how far its player leads to it himself.

        Args:
            weights: of the sequences of both players, ``(..., size)``.

        Returns:
            Shape ``(..., all rows)``, ordered by level.
        """
        return weights.index_select(-1, self.above)

    def losses(self, weights: Tensor) -> Tensor:
        r"""The operator of the game: what a unit of each sequence costs the player who owns it.

        Equation ``eq-game-operator``: :math:`F(x, y) = (-Ay,\, A^\top x)`.

        Args:
            weights: of the sequences of both players, ``(..., size)``.

        Returns:
            Shape ``(..., size)``.
        """
        given = weights.index_select(-1, self._columns) * self._entries
        return torch.zeros_like(weights).index_add_(-1, self._rows, given)

    def normalize(self, dual: Tensor) -> Tensor:
        r"""From a dual to behaviour, bottom-up: the mirror map of the dilated entropy.

        Proposition ``prop-dilated-step``. The log-sum-exp of a row is what the row is worth, and
        goes to the dual of the sequence above it.

        Args:
            dual: shape ``(..., size)``, ``-inf`` where an action is not legal; it is overwritten.

        Returns:
            Log-probabilities ``(..., size)``.
        """
        for begin, end in reversed(self.levels):
            here = self.level(dual, begin, end)
            worth = _kept(here).logsumexp(-1)
            here.sub_(worth[..., None])
            dual.index_add_(-1, self.above[begin:end], worth)
        dual[..., :2] = 0
        return dual

    def normalize_rows(self, dual: Tensor) -> Tensor:
        """Every row normalised by itself: nothing goes up the tree.

        Args:
            dual: shape ``(..., size)``.

        Returns:
            Log-probabilities ``(..., size)``.
        """
        rows = dual[..., 2:].unflatten(-1, (-1, self.actions))
        return torch.nn.functional.pad(rows.log_softmax(-1).flatten(-2), (2, 0))

    def largest_payoff(self) -> Tensor:
        r"""The largest entry :math:`\max_{ss'}\lvert A_{ss'}\rvert` of the sequence form."""
        return self._entries.abs().max()

    def ends(self) -> Tensor:
        """A vector over the sequences, ``(size,)``: 1 where a sequence has a payoff, else 0."""
        marks = self._entries.new_zeros(self.size)
        return marks.index_fill_(0, self._rows, 1.0)

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The entries of the payoff in sequence form.

        Returns:
            Slots of the first player's sequences and of the second's, and what the first player
            receives there, each ``(k,)``.
        """
        half = len(self._entries) // 2
        return self._rows[:half], self._columns[:half], -self._entries[:half]

    def value(self, strategies: Strategies) -> Tensor:
        """What the first player receives on average.

        Args:
            strategies: log-probabilities ``(..., rows, actions)`` of each player.

        Returns:
            The value, of the batch's shape.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        weights = self.reach(self.check("strategies", strategies))
        first, second, payoff = self.pairs()
        product = weights.index_select(-1, first) * weights.index_select(-1, second)
        return (product * payoff).sum(-1)

    def least_costs(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """What the best play costs from each sequence on, for fixed costs of the sequences.

        Args:
            losses: as :meth:`losses` gives them, ``(..., size)``.

        Returns:
            Costs with all that follows, ``(..., all rows, actions)``, infinite where an action is
            not legal; and the two players' least costs, ``(..., 2)``.
        """
        total = torch.where(self._allowed, losses, torch.inf)
        for begin, end in reversed(self.levels):
            least = _kept(self.level(total, begin, end)).amin(-1)
            total.index_add_(-1, self.above[begin:end], least)
        return total[..., 2:].unflatten(-1, (-1, self.actions)), total[..., :2]

    def nash_conv(self, strategies: Strategies) -> Tensor:
        """What both players gain by their best responses, together.

        Args:
            strategies: log-probabilities ``(..., rows, actions)`` of each player.

        Returns:
            Shape of the batch; in units of payoff.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        weights = self.reach(self.check("strategies", strategies))
        return -self.least_costs(self.losses(weights))[1].sum(-1)

    def exploitability(self, strategies: Strategies) -> Tensor:
        """Half of :meth:`nash_conv`, equation ``eq-game-exploitability``."""
        return self.nash_conv(strategies) / 2

    def level(self, flat: Tensor, begin: int, end: int) -> Tensor:
        """The rows of one level out of a vector over sequences, as a view.

        Args:
            flat: shape ``(..., size)``.
            begin: first row.
            end: row behind the last.

        Returns:
            Shape ``(..., end - begin, actions)``.
        """
        width = self.actions
        part = flat[..., 2 + begin * width : 2 + end * width]
        return part.unflatten(-1, (end - begin, width))

    def best_response(self, strategies: Strategies) -> Strategies:
        """Pure strategies that are best against the opponent's, row by row.

        Also a row that the player does not reach himself gets a choice that is best from there.

        Args:
            strategies: log-probabilities ``(..., rows, actions)`` of each player.

        Returns:
            For each player log-probabilities with one 0 a row.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        weights = self.reach(self.check("strategies", strategies))
        costs, _ = self.least_costs(self.losses(weights))
        best = costs.argmin(-1, keepdim=True)
        pure = torch.full_like(costs, -torch.inf).scatter_(-1, best, 0.0)
        return self.split(torch.nn.functional.pad(pure.flatten(-2), (2, 0)))

    def action_values(self, strategies: Strategies) -> Strategies:
        r"""What an action is worth to the player who takes it, given that the row is reached.

        Equation ``eq-conditional-values``: the counterfactual value of the action divided by the
        weight with which the opponent and chance reach the row.

        Args:
            strategies: log-probabilities ``(..., rows, actions)`` of each player.

        Returns:
            Action values ``(..., rows, actions)`` of each player, 0 where an action is not legal
            and where the opponent never leads.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        return self.split(-self.conditional_losses(self.check("strategies", strategies)))

    def conditional_losses(self, logs: Tensor) -> Tensor:
        """Less the :meth:`action_values`, for inner loops.

        Args:
            logs: log-probabilities ``(..., size)``.

        Returns:
            Of the same shape.
        """
        probabilities = logs.exp()
        given = self.reach(logs).index_select(-1, self._columns)
        both = torch.stack([given * self._entries, given * self._often])
        total = torch.zeros_like(probabilities).expand(2, *logs.shape).clone()
        total.index_add_(-1, self._rows, both)
        for begin, end in reversed(self.levels[1:]):
            chosen = self.level(probabilities, begin, end)
            mean = (_kept(self.level(total, begin, end)) * chosen).sum(-1)
            total.index_add_(-1, self.above[begin:end], mean)
        costs, often = total[..., 2:].unflatten(-1, (-1, self.actions))
        # Summed over the player's own choices: how often the others lead here.
        chosen = probabilities[..., 2:].unflatten(-1, (-1, self.actions))
        reached = (often * chosen).sum(-1, keepdim=True)
        led = (reached > 0) & self._legal
        costs = torch.where(led, costs / torch.where(reached > 0, reached, 1.0), 0.0)
        return torch.nn.functional.pad(costs.flatten(-2), (2, 0))


def _kept(level: Tensor) -> Tensor:
    """A level that a graph can keep, though what it is a view of is written into again."""
    return level.clone() if level.requires_grad else level
