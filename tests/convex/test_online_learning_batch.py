"""Statements about online to batch: averaged decisions of a learner on random losses."""

import itertools
import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Entropy, Euclidean, Simplex
from mdtheory.convex.online_learning import (
    AdaGrad,
    LinearLosses,
    OnlineMirrorDescent,
    play,
)
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound as of
from tests.refused import fails

F64 = torch.float64


def lists(rounds: int, outcomes: int = 2) -> torch.Tensor:
    """All sequences of equally likely outcomes, shape (T, outcomes^T)."""
    return torch.tensor(list(itertools.product(range(outcomes), repeat=rounds))).T


def learners(start):
    yield OnlineMirrorDescent(Euclidean(Ball(1.0)), start, 0.4)
    yield AdaGrad(start, Ball(1.0), "norm")


@pytest.mark.theorem("thm-online-to-batch", "equality")
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_for_linear_losses_excess_risk_is_expected_regret_over_rounds(rounds):
    slopes = torch.tensor([[1.0, 0.2], [-0.7, 0.5], [0.1, -1.0]], dtype=F64)
    drawn = slopes[lists(rounds, 3)]  # (T, 3^T, 2)
    mean = slopes.mean(0)
    for learner in learners(torch.zeros_like(drawn[0])):
        game = play(learner, LinearLosses(drawn), rounds)
        for u in (torch.tensor([0.6, -0.8], dtype=F64), torch.zeros(2, dtype=F64)):
            risk = ((game.decisions.mean(0) - u) @ mean).mean()
            paid = (drawn * (game.decisions - u)).sum((0, -1)).mean() / rounds
            check_identity("thm-online-to-batch", risk, paid)


@pytest.mark.theorem("thm-online-to-batch", "equality")
def test_the_entropy_too():
    losses = torch.tensor([[0.0, 1.0, 0.3], [1.0, 0.0, 0.2]], dtype=F64)
    drawn = losses[lists(6)]
    learner = OnlineMirrorDescent(Entropy(), torch.full_like(drawn[0], 1 / 3), 0.5)
    game = play(learner, LinearLosses(drawn), 6)
    u = Simplex().minimize_linear(losses.mean(0))
    risk = ((game.decisions.mean(0) - u) @ losses.mean(0)).mean()
    paid = (drawn * (game.decisions - u)).sum((0, -1)).mean() / 6
    check_identity("thm-online-to-batch", risk, paid)


def descend(points, rounds, step, *, start=0.5, peek=False):
    """Gradient descent on |x - z_t| in [0, 1] for all lists of z; decisions (T, lists)."""
    x, kept = torch.full_like(points[0], start), []
    for t in range(rounds):
        size = step / math.sqrt(t + 1)
        moved = (x - size * (x - points[t]).sign()).clamp(0, 1)
        kept.append(points[t].clone() if peek else x)
        x = moved
    return torch.stack(kept)


def expected(x, values):
    return (x[..., None] - values).abs().mean(-1)


VALUES = [torch.tensor(v, dtype=F64) for v in ([0.0, 1.0], [0.1, 0.3], [0.2, 0.9])]


@pytest.mark.theorem("thm-online-to-batch", "bound")
@pytest.mark.parametrize("values", VALUES, ids=str)
@pytest.mark.parametrize("rounds", [1, 4, 10])
def test_the_average_is_at_most_as_bad_as_the_regret(values, rounds):
    points = values[lists(rounds)]
    x = descend(points, rounds, 0.4)
    risk = expected(x.mean(0), values).mean()
    for u in torch.linspace(0, 1, 7, dtype=F64):
        paid = ((x - points).abs() - (u - points).abs()).sum(0).mean() / rounds
        check_bound("thm-online-to-batch", risk - expected(u, values), paid)
        linear = ((x - points).sign() * (x - u)).sum(0).mean() / rounds
        check_bound("thm-online-to-batch", paid, linear)


@pytest.mark.theorem("thm-online-to-batch", "bound")
@pytest.mark.parametrize("values", VALUES, ids=str)
@pytest.mark.parametrize("rounds", [1, 5, 12])
def test_what_was_paid_tells_the_risk_with_high_probability(values, rounds):
    points = values[lists(rounds)]
    for step in (0.0, 0.4):
        x = descend(points, rounds, step)
        paid = (x - points).abs().mean(0)
        for delta in (0.01, 0.1, 0.5, 0.9):
            margin = math.sqrt(math.log(1 / delta) / (2 * rounds))
            missed = (expected(x.mean(0), values) > paid + margin).double().mean()
            check_bound("thm-online-to-batch", missed, torch.tensor(delta, dtype=F64))


@pytest.mark.theorem("thm-online-to-batch", "mutant")
def test_the_last_decision_is_not_the_average():
    """|x| from 0 with a constant step: every second round pays, the last one among them."""
    learner = OnlineMirrorDescent(Euclidean(Box(-1.0, 1.0)), torch.zeros(1, dtype=F64), 0.1)

    def absolute(t, x):
        return x.abs().sum(-1), torch.where(x >= 0, 1.0, -1.0).double()

    game = play(learner, absolute, 10)
    paid = game.losses.mean()
    average, last = game.decisions.mean(0).abs().sum(), game.decisions[-1].abs().sum()
    check_identity("thm-online-to-batch", paid, torch.tensor(0.05, dtype=F64))
    fails(of("thm-online-to-batch"), last, paid, true=(average, paid))


@pytest.mark.theorem("thm-online-to-batch", "mutant")
def test_a_learner_that_peeks_has_small_regret_and_a_large_risk():
    values = torch.tensor([0.0, 0.9, 1.0], dtype=F64)
    points = values[lists(7, 3)]
    sides = []
    for peek in (True, False):
        x = descend(points, 7, 0.3, peek=peek)
        u = torch.tensor(0.9, dtype=F64)
        paid = ((x - points).abs() - (u - points).abs()).sum(0).mean() / 7
        sides.append((expected(x.mean(0), values).mean() - expected(u, values), paid))
    (peeked, wrong), (honest, right) = sides
    check_bound("thm-online-to-batch", honest, right)
    with pytest.raises(AssertionError):
        check_bound("thm-online-to-batch", peeked, wrong)


@pytest.mark.theorem("thm-online-to-batch", "mutant")
def test_without_its_margin_the_high_probability_fails():
    values = VALUES[0]
    points = values[lists(12)]
    x = descend(points, 12, 0.4)
    paid, risk = (x - points).abs().mean(0), expected(x.mean(0), values)
    delta = torch.tensor(0.01, dtype=F64)
    margin = math.sqrt(math.log(100) / 24)
    missed = [(risk > paid + m).double().mean() for m in (0.0, margin)]
    check_bound("thm-online-to-batch", missed[1], delta)
    with pytest.raises(AssertionError):
        check_bound("thm-online-to-batch", missed[0], delta)
