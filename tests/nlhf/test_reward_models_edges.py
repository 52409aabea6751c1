"""Fits of preferences at the edges: precision, units of weights, pairs that are never drawn."""

import math

import pytest
import torch

from mdtheory.nlhf import nash_md as nm
from mdtheory.nlhf import reward_models as rm
from mdtheory.nlhf.reward_models import rewards

F64 = torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("n", [2, 6, 30])
def test_the_default_tolerance_fits_the_dtype(dtype, n):
    generator = torch.Generator().manual_seed(n)
    reward = torch.randn(10, n, generator=generator, dtype=F64)
    reward = reward - reward.mean(-1, keepdim=True)
    found = rm.bradley_terry(rm.bradley_terry_preference(reward).to(dtype))
    assert found.dtype == dtype
    limit = 1e-3 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(found.double(), reward, rtol=0, atol=limit)
    # Where no reward is true the gradient is small all the same.
    drawn_ = nm.random_preference(n, generator, (10,)).to(dtype)
    fit = rm.bradley_terry(drawn_)
    left = (rm.bradley_terry_preference(fit) - drawn_).sum(-1)
    assert left.abs().max() < 40 * n * torch.finfo(dtype).eps + 1e-11


@pytest.mark.parametrize("unit", [1e-300, 1e-14, 1e300])
def test_weights_have_no_units(unit):
    preference = nm.random_preference(5, torch.Generator().manual_seed(1), (6,))
    weights = torch.rand(6, 5, 5, generator=torch.Generator().manual_seed(2), dtype=F64)
    plain, scaled = (rm.bradley_terry(preference, u * weights) for u in (1.0, unit))
    torch.testing.assert_close(plain, scaled, rtol=0, atol=1e-10)


def test_a_pair_that_is_never_drawn_is_silent_whatever_it_holds():
    preference = nm.random_preference(4, torch.Generator().manual_seed(1))
    weights = torch.ones(4, 4, dtype=F64)
    weights[0, 1] = weights[1, 0] = 0
    wanted = rm.bradley_terry(preference, weights)
    for value in (math.nan, math.inf, -7.0):
        spoilt = preference.clone()
        spoilt[0, 1] = value
        torch.testing.assert_close(rm.bradley_terry(spoilt, weights), wanted, rtol=0, atol=0)
        with pytest.raises(ValueError, match="preference"):
            rm.bradley_terry(spoilt)
    for bad in (-weights, weights * math.nan, weights / 0):
        with pytest.raises(ValueError, match="weights: expected finite weights >= 0"):
            rm.bradley_terry(preference, bad)
    with pytest.raises(TypeError, match="weights"):
        rm.bradley_terry(preference, weights.float())
    with pytest.raises(ValueError, match="weights"):
        rm.bradley_terry(preference.expand(2, 4, 4), weights.expand(3, 4, 4))
    with pytest.raises(ValueError, match="path of wins"):
        rm.bradley_terry(preference, 0 * weights)


def test_a_tolerance_that_is_not_met_says_what_is_left(monkeypatch):
    monkeypatch.setattr(rewards, "NEWTON_STEPS", 1)
    with pytest.raises(ArithmeticError, match="is left"):
        rm.bradley_terry(nm.random_preference(5, torch.Generator().manual_seed(1)))


def test_answers_must_be_numbers():
    model = rm.NeuralPreference(2, 4, torch.Generator().manual_seed(0))
    first, won = torch.zeros(3, 2), torch.tensor([0.0, 1.0, 1.0])
    for data, words in (
        (rm.Comparisons(first * math.nan, first, won), "data.first: expected finite"),
        (rm.Comparisons(first, first, won[:, None]), "data.won: expected shape"),
        (rm.Comparisons(first[:0], first[:0], won[:0]), "data.won"),
        (rm.Comparisons(first[:2], first, won), "data.first"),
    ):
        with pytest.raises(ValueError, match=words):
            rm.fit_preference(model, data, torch.Generator(), steps=1)
