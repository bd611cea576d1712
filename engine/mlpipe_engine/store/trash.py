"""What was taken away lies in .mlpipe/trash/<collection>/ under the path it had, for a day, and can be brought back.

A collection writes down every move before it makes it. Rows say first that bytes may be gone, then the bytes go: the reverse of
publishing, so that no row ever vouches for bytes that are not there. Whatever is left half-way is finished by `sweep`.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from mlpipe_engine.errors import FilesystemError, RunNotFoundError
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.share import exclusive

BATCH = 200
KEPT_SECONDS = 86400.0
_LIST = "moves.jsonl"


@dataclass(frozen=True, slots=True)
class Move:
    """`path` is below .mlpipe; `digest` is set for an artifact."""

    path: str
    digest: str = ""


Recheck = Callable[[frozenset[str]], Callable[[Move], bool]]
"""(names that living runs use) -> a test whether a move may still be made."""


class Trash:
    def __init__(self, state_dir: str, database: Database) -> None:
        self._state_dir = state_dir
        self._database = database
        self.folder = os.path.join(state_dir, "trash")

    def new_collection(self) -> str:
        name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        try:
            os.makedirs(os.path.join(self.folder, name))
        except OSError as error:
            raise FilesystemError.of(error, "make the folder", os.path.join(self.folder, name)) from error
        return name

    def take(self, collection: str, moves: Iterable[Move], still: Recheck, deadline: float | None = None) -> list[Move]:
        """Move what may still go, in batches. `still` is asked inside the lock: it reads what is used now and gives a test.

        `deadline` (monotonic): stop between two batches after it. Returns what was moved.
        """
        taken: list[Move] = []
        for batch in _batches(moves):
            if deadline is not None and time.monotonic() >= deadline:
                break
            with exclusive(self._state_dir) as used:
                may_go = still(used)
                going = [move for move in batch if may_go(move) and os.path.lexists(os.path.join(self._state_dir, move.path))]
                if not going:
                    continue
                self.write_list(collection, going)
                with self._database.write() as db:
                    _mark(db, collection, [move.digest for move in going if move.digest])
                for move in going:
                    if self._rename(move.path, collection):
                        taken.append(move)
        return taken

    def write_list(self, collection: str, moves: list[Move]) -> None:
        path = os.path.join(self.folder, collection, _LIST)
        try:
            with open(path, "a", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(json.dumps([move.path, move.digest]) + "\n" for move in moves)
        except OSError as error:
            raise FilesystemError.of(error, "write", path) from error

    def _rename(self, relative: str, collection: str) -> bool:
        source, target = os.path.join(self._state_dir, relative), os.path.join(self.folder, collection, relative)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.isdir(source) and not os.path.islink(source):
                os.chmod(source, 0o755)  # a read-only folder cannot be moved by anyone but root
            os.rename(source, target)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FilesystemError.of(error, "move to the trash", source) from error
        return True

    def collections(self) -> list[str]:
        """Oldest first."""
        try:
            return sorted(name for name in os.listdir(self.folder) if os.path.isdir(os.path.join(self.folder, name)))
        except OSError:
            return []

    def undo(self, collection: str | None = None) -> tuple[str, int, int]:
        """Bring a collection back (the last one): (its name, how many things came back, how many were made again meanwhile)."""
        known = self.collections()
        if not known or (collection is not None and collection not in known):
            raise RunNotFoundError("there is nothing in the trash that could be brought back")
        name = collection or known[-1]
        back = kept = 0
        with exclusive(self._state_dir):
            digests = []
            for move in self._moves(name):
                source, target = os.path.join(self.folder, name, move.path), os.path.join(self._state_dir, move.path)
                if not os.path.lexists(source):
                    continue
                if os.path.lexists(target):
                    kept += 1
                    continue
                self._bring_back(source, target, sealed=bool(move.digest))
                digests.append(move.digest)
                back += 1
            with self._database.write() as db:
                db.executemany(
                    "UPDATE artifacts SET collected = '' WHERE digest = ?", [(digest,) for digest in digests if digest]
                )
                restore_runs(db, name)
        self._remove(name)
        self.sweep()
        return name, back, kept

    def _bring_back(self, source: str, target: str, *, sealed: bool) -> None:
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
            if sealed and os.path.isdir(target):
                os.chmod(target, 0o555)
        except OSError as error:
            raise FilesystemError.of(error, "bring back", target) from error

    def _moves(self, collection: str) -> Iterator[Move]:
        try:
            with open(os.path.join(self.folder, collection, _LIST), encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().split("\n")
        except OSError:
            return
        for line in lines:
            with suppress(ValueError, TypeError):
                path, digest = json.loads(line)
                yield Move(str(path), str(digest))

    def empty(self, older_than_seconds: float = KEPT_SECONDS) -> int:
        """Unlink for good. Returns the bytes that were freed."""
        freed = 0
        for name in self.collections():
            folder = os.path.join(self.folder, name)
            with suppress(OSError):
                if time.time() - os.stat(folder).st_mtime < older_than_seconds:
                    continue
                freed += tree_size(folder)[0]
                with self._database.write() as db:
                    purge_runs(db, name)
                self._remove(name)
        return freed

    def _remove(self, name: str) -> None:
        folder = os.path.join(self.folder, name)
        for inner, _, _ in os.walk(folder):
            with suppress(OSError):
                os.chmod(inner, 0o755)
        shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Finish what a killed collection left: rows whose bytes are still in their place, empty collections."""
        artifacts = os.path.join(self._state_dir, "artifacts")
        with exclusive(self._state_dir):
            rows = self._database.query("SELECT digest FROM artifacts WHERE collected <> ''")
            there = [str(row[0]) for row in rows if os.path.lexists(artifact_path(artifacts, str(row[0])))]
            if there:
                with self._database.write() as db:
                    db.executemany("UPDATE artifacts SET collected = '' WHERE digest = ?", [(digest,) for digest in there])
            for name in self.collections():
                if not os.listdir(os.path.join(self.folder, name)):
                    with suppress(OSError):
                        os.rmdir(os.path.join(self.folder, name))


