"""The gradient of IPO for parameters of any kind: sequences, networks."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.nlhf.online_preference.exact import _game, _ipo_gradient


def score_gradient(
    preference: Tensor,
    policy: Tensor,
    parameters: Tensor,
    reference: Tensor,
    temperature: float | Tensor,
    sampling: Tensor,
) -> Tensor:
    r"""Policy gradient of the expected IPO loss, ``prop-sequence-ipo``.

    The scores of the policy, weighted by :math:`-\tfrac4\tau\,m(y)\,f(y)`, whose sum over the
    answers is 0. With the mixture of the policy and the reference as ``sampling`` it is IPO-MD.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        policy: :math:`\log\pi_\theta`, shape ``(..., n)``, all finite, with its graph.
        parameters: :math:`\theta`, any shape, from which ``policy`` was computed.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.
        sampling: :math:`\log m`, from which both answers of a pair come, shape ``(..., n)``.

    Returns:
        The gradient, summed over the batch, of the shape of ``parameters``.

    Raises:
        TypeError: as :class:`PreferenceGame`.
        ValueError: likewise, a temperature of 0, or a policy without a graph.

    Source:
        Calandriello et al. (2024), section 5; the centring is that of the chapter.
    """
    game = _game(preference, policy, reference, temperature)
    law = game.check("sampling", sampling).detach()
    if not (policy.requires_grad and parameters.requires_grad):
        raise ValueError("policy: expected log-probabilities with a graph from the parameters")
    weight = _ipo_gradient(game, policy.detach(), law)
    if weight.shape != policy.shape:
        raise ValueError(
            f"policy: expected the batch shape of the games and the sampling, "
            f"{tuple(weight.shape[:-1])}, got {tuple(policy.shape[:-1])}"
        )
    [gradient] = torch.autograd.grad(policy, parameters, weight)
    return gradient
