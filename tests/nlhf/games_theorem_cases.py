"""Shared by the tests of games theorem."""

import math

import torch

F64 = torch.float64


def draw(game, generator, spread=2.0):
    return tuple(
        (spread * torch.randn(side.shape, generator=generator, dtype=F64)).log_softmax(-1)
        for side in game.uniform()
    )


def behave(game, generator, batch, spread=1.5):
    return tuple(
        (spread * torch.randn(*batch, *legal.shape, generator=generator, dtype=F64))
        .masked_fill(~legal, -math.inf)
        .log_softmax(-1)
        for legal in game.legal
    )


def kl(p, q):
    """By its definition, on log-probabilities."""
    terms = torch.where(p > -math.inf, p.exp() * (p - q), 0.0)
    return terms.sum(-1)


def far(one, two):
    return kl(one[0], two[0]) + kl(one[1], two[1])


def step(game, start, gradient, eta, tau=0.0, magnet=None):
    """The magnetic step by its formula, one player after the other: the place for mutants."""
    magnet = game.uniform() if magnet is None else magnet
    return tuple(
        ((z + eta * tau * rho - eta * g) / (1 + eta * tau)).log_softmax(-1)
        for z, rho, g in zip(start, magnet, gradient, strict=True)
    )


def operator(game, pair):
    x, y = (side.exp() for side in pair)
    return (
        -torch.einsum("...ij,...j->...i", game.payoff, y),
        torch.einsum("...ij,...i->...j", game.payoff, x),
    )


def wide(pair, count):
    return tuple(side.expand(count, *side.shape) for side in pair)


def product(one, two):
    return (one[0] * two[0]).sum(-1) + (one[1] * two[1]).sum(-1)


def less(one, two):
    return tuple(a - b for a, b in zip(one, two, strict=True))
