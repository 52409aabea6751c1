"""Checkpoints, files, and what a run says while it goes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mdtheory.nlhf.language_models import grammar as world
from tests.nlhf.language_models_training import (
    TOPICS,
    quietly,
    spoken,
    trainer,
    weights,
    without_seconds,
)


class Killed(Exception):
    pass


def dies_after(steps):
    """A judge that is asked once a step."""
    left = [steps]
    judge = world.Annotators()

    def asked(prompts, first, second):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return judge(prompts, first, second)

    asked.antisymmetric = True
    return asked


@pytest.mark.parametrize("loss", ["nash-md", "mirror-prox"])
@pytest.mark.parametrize("lora", [None, {"r": 2}], ids=["whole", "adapters"])
def test_a_run_that_was_interrupted_goes_on_number_for_number(loss, lora, tmp_path):
    settings = {"max_steps": 6, "save_every": 2, "decay": 0.5, "lora": lora}
    whole = trainer(loss=loss, **settings)
    table = without_seconds(whole.train())
    first = trainer(loss=loss, output=tmp_path, preference=dies_after(5), **settings)
    with pytest.raises(Killed):
        first.train()
    assert len(first.logbook.rows) == 5
    again = trainer(loss=loss, output=tmp_path, **settings)
    assert without_seconds(again.train(resume=True)) == table  # from step 5 on, once more
    assert torch.equal(weights(again.model), weights(whole.model))
    # What was done is not done again.
    done = trainer(loss=loss, output=tmp_path, preference=dies_after(0), **settings)
    assert without_seconds(done.train(resume=True)) == table


SCRIPT = """
import sys
from tests.nlhf.language_models_training import trainer
trainer(output=sys.argv[1], max_steps=400, save_every=1).train(resume=True)
"""


def test_a_process_that_is_killed_leaves_a_checkpoint(tmp_path):
    """At whatever step it is: the file is whole."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment)
    try:
        while process.poll() is None and not (tmp_path / "checkpoint.pt").exists():
            time.sleep(0.05)
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    run = trainer(output=tmp_path, max_steps=400, save_every=1)
    run._resume()
    done = run.steps
    assert done >= 1
    rows = [*run.logbook.rows, run.step(), run.step()]
    assert without_seconds(rows) == without_seconds(trainer(max_steps=done + 2).train())


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path):
    trainer(output=tmp_path, max_steps=1).train()
    with pytest.raises(ValueError, match="output: expected a folder without a checkpoint"):
        trainer(output=tmp_path, max_steps=2).train()
    longer = trainer(output=tmp_path, max_steps=3)
    assert len(longer.train(resume=True)) == 3


@pytest.mark.parametrize(
    "change",
    [{"loss": "self-play"}, {"temperature": 0.2}, {"seed": 5}, {"lora": {"r": 2}}, {"decay": 0.1}],
)
def test_a_checkpoint_of_another_run_is_refused(change, tmp_path):
    trainer(output=tmp_path, max_steps=1).train()
    other = trainer(output=tmp_path, max_steps=2, **change)
    with pytest.raises(ValueError, match="checkpoint: expected a run of"):
        other.train(resume=True)


def test_no_folder_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(max_steps=2, save_every=1).train(resume=True)
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_a_file(tmp_path):
    table = trainer(output=tmp_path / "run", max_steps=3).train()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == table


def test_progress_and_samples_are_shown(tmp_path, capsys):
    trainer(output=tmp_path, max_steps=2, save_every=1, progress=True).train()
    shown = capsys.readouterr()
    assert "2/2" in shown.err
    assert "preferred" in shown.err
    assert shown.out.count("'film' -> ") == 2
    lines = (tmp_path / "samples.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["step"] for one in found] == [1, 1, 1, 2, 2, 2]
    assert {one["prompt"] for one in found} == set(TOPICS[:3])
    quietly(lambda: trainer(output=tmp_path, max_steps=3, save_every=1, progress=True).train(True))
    lines = (tmp_path / "samples.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_what_is_saved_is_a_model_of_transformers(tmp_path):
    run = trainer(spoken().float(), max_steps=1)
    run.train()
    run.save(tmp_path)
    again = trainer(str(tmp_path), tokenizer=None)
    assert torch.equal(weights(again.model), weights(run.model))
    assert again.generate(["film"], 3) == run.generate(["film"], 3)
