"""A student's process: IPython without a kernel around it, one cell after the other.

Cells come in frames and outputs leave in frames. Everything here is in the student's hands once
the first cell runs; the grader's side believes none of it.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import sys
import tempfile
from contextlib import suppress
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait
from traitlets.config import Config

from mdtheory.course import kernel
from mdtheory.course.wire import ANSWER, CELL, DONE, INPUTS, OUTPUT, read_frame, write_frame

# Bytes of what programs print past Python's own streams that are shown after a cell.
MOST_PRINTED = 1_000_000
# Runs before the fork: the error that examples in notebooks end with most.
FIRST_ERROR = """
(lambda torch: torch.testing.assert_close(torch.zeros(1), torch.ones(1)))(__import__("torch"))
"""


def prepare() -> _Shell:
    """The shell: made before the fork, since that takes time, and used after it.

    Returns:
        The one of this process.
    """
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = _Shell.instance(config=config)
    if shell.send is None:
        shell.send = lambda output: None
        # The first error costs most: what explains it is loaded and read then.
        shell.run_cell(FIRST_ERROR, store_history=False)  # type: ignore[no-untyped-call]
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)
    return shell


def serve(inbound: int, outbound: int) -> None:
    """Run the cells that come, until no more do.

    Args:
        inbound: where they come from, a file descriptor.
        outbound: where outputs and answers go.
    """
    printed = tempfile.TemporaryFile(dir=os.getcwd())  # noqa: SIM115  # lives as long as this
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for handle in (1, 2):
        os.dup2(printed.fileno(), handle)
    kept = sorted({0, 1, 2, inbound, outbound, printed.fileno()})
    for low, high in zip(kept, [*kept[1:], 4096], strict=True):
        os.closerange(low + 1, high)
    kernel.seed()

    def send(output: dict[str, Any]) -> None:
        write_frame(outbound, OUTPUT, json.dumps(output).encode())

    shell = prepare()
    for part in (shell, shell.display_pub, shell.displayhook):
        part.send = send  # type: ignore[union-attr]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _Stream("stdout", send), _Stream("stderr", send)
    shown = 0
    while frame := read_frame(inbound):
        kind, payload = frame
        if kind != CELL:
            continue
        cell = json.loads(payload)
        if cell["problem"]:
            archive = read_frame(inbound)
            if archive is None or archive[0] != INPUTS:
                return

            def deliver(header: dict[str, Any], body: bytes) -> None:
                head = json.dumps(header).encode()
                write_frame(outbound, ANSWER, len(head).to_bytes(4, "big") + head + body)

            kernel.connect(cell["problem"], cell["plan"], io.BytesIO(archive[1]), deliver)
        try:
            shell.run_cell(cell["source"], store_history=True)  # type: ignore[no-untyped-call]
        except KeyboardInterrupt:  # it came between the cell and here
            pass
        finally:
            kernel.disconnect()
        sys.stdout.flush()
        sys.stderr.flush()
        size = os.fstat(1).st_size
        if size > shown:
            text = os.pread(1, min(size - shown, MOST_PRINTED), shown).decode("utf-8", "replace")
            send({"output_type": "stream", "name": "stdout", "text": text})
            shown = size
        write_frame(outbound, DONE, b"")


class _Stream(io.TextIOBase):
    """Standard output or error: every line is sent when it ends, the rest when flushed."""

    def __init__(self, name: str, send: Any) -> None:
        self.name, self.send, self.waiting = name, send, ""

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1 if self.name == "stdout" else 2

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"expected text, got {type(text).__name__}")
        self.waiting += text
        if "\n" in text or len(self.waiting) > 8192:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self.waiting = self.waiting.encode("utf-8", "replace").decode(), ""
        for place in range(0, len(text), MOST_PRINTED):
            part = text[place : place + MOST_PRINTED]
            self.send({"output_type": "stream", "name": self.name, "text": part})


class _Publisher(DisplayPublisher):
    send = AnyTrait()

    def publish(self, data: Any, metadata: Any = None, **_: Any) -> None:  # type: ignore[override]
        sys.stdout.flush()
        self.send({"output_type": "display_data", "data": _plain(data)})

    def clear_output(self, wait: bool = False) -> None:
        self.send({"output_type": "clear"})


class _Hook(DisplayHook):
    send = AnyTrait()

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        sys.stdout.flush()
        self.send(
            {
                "output_type": "execute_result",
                "data": _plain(format_dict),
                "execution_count": self.prompt_count,
            }
        )


def _plain(data: Any) -> dict[str, str]:
    """What the grader will keep anyway: text, and pictures as they are sent."""
    import base64

    plain = {}
    for kind in ("text/plain", "image/png", "image/jpeg"):
        value = data.get(kind)
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        if isinstance(value, str):
            # Of text the beginning is enough; a picture is whole or none.
            shown = value[:MOST_PRINTED] if kind == "text/plain" else value
            plain[kind] = shown.encode("utf-8", "replace").decode()
    return plain


class _Shell(InteractiveShell):
    send = AnyTrait()
    display_pub_class = _Publisher
    system = InteractiveShell.system_raw  # without a terminal, which there is none of
    displayhook_class = _Hook

    def ask_exit(self) -> None:
        """``exit()`` ends nothing: what comes after it is graded, each time alike."""

    def enable_gui(self, gui: Any = None) -> None:
        pass

    def showtraceback(self, *words: Any, **named: Any) -> None:
        """Show an error, without a search through thousands of modules for each of its cells."""
        trace = sys.exc_info()[2]
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if file.startswith("<ipython-input"):
                with suppress(OSError):  # the working folder may be gone
                    inspect.modulesbyfile[os.path.normcase(os.path.abspath(file))] = "__main__"
            trace = trace.tb_next
        super().showtraceback(*words, **named)

    def _format_exception_for_storage(self, exception: BaseException, *_: Any, **__: Any) -> Any:
        """What IPython keeps for its history, which nobody will ask for."""
        return {"ename": type(exception).__name__, "evalue": "", "traceback": []}

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        sys.stdout.flush()
        words = re.sub(r" \(<ipython-input[^>]*>, line (\d+)\)", r" (line \1)", str(evalue))
        lines = stb if isinstance(stb, list) else [str(stb)]
        error = {"output_type": "error", "ename": etype.__name__[:200], "evalue": words[:10_000]}
        error["traceback"] = [str(line)[:10_000] for line in lines][:200]
        self.send(error)
