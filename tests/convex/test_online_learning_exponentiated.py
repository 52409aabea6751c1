"""Exponentiated gradient's range form, which is small on calm markets, and streams that come near
the bounds of AdaGrad and of the online Newton step."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Entropy, Simplex
from mdtheory.convex.online_learning import (
    AdaGrad,
    Hedge,
    LinearLosses,
    OnlineNewtonStep,
    PortfolioLosses,
    best_constant_portfolio,
    play,
    regret,
)

F64 = torch.float64
ROUNDS, MARKETS, STOCKS = 120, 30, 4


@pytest.fixture
def markets() -> torch.Tensor:
    """Calm, wild and two-valued markets, a third each."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(ROUNDS, MARKETS, STOCKS, generator=generator, dtype=F64)
    noise[:, ::3] *= 0.02
    relatives = noise.exp()
    relatives[:, 1::3] = 2 ** (noise[:, 1::3] > 0).double()
    return relatives


def range_bound(gradients: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    spread = gradients.amax(-1) - gradients.amin(-1)
    return math.log(gradients.shape[-1]) / steps + steps / 8 * (spread**2).sum(0)


def even(count: int, stocks: int) -> torch.Tensor:
    return torch.full((count, stocks), 1 / stocks, dtype=F64)


@pytest.mark.theorem("cor-exponentiated-gradient", "bound")
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_regret_is_below_the_range_form_and_that_below_the_tuned_one(markets, scale):
    ratio = (markets.amax(-1) / markets.amin(-1)).amax(0)
    best_step = math.sqrt(8 * math.log(STOCKS) / ROUNDS) / (ratio - 1)
    steps = scale * best_step
    record = play(Hedge(even(MARKETS, STOCKS), steps), PortfolioLosses(markets), ROUNDS)
    bound = range_bound(record.gradients, steps)
    assert (regret(record, best_constant_portfolio(markets)) <= bound + 1e-9).all()
    tuned = (ratio - 1) * math.sqrt(ROUNDS * math.log(STOCKS) / 2)
    worst = tuned * (scale + 1 / scale) / 2
    assert (bound <= worst * (1 + 1e-12)).all()


@pytest.mark.theorem("cor-exponentiated-gradient", "equality")
def test_linearised_regret_is_what_the_divergences_say(markets):
    steps = torch.linspace(0.01, 2, MARKETS, dtype=F64)
    learner = Hedge(even(MARKETS, STOCKS), steps)
    record = play(learner, PortfolioLosses(markets), ROUNDS)
    comparator = torch.eye(STOCKS, dtype=F64)[torch.arange(MARKETS) % STOCKS]
    after = torch.cat([record.decisions[1:], learner.decision[None]])
    divergence = Entropy().divergence
    moved = divergence(record.decisions, after).sum(0)
    gained = divergence(comparator, even(MARKETS, STOCKS)) - divergence(comparator, after[-1])
    torch.testing.assert_close(
        steps * regret(record, comparator, linear=True), gained + moved, rtol=1e-9, atol=1e-9
    )


@pytest.mark.theorem("cor-exponentiated-gradient", "mutant")
@pytest.mark.parametrize("mutant", ["sign", "no division by the growth", "range over sixteen"])
def test_mutants_exceed_the_range_form(mutant):
    if mutant == "range over sixteen":
        # Each day is the mirror image of the one before, so the quadratic term is what is paid,
        # and half of it is too little.
        pair = torch.tensor([[1.01, 1.0], [1.0, 1.01]], dtype=F64)
        relatives = pair.repeat(2_000, 1)
        record = play(Hedge(even(1, 2)[0], 20.0), PortfolioLosses(relatives), 4_000)
        spread = record.gradients.amax(-1) - record.gradients.amin(-1)
        half = math.log(2) / 20.0 + 20.0 / 16 * (spread**2).sum()
        paid = regret(record, even(1, 2)[0])
        assert paid > half
        assert paid <= range_bound(record.gradients, torch.tensor(20.0, dtype=F64)) + 1e-9
        return
    relatives = torch.tensor([4.0, 1.0], dtype=F64).expand(400, 2) * 0.25
    x, step = torch.tensor([0.5, 0.5], dtype=F64), 0.05
    loss, spreads = torch.zeros((), dtype=F64), torch.zeros((), dtype=F64)
    for day in relatives:
        growth = (x * day).sum()
        loss, spreads = loss - growth.log(), spreads + ((day.max() - day.min()) / growth) ** 2
        push = -day / growth if mutant == "sign" else day * 1e-3
        x = (x.log() + step * push).softmax(-1)
    # The first stock keeps its value, so the loss is the regret against it.
    assert loss > math.log(2) / step + step / 8 * spreads


def kicks(factors: list[float]) -> torch.Tensor:
    """Gradients of one coordinate, each a multiple of the root of the squares before it."""
    sizes, energy = [-1.0], 1.0
    for factor in factors:
        sizes.append(factor * math.sqrt(energy))
        energy += sizes[-1] ** 2
    return torch.tensor(sizes, dtype=F64)[:, None]


KICKS = ([0.11] * 8 + [-1.5]) * 6 + [-0.05] * 11


@pytest.mark.theorem("cor-adagrad-norm", "bound")
@pytest.mark.parametrize("rotation", [0, 1])
def test_kicks_cost_most_of_the_bound_of_adagrad_with_one_step(rotation):
    # In the plane the same play goes on along one diameter.
    axis = torch.tensor([[1.0], [0.6, 0.8]][rotation], dtype=F64)
    stream = kicks(KICKS) * axis
    record = play(AdaGrad(-axis, Ball(1.0), "norm"), LinearLosses(stream), len(stream))
    paid = regret(record, Ball(1.0).minimize_linear(stream.sum(0)))
    ratio = paid / (2 * math.sqrt(2 * (stream**2).sum()))
    assert 0.84 < ratio <= 1  # a bound with 1 in the place of the root of 2 would be broken


@pytest.mark.theorem("thm-adagrad-diagonal", "bound")
def test_kicks_cost_most_of_the_bound_of_diagonal_adagrad():
    sides = torch.tensor([0.3, 1.0, 7.0], dtype=F64)
    stream = kicks(KICKS) * torch.tensor([5.0, 0.01, 1.0], dtype=F64)
    box = Box(-sides / 2, sides / 2)
    record = play(AdaGrad(-sides / 2, box), LinearLosses(stream), len(stream))
    paid = regret(record, box.minimize_linear(stream.sum(0)))
    ratio = paid / (math.sqrt(2) * (stream**2).sum(0).sqrt() @ sides)
    assert 0.84 < ratio <= 1


@pytest.mark.theorem("thm-newton-step", "mutant")
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 8.0])
def test_only_a_curvature_that_is_far_too_large_breaks_the_newton_step(gamma):
    def paid(rounds):
        turned = (torch.arange(rounds) >= rounds // 4).double()
        relatives = torch.stack([2 - turned, 1 + turned], -1)
        learner = OnlineNewtonStep(even(1, 2)[0], Simplex(), gamma)
        record = play(learner, PortfolioLosses(relatives, tangent=True), rounds)
        bound = (1 + 2 * math.log(1 + rounds * gamma**2 * 2 / 2)) / (2 * gamma)
        return regret(record, best_constant_portfolio(relatives)).item(), bound

    short, _ = paid(200)
    long, bound = paid(400)
    if gamma == 8.0:
        assert long > bound
        assert 1.8 < long / short < 2.2
    else:
        assert long < short < 0