def artifact_path(root: str, digest: str) -> str:
    hexes = digest.partition(":")[2]
    return f"{root}/{hexes[:2]}/{hexes}"


def _batches(moves: Iterable[Move]) -> Iterator[list[Move]]:
    batch: list[Move] = []
    for move in moves:
        batch.append(move)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _mark(db: sqlite3.Connection, collection: str, digests: list[str]) -> None:
    db.executemany("UPDATE artifacts SET collected = ? WHERE digest = ?", [(collection, digest) for digest in digests])
    if digests:
        drop_up_to_date(db)


def drop_up_to_date(db: sqlite3.Connection) -> None:
    """Entries of the short way may rest on what goes; one that is being made now is not written."""
    db.execute("DELETE FROM uptodate")
    db.execute("UPDATE uptodate_epoch SET n = n + 1")


def restore_runs(db: sqlite3.Connection, collection: str) -> None:
    db.execute(
        "UPDATE results SET withdrawn = '' WHERE withdrawn = 'removed' AND run IN (SELECT number FROM runs WHERE removed = ?)",
        (collection,),
    )
    db.execute("UPDATE runs SET removed = '' WHERE removed = ?", (collection,))


def purge_runs(db: sqlite3.Connection, collection: str) -> None:
    """Rows of removed runs go with the trash, but for those that runs still in the list refer to."""
    gone = [
        number for (number,) in db.execute("SELECT number FROM runs WHERE removed = ?", (collection,)).fetchall()
        if not db.execute(
            "SELECT 1 FROM runs WHERE mirrors = ? AND removed = '' UNION ALL"
            " SELECT 1 FROM step_runs s JOIN runs r ON r.number = s.run WHERE s.reused_from = ? AND r.removed = '' LIMIT 1",
            (number, number),
        ).fetchone()
    ]  # fmt: skip
    db.executemany("DELETE FROM runs WHERE parent = (SELECT id FROM runs WHERE number = ?)", [(number,) for number in gone])
    for table, column in (("metrics", "run"), ("files", "run"), ("models", "run"), ("results", "run"), ("runs", "number")):
        db.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(number,) for number in gone])


def tree_size(path: str) -> tuple[int, int]:
    """(bytes on disk, files) of a file or folder; blocks, not lengths, so that holes count for nothing. Links are not followed."""
    try:
        info = os.lstat(path)
    except OSError:
        return 0, 0
    size, count = info.st_blocks * 512, 1
    folders = [path] if os.path.isdir(path) and not os.path.islink(path) else []
    while folders:
        try:
            with os.scandir(folders.pop()) as listing:
                for item in listing:
                    with suppress(OSError):
                        size += item.stat(follow_symlinks=False).st_blocks * 512
                        count += 1
                        if item.is_dir(follow_symlinks=False):
                            folders.append(item.path)
        except OSError:
            continue
    return size, count
