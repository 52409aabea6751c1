"""What the entropy terms do while no reward arrives: a flow of logits in one state."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_scale, require_tensor
from mdtheory.rl.entropy.smoothing import Number, net_coefficient


class SilentRecord(NamedTuple):
    """A flow in steps.

    Attributes:
        logits: before each step and at the end, shape ``(steps + 1, ..., n)``.
        entropy: of their laws, shape ``(steps + 1, ...)``.
    """

    logits: Tensor
    entropy: Tensor


def entropy_gradient(logits: Tensor) -> tuple[Tensor, Tensor]:
    r"""Entropy of a softmax and its gradient in the logits, ``eq-entropy-gradient``.

    :math:`\partial H/\partial z_i = -\pi_i(\log\pi_i + H)`; the entries sum to 0.

    Args:
        logits: :math:`z`, shape ``(..., n)``.

    Returns:
        :math:`H`, shape ``(...)``, and the gradient, shape ``(..., n)``.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: no last axis.
    """
    return _slope(require_tensor("logits", logits))


def silent_flow(
    logits: Tensor,
    steps: int,
    step_size: float,
    reference: Number,
    strength: Number,
    low: Number = 0.5,
    high: Number = 1.5,
) -> SilentRecord:
    r"""Gradient steps on EPO's entropy terms alone, as while all rewards of a group are equal.

    Equation ``eq-silent-flow``, in steps: :math:`z \leftarrow z + \eta\,c(H)\,\nabla H(z)` with
    the net coefficient of ``prop-coefficient`` for :math:`\lambda = 1`; theorem ``thm-silence``.

    Args:
        logits: where it starts, shape ``(..., n)``.
        steps: number of steps.
        step_size: :math:`\eta > 0`, times :math:`\lambda`.
        reference: :math:`\bar H`, held still, a number or shape ``(...)``.
        strength: :math:`\alpha\beta \ge 0`, likewise.
        low: :math:`\kappa_\ell`, likewise.
        high: :math:`\kappa_r`, likewise.

    Returns:
        The path.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a shape or a number out of range.
    """
    require_tensor("logits", logits)
    require_count("steps", steps)
    require_number("step_size", step_size, 0.0, strict=True)
    strength = require_scale("strength", strength, logits, logits.shape[:-1])
    path = [logits]
    entropies = []
    for _ in range(steps):
        entropy, gradient = _slope(path[-1])
        entropies.append(entropy)
        factor = net_coefficient(entropy, reference, 1.0, 1.0, strength, low, high)
        path.append(path[-1] + step_size * factor[..., None] * gradient)
    entropies.append(_slope(path[-1])[0])
    return SilentRecord(torch.stack(path), torch.stack(entropies))


def _slope(logits: Tensor) -> tuple[Tensor, Tensor]:
    log_policy = logits.log_softmax(-1)
    policy = log_policy.exp()
    entropy = -(policy * log_policy).sum(-1)
    return entropy, -policy * (log_policy + entropy[..., None])
