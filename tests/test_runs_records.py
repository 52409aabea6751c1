"""Records of runs come back with their provenance."""

import platform

import pytest
import torch

from mdtheory import runs
from mdtheory.runs import records


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
    monkeypatch.setattr(records, "__file__", str(tmp_path / "mdtheory" / "runs" / "records.py"))
    with pytest.raises(FileNotFoundError, match="MDTHEORY_RESULTS"):
        runs.results_folder()


def test_a_device_is_described_with_its_processor_and_threads():
    words = runs.describe_device(torch.device("cpu"))
    assert words == f"cpu ({platform.machine()}), {torch.get_num_threads()} thread(s)"
