"""Copies of what lies elsewhere: `.mlpipe/cache/remote`. Everything in it can be fetched again; deleting it is always safe.

blobs/<aa>/<hex>     bytes under their digest, read-only
views/<tree>/...     the files of one dataset under their names within it: hard links to blobs, what steps are lent
incoming/<name>.part what has arrived of a download; the name holds address and version, so a later try goes on with it
index.db             which version of which address had which digest, and what was listed last: for work without network
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from blake3 import blake3

from mlpipe_engine.data.objects import ObjectStore, RemoteObject, retried, tag
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, FilesystemError, ObjectChangedError
from mlpipe_engine.hashing.files import hash_file

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    address TEXT PRIMARY KEY, version TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listings (question TEXT NOT NULL, address TEXT NOT NULL, name TEXT NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (question, address)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
"""
_CHANGES_ALLOWED = 3
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Known:
    """The last content of an address."""

    version: str
    digest: str
    size: int


class RemoteCache:
    """Safe for threads and for several processes at once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    # Which address had which bytes

    def known(self, address: str) -> Known | None:
        rows = self._ask("SELECT version, digest, size FROM objects WHERE address = ?", (address,))
        return Known(*rows[0]) if rows else None

    def knows_all(self, addresses: Iterable[str]) -> dict[str, Known]:
        found: dict[str, Known] = {}
        wanted = list(addresses)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            for row in self._ask(f"SELECT address, version, digest, size FROM objects WHERE address IN ({marks})", part):
                found[row[0]] = Known(row[1], row[2], row[3])
        return found

    def note(self, address: str, item: RemoteObject, digest: str) -> None:
        """Prereq: `digest` is that of the bytes `item` had. A version that may prove nothing later is kept as no version."""
        version = item.version if item.settled else ""
        self._tell(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", [(address, version, digest, max(item.size, 0), time.time())]
        )

    def note_listing(self, question: str, found: Iterable[tuple[str, str]]) -> None:
        """`found`: (address, name within the answer)."""
        now = time.time()
        rows = [(question, address, name, now) for address, name in found]
        self._tell("DELETE FROM listings WHERE question = ?", [(question,)])
        self._tell("INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?)", rows)

    def listing(self, question: str) -> tuple[list[tuple[str, str]], float] | None:
        """What was answered last, and when."""
        rows = self._ask("SELECT address, name, seen FROM listings WHERE question = ?", (question,))
        return ([(row[0], row[1]) for row in rows], rows[0][2]) if rows else None

    # Bytes

    def blob(self, digest: str) -> str:
        hexa = digest.partition(":")[2]
        return f"{self.folder}/blobs/{hexa[:2]}/{hexa}"

    def holds(self, digest: str) -> bool:
        """The bytes are here and whole: hashed again where time or size are not those of when they were stored."""
        path = self.blob(digest)
        try:
            found = os.lstat(path)
        except OSError:
            return False
        rows = self._ask("SELECT size, mtime_ns FROM blobs WHERE digest = ?", (digest,))
        if rows and rows[0] == (found.st_size, found.st_mtime_ns):
            return True
        if hash_file(path) == digest:
            self._tell("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", [(digest, found.st_size, found.st_mtime_ns)])
            return True
        os.unlink(path)
        return False

    def fetch(self, address: str, store: ObjectStore, item: RemoteObject) -> tuple[RemoteObject, str]:
        """(the object as it was read, digest) once its bytes are in the cache. Goes on with what an earlier try left.

        Raises DatastoreError when it keeps changing or cannot be had.
        """
        for _ in range(_CHANGES_ALLOWED):
            try:
                return item, self._fetched(address, store, item)
            except ObjectChangedError as error:
                changed = error
            now = retried(partial(store.stat, item.path))
            if now is None:
                raise DatastoreError(f"{address} was deleted while it was read", hint="Run the same command again.")
            item = now
        raise DatastoreError(
            f"{changed.what}, {_CHANGES_ALLOWED} times",
            hint="Let the program that writes it finish, then run the same command again.",
        )

    def _fetched(self, address: str, store: ObjectStore, item: RemoteObject) -> str:
        part = f"{self.folder}/incoming/{tag(address, item.version, item.size)}.part"
        with self._alone(part) as fd:
            hasher = blake3()
            offset = _hash_what_is_there(fd, hasher) if item.settled and item.version else 0
            if offset == 0 or 0 <= item.size < offset:
                os.ftruncate(fd, 0)
                hasher, offset = blake3(), 0

            def go_on() -> None:
                nonlocal offset
                os.lseek(fd, offset, os.SEEK_SET)
                for data in store.read(item, offset):
                    _write_all(fd, data)
                    hasher.update(data)
                    offset += len(data)
                if item.size >= 0 and offset < item.size:
                    raise DatastoreUnreachableError(f"{address} ended after {offset:,} of {item.size:,} bytes")

            try:
                retried(go_on)
                if item.size >= 0 and offset != item.size:
                    raise ObjectChangedError(f"{address} has {offset:,} bytes, not {item.size:,}")
            except ObjectChangedError:
                os.unlink(part)
                raise
            os.fsync(fd)
            digest = "b3:" + hasher.hexdigest()
            self._keep(part, digest)
            return digest

    def scratch(self, ending: str) -> str:
        """A path for a file that will be given to `adopt`."""
        try:
            os.makedirs(f"{self.folder}/incoming", exist_ok=True)
        except OSError as error:
            raise FilesystemError.of(error, "make", f"{self.folder}/incoming") from error
        return f"{self.folder}/incoming/{uuid4().hex}{ending}"

    def adopt(self, path: str, digest: str) -> None:
        """A file of ours becomes a blob. Prereq: it has that digest."""
        if self.holds(digest):
            os.unlink(path)
        else:
            self._keep(path, digest)

    def take(self, source: str, digest: str) -> None:
        """A copy of a local file with that digest."""
        if self.holds(digest):
            return
        part = f"{self.folder}/incoming/{uuid4().hex}.part"
        try:
            os.makedirs(os.path.dirname(part), exist_ok=True)
            shutil.copyfile(source, part)
        except OSError as error:
            raise FilesystemError.of(error, "copy to", part) from error
        if hash_file(part) != digest:
            os.unlink(part)
            raise ObjectChangedError(f"{source} changed while it was read", hint="Run the same command again.")
        self._keep(part, digest)

    def _keep(self, part: str, digest: str) -> None:
        path = self.blob(digest)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.chmod(part, 0o444)
            os.replace(part, path)
            found = os.lstat(path)
        except OSError as error:
            raise FilesystemError.of(error, "write", path) from error
        self._tell("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", [(digest, found.st_size, found.st_mtime_ns)])

    @contextmanager
    def _alone(self, path: str) -> Iterator[int]:
        """The file, open and locked: two runs that want one object do not write into one file."""
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FilesystemError.of(error, "write", path) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                moved = os.stat(path).st_ino != os.fstat(fd).st_ino
            except OSError:
                moved = True
            if moved:  # the other one finished and moved it away
                with self._alone(path) as again:
                    yield again
                return
            yield fd
        except OSError as error:
            raise FilesystemError.of(error, "write", path) from error
        finally:
            os.close(fd)

    # What steps are lent

    def view(self, name: str, files: list[tuple[str, str]]) -> str:
        """A folder with these (path, digest), made once. Raises FilesystemError."""
        place = f"{self.folder}/views/{name}"
        if os.path.isdir(place) and all(self._is_blob(f"{place}/{path}", digest) for path, digest in files):
            with suppress(OSError):
                os.utime(place)  # it was used: collecting takes what lies idle first
            return place
        building = f"{place}.{uuid4().hex}"
        try:
            for folder in sorted({os.path.dirname(path) for path, _ in files} | {""}):
                os.makedirs(f"{building}/{folder}", exist_ok=True)
            for path, digest in files:
                try:
                    os.link(self.blob(digest), f"{building}/{path}")
                except OSError:  # a file system without hard links, or one link too many
                    shutil.copyfile(self.blob(digest), f"{building}/{path}")
            if os.path.lexists(place):
                os.rename(place, f"{building}.old")
            os.rename(building, place)
            shutil.rmtree(f"{building}.old", ignore_errors=True)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            raise FilesystemError.of(error, "lay out", place) from error
        return place

    def _is_blob(self, path: str, digest: str) -> bool:
        try:
            here, there = os.lstat(path), os.lstat(self.blob(digest))
        except OSError:
            return False
        same = here.st_ino == there.st_ino and here.st_dev == there.st_dev
        return same or (here.st_size == there.st_size and hash_file(path) == digest)

    # index.db

    def _ask(self, sql: str, values: Iterable[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._database().execute(sql, tuple(values)).fetchall()
            except sqlite3.DatabaseError:
                return self._anew().execute(sql, tuple(values)).fetchall()

    def _tell(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self._lock:
            try:
                with self._database() as database:
                    database.executemany(sql, rows)
            except sqlite3.OperationalError:
                return  # busy or full: what is not remembered is looked for again
            except sqlite3.DatabaseError:
                with self._anew() as database:
                    database.executemany(sql, rows)

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                os.makedirs(self.folder, exist_ok=True)
            except OSError as error:
                raise FilesystemError.of(error, "make", self.folder) from error
            self._connection = sqlite3.connect(f"{self.folder}/index.db", timeout=20, check_same_thread=False)
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        return self._connection

    def _anew(self) -> sqlite3.Connection:
        """The index is damaged. It only says what is known already, so it may go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for ending in ("", "-journal"):
            if os.path.lexists(f"{self.folder}/index.db{ending}"):
                os.unlink(f"{self.folder}/index.db{ending}")
        return self._database()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _hash_what_is_there(fd: int, hasher: blake3) -> int:
    os.lseek(fd, 0, os.SEEK_SET)
    size = 0
    while data := os.read(fd, _CHUNK_BYTES):
        hasher.update(data)
        size += len(data)
    return size


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
