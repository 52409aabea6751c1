"""The warm process: starts once, imports what notebooks need, and forks for each submission.

It runs as a script, in the isolation that :mod:`mdtheory.course.sandbox` chose. For a submission
it forks a keeper, which makes namespaces of its own; the first process in them watches the
student's, and when it ends, everything in them does. Nothing of the course is in reach here.

Only the standard library is imported before the walls are up.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
SET_PDEATHSIG, SET_DUMPABLE, CAPBSET_DROP, SET_NO_NEW_PRIVS = 1, 4, 24, 38
SET_CHILD_SUBREAPER, CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
WORK = "/mdtheory/work"

LOG = os.dup(2)
libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    done = libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    _checked(done, f"mount {target}")


# The walls ------------------------------------------------------------------------------------


def build_root(layout: list[list[str]]) -> None:
    """Put together a root folder from read-only pieces of this one, and move into it.

    Args:
        layout: ``["scratch", target]``, ``["bind", source, target]``, ``["link", to, target]``,
            ``["hide", target]`` and ``["folder", target]``, in this order.
    """
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    root = tempfile.mkdtemp(prefix="mdtheory-root-")
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for kind, *words in layout:
        target = root + words[-1]
        if kind == "bind":
            if os.path.isdir(words[0]):
                os.makedirs(target, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                open(target, "ab").close()
            _mount(words[0], target, "", MS_BIND | MS_REC)
            flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID
            _mount("none", target, "", flags | (0 if words[-1].startswith("/dev/") else MS_NODEV))
        elif kind == "link":
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(words[0], target)
        elif kind == "scratch":
            os.makedirs(target, exist_ok=True)
            _mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=755")
        elif kind == "hide":
            _mount("tmpfs", target, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,mode=555")
        else:
            os.makedirs(target, exist_ok=True)
    old = root + "/.old"
    os.mkdir(old)
    # glibc has no wrapper; this is the number on x86-64, and 41 elsewhere.
    number = 155 if os.uname().machine == "x86_64" else 41
    _checked(libc.syscall(number, root.encode(), old.encode()), "pivot_root")
    os.chdir("/")
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _checked(libc.umount2(b"/.old", MNT_DETACH), "umount")
    os.rmdir("/.old")
    _mount("none", "/", "", MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _own_room(order: dict[str, Any]) -> None:
    """In fresh namespaces: processes of one's own, an empty working folder, nothing else."""
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    owner = f",uid={order['user']},gid={order['user']}" if os.geteuid() == 0 else ""
    options = f"size={order['files']},nr_inodes=20000,mode=700{owner}"
    _mount("tmpfs", WORK, "tmpfs", MS_NOSUID | MS_NODEV, options)
    _mount(WORK, "/dev/shm", "", MS_BIND)
    if order["python_below_tmp"]:  # a mount there would hide it; TMPDIR is the working folder
        _mount("none", "/tmp", "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    else:
        _mount(WORK, "/tmp", "", MS_BIND)
    os.chdir(WORK)


def _become(order: dict[str, Any], walls: bool) -> None:
    """Give up every right, and take the limits."""
    # Before the limit of processes: it counts those of the user that sets it.
    if os.geteuid() == 0 and order["user"]:
        os.setgroups([])
        os.setresgid(order["user"], order["user"], order["user"])
        _limit(order)
        os.setresuid(order["user"], order["user"], order["user"])
    else:
        _limit(order)
    if sys.platform == "linux":
        libc.prctl(CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        for capability in range(64):
            libc.prctl(CAPBSET_DROP, capability, 0, 0, 0)
        if walls:
            # Version 3 of the call takes a header and two sets of three words.
            header = (ctypes.c_uint32 * 2)(0x20080522, 0)
            _checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
        _checked(libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        libc.prctl(SET_DUMPABLE, 1, 0, 0, 0)
        libc.prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.umask(0o077)


def _limit(order: dict[str, Any]) -> None:
    seconds = int(order["seconds"]) + 10
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": order["files"],
        "RLIMIT_NOFILE": 512,
        "RLIMIT_DATA": order["memory"],
        "RLIMIT_NPROC": order["user_processes"],
    }
    for name, most in limits.items():
        if most and hasattr(resource, name):
            with suppress(ValueError, OSError):  # a lower limit holds already
                resource.setrlimit(getattr(resource, name), (most, most))


# Watching -------------------------------------------------------------------------------------


def _processes(below: int | None) -> dict[int, int]:
    """Processes (all in this namespace, or those below one) and the memory of their own."""
    parents, memory = {}, {}
    for name in os.listdir("/proc") if sys.platform == "linux" else []:
        if name.isdigit():
            with suppress(OSError, ValueError):
                with open(f"/proc/{name}/statm", "rb") as file:
                    pages = file.read().split()
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    parents[int(name)] = int(fields[1])
                    memory[int(name)] = (int(pages[1]) - int(pages[2])) * resource.getpagesize()
    if below is None:
        memory.pop(os.getpid(), None)
        return memory
    found: set[int] = set()
    grew = True
    while grew:
        more = {p for p, parent in parents.items() if parent == below or parent in found} - found
        found |= more
        grew = bool(more)
    return {process: memory[process] for process in found}


def _watch(student: int, line: int, order: dict[str, Any], below: int | None) -> dict[str, Any]:
    """Wait until the student's process ends; end it when it is told to or takes too much."""
    why = ""
    handle = os.pidfd_open(student) if hasattr(os, "pidfd_open") else None
    looked = 0.0
    while True:
        waiting = [line] if handle is None else [line, handle]
        ready, _, _ = select.select(waiting, [], [], 0.05 if handle is None else 0.2)
        if line in ready:
            told = os.read(line, 16)
            if not told:
                why = why or "stopped"
                os.kill(student, signal.SIGKILL)
                waiting.remove(line)
            elif b"i" in told:
                os.kill(student, signal.SIGINT)
        code = None
        with suppress(ChildProcessError):
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if process == student:
                    code = os.waitstatus_to_exitcode(status)
                elif process == 0:
                    break
        if code is not None:
            return {"why": why or "ended", "code": code}
        if time.monotonic() - looked > 0.2:
            looked = time.monotonic()
            found = _processes(below)
            if sum(found.values()) > order["memory"]:
                why = "memory"
            elif len(found) > order["processes"]:
                why = "processes"
            if why in ("memory", "processes"):
                os.kill(student, signal.SIGKILL)
        if why == "stopped":
            time.sleep(0.01)


def _kill_below(keeper: int) -> None:
    """Without a namespace: end all descendants. They are ours, since orphans come to us."""
    patience = time.monotonic() + 10
    while (found := _processes(keeper)) and time.monotonic() < patience:
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


# One submission -------------------------------------------------------------------------------


def _fork(work: Callable[[], None]) -> int:
    """Run this in a child that ends with it, whatever happens."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        # Beyond what the student's process prints, for whoever looks why it did not begin.
        os.write(LOG, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _keep(order: dict[str, Any], pipes: list[int]) -> None:
    """Keep one submission: with walls in namespaces of its own, else as well as can be."""
    inbound, outbound, line = pipes
    if order["walls"]:
        libc.prctl(SET_DUMPABLE, 0, 0, 0, 0)
        flags = NEWNS | NEWPID | NEWIPC | NEWNET | NEWUTS
        _checked(libc.unshare(flags), "unshare")

        def first() -> None:
            _own_room(order)
            _begin(order, inbound, outbound, line, None)

        child = _fork(first)
        for handle in pipes:
            os.close(handle)
        os.waitpid(child, 0)
        return
    if sys.platform == "linux":
        libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder = tempfile.mkdtemp(prefix="mdtheory-work-")
    try:
        if os.geteuid() == 0 and order["user"]:
            os.chown(folder, order["user"], order["user"])
        os.chdir(folder)
        _begin(order, inbound, outbound, line, os.getpid())
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


def _begin(
    order: dict[str, Any], inbound: int, outbound: int, line: int, below: int | None
) -> None:
    """Fork the student's process, watch it, and say how it ended."""
    here = os.getcwd()

    def student() -> None:
        os.close(line)
        os.setsid()
        _become(order, walls=below is None)
        os.environ.update(HOME=here, TMPDIR=here, MPLCONFIGDIR=here, IPYTHONDIR=here)
        tempfile.tempdir = None
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from mdtheory.course.shell import serve

        serve(inbound, outbound)

    child = _fork(student)
    os.close(inbound)
    os.close(outbound)
    status = _watch(child, line, order, below)
    if below is not None:
        with suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        if sys.platform == "linux":
            _kill_below(below)
    with suppress(OSError):
        os.write(line, json.dumps(status).encode())
    os.close(line)


def _import(names: list[str]) -> None:
    for name in names:
        with suppress(Exception):  # the notebook itself will say what is missing
            importlib.import_module(name)


def _freeze() -> None:
    """What is in memory now is shared with all that is forked, if nobody counts it again."""
    gc.collect()
    gc.freeze()


def main() -> None:
    """Build the walls, import, say so, and fork for each order until nobody asks any more."""
    config = json.loads(sys.argv[1])
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    if config["build"]:
        build_root(config["layout"])
    home = tempfile.mkdtemp(prefix="mdtheory-home-")
    os.environ.update(IPYTHONDIR=home, MPLCONFIGDIR=home)
    sys.path[:] = [*config["path"], *sys.path]
    _import(config["imports"])
    importlib.import_module("mdtheory.course.shell").prepare()
    _freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt of the grader is the grader's
    control.sendall(b"ready\n")
    while True:
        message, handles, _, _ = socket.recv_fds(control, 65536, 3)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            shutil.rmtree(home, ignore_errors=True)
            return
        order = json.loads(message)
        if "imports" in order:
            _import(order["imports"])
            _freeze()
            control.sendall(b"taken\n")
            continue

        def kept(order: dict[str, Any] = order, handles: list[int] = handles) -> None:
            control.close()
            _keep(order, handles)

        _fork(kept)
        for handle in handles:
            os.close(handle)
        control.sendall(b"taken\n")


if __name__ == "__main__":
    main()
