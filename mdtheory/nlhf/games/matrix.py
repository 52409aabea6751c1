"""Matrix games: batches of zero-sum games in normal form."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_finite, require_tensor
from mdtheory.convex.mirror_maps import require_log_probabilities
from mdtheory.nlhf.games.strategies import Strategies, ZeroSumGame, require_pair, units


class MatrixGame(ZeroSumGame[Strategies]):
    r"""Zero-sum games in normal form, many at once.

    Definition ``def-matrix-game``: the row player picks :math:`x`, the column player :math:`y`,
    and the row player receives :math:`x^\top A\, y` from the column player; the **row player
    maximises**. ``strategies`` is always the pair of log-probabilities of both, ``(..., m)`` and
    ``(..., n)``; ``-inf`` is the probability 0. Payoffs may have any size; the book scales them to
    :math:`[-1, 1]`, so that their :func:`smoothness` is at most 1.

    Args:
        payoff: :math:`A`, shape ``(..., m, n)``.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: fewer than two axes, an empty one, a NaN or an infinity.
    """

    def __init__(self, payoff: Tensor) -> None:
        require_tensor("payoff", payoff)
        if payoff.ndim < 2 or 0 in payoff.shape[-2:]:
            raise ValueError(f"payoff: expected shape (..., m, n), got {tuple(payoff.shape)}")
        require_finite("payoff", payoff)
        self.payoff = payoff.clone()
        self.batch_shape = payoff.shape[:-2]
        self.rows, self.columns = payoff.shape[-2:]

    def __repr__(self) -> str:
        batch = f"{tuple(self.batch_shape)} games of " if self.batch_shape else ""
        return f"MatrixGame({batch}{self.rows} x {self.columns})"

    def normalized(self) -> tuple[MatrixGame, Tensor, Tensor]:
        """The games in units of their own: payoffs from -1 to 1, or 0 where all are equal.

        Returns:
            Games with the same equilibria, and the centre and half the range of the payoffs, both
            of the batch's shape: ``payoff = centre + half * normalized``. Where all payoffs are
            equal the half is 1.
        """
        low, high = self.payoff.amin((-2, -1)), self.payoff.amax((-2, -1))
        centre, half = units(low, high)
        shifted = self.payoff - centre[..., None, None]
        return MatrixGame(shifted / half[..., None, None]), centre, half

    def uniform(self) -> Strategies:
        """The strategies that choose evenly, for every game of the batch."""
        first = self.payoff.new_zeros(*self.batch_shape, self.rows)
        second = self.payoff.new_zeros(*self.batch_shape, self.columns)
        return first.log_softmax(-1), second.log_softmax(-1)

    def check(self, name: str, strategies: object) -> Tensor:
        """Refuse what is no pair of strategies of these games.

        Args:
            name: the argument's name, for the message.
            strategies: log-probabilities ``(..., m)`` and ``(..., n)``.

        Returns:
            Both in one tensor ``(..., m + n)``, of the batch shape of both and the games.

        Raises:
            TypeError: no pair of tensors of the dtype of the payoffs.
            ValueError: a wrong shape, a NaN, or exponentials that do not sum to 1.
        """
        pair = require_pair(name, strategies, self.payoff)
        for player, (mine, count) in enumerate(zip(pair, (self.rows, self.columns), strict=True)):
            here = f"{name}[{player}]"
            if mine.shape[-1] != count:
                raise ValueError(
                    f"{here}: expected {count} log-probabilities in the last axis, got shape "
                    f"{tuple(mine.shape)}"
                )
            require_log_probabilities(here, mine)
        try:
            batch = torch.broadcast_shapes(self.batch_shape, pair[0].shape[:-1], pair[1].shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"{name}: expected batch shapes that broadcast with {tuple(self.batch_shape)}, got "
                f"{tuple(pair[0].shape[:-1])} and {tuple(pair[1].shape[:-1])}"
            ) from None
        return self.join((pair[0].expand(*batch, -1), pair[1].expand(*batch, -1)))

    def join(self, pair: Strategies) -> Tensor:
        """Both strategies in one tensor.

        Args:
            pair: tensors ``(..., m)`` and ``(..., n)``.

        Returns:
            Shape ``(..., m + n)``.
        """
        return torch.cat(pair, -1)

    def split(self, joint: Tensor) -> Strategies:
        """The inverse of :meth:`join`.

        Args:
            joint: shape ``(..., m + n)``.

        Returns:
            Tensors ``(..., m)`` and ``(..., n)``, views of it.
        """
        return joint[..., : self.rows], joint[..., self.rows :]

    def losses(self, probabilities: Tensor) -> Tensor:
        r"""The operator of the game: what each action costs the player who owns it.

        Equation ``eq-game-operator``: :math:`F(x, y) = (-Ay,\, A^\top x)`.

        Args:
            probabilities: of both players, ``(..., m + n)``.

        Returns:
            Shape ``(..., m + n)``.
        """
        x, y = self.split(probabilities)
        received = (self.payoff @ y[..., None])[..., 0]
        paid = (x[..., None, :] @ self.payoff)[..., 0, :]
        return torch.cat([-received, paid], -1)

    def normalize(self, dual: Tensor) -> Tensor:
        """From a dual to log-probabilities, for each player.

        Args:
            dual: shape ``(..., m + n)``.

        Returns:
            Of the same shape.
        """
        return torch.cat([part.log_softmax(-1) for part in self.split(dual)], -1)

    def value(self, strategies: Strategies) -> Tensor:
        r"""What the row player receives, :math:`x^\top A\, y`.

        Args:
            strategies: log-probabilities ``(..., m)`` and ``(..., n)``.

        Returns:
            Of the batch's shape.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        x, y = self.split(self.check("strategies", strategies).exp())
        return (x * (self.payoff @ y[..., None])[..., 0]).sum(-1)

    def best_response(self, strategies: Strategies) -> Strategies:
        """Pure strategies that are best against the opponent's; the first one where several are.

        Args:
            strategies: log-probabilities ``(..., m)`` and ``(..., n)``.

        Returns:
            Log-probabilities with one 0 and else ``-inf``, of the same shapes.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        losses = self.losses(self.check("strategies", strategies).exp())
        first, second = (
            torch.full_like(cost, -torch.inf).scatter_(-1, cost.argmin(-1, keepdim=True), 0.0)
            for cost in self.split(losses)
        )
        return first, second

    def nash_conv(self, strategies: Strategies) -> Tensor:
        r"""The duality gap :math:`\max_i (Ay)_i - \min_j (A^\top x)_j`, equation ``eq-nash-conv``.

        Args:
            strategies: log-probabilities ``(..., m)`` and ``(..., n)``.

        Returns:
            What both players gain by their best responses, together; of the batch's shape.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        cost, paid = self.split(self.losses(self.check("strategies", strategies).exp()))
        return -cost.amin(-1) - paid.amin(-1)

    def exploitability(self, strategies: Strategies) -> Tensor:
        """Half of :meth:`nash_conv`, equation ``eq-game-exploitability``."""
        return self.nash_conv(strategies) / 2
