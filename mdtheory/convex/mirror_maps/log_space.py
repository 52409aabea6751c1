"""The simplex in logarithms: the entropic step, divergences and geometric mixtures of laws.

Laws are log-probabilities along the last axis, and ``-inf`` is the probability 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_same_kind,
    require_tensor,
    require_values,
    sum_tolerance,
    values_known,
)
from mdtheory.convex.mirror_maps.exact import differentiated, kl_parts, settled
from mdtheory.convex.mirror_maps.step import dual_step, scaled


def entropy_step(
    log_policy: Tensor,
    gradient: Tensor,
    step_size: float | Tensor,
    magnet: Tensor | None = None,
    magnet_weight: float | Tensor = 0.0,
) -> Tensor:
    r"""The mirror step of the entropy, from logarithm to logarithm; unchecked.

    Equation ``eq-dual-step`` and a normalisation: the next law is proportional to
    :math:`p^{1-a} z^{a} e^{-b g}`.

    Args:
        log_policy: where the step starts, :math:`\log p`, shape ``(..., n)``; a constant that is
            added to it changes nothing.
        gradient: :math:`g`, of a shape that broadcasts with it.
        step_size: as in :func:`~mdtheory.convex.mirror_maps.dual_step`.
        magnet: :math:`\log z`; ``-inf`` keeps an action at probability 0 under every step.
        magnet_weight: shaped like ``step_size``.

    Returns:
        Log-probabilities ``(..., n)``.
    """
    return dual_step(log_policy, gradient, step_size, magnet, magnet_weight).log_softmax(-1)


def kl_terms(left: Tensor, right: Tensor) -> Tensor:
    r"""Terms :math:`p(\delta + e^{-\delta} - 1)`, :math:`\delta = \log p - \log q`.

    Every term is at least 0, and for two laws their sum is the divergence of Kullback and Leibler,
    exact also where the two nearly agree. Gradients are finite wherever the divergence is: a
    probability of 0 on the left is a constant, and so is its logarithm.

    Args:
        left: log-probabilities :math:`\log p`, shape ``(..., n)``.
        right: log-probabilities :math:`\log q`, shape ``(..., n)``.

    Returns:
        Of the broadcast shape; infinite where only ``right`` is the logarithm of 0.
    """
    return kl_parts(*_weighed(left, right))


def kl(p: Tensor, q: Tensor) -> Tensor:
    r"""Divergence of Kullback and Leibler, exact also where the two nearly agree.

    The sum of :func:`kl_terms`, by the plain formula where nothing cancels.

    Args:
        p: log-probabilities ``(..., n)``.
        q: log-probabilities ``(..., n)``.

    Returns:
        The divergence, of the broadcast batch shape; infinite where only ``q`` is 0.
    """
    own, other, delta = _weighed(p, q)
    if not differentiated(own, other):
        terms = own * delta
        mass, missed = own.sum(-1), other.sum(-1)
        plain = terms.sum(-1) - mass + missed
        if settled(plain, terms.abs().sum(-1) + mass + missed):
            return plain
    return kl_parts(own, other, delta).sum(-1)


def _weighed(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both laws, and the difference of their logarithms where the first one has mass."""
    left, right = torch.broadcast_tensors(left, right)
    p = left.exp()
    return p, right.exp(), torch.where(p > 0, left - right, 0.0)


def mixture(log_policy: Tensor, reference: Tensor, weight: float | Tensor) -> Tensor:
    r"""Geometric mixture :math:`\propto \pi^{1-\beta}\mu^{\beta}`, equation ``eq-mixture``.

    Args:
        log_policy: :math:`\log\pi`, shape ``(..., n)``.
        reference: :math:`\log\mu`, shape ``(..., n)``.
        weight: :math:`\beta` in [0, 1], a number, or a tensor that broadcasts with policies. A
            weight of 0 or 1 forgets the other law, its probabilities of 0 too.

    Returns:
        Log-probabilities ``(..., n)``.
    """
    return (scaled(1 - weight, log_policy) + scaled(weight, reference)).log_softmax(-1)


def span(dual: Tensor) -> Tensor:
    """Largest entry less smallest: the size of a dual up to a constant.

    Args:
        dual: shape ``(..., n)``, such as a difference of log-probabilities.

    Returns:
        ``max - min``, of the batch's shape.
    """
    return dual.amax(-1) - dual.amin(-1)


def require_log_probabilities(
    name: str,
    value: object,
    like: Tensor | None = None,
    *,
    full_support: bool = False,
) -> Tensor:
    """Refuse what are no log-probabilities along the last axis.

    Args:
        name: the argument's name, for the message.
        value: what came, ``(..., n)``; ``-inf`` is the probability 0.
        like: a tensor whose dtype, device and last axis it must have, if any.
        full_support: whether every log-probability must be finite.

    Returns:
        ``value`` itself.

    Raises:
        TypeError: no floating-point tensor, or of another dtype.
        ValueError: a wrong last axis, a NaN, a probability of 0 where none may be, or exponentials
            that do not sum to 1. If the entries themselves are probabilities, the message says so.
    """
    law = require_tensor(name, value)
    if like is not None:
        require_same_kind(name, law, "the game", like)
        if law.shape[-1] != like.shape[-1]:
            raise ValueError(
                f"{name}: expected {like.shape[-1]} log-probabilities in the last axis, got "
                f"shape {tuple(law.shape)}"
            )
    if full_support:
        require_values(name, law, law.isfinite(), "finite log-probabilities")
    if not values_known(law):
        return law
    tolerance = sum_tolerance(law)
    off = law.logsumexp(-1).abs()
    if bool((off <= tolerance).all()):  # written so that a NaN fails
        return law
    require_values(name, law, ~law.isnan(), "log-probabilities")
    looks = bool((law >= 0).all()) and bool(((law.sum(-1) - 1).abs() <= tolerance).all())
    hint = "; these are probabilities: pass their logarithms, .log()" if looks else ""
    worst = law.flatten(0, -2)[off.flatten().argmax()] if law.ndim > 1 else law
    raise ValueError(
        f"{name}: expected log-probabilities whose exponentials sum to 1, got a sum of "
        f"{worst.exp().sum().item()!r}{hint}"
    )
