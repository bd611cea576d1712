"""Datastores that were registered in code, the default one, and what was delivered where."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from mlpipe_engine.model.datastores import DatastoreSpec
from mlpipe_engine.store.database import Database

_DEFAULT = "default_datastore"


def registered(database: Database) -> tuple[DatastoreSpec, ...]:
    rows = database.query("SELECT name, url, settings FROM datastores ORDER BY name")
    return tuple(DatastoreSpec.of(str(name), str(url), json.loads(str(settings))) for name, url, settings in rows)


def register(database: Database, spec: DatastoreSpec, now: str) -> None:
    """Replaces one of the same name."""
    settings = json.dumps(dict((*spec.options, *spec.credentials)), sort_keys=True)
    with database.write() as db:
        db.execute("INSERT OR REPLACE INTO datastores VALUES (?, ?, ?, ?)", (spec.name, spec.url, settings, now))


def unregister(database: Database, name: str) -> bool:
    """False when it is not there. It is no longer the default one either."""
    with database.write() as db:
        db.execute("DELETE FROM project WHERE key = ? AND value = ?", (_DEFAULT, name))
        return bool(db.execute("DELETE FROM datastores WHERE name = ?", (name,)).rowcount)


def default(database: Database) -> str | None:
    rows = database.query("SELECT value FROM project WHERE key = ?", (_DEFAULT,))
    return str(rows[0][0]) if rows else None


def set_default(database: Database, name: str) -> None:
    with database.write() as db:
        db.execute("INSERT OR REPLACE INTO project (key, value) VALUES (?, ?)", (_DEFAULT, name))


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
