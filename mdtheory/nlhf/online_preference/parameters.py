"""The gradient of IPO for parameters of any kind: sequences, networks."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.nlhf.nash_md import PreferenceGame
from mdtheory.nlhf.online_preference.exact import _ipo_gradient, _require


def score_gradient(
    game: PreferenceGame,
    log_policy: Tensor,
    parameters: Tensor,
    sampling: Tensor,
) -> Tensor:
    r"""Policy gradient of the expected IPO loss, ``prop-sequence-ipo``.

    The scores of the policy, weighted by :math:`-\tfrac4\tau\,m(y)\,f(y)`, whose sum over the
    answers is 0. With the mixture of the policy and the reference as ``sampling`` it is IPO-MD.

    Args:
        game: preference games, of temperatures above 0.
        log_policy: :math:`\log\pi_\theta`, shape ``(..., n)``, all finite, with its graph.
        parameters: :math:`\theta`, any shape, from which ``log_policy`` was computed.
        sampling: :math:`\log m`, from which both answers of a pair come, shape ``(..., n)``.

    Returns:
        The gradient, summed over the batch, of the shape of ``parameters``.

    Raises:
        TypeError: no preference game, or a policy of another dtype.
        ValueError: a temperature of 0, no policy of the game, or a policy without a graph.

    Source:
        Calandriello et al. (2024), section 5; the centring is that of the chapter.
    """
    _require(game, log_policy)
    law = game.check("sampling", sampling).detach()
    if not (log_policy.requires_grad and parameters.requires_grad):
        raise ValueError("log_policy: expected log-probabilities with a graph from the parameters")
    weight = _ipo_gradient(game, log_policy.detach(), law)
    if weight.shape != log_policy.shape:
        raise ValueError(
            f"log_policy: expected the batch shape of the games and the sampling, "
            f"{tuple(weight.shape[:-1])}, got {tuple(log_policy.shape[:-1])}"
        )
    [gradient] = torch.autograd.grad(log_policy, parameters, weight)
    return gradient
