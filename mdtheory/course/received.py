"""What comes from a student's process, checked piece by piece: it may be anything."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np

from mdtheory.course.marking import Refusal

PICTURES = ("image/png", "image/jpeg")
DTYPES = {np.dtype(kind).str for kind in ("?", *"bhilqBHILQ", "e", "f", "d")}
REFUSALS = ("absent", "unanswered", "forbidden", "raised", "no array")
# Characters of an error's parts.
MOST_WORDS = 10_000
UNREADABLE = Refusal("no array", "returned what cannot be read")


def believable(payload: bytes) -> dict[str, Any] | None:
    """An output, as nbformat has it, in a form that runs nothing where it is shown.

    Only text and pictures are kept. Text of streams is under ``parts``.

    Args:
        payload: what came.

    Returns:
        A new output, or None.
    """
    try:
        came = json.loads(payload)
        kind = came["output_type"]
        if kind == "clear":
            return {"output_type": "clear"}
        if kind == "stream":
            name = "stderr" if came["name"] == "stderr" else "stdout"
            return {"output_type": "stream", "name": name, "parts": [_text(came["text"])]}
        if kind == "error":
            lines = [_text(line)[:MOST_WORDS] for line in came["traceback"][:200]]
            name, words = _text(came["ename"])[:200], _text(came["evalue"])[:MOST_WORDS]
            return {"output_type": "error", "ename": name, "evalue": words, "traceback": lines}
        if kind in ("display_data", "execute_result"):
            data = {"text/plain": _text(came["data"].get("text/plain", ""))}
            for picture in PICTURES:
                if picture in came["data"]:
                    content = base64.b64decode(_text(came["data"][picture]), validate=True)
                    data[picture] = base64.b64encode(content).decode()
            shown = {"output_type": kind, "data": data, "metadata": {}}
            return shown | ({"execution_count": None} if kind == "execute_result" else {})
    except Exception:  # whatever is wrong with it, it is not shown
        return None
    return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value.encode("utf-8", "replace").decode()


def believable_answer(payload: bytes) -> tuple[int, np.ndarray | Refusal]:
    """The answer to one call.

    Args:
        payload: a header (its length, then JSON) and the bytes of an array.

    Returns:
        The call's number, -1 where there is none, and an array or a refusal.
    """
    number = -1
    try:
        length = int.from_bytes(payload[:4], "big")
        header = json.loads(payload[4 : 4 + length])
        number = header["number"]
        if type(number) is not int:
            return -1, UNREADABLE
        if "kind" in header:
            kind = header["kind"] if header["kind"] in REFUSALS else "no array"
            words = " ".join("".join(filter(str.isprintable, _text(header["reason"]))).split())
            return number, Refusal(kind, words[:500])
        shape = header["shape"]
        if header["dtype"] not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
            return number, UNREADABLE
        dtype, body = np.dtype(header["dtype"]), payload[4 + length :]
        if len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(body):
            return number, UNREADABLE
        return number, np.frombuffer(body, dtype).reshape(shape).copy()
    except Exception:  # whatever is wrong with it, it is no answer
        return number if type(number) is int else -1, UNREADABLE
