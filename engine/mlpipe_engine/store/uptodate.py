"""The thin way of "is there anything to do?": one query, one stat a file, one row.

A run in which everything was reused, or that ended well, leaves behind what its decisions rested on: stats of every file and folder
that was looked at, variables, and the stats of all outputs. While all of them are the same, the same words on the command line
give the same run again, so nothing is loaded, hashed or decided. A few files whose stats moved are hashed: where their bytes are those of
then, nothing has changed either. Triggers drop every entry when a result is added or withdrawn.
Imports nothing but os, time and SQLite's C module: the interpreter's own start is most of what is left.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from _sqlite3 import Connection, Error, connect
from collections.abc import Iterable, Mapping

from mlpipe_engine import __version__

SHOWN_STEPS = 30
"""Runs of up to this many steps show a line for each."""

LOG_BYTES = 4 << 20
"""A longer log of the store is merged into it."""
KEPT_LOG_BYTES = 1 << 20
"""So much of its file stays when it starts anew: one that stayed longer than LOG_BYTES would be taken for a long log by every write."""

_RACY_NS = 2_000_000_000
_MOST_TOUCHED, _MOST_BYTES = 100, 64 << 20
"""More than this is the business of the long way, which hashes beside other work and remembers."""


class UpToDate:
    """The answer yes. `row` writes the run that says so."""

    __slots__ = ("_body", "_connection", "_state_dir", "facts", "root", "run")

    def __init__(
        self, root: str, state_dir: str, connection: Connection, run: int, facts: dict[str, str], body: bytes | None = None
    ) -> None:  # fmt: skip
        """`body`: the entry as it should stand from now on; None: as it is."""
        self.root, self.run, self.facts = root, run, facts
        self._state_dir, self._connection, self._body = state_dir, connection, body

    def record(self, began: float) -> int | None:
        """Write the run's one row; its number, or None when this user, or this moment, does not allow it."""
        try:
            fd = os.open(os.path.join(self._state_dir, "meta.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return None
        try:
            for _ in range(200):
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.005)
            else:
                return None
            return self._insert(began)
        except Error:
            return None
        finally:
            os.close(fd)

    def _insert(self, began: float) -> int:
        now = timestamp()
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            still = connection.execute("SELECT 1 FROM uptodate WHERE run = ?", (self.run,)).fetchone()
            if still is None:
                raise Error("dropped meanwhile")
            if self._body is not None:
                connection.execute("UPDATE uptodate SET body = ? WHERE run = ?", (self._body, self.run))
            cursor = connection.execute(MIRROR, (
                os.urandom(16).hex(), self.facts["experiment"], now, now, now, time.monotonic() - began, "[]", "cli", self.facts["options"],
                self.run,
            ))  # fmt: skip
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        merge_long_log(connection, self._state_dir)
        return int(cursor.lastrowid or 0)


def merge_long_log(connection: Connection, state_dir: str, longest: int = LOG_BYTES) -> int:
    """Merge the log into the store where its file is longer than `longest`; gives the `longest` of the next time.

    Where somebody who reads keeps a part of it from being merged, that is as long a log away again. Prereq: the write lock is held, so that
    no writer and no other merge runs beside it; `KEPT_LOG_BYTES` is set for every connection that writes.
    """
    try:
        size = os.stat(os.path.join(state_dir, "state.db-wal")).st_size
    except OSError:  # a store without a log
        return longest
    if size <= longest:
        return longest
    _, whole, merged = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return LOG_BYTES if whole == merged else size + LOG_BYTES


MIRROR = (
    "INSERT INTO runs (id, pipeline, experiment, state, created_at, started_at, finished_at, seconds, parameters, tags, properties,"
    " source, spec, options, resumed_from, mirrors)"
    " SELECT ?, pipeline, ?, 'reused', ?, ?, ?, ?, parameters, ?, properties, ?, spec, ?, NULL, coalesce(mirrors, number)"
    " FROM runs WHERE number = ?"
)
"""One row for a run in which everything was reused; its step rows are those of the run it points at."""


def timestamp() -> str:
    """RFC 3339, UTC, microseconds; without datetime, which takes longer to import than all of this takes."""
    moment = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 10**9)) + f".{moment % 10**9 // 1000:06d}Z"


