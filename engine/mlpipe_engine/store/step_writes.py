"""What a group of steps changes in the store, as a few statements for all of them instead of a few for each.

Several changes of one step in a group become one; rows are bound to one statement a table, so that the thread that records gives up
and takes back the interpreter's lock a few times a group and not ten times a step. Called by `recorder` inside its transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlpipe_engine.model.plan import Undeclared
from mlpipe_engine.store import journal as journals
from mlpipe_engine.store.documents import pack, pairs
from mlpipe_engine.store.journal import Journal, Line
from mlpipe_engine.store.results import copy_metrics, packed

_VARIABLES = 900
"""Of one statement: what every SQLite takes."""
_CAN_JOIN = sqlite3.sqlite_version_info >= (3, 33)
"""UPDATE ... FROM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewResult:
    """A result as it is found again. Its number is given when it is written."""

    step: str
    pipeline: str
    fingerprint: str
    base_key: str
    snapshot: str
    structure: str
    reads: tuple[tuple[str, str], ...] | None
    outputs: tuple[tuple[str, str], ...]
    seconds: float
    finished_at: str
    undeclared: Undeclared
    withdrawn: str
    """Why it may not serve again; "" when it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWrite:
    """One change of one step."""

    run: int
    index: int
    mark: int
    """Grows with every change of the run, so that followers can ask for what is new."""
    columns: dict[str, object]
    documents: tuple[tuple[str, str], ...] = ()
    """(digest, text)."""
    artifacts: tuple[tuple[object, ...], ...] = ()
    """Rows of the table."""
    result: NewResult | None = None
    copied: tuple[int, str, str] | None = None
    """(run, step, step here) of a reused result, whose metrics, tags and files stand in the new run too."""
    told: bool = False
    """The journal gets a line of it."""


class StepWriter:
    """One per recorder."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._stored: set[str] = set()
        self._texts: dict[str, str] = {}
        self._telling: dict[int, frozenset[str]] = {}

    def write(self, db: sqlite3.Connection, writes: Sequence[StepWrite]) -> list[Line]:
        """Returns the lines of the journal, read from the rows as they are now."""
        self._documents(db, writes)
        rows = (row for write in writes for row in write.artifacts)
        _insert(
            db, "INSERT INTO artifacts (digest, kind, size_bytes, file_count, signature, created_at) VALUES", rows,
            " ON CONFLICT (digest) DO UPDATE SET signature = excluded.signature, collected = ''",
        )  # fmt: skip
        numbers = self._results(db, writes)
        self._steps(db, writes, numbers)
        for write in writes:
            if write.copied is not None and self._has_something(db, *write.copied[:2]):
                copy_metrics(db, write.copied[0], write.run, write.copied[1], write.copied[2])
        return self._lines(db, writes, numbers)

    def _documents(self, db: sqlite3.Connection, writes: Iterable[StepWrite]) -> None:
        self._texts = {digest: text for write in writes for digest, text in write.documents}
        new = [(digest, pack(text)) for digest, text in self._texts.items() if digest not in self._stored]
        _insert(db, "INSERT OR IGNORE INTO documents (digest, body) VALUES", new)
        self._stored.update(digest for digest, _ in new)

    def _results(self, db: sqlite3.Connection, writes: Sequence[StepWrite]) -> list[int]:
        """Their numbers, 0 for a write without one."""
        if not any(write.result for write in writes):
            return [0] * len(writes)
        last = int(db.execute("SELECT coalesce(max(id), 0) FROM results").fetchone()[0])
        numbers, rows = [], []
        for write in writes:
            found = write.result
            if found is None:
                numbers.append(0)
                continue
            last += 1
            numbers.append(last)
            rows.append((
                last, write.run, found.step, found.pipeline, found.fingerprint, found.base_key, found.snapshot, found.structure,
                packed(found.reads), pairs(found.outputs), found.seconds, found.finished_at, packed(found.undeclared.files or None),
                packed(found.undeclared.modules), found.undeclared.audit, found.withdrawn,
            ))  # fmt: skip
        _insert(
            db, "INSERT INTO results (id, run, step, pipeline, fingerprint, base_key, snapshot, structure, reads, outputs, seconds,"
            " finished_at, undeclared, modules, audit, withdrawn) VALUES", rows,
        )  # fmt: skip
        return numbers

    def _steps(self, db: sqlite3.Connection, writes: Sequence[StepWrite], numbers: list[int]) -> None:
        merged: dict[tuple[int, int], dict[str, object]] = {}
        for write, number in zip(writes, numbers):
            columns = merged.setdefault((write.run, write.index), {})
            columns.update(write.columns)
            columns["changed"] = write.mark
            if number:
                columns["result"] = number
        alike: dict[tuple[str, ...], list[tuple[object, ...]]] = {}
        for key, columns in merged.items():
            alike.setdefault(tuple(columns), []).append((*key, *columns.values()))
        for names, rows in alike.items():
            _update(db, names, rows)

    def _has_something(self, db: sqlite3.Connection, run: int, step: str) -> bool:
        """Whether a step of an earlier run has anything to be copied. A run that is final is asked once."""
        known = self._telling.get(run)
        if known is None:
            rows = db.execute(
                "SELECT step FROM metrics WHERE run = ?1 UNION SELECT origin FROM metrics WHERE run = ?1"
                " UNION SELECT step FROM files WHERE run = ?1 UNION SELECT name FROM step_runs WHERE run = ?1 AND tags <> ''",
                (run,),
            ).fetchall()
            known = frozenset(str(row[0]) for row in rows)
            if db.execute("SELECT 1 FROM runs WHERE number = ? AND finished_at IS NOT NULL", (run,)).fetchone():
                self._telling[run] = known
        return step in known

    def _lines(self, db: sqlite3.Connection, writes: Sequence[StepWrite], numbers: list[int]) -> list[Line]:
        if self._journal is None:
            return []
        told = [(write, number) for write, number in zip(writes, numbers) if write.told]
        made = [number for _, number in told if number]
        results = journals.result_lines(db, self._journal, min(made), max(made), self._texts) if made else {}
        steps = journals.step_lines(db, [(write.run, write.index) for write, number in told if not number])
        return [results[number] if number else steps[write.run, write.index] for write, number in told]


def _insert(db: sqlite3.Connection, head: str, rows: Iterable[tuple[object, ...]], tail: str = "") -> None:
    for marks, values in _bound(rows):
        db.execute(f"{head} {marks}{tail}", values)


def _update(db: sqlite3.Connection, names: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    if not _CAN_JOIN or len(rows) == 1:
        sql = f"UPDATE step_runs SET {', '.join(f'{name} = ?' for name in names)} WHERE run = ? AND idx = ?"
        db.executemany(sql, [(*row[2:], *row[:2]) for row in rows])
        return
    new = ", ".join(f"new_{name}" for name in names)
    setting = ", ".join(f"{name} = new_{name}" for name in names)
    for marks, values in _bound(rows):
        db.execute(
            f"WITH new (new_run, new_idx, {new}) AS (VALUES {marks}) UPDATE step_runs SET {setting} FROM new"
            " WHERE run = new_run AND idx = new_idx",
            values,
        )


def _bound(rows: Iterable[tuple[object, ...]]) -> Iterable[tuple[str, list[object]]]:
    """Marks and values of as many rows as one statement takes."""
    left = list(rows)
    while left:
        count = max(1, _VARIABLES // len(left[0]))
        some, left = left[:count], left[count:]
        mark = f"({', '.join('?' * len(some[0]))})"
        yield ", ".join([mark] * len(some)), [value for row in some for value in row]
