"""Shared by the tests of reward models."""

from __future__ import annotations

import itertools

import torch

F64 = torch.float64


def draws(seed):
    return torch.Generator().manual_seed(seed)


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=F64)


def laws(generator, *shape, spread=1.5):
    return (spread * normal(generator, *shape)).log_softmax(-1)


def by_enumeration(proxy, gold, n):
    """Mean over all subsets of n, ties shared, as the definition is written."""
    total, subsets = 0.0, list(itertools.combinations(range(len(proxy)), n))
    for subset in subsets:
        best = max(proxy[i] for i in subset)
        tied = [gold[i] for i in subset if proxy[i] == best]
        total += sum(tied) / len(tied)
    return total / len(subsets)


def by_tuples(p, scores, n):
    """The law of the best of n, by running through all tuples of answers."""
    k = len(p)
    law = [0.0] * k
    for drawn in itertools.product(range(k), repeat=n):
        chance = 1.0
        for i in drawn:
            chance *= p[i]
        best = max(scores[i] for i in drawn)
        # Each draw with the best score is as likely to be taken.
        tied = [i for i in drawn if scores[i] == best]
        for i in tied:
            law[i] += chance / len(tied)
    return torch.tensor(law, dtype=F64)


def plain_kl(p, q):
    """From probabilities, by the formula."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)
