"""Shared by the tests of sea."""

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    StochasticallyExtendedAdversary,
)

F64 = torch.float64
SEEDS, MANY, D, T = 24, 200, 3, 80
BALL, DIAMETER = Ball(1.0), 2.0
CURVES = {"linear": 0.0, "curved": [0.2, 0.6, 1.0]}
EVERY = pytest.mark.parametrize("case", SPECIAL_CASES)
BOTH = pytest.mark.parametrize("curve", CURVES)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def make(case, curve="linear", seeds=SEEDS, rounds=T, seed=1, **changes):
    return SPECIAL_CASES[case](rounds, seeds, D, seeded(seed), curvature=CURVES[curve], **changes)


def square(x: torch.Tensor) -> torch.Tensor:
    return (x**2).sum(-1)


def errors(gradients: torch.Tensor) -> torch.Tensor:
    """Squared errors of the last gradient as a hint, 0 being the first."""
    return torch.cat([square(gradients[:1]), square(gradients[1:] - gradients[:-1])])


def moves(points: torch.Tensor) -> torch.Tensor:
    return square(points[1:] - points[:-1])


def along(gradients, decisions, comparator) -> torch.Tensor:
    """The regret of the linearised losses."""
    return (gradients * (decisions - comparator)).sum((0, -1))


def worst_of(gradients, domain=BALL):
    return domain.minimize_linear(gradients.sum(0))


def descend(environment, start, rounds, rule, *, domain=BALL, sign=1.0):
    """The algorithm written again, with a rule (t, V) for its steps and a sign for its hints.

    The error of a hint is counted as that of the last gradient, whatever is played.
    """
    anchor, last = start, torch.zeros_like(start)
    variation = start.new_zeros(start.shape[:-1])
    kept = []
    for t in range(1, rounds + 1):
        step = torch.as_tensor(rule(t, variation), dtype=F64).expand(variation.shape)
        decision = domain.project(anchor - sign * step[..., None] * last)
        gradient = environment(t, decision)[1]
        variation = variation + square(gradient - last)
        anchor = domain.project(anchor - step[..., None] * gradient)
        last = gradient
        kept.append((decision, gradient, step))
    return tuple(torch.stack(part) for part in zip(*kept, strict=True))


def mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(-1)


def facts(environment) -> dict[str, float]:
    """What the expected regret is bounded by; the means of what differs from seed to seed."""
    return {
        "diameter": DIAMETER,
        "gradient_bound": environment.gradient_bound(1.0).max().item(),
        "smoothness": environment.smoothness,
        "variance": environment.variances.sum(0).mean().item(),
        "variation": environment.variations.sum(0).mean().item(),
    }


def fixed_comparator(environment, case):
    """A comparator that knows no noise: nor the order, where the order is all that is random."""
    if case == "random order":
        # The sum of all losses, which does not depend on the order.
        return environment.best_comparator(BALL, hindsight=True)
    return environment.best_comparator(BALL)


def answering(length: float = 1.0, seed: int = 5):
    """Gradients that answer the decision and sometimes turn round: nature at its worst."""
    noise = normal(1000, SEEDS, D, seed=seed)

    def respond(t, x):
        gradient = x.sign() + 0.3 * noise[t - 1]
        if t % 7 < 3:
            gradient = noise[t - 1]
        gradient = length * gradient / gradient.norm(dim=-1, keepdim=True)
        return (gradient * x).sum(-1), gradient

    return respond


def answering_once(t, x):
    gradient = torch.zeros_like(x)
    gradient[..., 0] = 1.0
    return (gradient * x).sum(-1), gradient


def constant(rounds=40, length=1.0):
    """One coordinate, a slope that never changes, and a start at the far end: bounds are tight."""
    slopes = torch.full((rounds, 4, 1), length, dtype=F64)
    return StochasticallyExtendedAdversary(slopes), torch.ones(4, 1, dtype=F64)


# --- thm-sea-dynamic -------------------------------------------------------------------------


def moving_comparators(g, domain=BALL):
    """Comparators from still to wild; the wildest is the best point of every single round."""
    still = worst_of(g, domain).expand_as(g)
    yield still
    yield domain.minimize_linear(g)
    blocks = g.unfold(0, 20, 20).sum(-1).repeat_interleave(20, 0)
    yield domain.minimize_linear(blocks)
    yield domain.project(normal(*g.shape, seed=12))


def path(comparators):
    return (comparators[1:] - comparators[:-1]).norm(dim=-1).sum(0)
