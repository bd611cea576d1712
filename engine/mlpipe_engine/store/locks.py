"""File locks: who runs what. A lock dies with its owner, so nothing here ever times out or trusts a pid alone.

Lock files lie in .mlpipe/locks; they are removed by their owner while it still holds them, so a taker compares inodes.
"""

from __future__ import annotations

import fcntl
import os
import time

from mlpipe_engine.errors import FilesystemError


def try_lock(path: str, owner: str = "", *, patience_seconds: float = 0.0) -> int | None:
    """A file descriptor that holds the lock, or None while somebody else does. `owner` is a line for people to read.

    `patience_seconds`: try again for so long, because somebody who only looks (`is_held`) holds it for a moment.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fd = _open(path)
        except OSError as error:
            raise FilesystemError.of(error, "open", path) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.01)
            continue
        try:
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                if owner:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, owner.encode(), 0)
                return fd
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(fd)
            raise FilesystemError.of(error, "write", path) from error
        os.close(fd)  # its owner removed the file between our open and our lock: take the new one


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def unlock(fd: int, path: str | None = None) -> None:
    """Release; with `path` the file goes too, while the lock is still held."""
    if path is not None:
        try:
            os.unlink(path)
        except OSError:
            pass
    os.close(fd)


def owner_of(path: str) -> str:
    """What the holder wrote, or ""."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(200)
    except OSError:
        return ""


def is_held(path: str) -> bool:
    """Whether a living process holds it. Never creates the file; works on a read-only project."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
