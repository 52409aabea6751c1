"""Walls around students' processes: which are possible here, and the warm process behind them.

As root (or with the right to use sudo without a password) submissions run as another user in
namespaces of their own. Else bubblewrap makes the namespaces. Else only limits hold, and every
report says so.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import pwd
import shutil
import site
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mdtheory
from mdtheory.course.intake import CourseError

Kind = Literal["user", "bubblewrap", "limits"]
WORDS: dict[str, str] = {
    "user": "isolated: another user, namespaces of its own, no network",
    "bubblewrap": "isolated: bubblewrap, namespaces of its own, no network",
    "limits": (
        "NOT ISOLATED, LIMITS ALONE: submissions ran with your rights; they could read your "
        "files and use your network. Grade as root, or install bubblewrap"
    ),
}
BOOK, WORKER = "/mdtheory/book", "mdtheory/course/worker.py"
# Uids that a submission runs under, where they belong to nobody.
FIRST_USER, USERS = 20_000, 39_000
# Modules in one order to the warm process, which reads no more than 64 KiB at once.
MOST_NAMES = 200


@dataclass(frozen=True)
class Allowance:
    """What a submission's processes may take, besides time.

    Attributes:
        memory: bytes, of all of them together.
        processes: how many there may be at once, threads included where the system counts them.
        files: bytes in the working folder.
    """

    memory: int = 4 * 2**30
    processes: int = 256
    files: int = 256 * 2**20


class Line:
    """The grader's ends of the pipes to one student's process."""

    def __init__(self, inbound: int, outbound: int, control: socket.socket) -> None:
        self.inbound, self.outbound, self.control = inbound, outbound, control

    def interrupt(self) -> None:
        """Interrupt the cell that runs, as Ctrl-C does."""
        with suppress(OSError):
            self.control.send(b"i")

    def end(self) -> dict[str, Any]:
        """End the process with all its children, and wait until they are gone.

        Returns:
            ``why`` it ended ("ended" by itself, "stopped", "memory" or "processes") and its code.
        """
        for handle in (self.inbound, self.outbound):
            with suppress(OSError):
                os.close(handle)
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_WR)
        self.control.settimeout(20)
        parts = []
        with suppress(OSError):
            while part := self.control.recv(4096):
                parts.append(part)
        self.control.close()
        with suppress(ValueError):
            status: dict[str, Any] = json.loads(b"".join(parts))
            return status
        return {"why": "stopped", "code": None}


class Warm:
    """A process that has imported what notebooks need, and forks for each submission."""

    def __init__(self, kind: Kind, library: Path, hidden: list[Path], imports: list[str]) -> None:
        """Start it.

        Args:
            kind: the walls.
            library: holds the package as students may see it.
            hidden: folders that must not be in reach.
            imports: modules to import before the first fork.

        Raises:
            CourseError: it does not start, or the walls cannot be built here.
        """
        self.kind = kind
        # Without walls too, where root starts it; a Python in root's home forbids it.
        self.other_user = os.geteuid() == 0 or kind == "user"
        self._lock, self._numbers = threading.Lock(), itertools.count()
        layout = [] if kind == "limits" else _layout(library, hidden)
        self._python_below_tmp = any(words[-1].startswith("/tmp/") for words in layout)
        walls = kind != "limits"
        config = {
            "build": kind == "user",
            "layout": layout,
            "imports": imports,
            "path": [BOOK if walls else str(library)],
        }
        script = str(library / WORKER) if kind != "bubblewrap" else f"{BOOK}/{WORKER}"
        command = [sys.executable, "-s", "-P", script, json.dumps(config)]
        if kind == "user":
            spaces = ["--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child=KILL"]
            command = [*_as_root(), _program("unshare"), *spaces, *command]
        elif kind == "bubblewrap":
            command = [_program("bwrap"), *_for_bubblewrap(layout), *command]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=self._log,
                stderr=self._log,
                env=_environment(kind),
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the grader
            )
        self._control = ours
        atexit.register(self.close)
        self._control.settimeout(300)
        self._expect(b"ready\n")

    def _expect(self, word: bytes) -> None:
        got = b""
        with suppress(OSError):
            while len(got) < len(word) and (part := self._control.recv(len(word) - len(got))):
                got += part
        if got != word:
            told = self.log().strip().splitlines()
            self.close()
            raise CourseError(f"{WORDS[self.kind].split(',')[0]}: {told[-1] if told else 'ended'}")

    def log(self) -> str:
        """What the warm process and those that it forked had to say, for who looks for a fault."""
        # The file's place is shared with the processes that write to it.
        return os.pread(self._log.fileno(), 100_000, 0).decode("utf-8", "replace")

    def also_import(self, names: Iterable[str]) -> None:
        """Import more before the next fork.

        Args:
            names: dotted names of modules; what cannot be imported is left to the notebooks.

        Raises:
            CourseError: the warm process is gone.
        """
        waiting = list(names)
        with self._lock:
            while waiting:
                some, waiting = waiting[:MOST_NAMES], waiting[MOST_NAMES:]
                try:
                    self._control.sendall(json.dumps({"imports": some}).encode())
                except OSError:
                    raise CourseError("the warm process is gone") from None
                self._expect(b"taken\n")

    def fork(self, allowance: Allowance, seconds: float) -> Line:
        """A fresh student's process.

        Args:
            allowance: what it may take.
            seconds: CPU time that each of its processes may take.

        Returns:
            The pipes to it.

        Raises:
            CourseError: the warm process is gone.
        """
        order = {
            "walls": self.kind != "limits",
            "python_below_tmp": self._python_below_tmp,
            "user": _user(next(self._numbers)) if self.other_user else 0,
            "memory": allowance.memory,
            "files": allowance.files,
            "processes": allowance.processes,
            "user_processes": allowance.processes,
            "seconds": seconds,
        }
        if self.kind == "limits" and not self.other_user:
            # The system would count the instructor's own too; the keeper counts the student's.
            order["user_processes"] = 0
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with self._lock:
                handles = [theirs_in, theirs_out, theirs.fileno()]
                try:
                    socket.send_fds(self._control, [json.dumps(order).encode()], handles)
                except OSError:
                    raise CourseError("the warm process is gone") from None
                self._expect(b"taken\n")
        except BaseException:
            for handle in (ours_in, ours_out):
                os.close(handle)
            ours.close()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
            theirs.close()
        return Line(ours_in, ours_out, ours)

    def close(self) -> None:
        """End it, and everything that it forked."""
        atexit.unregister(self.close)
        self._control.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            try:
                self._process.kill()
            except PermissionError:  # it is sudo's, and root's
                group = ["kill", "-KILL", "--", f"-{self._process.pid}"]
                subprocess.run([*_as_root(), *group], check=False)
            self._process.wait()
        self._log.close()


def possible() -> list[Kind]:
    """The walls that might stand here, the best first; starting them is the proof."""
    kinds: list[Kind] = []
    if sys.platform == "linux":
        if shutil.which("unshare") and (os.geteuid() == 0 or _as_root()):
            kinds.append("user")
        if shutil.which("bwrap"):
            kinds.append("bubblewrap")
    return [*kinds, "limits"]


def _as_root() -> list[str]:
    """What to put before a command that needs root; nothing for root itself."""
    if os.geteuid() == 0 or not shutil.which("sudo"):
        return []
    may = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    # sudo cleans the environment; ours is clean already.
    return ["sudo", "-n", "--preserve-env", "--"] if may else []


def _program(name: str) -> str:
    return shutil.which(name) or name


def _user(number: int) -> int:
    """A uid that belongs to nobody, another for each submission that runs at the same time."""
    for offset in range(USERS):
        user = FIRST_USER + (os.getpid() * 97 + number + offset) % USERS
        try:
            pwd.getpwuid(user)
        except KeyError:
            return user
    raise CourseError("found no uid that belongs to nobody")


def _environment(kind: Kind) -> dict[str, str]:
    """Nothing of the grader's own environment but what programs are found by."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    here = dict.fromkeys(threads, "1")
    return here | {
        "HOME": "/mdtheory/work",
        "LANG": "C.UTF-8",
        "LOGNAME": "student",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin:/bin"]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(_extra_path()),
        "USER": "student",
    }


