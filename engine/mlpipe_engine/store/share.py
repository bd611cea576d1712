"""What running runs use, so that collecting takes none of it: first say that a thing is used, then look whether it is there.

Every run appends the names of what it relies on to a file of its own below .mlpipe/locks/uses, under a shared lock that is held for
that append only. Collecting holds the lock exclusively for each batch, and reads the files of all living runs inside it: a batch
is over before a name is written, and then the run sees that the thing is gone; or it comes after, and leaves the thing alone.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.store.locks import is_held


class Uses:
    """Of one run; may be called from several threads. Prereq: the run's lock is held, or nobody believes what is written here."""

    def __init__(self, state_dir: str, run_id: str) -> None:
        self._state_dir = state_dir
        self._path = os.path.join(state_dir, "locks", "uses", run_id)
        self._known: set[str] = set()
        self._thread_lock = threading.Lock()
        self._file = self._share = -1

    def protect(self, name: str) -> None:
        """After this returns, `name` is either gone already or stays until the run has ended."""
        if name in self._known:
            return
        with self._thread_lock:
            try:
                self._open()
                fcntl.flock(self._share, fcntl.LOCK_SH)
                try:
                    os.write(self._file, name.encode() + b"\n")
                finally:
                    fcntl.flock(self._share, fcntl.LOCK_UN)
            except OSError as error:
                raise FilesystemError.of(error, "write", self._path) from error
            self._known.add(name)

    def _open(self) -> None:
        if self._file >= 0:
            return
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._share = _open_share(self._state_dir)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        """Prereq: what the run used stands in the rows of a final run."""
        if self._file >= 0:
            try:
                os.unlink(self._path)
            except OSError:
                pass
            os.close(self._file)
            os.close(self._share)
            self._file = self._share = -1


@contextmanager
def exclusive(state_dir: str) -> Iterator[frozenset[str]]:
    """Nobody begins to use anything inside the block. Gives what living runs use."""
    try:
        fd = _open_share(state_dir)
    except OSError as error:
        raise FilesystemError.of(error, "open", os.path.join(state_dir, "store.share")) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield _in_use(state_dir)
    finally:
        os.close(fd)


def _open_share(state_dir: str) -> int:
    return os.open(os.path.join(state_dir, "store.share"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _in_use(state_dir: str) -> frozenset[str]:
    """Names in the files of runs that live; files of others are removed."""
    folder = os.path.join(state_dir, "locks", "uses")
    found: set[str] = set()
    for run_id in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, run_id)
        if not is_held(os.path.join(state_dir, "locks", "runs", run_id)):
            os.unlink(path)
            continue
        with open(path, encoding="ascii", errors="replace") as file:
            found.update(file.read().split("\n"))
    return frozenset(found)
