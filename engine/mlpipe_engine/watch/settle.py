"""When a save is over: single events become one batch of paths. Pure; the clock is the caller's.

One closed file is looked at after 10 ms; several paths, an open writer, a burst of saves or a git operation under way after 300 ms
of quiet, at most 2 s after the first event (30 s while git holds its index). Swap files and temporary names that came and went
inside of the batch leave no trace, so a save by rename counts as one closed file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from mlpipe_engine.snapshots.ignore import is_editors_own

SHORT_SECONDS, LONG_SECONDS, MOST_SECONDS, GIT_SECONDS = 0.010, 0.300, 2.0, 30.0
_BURST = 3
"""A file that is closed so many times in one batch is being saved again and again."""
MOST_PATHS = 10_000
"""More than these are not told one by one: everything is looked at."""


class What(Enum):
    """What happened to a name."""

    MADE = "made"
    WRITTEN = "written"
    """Some bytes of it; whoever writes has not closed it yet."""
    CLOSED = "closed"
    """A writer is done with it, or it was renamed to this name."""
    GONE = "gone"
    TOUCHED = "touched"
    """Its mode or its times."""
    FOLDER = "folder"
    """A folder appeared, left, or was renamed: what is in it counts too."""
    LOST = "lost"
    """Events were lost."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Paths that may have changed; None: any of them."""

    paths: frozenset[str] | None


class Settling:
    """`git_is_busy`: whether a git operation holds the index now."""

    def __init__(self, git_is_busy: Callable[[], bool] = lambda: False) -> None:
        self._git_is_busy = git_is_busy
        self._last: dict[str, What] = {}
        self._made_here: set[str] = set()
        self._closed: dict[str, int] = {}
        self._first = self._latest = 0.0
        self._busy_since: float | None = None
        self._lost = False
        self.count = 0
        """Grows with every event that counts: whoever looked early knows whether anything came since."""

    def take(self, path: str, what: What, now: float) -> None:
        """An event; `path` is absolute."""
        if what is not What.LOST and is_editors_own(os.path.basename(path)):
            return
        if not self:
            self._first = now
        self._latest = max(self._latest, now) if self else now
        self.count += 1
        if what is What.LOST or len(self._last) >= MOST_PATHS:
            self._lost = True
            return
        if what is What.GONE and path in self._made_here:
            self._forget(path)
            return
        if what is What.MADE and path not in self._last:
            self._made_here.add(path)
        if what is What.CLOSED:
            self._closed[path] = self._closed.get(path, 0) + 1
        if what is not What.TOUCHED or path not in self._last:
            self._last[path] = what

    def _forget(self, path: str) -> None:
        self._made_here.discard(path)
        self._last.pop(path, None)
        self._closed.pop(path, None)

    def __bool__(self) -> bool:
        return bool(self._last) or self._lost

    def due(self) -> float | None:
        """When the batch may be taken, on the clock of `take`; None while there is none."""
        if not self:
            return None
        if self._busy_since is not None:
            return self._latest + LONG_SECONDS
        if self.quick() is not None:
            return min(self._latest + SHORT_SECONDS, self._first + MOST_SECONDS)
        return min(self._latest + LONG_SECONDS, self._first + MOST_SECONDS)

    def quick(self) -> str | None:
        """The one file that was closed, when nothing else is in the batch."""
        if self._lost or len(self._last) != 1:
            return None
        (path,) = self._last
        return path if self._is_done(path) else None

    def _is_done(self, path: str) -> bool:
        return self._last[path] in (What.CLOSED, What.TOUCHED) and self._closed.get(path, 0) < _BURST

    def ready(self, now: float) -> Batch | None:
        """The batch, once it is due; then it begins anew."""
        due = self.due()
        if due is None or now < due:
            return None
        if self._git_is_busy() and now < (self._busy_since if self._busy_since is not None else now) + GIT_SECONDS:
            self._busy_since = now if self._busy_since is None else self._busy_since
            self._latest, self._first = now, now - MOST_SECONDS + LONG_SECONDS
            return None
        self._busy_since = None
        batch = Batch(None if self._lost else frozenset(self._last))
        self._last, self._made_here, self._closed, self._lost = {}, set(), {}, False
        return batch

    def put_back(self, paths: Iterable[str], now: float) -> None:
        """What could not be looked at yet (a file changed while it was read) is looked at again."""
        for path in paths:
            self.take(path, What.WRITTEN, now)


def git_is_busy(root: str) -> bool:
    """Whether an operation holds the index of the repository `root` lies in."""
    folder = root
    while True:
        if os.path.isdir(f"{folder}/.git"):
            return os.path.exists(f"{folder}/.git/index.lock")
        if folder == os.path.dirname(folder):
            return False
        folder = os.path.dirname(folder)
