"""Masked diffusion where all plans can be listed: exact conditionals, losses and decoding laws.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_integers
from mdtheory.convex.mirror_maps import kl, require_log_probabilities
from mdtheory.rl.reflective_planning.diffusion import Model, Order


def all_sequences(codes: int, length: int) -> Tensor:
    """Every sequence, in the order in which a law over them lists them.

    Args:
        codes: size of the vocabulary.
        length: of the sequences.

    Returns:
        int64 ``(codes ** length, length)``, the last token fastest.
    """
    grid = torch.cartesian_prod(*[torch.arange(codes)] * length)
    return grid.reshape(-1, length)


class TableDenoiser:
    """A model with the exact conditionals of a law over sequences.

    Args:
        log_law: log-probabilities of all sequences, shape ``(codes ** length,)``.
        codes: size of the vocabulary.
        length: of the sequences.

    Attributes:
        mask: the token that stands for a mask.
        length: of the sequences.

    Raises:
        ValueError: no log-probabilities, or not one for each sequence.
    """

    def __init__(self, log_law: Tensor, codes: int, length: int) -> None:
        require_log_probabilities("log_law", log_law)
        if log_law.shape != (codes**length,):
            raise ValueError(
                f"log_law: expected shape {(codes**length,)}, got {tuple(log_law.shape)}"
            )
        self.mask, self.length = codes, length
        self.log_law = log_law.clone()
        self.sequences = all_sequences(codes, length).to(log_law.device)

    def __call__(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probabilities of every token given those that are not masked.

        Args:
            tokens: codes or masks, int64 ``(..., L)``.
            condition: not used.

        Returns:
            Shape ``(..., L, codes)``; the even law where the law gives what is seen no chance.
        """
        seen = tokens[..., None, :]
        fits = ((seen == self.sequences) | (seen == self.mask)).all(-1)
        mass = torch.where(fits, self.log_law, -torch.inf)[..., None, None]
        holds = self.sequences[:, :, None] == torch.arange(self.mask, device=tokens.device)
        joint = torch.where(holds, mass, -torch.inf).logsumexp(-3)
        known = joint.logsumexp(-1, keepdim=True)
        return torch.where(known > -torch.inf, joint - known, -math.log(self.mask))


def enumerated_loss(
    model: Model, tokens: Tensor, condition: Tensor, mask: int, weighted: bool = True
) -> Tensor:
    r"""The mean of the loss ``eq-masked-loss`` over all masks, exactly.

    A set of :math:`m` of :math:`L` tokens is masked with probability
    :math:`\int u^m (1-u)^{L-m} du`; the weight :math:`1/u` goes under the integral.

    Args:
        model: tells the logits of tokens.
        tokens: plans, int64 ``(B, L)``.
        condition: shape ``(B, rows, condition)``.
        mask: the token that stands for a mask.
        weighted: as in :func:`masked_loss`.

    Returns:
        The loss of each plan, shape ``(B,)``.
    """
    length = require_integers("tokens", tokens).shape[-1]
    total: Tensor | float = 0.0
    for hidden in itertools.product((False, True), repeat=length):
        count = sum(hidden)
        if count:
            masked = torch.tensor(hidden, device=tokens.device)
            law = model(torch.where(masked, mask, tokens), condition).log_softmax(-1)
            taken = law.gather(-1, tokens[..., None])[..., 0]
            total = total - mask_weight(count, length, weighted=weighted) * taken[
                ..., masked
            ].sum(-1)  # fmt: skip
    assert isinstance(total, Tensor)
    return total


def mask_weight(masked: int, length: int, *, weighted: bool = True) -> float:
    r"""How much each set of masked tokens counts in the mean loss, ``eq-mask-weight``.

    Args:
        masked: :math:`m \ge 1`, how many tokens are masked.
        length: :math:`L`.
        weighted: with the weight :math:`1/u`, :math:`1 / (m \binom Lm)`; else
            :math:`1 / ((L + 1) \binom Lm)`.

    Returns:
        The weight.

    Raises:
        ValueError: more masks than tokens, or none.
    """
    require_count("masked", masked)
    require_count("length", length, masked)
    return 1 / ((masked if weighted else length + 1) * math.comb(length, masked))


