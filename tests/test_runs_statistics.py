"""Statistics over seeds and their intervals."""

import pytest
import torch

from mdtheory import runs


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("statistic", "expected"), [("mean", 26.0), ("median", 3.0), ("iqm", 3.0)])
def test_statistics_over_seeds(statistic, expected):
    samples = torch.tensor([1.0, 2.0, 3.0, 4.0, 120.0], dtype=torch.float64)[:, None]
    middle, low, high = runs.bootstrap_interval(samples, _generator(), statistic=statistic)
    assert middle.shape == low.shape == high.shape == (1,)
    assert middle.item() == pytest.approx(expected)
    assert low <= middle <= high


def test_interquartile_mean_is_the_mean_of_the_middle_half():
    samples = torch.arange(8, dtype=torch.float64) ** 2
    middle, _, _ = runs.bootstrap_interval(samples, _generator(), statistic="iqm")
    assert middle.item() == pytest.approx((4 + 9 + 16 + 25) / 4)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    samples = torch.randn(40, 400, generator=_generator(1), dtype=torch.float64)
    _, low, high = runs.bootstrap_interval(
        samples, _generator(2), statistic="mean", level=0.9, resamples=400
    )
    covered = ((low <= 0) & (high >= 0)).double().mean().item()
    assert 0.82 < covered < 0.95


def test_the_interval_is_a_function_of_its_generator():
    samples = torch.randn(20, generator=_generator(3))
    first = runs.bootstrap_interval(samples, _generator(4), resamples=100)
    again = runs.bootstrap_interval(samples, _generator(4), resamples=100)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("samples", "options", "name"),
    [
        (torch.tensor(1.0), {}, "samples"),
        (torch.zeros(0, 2), {}, "samples"),
        (torch.zeros(3), {"statistic": "mode"}, "statistic"),
        (torch.zeros(3), {"level": 1.0}, "level"),
        (torch.zeros(3), {"level": 0.0}, "level"),
        (torch.zeros(3), {"resamples": 0}, "resamples"),
    ],
)
def test_intervals_refuse_by_name(samples, options, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        runs.bootstrap_interval(samples, _generator(), **options)
