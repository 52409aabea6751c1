"""What a run leaves behind: its table, samples, a checkpoint, and a bar while it goes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mdtheory.agents.checkpoints import load_checkpoint, save_checkpoint
from mdtheory.checks import require_extra
from mdtheory.files import write_atomically


class Bar:
    """A bar of steps with some of the last row."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def update(self, row: dict[str, float]) -> None:
        """One step further."""
        said = {name: row[name] for name in ("preferred", "reward", "kl", "ended") if name in row}
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in said.items()}, refresh=False)
        self.bar.update()


class Logbook:
    """Rows of metrics, and the files that hold them.

    Args:
        output: the folder, or nothing to write no files.
        identity: what the run is, in words; a checkpoint of another one is refused.
        main: whether this process writes and shows.
        progress: whether to show a bar and samples.
    """

    def __init__(
        self, output: str | Path | None, identity: str, *, main: bool, progress: bool
    ) -> None:
        self.folder = None if output is None else Path(output)
        self.identity, self.main, self.shows = identity, main, progress and main
        self.rows: list[dict[str, float]] = []
        self.samples: list[dict[str, Any]] = []

    @property
    def checkpoint(self) -> Path | None:
        """The file that a run is resumed from."""
        return None if self.folder is None else self.folder / "checkpoint.pt"

    def keep(self, step: int, state: dict[str, Any]) -> None:
        """Write checkpoint and table, each of them whole or not at all.

        Args:
            step: steps that are done.
            state: tensors, numbers, and lists and dictionaries of them.
        """
        if self.folder is None or not self.main:
            return
        assert self.checkpoint is not None
        state = {"step": step, "rows": self.rows, "samples": self.samples, **state}
        save_checkpoint(self.checkpoint, self.identity, state)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.folder / "metrics.csv", text.getvalue())

    def resume(self) -> dict[str, Any] | None:
        """The state of :meth:`keep`, or nothing where there is none.

        Returns:
            The state, with its ``step``; tensors on the CPU.

        Raises:
            ValueError: a checkpoint of another run.
        """
        if self.checkpoint is None or not self.checkpoint.exists():
            return None
        state = load_checkpoint(self.checkpoint, self.identity, torch.device("cpu"))
        self.rows, self.samples = state["rows"], state["samples"]
        return state

    def show(self, step: int, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> None:
        """Print answers above the bar, and write all that were shown so far.

        Args:
            step: steps that are done.
            prompts: some prompts.
            answers: answers to each.
        """
        tqdm = require_extra("tqdm", "llm").tqdm
        for prompt, group in zip(prompts, answers, strict=True):
            self.samples.append({"step": step, "prompt": prompt, "answers": list(group)})
            tqdm.write(f"[{step}] {prompt[-60:]!r} -> {group[0][:100]!r}")
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in self.samples)
            write_atomically(self.folder / "samples.jsonl", lines)

    @contextmanager
    def bar(self, steps: int, done: int) -> Iterator[Bar]:
        """A bar that goes from what is done to the last step."""
        tqdm = require_extra("tqdm", "llm").tqdm
        with tqdm(total=steps, initial=done, disable=not self.shows, unit="step") as bar:
            yield Bar(bar)
