"""Runs a notebook in a student's process, and takes what comes from it for what it may be."""

from __future__ import annotations

import json
import math
import os
import select
import time
from dataclasses import dataclass, field
from typing import Any

from mdtheory.course.marking import Answers, PlannedCall, Refusal, describe
from mdtheory.course.received import believable, believable_answer
from mdtheory.course.sandbox import Allowance, Line, Warm
from mdtheory.course.wire import (
    ANSWER,
    CELL,
    DONE,
    INPUTS,
    OUTPUT,
    BrokenFrameError,
    Frames,
    frame,
)

# Bytes that a submission's cells may show, pictures and error texts included, and in how many
# pieces. An answer may have this many bytes where no reference is known yet.
MOST_OUTPUT = 20_000_000
MOST_PIECES = 20_000
MOST_ANSWER = 256 * 2**20
# Seconds in which an interrupted cell must end, before its process is killed.
GRACE = 10.0


@dataclass(frozen=True)
class Limits:
    """Limits of one submission.

    Attributes:
        notebook: seconds for the whole notebook.
        cell: seconds for one cell; the cell is then interrupted, and the next one runs.
        allowance: memory, processes and files.
    """

    notebook: float = 300.0
    cell: float = 60.0
    allowance: Allowance = field(default_factory=Allowance)


@dataclass
class Execution:
    """What a notebook did.

    Attributes:
        outputs: of each code cell, as nbformat has them.
        answers: problem to number of the call to its answer.
        stopped: why it ended before its last cell; empty where it did not.
    """

    outputs: list[list[dict[str, Any]]]
    answers: Answers = field(default_factory=dict)
    stopped: str = ""


class _StoppedError(Exception):
    """The notebook ends here, for this reason."""


def execute(
    warm: Warm,
    cells: list[tuple[str, str | None]],
    plan: dict[str, list[PlannedCall]],
    limits: Limits,
    most: dict[str, list[int]] | None = None,
) -> Execution:
    """Run a notebook's code cells in a fresh process.

    Args:
        warm: forks the process.
        cells: each cell's source, and the problem whose marks it gives, if any.
        plan: the calls of each problem.
        limits: time and other limits.
        most: for each call, the most bytes of an answer; by default what any may have.

    Returns:
        Outputs and answers; they may be anything that a hostile student wishes, of bounded size.
    """
    most = most or {problem: [MOST_ANSWER] * len(calls) for problem, calls in plan.items()}
    run = Execution([[] for _ in cells])
    line = warm.fork(limits.allowance, limits.notebook)
    driver = _Driver(line, run, limits, max(map(max, most.values()), default=0))
    try:
        for number, (source, problem) in enumerate(cells):
            described, archive = describe(plan[problem], most[problem]) if problem else ([], b"")
            cell = {"source": source, "problem": problem, "plan": described}
            driver.send(CELL, json.dumps(cell).encode())
            if problem:
                driver.send(INPUTS, archive)
            driver.until_done(number, problem, len(described))
    except _StoppedError as error:
        run.stopped = str(error)
    finally:
        status = line.end()
    for outputs in run.outputs:
        for output in outputs:
            if "parts" in output:
                output["text"] = "".join(output.pop("parts"))
    # A process that ended by itself says less than why it was ended.
    if run.stopped and status["why"] == "memory":
        run.stopped = f"took more than {limits.allowance.memory / 2**30:.3g} GB of memory"
    elif run.stopped and status["why"] == "processes":
        run.stopped = f"started more than {limits.allowance.processes} processes"
    return run


class _Driver:
    def __init__(self, line: Line, run: Execution, limits: Limits, most_answer: int) -> None:
        self.line, self.run, self.limits = line, run, limits
        self.frames = Frames(max(MOST_OUTPUT, most_answer) + 10_000)
        self.deadline = time.monotonic() + limits.notebook
        self.bytes = self.pieces = 0
        os.set_blocking(line.inbound, False)

    def send(self, kind: bytes, payload: bytes) -> None:
        """Write a frame, unless the process stops reading."""
        waiting = frame(kind, payload)
        while waiting:
            left = self.deadline - time.monotonic()
            ready = select.select([], [self.line.inbound], [], max(left, 0))[1]
            if not ready:
                raise _StoppedError(self._out_of_time())
            try:
                waiting = waiting[os.write(self.line.inbound, waiting) :]
            except BlockingIOError:
                continue
            except OSError:
                raise _StoppedError("its process ended") from None

    def _out_of_time(self) -> str:
        return f"out of time: the notebook took more than {self.limits.notebook:g} s"

    def until_done(self, number: int, problem: str | None, calls: int) -> None:
        """Take frames until the cell is done."""
        cell_deadline = time.monotonic() + self.limits.cell
        interrupted = math.inf
        while True:
            now = time.monotonic()
            if now > self.deadline:
                raise _StoppedError(self._out_of_time())
            if now > interrupted + GRACE:
                raise _StoppedError(
                    f"out of time: a cell took more than {self.limits.cell:g} s "
                    "and could not be interrupted"
                )
            if now > cell_deadline and interrupted == math.inf:
                self.line.interrupt()
                interrupted = now
                late = {"output_type": "error", "ename": "CellTimeoutError", "traceback": []}
                late["evalue"] = f"the cell took more than {self.limits.cell:g} s"
                self.run.outputs[number].append(late)
            patience = min(self.deadline, cell_deadline if interrupted > now else now + 0.5) - now
            if not select.select([self.line.outbound], [], [], max(patience, 0) + 0.01)[0]:
                continue
            data = os.read(self.line.outbound, 1 << 18)
            if not data:
                raise _StoppedError("its process ended")
            try:
                frames = self.frames.feed(data)
            except BrokenFrameError:
                raise _StoppedError("its process sent what no notebook sends") from None
            done = False
            for kind, payload in frames:
                if kind == DONE:
                    done = True
                elif kind == OUTPUT:
                    self._output(number, payload)
                elif kind == ANSWER and problem:
                    self._answer(problem, calls, payload)
            if done:
                return

    def _output(self, number: int, payload: bytes) -> None:
        self.bytes += len(payload)
        self.pieces += 1
        if self.bytes > MOST_OUTPUT:
            raise _StoppedError(f"its cells print more than {MOST_OUTPUT / 10**6:g} MB")
        if self.pieces > MOST_PIECES:
            raise _StoppedError(f"its cells show more than {MOST_PIECES} outputs")
        output = believable(payload)
        shown = self.run.outputs[number]
        if output is None:
            return
        if output["output_type"] == "clear":
            shown.clear()
        elif (
            output["output_type"] == "stream" and shown and shown[-1].get("name") == output["name"]
        ):
            shown[-1]["parts"].append(output["parts"][0])
            self.pieces -= 1  # one stream, however many lines
        else:
            shown.append(output)

    def _answer(self, problem: str, calls: int, payload: bytes) -> None:
        number, answer = believable_answer(payload)
        if not 0 <= number < calls:
            return
        answers = self.run.answers.setdefault(problem, {})
        if number in answers:
            answer = Refusal("forbidden", "was answered twice")
        answers[number] = answer
