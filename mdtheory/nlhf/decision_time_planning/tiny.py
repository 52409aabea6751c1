"""Two players, two cards, two actions: the smallest game in which to speak is to act."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from mdtheory.checks import (
    require_finite,
    require_same_kind,
    require_simplex,
    require_tensor,
)
from mdtheory.nlhf.decision_time_planning.common_payoff import CommonPayoffGame, require_policies

# Prescriptions that are tried at once in the search for the optimum.
AT_ONCE = 512


class TinyHanabi:
    r"""Cards :math:`x, y`; the first player acts on :math:`x`, the second on :math:`y` and that.

    Definition ``def-tiny-hanabi``. A policy is the pair of log-probabilities
    ``(..., X, A)`` and ``(..., Y, A, B)``: of the first player's actions given his card, and of the
    second player's given his card and what the first has done.

    Args:
        payoff: :math:`u(x, y, a, b)`, shape ``(..., X, Y, A, B)``.
        prior: the law of both cards, ``(..., X, Y)``, uniform by default.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: a wrong shape, a NaN, or no law.

    Source:
        The form is that of the Tiny Hanabi suite, Sokota et al. (2021).
    """

    def __init__(self, payoff: Tensor, prior: Tensor | None = None) -> None:
        require_tensor("payoff", payoff)
        require_finite("payoff", payoff)
        if payoff.ndim < 4 or 0 in payoff.shape[-4:]:
            raise ValueError(f"payoff: expected shape (..., X, Y, A, B), got {tuple(payoff.shape)}")
        cards = payoff.shape[-4:-2]
        if prior is None:
            prior = payoff.new_full(cards, 1 / (cards[0] * cards[1]))
        require_tensor("prior", prior)
        require_same_kind("prior", prior, "payoff", payoff)
        if prior.shape[-2:] != cards:
            raise ValueError(
                f"prior: expected shape (..., {cards[0]}, {cards[1]}), got {tuple(prior.shape)}"
            )
        require_simplex("prior", prior.flatten(-2))
        try:
            batch = torch.broadcast_shapes(payoff.shape[:-4], prior.shape[:-2])
        except RuntimeError:
            raise ValueError(
                f"prior: expected batch axes that broadcast with {tuple(payoff.shape[:-4])}, got "
                f"{tuple(prior.shape[:-2])}"
            ) from None
        self.payoff = payoff.expand(*batch, *payoff.shape[-4:]).clone()
        self.prior = prior.expand(*batch, *cards).clone()
        self.players, self.decisions = 2, 2

    def __repr__(self) -> str:
        x, y, a, b = self.payoff.shape[-4:]
        return f"TinyHanabi({x} and {y} cards, {a} and {b} actions)"

    @property
    def reward_range(self) -> Tensor:
        """How far payoffs of cards that come lie apart at most, of the batch's shape."""
        comes = (self.prior > 0)[..., None, None]
        high = torch.where(comes, self.payoff, -torch.inf).flatten(-4).amax(-1)
        return high - torch.where(comes, self.payoff, torch.inf).flatten(-4).amin(-1)

    def uniform(self) -> tuple[Tensor, Tensor]:
        """The policy that chooses evenly."""
        cards, y, a, b = self.payoff.shape[-4:]
        first, second = self.payoff.new_zeros(cards, a), self.payoff.new_zeros(y, a, b)
        return first.log_softmax(-1), second.log_softmax(-1)

    def check(self, name: str, log_policy: object) -> tuple[Tensor, Tensor]:
        """Refuse what is no policy of this game.

        Args:
            name: the argument's name, for the message.
            log_policy: the pair of log-probabilities.

        Returns:
            The probabilities of both players.

        Raises:
            TypeError: no pair of tensors of the dtype of the payoffs.
            ValueError: a wrong shape, a NaN, or a wrong sum.
        """
        laws = require_policies(name, log_policy, self.payoff, 2)
        x, y, a, b = self.payoff.shape[-4:]
        for player, (law, wanted) in enumerate(zip(laws, ((x, a), (y, a, b)), strict=True)):
            if tuple(law.shape[-len(wanted) :]) != wanted:
                words = ", ".join(map(str, wanted))
                raise ValueError(
                    f"{name}[{player}]: expected shape (..., {words}), got {tuple(law.shape)}"
                )
        try:
            torch.broadcast_shapes(self.prior.shape[:-2], laws[0].shape[:-2], laws[1].shape[:-3])
        except RuntimeError:
            raise ValueError(
                f"{name}: expected batch axes that broadcast with "
                f"{tuple(self.prior.shape[:-2])}, got {tuple(laws[0].shape[:-2])} and "
                f"{tuple(laws[1].shape[:-3])}"
            ) from None
        return laws[0].exp(), laws[1].exp()

    def value(self, log_policy: tuple[Tensor, ...]) -> Tensor:
        """The expected return, equation ``eq-team-value``.

        Args:
            log_policy: the pair of log-probabilities.

        Returns:
            Of the batch's shape.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        first, second = self.check("log_policy", log_policy)
        worth = self._after_both(second)
        return (self.prior[..., None] * first[..., :, None, :] * worth).sum((-3, -2, -1))

    def _after_both(self, second: Tensor) -> Tensor:
        """What an action of the first is worth when both cards are known, ``(..., X, Y, A)``."""
        return (self.payoff * second[..., None, :, :, :]).sum(-1)

    def action_values(self, log_policy: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The return expected after an action by whoever chooses, equation ``eq-search-value``.

        The first player weighs :math:`y` by its law given :math:`x`; the second one weighs
        :math:`x` by that and by the probability with which the first would have acted so.

        Args:
            log_policy: the pair of log-probabilities.

        Returns:
            Values ``(..., X, A)`` and ``(..., Y, A, B)``, 0 where a card or an action does not
            come.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.
        """
        first, second = self.check("log_policy", log_policy)
        ahead = _posterior(self.prior, -1)
        opening = (ahead[..., None] * self._after_both(second)).sum(-2)
        behind = _posterior(self.prior[..., None] * first[..., :, None, :], -3)
        reply = (behind[..., None] * self.payoff).sum(-4)
        return opening, reply

    def sampled_values(
        self, log_policy: tuple[Tensor, ...], samples: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Action values from sampled cards and replies.

        All actions are tried on the same cards and with the same random numbers.

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
        first, second = self.check("log_policy", log_policy)
        x, y, a, b = self.payoff.shape[-4:]
        batch = torch.broadcast_shapes(
            self.prior.shape[:-2], first.shape[:-2], second.shape[:-3]
        )  # fmt: skip
        payoff = self.payoff.expand(*batch, x, y, a, b)
        second = second.expand(*batch, y, a, b)
        ahead = _posterior(self.prior.expand(*batch, x, y), -1)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(
                *batch, *shape, generator=generator, dtype=payoff.dtype, device=payoff.device
            )

        other = _draw(ahead, uniform(x, samples))  # (..., X, M)
        row = other[..., None, None].expand(*batch, x, samples, a, b)
        law = second[..., None, :, :, :].expand(*batch, x, y, a, b).gather(-3, row)
        reply = _draw(law, uniform(x, samples, 1, 1).expand(*batch, x, samples, a, 1))
        worth = payoff.gather(-3, row).gather(-1, reply)[..., 0]
        opening = torch.where((ahead.sum(-1) > 0)[..., None], worth.mean(-2), 0.0)
        behind = _posterior(self.prior[..., None] * first[..., :, None, :], -3)
        behind = behind.expand(*batch, x, y, a).movedim(-3, -1)  # (..., Y, A, X)
        mine = _draw(behind, uniform(y, a, samples))
        seen = payoff.movedim(-4, -2).gather(
            -2, mine[..., None].expand(*batch, y, a, samples, b)
        )  # fmt: skip
        closing = torch.where((behind.sum(-1) > 0)[..., None], seen.mean(-2), 0.0)
        return opening, closing

    def optimum(self) -> Tensor:
        """The largest expected return of any policy, by trying what public search must try.

        An adviser who knows what both know together gives the first player a *prescription*, an
        action for each card. There are :math:`A^X` of them; after each the second player does
        what is best.

        Returns:
            Of the batch's shape.
        """
        x, _, a, _ = self.payoff.shape[-4:]
        worth = self.prior[..., None, None] * self.payoff
        device = self.payoff.device
        every = itertools.product(range(a), repeat=x)
        best: Tensor | None = None
        while block := list(itertools.islice(every, AT_ONCE)):
            chosen = torch.nn.functional.one_hot(torch.tensor(block, device=device), a)
            told = torch.einsum("pxa,...xyab->...pyab", chosen.to(worth.dtype), worth)
            value = told.amax(-1).sum((-2, -1)).amax(-1)
            best = value if best is None else torch.maximum(best, value)
        assert best is not None
        return best

    def tree(self) -> CommonPayoffGame:
        """The same game as a list of ends; one prior of the batch alone.

        Returns:
            The game; the second player's rows are his cards and what he saw, in that order.

        Raises:
            ValueError: several priors, or a card that never comes.
        """
        x, y, a, b = self.payoff.shape[-4:]
        prior = self.prior.reshape(-1, x, y)
        if not bool((prior == prior[0]).all()):
            raise ValueError("prior: expected one law for all games, got several")
        grid = torch.cartesian_prod(*(torch.arange(n, device=prior.device) for n in (x, y, a, b)))
        i, j, first, second = grid.unbind(-1)
        chance = prior[0][i, j]
        kept = chance > 0
        rows = torch.stack([i, x + j * a + first], -1)
        return CommonPayoffGame(
            self.payoff.flatten(-4)[..., kept], chance[kept], rows[kept],
            torch.stack([first, second], -1)[kept],
            torch.tensor([0] * x + [1] * (y * a), device=prior.device),
        )  # fmt: skip


def _posterior(weights: Tensor, axis: int) -> Tensor:
    """Weights divided by their sum along an axis, 0 where there is nothing."""
    total = weights.sum(axis, keepdim=True)
    return weights / torch.where(total > 0, total, 1.0)


def _draw(law: Tensor, uniform: Tensor) -> Tensor:
    """Entries drawn by inverting the law of the last axis; the count of numbers is kept."""
    below = law.cumsum(-1)
    total = below[..., -1:]
    if uniform.shape[-1] == 1 and law.ndim == uniform.ndim:
        found = (below <= uniform * total).sum(-1, keepdim=True)
    else:
        found = (below[..., None, :] <= (uniform * total)[..., None]).sum(-1)
    # Beyond the last entry with mass only rounding leads.
    last = (law > 0).to(torch.int64).cumsum(-1).argmax(-1, keepdim=True)
    return found.minimum(last)
