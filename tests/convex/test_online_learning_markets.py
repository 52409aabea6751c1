"""Statements about portfolios."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Simplex,
)
from mdtheory.convex.online_learning import (
    Hedge,
    PortfolioLosses,
    best_constant_gap,
    best_constant_portfolio,
    bounds,
    log_wealth,
    play,
    regret,
    universal_portfolio,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.online_learning_cases import F64, SEEDS, D, T, normal, simplex_points
from tests.polish import polished
from tests.refused import bound, fails

# --- portfolios ------------------------------------------------------------------------------


def quadrature(nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gauss-Legendre nodes on the portfolios of two stocks, and logarithms of their weights."""
    import numpy

    x, w = numpy.polynomial.legendre.leggauss(nodes)
    share = torch.as_tensor((x + 1) / 2)
    return torch.stack([share, 1 - share], -1), torch.as_tensor(w / 2).log()


def two_stock_markets(rounds):
    yield (0.3 * normal(rounds, 2)).exp()
    yield torch.tensor([[1.0, 1e-9]], dtype=F64).expand(rounds, 2)
    yield torch.tensor([[1.0, 2.0], [1.0, 0.5]], dtype=F64).repeat(rounds // 2, 1)
    yield torch.tensor([[1.0, 1e-6], [1e-6, 1.0]], dtype=F64).repeat(rounds // 2, 1)


@pytest.mark.theorem("thm-universal-portfolio", "bound")
def test_the_universal_portfolio_keeps_its_bound():
    nodes, log_weights = quadrature(40)  # exact for products of up to 79 days
    for relatives in two_stock_markets(60):
        wealth = universal_portfolio(relatives, nodes, log_weights)[-1]
        best = best_constant_portfolio(relatives)
        result = log_wealth(relatives, best)[-1] - wealth
        bound = result.new_tensor(bounds.universal_portfolio(2, 60))
        check_bound("thm-universal-portfolio", result, bound)
        check_bound("thm-universal-portfolio", bound, bound.new_tensor(math.log(61)))


@pytest.mark.theorem("thm-universal-portfolio", "equality")
@pytest.mark.parametrize("ups", [0, 7, 30])
def test_on_a_market_of_one_living_stock_a_day_wealth_is_the_beta_integral(ups):
    rounds = 30
    relatives = torch.full((rounds, 2), 1e-30, dtype=F64)
    relatives[:ups, 0] = 1.0
    relatives[ups:, 1] = 1.0
    nodes, log_weights = quadrature(40)
    wealth = universal_portfolio(relatives, nodes, log_weights)[-1]
    downs = rounds - ups
    integral = math.lgamma(ups + 1) + math.lgamma(downs + 1) - math.lgamma(rounds + 2)
    check_identity("thm-universal-portfolio", wealth, wealth.new_tensor(integral))
    if ups in (0, rounds):  # one stock lives throughout: the bound is attained
        bound = wealth.new_tensor(bounds.universal_portfolio(2, rounds))
        check_identity("thm-universal-portfolio", -wealth, bound)


@pytest.mark.theorem("thm-universal-portfolio", "equality")
def test_the_bound_counts_the_types_of_a_game():
    for assets, rounds in ((2, 5), (3, 4), (36, 100)):
        count = math.comb(rounds + assets - 1, assets - 1)
        assert bounds.universal_portfolio(assets, rounds) == pytest.approx(
            math.log(count), rel=1e-12
        )


@pytest.mark.theorem("thm-universal-portfolio", "mutant")
@pytest.mark.parametrize("mutant", ["half", "skewed prior", "best day's loss"])
def test_mutants_of_the_universal_portfolio_break(mutant):
    relatives = torch.tensor([[1.0, 1e-30]], dtype=F64).expand(60, 2)
    nodes, log_weights = quadrature(60)
    if mutant == "skewed prior":
        log_weights = log_weights + 3 * nodes[:, 1].log()
    wealth = universal_portfolio(relatives, nodes, log_weights)[-1]
    if mutant == "best day's loss":  # the average of portfolios in place of that of wealth
        wealth = log_wealth(relatives, nodes.new_tensor([0.5, 0.5]))[-1]
    right = torch.tensor(bounds.universal_portfolio(2, 60), dtype=F64)
    wrong = right / 2 if mutant == "half" else right
    true = -universal_portfolio(relatives, *quadrature(60))[-1]
    fails(bound("thm-universal-portfolio"), -wealth, wrong, true=(true, right))


@pytest.mark.theorem("cor-exponentiated-gradient", "bound")
def test_exponentiated_gradient_keeps_its_bound():
    relatives = (0.2 * normal(T, SEEDS, D)).exp()
    crashing = relatives.clone()
    crashing[::5, :, 0] = 0.2
    start = torch.full((SEEDS, D), 1 / D, dtype=F64)
    for table in (relatives, crashing):
        ratio = (table.amax(-1) / table.amin(-1)).max().item()
        step = math.sqrt(8 * math.log(D) / T) / (ratio - 1)
        record = play(Hedge(start, step), PortfolioLosses(table), T)
        result = regret(record, best_constant_portfolio(table))
        bound = bounds.exponentiated_gradient(D, T, ratio)
        check_bound("cor-exponentiated-gradient", result, result.new_tensor(bound))


@pytest.mark.theorem("cor-exponentiated-gradient", "equality")
def test_the_bound_of_exponentiated_gradient_is_that_of_hedge_on_its_ranges():
    ratio, rounds = 1.7, 50
    step = math.sqrt(8 * math.log(D) / rounds) / (ratio - 1)
    ranges = torch.full((rounds,), ratio - 1, dtype=F64)
    general = bounds.hedge_ranges(math.log(D), step, ranges)
    stated = general.new_tensor(bounds.exponentiated_gradient(D, rounds, ratio))
    check_identity("cor-exponentiated-gradient", general, stated)


@pytest.mark.theorem("cor-exponentiated-gradient", "mutant")
@pytest.mark.parametrize("mutant", ["two fifths", "sign"])
def test_mutants_of_exponentiated_gradient_break(mutant):
    relatives = torch.tensor([2.0, 1.0], dtype=F64).expand(400, 2)
    step, start = math.sqrt(8 * math.log(2) / 400), torch.tensor([0.5, 0.5], dtype=F64)

    def lost(sign):
        learner, played = Hedge(start, step), PortfolioLosses(relatives)
        suffered = torch.zeros((), dtype=F64)
        for t in range(1, 401):
            loss, gradient = played(t, learner.decision)
            suffered = suffered + loss
            learner.update(sign * gradient)
        return suffered + 400 * math.log(2)

    right = torch.tensor(bounds.exponentiated_gradient(2, 400, 2.0), dtype=F64)
    wrong = (lost(1.0), 0.4 * right) if mutant == "two fifths" else (lost(-1.0), right)
    fails(bound("cor-exponentiated-gradient"), *wrong, true=(lost(1.0), right))


@pytest.mark.theorem("prop-best-constant", "bound")
def test_no_portfolio_beats_the_certificate():
    relatives = (0.2 * normal(T, SEEDS, D)).exp()
    best = best_constant_portfolio(relatives)
    for seed in (1, 2):
        portfolio = simplex_points(seed)
        gain = -PortfolioLosses(relatives).loss_at(best, T)
        gain = gain + PortfolioLosses(relatives).loss_at(portfolio, T)
        check_bound("prop-best-constant", gain, best_constant_gap(relatives, portfolio))


@pytest.mark.theorem("prop-best-constant", "equality")
def test_the_best_portfolio_makes_the_certificate_vanish_and_agrees_with_cvxpy():
    pytest.importorskip("cvxpy")
    relatives = (0.2 * normal(T, 4, D)).exp()
    best = best_constant_portfolio(relatives, tolerance=1e-13)
    gap = best_constant_gap(relatives, best)
    check_identity("prop-best-constant", gap, torch.zeros_like(gap), tolerance=1e-12)
    played = PortfolioLosses(relatives)
    other = played.best_comparator(Simplex())
    for seed in range(4):
        exact = polished(
            lambda x, day=relatives[:, seed]: -(day @ x).log().sum(), other[seed],
            equal=lambda x: x.sum()[None] - 1, lower=0.0,
        )  # fmt: skip
        # The loss is flat at its minimum: a gap of 1e-13 leaves its root to the point.
        check_identity("prop-best-constant", best[seed], exact, tolerance=1e-6)
        other[seed] = exact
    mine, theirs = played.loss_at(best, T), played.loss_at(other, T)
    check_identity("prop-best-constant", mine, theirs, tolerance=1e-12)


@pytest.mark.theorem("prop-best-constant", "mutant")
def test_the_smallest_ratio_is_no_certificate():
    relatives = (0.2 * normal(T, SEEDS, D)).exp()
    best, portfolio = best_constant_portfolio(relatives), simplex_points(1)
    played = PortfolioLosses(relatives)
    gain = played.loss_at(portfolio, T) - played.loss_at(best, T)
    growth = (relatives * portfolio).sum(-1, keepdim=True)
    smallest = T * (relatives / growth).mean(0).amin(-1).log()
    right = best_constant_gap(relatives, portfolio)
    fails(bound("prop-best-constant"), gain, smallest, true=(gain, right))
