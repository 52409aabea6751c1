"""The market of the chapter and what is computed on it."""

import gzip
import hashlib
import math
from importlib import resources

import pytest
import torch

from mdtheory.convex.online_learning import (
    PortfolioLosses,
    best_constant_gap,
    best_constant_portfolio,
    dirichlet,
    hedge_decisions,
    log_wealth,
    universal_portfolio,
)
from mdtheory.convex.online_learning import portfolios as module
from mdtheory.data import load_nyse

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def market(days=90, assets=4, seed=0, scale=0.1):
    return (scale * torch.randn(days, assets, generator=generator(seed), dtype=F64)).exp()


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def test_the_market_is_the_one_of_its_readme():
    folder = resources.files("mdtheory.data")
    text = gzip.decompress(folder.joinpath("nyse.csv.gz").read_bytes())
    readme = folder.joinpath("README.md").read_text("utf-8")
    assert hashlib.sha256(text).hexdigest() in readme
    names, relatives = load_nyse()
    assert len(names) == len(set(names)) == 36
    assert relatives.shape == (5651, 36)
    assert relatives.dtype == F64
    assert (relatives > 0.5).all()
    assert (relatives < 1.5).all()


def test_the_figures_of_the_market_are_the_known_ones():
    relatives = load_nyse().relatives
    assert relatives.prod(0).max().item() == pytest.approx(54.14, abs=0.005)
    uniform = log_wealth(relatives, torch.full((36,), 1 / 36, dtype=F64))
    assert uniform[-1].exp().item() == pytest.approx(27.08, abs=0.005)
    best = best_constant_portfolio(relatives)
    assert best_constant_gap(relatives, best).item() < 1e-9
    assert log_wealth(relatives, best)[-1].exp().item() == pytest.approx(250.6, abs=0.05)


def test_wealth_is_a_running_product():
    relatives, samples = market(), dirichlet((7,), 4, generator())
    close(log_wealth(relatives, samples[0]).exp(), (relatives @ samples[0]).cumprod(0))
    paths = samples.expand(90, 7, 4)
    close(log_wealth(relatives, paths)[:, 2], log_wealth(relatives, samples[2]))
    batch = torch.stack([relatives, market(seed=1)], 1)
    close(log_wealth(batch, paths[:, :2])[:, 1], log_wealth(market(seed=1), samples[1]))


@pytest.mark.parametrize("concentration", [1.0, 0.5])
def test_dirichlet_draws_have_the_moments_of_their_law(concentration):
    draws = dirichlet((200_000,), 3, generator(), concentration=concentration)
    close(draws.sum(-1), torch.ones(200_000, dtype=F64))
    total = 3 * concentration
    variance = (1 / 3) * (2 / 3) / (total + 1)
    assert (draws.mean(0) - 1 / 3).abs().max() < 4 * math.sqrt(variance / 200_000)
    assert (draws.var(0) / variance - 1).abs().max() < 0.02
    assert torch.equal(draws, dirichlet((200_000,), 3, generator(), concentration=concentration))


def test_universal_wealth_is_the_mean_of_the_samples_wealth(monkeypatch):
    relatives, samples = market(scale=0.5), dirichlet((2, 40), 4, generator())
    growth = torch.stack([log_wealth(relatives, s.expand(90, 40, 4)) for s in samples], 1)
    expected = growth.logsumexp(-1) - math.log(40)
    for block in (1, 500, 10**6):
        monkeypatch.setattr(module, "BLOCK", block)
        close(universal_portfolio(relatives, samples), expected, 1e-11)
    weights = torch.rand(40, generator=generator(), dtype=F64).log()
    weighted = (growth + weights.log_softmax(0)).logsumexp(-1)
    close(universal_portfolio(relatives, samples, weights), weighted, 1e-11)


def test_the_universal_portfolio_is_hedge_over_the_samples():
    relatives, samples = market(), dirichlet((40,), 4, generator())
    losses = -(relatives @ samples.mT).log()
    shares = hedge_decisions(losses, 1.0, torch.full((40,), 1 / 40, dtype=F64))
    close(log_wealth(relatives, shares @ samples), universal_portfolio(relatives, samples), 1e-11)


def test_violent_markets_do_not_leave_the_range_of_numbers():
    relatives = torch.tensor([[1e150, 1e-150], [1e-150, 1e150]], dtype=F64).repeat(50, 1)
    samples = dirichlet((20,), 2, generator())
    expected = (relatives @ samples.mT).log().cumsum(0).logsumexp(-1) - math.log(20)
    close(universal_portfolio(relatives, samples), expected, 1e-11)
    single = universal_portfolio(
        market().float(), dirichlet((20,), 4, generator(), dtype=torch.float32)
    )
    assert single.dtype == torch.float32


def test_the_best_portfolio_of_a_batch_is_that_of_each_market():
    tables = torch.stack([market(seed=s, scale=0.3) for s in range(5)], 1)
    best = best_constant_portfolio(tables)
    for i in range(5):
        close(best[i], best_constant_portfolio(tables[:, i]), 1e-6)
    gap = best_constant_gap(tables, best)
    assert gap.shape == (5,)
    assert (gap <= 1e-9).all()
    twin = tables[:, 0, [0, 0, 1]]  # two stocks that are the same leave a choice
    assert best_constant_gap(twin, best_constant_portfolio(twin)) <= 1e-9
    with pytest.raises(ValueError, match="tolerance"):
        best_constant_portfolio(tables, max_steps=1)


def test_bad_markets_and_portfolios_are_refused_by_name():
    relatives, x = market(), torch.full((4,), 0.25, dtype=F64)
    refused = [
        (lambda: log_wealth(-relatives, x), "relatives"),
        (lambda: log_wealth(relatives[0], x), "relatives"),
        (lambda: log_wealth(relatives, 2 * x), "decisions"),
        (lambda: log_wealth(relatives, torch.full((5,), 0.2, dtype=F64)), "decisions"),
        (lambda: log_wealth(relatives, x.expand(91, 4)), "decisions"),
        (lambda: universal_portfolio(relatives, x), "samples"),
        (lambda: universal_portfolio(relatives, 2 * x[None]), "samples"),
        (lambda: universal_portfolio(relatives, x[None], torch.zeros(2, dtype=F64)), "log_weights"),
        (lambda: best_constant_gap(relatives, torch.ones(3, dtype=F64) / 3), "portfolio"),
        (lambda: best_constant_gap(relatives, 2 * x), "portfolio"),
        (lambda: best_constant_portfolio(relatives, tolerance=0.0), "tolerance"),
        (lambda: dirichlet((3,), 0, generator()), "assets"),
        (lambda: dirichlet((3,), 4, generator(), concentration=2.0), "concentration"),
        (lambda: PortfolioLosses(relatives * math.nan), "relatives"),
    ]
    for make, name in refused:
        with pytest.raises(ValueError, match=name):
            make()
    with pytest.raises(TypeError, match="decisions"):
        log_wealth(relatives, x.float())
