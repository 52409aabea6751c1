"""The command ``mdtheory align``: a run from files, and what it says of wrong ones."""

import json
import subprocess
import sys

import pytest

from mdtheory.cli import ALIGN, main
from mdtheory.nlhf.language_models import PreferenceModel
from mdtheory.nlhf.language_models.align import OWN, read_prompts
from mdtheory.nlhf.language_models.loading import load_model
from mdtheory.nlhf.language_models.methods import Settings
from tests.nlhf.language_models_training import TOPICS, spoken, weights, words

JUDGE = """
from mdtheory.nlhf.language_models import Rewards
from mdtheory.nlhf.language_models.grammar import Annotators, class_of
annotators = Annotators()
def prefer(prompts, first, second):
    return annotators(prompts, first, second)
def hits(prompts, answers):
    return [float(class_of(p, a) % 2) for p, a in zip(prompts, answers)]
reward = Rewards(hits)
number = 3
def fails(prompts, first, second):
    return [2.0] * len(first)
"""
PAIR = {"prompt": "film", "first": "film is good", "second": "book is good", "label": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    spoken().float().save_pretrained(place)
    words().save_pretrained(place)
    return place


@pytest.fixture
def files(tmp_path, model):
    """A folder with all that a run needs, and the words of a short one."""
    (tmp_path / "judge.py").write_text(JUDGE)
    (tmp_path / "prompts.txt").write_text("\n".join(TOPICS) + "\n\n")
    (tmp_path / "pairs.jsonl").write_text((json.dumps(PAIR) + "\n") * 3)
    given = {
        "model": model, "preference": f"{tmp_path}/judge.py:prefer",
        "prompts": tmp_path / "prompts.txt", "output": tmp_path / "run", "steps": 2, "group": 1,
        "prompts-per-step": 2, "new-tokens": 7, "learning-rate": 1e-3,
    }  # fmt: skip

    def run(quiet=True, flags=(), **change):
        chosen = {**given, **{name.replace("_", "-"): value for name, value in change.items()}}
        options = [f"--{name}={value}" for name, value in chosen.items() if value is not None]
        return main(["align", *options, *(["--quiet"] if quiet else []), *flags])

    return tmp_path, run


def test_a_run_from_files(files, capsys, model):
    folder, run = files
    assert run() == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "step 2, loss" in said.out
    assert f"Model: {folder}/run/model" in said.out
    assert len((folder / "run" / "metrics.csv").read_text("utf-8").splitlines()) == 3
    trained = load_model(folder / "run" / "model")
    assert (weights(trained) - weights(load_model(model))).abs().max() > 0


def test_it_goes_on_when_it_is_told_to(files, capsys):
    _, run = files
    assert run() == 0
    assert run(steps=4) == 1
    assert "expected a folder without a checkpoint, or resume" in capsys.readouterr().err
    assert run(steps=4, flags=["--resume"]) == 0
    assert "step 4, loss" in capsys.readouterr().out


def test_a_bar_is_shown_unless_it_is_quiet(files, capsys):
    _, run = files
    assert run(quiet=False) == 0
    said = capsys.readouterr()
    assert "2/2" in said.err
    assert "'film' -> " in said.out


def test_options_from_a_file(files, capsys):
    folder, run = files
    (folder / "run.toml").write_text('loss = "ipo-md"\nsteps = 1\nlora = 2\nsave-every = 1\n')
    assert run(config=folder / "run.toml", steps=None) == 0
    assert "step 1, loss" in capsys.readouterr().out
    assert (folder / "run" / "model" / "adapter_config.json").is_file()
    assert run(config=folder / "run.toml", steps=2, output=folder / "second") == 0
    assert "step 2, loss" in capsys.readouterr().out  # what is said on the line wins


@pytest.mark.parametrize("name", ["hits", "reward"])
def test_rewards_from_files(files, name, capsys):
    folder, run = files
    assert run(loss="rlhf", preference=f"{folder}/judge.py:{name}") == 0
    assert "reward" in capsys.readouterr().out


def test_a_preference_model_is_fitted_to_pairs_first(files):
    folder, run = files
    assert run(preference=folder / "pairs.jsonl", epochs=2, preference_rate=1e-3) == 0
    kept = folder / "run" / "preference"
    found = PreferenceModel.load(kept)(["film"], ["film is good"], ["book is good"])
    assert found.item() > 0.5
    assert run(preference=kept, output=folder / "second") == 0
    assert run(preference=folder / "pairs.jsonl", steps=3, flags=["--resume"]) == 0


def test_prompts_may_be_conversations(tmp_path):
    file = tmp_path / "prompts.jsonl"
    turns = [{"role": "user", "content": "hello"}]
    file.write_text(f'{{"prompt": "one"}}\n\n{{"messages": {json.dumps(turns)}}}\n')
    assert read_prompts(file) == ["one", turns]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model: expected it among the options, got none"),
        ({"prompts": None}, "prompts: expected it among the options, got none"),
        ({"model": "./nothing"}, "model: expected a folder or file that is there, got './nothing'"),
        ({"model": "{folder}"}, "model: expected a folder with a config.json"),
        ({"reference": "./nothing"}, "model: expected a folder or file that is there"),
        ({"preference": "{folder}/nothing.py:prefer"}, "preference: expected a file that is there"),
        ({"preference": "{folder}/judge.py:none"}, "preference: expected a name in"),
        ({"preference": "{folder}/judge.py:number"}, "preference: expected a function, got int"),
        ({"preference": "{folder}/broken.py:f"}, "broken.py raised ZeroDivisionError"),
        ({"preference": "{folder}/judge.py:fails"}, "preference: expected numbers in [0, 1]"),
        ({"preference": "{folder}"}, "path: expected a folder of PreferenceModel.save"),
        ({"preference": "somebody"}, "preference: expected FILE.py:NAME, a folder or FILE.jsonl"),
        ({"preference": "{folder}/none.jsonl"}, "preference: expected a file that is there"),
        ({"preference": "{folder}/bad.jsonl"}, "bad.jsonl, line 2: expected JSON"),
        ({"preference": "{folder}/few.jsonl"}, "pair 1: expected fields prompt, first, second"),
        ({"preference": "{folder}/pairs.jsonl", "loss": "rlhf"}, "expected FILE.py:NAME, a reward"),
        ({"prompts": "{folder}/nothing.txt"}, "prompts: expected a file that is there"),
        ({"prompts": "{folder}/judge.py"}, "prompts: expected a .txt or .jsonl file"),
        ({"prompts": "{folder}/empty.txt"}, "prompts: expected at least one prompt, got none"),
        ({"prompts": "{folder}/few.jsonl"}, "line 1: expected a prompt, or messages"),
        ({"prompts": "{folder}/binary.txt"}, "prompts: expected text in"),
        ({"loss": "ppo"}, "loss: expected one of nash-md"),
        ({"temperature": -1}, "temperature: expected a finite number >= 0"),
        ({"mixture": 2}, "mixture: expected a number in [0, 1]"),
        ({"lora": 0}, "lora: expected settings of peft.LoraConfig"),
        ({"template": "hello"}, "template: expected a text with {prompt}"),
        ({"config": "{folder}/nothing.toml"}, "config: expected a file that is there"),
        ({"config": "{folder}/judge.py"}, "config: expected TOML in"),
        ({"config": "{folder}/odd.toml"}, "options: expected names of options, got colour"),
        ({"config": "{folder}/kind.toml"}, "warmup: expected a whole number, got str"),
    ],
)
def test_what_is_wrong_is_said(files, change, message, capsys):
    folder, run = files
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "bad.jsonl").write_text(json.dumps(PAIR) + "\n{oops\n")
    (folder / "few.jsonl").write_text('{"text": "film"}\n')
    (folder / "empty.txt").write_text("\n\n")
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "odd.toml").write_text('colour = "red"\n')
    (folder / "kind.toml").write_text('warmup = "two"\n')
    said = {
        name: value.replace("{folder}", str(folder)) if isinstance(value, str) else value
        for name, value in change.items()
    }
    assert run(**said) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("mdtheory: ")
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("words", [["--steps", "many"], ["--lora", "x"], ["--colour", "red"]])
def test_what_is_not_understood_is_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["align", *words])
    assert "usage: mdtheory" in capsys.readouterr().err


def test_every_number_of_the_trainer_is_an_option():
    names = {name.replace("-", "_").replace("steps", "max_steps") for name in ALIGN}
    names = {"prompts_per_step" if name.startswith("prompts_per") else name for name in names}
    assert set(Settings.__dataclass_fields__) - names == {"clip"}
    assert names - set(Settings.__dataclass_fields__) == set(OWN) - {"resume"}


def test_help_needs_no_tensors():
    code = "import sys, mdtheory.cli as c\ntry: c.main(['align', '--help'])\nexcept SystemExit: 0"
    command = [sys.executable, "-c", f"{code}\nassert 'torch' not in sys.modules"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--preference WHO" in done.stdout