def find_root(start: str) -> str | None:
    """As config.project.find_root, without its errors."""
    here = os.path.realpath(start)
    while not os.path.lexists(os.path.join(here, "mlpipe.toml")):
        parent = os.path.dirname(here)
        if parent == here:
            return None
        here = parent
    return here


def open_quickly(root: str) -> Connection | None:
    """A connection with the settings of `database`; None where there is no store, or one this user cannot write. Raises Error."""
    path = os.path.join(root, ".mlpipe", "state.db")
    if not os.access(path, os.W_OK):
        return None
    connection = connect(path, isolation_level=None, timeout=5.0)
    for pragma in ("mmap_size=0", "synchronous=FULL", "wal_autocheckpoint=0", f"journal_size_limit={KEPT_LOG_BYTES}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def check(root: str, words: Iterable[str]) -> UpToDate | None:
    """None: not known to be up to date, so the long way decides."""
    try:
        connection = open_quickly(root)
        if connection is None:
            return None
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        found = connection.execute("SELECT run, body FROM uptodate WHERE request = ?", ("\0".join(words),)).fetchone()
        if (
            found is None
            or connection.execute("SELECT 1 FROM runs WHERE state IN ('queued', 'running') AND parent IS NULL LIMIT 1").fetchone()
        ):
            return None
    except Error:
        return None
    facts, moved = _moved(root, found[1], version)
    if not moved:
        return UpToDate(root, os.path.join(root, ".mlpipe"), connection, found[0], facts)
    try:
        if not _same_bytes(root, connection, moved):
            return None
    except Error:
        return None
    return UpToDate(root, os.path.join(root, ".mlpipe"), connection, found[0], facts, _renewed(found[1], moved))


def changes(root: str, body: bytes, version: int) -> tuple[dict[str, str], list[str]]:
    """(facts of an entry, what is no longer as it was: paths and variables); nothing in the second: it holds."""
    facts, moved = _moved(root, body, version)
    return facts, [path for path, _, _ in moved]


_Moved = list[tuple[str, str, str]]
"""(path, mark of then, mark now); of a variable, or of the program, no marks."""


def _moved(root: str, body: bytes, version: int) -> tuple[dict[str, str], _Moved]:
    text = body.decode("utf-8", "surrogateescape")
    head, variables, exact, followed, modes, marks = text.split("\0\0")
    facts = dict(line.split("=", 1) for line in head.split("\0"))
    if facts["program"] != _program(version):
        return facts, [("mlpipe-tui itself", "", "")]
    for item in _items(variables):
        name, equals, value = item.partition("=")
        if os.environ.get(name) != (value if equals else None):
            return facts, [(f"${name}", "", "")]
    paths = (_items(exact), _items(followed), _items(modes))
    now = _marks(root, *paths)
    if marks == "\n".join(now):
        return facts, []
    before = marks.split("\n")
    return facts, [
        (path, old, new) for path, old, new in zip((*paths[0], *paths[1], *paths[2]), before, now, strict=True) if old != new
    ]


def _same_bytes(root: str, connection: Connection, moved: _Moved) -> bool:
    """Whether these are files whose digest of then is known, and which have it still. Raises Error."""
    if len(moved) > _MOST_TOUCHED:
        return False
    digests: list[tuple[str, int, str, str]] = []
    for path, before, now in moved:
        old, new = before.split(" "), now.split(" ")
        if len(old) != 5 or len(new) != 5 or old[3:] != new[3:] or int(new[4]) & 0o170000 != 0o100000:
            return False
        row = connection.execute(
            "SELECT ino, mtime_ns, ctime_ns, size, digest FROM stat_cache WHERE path = ?", (os.fsencode(path),)
        ).fetchone()
        if row is None or [str(value) for value in row[:4]] != old[:4]:
            return False
        digests.append((path if path[0] == "/" else f"{root}/{path}", int(new[3]), now, row[4]))
    if sum(size for _, size, _, _ in digests) > _MOST_BYTES:
        return False
    from mlpipe_engine.errors import MlpipeError
    from mlpipe_engine.hashing.files import hash_file

    try:
        return all(hash_file(path, size) == digest and mark(os.lstat(path)) == now for path, size, now, digest in digests)
    except (OSError, MlpipeError):
        return False


def _renewed(body: bytes, moved: _Moved) -> bytes | None:
    """The entry with the marks of now, unless one is so young that another change could hide behind it."""
    limit = time.time_ns() - _RACY_NS
    if any(max(int(now.split(" ")[1]), int(now.split(" ")[2])) > limit for _, _, now in moved):
        return None
    sections = body.decode("utf-8", "surrogateescape").split("\0\0")
    names = [*_items(sections[2]), *_items(sections[3]), *_items(sections[4])]
    news = {path: (before, now) for path, before, now in moved}
    marks = [
        news[name][1] if name in news and news[name][0] == known else known
        for name, known in zip(names, sections[5].split("\n"), strict=True)
    ]
    sections[5] = "\n".join(marks)
    return "\0\0".join(sections).encode("utf-8", "surrogateescape")


def _items(section: str) -> list[str]:
    return section.split("\0") if section else []


def _program(version: int) -> str:
    return f"{__version__} {version} {sys.version}"


def _marks(root: str, exact: list[str], followed: list[str], modes: list[str]) -> list[str]:
    found: list[str] = []
    add, lstat, base = found.append, os.lstat, root + "/"
    for path in exact:
        try:
            s = lstat(path if path[0] == "/" else base + path)
        except OSError:
            add("-")
            continue
        add(f"{s.st_ino} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_size} {s.st_mode}")
    for path in followed:
        try:
            s = os.stat(path)
        except OSError:
            add("-")
            continue
        add(f"{s.st_ino} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_size} {s.st_mode}")
    for path in modes:
        try:
            add(f"{os.stat(path).st_mode}")
        except OSError:
            add("-")
    return found


def mark(s: os.stat_result | None) -> str:
    return "-" if s is None else f"{s.st_ino} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_size} {s.st_mode}"


class Witness:
    """What the decisions of one run rested on, collected while it was decided."""

    def __init__(self, root: str, since_ns: int) -> None:
        self._root = root
        self._since_ns = since_ns
        self._exact: dict[str, str] = {}
        self._followed: dict[str, str] = {}
        self._modes: dict[str, str] = {}
        self._variables: dict[str, str | None] = {}
        self.usable = True

    def saw(self, seen: Mapping[str, os.stat_result | None], *, followed: bool = False) -> None:
        """Sources: a stat that is as young as the look itself could hide a second change, so it makes the whole unusable."""
        into = self._followed if followed else self._exact
        for path, stat in seen.items():
            if stat is not None and max(stat.st_mtime_ns, stat.st_ctime_ns) + _RACY_NS > self._since_ns:
                self.usable = False
            into[path] = mark(stat)

    def stored(self, path: str, stat: os.stat_result) -> None:
        """An output in the store, which only we write."""
        relative = path[len(self._root) + 1 :] if path.startswith(self._root + "/") else path
        self._exact[relative] = mark(stat)

    def asked(self, path: str, mode: str) -> None:
        """Only whether it is there, and its mode."""
        self._modes[path] = mode

    def variable(self, name: str, value: str | None) -> None:
        self._variables[name] = value

    def body(self, version: int, facts: Mapping[str, str]) -> bytes | None:
        """The entry of the table `uptodate`, or None when it would not be safe."""
        texts = [*self._exact, *self._followed, *self._modes, *facts.values(), *(v or "x" for v in self._variables.values())]
        if not self.usable or any("\0" in text or not text for text in texts):
            return None
        head = "\0".join(f"{name}={value}" for name, value in {"program": _program(version), **facts}.items())
        variables = "\0".join(name if value is None else f"{name}={value}" for name, value in self._variables.items())
        marks = "\n".join([*self._exact.values(), *self._followed.values(), *self._modes.values()])
        sections = (head, variables, "\0".join(self._exact), "\0".join(self._followed), "\0".join(self._modes), marks)
        return "\0\0".join(sections).encode("utf-8", "surrogateescape")
