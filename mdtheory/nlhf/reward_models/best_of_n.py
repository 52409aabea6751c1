"""Best of n: its law, its divergence and win rate, and an estimator without bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_finite,
    require_scale,
    require_simplex,
    require_tensor,
)
from mdtheory.convex.mirror_maps import kl, require_log_probabilities


def best_of_n_divergence(n: float | Tensor, probabilities: Tensor | None = None) -> Tensor:
    r"""How far the best of n answers is from one answer, in nats.

    Equation ``eq-bon-divergence`` for scores without ties, :math:`\log n - (n - 1)/n`; for a
    finite support the exact divergence, which is smaller.

    Args:
        n: answers drawn, at least 1; a tensor has the batch's shape.
        probabilities: of the answers, worst first and with different scores, shape ``(..., k)``;
            answers of equal score are one answer here. None for scores without ties.

    Returns:
        The divergence: float64 without ``probabilities``, else of their batch and dtype.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``n`` below 1, or probabilities that are none.

    Source:
        Beirami et al. (2024), for the bound.
    """
    if probabilities is None:
        like = n if isinstance(n, Tensor) else torch.zeros((), dtype=torch.float64)
        n = torch.as_tensor(require_scale("n", n, like, minimum=1.0), dtype=like.dtype)
        return n.log() - (n - 1) / n
    log_policy = _ordered(probabilities)
    return kl(_best(log_policy, _ranks(log_policy, None), _draws(n, log_policy)), log_policy)


def best_of_n_win_rate(n: float | Tensor, probabilities: Tensor | None = None) -> Tensor:
    r"""How often the best of n scores higher than one more answer; a tie counts half.

    Equation ``eq-bon-win-rate``: :math:`n/(n + 1)` for scores without ties, less with them.
    The arguments are those of :func:`best_of_n_divergence`.

    Returns:
        The rate: float64 without ``probabilities``, else of their batch and dtype.
    """
    if probabilities is None:
        like = n if isinstance(n, Tensor) else torch.zeros((), dtype=torch.float64)
        n = torch.as_tensor(require_scale("n", n, like, minimum=1.0), dtype=like.dtype)
        return n / (n + 1)
    log_policy = _ordered(probabilities)
    ranks = _ranks(log_policy, None)
    return (_best(log_policy, ranks, _draws(n, log_policy)).exp() * ranks.middle).sum(-1)


def best_of_n_policy(log_policy: Tensor, scores: Tensor, n: float | Tensor) -> Tensor:
    r"""The law of the answer with the highest score among n, ties broken at random.

    Equation ``eq-bon-law``.

    Args:
        log_policy: log-probabilities of one answer, shape ``(..., k)``.
        scores: what is maximised, of a shape that broadcasts with it; any order, ties allowed.
        n: answers drawn, at least 1; a tensor has the batch's shape.

    Returns:
        Log-probabilities ``(..., k)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``n`` below 1, no log-probabilities, or scores that are not finite.
    """
    require_log_probabilities("log_policy", log_policy)
    require_finite("scores", require_tensor("scores", scores))
    require_broadcastable("scores", scores, "log_policy", log_policy)
    log_policy, scores = torch.broadcast_tensors(log_policy, scores)
    return _best(log_policy, _ranks(log_policy, scores), _draws(n, log_policy))


def rank(log_policy: Tensor, scores: Tensor) -> Tensor:
    r"""The rank of each answer: how often it scores higher than a drawn one, a tie counts half.

    Equation ``eq-rank``. The arguments are those of :func:`best_of_n_policy`.

    Returns:
        Between 0 and 1, shape ``(..., k)``.
    """
    require_log_probabilities("log_policy", log_policy)
    require_finite("scores", require_tensor("scores", scores))
    require_broadcastable("scores", scores, "log_policy", log_policy)
    log_policy, scores = torch.broadcast_tensors(log_policy, scores)
    return _ranks(log_policy, scores).middle


def best_of_n_estimate(proxy: Tensor, gold: Tensor, n: int | Sequence[int]) -> Tensor:
    r"""Mean gold of the best of n by proxy, from N answers and without bias.

    Equation ``eq-bon-estimate``: the mean over all subsets of n of the N answers, each of which
    gives the gold of its highest proxy. Equal proxies are drawn between at random.

    Args:
        proxy: what selects, shape ``(..., N)``.
        gold: what is reported, of a shape that broadcasts with it; the proxy itself for its own
            curve.
        n: one number from 1 to N, or several of them.

    Returns:
        Shape ``(...)``, or ``(..., len(n))``; of the dtype of ``gold``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not broadcast, values that are not finite, or an ``n`` outside
            1 to N.

    Source:
        Nakano et al. (2021), appendix; Coste et al. (2024), appendix.
    """
    require_finite("proxy", require_tensor("proxy", proxy))
    require_finite("gold", require_tensor("gold", gold))
    require_broadcastable("gold", gold, "proxy", proxy)
    proxy, gold = torch.broadcast_tensors(proxy, gold)
    several = [n] if not isinstance(n, Sequence) else n
    weights = torch.stack([
        _order_weights(proxy.shape[-1], m, proxy.device) for m in several
    ], -1)  # fmt: skip
    scores, order = proxy.sort(-1)
    group = _groups(scores)
    total = torch.zeros_like(gold).scatter_add(
        -1, group, gold.gather(-1, order)
    )  # fmt: skip
    count = torch.zeros_like(gold).scatter_add(
        -1, group, torch.ones_like(gold)
    )  # fmt: skip
    # The gold moves with its answer; among equal proxies each is as likely.
    ranked = (total / count.clamp(min=1)).gather(-1, group)
    found = ranked @ weights.to(gold.dtype)
    return found if isinstance(n, Sequence) else found[..., 0]


def _order_weights(answers: int, n: int, device: torch.device) -> Tensor:
    r"""How often the i-th of N answers, worst first, is the best of a subset of n.

    :math:`\binom{i-1}{n-1} / \binom Nn` as a running product from the top: no factorials.
    """
    if require_count("n", n) > answers:
        raise ValueError(f"n: expected a whole number from 1 to {answers}, got {n!r}")
    j = torch.arange(answers, 1, -1, dtype=torch.float64, device=device)
    top = torch.full((1,), n / answers, dtype=torch.float64, device=device)
    return torch.cat([top, (j - n) / (j - 1)]).cumprod(0).flip(0)


class _Ranks(NamedTuple):
    """Masses of the answers of equal score, up to them, and above them."""

    same: Tensor
    up_to: Tensor
    above: Tensor

    @property
    def middle(self) -> Tensor:
        return self.up_to - self.same / 2


def _ordered(probabilities: Tensor) -> Tensor:
    require_simplex("probabilities", require_tensor("probabilities", probabilities))
    return probabilities.log().log_softmax(-1)


def _draws(n: float | Tensor, log_policy: Tensor) -> float | Tensor:
    return require_scale("n", n, log_policy, log_policy.shape[:-1], minimum=1.0, trailing=1)


def _groups(scores: Tensor) -> Tensor:
    """Number of the group of equal scores that each of the sorted ones is in."""
    rises = (scores[..., 1:] > scores[..., :-1]).long().cumsum(-1)
    return functional.pad(rises, (1, 0))


def _ranks(log_policy: Tensor, scores: Tensor | None) -> _Ranks:
    """Without scores the answers are in order, and no two are equal."""
    mass = log_policy.exp()
    place = None
    if scores is not None:
        scores, order = scores.sort(-1)
        group = _groups(scores)
        mass = torch.zeros_like(mass).scatter_add(-1, group, mass.gather(-1, order))
        place = torch.empty_like(group).scatter(-1, order, group)
    tail = mass.flip(-1).cumsum(-1).flip(-1)
    above = torch.cat([tail[..., 1:], torch.zeros_like(tail[..., :1])], -1)
    parts = _Ranks(mass, mass.cumsum(-1), above)
    return parts if place is None else _Ranks(*(part.gather(-1, place) for part in parts))


def _best(log_policy: Tensor, ranks: _Ranks, n: float | Tensor) -> Tensor:
    """The law, from sums that cancel nowhere: from above near the top, from below elsewhere."""
    same, up_to, above = ranks
    reached = torch.where(above < 0.5, torch.log1p(-above), up_to.log())
    won = n * reached + (-torch.expm1(n * torch.log1p(-(same / up_to).clamp(max=1)))).log()
    return torch.where(log_policy > -torch.inf, log_policy - same.log() + won, -torch.inf)
