"""From an older schema to the one of this program: a backup first, then all steps in one exclusive transaction.

Killed at any moment, the file is the old one or the new one. Called by `database` with the write lock held.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import suppress

from mlpipe_engine.errors import FilesystemError, StoreTooNewError, UsageError
from mlpipe_engine.store.locks import is_held

KEPT_BACKUPS = 2


def bring_up_to_date(connection: sqlite3.Connection, state_dir: str) -> None:
    """Make the schema in a new file, or migrate an older one. Prereq: the write lock is held.

    Raises UsageError while a run of an older program is going on.
    """
    from mlpipe_engine.store.database import APPLICATION_ID, VERSION

    path = os.path.join(state_dir, "state.db")
    found = _version(connection)
    if found == VERSION:
        return
    if found > VERSION:
        raise StoreTooNewError(path, found, VERSION)
    if found > 0:
        _refuse_while_running(state_dir, found, VERSION)
        _back_up(connection, path, found)
    from mlpipe_engine.store import blank

    connection.execute("BEGIN EXCLUSIVE")
    try:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        if found > 0 or not blank.make(connection):
            from mlpipe_engine.store.schema import migrate

            migrate(connection)
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_while_running(state_dir: str, found: int, known: int) -> None:
    folder = os.path.join(state_dir, "locks", "runs")
    try:
        living = [name for name in os.listdir(folder) if is_held(os.path.join(folder, name))]
    except OSError:
        return
    if living:
        raise UsageError(
            f"run {living[0][:8]} is going on with an older mlpipe-tui; the store is not changed from schema {found} to {known} under it",
            hint="Wait until it has ended (or cancel it with the older version), then run the same command again.",
        )


def _back_up(connection: sqlite3.Connection, path: str, version: int) -> None:
    """state.db.backup-v<N>: whole or absent, because it appears by rename. The last two are kept."""
    backup = f"{path}.backup-v{version}"
    temporary = f"{backup}.part"
    try:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        connection.execute("VACUUM INTO ?", (temporary,))
        fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, backup)
        for old in backups(path)[:-KEPT_BACKUPS]:
            os.unlink(old)
    except OSError as error:
        raise FilesystemError.of(error, "back up the store to", backup) from error


def backups(path: str) -> list[str]:
    """Oldest schema first."""
    folder, name = os.path.split(path)
    found = [
        (int(match[1]), item)
        for item in os.listdir(folder)
        if (match := re.fullmatch(re.escape(name) + r"\.backup-v(\d+)", item))
    ]
    return [os.path.join(folder, item) for _, item in sorted(found)]


def migrated_copy(path: str) -> str:
    """A folder with a private copy of a store this user may only read, brought to the schema of this program."""
    folder = tempfile.mkdtemp(prefix="mlpipe-tui-store-")
    try:
        for _ in range(5):
            before = _state(path)
            for name in (path, f"{path}-wal"):
                if os.path.exists(name):
                    shutil.copyfile(name, os.path.join(folder, os.path.basename(name)))
            if _state(path) == before:
                break
        connection = sqlite3.connect(os.path.join(folder, "state.db"), isolation_level=None)
        try:
            bring_up_to_date(connection, folder)
        finally:
            connection.close()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _state(path: str) -> list[tuple[int, int]]:
    found = []
    for name in (path, f"{path}-wal"):
        with suppress(OSError):
            info = os.stat(name)
            found.append((info.st_size, info.st_mtime_ns))
    return found
