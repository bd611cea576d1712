"""Digests remembered by what stat says of a file. Speed only: never trusted where two contents could share one stat.

An entry counts only if both times of the file were older than the moment it was hashed by RACY_NS on the file system's own
clock (git's "racy" rule), and inode, ctime, mtime and size are all unchanged. Rows in and out are plain tuples; the store keeps them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

RACY_NS = 2_000_000_000

Row = tuple[object, ...]


class StatCache:
    """Keyed by absolute path. `paranoid` answers nothing, so that everything is hashed again."""

    def __init__(self, rows: Iterable[Row] = (), *, paranoid: bool = False, root: str = "") -> None:
        """`rows`: (path below root or absolute, dev, ino, ctime_ns, mtime_ns, size, digest, cached_at_ns)."""
        self._root = root
        self._paranoid = paranoid
        self._known: dict[str, tuple[int, int, int, int, int, str, int]] = {}
        for path, dev, ino, ctime, mtime, size, digest, cached in rows:
            self._known[os.fsdecode(path)] = (int(dev), int(ino), int(ctime), int(mtime), int(size), str(digest), int(cached))  # type: ignore[call-overload, arg-type]
        self._new: dict[str, tuple[int, int, int, int, int, str, int]] = {}
        self.seen: dict[str, os.stat_result | None] = {}
        """Everything that was looked at, as it was first seen (None: not there): what the answers given here rest on."""
        self.followed: dict[str, os.stat_result | None] = {}
        self.unwatchable = False
        """Something was looked at that stats of its paths do not tell completely (links inside a path)."""
        self.since_ns = time.time_ns()

    def saw(self, path: str, stat: os.stat_result | None) -> None:
        """A folder that is about to be listed, a link, or something that is not there. The first look counts."""
        self.seen.setdefault(self._key(path), stat)

    def look(self, path: str) -> None:
        """Stat `path` for the record only."""
        try:
            self.saw(path, os.lstat(path))
        except OSError:
            self.saw(path, None)

    def forget(self, path: str) -> None:
        """The next look at `path` is a first look again: whoever stays resident looks at the same files many times."""
        self.seen.pop(self._key(path), None)
        self.followed.pop(path, None)

    def follow(self, path: str) -> None:
        """Like `look`, but at what a link leads to."""
        if path not in self.followed:
            try:
                self.followed[path] = os.stat(path)
            except OSError:
                self.followed[path] = None

    def digest(self, path: str, stat: os.stat_result) -> str | None:
        """The digest of the file's bytes if the file cannot have changed since it was hashed."""
        if self._paranoid:
            self.saw(path, stat)
            return None
        key = self._key(path)
        self.seen.setdefault(key, stat)
        known = self._known.get(key)
        if known is None:
            return None
        same = (
            known[1] == stat.st_ino
            and known[3] == stat.st_mtime_ns
            and known[2] == stat.st_ctime_ns
            and known[4] == stat.st_size
            and known[0] == stat.st_dev
        )
        if not same or max(known[2], known[3]) + RACY_NS > known[6]:
            return None
        return known[5]

    def remember(self, path: str, stat: os.stat_result, digest: str, cached_at_ns: int | None = None) -> None:
        """`stat` was taken before the bytes were read and was the same after."""
        moment = time.time_ns() if cached_at_ns is None else cached_at_ns
        row = (stat.st_dev, stat.st_ino, stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size, digest, moment)
        key = self._key(path)
        self._known[key] = row
        if max(row[2], row[3]) + RACY_NS <= moment:
            self._new[key] = row

    def new_rows(self) -> list[Row]:
        """What the store has not got yet; forgets that it was new."""
        rows: list[Row] = [(os.fsencode(path), *values) for path, values in self._new.items()]
        self._new.clear()
        return rows

    def _key(self, path: str) -> str:
        """Paths inside the project are kept relative, so that the project can be moved."""
        return path[len(self._root) + 1 :] if self._root and path.startswith(self._root + "/") else path
