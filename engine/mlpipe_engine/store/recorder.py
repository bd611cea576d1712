"""Groups what a runner has to record: one shared sync and one transaction for many steps.

The caller goes on at once; `then` is called, from the recorder's thread, when what it covers is durable (DESIGN "Durability is
grouped"). Order on disk: bytes, folder, row. A write that fails ends the recorder: later writes fail with the same error.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.journal import Journal, Line
from mlpipe_engine.store.step_writes import StepWrite, StepWriter

Statement = Callable[[sqlite3.Connection], object]


@dataclass(frozen=True, slots=True)
class _Entry:
    statement: Statement | StepWrite
    then: Callable[[], None] | None
    durable: bool
    line: Callable[[sqlite3.Connection], Line] | None = None


class Recorder:
    """`sync` makes the bytes of published artifacts durable; it is called before a transaction that names any.

    `merges`: at its end the log of the store is merged into the one file. The first write after that waits for the disk.
    """

    def __init__(
        self, state_dir: str, sync: Callable[[], None], journal: Journal | None = None, *, window_seconds: float = 0.07,
        merges: bool = True,
    ) -> None:  # fmt: skip
        self._state_dir = state_dir
        self._sync = sync
        self._journal = journal
        self._writer = StepWriter(journal)
        self._window = window_seconds
        self._merges = merges
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._failed: BaseException | None = None
        self._on_failure: Callable[[], None] | None = None
        self._after_group: Callable[[], None] | None = None
        self._before_close: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._loop, name="recorder", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # all that Python says of it; the limit was of processes or of memory
            raise FilesystemError(
                "cannot start a thread: the system refused it",
                hint="Raise the limit of processes or of memory (ulimit -u, ulimit -v).",
            ) from error

    def syncs_with(self, sync: Callable[[], None]) -> None:
        """For one that was made before the artifact store of its run. Prereq: nothing was put yet."""
        self._sync = sync

    def on_failure(self, callback: Callable[[], None]) -> None:
        self._on_failure = callback

    def after_group(self, callback: Callable[[], None]) -> None:
        """Called, in the recorder's thread, when every `then` of a group was."""
        self._after_group = callback

    def put(
        self,
        statement: Statement | StepWrite,
        then: Callable[[], None] | None = None,
        *,
        durable: bool = False,
        line: Callable[[sqlite3.Connection], Line] | None = None,
    ) -> None:
        """`durable`: bytes of artifacts must be on disk before this row is. `line` is read from the rows in the same transaction
        and stands in the journal once that is committed. Raises what an earlier write failed with."""
        self.check()
        self._queue.put(_Entry(statement, then, durable, line))

    def check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def flush(self) -> None:
        """Wait until everything put so far is durable. Raises what a write failed with."""
        done = threading.Event()
        self._hurry.set()
        self._queue.put(_Entry(lambda _: None, done.set, False))
        while not done.wait(0.05):
            if self._failed is not None or not self._thread.is_alive():
                break
        self._hurry.clear()
        self.check()

    def before_close(self, wait: Callable[[], None]) -> None:
        """`wait` ends when somebody beside us has put their last entry."""
        self._before_close.append(wait)

    def close(self) -> None:
        """Write what is left and end the thread; never raises."""
        for wait in self._before_close:
            wait()
        self._hurry.set()
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        database: Database | None = None
        try:
            open_for_more = True
            while open_for_more:
                group, open_for_more = self._collect()
                if not group:
                    continue
                if database is None:
                    database = Database.open(self._state_dir, create=True)
                assert database is not None
                self._write(database, group)
            if database is not None and self._merges:
                database.checkpoint()
        except BaseException as error:  # the runner thread reports it
            self._failed = error if isinstance(error, Exception) else RuntimeError(repr(error))
            if isinstance(error, OSError):
                self._failed = FilesystemError.of(error, "record the run")
            if self._on_failure is not None:
                self._on_failure()
        finally:
            if database is not None:
                database.close()

    def _collect(self) -> tuple[list[_Entry], bool]:
        first = self._queue.get()
        if first is None:
            return [], False
        group = [first]
        self._hurry.wait(self._window)  # asleep for all of it: to be woken for every entry costs more than to write it
        while True:
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return group, True
            if entry is None:
                return group, False
            group.append(entry)

    def _write(self, database: Database, group: list[_Entry]) -> None:
        if any(entry.durable for entry in group):
            self._sync()
        with database.write() as connection:
            lines = self._execute(connection, group)
        if self._journal is not None:
            self._journal.append(*lines)
        for entry in group:
            if entry.then is not None:
                entry.then()
        if self._after_group is not None:
            self._after_group()

    def _execute(self, connection: sqlite3.Connection, group: list[_Entry]) -> list[Line]:
        """In the order in which it was put: changes of steps that follow each other go together."""
        lines: list[Line] = []
        steps: list[StepWrite] = []
        for entry in group:
            if isinstance(entry.statement, StepWrite):
                steps.append(entry.statement)
                continue
            if steps:
                lines += self._writer.write(connection, steps)
                steps = []
            entry.statement(connection)
            if entry.line is not None:
                lines.append(entry.line(connection))
        return lines + self._writer.write(connection, steps) if steps else lines
