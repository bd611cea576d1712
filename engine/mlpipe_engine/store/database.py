"""The connection to state.db: opening, the write lock, transactions, checkpoints.

Everything that writes goes through `Database.write`, which takes a file lock first: SQLite's own busy handler starves writers,
and SQLite before 3.51.3 can corrupt a WAL when a checkpoint meets a writer. Schema lives in `schema`, queries beside it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError, LockTimeoutError, StoreDamagedError, StoreTooNewError
from mlpipe_engine.store.network import needs_rollback
from mlpipe_engine.store.uptodate import KEPT_LOG_BYTES, LOG_BYTES, merge_long_log

VERSION = 16
APPLICATION_ID = 0x6D6C7069  # "mlpi"
_GIVE_UP_SECONDS = 30.0
_OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables, which the schema uses."""


class Database:
    """One connection; used by one thread. `write()` may wait for other processes, reading never does."""

    def __init__(
        self, state_dir: str, connection: sqlite3.Connection, private_copy: str = "", *, read_only: bool = False
    ) -> None:
        self._state_dir = state_dir
        self._connection = connection
        self._longest_log = LOG_BYTES
        self._private_copy = private_copy
        self.read_only = read_only
        self._first_write: Callable[[], sqlite3.Connection] | None = None
        """Makes the connection that can write, where this one was opened for looking."""
        self._lock_fd = -1

    @classmethod
    def open(cls, state_dir: str, *, create: bool, same_thread: bool = True, network: bool = False) -> Database | None:
        """The store of a project, or None when there is none yet and `create` is False. `network`: may lie on a network file system.

        Raises StoreTooNewError, StoreDamagedError, FilesystemError, LockTimeoutError. A store that cannot be written is opened for reading.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise EnvironmentProblem(
                f"this Python was built with SQLite {sqlite3.sqlite_version}; expected 3.37 or newer",
                hint="Use a newer Python: uv python install 3.13, or the one of your distribution's next release.",
            )
        path = os.path.join(state_dir, "state.db")
        exists = os.path.lexists(path)
        if not exists and os.path.exists(os.path.join(state_dir, "journal", "results.jsonl")):
            raise StoreDamagedError(f"store damaged: {path} is missing, but the journal beside it names results")
        if not exists and not create:
            return None
        if exists and (os.path.islink(path) or not os.path.isfile(path)):
            raise StoreDamagedError(f"store damaged: {path} is not a file")
        read_only = exists and not (os.access(path, os.W_OK) and os.access(state_dir, os.W_OK))
        if create and read_only:
            raise FilesystemError(
                f"cannot write {path}: it belongs to uid {os.stat(path).st_uid}, and uid {os.geteuid()} may only read it here",
                hint="Change the owner or the mode of .mlpipe, or copy the project to a place you may write to.",
            )
        try:
            if not exists:
                os.makedirs(state_dir, exist_ok=True)
            elif os.path.getsize(path) == 0 and _has_content(state_dir):
                raise StoreDamagedError(f"store damaged: {path} is empty, but outputs lie beside it")
            if read_only:
                return cls(state_dir, *readable(path, same_thread=same_thread), read_only=True)
            looking = None if create else _for_looking(path, same_thread=same_thread)
            if looking is not None:
                found = cls(state_dir, looking)
                found._first_write = lambda: _connect(
                    path, rollback=needs_rollback(state_dir, allowed=network), same_thread=same_thread
                )
                return found
            connection = _connect(path, rollback=needs_rollback(state_dir, allowed=network), same_thread=same_thread)
            database = cls(state_dir, connection)
            database._ensure_schema(path)
        except OSError as error:
            raise FilesystemError.of(error, "open the store") from error
        except sqlite3.DatabaseError as error:
            raise translated(error, path) from error
        return database

    def _ensure_schema(self, path: str) -> None:
        version = self._number("PRAGMA user_version")
        if version > VERSION:
            raise StoreTooNewError(path, version, VERSION)
        if version == VERSION:
            return
        with self._locked():
            from mlpipe_engine.store.migrating import bring_up_to_date

            bring_up_to_date(self._connection, self._state_dir)

    def query(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """All rows; keeps no transaction open."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise translated(error, os.path.join(self._state_dir, "state.db")) from error

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when the block ends (synchronous=FULL). Keep it short: no hashing, no file work inside.

        `durable=False`: not before the next one that is; for what nobody is told of until then.
        """
        try:
            if self._first_write is not None:
                looking, self._connection, self._first_write = self._connection, self._first_write(), None
                looking.close()
            with self._locked():
                self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
                if durable:
                    with suppress(sqlite3.Error):
                        self._longest_log = merge_long_log(self._connection, self._state_dir, self._longest_log)
        except sqlite3.DatabaseError as error:
            raise translated(error, os.path.join(self._state_dir, "state.db")) from error

    def changes_seen(self) -> int:
        """A number that moves when another connection committed something."""
        return self._number("PRAGMA data_version")

    def _number(self, sql: str) -> int:
        return int(str(self.query(sql)[0][0]))

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        if self._private_copy:
            from shutil import rmtree

            rmtree(self._private_copy, ignore_errors=True)

    def __del__(self) -> None:
        self.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._lock_fd < 0:
            try:
                self._lock_fd = os.open(os.path.join(self._state_dir, "meta.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise FilesystemError.of(error, "open", os.path.join(self._state_dir, "meta.lock")) from error
        _acquire(self._lock_fd)
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def checkpoint(self) -> None:
        """Merge the log into the store, so that the one file has everything. At the end of a run that made something."""
        with self._locked(), suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _connect(path: str, *, rollback: bool, same_thread: bool = True) -> sqlite3.Connection:
    from urllib.parse import quote

    uri = f"file:{quote(path)}?mode=rwc"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0, check_same_thread=same_thread)
    _settle(connection)
    if _is_foreign(connection):
        connection.close()
        raise StoreDamagedError(f"store damaged: {path} is a database of another program")
    journal = "DELETE" if rollback else "WAL"
    for pragma in (f"journal_mode={journal}", "synchronous=FULL", "wal_autocheckpoint=0", f"journal_size_limit={KEPT_LOG_BYTES}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _is_foreign(connection: sqlite3.Connection) -> bool:
    """Tables, but no version of ours; asked again in case somebody made the schema between the two questions."""

    def version() -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    return version() == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None and version() == 0


def _has_content(state_dir: str) -> bool:
    artifacts = os.path.join(state_dir, "artifacts")
    return (
        os.path.isdir(artifacts) and bool(os.listdir(artifacts)) and not os.path.exists(os.path.join(state_dir, "state.db-wal"))
    )


def _settle(connection: sqlite3.Connection) -> None:
    for pragma in ("busy_timeout=30000", "mmap_size=0", "trusted_schema=OFF", "cell_size_check=ON", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _for_looking(path: str, *, same_thread: bool) -> sqlite3.Connection | None:
    """A connection that cannot write: one that can would merge the log into the store when it is closed. None: it takes more than a look."""
    from urllib.parse import quote

    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=30.0, check_same_thread=same_thread
    )
    try:
        if int(connection.execute("PRAGMA user_version").fetchone()[0]) == VERSION:
            _settle(connection)
            return connection
    except sqlite3.DatabaseError:
        pass
    connection.close()
    return None


def readable(path: str, *, same_thread: bool) -> tuple[sqlite3.Connection, str]:
    """A store this user may only read, and the folder of a private copy of it ("" where it can be read in place).

    In place where it has this program's schema and SQLite can follow its writers. A log (-wal) whose shared memory cannot be made
    here, and a store of an older schema, are read in a copy: ignoring the log would hide finished runs.
    """
    from urllib.parse import quote

    log = f"{path}-wal"
    places = [f"file:{quote(path)}?mode=ro"]
    if not os.path.exists(log) or os.path.getsize(log) == 0:
        places.append(f"file:{quote(path)}?immutable=1")
    for place in places:
        connection = sqlite3.connect(place, uri=True, isolation_level=None, timeout=30.0, check_same_thread=same_thread)
        try:
            found = int(connection.execute("PRAGMA user_version").fetchone()[0])
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except sqlite3.OperationalError:
            connection.close()
            continue
        if found > VERSION:
            connection.close()
            raise StoreTooNewError(path, found, VERSION)
        if found == VERSION:
            _settle(connection)
            return connection, ""
        connection.close()
        break
    from mlpipe_engine.store.migrating import migrated_copy

    copy = migrated_copy(path)
    connection = _connect(os.path.join(copy, "state.db"), rollback=False, same_thread=same_thread)
    connection.execute("PRAGMA query_only=ON")
    return connection, copy


def _acquire(fd: int) -> None:
    """Polls, because flock queues are not fair; names nobody after a time-out but says which file is locked."""
    pause, waited = 0.0005, 0.0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if waited >= _GIVE_UP_SECONDS:
                raise LockTimeoutError(
                    f"another mlpipe-tui process has been writing to this project for {_GIVE_UP_SECONDS:.0f} s",
                    hint="Find it with `fuser .mlpipe/meta.lock`; go on with it (kill -CONT) or end it.",
                ) from None
            time.sleep(pause)
            waited += pause
            pause = min(pause * 1.5, 0.01)


def translated(error: sqlite3.DatabaseError, path: str) -> Exception:
    """Foreign errors end here: disk trouble is the machine's, a malformed file is the store's."""
    text = str(error)
    if "disk is full" in text or "database or disk is full" in text:
        return FilesystemError(
            f"cannot write {path}: No space left on device", hint="Free some disk space, then run the same command again."
        )
    if "readonly" in text:
        return FilesystemError(
            f"cannot write {path}: the project is read-only for this user", hint="Change the owner or the mode of .mlpipe."
        )
    if "disk I/O error" in text or "unable to open" in text:
        return FilesystemError(f"cannot use {path}: {text}", hint="Check the disk and the permissions of .mlpipe.")
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return StoreDamagedError(f"store damaged: {path}: {text}")
    return error


class PerThread:
    """Hands each thread its own Database of the same project; sqlite3 connections do not cross threads."""

    def __init__(self, state_dir: str, *, network: bool = False) -> None:
        self._state_dir = state_dir
        self._network = network
        self._local = threading.local()

    def get(self, *, create: bool) -> Database | None:
        found: Database | None = getattr(self._local, "database", None)
        if found is None or (create and found.read_only):
            found = Database.open(self._state_dir, create=create, network=self._network)
            self._local.database = found
        return found

    def close(self) -> None:
        found: Database | None = getattr(self._local, "database", None)
        if found is not None:
            found.close()
            self._local.database = None
