"""How many rows inputs and outputs have, tables made of datasets for steps, and what was checked before a step got them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mlpipe_engine.model.records import CheckRecord
from mlpipe_engine.store.database import Database


class RowQueries:
    def __init__(self, database: Database) -> None:
        self._db = database

    def table(self, key: str) -> str | None:
        """The artifact that holds a dataset as one file; `key` is made of what is read and how."""
        rows = self._db.query("SELECT artifact FROM made_tables WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def counts(self, digests: Iterable[str]) -> dict[str, int]:
        """Rows of those artifacts that are known to be tables."""
        wanted = sorted(set(digests))
        found: dict[str, int] = {}
        for at in range(0, len(wanted), 500):
            part = wanted[at : at + 500]
            rows = self._db.query(
                f"SELECT digest, rows FROM row_counts WHERE digest IN ({','.join('?' * len(part))})", tuple(part)
            )
            found |= {str(digest): int(str(count)) for digest, count in rows}
        return found

    def checks(self, run: int) -> tuple[CheckRecord, ...]:
        """What was expected of the inputs of the steps that a run executed, in the order it was checked."""
        rows = self._db.query("SELECT step, input, severity, holds, text FROM checks WHERE run = ? ORDER BY id", (run,))
        return tuple(
            CheckRecord(step=str(row[0]), input=str(row[1]), severity=str(row[2]), holds=bool(row[3]), text=str(row[4]))
            for row in rows
        )


def put_table(db: sqlite3.Connection, key: str, artifact: str) -> None:
    db.execute("INSERT OR REPLACE INTO made_tables (key, artifact) VALUES (?, ?)", (key, artifact))


def put_counts(db: sqlite3.Connection, counts: Iterable[tuple[str, int]]) -> None:
    db.executemany("INSERT OR REPLACE INTO row_counts (digest, rows) VALUES (?, ?)", list(counts))


def put_checks(db: sqlite3.Connection, run: int, checks: Iterable[CheckRecord]) -> None:
    db.executemany(
        "INSERT INTO checks (run, step, input, severity, holds, text) VALUES (?, ?, ?, ?, ?, ?)",
        [(run, check.step, check.input, check.severity, int(check.holds), check.text) for check in checks],
    )
