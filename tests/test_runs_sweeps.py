"""Sweeps: finished cells are on disk, killed sweeps resume, damaged files are computed again."""

import json
import sys

import joblib
import pytest

from mdtheory import runs

CALLS = []


def square(x, seed, power=2, die_at=None):
    CALLS.append((x, seed))
    if die_at is not None and len(CALLS) > die_at:
        raise KeyboardInterrupt
    return {"value": x**power + seed, "list": [x, float(seed)]}


def other(x, seed):
    return -x


def no_json(x, seed):
    return {1, 2}


def counted(x, seed, checkpoint):
    """Goes on from its checkpoint, and dies once on the way."""
    if not checkpoint.exists():
        checkpoint.write_text("half")
        raise KeyboardInterrupt
    return checkpoint.read_text()


@pytest.fixture(autouse=True)
def forget():
    CALLS.clear()


def test_a_sweep_is_the_product_of_its_arguments_and_seeds(tmp_path):
    cells = runs.sweep(square, {"x": [1, 2], "power": [2, 3]}, seeds=range(2), folder=tmp_path)
    assert [(c.arguments["x"], c.arguments["power"], c.seed) for c in cells] == [
        (1, 2, 0), (1, 2, 1), (1, 3, 0), (1, 3, 1), (2, 2, 0), (2, 2, 1), (2, 3, 0), (2, 3, 1),
    ]  # fmt: skip
    assert cells[-1].result == {"value": 9, "list": [2, 1.0]}
    assert len(list(tmp_path.iterdir())) == 8


def test_what_is_finished_is_not_computed_again(tmp_path):
    grid = {"x": [1, 2, 3]}
    first = runs.sweep(square, grid, seeds=[0], folder=tmp_path)
    assert len(CALLS) == 3
    assert runs.sweep(square, grid, seeds=[0], folder=tmp_path) == first
    assert len(CALLS) == 3
    assert runs.finished_cells(square, grid, seeds=[0, 1], folder=tmp_path) == first
    wider = runs.sweep(square, {"x": [1, 2, 3, 4]}, seeds=[0, 1], folder=tmp_path)
    assert len(CALLS) == 3 + 5
    assert len(wider) == 8


def test_a_killed_sweep_resumes_where_it_was(tmp_path):
    grid = {"x": [1, 2, 3, 4], "die_at": [2]}
    with pytest.raises(KeyboardInterrupt):
        runs.sweep(square, grid, seeds=[0], folder=tmp_path)
    assert len(runs.finished_cells(square, grid, seeds=[0], folder=tmp_path)) == 2
    CALLS.clear()
    cells = runs.sweep(square, grid, seeds=[0], folder=tmp_path)
    assert CALLS == [(3, 0), (4, 0)]
    assert [cell.result["value"] for cell in cells] == [1, 4, 9, 16]


def test_other_arguments_functions_and_seeds_are_other_cells(tmp_path):
    runs.sweep(square, {"x": [2]}, seeds=[0], folder=tmp_path)
    for function, grid, seed, expected in (
        (square, {"x": [2], "power": [3]}, 0, {"value": 8, "list": [2, 0.0]}),
        (square, {"x": [2]}, 5, {"value": 9, "list": [2, 5.0]}),
        (square, {"x": [2.5]}, 0, {"value": 6.25, "list": [2.5, 0.0]}),
        (other, {"x": [2]}, 0, -2),
    ):
        [cell] = runs.sweep(function, grid, seeds=[seed], folder=tmp_path)
        assert cell.result == expected
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("damage", ["", '{"arguments": {"x": 2}, "se', "[]", '{"seed": 0}', "\xff"])
def test_a_damaged_file_is_computed_again(tmp_path, damage):
    [cell] = runs.sweep(square, {"x": [2]}, seeds=[0], folder=tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(damage.encode("latin-1"))
    assert runs.sweep(square, {"x": [2]}, seeds=[0], folder=tmp_path) == [cell]
    assert json.loads(path.read_text())["result"] == cell.result
    # A file under this name that holds another cell is no answer either.
    path.write_text(json.dumps({"arguments": {"x": 3}, "seed": 0, "result": 77}))
    assert runs.sweep(square, {"x": [2]}, seeds=[0], folder=tmp_path) == [cell]
    assert len(CALLS) == 3


def test_a_cell_takes_up_its_checkpoint_and_leaves_none(tmp_path):
    def go():
        return runs.sweep(counted, {"x": [1]}, seeds=[0], folder=tmp_path, checkpoints=True)

    with pytest.raises(KeyboardInterrupt):
        go()
    assert len(list(tmp_path.glob("*.checkpoint"))) == 1
    [cell] = go()
    assert cell.result == "half"
    assert not list(tmp_path.glob("*.checkpoint"))


def test_processes_and_joblibs_own_configuration_give_the_same_cells(tmp_path):
    grid = {"x": [1, 2, 3]}
    alone = runs.sweep(square, grid, seeds=range(2), folder=tmp_path / "alone")
    with joblib.parallel_config(backend="threading", n_jobs=2):
        threads = runs.sweep(square, grid, seeds=range(2), folder=tmp_path / "threads")
    assert threads == alone


def test_sweeps_refuse_by_name(tmp_path, monkeypatch):
    for grid in ({"x": []}, {"seed": [1]}, {"checkpoint": [1]}):
        with pytest.raises(ValueError, match=r"^grid: expected"):
            runs.sweep(square, grid, seeds=[0], folder=tmp_path)
    with pytest.raises(ValueError, match=r"^seeds: expected"):
        runs.sweep(square, {"x": [1]}, seeds=[], folder=tmp_path)
    with pytest.raises(TypeError, match="JSON"):
        runs.sweep(no_json, {"x": [1]}, seeds=[0], folder=tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match="notebooks"):
        runs.sweep(square, {"x": [1]}, seeds=[0], folder=tmp_path)


def test_the_bar_says_how_far_it_is(capsys):
    bar = runs.ProgressBar("train", width=4)
    for done in range(9):
        bar(done, 8)
    shown = capsys.readouterr().err
    assert "\rtrain [....] 0%" in shown
    assert "\rtrain [##..] 50%" in shown
    assert shown.endswith("\rtrain [####] 100%\n")
