"""Expected losses over a preference game, and their gradients, by full enumeration.

A policy stands for its logits: gradients are those with respect to the logits of a softmax, at
the point where the logits are the log-probabilities themselves (any shift gives the same).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_scale
from mdtheory.convex.mirror_maps import mixture, require_log_probabilities
from mdtheory.nlhf.nash_md import PreferenceGame
from mdtheory.nlhf.nash_md.preference import require_game
from mdtheory.nlhf.online_preference.losses import PairLoss


class Variances(NamedTuple):
    """Total variances of two estimators of a gradient, each of the batch's shape."""

    single: Tensor
    contrast: Tensor


def expected_loss(
    game: PreferenceGame,
    loss: PairLoss,
    log_policy: Tensor,
    sampling: Tensor | None = None,
    opponent: Tensor | None = None,
) -> Tensor:
    r"""Mean of a loss over pairs and labels, equation ``eq-expected-loss``.

    No gradient runs through the sampling, whoever samples.

    Args:
        game: preference games, of temperatures above 0.
        loss: a loss of pairs with the arguments of :func:`ipo_loss`.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite; may require gradients.
        sampling: :math:`\log m`, from which the answers of a pair come; ``None``: the policy.
        opponent: :math:`\log o`, for the second answer of a pair; ``None``: as the first.

    Returns:
        The expected loss, of the batch's shape.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, or no policy of the game.

    Source:
        Calandriello et al. (2024).
    """
    _require(game, log_policy)
    first = (log_policy if sampling is None else game.check("sampling", sampling)).detach().exp()
    second = first if opponent is None else game.check("opponent", opponent).detach().exp()
    # The label may turn a pair round, so both orders meet every loss.
    drawn = first[..., :, None] * second[..., None, :]
    weight = game.preference * (drawn + drawn.mT)
    tau, batch = game.temperature, torch.broadcast_shapes(log_policy.shape[:-1], game.batch_shape)
    mine, theirs = log_policy.expand(*batch, -1), game.reference.expand(*batch, -1)
    each = loss(
        mine[..., :, None], mine[..., None, :],
        theirs[..., :, None], theirs[..., None, :],
        tau.expand(batch)[..., None, None] if isinstance(tau, Tensor) else tau,
    )  # fmt: skip
    # A pair that is never drawn is silent, whatever its loss.
    return (weight * torch.where(weight > 0, each, 0.0)).sum((-2, -1))


def ipo_gradient(
    game: PreferenceGame,
    log_policy: Tensor,
    sampling: Tensor,
) -> Tensor:
    r"""Gradient of the expected IPO loss, equation ``eq-ipo-gradient``.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite.
        sampling: :math:`\log m`, from which both answers of a pair come, shape ``(..., n)``.

    Returns:
        The gradient with respect to the logits of the policy, shape ``(..., n)``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, or no policy of the game.

    Source:
        Azar et al. (2024) for the loss; the form is that of the chapter.
    """
    _require(game, log_policy)
    return _ipo_gradient(game, log_policy, game.check("sampling", sampling))


def online_ipo_gradient(game: PreferenceGame, log_policy: Tensor) -> Tensor:
    r"""Gradient of Online IPO, equation ``eq-online-ipo-gradient``.

    It is :math:`-4/\tau` times that of self-play, theorem ``thm-online-ipo``.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite.

    Returns:
        The gradient with respect to the logits of the policy, shape ``(..., n)``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, or no policy of the game.

    Source:
        Calandriello et al. (2024), section 4.
    """
    _require(game, log_policy)
    return _ipo_gradient(game, log_policy, log_policy)


def ipo_md_gradient(
    game: PreferenceGame,
    log_policy: Tensor,
    weight: float | Tensor,
) -> Tensor:
    r"""Gradient of IPO-MD, theorem ``thm-ipo-md-gradient``.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite.
        weight: :math:`\beta` in [0, 1] of the reference in the mixture that samples.

    Returns:
        The gradient with respect to the logits of the policy, shape ``(..., n)``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, no policy of the game, or a weight outside [0, 1].

    Source:
        Calandriello et al. (2024), section 5; the centring is that of the chapter.
    """
    _require(game, log_policy)
    mixed = mixture(log_policy, game.reference, require_weight(weight, game))
    return _ipo_gradient(game, log_policy, mixed)


def ipo_md_loss(
    game: PreferenceGame,
    log_policy: Tensor,
    weight: float | Tensor,
) -> Tensor:
    r"""Expected loss of IPO-MD, in the closed form of ``thm-ipo-least-squares``.

    Both answers of a pair come from the mixture of the policy and the reference, through which no
    gradient runs. A weight of 0 is Online IPO.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite; may require gradients.
        weight: :math:`\beta` in [0, 1] of the reference in the mixture that samples.

    Returns:
        The expected loss, of the batch's shape.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, no policy of the game, or a weight outside [0, 1].

    Source:
        Calandriello et al. (2024), section 5.
    """
    _require(game, log_policy)
    with torch.no_grad():
        mixed = mixture(log_policy, game.reference, require_weight(weight, game))
        share, won = mixed.exp(), game.preferred(mixed)
    tau = _column(game.temperature)
    ratio = log_policy - game.reference
    centred = ratio - (share * ratio).sum(-1, keepdim=True)
    target = (won - 0.5) / tau
    squares = (share * (2 * centred**2 - 4 * centred * target)).sum(-1)
    return squares + 1 / (4 * game.temperature**2)


