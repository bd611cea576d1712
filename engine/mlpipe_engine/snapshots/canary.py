"""Whether the reads of a step show in the times of files here: tried out, never assumed.

A file whose access time is older than its modification time gets a new access time when it is read, unless the file system is
mounted so that it does not (noatime, some network and overlay file systems).
"""

from __future__ import annotations

import mmap
import os
import subprocess
import tempfile
from collections.abc import Callable


def can_trace(directory: str) -> str:
    """ "" when read, mmap, copy_file_range and exec are all seen below `directory`; else a sentence naming what is not."""
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix="canary-") as folder:
            missed = [name for name, use in _USES.items() if not _seen(os.path.join(folder, name), use)]
            if not missed and _seen(os.path.join(folder, "untouched"), lambda _: None):
                return "files here look as if they were read when nobody read them"
    except OSError as error:
        return f"reads cannot be traced here: {error.strerror}"
    return f"reads by {', '.join(missed)} do not show in access times here" if missed else ""


def age(path: str, mtime_ns: int | None = None) -> None:
    """Set the times so that the next read shows."""
    modified = os.stat(path).st_mtime_ns if mtime_ns is None else mtime_ns
    os.utime(path, ns=(modified - 86_400_000_000_000, modified))


def _seen(path: str, use: Callable[[str], None]) -> bool:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    os.write(fd, b"#!/bin/sh\nexit 0\n")
    os.close(fd)
    age(path)
    before = os.stat(path)
    use(path)
    after = os.stat(path)
    return (before.st_atime_ns, before.st_ctime_ns) != (after.st_atime_ns, after.st_ctime_ns)


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read()


def _map(path: str) -> None:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        view[:1]


def _copy_range(path: str) -> None:
    if not hasattr(os, "copy_file_range"):
        _read(path)
        return
    source = os.open(path, os.O_RDONLY)
    target = os.open(path + ".copy", os.O_WRONLY | os.O_CREAT)
    try:
        os.copy_file_range(source, target, 10)
    finally:
        os.close(source)
        os.close(target)


def _execute(path: str) -> None:
    subprocess.run([path], check=False, stdin=subprocess.DEVNULL)


_USES: dict[str, Callable[[str], None]] = {"read": _read, "mmap": _map, "copy_file_range": _copy_range, "exec": _execute}
