"""Numbers for the page, checks for the ledger, records of runs, files written whole."""

import os
import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from mdtheory import runs

NAN = float("nan")


@pytest.fixture
def shown(monkeypatch):
    """What the code under test would put into the running cell, as (data, metadata)."""
    outputs = []
    monkeypatch.setattr(runs, "show", lambda data, metadata=None: outputs.append((data, metadata)))
    return outputs


# ------------------------------------------------------------------------------------------- glue


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (3, "3"),
        ("12 %", "'12 %'"),
        (torch.tensor([[2.5]]), "2.5"),
        (np.float64(0.5), "0.5"),
    ],
)
def test_glue_hands_a_number_to_the_page(shown, value, text):
    runs.glue("share", value)
    ((data, metadata),) = shown
    assert data == {"application/papermill.record/text/plain": text}
    assert metadata["scrapbook"] == {
        "name": "share",
        "mime_prefix": "application/papermill.record/",
    }


def test_glue_wants_one_number():
    with pytest.raises(ValueError, match=r"^value: expected one entry, got shape \(2,\)"):
        runs.glue("share", torch.zeros(2))


# ----------------------------------------------------------------------------------------- checks


def test_a_bound_that_holds_reports_instances_and_worst_ratio(shown):
    worst = runs.check_bound("thm-x", torch.tensor([[0.5, 1.0], [3.0, 0.1]]), torch.tensor(4.0))
    assert worst == 0.75
    ((data, metadata),) = shown
    assert metadata == {
        "mdtheory_check": {"label": "thm-x", "kind": "bound", "instances": 4, "worst": 0.75}
    }
    assert "thm-x" in data["text/plain"]
    assert "4 instances" in data["text/plain"]


@pytest.mark.parametrize("left", [[0.0, 1.0001], [NAN, 0.0], [0.0, float("inf")]])
def test_a_broken_bound_fails_and_names_the_theorem(shown, left):
    with pytest.raises(AssertionError, match=r"^thm-x: broken"):
        runs.check_bound("thm-x", torch.tensor(left), torch.ones(2))
    assert not shown


def test_a_broken_bound_quotes_the_worst_instance():
    with pytest.raises(AssertionError, match=r"7\.0 > 1\.0"):
        runs.check_bound("thm-x", torch.tensor([2.0, 7.0, 0.0]), torch.ones(3))


def test_the_tolerance_of_a_bound_is_relative_with_a_floor():
    runs.check_bound("thm-x", torch.tensor(1e6 + 9e-4, dtype=torch.float64), torch.tensor(1e6))
    runs.check_bound("thm-x", torch.tensor(9e-10, dtype=torch.float64), torch.tensor(0.0))
    with pytest.raises(AssertionError):
        runs.check_bound("thm-x", torch.tensor(2e-9, dtype=torch.float64), torch.tensor(0.0))


def test_negative_bounds_have_no_ratio_but_are_checked():
    assert runs.check_bound("thm-x", torch.tensor(-2.0), torch.tensor(-1.0)) != 0
    with pytest.raises(AssertionError):
        runs.check_bound("thm-x", torch.tensor(-1.0), torch.tensor(-2.0))


