"""The planner tilted by the score: a mirror step in the space of laws over plans, and best-of-n.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_finite,
    require_same_kind,
    require_scale,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import entropy_step, kl, require_log_probabilities


def exponential_tilt(log_probability: Tensor, score: Tensor, strength: float | Tensor) -> Tensor:
    r"""The law :math:`q \propto p\,e^{\eta S}`, ``eq-plan-tilt``: one entropic mirror step.

    Args:
        log_probability: :math:`\log p` over plans, shape ``(..., M)``; ``-inf`` stays.
        score: :math:`S`, of a shape that broadcasts.
        strength: :math:`\eta \ge 0`, the step; a number, or a tensor with one for each law.

    Returns:
        :math:`\log q`, of the broadcast shape.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: no log-probabilities, a score that is not finite, shapes that do not fit, or a
            negative strength.
    """
    require_log_probabilities("log_probability", log_probability)
    _require_score(score, log_probability)
    batch = torch.broadcast_shapes(log_probability.shape, score.shape)[:-1]
    step = require_scale("strength", strength, log_probability, batch, trailing=1)
    return entropy_step(log_probability, -score, step)


def best_of_law(log_probability: Tensor, score: Tensor, n: int) -> Tensor:
    r"""The law of the best of :math:`n` independent draws, equation ``eq-best-of``, exactly.

    Of draws with the same score the first one is taken.

    Args:
        log_probability: :math:`\log p`, shape ``(..., M)``.
        score: :math:`S`, of a shape that broadcasts.
        n: number of draws.

    Returns:
        Log-probabilities, of the broadcast shape.

    Raises:
        TypeError: as :func:`exponential_tilt` does, or a number of draws that is not whole.
        ValueError: likewise, or no draw.
    """
    require_log_probabilities("log_probability", log_probability)
    _require_score(score, log_probability)
    require_count("n", n)
    law, score = torch.broadcast_tensors(log_probability, score)
    p = law.exp()
    less = score[..., None, :] < score[..., :, None]
    same = score[..., None, :] == score[..., :, None]
    below = (p[..., None, :] * less).sum(-1)
    group = (p[..., None, :] * same).sum(-1)
    # (b + g)^n - b^n over g, as a sum without cancellation.
    powers = torch.arange(n, dtype=p.dtype, device=p.device)
    until = (below + group)[..., None]
    terms = until**powers * below[..., None] ** (n - 1 - powers)
    return law + terms.sum(-1).log()


def matched_strength(log_probability: Tensor, score: Tensor, divergence: Tensor) -> Tensor:
    r"""The :math:`\eta` whose tilt has a given divergence from the law that is tilted.

    Args:
        log_probability: :math:`\log p`, shape ``(..., M)``.
        score: :math:`S`, of a shape that broadcasts.
        divergence: :math:`\mathrm{KL}(q \| p)`, shape ``(...)``; from 0 to that of the likeliest
            limit, :math:`-\log p(\operatorname{argmax} S)`.

    Returns:
        Strengths ``(...)``, found by bisection to the last digit.

    Raises:
        TypeError: as :func:`exponential_tilt` does.
        ValueError: likewise, or a divergence that no tilt has.
    """
    require_log_probabilities("log_probability", log_probability)
    _require_score(score, log_probability)
    law, score = torch.broadcast_tensors(log_probability, score)
    require_tensor("divergence", divergence, 0)
    require_broadcastable("divergence", divergence, "the laws", law[..., 0])
    top = score == score.amax(-1, keepdim=True)
    most = -torch.where(top, law, -torch.inf).logsumexp(-1)
    require_values(
        "divergence", divergence, (divergence >= 0) & (divergence < most),
        "a divergence that a tilt has",
    )  # fmt: skip
    low = torch.zeros_like(most + divergence)
    span = (score.amax(-1) - score.amin(-1)).clamp(min=torch.finfo(score.dtype).tiny)
    high = 1 / span + low
    for _ in range(60):
        high = torch.where(_moved(law, score, high) < divergence, 2 * high, high)
    for _ in range(100):
        middle = (low + high) / 2
        less = _moved(law, score, middle) < divergence
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return (low + high) / 2


def _moved(law: Tensor, score: Tensor, strength: Tensor) -> Tensor:
    return kl(entropy_step(law, -score, strength[..., None]), law)


def _require_score(score: Tensor, law: Tensor) -> None:
    require_tensor("score", score)
    require_same_kind("score", score, "log_probability", law)
    require_broadcastable("score", score, "log_probability", law)
    require_finite("score", score)
