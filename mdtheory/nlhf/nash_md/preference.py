"""The regularised preference game: its payoff, its best response and its mirror step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_scale, require_tensor, require_values
from mdtheory.convex.mirror_maps import entropy_step, kl, require_log_probabilities


class PreferenceGame:
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
        weight = _temperature(temperature, preference)
        try:
            batch = torch.broadcast_shapes(
                preference.shape[:-2],
                reference.shape[:-1],
                weight.shape if isinstance(weight, Tensor) else (),
            )
        except RuntimeError:
            came = tuple(temperature.shape) if isinstance(temperature, Tensor) else ()
            raise ValueError(
                "preference, reference, temperature: expected batch shapes that broadcast, got "
                f"{tuple(preference.shape[:-2])}, {tuple(reference.shape[:-1])}, {came}"
            ) from None
        self.preference = preference.clone()
        self.reference = reference.clone()
        self.batch_shape = batch
        self.actions = preference.shape[-1]
        # With the trailing axis of a policy, so that it meets one.
        self._weight = weight[..., None] if isinstance(weight, Tensor) else weight
        self.temperature = weight

    def policy(self) -> Tensor:
        """The reference as a policy of every game, shape ``(..., n)``, in its own memory."""
        return self.reference.expand(*self.batch_shape, self.actions).clone()

    def check(self, name: str, policy: Tensor) -> Tensor:
        """Refuse what is no policy of this game.

        Args:
            name: the argument's name, for the message.
            policy: log-probabilities ``(..., n)``; a probability may be 0.

        Returns:
            ``policy`` itself.

        Raises:
            TypeError: not a tensor of the dtype of the preferences.
            ValueError: a wrong shape, a NaN, or probabilities that do not sum to 1.
        """
        require_log_probabilities(name, policy, self.preference)
        try:
            torch.broadcast_shapes(policy.shape[:-1], self.batch_shape)
        except RuntimeError:
            raise ValueError(
                f"{name}: expected a batch shape that broadcasts with {tuple(self.batch_shape)}, "
                f"got {tuple(policy.shape[:-1])}"
            ) from None
        return policy

    def preferred(self, opponent: Tensor) -> Tensor:
        r"""How often each action is preferred to the opponent's.

        Args:
            opponent: log-probabilities :math:`\log q`, shape ``(..., n)``.

        Returns:
            :math:`P(y \succ q) = (Pq)_y`, shape ``(..., n)``.
        """
        return (self.preference @ opponent.exp()[..., None])[..., 0]

    def value(self, policy: Tensor, opponent: Tensor) -> Tensor:
        r"""What player one receives, with the penalties.

        Args:
            policy: :math:`\log p`, shape ``(..., n)``.
            opponent: :math:`\log q`, shape ``(..., n)``.

        Returns:
            :math:`\mathcal P_\tau(p \succ q)`, of the batch's shape.
        """
        won = (policy.exp() * self.preferred(opponent)).sum(-1)
        return won + self.temperature * (kl(opponent, self.reference) - kl(policy, self.reference))

    def best_response(self, opponent: Tensor) -> Tensor:
        r"""The policy that receives most against an opponent, equation ``eq-best-response``.

        Args:
            opponent: :math:`\log q`, shape ``(..., n)``.

        Returns:
            :math:`\log\mu + P(\cdot \succ q)/\tau`, normalised, shape ``(..., n)``.

        Raises:
            ValueError: a temperature is 0, where no single policy is best.
        """
        if isinstance(self._weight, Tensor):
            require_values("temperature", self._weight, self._weight > 0, "temperatures > 0")
        elif self._weight == 0:
            raise ValueError("temperature: expected a number > 0, got 0")
        return self._response(self._weight, opponent)

    def _response(self, weight: float | Tensor, opponent: Tensor) -> Tensor:
        # An endless step forgets where it starts.
        won = self.preferred(opponent)
        return entropy_step(opponent, -won, math.inf, self.reference, weight)

    def step(self, policy: Tensor, opponent: Tensor, step_size: float | Tensor) -> Tensor:
        r"""One mirror step against an opponent, with the reference as its magnet.

        Equation ``eq-magnetic-step``; it is ``eq-dual-step`` with the gradient
        :math:`-P(\cdot \succ o)`, the magnet :math:`\log\mu` and its weight :math:`\tau`.

        Args:
            policy: where it starts, :math:`\log p`, shape ``(..., n)``.
            opponent: :math:`\log o`, shape ``(..., n)``.
            step_size: :math:`\gamma > 0`, a number, or a tensor that broadcasts with policies.

        Returns:
            The next policy, log-probabilities ``(..., n)``.
        """
        gradient = -self.preferred(opponent)
        return entropy_step(policy, gradient, step_size, self.reference, self._weight)

    def exploitability(self, policy: Tensor) -> Tensor:
        r"""How much a best response gains, :math:`\max_p \mathcal P_\tau(p \succ q) - 1/2`.

        With a temperature it is :math:`\tau\,\mathrm{KL}(q\|\mathrm{BR}_\tau(q))`, which is how it
        is computed: no digits are lost near the equilibrium.

        Args:
            policy: :math:`\log q`, shape ``(..., n)``.

        Returns:
            The gain, at least 0, of the batch's shape.
        """
        return _exploitability(self, policy)


def require_preference(name: str, value: object) -> Tensor:
    """Refuse what is no matrix of preferences.

    Args:
        name: the argument's name, for the message.
        value: what came; shape ``(..., n, n)`` expected.

    Returns:
        ``value`` itself.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: not square, outside [0, 1], or pairs that do not sum to 1.
    """
    matrix = require_tensor(name, value, 2)
    require_values(name, matrix, (matrix >= 0) & (matrix <= 1), "probabilities in [0, 1]")
    off = (matrix + matrix.mT - 1).abs()
    tolerance = 8 * math.sqrt(torch.finfo(matrix.dtype).eps)
    require_values(name, matrix, off <= tolerance, "pairs with P[y, z] + P[z, y] = 1")
    return matrix


def best_response(
    preference: Tensor, opponent: Tensor, reference: Tensor, temperature: float | Tensor
) -> Tensor:
    r"""The regularised best response to an opponent, equation ``eq-best-response``.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        opponent: :math:`\log q`, shape ``(..., n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.

    Returns:
        Log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, or a temperature of 0.

    Source:
        Munos et al. (2024).
    """
    game = require_positive(preference, reference, temperature)
    return game.best_response(game.check("opponent", opponent))


def magnetic_step(
    preference: Tensor,
    policy: Tensor,
    opponent: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    step_size: float | Tensor,
) -> Tensor:
    r"""One mirror step of a policy against an opponent, equation ``eq-magnetic-step``.

    The three algorithms of this part differ in the opponent alone.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        policy: :math:`\log p`, shape ``(..., n)``.
        opponent: :math:`\log o`, shape ``(..., n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.
        step_size: :math:`\gamma > 0`, likewise.

    Returns:
        Log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, or a step that is not above 0.

    Source:
        Sokota et al. (2023); Munos et al. (2024), equation (8).
    """
    game = PreferenceGame(preference, reference, temperature)
    game.check("policy", policy)
    game.check("opponent", opponent)
    return game.step(policy, opponent, require_step(step_size, game))


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


def regularized_exploitability(
    preference: Tensor, policy: Tensor, reference: Tensor, temperature: float | Tensor
) -> Tensor:
    r"""How much a best response gains over one half, in closed form.

    Proposition ``prop-exploitability``: :math:`\max_p \mathcal P_\tau(p \succ q) - 1/2 =
    \tau\,\mathrm{KL}(q \| \mathrm{BR}_\tau(q))`.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        policy: :math:`\log q`, shape ``(..., n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        temperature: :math:`\tau \ge 0`, a number or a tensor of the batch's shape.

    Returns:
        The gain, at least 0, of the batch's shape.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise.

    Source:
        The closed form follows from Munos et al. (2024), proposition 1.
    """
    game = PreferenceGame(preference, reference, temperature)
    return game.exploitability(game.check("policy", policy))


def _exploitability(game: PreferenceGame, policy: Tensor) -> Tensor:
    tau = game.temperature
    if not isinstance(tau, Tensor):
        if tau == 0:
            return game.preferred(policy).amax(-1) - 0.5
        return tau * kl(policy, game.best_response(policy))
    plain = game.preferred(policy).amax(-1) - 0.5
    response = game._response(torch.where(tau > 0, tau, 1.0)[..., None], policy)
    return torch.where(tau > 0, tau * kl(policy, response), plain)


def require_positive(
    preference: Tensor, reference: Tensor, temperature: float | Tensor
) -> PreferenceGame:
    r"""A game whose temperatures are above 0.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        temperature: a number or a tensor of the batch's shape.

    Returns:
        The game.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, or a temperature of 0.
    """
    game = PreferenceGame(preference, reference, temperature)
    tau = game.temperature
    if isinstance(tau, Tensor):
        require_values("temperature", tau, tau > 0, "temperatures > 0")
    elif tau == 0:
        raise ValueError("temperature: expected a number > 0, got 0")
    return game


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
