"""Things of which there are a few, each held by one step at a time: a GPU, a slot of a pool. One lock file each, which dies with its holder.

Across all runs and executors that use the same folder. Nothing here times out or trusts a pid.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass

from mlpipe_engine.errors import FilesystemError


@dataclass
class Held:
    """Until `release`, or until this process ends."""

    names: tuple[str, ...]
    _locks: list[int]

    def release(self) -> None:
        """Idempotent. The time of the file tells when it was last used."""
        while self._locks:
            lock = self._locks.pop()
            os.utime(lock)
            os.close(lock)


@dataclass(frozen=True)
class Slots:
    """`folder` is made when it is needed."""

    folder: str

    def try_take(self, count: int, names: Sequence[str], owner: str) -> Held | None:
        """`count` of `names`, all or none. `owner`: a line for people. Raises FilesystemError."""
        held = Held((), [])
        for name in names:
            lock = self._try_lock(name, owner)
            if lock is not None:
                held.names += (name,)
                held._locks.append(lock)
                if len(held.names) == count:
                    return held
        held.release()
        return None

    def _try_lock(self, name: str, owner: str) -> int | None:
        path = f"{self.folder}/{name}"
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise FilesystemError.of(error, "open", path) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        os.ftruncate(lock, 0)
        os.pwrite(lock, owner.encode("utf-8", "replace"), 0)
        return lock

    def holders(self, names: Sequence[str]) -> tuple[str, ...]:
        """What those wrote that hold one now."""
        found = []
        for name in names:
            if self.is_held(name):
                with open(f"{self.folder}/{name}", encoding="utf-8", errors="replace") as file:
                    found.append(file.read(200))
        return tuple(found)

    def is_held(self, name: str) -> bool:
        return is_held(f"{self.folder}/{name}")

    def last_used(self, name: str) -> float | None:
        """Wall-clock seconds; None: never."""
        try:
            return os.stat(f"{self.folder}/{name}").st_mtime
        except OSError:
            return None


def is_held(path: str) -> bool:
    """Whether a living process holds the lock of that file. Never makes the file."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
