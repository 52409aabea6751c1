"""Frames on a pipe: a kind, a length, a payload. Both ends read no more than they expect."""

from __future__ import annotations

import os
import struct

HEADER = struct.Struct("!cI")
# Kinds of frames to a student's process, and from it.
CELL, INPUTS = b"c", b"i"
OUTPUT, ANSWER, DONE = b"o", b"a", b"d"


class BrokenFrameError(Exception):
    """What came is no frame, or a larger one than was agreed."""


def frame(kind: bytes, payload: bytes) -> memoryview:
    """One frame.

    Args:
        kind: one byte.
        payload: what it carries.

    Returns:
        Its bytes.
    """
    return memoryview(HEADER.pack(kind, len(payload)) + payload)


def write_frame(handle: int, kind: bytes, payload: bytes) -> None:
    """Write one frame.

    Args:
        handle: a file descriptor.
        kind: one byte.
        payload: what it carries.
    """
    waiting = frame(kind, payload)
    while waiting:
        waiting = waiting[os.write(handle, waiting) :]


def read_frame(handle: int) -> tuple[bytes, bytes] | None:
    """Read one frame, however large: for the end that trusts the other one.

    Args:
        handle: a file descriptor.

    Returns:
        The kind and the payload; None at the end.
    """
    header = _read(handle, HEADER.size)
    if len(header) < HEADER.size:
        return None
    kind, length = HEADER.unpack(header)
    return kind, _read(handle, length)


def _read(handle: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.read(handle, min(length, 1 << 20))
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


class Frames:
    """Takes bytes as they come and gives whole frames: for the end that trusts nobody."""

    def __init__(self, most: int) -> None:
        """Frames of at most so many bytes.

        Args:
            most: bytes of one payload.
        """
        self.most = most
        self._waiting = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The frames that are complete now.

        Args:
            data: the next bytes.

        Returns:
            Kinds and payloads.

        Raises:
            BrokenFrameError: one is announced that is too large.
        """
        self._waiting += data
        complete = []
        while len(self._waiting) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._waiting)
            if length > self.most:
                raise BrokenFrameError
            end = HEADER.size + length
            if len(self._waiting) < end:
                break
            complete.append((kind, bytes(self._waiting[HEADER.size : end])))
            del self._waiting[:end]
        return complete