def order_average(model: Model, tokens: Tensor, condition: Tensor, mask: int) -> Tensor:
    r"""Log of the mean, over all orders, of the probability that a plan is revealed one by one.

    The right-hand side of ``thm-masked-bound``, by a recursion over the sets that are revealed.

    Args:
        model: tells the logits of tokens.
        tokens: plans, int64 ``(B, L)``.
        condition: shape ``(B, rows, condition)``.
        mask: the token that stands for a mask.

    Returns:
        Shape ``(B,)``.
    """
    length = require_integers("tokens", tokens).shape[-1]
    ways: dict[tuple[bool, ...], Tensor] = {}
    for shown in sorted(itertools.product((False, True), repeat=length), key=sum):
        seen = torch.tensor(shown, device=tokens.device)
        law = model(torch.where(seen, tokens, mask), condition).log_softmax(-1)
        taken = law.gather(-1, tokens[..., None])[..., 0]
        here = ways.get(shown, torch.zeros_like(taken[..., 0]))
        for i in range(length):
            if not shown[i]:
                after = (*shown[:i], True, *shown[i + 1 :])
                step = here + taken[..., i]
                ways[after] = torch.logaddexp(ways[after], step) if after in ways else step
    return ways[(True,) * length] - math.lgamma(length + 1)


def total_correlation(log_law: Tensor, codes: int, length: int) -> Tensor:
    """What one call reveals too little: KL of a law from the product of its marginals.

    Args:
        log_law: log-probabilities of all sequences, shape ``(codes ** length,)``.
        codes: size of the vocabulary.
        length: of the sequences.

    Returns:
        The divergence, a tensor without axes.
    """
    return kl(log_law, parallel_law(log_law, codes, length))


def parallel_law(log_law: Tensor, codes: int, length: int) -> Tensor:
    """The product of the marginals: what is drawn if all tokens are revealed at once.

    Args:
        log_law: log-probabilities of all sequences, shape ``(codes ** length,)``.
        codes: size of the vocabulary.
        length: of the sequences.

    Returns:
        Log-probabilities of all sequences.
    """
    model = TableDenoiser(log_law, codes, length)
    masks = torch.full((length,), model.mask, device=log_law.device)
    each = model(masks)
    return each[torch.arange(length, device=log_law.device), model.sequences].sum(-1)


def decoding_law(model: TableDenoiser, steps: int, order: Order = "confidence") -> Tensor:
    """The exact law of what ``decode`` draws at temperature 1 with exact conditionals.

    Args:
        model: exact conditionals of a law over few sequences.
        steps: number of calls.
        order: as in :func:`inpaint`.

    Returns:
        Probabilities of all sequences, shape ``(codes ** length,)``.

    Raises:
        ValueError: no step, or another order.
    """
    require_count("steps", steps)
    if order not in ("confidence", "certainty", "random"):
        raise ValueError(
            f"order: expected 'confidence', 'certainty' or 'random', got {order!r}"
        )  # fmt: skip
    length, mask = model.length, model.mask
    states = {(mask,) * length: 1.0}
    for step in range(steps):
        wanted = (length * (step + 1) + steps - 1) // steps
        after: dict[tuple[int, ...], float] = {}
        for state, weight in states.items():
            holes = [i for i in range(length) if state[i] == mask]
            count = wanted - (length - len(holes))
            law = model(torch.tensor(state, device=model.log_law.device)).exp().tolist()
            for drawn in itertools.product(range(mask), repeat=len(holes)):
                chance = weight * math.prod(
                    law[i][v] for i, v in zip(holes, drawn, strict=True)
                )  # fmt: skip
                if chance > 0:
                    for kept, share in _kept(law, holes, drawn, count, order):
                        new = list(state)
                        for i in kept:
                            new[holes[i]] = drawn[i]
                        key = tuple(new)
                        after[key] = after.get(key, 0.0) + share * chance
        states = after
    found = [states.get(tuple(row), 0.0) for row in model.sequences.tolist()]
    return torch.tensor(found, dtype=model.log_law.dtype, device=model.log_law.device)


def _kept(
    law: list[list[float]], holes: list[int], drawn: tuple[int, ...], count: int, order: Order
) -> list[tuple[tuple[int, ...], float]]:  # fmt: skip
    """Which proposals are kept, with what chance."""
    if order == "random":
        sets = list(itertools.combinations(range(len(holes)), count))
        return [(kept, 1 / len(sets)) for kept in sets]
    rank = [max(law[i]) if order == "certainty" else law[i][v]
            for i, v in zip(holes, drawn, strict=True)]  # fmt: skip
    best = sorted(range(len(holes)), key=lambda i: (-rank[i], i))
    return [(tuple(best[:count]), 1.0)]
