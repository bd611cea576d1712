"""Events of the operating system, by watchdog: which names changed. Hints only: whoever gets one looks at the files.

One watch a folder that is looked at, so that outputs, logs and ignored folders never wake anybody. Where events do not come
(network mounts, the limit of watches, no inotify) `reason` says so and the caller looks again and again.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any, cast

from mlpipe_engine.watch.mounts import silent_mount
from mlpipe_engine.watch.settle import MOST_PATHS, What

Event = tuple[str, What]


class Notices:
    """Thread-safe: watchdog's thread puts events in, the caller takes them out when `fileno()` is readable."""

    def __init__(self, *, poll: bool = False) -> None:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._source: _Inotify | _Recursive | None = None
        self._silent: dict[str, str] = {}
        self._problem = "polling was asked for ([watch] poll)" if poll else ""
        if not poll:
            self._source, self._problem = _open(self._put)

    @property
    def reason(self) -> str:
        """Why files have to be looked at again and again; "" while every change is told."""
        return self._problem or (self._source.problem if self._source else "") or next(iter(self._silent.values()), "")

    def fileno(self) -> int:
        return self._reading

    def watch(self, folders: Iterable[str]) -> None:
        """From now on these folders, and no others. Folders that are not there are left out."""
        wanted = set(folders)
        self._silent = {folder: why for folder in _tops(wanted) if (why := silent_mount(folder))}
        if self._source is not None:
            self._source.watch(wanted)

    def take(self) -> list[Event]:
        """What came since the last call."""
        try:
            while os.read(self._reading, 4096):
                pass
        except BlockingIOError:
            pass
        with self._lock:
            events, self._events = self._events, []
        return events

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
        os.close(self._reading)
        with self._lock:
            os.close(self._writing)
            self._writing = -1

    def _put(self, path: str, what: What) -> None:
        with self._lock:
            if len(self._events) <= MOST_PATHS:
                self._events.append((path, what))
            elif self._events[-1][1] is not What.LOST:
                self._events.append(("", What.LOST))
            if self._writing >= 0:
                try:
                    os.write(self._writing, b".")
                except OSError:
                    pass  # full: it is readable anyway


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return reading, writing


def _tops(folders: set[str]) -> list[str]:
    """Folders of which no other one is above them: enough to ask which mounts are in play."""
    found: list[str] = []
    for folder in sorted(folders):
        if not any(folder.startswith(top.rstrip("/") + "/") for top in found[-1:]):
            found.append(folder)
    return found


def _open(put: Any) -> tuple[_Inotify | _Recursive | None, str]:
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    if sys.platform.startswith("linux"):
        try:
            return _Inotify(put), ""
        except ImportError:
            return _Recursive(put), ""
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None, "no further inotify instance is to be had (fs.inotify.max_user_instances)"
            return None, f"inotify does not work here: {error.strerror}"
    try:
        return _Recursive(put), ""
    except OSError as error:
        return None, f"file events do not work here: {error.strerror}"


class _Inotify:
    """watchdog's reader of inotify, with one watch for each folder instead of its recursive ones, which would take the store in."""

    def __init__(self, put: Any) -> None:
        from watchdog.observers import inotify_c

        self._c = inotify_c.InotifyConstants
        self._put = put
        self.problem = ""
        self._fd = inotify_c.InotifyFD()
        self._fd.daemon = True
        self._fd.start()
        self._watched: dict[str, _Folder] = {}
        c = self._c
        self._mask = (
            c.IN_CLOSE_WRITE | c.IN_MODIFY | c.IN_ATTRIB | c.IN_MOVED_FROM | c.IN_MOVED_TO | c.IN_CREATE | c.IN_DELETE | c.IN_DELETE_SELF
            | c.IN_MOVE_SELF | c.IN_ONLYDIR | c.IN_EXCL_UNLINK
        )  # fmt: skip

    def watch(self, folders: set[str]) -> None:
        self.problem = ""
        for path in [path for path in self._watched if path not in folders]:
            self._watched.pop(path).leave(self._fd)
        refused = 0
        for path in sorted(folders):
            known = self._watched.get(path)
            if known is not None and known.is_that(path):
                continue
            if known is not None:
                known.leave(self._fd)
            folder = _Folder(path, self._c, self._put)
            try:
                folder.enter(self._fd, self._mask)
            except OSError as error:
                self._watched.pop(path, None)
                refused += error.errno == errno.ENOSPC
                continue
            self._watched[path] = folder
        if refused:
            self.problem = (
                f"the system's limit of inotify watches is reached: {refused} of {len(folders)} folders are without"
                " (raise fs.inotify.max_user_watches)"
            )

    def close(self) -> None:
        self._fd.stop()
        self._fd.join(2.0)


