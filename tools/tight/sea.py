"""Instances of the bounds of the chapter between stochastic and adversarial.

Streams have no noise unless it is said, so expectations are the runs themselves.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.convex.sea import (
    SeaRecord,
    StochasticallyExtendedAdversary,
    optimistic_ftrl,
    optimistic_mirror_descent,
    regret_bound,
    two_layer_ensemble,
)
from mdtheory.convex.sea import bounds as sea
from tools.tight import Problem
from tools.tight.convex import (
    BALL,
    DIAMETER,
    Sides,
    falling,
    inside,
    paid,
    rounds_of,
    square,
    worst,
)


def played(record: SeaRecord) -> Tensor:
    """The decisions of a run that kept them."""
    assert record.decisions is not None
    return record.decisions


def stream(g: Tensor, curvature: float = 0.0) -> StochasticallyExtendedAdversary:
    """Slopes without noise."""
    return StochasticallyExtendedAdversary(g, curvature=curvature)


def sea_convex(v: Tensor) -> Sides:
    """Eight slopes on the interval, G their largest; the movement on the left."""
    start, g = inside(v[:, :1]), rounds_of(v[:, 1:9], 8)
    limit, offset = g.abs().amax((0, -1)), v[:, 9].clamp(-12, 8).exp()
    record = optimistic_mirror_descent(
        stream(g), start, BALL, 8, gradient_bound=limit, offset=offset
    )
    right = sea.convex_pathwise(DIAMETER, limit, record.variation, 0 * limit, offset)
    return paid(played(record), g, worst(g)) + record.paid_movement / 4, right


def sea_corollary(v: Tensor) -> Sides:
    """The same in expectation, without noise."""
    start, g = inside(v[:, :1]), rounds_of(v[:, 1:9], 8)
    limit, offset = g.abs().amax((0, -1)), v[:, 9].clamp(-12, 8).exp()
    environment = stream(g)
    record = optimistic_mirror_descent(
        environment, start, BALL, 8, gradient_bound=limit, offset=offset
    )
    return paid(played(record), g, worst(g)), regret_bound(
        "convex", diameter=DIAMETER, gradient_bound=limit, smoothness=0.0, variance=0.0,
        variation=environment.variations.sum(0), offset=offset,
    )  # fmt: skip


def sea_drift(v: Tensor) -> Sides:
    """Curvature 1, steps of the learner free, noise of two values in two rounds."""
    x, slope, noise = v[:, :2], v[:, 2:4], v[:, 4:6]
    mean = x + slope
    variation = mean[:, 0] ** 2 + noise[:, 0] ** 2
    variation = variation + (mean[:, 1] - mean[:, 0]) ** 2 + square(noise)
    largest = (mean[:, 0].abs() + noise[:, 0].abs()) ** 2
    right = largest + 8 * square(noise) + 4 * (slope[:, 1] - slope[:, 0]) ** 2
    return variation, right + 4 * (x[:, 1] - x[:, 0]) ** 2


def sea_deck(v: Tensor) -> Sides:
    """Eight losses in the order in which they stand."""
    slopes = v.tanh().T
    left = torch.arange(8, 0, -1, dtype=v.dtype)[:, None]
    mean = slopes.flip(0).cumsum(0).flip(0) / left
    total = ((mean[1:] - mean[:-1]) ** 2).sum(0)
    return total, (2 * math.pi**2 / 3 - 4) * slopes.abs().amax(0) ** 2


def sea_random_order(v: Tensor) -> Sides:
    """Losses that each have a gradient at places of their own, and all subsets of six."""
    gradients = v.unflatten(-1, (6, 6))  # loss, place
    chosen = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=v.dtype)] * 6)[1:]
    size = chosen.sum(-1)
    first = torch.einsum("nlp,sl->nsp", gradients, chosen) / size[:, None]
    second = torch.einsum("nlp,sl->nsp", gradients**2, chosen) / size[:, None]
    variance = (second - first**2).amax(-1)  # (n, subsets)
    total = sum((variance[:, size == r].mean(-1) for r in range(1, 7)), torch.zeros_like(v[:, 0]))
    apart = (gradients - gradients.mean(1, keepdim=True)) ** 2
    spread, largest = apart.mean(1).amax(-1), apart.amax(-1).mean(-1)
    return total, sea.random_order_variance(6, spread, largest)


def sea_leader_lemma(v: Tensor) -> Sides:
    """Four rounds on the interval with any hints and steps that fall; movement on the left."""
    centre, g, m = inside(v[:, :1]), rounds_of(v[:, 1:5], 4), rounds_of(v[:, 5:9], 4)
    steps = falling(v[:, 9:13])[..., None]
    ahead = g.cumsum(0) - g + m
    x = BALL.project(centre - steps / 2 * ahead)
    u = worst(g)
    moved = (square(x[1:] - x[:-1]) / steps[:-1, :, 0]).sum(0) / 3
    right = square(u - centre) / steps[-1, :, 0] + (steps * (g - m) ** 2).sum((0, -1)) / 2
    return paid(x, g, u) + moved, right


def sea_ftrl(v: Tensor) -> Sides:
    """Twelve slopes on the interval; movement on the left."""
    start, g = inside(v[:, :1]), rounds_of(v[:, 1:13], 12)
    limit, offset = g.abs().amax((0, -1)), v[:, 13].clamp(-8, 8).exp()
    record = optimistic_ftrl(stream(g), start, BALL, 12, offset=offset)
    earned = offset / (3 * DIAMETER**2) * record.movement
    right = sea.ftrl_pathwise(DIAMETER, limit, offset, record.variation, 0 * record.movement)
    return paid(played(record), g, worst(g)) + earned, right


def curved(x: Tensor, g: Tensor) -> Tensor:
    """Regret less the parabolas, of the comparator that makes it largest; curvature 1."""
    u = BALL.project(x.mean(0) - g.mean(0))
    return ((g * (x - u)).sum(-1) - square(x - u) / 2).sum(0)


def errors(g: Tensor) -> Tensor:
    """Squared errors of the last gradient as a hint."""
    return torch.cat([square(g[:1]), square(g[1:] - g[:-1])])


def sea_strongly_convex(v: Tensor) -> Sides:
    """Four slopes on the interval, curvature 1."""
    start, g = inside(v[:, :1]), rounds_of(v[:, 1:5], 4)
    record = optimistic_mirror_descent(
        stream(g), start, BALL, 4, regime="strongly convex", curvature=1.0
    )
    x = played(record)
    right = sea.strongly_convex_pathwise(errors(g), square(x[1:] - x[:-1]), 1.0)
    return curved(x, g), right


def sea_curved_leader(v: Tensor) -> Sides:
    """The leader on parabolas, likewise."""
    start, g = inside(v[:, :1]), rounds_of(v[:, 1:5], 4)
    record = optimistic_ftrl(stream(g), start, BALL, 4, regime="strongly convex", curvature=1.0)
    x = played(record)
    return curved(x, g), sea.curved_leader_pathwise(errors(g), square(x[1:] - x[:-1]), 1.0)


def curved_stream(v: Tensor, leader: bool) -> Sides:
    """Losses x^2 / 2 + b_t x on the interval, without noise, in expectation."""
    start, slopes = inside(v[:, :1]), rounds_of(v[:, 1:9], 8)
    environment = stream(slopes, 1.0)
    largest = environment.variations.amax(0)
    limit = slopes.abs().amax((0, -1)) + 1
    if leader:
        record = optimistic_ftrl(
            environment, start, BALL, 8, regime="strongly convex", curvature=1.0
        )
        right = sea.curved_leader_bound(
            DIAMETER, limit, 1.0, 0.0, environment.variations.sum(0), 1.0, 0.0, largest
        )
    else:
        record = optimistic_mirror_descent(
            environment, start, BALL, 8, regime="strongly convex", curvature=1.0
        )
        right = regret_bound(
            "strongly convex", diameter=DIAMETER, gradient_bound=limit, smoothness=1.0,
            variance=0.0, variation=environment.variations.sum(0), curvature=1.0,
            largest_variance=0.0, largest_variation=largest,
        )  # fmt: skip
    u = environment.best_comparator(BALL)
    return record.loss - environment.loss_at(u, 8), right


def sea_curved_lower(v: Tensor) -> Sides:
    """Any learner of three tosses: one decision for each of the seven pasts."""
    x = v.sigmoid()
    value = torch.zeros_like(v[:, 0])
    pasts = [(0, 0, 0), (1, 0, 1), (1, 1, 2), (2, 0, 3), (2, 1, 4), (2, 1, 5), (2, 2, 6)]
    for tosses, heads, at in pasts:
        centre = (heads + 1) / (tosses + 2)
        spread = centre * (1 - centre) / (tosses + 3)
        chance = 1 / ((tosses + 1) * math.comb(tosses, heads))
        value = value + chance * ((x[:, at] - centre) ** 2 + spread) / 2
    return torch.full_like(value, (1 / 2 + 1 / 3 + 1 / 4) / 12), value


def sea_exp_concave(v: Tensor) -> Sides:
    """Four slopes on the interval, any gamma; movement on the left."""
    start, g, gamma = inside(v[:, :1]), rounds_of(v[:, 1:5], 4), 0.01
    limit = g.abs().amax((0, -1))
    record = optimistic_mirror_descent(
        stream(g), start, BALL, 4, regime="exp-concave", gradient_bound=limit, gamma=gamma
    )
    inner = (g * (played(record) - worst(g))).sum(-1)
    left = (inner - gamma / 2 * inner**2).sum(0) + record.movement / 4
    right = sea.exp_concave_pathwise(
        DIAMETER, limit, gamma, 1, record.variation, 0 * record.movement
    )
    return left, right


def sea_exp_concave_mean(v: Tensor) -> Sides:
    """The same in expectation: linear losses of a tiny gamma, without noise."""
    start, g, gamma = inside(v[:, :1]), rounds_of(v[:, 1:9], 8), 1e-3
    limit = g.abs().amax((0, -1))
    environment = stream(g)
    record = optimistic_mirror_descent(
        environment, start, BALL, 8, regime="exp-concave", gradient_bound=limit, gamma=gamma
    )
    inner = (g * (played(record) - worst(g))).sum(-1)
    return (inner - gamma / 2 * inner**2).sum(0), regret_bound(
        "exp-concave", diameter=DIAMETER, gradient_bound=limit, smoothness=0.0, variance=0.0,
        variation=environment.variations.sum(0), gamma=gamma, dimension=1,
    )  # fmt: skip


def sea_dynamic(v: Tensor) -> Sides:
    """Five slopes and five comparators on the interval; movement on the left."""
    start, g, step = inside(v[:, :1]), rounds_of(v[:, 1:6], 5), v[:, 11].clamp(-6, 6).exp()
    u = inside(rounds_of(v[:, 6:11], 5))
    record = optimistic_mirror_descent(stream(g), start, BALL, 5, step_size=step)
    length = (u[1:] - u[:-1]).abs().sum((0, -1))
    right = sea.dynamic_pathwise(DIAMETER, length, step, record.variation, 0 * record.movement)
    return paid(played(record), g, u) + record.movement / (4 * step), right


def sea_ensemble(v: Tensor) -> Sides:
    """Eight slopes of length at most 1 and a path, without noise, L = 0.01."""
    start, g = inside(v[:, :1]), inside(rounds_of(v[:, 1:9], 8))
    u = inside(rounds_of(v[:, 9:17], 8))
    environment = stream(g)
    run = two_layer_ensemble(environment, start, BALL, 8, gradient_bound=1.0, smoothness=0.01)
    return paid(played(run.record), g, u), regret_bound(
        "dynamic", diameter=DIAMETER, gradient_bound=1.0, smoothness=0.01, variance=0.0,
        variation=environment.variations.sum(0), pool=len(run.step_sizes),
        path_length=(u[1:] - u[:-1]).abs().sum((0, -1)),
    )  # fmt: skip


def front_loading(v: Tensor) -> Sides:
    """Twenty amounts between 0 and 1."""
    amounts = (3 * v).sigmoid()
    clock = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype)
    return (amounts / clock).sum(-1), sea.front_loaded(1.0, amounts.sum(-1))


PROBLEMS = [
    Problem("thm-sea-convex", 10, sea_convex),
    Problem("lem-sea-drift", 6, sea_drift),
    Problem("cor-sea-convex", 10, sea_corollary),
    Problem("prop-sea-special-cases", 8, sea_deck),
    Problem("prop-sea-random-order", 36, sea_random_order, tuple(torch.eye(6).flatten().tolist())),
    Problem("lem-sea-optimistic-leader", 13, sea_leader_lemma),
    Problem("thm-sea-ftrl", 14, sea_ftrl),
    Problem("thm-sea-strongly-convex", 5, sea_strongly_convex),
    Problem("lem-sea-front-loading", 20, front_loading),
    Problem("cor-sea-strongly-convex", 9, lambda v: curved_stream(v, False)),
    Problem("thm-sea-curved-leader", 5, sea_curved_leader),
    Problem("cor-sea-curved-leader", 9, lambda v: curved_stream(v, True)),
    Problem("prop-sea-curved-lower", 7, sea_curved_lower),
    Problem("thm-sea-exp-concave", 5, sea_exp_concave),
    Problem("cor-sea-exp-concave", 9, sea_exp_concave_mean),
    Problem("thm-sea-dynamic", 12, sea_dynamic),
    Problem("thm-sea-ensemble", 17, sea_ensemble),
]
