"""A process that only judges: it holds the references, and a limit on time and memory holds it.

Answers are plain arrays, but a check works on them, and a student may choose one that makes it
slow or hungry. So it runs apart from the grader, which goes on without it.
"""

from __future__ import annotations

import os
import pickle
import selectors
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from mdtheory.course.marking import Answers, Grader, Verdict, judge, load_grader, make_plan
from mdtheory.course.wire import Frames, read_frame, write_frame

# Seconds and bytes for judging one submission.
MOST_SECONDS = 120.0
MOST_MEMORY = 8 * 2**30
MOST_VERDICT = 10_000_000


class Judge:
    """Judges submissions to one assignment, one after the other, in a process of its own."""

    def __init__(self, grader: Grader, path: Path, seed: int, seconds: float = MOST_SECONDS):
        """Nothing starts before the first submission is judged.

        Args:
            grader: the grader, read from its file.
            path: the file.
            seed: of the plan.
            seconds: for judging one submission.
        """
        self.grader, self.path, self.seed, self.seconds = grader, path, seed, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __call__(self, answers: Answers) -> list[Verdict]:
        """Judge one submission.

        Args:
            answers: what its process handed over.

        Returns:
            One verdict per problem; "could not run" where judging it takes too much.
        """
        with self._lock:
            verdicts = self._ask(list(self.grader.points), answers)
            if verdicts is not None:
                return verdicts
            # Something in it breaks the judge: find what, a problem at a time.
            found = []
            for problem, points in self.grader.points.items():
                one = self._ask([problem], {problem: answers.get(problem, {})})
                words = (
                    "could not be judged: comparing the answers took too long or too much memory"
                )
                verdict = Verdict(problem, 0.0, points, "could not run", [words])
                found.append(one[0] if one else verdict)
            return found

    def _ask(self, problems: list[str], answers: Answers) -> list[Verdict] | None:
        try:
            if self._process is None:
                self._start()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            write_frame(process.stdin.fileno(), b"j", pickle.dumps((problems, answers)))
            verdicts: list[Verdict] = pickle.loads(self._next(self.seconds))
            return verdicts
        except (OSError, EOFError):
            self.close()
            return None

    def _start(self) -> None:
        words = [str(self.path), str(self.seed)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._next(300.0)  # it imports first

    def _next(self, seconds: float) -> bytes:
        """The payload of the next frame; EOFError where none comes in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        deadline, frames = time.monotonic() + seconds, Frames(MOST_VERDICT)
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while selector.select(max(deadline - time.monotonic(), 0)):
                data = os.read(self._process.stdout.fileno(), 1 << 18)
                for _, payload in frames.feed(data):
                    return payload
                if not data:
                    break
        raise EOFError

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def main() -> None:
    """Judge what comes on standard input until it ends; two arguments name the plan."""
    path, seed = Path(sys.argv[1]), int(sys.argv[2])
    results = os.dup(1)
    os.dup2(2, 1)  # what a grader prints is not a result
    with suppress(ImportError, ValueError, OSError, AttributeError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    grader = load_grader(path)
    plan = make_plan(grader, seed)
    with suppress(BrokenPipeError):  # whoever asked is gone
        write_frame(results, b"r", b"")
        while frame := read_frame(0):
            problems, answers = pickle.loads(frame[1])
            wanted = {problem: plan[problem] for problem in problems}
            write_frame(results, b"v", pickle.dumps(judge(grader, wanted, seed, answers)))