class _Folder:
    """Callback of one watch. Called from watchdog's thread."""

    def __init__(self, path: str, constants: Any, put: Any) -> None:
        self._path, self._c, self._put = path, constants, put
        self._wd = -1
        self._place: tuple[int, int] | None = None

    def enter(self, fd: Any, mask: int) -> None:
        self._wd = fd.add_callback(os.fsencode(self._path), mask, self, id(self))
        info = os.stat(self._path)
        self._place = info.st_dev, info.st_ino

    def leave(self, fd: Any) -> None:
        if self._wd >= 0:
            fd.remove_callbacks([(self._wd, id(self))])

    def is_that(self, path: str) -> bool:
        """Whether the folder that is watched is the one of that name now."""
        try:
            info = os.stat(path)
        except OSError:
            return False
        return self._wd >= 0 and (info.st_dev, info.st_ino) == self._place

    def on_event(self, event: Any) -> None:
        c, mask = self._c, event.mask
        if mask & (c.IN_DELETE_SELF | c.IN_MOVE_SELF):
            self._put(self._path, What.FOLDER)
            return
        path = f"{self._path}/{os.fsdecode(event.name)}" if event.name else self._path
        if mask & c.IN_ISDIR:
            if not mask & c.IN_ATTRIB:
                self._put(path, What.FOLDER)
        elif mask & (c.IN_CLOSE_WRITE | c.IN_MOVED_TO):
            self._put(path, What.CLOSED)
        elif mask & (c.IN_DELETE | c.IN_MOVED_FROM):
            self._put(path, What.GONE)
        elif mask & c.IN_CREATE:
            self._put(path, What.MADE)
        elif mask & c.IN_MODIFY:
            self._put(path, What.WRITTEN)
        elif mask & c.IN_ATTRIB and event.name:
            self._put(path, What.TOUCHED)

    def on_watch_deleted(self, wd: int) -> None:
        self._wd = -1
        self._put(self._path, What.FOLDER)

    def on_queue_overflow(self) -> None:
        self._put("", What.LOST)


class _Recursive:
    """Where there is no inotify: watchdog's own observer (FSEvents, kqueue); what is not in a wanted folder is dropped."""

    def __init__(self, put: Any) -> None:
        from watchdog.observers import Observer

        self._put = put
        self.problem = ""
        self._observer = Observer()
        self._observer.start()
        self._scheduled: dict[str, Any] = {}
        self._wanted: set[str] = set()

    def watch(self, folders: set[str]) -> None:
        self._wanted = {folder for folder in folders if os.path.isdir(folder)}
        tops = set(_tops(self._wanted))
        for path in [path for path in self._scheduled if path not in tops]:
            self._observer.unschedule(self._scheduled.pop(path))
        for path in tops - self._scheduled.keys():
            try:
                self._scheduled[path] = self._observer.schedule(cast(Any, self), path, recursive=True)
            except OSError as error:
                self.problem = f"file events do not come from {path}: {error.strerror}"

    def dispatch(self, event: Any) -> None:
        """Called by watchdog for every event."""
        if event.event_type in ("opened", "closed_no_write"):
            return
        what = {"created": What.MADE, "deleted": What.GONE, "modified": What.CLOSED, "closed": What.CLOSED}
        for path, kind in ((event.src_path, what.get(event.event_type, What.GONE)), (event.dest_path, What.CLOSED)):
            path = os.fsdecode(path)
            if path and (os.path.dirname(path) in self._wanted or path in self._wanted):
                if event.is_directory and event.event_type == "modified":
                    continue
                self._put(path, What.FOLDER if event.is_directory else kind)

    def close(self) -> None:
        self._observer.stop()
        self._observer.join(2.0)
