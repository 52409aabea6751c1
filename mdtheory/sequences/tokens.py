"""Log-probabilities of tokens that were drawn; the chapter 'Nash mirror descent' uses them."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_integers,
    require_shape,
    require_tensor,
    require_truths,
    require_values,
)


def token_log_probs(logits: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Log-probability of every token of sequences that a policy of any kind has drawn.

    Their sum over the last axis is that of the sequence, and every estimator of this workshop takes
    them; :meth:`SequenceSpace.token_log_probs` has all sequences of a small vocabulary at once.

    Args:
        logits: from which the tokens are drawn, given those before, shape ``(..., L, V)``.
        tokens: the tokens, integers of shape ``(..., L)``.
        mask: true where a token belongs to its sequence, of the shape of ``tokens``; by default all
            do. What stands elsewhere is never read, and the result is 0 there.

    Returns:
        :math:`\log\pi(y_n \mid y_{<n})`, shape ``(..., L)``.

    Raises:
        TypeError: logits that are no floating-point tensor, tokens that are no integers, or a mask
            without truth values.
        ValueError: shapes that differ, a token outside the vocabulary, or a NaN among the logits.
    """
    vocabulary = require_tensor("logits", logits).shape[-1]
    require_integers("tokens", tokens)
    require_shape("tokens", tokens, logits.shape[:-1])
    if mask is None:
        kept = torch.ones_like(tokens, dtype=torch.bool)
    else:
        require_truths("mask", mask)
        require_shape("mask", mask, tokens.shape)
        kept = mask
    inside = (tokens >= 0) & (tokens < vocabulary)
    require_values("tokens", tokens, inside | ~kept, f"tokens from 0 to {vocabulary - 1}")
    require_values("logits", logits, ~logits.isnan() | ~kept[..., None], "logits without a NaN")
    # What is masked may hold anything, and its gradient is 0: no NaN may reach the softmax.
    law = logits.where(kept[..., None], 0.0).log_softmax(-1)
    found = law.gather(-1, tokens.where(kept, 0)[..., None])[..., 0]
    return found.where(kept, 0.0)