@pytest.mark.parametrize("check", [runs.check_bound, runs.check_identity])
def test_a_check_needs_instances_that_pair(check):
    with pytest.raises(ValueError, match="at least one instance"):
        check("thm-x", torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="broadcasts"):
        check("thm-x", torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize("check", [runs.check_bound, runs.check_identity])
@pytest.mark.parametrize(("left", "right"), [(NAN, 1.0), (1.0, NAN), (NAN, NAN)])
def test_a_nan_never_passes(check, left, right):
    with pytest.raises((AssertionError, ValueError)):
        check("thm-x", torch.tensor([0.0, left]), torch.tensor([0.0, right]))


def test_an_identity_that_holds_reports_its_largest_difference(shown):
    left = torch.tensor([1.0, 2000.0], dtype=torch.float64)
    worst = runs.check_identity("prop-x", left, left * (1 + 5e-13))
    assert worst == pytest.approx(5e-13, rel=1e-3)
    assert shown[0][1]["mdtheory_check"]["kind"] == "identity"


@pytest.mark.parametrize("right", [1 + 1e-11, NAN, -1.0, float("inf")])
def test_a_broken_identity_fails_and_names_the_statement(shown, right):
    with pytest.raises((AssertionError, ValueError), match=r"^(prop-x: broken|right)"):
        runs.check_identity(
            "prop-x", torch.ones(1).double(), torch.tensor([right], dtype=torch.float64)
        )
    assert not shown


def test_checks_take_tensors_that_carry_gradients():
    left = torch.ones(2, requires_grad=True)
    runs.check_bound("thm-x", left, 2 * left)


# -------------------------------------------------------------------------------------- intervals


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


# ---------------------------------------------------------------------------------------- records


def test_a_record_comes_back_with_its_provenance(tmp_path):
    path = runs.write_record(
        "demo",
        {"d": [3, 10], "name": ["a, b", 'c "d"']},
        command="python -m demo",
        device="CPU, 2 cores",
        seeds=5,
        note="two\nlines",
        folder=tmp_path / "new",
    )
    assert path == tmp_path / "new" / "demo.csv"
    record = runs.read_record("demo", folder=tmp_path / "new")
    assert record.columns == {"d": ["3", "10"], "name": ["a, b", 'c "d"']}
    assert record.numbers("d") == [3.0, 10.0]
    assert record.provenance["command"] == "python -m demo"
    assert record.provenance["seeds"] == "5"
    assert record.provenance["note"] == "two lines"
    assert record.provenance["torch"] == torch.__version__
    assert len(record.provenance["date"]) == len("2000-01-01")


def test_a_record_without_a_note_can_be_read(tmp_path):
    runs.write_record("demo", {"d": [1]}, command="c", device="d", seeds=1, folder=tmp_path)
    assert runs.read_record("demo", folder=tmp_path).provenance["note"] == ""


def test_a_column_that_is_not_there_or_holds_no_numbers(tmp_path):
    runs.write_record("demo", {"d": ["x"]}, command="c", device="d", seeds=1, folder=tmp_path)
    record = runs.read_record("demo", folder=tmp_path)
    with pytest.raises(ValueError, match=r"^column: expected one of \['d'\], got 'e'"):
        record.numbers("e")
    with pytest.raises(ValueError, match="x"):
        record.numbers("d")


@pytest.mark.parametrize("columns", [{}, {"a": [1], "b": [1, 2]}])
def test_columns_must_be_there_and_of_one_length(tmp_path, columns):
    with pytest.raises(ValueError, match=r"^columns: expected"):
        runs.write_record("demo", columns, command="c", device="d", seeds=1, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        runs.read_record("missing", folder=tmp_path)


def test_records_live_in_the_book_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("MDTHEORY_RESULTS", raising=False)
    (tmp_path / "book" / "results").mkdir(parents=True)
    (tmp_path / "book" / "convex").mkdir()
    monkeypatch.chdir(tmp_path / "book" / "convex")
    assert runs.results_folder() == tmp_path / "book" / "results"
    runs.write_record("demo", {"d": [1]}, command="c", device="d", seeds=1)
    assert runs.read_record("demo").columns == {"d": ["1"]}


def test_the_variable_says_where_records_live(tmp_path, monkeypatch):
    monkeypatch.setenv("MDTHEORY_RESULTS", str(tmp_path / "elsewhere"))
    assert runs.results_folder() == tmp_path / "elsewhere"


def test_no_folder_of_records_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("MDTHEORY_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "mdtheory" / "runs.py"))
    with pytest.raises(FileNotFoundError, match="MDTHEORY_RESULTS"):
        runs.results_folder()


# ------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("content", ["ψ*(θ)\n", b"\x00\x01"])
def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path, content):
    path = tmp_path / "file"
    path.write_text("old and longer than the new one")
    runs.write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        runs.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_into_a_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        runs.write_atomically(Path(tmp_path / "missing" / "file"), "x")


# ------------------------------------------------------------------------------------------- show


def test_outside_a_notebook_nothing_is_shown(capsys):
    runs.show({"text/plain": "hello"})
    assert capsys.readouterr().out == ""


def test_in_a_notebook_the_bundle_is_displayed(monkeypatch):
    ipython = pytest.importorskip("IPython")
    import IPython.display

    calls = []
    monkeypatch.setattr(ipython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: calls.append((a, k)))
    runs.show({"text/plain": "hello"}, {"name": "x"})
    assert calls == [(({"text/plain": "hello"},), {"raw": True, "metadata": {"name": "x"}})]


def test_a_device_is_described_with_its_processor_and_threads():
    words = runs.describe_device(torch.device("cpu"))
    assert words == f"cpu ({platform.machine()}), {torch.get_num_threads()} thread(s)"
