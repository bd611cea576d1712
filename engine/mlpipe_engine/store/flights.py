"""Single flight: one process makes a result, the others wait for it and take it over.

Where the system has locks of ranges that belong to an open file (Linux), a result is one byte of one file, at a place its fingerprint
says: no file is made for it, and the lock dies with its owner. Elsewhere it is a file of its own.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading

from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.store.locks import try_lock, unlock

_RANGES = sys.platform == "linux" and sys.maxsize > 1 << 32 and hasattr(fcntl, "F_OFD_SETLK")


class Flights:
    """Of one run. `leave` may be called from another thread."""

    def __init__(self, state_dir: str) -> None:
        self._folder = os.path.join(state_dir, "locks", "flight")
        self._fd = -1
        self._mine: dict[str, int] = {}
        self._places: dict[int, int] = {}
        """How many of them hold each byte: a lock of an open file is one, however often it was taken."""
        self._guard = threading.Lock()

    def try_take(self, fingerprint: str) -> bool:
        """False while somebody makes this result, also when that is another step of this run. Raises FilesystemError."""
        with self._guard:
            if fingerprint in self._mine:
                return False
            fd = self._lock_byte(fingerprint) if _RANGES else try_lock(self._path(fingerprint))
            if fd is None:
                return False
            self._mine[fingerprint] = fd
            place = _place(fingerprint)
            self._places[place] = self._places.get(place, 0) + 1
            return True

    def leave(self, fingerprint: str) -> None:
        """Idempotent."""
        with self._guard:
            fd = self._mine.pop(fingerprint, None)
            if fd is None:
                return
            if not _RANGES:
                unlock(fd, self._path(fingerprint))
                return
            place = _place(fingerprint)
            self._places[place] -= 1
            if not self._places[place]:
                del self._places[place]
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _byte(fcntl.F_UNLCK, fingerprint))

    def close(self) -> None:
        for fingerprint in list(self._mine):
            self.leave(fingerprint)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _path(self, fingerprint: str) -> str:
        return f"{self._folder}/{fingerprint.partition(':')[2]}"

    def _open(self) -> int:
        path, flags = f"{self._folder}/ranges", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            return os.open(path, flags, 0o644)

    def _lock_byte(self, fingerprint: str) -> int | None:
        try:
            if self._fd < 0:
                self._fd = self._open()
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _byte(fcntl.F_WRLCK, fingerprint))
        except (BlockingIOError, PermissionError):
            return None
        except OSError as error:
            raise FilesystemError.of(error, "lock", f"{self._folder}/ranges") from error
        return self._fd


def _place(fingerprint: str) -> int:
    """60 bits of the digest: two results that share them wait for each other and are right all the same."""
    return int(fingerprint.rpartition(":")[2][:15], 16)


def _byte(kind: int, fingerprint: str) -> bytes:
    """struct flock of 64-bit Linux: type, whence, start, length, pid."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, _place(fingerprint), 1, 0)
