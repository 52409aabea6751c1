"""Where submissions to one assignment run: the walls, the warm process behind them, the judge."""

from __future__ import annotations

import ast
import os
import tempfile
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mdtheory.course.execution import Execution, Limits, execute
from mdtheory.course.intake import CourseError
from mdtheory.course.judging import Judge
from mdtheory.course.library import library_without_answers
from mdtheory.course.marking import Verdict, load_grader, make_plan
from mdtheory.course.sandbox import WORDS, Kind, Warm, possible

# Looks for holes in the walls, from inside, and prints those that it finds.
PROBE = """
import os, socket
holes = []
for path in {hidden!r}:
    try:
        os.listdir(path)
        holes.append(f"{{path}} can be read")
    except OSError:
        pass
if [name for _, name in socket.if_nameindex() if name != "lo"]:
    holes.append("there is a network")
if sum(name.isdigit() for name in os.listdir("/proc")) > 3:
    holes.append("other processes can be seen")
for path in ("/", "/usr", os.path.dirname(os.__file__), "/mdtheory/book"):
    try:
        open(os.path.join(path, "mdtheory-probe"), "x").close()
        holes.append(f"{{path}} can be written to")
    except OSError:
        pass
if {user!r} and os.getuid() in (0, {user!r}):
    holes.append("it is the same user")
print("holes:", "; ".join(holes))
"""


@dataclass(frozen=True)
class Spec:
    """What a process must know to run and judge submissions to one assignment.

    Attributes:
        course: the course's folder.
        grader: the grader's file.
        seed: of the plan.
        limits: of one submission.
        kind: the walls.
        imports: modules that the assignment imports.
        most: problem to the most bytes of each answer; None while no reference is known.
        loaded: modules that the reference's process had loaded in the end.
        token: tells this grading from others.
    """

    course: Path
    grader: Path
    seed: int
    limits: Limits
    kind: Kind
    imports: tuple[str, ...]
    most: dict[str, list[int]] | None = None
    loaded: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


class Room:
    """The warm process and the judge for one assignment."""

    def __init__(self, spec: Spec) -> None:
        """Start the warm process.

        Args:
            spec: what is graded, and how.

        Raises:
            CourseError: the walls cannot be built here, or have holes.
            GraderError: the grader is at fault.
        """
        self.spec = spec
        self.grader = load_grader(spec.grader)
        self.plan = make_plan(self.grader, spec.seed)
        self.judge = Judge(self.grader, spec.grader, spec.seed)
        self._folder = tempfile.TemporaryDirectory(prefix="mdtheory-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)  # another user reads the library
        try:
            library = library_without_answers(self.grader, folder)
            self.warm = Warm(spec.kind, library, [spec.course], list(spec.imports))
            if spec.kind != "limits":
                self._probe()
            else:
                # As another user, if that one can read Python's libraries; root's home is closed.
                probe = (
                    "import encodings, numpy\n"
                    "for module in (encodings, numpy):\n    open(module.__file__).close()\n"
                    "print('fine')"
                )
                run = execute(self.warm, [(probe, None)], {}, Limits())
                self.warm.other_user &= run.outputs[0][:1] == [
                    {"output_type": "stream", "name": "stdout", "text": "fine\n"}
                ]
            self.warm.also_import(spec.loaded)
        except BaseException:
            self.close()
            raise

    def _probe(self) -> None:
        user = os.getuid() or 1 if self.spec.kind == "user" else 0
        hidden = [str(self.spec.course)]
        run = execute(self.warm, [(PROBE.format(hidden=hidden, user=user), None)], {}, Limits())
        text = "".join(output.get("text", "") for output in run.outputs[0])
        if text.strip() != "holes:":
            told = run.stopped or text.strip() or str(run.outputs[0])[:300]
            raise CourseError(f"{WORDS[self.spec.kind].split(',')[0]}: {told}")

    def run(self, cells: list[tuple[str, str | None]]) -> tuple[Execution, list[Verdict]]:
        """Run a notebook and judge it.

        Args:
            cells: each code cell's source, and the problem whose marks it gives, if any.

        Returns:
            What it did, and a verdict for each problem.
        """
        run = execute(self.warm, cells, self.plan, self.spec.limits, self.spec.most)
        return run, self.judge(run.answers)

    def close(self) -> None:
        """End both processes."""
        if hasattr(self, "warm"):
            self.warm.close()
        self.judge.close()
        with suppress(OSError):
            self._folder.cleanup()


def open_room(spec: Spec, kinds: list[Kind] | None = None) -> tuple[Room, list[str]]:
    """The best room that can be had here.

    Args:
        spec: what is graded; its kind is not looked at.
        kinds: walls to try, in this order; by default those that are possible, the best first.

    Returns:
        The room, and why better walls could not be had.

    Raises:
        CourseError: none of them can be had.
    """
    why: list[str] = []
    for kind in kinds or possible():
        try:
            return Room(replace(spec, kind=kind)), why
        except CourseError as error:
            why.append(str(error))
    raise CourseError("; ".join(why))


_rooms: dict[str, Room] = {}
_lock = threading.Lock()


def room_for(spec: Spec) -> Room:
    """This process's room for a grading, opened when it is first asked for.

    Args:
        spec: what is graded.

    Returns:
        The room; those of other gradings are closed.
    """
    with _lock:
        for token in set(_rooms) - {spec.token}:
            _rooms.pop(token).close()
        if spec.token not in _rooms:
            _rooms[spec.token] = Room(spec)
        return _rooms[spec.token]


def keep(room: Room, spec: Spec) -> None:
    """Use a room that is open already for a grading in this process.

    Args:
        room: the room.
        spec: the grading.
    """
    room.spec = spec
    with _lock:
        _rooms[spec.token] = room


def close_all() -> None:
    """Close this process's rooms."""
    with _lock:
        while _rooms:
            _rooms.popitem()[1].close()


def imports_of(sources: list[str]) -> tuple[str, ...]:
    """Modules that an assignment's own cells import; the warm process imports them beforehand.

    Args:
        sources: code cells.

    Returns:
        Dotted names.
    """
    found = {"numpy", "mdtheory.course"}
    for source in sources:
        with suppress(SyntaxError):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
    return tuple(sorted(found))


def code_cells(notebook: Any) -> list[tuple[str, str | None]]:
    """The code cells of a notebook, and the problem whose marks each gives.

    Args:
        notebook: with nbgrader's metadata.

    Returns:
        Sources and names.
    """
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            own = cell.metadata.get("nbgrader", {})
            gives = own.get("grade") and not own.get("solution")  # the others are for a reader
            problem = own["grade_id"].removeprefix("marks_") if gives else None
            cells.append((cell.source, problem))
    return cells


def sizes(run: Execution, room: Room) -> dict[str, list[int]]:
    """How large each answer may be, from the answers of the reference solution.

    Args:
        run: of the reference solution.
        room: where it ran.

    Returns:
        Problem to bytes for each call: some times the reference's, and never less than 1 MB.
    """
    return {
        problem: [
            max(2**20, 8 * getattr(run.answers.get(problem, {}).get(number), "nbytes", 0))
            for number in range(len(calls))
        ]
        for problem, calls in room.plan.items()
    }
