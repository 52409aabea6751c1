"""One policy gradient over sequences: as a loss for any policy, exact, and from samples.

The chapter 'Nash mirror descent' derives it, with the forms of credit for what single tokens cost.
"""

from __future__ import annotations

from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_finite,
    require_integers,
    require_same_kind,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.sequences.spaces import SequenceSpace

CREDITS = ("to-go", "sequence", "local")


def token_gains(
    gain: Tensor,
    cost: Tensor | None = None,
    credit: str = "to-go",
) -> Tensor:
    r"""What the score of each token is multiplied by: the sequence's gain less what tokens cost.

    The three forms of ``prop-reward-to-go``. The first two have the same mean.

    Args:
        gain: :math:`A(y)`, of the whole sequence, shape ``(...)``.
        cost: :math:`c_n(y)`, known from the tokens up to the :math:`n`-th, such as
            :math:`\tau\ell_n`, shape ``(..., L)``; nothing by default.
        credit: which costs meet the score of token :math:`n`: ``"to-go"``, those of tokens
            :math:`m \ge n`; ``"sequence"``, those of all tokens; ``"local"``, its own alone, which
            is *biased* and stands here to be compared with.

    Returns:
        Shape ``(..., L)``, or ``(..., 1)`` without costs.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes that differ, an entry that is not finite, or an unknown credit.
    """
    if credit not in CREDITS:
        raise ValueError(f"credit: expected one of {CREDITS}, got {credit!r}")
    require_finite("gain", require_tensor("gain", gain, 0))
    if cost is None:
        return gain[..., None]
    require_same_kind("cost", require_tensor("cost", cost), "gain", gain)
    require_shape("cost", cost, (*gain.shape, *cost.shape[-1:]))
    require_finite("cost", cost)
    if credit == "sequence":
        cost = cost.sum(-1, keepdim=True)
    elif credit == "to-go":
        cost = cost.flip(-1).cumsum(-1).flip(-1)
    return gain[..., None] - cost


def reinforce_surrogate(
    token_log_probs: Tensor, gain: Tensor, cost: Tensor | None = None, credit: str = "to-go"
) -> Tensor:
    r"""A number for each sequence whose gradient is the policy gradient estimate, REINFORCE.

    Maximise its mean over sequences that were drawn from the policy; the log-probabilities may come
    from a table or from a network. Nothing but the scores is differentiated.

    Args:
        token_log_probs: :math:`\log\pi(y_n \mid y_{<n})`, shape ``(..., L)``; carries the gradient.
        gain: as in :func:`token_gains`.
        cost: likewise.
        credit: likewise.

    Returns:
        :math:`\sum_n \log\pi(y_n \mid y_{<n})\,\bigl(A - \dots\bigr)`, shape ``(...)``.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes that differ, an entry that is not finite, or an unknown credit.

    Source:
        Williams (1992).
    """
    require_finite("token_log_probs", require_tensor("token_log_probs", token_log_probs))
    gains = token_gains(gain.detach(), None if cost is None else cost.detach(), credit)
    require_same_kind("gain", gain, "token_log_probs", token_log_probs)
    require_shape("gain", gain, token_log_probs.shape[:-1])
    return (token_log_probs * gains).sum(-1)


def exact_gradient(
    space: SequenceSpace,
    logits: Tensor,
    gain: Tensor,
    cost: Tensor | None = None,
    credit: str = "to-go",
) -> Tensor:
    r"""Mean of the estimate over all sequences, by enumeration.

    It is the gradient of :math:`\mathbb E_\pi(A - \sum_n c_n)` where gains and costs do not depend
    on the logits, and also where tokens cost :math:`\tau\log\frac\pi\mu`: the derivative of that
    logarithm is a score, and scores have mean zero.

    Args:
        space: the sequences.
        logits: of the policy, shape ``(..., prefixes, V)``.
        gain: of every sequence, ``(..., V**L)``, of a shape that broadcasts to the policies.
        cost: of every token of every sequence, ``(..., V**L, L)``, likewise.
        credit: as in :func:`token_gains`.

    Returns:
        A gradient of the shape of ``logits``.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes that do not fit, an entry that is not finite, or an unknown credit.
    """
    tokens = space.token_log_probs(logits)
    gain = _alike("gain", gain, tokens[..., 0])
    gains = token_gains(gain, None if cost is None else _alike("cost", cost, tokens), credit)
    return space.weighted_scores(logits, tokens.sum(-1, keepdim=True).exp() * gains).detach()


def sampled_gradient(
    space: SequenceSpace,
    logits: Tensor,
    drawn: Tensor,
    gain: Tensor,
    cost: Tensor | None = None,
    credit: str = "to-go",
) -> Tensor:
    r"""Mean of the estimate over sequences that were drawn from the policy.

    The gradient of the mean of :func:`reinforce_surrogate`, for a policy that is a table of logits.

    Args:
        space: the sequences.
        logits: of the policy, shape ``(..., prefixes, V)``.
        drawn: indices of sequences, ``(..., K)``, of :meth:`SequenceSpace.sample`; independent of
            each other, or the mean is still right but its variance is not that of ``K`` draws.
        gain: of what was drawn, shape ``(..., K)``.
        cost: of its tokens, shape ``(..., K, L)``.
        credit: as in :func:`token_gains`.

    Returns:
        A gradient of the shape of ``logits``.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes that differ, an entry that is not finite, or an unknown credit.
    """
    batch = space.check("logits", logits).shape[:-2]
    require_integers("drawn", drawn)
    require_shape("drawn", drawn, (*batch, *drawn.shape[-1:]))
    require_same_kind("gain", require_tensor("gain", gain), "logits", logits)
    require_shape("gain", gain, drawn.shape)
    inside = (drawn >= 0) & (drawn < space.count)
    require_values("drawn", drawn, inside, f"sequences from 0 to {space.count - 1}")
    gains = token_gains(gain, cost, credit) / drawn.shape[-1]
    weight = gains.new_zeros(*batch, space.count, gains.shape[-1])
    weight = weight.scatter_add(-2, drawn[..., None].expand(gains.shape), gains)
    return space.weighted_scores(logits, weight).detach()


def _alike(name: str, value: Tensor, like: Tensor) -> Tensor:
    """The tensor in the shape of another, to which it must broadcast: nothing is summed twice."""
    require_same_kind(name, require_tensor(name, value), "logits", like)
    require_broadcast(name, value.shape, like.shape, "the logits' batch", widens=False)
    return value.expand(like.shape)
