"""A run of the trainer from files: what ``mdtheory align`` does."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from mdtheory.nlhf.language_models.judging import Judge, Rewards
from mdtheory.nlhf.language_models.loading import Prompt
from mdtheory.nlhf.language_models.methods import METHODS, Settings
from mdtheory.nlhf.language_models.readers import PreferenceModel, require_pair
from mdtheory.nlhf.language_models.trainer import PreferenceTrainer

# What only this command knows, beside the trainer's numbers.
OWN = ("model", "reference", "preference", "prompts", "output", "resume", "lora", "template",
       "save_every", "epochs", "preference_rate")  # fmt: skip
NEEDED = ("model", "preference", "prompts", "output")


def align(options: Mapping[str, Any], *, progress: bool = True) -> list[dict[str, float]]:
    """Train a model with preferences, from files.

    Args:
        options: ``model``, ``preference``, ``prompts`` and ``output``, and what else is not to be
            as :class:`PreferenceTrainer` has it. ``preference`` is ``FILE.py:NAME`` (a function or
            ``Rewards``; for the loss ``"rlhf"`` also a function of prompts and answers), a folder
            of :meth:`PreferenceModel.save`, or ``FILE.jsonl`` with labelled pairs, to which a
            preference model is fitted first, for ``epochs`` at ``preference_rate``. ``lora`` is a
            rank.
        progress: whether to show a bar and samples.

    Returns:
        The trainer's table. The model is in ``output/model``.

    Raises:
        ImportError: the extra ``llm`` is not installed.
        OSError: a file that is not there or cannot be read.
        TypeError: an option of the wrong kind.
        ValueError: an option that is not known, is missing or out of range, or a file with
            something else in it.
    """
    numbers = {field.name for field in fields(Settings)}
    unknown = sorted(set(options) - numbers - set(OWN))
    if unknown:
        raise ValueError(f"options: expected names of options, got {', '.join(unknown)}")
    for name in NEEDED:
        if name not in options:
            raise ValueError(f"{name}: expected it among the options, got none")
    given = {name: value for name, value in options.items() if name in numbers}
    settings = Settings(**given)  # before anything is loaded
    output, rank = Path(options["output"]), options.get("lora")
    prompts = read_prompts(Path(options["prompts"]))
    judge = read_judge(str(options["preference"]), options, settings)
    trainer = PreferenceTrainer(
        options["model"], preference=judge, prompts=prompts, reference=options.get("reference"),
        lora=None if rank is None else {"r": rank, "lora_alpha": 2 * rank}, output=output,
        template=options.get("template", "auto"), save_every=options.get("save_every", 50),
        progress=progress, **given,
    )  # fmt: skip
    if isinstance(judge, PreferenceModel):
        judge.to(trainer.device)
    table = trainer.train(resume=bool(options.get("resume", False)))
    trainer.save(output / "model")
    return table


def read_config(path: Path) -> dict[str, Any]:
    """Options from a TOML file, by the names of the command's options.

    Args:
        path: the file.

    Returns:
        Options for :func:`align`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML.
    """
    try:
        found = tomllib.loads(_text("config", path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config: expected TOML in {path}, got {error}") from error
    return {name.replace("-", "_"): value for name, value in found.items()}


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts from a file: one a line, or JSON lines with ``prompt`` or ``messages``.

    Args:
        path: a ``.txt`` or ``.jsonl`` file.

    Returns:
        Texts, or turns of conversations.

    Raises:
        OSError: it cannot be read.
        ValueError: another kind of file, a line of another kind, or no prompts.
    """
    if path.suffix not in (".txt", ".jsonl"):
        raise ValueError(f"prompts: expected a .txt or .jsonl file, got {path}")
    found: list[Prompt] = []
    if path.suffix == ".txt":
        found += [line.strip() for line in _text("prompts", path).splitlines() if line.strip()]
    else:
        for where, said in _lines("prompts", path):
            prompt = said.get("prompt", said.get("messages")) if isinstance(said, dict) else None
            turns = isinstance(prompt, list) and all(
                isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in prompt
            )
            if not prompt or not (isinstance(prompt, str) or turns):
                raise ValueError(f"{where}: expected a prompt, or messages with role and content")
            found.append(prompt)
    if not found:
        raise ValueError(f"prompts: expected at least one prompt, got none in {path}")
    return found


def read_judge(source: str, options: Mapping[str, Any], settings: Settings) -> Judge:
    """The judge that an option names.

    Args:
        source: as :func:`align` takes it.
        options: of the run.
        settings: likewise.

    Returns:
        The judge.

    Raises:
        OSError: a file that is not there.
        TypeError: something that cannot be called.
        ValueError: a source of another kind, or one that fails to load.
    """
    file, colon, name = source.rpartition(":")
    if colon and file.endswith(".py"):
        found = _named(Path(file), name)
        if METHODS[settings.loss].rewards and not isinstance(found, Rewards):
            return Rewards(found)
        if not callable(found):
            raise TypeError(f"preference: expected a function, got {type(found).__name__}")
        return found
    path = Path(source).expanduser()
    if METHODS[settings.loss].rewards:
        raise ValueError(
            f"preference: expected FILE.py:NAME, a reward, for the loss {settings.loss!r}, got "
            f"{source!r}"
        )
    if path.is_dir():
        return PreferenceModel.load(path)
    if path.suffix == ".jsonl":
        pairs = [pair for _, pair in _lines("preference", path)]
        for at, pair in enumerate(pairs, 1):
            require_pair(pair, f"{path}, pair {at}")
        kept = Path(options["output"]) / "preference"
        if options.get("resume") and (kept / "reader.json").is_file():
            return PreferenceModel.load(kept)
        model = PreferenceModel(options["model"])
        model.fit(
            pairs, torch.Generator().manual_seed(settings.seed),
            epochs=options.get("epochs", 1), learning_rate=options.get("preference_rate", 1e-5),
        )  # fmt: skip
        model.save(kept)
        return model
    if not path.exists() and (path.suffix or "/" in source):
        raise FileNotFoundError(f"preference: expected a file that is there, got {source!r}")
    raise ValueError(f"preference: expected FILE.py:NAME, a folder or FILE.jsonl, got {source!r}")


def _named(path: Path, name: str) -> Any:
    """An object of a Python file, which is run."""
    if not path.is_file():
        raise FileNotFoundError(f"preference: expected a file that is there, got {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file does
        raise ValueError(
            f"preference: expected a Python file that runs, {path} raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        raise ValueError(f"preference: expected a name in {path}, got {name!r}")
    return getattr(module, name)


def _text(name: str, path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{name}: expected a file that is there, got {str(path)!r}")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: expected text in {path}, got {error}") from error


def _lines(name: str, path: Path) -> Sequence[tuple[str, Any]]:
    """The values of a file of JSON lines, each with the place where it stands."""
    found = []
    for at, line in enumerate(_text(name, path).splitlines(), 1):
        if line.strip():
            try:
                found.append((f"{path}, line {at}", json.loads(line)))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {at}: expected JSON, got {error}") from error
    return found
