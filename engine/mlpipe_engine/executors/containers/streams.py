"""The output of a container, from the engine's one connection into two files, byte for byte.

Frames of the engine: a byte that names the stream, three of nothing, four of length, then the bytes. A reader that stops would stop
the container, so this one only ever waits for the disk.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import Any

_CHUNK = 1 << 18
_OUT, _ERR = 1, 2
_TAIL = 4096


class LogFiles:
    """stdout and stderr of an attempt, opened for appending. A disk that is full loses output, never the step."""

    def __init__(self, stdout_path: str, stderr_path: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._files = {_OUT: os.open(stdout_path, flags, 0o644), _ERR: os.open(stderr_path, flags, 0o644)}

    def write(self, stream: int, data: bytes | memoryview) -> None:
        number = _ERR if stream == _ERR else _OUT
        try:
            while len(data):
                data = data[os.write(self._files[number], data) :]
        except OSError:
            return

    def note(self, text: str) -> None:
        """A line of ours at the end of stderr."""
        try:
            os.write(self._files[_ERR], f"mlpipe-tui: {text}\n".encode("utf-8", "replace"))
        except OSError:
            return

    def catch_up(self, logs: Callable[[bool], Iterable[bytes]], lost: str) -> None:
        """What was written while nobody was connected. `logs(is_stderr)`: the stream as the engine kept it, which may have lost its
        beginning (it keeps the last 60 MB); `lost` is noted where it does not reach back to what we have."""
        for number in (_OUT, _ERR):
            kept = b"".join(logs(number == _ERR))
            have = os.lseek(self._files[number], 0, os.SEEK_END)
            tail = os.pread(self._files[number], min(have, _TAIL), max(0, have - _TAIL))
            if kept[max(0, have - len(tail)) : have] == tail:
                self.write(number, kept[have:])
                continue
            at = kept.rfind(tail)
            if at < 0:
                self.note(lost)
            self.write(number, kept[at + len(tail) :] if at >= 0 else kept)

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)


def copy_frames(receive: Callable[[int], bytes], write: Callable[[int, bytes | memoryview], None]) -> None:
    """Until the connection ends. Chunks are large, so a hundred megabytes cost little."""
    buffer = b""
    while data := receive(_CHUNK):
        buffer = buffer + data if buffer else data
        view, at, size = memoryview(buffer), 0, len(buffer)
        while size - at >= 8:
            stream, length = struct.unpack_from(">BxxxL", view, at)
            if size - at - 8 < length:
                if length > _CHUNK and size - at > 8:  # a frame larger than our chunks is not collected first
                    write(stream, view[at + 8 :])
                    _rest(receive, write, stream, length - (size - at - 8))
                    at = size
                break
            write(stream, view[at + 8 : at + 8 + length])
            at += 8 + length
        buffer = bytes(view[at:])


def _rest(receive: Callable[[int], bytes], write: Callable[[int, bytes | memoryview], None], stream: int, left: int) -> None:
    while left > 0 and (data := receive(min(left, _CHUNK))):
        write(stream, data)
        left -= len(data)


class Connection:
    """What the library gives as the socket of an attach, whatever the transport; without a time limit."""

    def __init__(self, given: Any) -> None:
        self._given = given
        inner = getattr(given, "_sock", given)
        self._socket = inner
        if hasattr(inner, "settimeout"):
            inner.settimeout(None)

    def receive(self, size: int) -> bytes:
        try:
            if hasattr(self._socket, "recv"):
                return bytes(self._socket.recv(size))
            return bytes(self._given.read(size) or b"")
        except (OSError, ValueError):
            return b""

    def end(self) -> None:
        """From another thread: `receive` returns."""
        try:
            self._socket.shutdown(2)
        except (OSError, AttributeError):
            return

    def close(self) -> None:
        for item in (self._given, getattr(self._given, "_response", None)):
            try:
                item.close()  # type: ignore[union-attr]
            except (OSError, AttributeError, ValueError):
                continue