def _extra_path() -> list[str]:
    """Folders of ``PYTHONPATH`` that hold libraries, and not the book."""
    entries = [Path(e) for e in os.environ.get("PYTHONPATH", "").split(os.pathsep) if e]
    return [str(e.resolve()) for e in entries if e.is_dir() and not (e / "mdtheory").exists()]


def _layout(library: Path, hidden: list[Path]) -> list[list[str]]:
    """The root folder that students' processes see."""
    layout = [["scratch", "/tmp"]]  # first, for a Python may lie below it
    for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            layout.append(["link", os.readlink(name), name])
        elif os.path.isdir(name):
            layout.append(["bind", name, name])
    for name in ("ld.so.cache", "localtime", "fonts", "alternatives", "mime.types"):
        if os.path.exists(f"/etc/{name}"):
            layout.append(["bind", os.path.realpath(f"/etc/{name}"), f"/etc/{name}"])
    for name in ("null", "zero", "full", "random", "urandom"):
        layout.append(["bind", f"/dev/{name}", f"/dev/{name}"])
    layout.append(["link", "/proc/self/fd", "/dev/fd"])
    pythons = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    pythons += [str(Path(os.path.realpath(sys.executable)).parents[1])]
    pythons += [*site.getsitepackages(), *_extra_path()]
    if site.ENABLE_USER_SITE:
        pythons.append(site.getusersitepackages())
    mounted = ["/usr"]
    for folder in sorted(dict.fromkeys(pythons)):
        inside = any(Path(folder).is_relative_to(other) for other in mounted)
        if os.path.isdir(folder) and folder != "/" and not inside:
            layout.append(["bind", folder, folder])
            mounted.append(folder)
    package = Path(mdtheory.__file__).resolve().parent
    beside = [package, package.parent / "exercises", package.parent / "tests"]
    for path in [*hidden, *beside]:
        real = path.resolve()
        if real.is_dir() and any(real.is_relative_to(other) for other in mounted):
            layout.append(["hide", str(real)])
    layout += [["folder", name] for name in ("/proc", "/dev/shm", "/mdtheory/work", BOOK)]
    return [*layout, ["bind", str(library), BOOK]]


def _for_bubblewrap(layout: list[list[str]]) -> list[str]:
    """The same root folder in the words of bubblewrap."""
    # The right to make namespaces is kept for the keepers; students' processes lose it.
    user = [f"--uid={FIRST_USER}", f"--gid={FIRST_USER}"]
    words = ["--unshare-all", "--die-with-parent", "--cap-add", "ALL"]
    words += [part for word in user for part in word.split("=")]
    for kind, *rest in layout:
        if kind == "bind":
            device = rest[0].startswith("/dev/")
            words += ["--dev-bind" if device else "--ro-bind", *rest]
        elif kind == "link":
            words += ["--symlink", *rest]
        elif kind == "scratch":
            words += ["--tmpfs", *rest]
        elif kind == "hide":
            words += ["--tmpfs", *rest, "--remount-ro", *rest]
        else:
            words += ["--dir", *rest]
    return [*words, "--proc", "/proc", "--remount-ro", "/", "--chdir", "/"]
