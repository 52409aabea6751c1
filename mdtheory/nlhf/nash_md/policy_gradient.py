"""Nash-MD-PG and Nash-EMA-PG: policy gradients against an opponent, over sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
)
from mdtheory.convex.mirror_maps import kl
from mdtheory.nlhf.nash_md.preference import PreferenceGame, require_game
from mdtheory.sequences import (
    SequenceSpace,
    exact_gradient,
    reinforce_surrogate,
    sampled_gradient,
)


def policy_gradient_surrogate(
    token_log_probs: Tensor,
    reference_token_log_probs: Tensor,
    preferred: Tensor,
    temperature: float | Tensor,
    credit: str = "to-go",
) -> Tensor:
    r"""A number for each sequence whose gradient is the policy gradient estimate.

    Equation ``eq-pg-estimate`` and its forms in ``prop-reward-to-go``. Maximise its mean over
    sequences that were drawn from the policy. Nothing but the scores is differentiated.

    Args:
        token_log_probs: :math:`\log\pi(y_n \mid y_{<n})`, shape ``(..., L)``; carries the gradient.
        reference_token_log_probs: of the reference, likewise.
        preferred: how often the sequence is preferred to the opponent, or a label 0 or 1,
            shape ``(...)``.
        temperature: :math:`\tau \ge 0`, a number or a tensor that broadcasts to ``(...)``.
        credit: which log-ratios meet the score of a token, one of the three of
            :func:`~mdtheory.sequences.token_gains`.

    Returns:
        Shape ``(...)``.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes that differ, an entry that is not finite, a negative temperature, or an
            unknown credit.

    Source:
        Munos et al. (2024), equation (13).
    """
    _require_tokens(token_log_probs, reference_token_log_probs, preferred)
    batch = preferred.shape
    tau = require_scale("temperature", temperature, preferred, batch, widens=False, trailing=1)
    cost = tau * (token_log_probs - reference_token_log_probs)
    return reinforce_surrogate(token_log_probs, preferred - 0.5, cost, credit)


def expected_gradient(
    space: SequenceSpace,
    logits: Tensor,
    reference_logits: Tensor,
    preferred: Tensor,
    temperature: float,
    credit: str = "to-go",
) -> Tensor:
    """Exact mean of the estimate over the policy's sequences, by enumeration.

    Args:
        space: the sequences.
        logits: of the policy, shape ``(..., prefixes, V)``.
        reference_logits: of the reference, of a shape that broadcasts.
        preferred: how often each sequence is preferred to the opponent, ``(..., V**L)``, of a shape
            that broadcasts to the batch of ``logits``.
        temperature: at least 0.
        credit: as in :func:`policy_gradient_surrogate`.

    Returns:
        A gradient of the shape of ``logits``.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: wrong shapes, or as :func:`policy_gradient_surrogate`.
    """
    tokens = space.token_log_probs(logits)
    reference = _alike("reference_logits", space.token_log_probs(reference_logits), tokens)
    won = _alike("preferred", require_tensor("preferred", preferred), tokens[..., 0])
    tau = require_number("temperature", temperature, 0.0)
    return exact_gradient(space, logits, won - 0.5, tau * (tokens - reference), credit)


def objective_gradient(
    space: SequenceSpace,
    logits: Tensor,
    reference_logits: Tensor,
    preferred: Tensor,
    temperature: float,
) -> Tensor:
    r"""Gradient of the objective itself, differentiated as it is written.

    The objective is :math:`\sum_y \pi(y)\,P(y \succ o) - \tau\,\mathrm{KL}(\pi\|\mu)` with the
    opponent held fixed; it knows nothing of scores, and is what the estimates must agree with.

    Args:
        space: as in :func:`expected_gradient`.
        logits: likewise.
        reference_logits: likewise.
        preferred: likewise.
        temperature: likewise.

    Returns:
        A gradient of the shape of ``logits``.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: wrong shapes.
    """
    require_number("temperature", temperature, 0.0)
    leaf = space.check("logits", logits).detach().requires_grad_()
    with torch.enable_grad():
        policy = space.log_probs(leaf)
        reference = _alike("reference_logits", space.log_probs(reference_logits), policy)
        gain = _alike("preferred", require_tensor("preferred", preferred), policy)
        won = (policy.exp() * gain).sum(-1)
        return torch.autograd.grad((won - temperature * kl(policy, reference)).sum(), leaf)[0]


def nash_md_pg(
    space: SequenceSpace,
    game: PreferenceGame,
    iterations: int,
    mixture_weight: float | Tensor = 0.125,
    *,
    learning_rate: float = 0.05,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Nash-MD-PG: ascend against the mixture with the reference, token by token.

    Equations ``eq-pg-estimate`` and ``eq-token-mixture``, by Adam from the reference. A mixture
    weight of 0 is self-play, of 1 a best response to the reference.

    Args:
        space: the sequences.
        game: preference games whose actions are the ``V**L`` sequences.
        iterations: steps of Adam.
        mixture_weight: :math:`\beta` in [0, 1], a number or a tensor of the batch's shape, so that
            a whole grid is one call.
        learning_rate: of Adam.
        samples: pairs of sequences drawn in each step; ``None`` for exact expectations.
        generator: source of the samples; needed with ``samples``.

    Returns:
        The last logits, shape ``(..., prefixes, V)``.

    Raises:
        TypeError: no preference game, or weights of another dtype.
        ValueError: wrong shapes or ranges, or samples without a generator.

    Source:
        Munos et al. (2024), section 7.
    """
    batch = _batch(space, game, "mixture_weight", mixture_weight)
    climb = _Climb.from_game(space, game, batch, learning_rate, samples, generator)
    for _ in range(require_count("iterations", iterations, 0)):
        mixed = space.token_mixture(climb.logits, climb.reference_logits, mixture_weight)
        climb.against(game.preference, mixed)
    return climb.logits


