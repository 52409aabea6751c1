"""The series that come with the package are the ones of their README."""

import gzip
import hashlib
from importlib import resources

import pytest
import torch

from mdtheory.data import load_judges, load_sp500, load_water_flow
from tools import make_judges
from tools.make_series import SERIES, pack


@pytest.mark.parametrize("name", [target for _, _, target, _ in SERIES])
def test_a_series_is_the_one_of_its_readme(name):
    folder = resources.files("mdtheory.data")
    packed = folder.joinpath(name).read_bytes()
    text = gzip.decompress(packed)
    readme = folder.joinpath("README.md").read_text("utf-8")
    assert hashlib.sha256(text).hexdigest() in readme
    assert pack(text.decode()) == packed
    assert all(digest in readme for _, digest, _, _ in SERIES)


def test_the_water_flows_every_hour_but_for_ten_gaps():
    hours, flow = load_water_flow()
    assert hours.shape == flow.shape == (1268,)
    assert hours.dtype == flow.dtype == torch.float64
    steps = hours.diff()
    assert hours[0] == 0
    assert (steps >= 1).all()
    assert int((steps > 1).sum()) == 10
    assert flow.min().item() == pytest.approx(24.24)
    assert flow.max().item() == pytest.approx(109.68)


def test_the_target_of_a_day_is_the_mean_return_of_the_next():
    names, returns, next_day = load_sp500()
    assert len(names) == len(set(names)) == 10
    assert returns.shape == (1257, 10)
    assert next_day.shape == (1257,)
    torch.testing.assert_close(next_day[:-1], returns[1:].mean(1), atol=1e-6, rtol=0)


def test_the_table_of_judges_is_the_one_of_its_readme():
    folder = resources.files("mdtheory.data")
    packed = folder.joinpath(make_judges.TARGET).read_bytes()
    text = gzip.decompress(packed)
    readme = folder.joinpath("README.md").read_text("utf-8")
    assert hashlib.sha256(text).hexdigest() in readme
    assert make_judges.DIGEST in readme
    assert pack(text.decode()) == packed


def test_judges_have_eleven_ratings_and_the_contacts_apart():
    names, respects, ratings, contacts = load_judges()
    assert len(set(names)) == 43
    assert ratings.shape == (43, 11)
    assert len(set(respects)) == 11
    assert "CONT" not in respects
    assert contacts[names.index("RUBINOW,J.E.")].item() == 7.1
    assert ratings[names.index("RUBINOW,J.E."), respects.index("RTEN")].item() == 9.2
    assert 3 < ratings.min() < ratings.max() < 10
