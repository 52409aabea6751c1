"""Policies over sequences which are small enough to be enumerated.

The chapter 'Nash mirror descent' explains why one wants to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_finite,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
)
from mdtheory.convex.mirror_maps import mixture

# Beyond this the table of sequences no longer fits a lesson's memory.
LARGEST = 2**22


class SequenceSpace:
    r"""All sequences of a vocabulary, as the actions of an autoregressive policy.

    A policy has one row of logits for each prefix, the empty one first, then by length, and in
    lexicographic order within a length. Its log-probabilities over the :math:`n = V^L` sequences,
    likewise in lexicographic order, are a policy as any other over ``n`` actions.

    Args:
        vocabulary: :math:`V \ge 2`.
        length: :math:`L \ge 1`.

    Raises:
        TypeError: not integers.
        ValueError: too small, or more than ``LARGEST`` sequences.
    """

    def __init__(self, vocabulary: int, length: int) -> None:
        self.vocabulary = require_count("vocabulary", vocabulary, 2)
        self.length = require_count("length", length, 1)
        self.count = vocabulary**length
        if self.count > LARGEST:
            raise ValueError(
                f"vocabulary, length: expected at most {LARGEST} sequences, got {vocabulary} ** "
                f"{length}"
            )
        self.prefixes = (self.count - 1) // (vocabulary - 1)
        whole = torch.arange(self.count)
        powers = [vocabulary ** (length - position) for position in range(length + 1)]
        self.sequences = torch.stack([whole // small % vocabulary for small in powers[1:]], dim=-1)
        # Row of logits that each sequence's token is drawn from, as (count, length).
        starts = [(vocabulary**position - 1) // (vocabulary - 1) for position in range(length)]
        self._rows = torch.stack(
            [start + whole // big for start, big in zip(starts, powers[:-1], strict=True)], -1
        )

    def check(self, name: str, logits: object) -> Tensor:
        """Refuse what holds no logits of a policy over these sequences.

        Args:
            name: the argument's name, for the message.
            logits: what came; shape ``(..., prefixes, V)`` expected.

        Returns:
            ``logits`` itself.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: a wrong shape, a NaN or an infinity.
        """
        value = require_tensor(name, logits)
        if value.shape[-2:] != (self.prefixes, self.vocabulary):
            raise ValueError(
                f"{name}: expected shape (..., {self.prefixes}, {self.vocabulary}), got "
                f"{tuple(value.shape)}"
            )
        require_finite(name, value)
        return value

    def token_log_probs(self, logits: Tensor) -> Tensor:
        r"""Log-probability of every token of every sequence, given those before it.

        Args:
            logits: shape ``(..., prefixes, V)``.

        Returns:
            :math:`\log\pi(y_n \mid y_{<n})`, shape ``(..., V**L, L)``.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: a wrong shape, a NaN or an infinity.
        """
        table = self.check("logits", logits).log_softmax(-1).flatten(-2)
        place = (self._rows * self.vocabulary + self.sequences).to(table.device)
        return table[..., place]

    def log_probs(self, logits: Tensor) -> Tensor:
        r"""Log-probability of every sequence: a policy over ``V**L`` actions.

        Args:
            logits: shape ``(..., prefixes, V)``.

        Returns:
            :math:`\log\pi(y) = \sum_n \log\pi(y_n \mid y_{<n})`, shape ``(..., V**L)``.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: a wrong shape, a NaN or an infinity.
        """
        return self.token_log_probs(logits).sum(-1)

    def weighted_scores(self, logits: Tensor, weight: Tensor) -> Tensor:
        r"""Scores of all tokens of all sequences, weighted and summed, in closed form.

        Every policy gradient is one of these sums, with its own weights.

        Args:
            logits: shape ``(..., prefixes, V)``.
            weight: :math:`w_n(y)`, shape ``(..., V**L, L)``, or ``(..., V**L, 1)`` for one weight a
                sequence; of a batch that broadcasts with that of ``logits``.

        Returns:
            :math:`\sum_y\sum_n w_n(y)\,\nabla\log\pi(y_n \mid y_{<n})` with respect to the logits,
            shape ``(..., prefixes, V)``.

        Raises:
            TypeError: not floating-point tensors of one dtype.
            ValueError: a wrong shape, a NaN or an infinity.
        """
        self.check("logits", logits)
        require_same_kind("weight", require_tensor("weight", weight), "logits", logits)
        one = weight.shape[-1:] == (1,)
        require_shape("weight", weight, (*weight.shape[:-2], self.count, 1 if one else self.length))
        # In lexicographic order the sequences with one beginning stand side by side.
        levels = [
            weight[..., 0 if one else position]
            .unflatten(-1, (self.vocabulary**position, self.vocabulary, -1))
            .sum(-1)
            for position in range(self.length)
        ]
        counts = torch.cat(levels, -2)
        return counts - counts.sum(-1, keepdim=True) * logits.softmax(-1)

    def logits(self, log_policy: Tensor) -> Tensor:
        r"""The inverse of :meth:`log_probs`: a policy over sequences, told token by token.

        Args:
            log_policy: :math:`\log\pi` over the sequences, shape ``(..., V**L)``, all finite.

        Returns:
            Log-probabilities of tokens given their prefixes, ``(..., prefixes, V)``.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: a wrong shape, a NaN or an infinity.
        """
        require_finite("log_policy", require_tensor("log_policy", log_policy))
        require_shape("log_policy", log_policy, (*log_policy.shape[:-1], self.count))
        rows: list[Tensor] = []
        for _ in range(self.length):
            level = log_policy.unflatten(-1, (-1, self.vocabulary))
            rows.insert(0, level.log_softmax(-1))
            log_policy = level.logsumexp(-1)
        return torch.cat(rows, -2)

    def token_mixture(
        self, logits: Tensor, reference_logits: Tensor, weight: float | Tensor
    ) -> Tensor:
        r"""Geometric mixture of two policies token by token, the one used in practice.

        Equation ``eq-token-mixture``. Normalised for each prefix, it differs from ``eq-mixture`` of
        the two policies over sequences.

        Args:
            logits: of :math:`\pi`, shape ``(..., prefixes, V)``.
            reference_logits: of :math:`\mu`, likewise.
            weight: :math:`\beta` in [0, 1], the reference's weight; a number or a tensor of the
                batch's shape.

        Returns:
            Logits (log-probabilities of tokens), shape ``(..., prefixes, V)``.

        Raises:
            TypeError: not floating-point tensors of one dtype.
            ValueError: a wrong shape, a NaN or an infinity, or a weight outside [0, 1].
        """
        own = self.check("logits", logits).log_softmax(-1)
        other = self.check("reference_logits", reference_logits)
        require_same_kind("reference_logits", other, "logits", own)
        batch = require_broadcast("reference_logits", other.shape[:-2], own.shape[:-2])
        share = require_scale("weight", weight, own, batch, maximum=1.0, trailing=2)
        return mixture(own, other.log_softmax(-1), share)

    def sample(self, logits: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draw sequences token by token, as a language model does.

        Args:
            logits: shape ``(..., prefixes, V)``.
            count: how many of each policy.
            generator: of the device of ``logits``.

        Returns:
            Indices of sequences, int64, shape ``(..., count)``.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: a wrong shape, a NaN or an infinity, or no positive count.
        """
        table = self.check("logits", logits).detach().softmax(-1)
        require_count("count", count, 1)
        batch = table.shape[:-2]
        drawn = table.new_zeros((*batch, count), dtype=torch.long)
        for position in range(self.length):
            start = (self.vocabulary**position - 1) // (self.vocabulary - 1)
            # One draw of each prefix for each sample would waste; gather the rows first.
            rows = (start + drawn)[..., None].expand(*batch, count, self.vocabulary)
            chances = table.gather(-2, rows).reshape(-1, self.vocabulary)
            token = torch.multinomial(chances, 1, generator=generator).reshape(*batch, count)
            drawn = drawn * self.vocabulary + token
        return drawn