def nash_ema_pg(
    space: SequenceSpace,
    game: PreferenceGame,
    iterations: int,
    decay: float | Tensor = 0.99,
    *,
    learning_rate: float = 0.05,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Nash-EMA-PG: ascend against the policy of averaged parameters.

    Equation ``eq-ema``: :math:`\bar\theta_t = (1 - \beta)\theta_t + \beta\bar\theta_{t-1}`, from
    the reference.

    Args:
        space: as in :func:`nash_md_pg`.
        game: likewise.
        iterations: likewise.
        decay: :math:`\beta` in [0, 1], a number or a tensor of the batch's shape.
        learning_rate: as in :func:`nash_md_pg`.
        samples: likewise.
        generator: likewise.

    Returns:
        The last logits (not the averaged ones), shape ``(..., prefixes, V)``.

    Raises:
        TypeError: as :func:`nash_md_pg`.
        ValueError: likewise.

    Source:
        Munos et al. (2024), section 7; the recursion as the text means it, not as it is printed.
    """
    batch = _batch(space, game, "decay", decay)
    kept = require_scale("decay", decay, game.preference, maximum=1.0, trailing=2)
    climb = _Climb.from_game(space, game, batch, learning_rate, samples, generator)
    average = climb.logits.clone()
    for _ in range(require_count("iterations", iterations, 0)):
        average = (1 - kept) * climb.logits + kept * average
        climb.against(game.preference, average)
    return climb.logits


def reward_pg(
    space: SequenceSpace,
    reward: Tensor,
    reference_logits: Tensor,
    temperature: float,
    iterations: int,
    *,
    learning_rate: float = 0.05,
) -> Tensor:
    r"""RLHF with exact gradients: maximise :math:`\mathbb E_\pi r - \tau\,\mathrm{KL}(\pi\|\mu)`.

    Args:
        space: the sequences.
        reward: :math:`r`, shape ``(..., V**L)``.
        reference_logits: of :math:`\mu`, shape ``(..., prefixes, V)``.
        temperature: :math:`\tau \ge 0`.
        iterations: steps of Adam.
        learning_rate: of Adam.

    Returns:
        The last logits, shape ``(..., prefixes, V)``.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: wrong shapes or ranges.
    """
    require_finite("reward", require_tensor("reward", reward))
    require_shape("reward", reward, (*reward.shape[:-1], space.count))
    space.check("reference_logits", reference_logits)
    require_same_kind("reference_logits", reference_logits, "the reward", reward)
    batch = require_broadcast("reward", reward.shape[:-1], reference_logits.shape[:-2])
    tau = require_number("temperature", temperature, 0.0)
    climb = _Climb(space, reference_logits, batch, tau, learning_rate, None, None)
    for _ in range(require_count("iterations", iterations, 0)):
        climb.step(reward)
    return climb.logits


class _Climb:
    """Adam on the logits of a batch of policies; entry by entry, so the policies do not mix."""

    def __init__(
        self,
        space: SequenceSpace,
        reference_logits: Tensor,
        batch: tuple[int, ...],
        temperature: float | Tensor,
        learning_rate: float,
        samples: int | None,
        generator: torch.Generator | None,
    ) -> None:
        self.space, self.samples, self.generator = space, samples, generator
        # A batch of temperatures meets one number for each token of each sequence.
        self.temperature = (
            temperature[..., None, None] if isinstance(temperature, Tensor) else temperature
        )
        require_number("learning_rate", learning_rate, 0.0, strict=True)
        if samples is not None:
            require_count("samples", samples, 1)
            if generator is None:
                raise ValueError("generator: expected one where samples are drawn, got None")
        self.reference_logits = reference_logits
        self.logits = reference_logits.expand(*batch, *reference_logits.shape[-2:]).clone()
        self.reference = space.token_log_probs(reference_logits)
        self.adam = torch.optim.Adam([self.logits], learning_rate, maximize=True)

    @classmethod
    def from_game(
        cls,
        space: SequenceSpace,
        game: PreferenceGame,
        batch: tuple[int, ...],
        learning_rate: float,
        samples: int | None,
        generator: torch.Generator | None,
    ) -> _Climb:
        """From the reference of a game."""
        logits = space.logits(game.reference)
        return cls(space, logits, batch, game.temperature, learning_rate, samples, generator)

    def against(self, preference: Tensor, opponent: Tensor) -> None:
        """One step against the policy of these logits."""
        if self.samples is None:
            law = self.space.log_probs(opponent).exp()
            return self.step((preference @ law[..., None])[..., 0])
        assert self.generator is not None
        ours = self.space.sample(self.logits, self.samples, self.generator)
        theirs = self.space.sample(opponent, self.samples, self.generator)
        flat = preference.expand(*ours.shape[:-1], *preference.shape[-2:]).flatten(-2)
        won = flat.gather(-1, ours * self.space.count + theirs)
        paid = self._cost().gather(-2, ours[..., None].expand(*ours.shape, self.space.length))
        return self._climb(sampled_gradient(self.space, self.logits, ours, won - 0.5, paid))

    def step(self, preferred: Tensor) -> None:
        """One step for given preferences over all sequences, in exact expectation."""
        self._climb(exact_gradient(self.space, self.logits, preferred - 0.5, self._cost()))

    def _cost(self) -> Tensor:
        """What the tokens of all sequences cost: their log-ratios, times the temperature."""
        return self.temperature * (self.space.token_log_probs(self.logits) - self.reference)

    def _climb(self, gradient: Tensor) -> None:
        self.logits.grad = gradient
        self.adam.step()


def _batch(
    space: SequenceSpace, game: PreferenceGame, name: str, weight: float | Tensor
) -> tuple[int, ...]:
    """The batch of the games and of the weights of their opponents."""
    if require_game(game).actions != space.count:
        raise ValueError(f"game: expected {space.count} actions, got {game.actions}")
    share = require_scale(name, weight, game.preference, game.batch_shape, maximum=1.0)
    shape = share.shape if isinstance(share, Tensor) else ()
    return require_broadcast(name, shape, game.batch_shape)


def _alike(name: str, value: Tensor, like: Tensor) -> Tensor:
    """The tensor in the shape of another, to which it must broadcast: nothing is summed twice."""
    require_broadcast(name, value.shape, like.shape, "the logits' batch", widens=False)
    return value.expand(like.shape)


def _require_tokens(tokens: Tensor, reference: Tensor, preferred: Tensor) -> None:
    """Finite log-probabilities of tokens, and one preference for each sequence."""
    require_finite("token_log_probs", require_tensor("token_log_probs", tokens))
    shape = tokens.shape
    named = {"reference_token_log_probs": (reference, shape), "preferred": (preferred, shape[:-1])}
    for name, (value, wanted) in named.items():
        require_same_kind(name, require_tensor(name, value, 0), "token_log_probs", tokens)
        require_shape(name, value, wanted)
        require_finite(name, value)