def dpo_gradient(
    game: PreferenceGame,
    log_policy: Tensor,
    sampling: Tensor | None = None,
) -> Tensor:
    r"""Gradient of the expected DPO loss, equation ``eq-dpo-gradient``.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite.
        sampling: :math:`\log m`, from which both answers come; ``None``: the policy (online DPO).

    Returns:
        The gradient with respect to the logits of the policy, shape ``(..., n)``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, or no policy of the game.

    Source:
        Rafailov et al. (2023) for the loss; Guo et al. (2024) for its online form.
    """
    _require(game, log_policy)
    law = log_policy if sampling is None else game.check("sampling", sampling)
    tau = _column(game.temperature)
    ratio = tau * (log_policy - game.reference)
    model = (ratio[..., :, None] - ratio[..., None, :]).sigmoid()
    expected = (model @ law.exp()[..., None])[..., 0]
    return -2 * tau * law.exp() * (game.preferred(law) - expected)


def response_gradient(
    game: PreferenceGame,
    log_policy: Tensor,
    opponent: Tensor | None = None,
) -> Tensor:
    r"""Gradient of what a policy receives against a fixed opponent, ``eq-response-gradient``.

    Self-play, or Nash-MD-PG where the opponent is the mixture of the policy and the reference.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite.
        opponent: :math:`\log o`, shape ``(..., n)``, held still; ``None``: the policy itself.

    Returns:
        The gradient with respect to the logits of the policy, shape ``(..., n)``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, or no policy of the game.

    Source:
        Munos et al. (2024), section 7.
    """
    _require(game, log_policy)
    other = log_policy if opponent is None else game.check("opponent", opponent)
    worth = game.preferred(other) - _column(game.temperature) * (log_policy - game.reference)
    share = log_policy.exp()
    return share * (worth - (share * worth).sum(-1, keepdim=True))


def contrastive_variance(game: PreferenceGame, log_policy: Tensor) -> Variances:
    r"""Variances of two estimators of the gradient of Online IPO, ``prop-contrast``.

    Both see one pair with its soft label; the one uses the score of the first answer only, the
    other half the difference of the two scores. Units: those of the gradient of self-play.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi`, shape ``(..., n)``, all finite.

    Returns:
        The total variances over the logits, by enumeration of all pairs.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, or no policy of the game.

    Source:
        Calandriello et al. (2024), appendix D, for the question.
    """
    _require(game, log_policy)
    share = log_policy.exp()
    ratio = _column(game.temperature) * (log_policy - game.reference)
    force = game.preference - 0.5 - (ratio[..., :, None] - ratio[..., None, :])
    pairs = share[..., :, None] * share[..., None, :] * force**2
    mean = response_gradient(game, log_policy)
    square = mean.square().sum(-1)
    # Scores are unit vectors less the policy: their squares and products in closed form.
    collision = share.square().sum(-1)[..., None]
    length = 1 - 2 * share + collision
    product = (collision[..., None] - share[..., :, None] - share[..., None, :]) * pairs
    cross = product.sum((-2, -1))  # pairs of one answer have no force
    own = (length * pairs.sum(-1)).sum(-1)
    return Variances(own - square, (own - cross) / 2 - square)


def require_weight(weight: float | Tensor, game: PreferenceGame) -> float | Tensor:
    """Check the weight of a mixture, and give a tensor the trailing axis of a policy.

    Args:
        weight: a number in [0, 1] or a tensor of the batch's shape.
        game: the game that it is for.

    Returns:
        A number, or a tensor that broadcasts with policies.

    Raises:
        TypeError: neither a number nor a tensor of the dtype of the preferences.
        ValueError: outside [0, 1], or of a wrong shape.
    """
    return require_scale(
        "weight", weight, game.preference, game.batch_shape, maximum=1.0, trailing=1
    )


def _ipo_gradient(
    game: PreferenceGame,
    log_policy: Tensor,
    sampling: Tensor,
) -> Tensor:
    share = sampling.exp()
    tau = _column(game.temperature)
    ratio = log_policy - game.reference
    pull = tau * (ratio - (share * ratio).sum(-1, keepdim=True))
    return -4 / tau * share * (game.preferred(sampling) - 0.5 - pull)


def _require(game: PreferenceGame, log_policy: Tensor) -> None:
    require_game(game, positive=True).check("log_policy", log_policy)
    require_log_probabilities("log_policy", log_policy, game.preference, full_support=True)


def _column(temperature: float | Tensor) -> float | Tensor:
    return temperature[..., None] if isinstance(temperature, Tensor) else temperature
