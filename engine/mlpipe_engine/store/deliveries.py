"""Which output was delivered to which datastore, and what lay there afterwards."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from mlpipe_engine.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An output that lies in a datastore."""

    run: int
    step: str
    output: str
    artifact: str
    address: str
    files: tuple[tuple[str, int, str, str], ...]
    """(path below the address, size, version there, digest)."""
    delivered_at: str

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size, _, _ in self.files)


def insert_delivery(db: sqlite3.Connection, delivery: Delivery) -> None:
    files = json.dumps(delivery.files)
    db.execute(
        "INSERT INTO deliveries (run, step, output, artifact, address, files, file_count, size_bytes, delivered_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            delivery.run, delivery.step, delivery.output, delivery.artifact, delivery.address, files, len(delivery.files),
            delivery.size_bytes, delivery.delivered_at,
        ),
    )  # fmt: skip


_COLUMNS = "run, step, output, artifact, address, files, delivered_at"


def last_to(database: Database, address: str) -> Delivery | None:
    """The newest delivery to an address."""
    rows = database.query(f"SELECT {_COLUMNS} FROM deliveries WHERE address = ? ORDER BY id DESC LIMIT 1", (address,))
    return _delivery(rows[0]) if rows else None


def of_run(database: Database, run: int) -> tuple[Delivery, ...]:
    return tuple(map(_delivery, database.query(f"SELECT {_COLUMNS} FROM deliveries WHERE run = ? ORDER BY id", (run,))))


def _delivery(row: tuple[object, ...]) -> Delivery:
    run, step, output, artifact, address, files, when = row
    return Delivery(
        run=int(str(run)), step=str(step), output=str(output), artifact=str(artifact), address=str(address),
        files=tuple(tuple(item) for item in json.loads(str(files))), delivered_at=str(when),
    )  # fmt: skip
