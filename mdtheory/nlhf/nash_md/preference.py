"""The regularised preference game: its payoff, its best response and its mirror step."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from mdtheory.checks import require_broadcast, require_scale, require_values
from mdtheory.convex.mirror_maps import entropy_step, kl, require_log_probabilities
from mdtheory.nlhf.games.strategies import ZeroSumGame
from mdtheory.nlhf.reward_models import require_preference


class PreferenceGame(ZeroSumGame[Tensor]):
    r"""A preference game, regularised towards a reference policy.

    Definition ``def-preference-game``: player one picks :math:`p`, player two picks :math:`q`, and
    one receives :math:`\mathcal P_\tau(p \succ q) = p^\top P q - \tau\,\mathrm{KL}(p\|\mu) +
    \tau\,\mathrm{KL}(q\|\mu)`, two what is left of 1. Many games at once: the leading axes of the
    three arguments broadcast. Contexts are such a leading axis.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``: the probability that the row's action is
            preferred to the column's, so :math:`P + P^\top = 1`.
        reference: :math:`\log\mu`, log-probabilities ``(..., n)``, all finite.
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.

    Raises:
        TypeError: an argument of the wrong kind, or dtypes differ.
        ValueError: a wrong shape, a NaN, preferences outside [0, 1] or whose pairs do not sum to
            1, a reference that does not sum to 1 or has no full support, a temperature below 0.

    Source:
        Munos et al. (2024), section 4.
    """

    def __init__(
        self, preference: Tensor, reference: Tensor, temperature: float | Tensor = 0.0
    ) -> None:
        require_preference("preference", preference)
        require_log_probabilities("reference", reference, preference, full_support=True)
        self.preference = preference.clone()
        self.reference = reference.clone()
        self.actions = preference.shape[-1]
        self._set(temperature)

    def _set(self, temperature: float | Tensor) -> None:
        weight = _temperature(temperature, self.preference)
        shapes = [self.preference.shape[:-2], self.reference.shape[:-1]]
        shapes += [weight.shape] if isinstance(weight, Tensor) else []
        try:
            self.batch_shape = torch.broadcast_shapes(*shapes)
        except RuntimeError:
            raise ValueError(
                "preference, reference, temperature: expected batch shapes that broadcast, got "
                f"{', '.join(str(tuple(shape)) for shape in shapes)}"
            ) from None
        # With the trailing axis of a policy, so that it meets one.
        self._weight = weight[..., None] if isinstance(weight, Tensor) else weight
        self.temperature = weight

    def __repr__(self) -> str:
        batch = f"{tuple(self.batch_shape)} games of " if self.batch_shape else ""
        return f"PreferenceGame({batch}{self.actions} actions)"

    def at(self, temperature: float | Tensor) -> PreferenceGame:
        """The same preferences and reference at another temperature.

        Args:
            temperature: as above.

        Returns:
            The game.

        Raises:
            TypeError: as the class.
            ValueError: likewise.
        """
        other = copy.copy(self)
        other._set(temperature)
        return other

    def policy(self) -> Tensor:
        """The reference as a policy of every game, shape ``(..., n)``, in its own memory."""
        return self.reference.expand(*self.batch_shape, self.actions).clone()

    def check(self, name: str, log_policy: Tensor) -> Tensor:
        """Refuse what is no policy of this game.

        Args:
            name: the argument's name, for the message.
            log_policy: log-probabilities ``(..., n)``; a probability may be 0.

        Returns:
            ``log_policy`` itself.

        Raises:
            TypeError: not a tensor of the dtype of the preferences.
            ValueError: a wrong shape, a NaN, or probabilities that do not sum to 1.
        """
        require_log_probabilities(name, log_policy, self.preference)
        require_broadcast(name, log_policy.shape[:-1], self.batch_shape)
        return log_policy

    def preferred(self, opponent: Tensor) -> Tensor:
        r"""How often each action is preferred to the opponent's.

        Args:
            opponent: log-probabilities :math:`\log q`, shape ``(..., n)``.

        Returns:
            :math:`P(y \succ q) = (Pq)_y`, shape ``(..., n)``.
        """
        return (self.preference @ opponent.exp()[..., None])[..., 0]

    def value(self, log_policy: Tensor, opponent: Tensor) -> Tensor:
        r"""What player one receives, with the penalties.

        Args:
            log_policy: :math:`\log p`, shape ``(..., n)``.
            opponent: :math:`\log q`, shape ``(..., n)``.

        Returns:
            :math:`\mathcal P_\tau(p \succ q)`, of the batch's shape.
        """
        won = (log_policy.exp() * self.preferred(opponent)).sum(-1)
        return won + self.temperature * (
            kl(opponent, self.reference) - kl(log_policy, self.reference)
        )

    def best_response(self, opponent: Tensor) -> Tensor:
        r"""The policy that receives most against an opponent, equation ``eq-best-response``.

        Args:
            opponent: :math:`\log q`, shape ``(..., n)``.

        Returns:
            :math:`\log\mu + P(\cdot \succ q)/\tau`, normalised, shape ``(..., n)``.

        Raises:
            ValueError: a temperature is 0, where no single policy is best.
        """
        require_game(self, positive=True)
        return self._response(self._weight, self.preferred(opponent))

    def _response(self, weight: float | Tensor, won: Tensor) -> Tensor:
        # An endless step forgets where it starts.
        return entropy_step(self.reference, -won, math.inf, self.reference, weight)

    def step(self, log_policy: Tensor, opponent: Tensor, step_size: float | Tensor) -> Tensor:
        r"""One mirror step against an opponent, with the reference as its magnet.

        Equation ``eq-magnetic-step``; it is ``eq-dual-step`` with the gradient
        :math:`-P(\cdot \succ o)`, the magnet :math:`\log\mu` and its weight :math:`\tau`.

        Args:
            log_policy: where it starts, :math:`\log p`, shape ``(..., n)``.
            opponent: :math:`\log o`, shape ``(..., n)``.
            step_size: :math:`\gamma > 0`, a number, or a tensor that broadcasts with policies.

        Returns:
            The next policy, log-probabilities ``(..., n)``.
        """
        gradient = -self.preferred(opponent)
        return entropy_step(log_policy, gradient, step_size, self.reference, self._weight)

    def exploitability(self, log_policy: Tensor) -> Tensor:
        r"""How much a best response gains, :math:`\max_p \mathcal P_\tau(p \succ q) - 1/2`.

        With a temperature it is :math:`\tau\,\mathrm{KL}(q\|\mathrm{BR}_\tau(q))`, which is how it
        is computed: no digits are lost near the equilibrium.

        Args:
            log_policy: :math:`\log q`, shape ``(..., n)``.

        Returns:
            The gain, at least 0, of the batch's shape.

        Raises:
            TypeError: as :meth:`check`.
            ValueError: likewise.

        Source:
            The closed form follows from Munos et al. (2024), proposition 1.
        """
        won = self.preferred(self.check("log_policy", log_policy))
        tau = self.temperature
        if not isinstance(tau, Tensor):
            return tau * kl(log_policy, self._response(tau, won)) if tau else won.amax(-1) - 0.5
        response = self._response(torch.where(tau > 0, tau, 1.0)[..., None], won)
        return torch.where(tau > 0, tau * kl(log_policy, response), won.amax(-1) - 0.5)


def require_game(game: object, *, positive: bool = False) -> PreferenceGame:
    r"""Refuse what is no preference game.

    Args:
        game: what came.
        positive: whether its temperatures must be above 0.

    Returns:
        ``game`` itself.

    Raises:
        TypeError: no preference game.
        ValueError: a temperature of 0 where none may be.
    """
    if not isinstance(game, PreferenceGame):
        raise TypeError(
            "game: expected a PreferenceGame(preference, reference, temperature), got "
            f"{type(game).__name__}"
        )
    if positive:
        tau = game.temperature
        if isinstance(tau, Tensor):
            require_values("temperature", tau, tau > 0, "temperatures > 0")
        elif tau == 0:
            raise ValueError("temperature: expected a number > 0, got 0")
    return game


def best_response(game: PreferenceGame, opponent: Tensor) -> Tensor:
    r"""The regularised best response to an opponent, equation ``eq-best-response``.

    Args:
        game: preference games, of temperatures above 0.
        opponent: :math:`\log q`, shape ``(..., n)``.

    Returns:
        Log-probabilities ``(..., n)``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, or no policy of the game.

    Source:
        Munos et al. (2024).
    """
    return require_game(game).best_response(game.check("opponent", opponent))


def magnetic_step(
    game: PreferenceGame, log_policy: Tensor, opponent: Tensor, step_size: float | Tensor
) -> Tensor:
    r"""One mirror step of a policy against an opponent, equation ``eq-magnetic-step``.

    The three algorithms of this part differ in the opponent alone.

    Args:
        game: preference games.
        log_policy: :math:`\log p`, shape ``(..., n)``.
        opponent: :math:`\log o`, shape ``(..., n)``.
        step_size: :math:`\gamma > 0`, a number or a tensor of the batch's shape.

    Returns:
        Log-probabilities ``(..., n)``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: no policy of the game, or a step that is not above 0.

    Source:
        Sokota et al. (2023); Munos et al. (2024), equation (8).
    """
    require_game(game).check("log_policy", log_policy)
    game.check("opponent", opponent)
    return game.step(log_policy, opponent, require_step(step_size, game))


def require_step(step_size: float | Tensor, game: PreferenceGame) -> float | Tensor:
    """Check a step size, and give a tensor the trailing axis of a policy.

    Args:
        step_size: a number above 0 or a tensor of the batch's shape.
        game: the game that it is for.

    Returns:
        A number, or a tensor that broadcasts with policies.

    Raises:
        TypeError: neither a number nor a tensor of the dtype of the preferences.
        ValueError: not above 0, not finite, or of a wrong shape.
    """
    return require_scale(
        "step_size", step_size, game.preference, game.batch_shape, strict=True, trailing=1
    )


def _temperature(value: float | Tensor, preference: Tensor) -> float | Tensor:
    kind = torch.finfo(preference.dtype)
    words = f"0 or a number from {kind.tiny} to {kind.max}, whose inverse {preference.dtype} holds"
    tau = require_scale("temperature", value, preference)
    if isinstance(tau, Tensor):
        require_values("temperature", tau, (tau == 0) | (tau >= kind.tiny), words)
        return tau.clone()
    if tau and not kind.tiny <= tau <= kind.max:
        raise ValueError(f"temperature: expected {words}, got {tau!r}")
    return tau
