"""Changes somebody accepted by hand: rows that are added and revoked, never removed.

Reading takes no lock; the writing functions take the connection of an open transaction.
"""

from __future__ import annotations

import sqlite3

from mlpipe_engine.errors import RunNotFoundError
from mlpipe_engine.model import wire
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.records import Acceptance
from mlpipe_engine.store.database import Database

_SELECT = (
    "SELECT a.id, a.pipeline, a.step, a.result, res.run, a.from_fingerprint, a.from_snapshot, a.fingerprint, a.snapshot, a.causes,"
    " a.who, a.because, a.created_at, a.revoked_at, a.revoked_by FROM acceptances a JOIN results res ON res.id = a.result"
)


class AcceptanceQueries:
    def __init__(self, database: Database) -> None:
        self._db = database

    def valid_for(self, fingerprint: str) -> Acceptance | None:
        """The newest acceptance of exactly this manifest that was not revoked and whose result still serves."""
        sql = f"{_SELECT} WHERE a.fingerprint = ? AND a.revoked_at IS NULL AND res.withdrawn = '' ORDER BY a.id DESC LIMIT 1"
        rows = self._db.query(sql, (fingerprint,))
        return _acceptance(rows[0]) if rows else None

    def all(self) -> tuple[Acceptance, ...]:
        """Newest first, revoked ones too."""
        return tuple(map(_acceptance, self._db.query(f"{_SELECT} ORDER BY a.id DESC")))

    def get(self, number: int) -> Acceptance:
        rows = self._db.query(f"{_SELECT} WHERE a.id = ?", (number,))
        if not rows:
            raise RunNotFoundError(f"there is no acceptance {number}", hint="List them with `mlpipe-tui accept --list`.")
        return _acceptance(rows[0])


def insert_acceptance(
    db: sqlite3.Connection, *, pipeline: str, step: str, result: int, old: tuple[str, str], new: tuple[str, str],
    causes: tuple[Cause, ...], who: str, because: str, now: str,
) -> int:  # fmt: skip
    """`old`, `new`: (fingerprint, snapshot) of the result that is kept and of what it now stands for."""
    cursor = db.execute(
        "INSERT INTO acceptances (pipeline, step, result, from_fingerprint, from_snapshot, fingerprint, snapshot, causes, who, because,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (pipeline, step, result, *old, *new, wire.dump(causes), who, because, now),
    )
    return int(cursor.lastrowid or 0)


def revoke(db: sqlite3.Connection, number: int, who: str, now: str) -> None:
    db.execute("UPDATE acceptances SET revoked_at = ?, revoked_by = ? WHERE id = ? AND revoked_at IS NULL", (now, who, number))
    db.execute("DELETE FROM uptodate")  # what was known to be up to date may have rested on it
    db.execute("UPDATE uptodate_epoch SET n = n + 1")


def _acceptance(row: tuple[object, ...]) -> Acceptance:
    return Acceptance(
        id=int(str(row[0])), pipeline=str(row[1]), step=str(row[2]), result_id=int(str(row[3])), run_number=int(str(row[4])),
        from_fingerprint=str(row[5]), from_snapshot=str(row[6]), fingerprint=str(row[7]), snapshot=str(row[8]),
        causes=wire.load(tuple, str(row[9])), who=str(row[10]), because=str(row[11]), created_at=str(row[12]),
        revoked_at=None if row[13] is None else str(row[13]), revoked_by=None if row[14] is None else str(row[14]),
    )  # fmt: skip
