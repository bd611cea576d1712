"""Registered datasets in the store: versions with their manifests, profiles by content. Rows in, records out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from mlpipe_engine.model import wire
from mlpipe_engine.model.datasets import ColumnSchema, DatasetDefinition, DatasetVersionRecord, Found, Profile
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import pack, pairs, unpack, unpairs

_COLUMNS = "name, version, definition, content, file_count, size_bytes, columns, expectations, created_at, description, tags"


class DatasetQueries:
    def __init__(self, database: Database) -> None:
        self._db = database

    def versions(self, name: str | None = None) -> tuple[DatasetVersionRecord, ...]:
        """Of one name or of all, by name, oldest version first."""
        where, values = ("WHERE name = ?", (name,)) if name is not None else ("", ())
        rows = self._db.query(f"SELECT {_COLUMNS} FROM dataset_versions {where} ORDER BY name, version", values)
        return tuple(map(_record, rows))

    def names(self) -> tuple[str, ...]:
        return tuple(str(row[0]) for row in self._db.query("SELECT DISTINCT name FROM dataset_versions ORDER BY name"))

    def latest(self) -> tuple[DatasetVersionRecord, ...]:
        """The newest version of each name."""
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM dataset_versions v WHERE version ="
            " (SELECT max(version) FROM dataset_versions w WHERE w.name = v.name) ORDER BY name"
        )
        return tuple(map(_record, rows))

    def version(self, name: str, version: int | None) -> DatasetVersionRecord | None:
        """None as version: the newest."""
        chosen, values = (
            ("AND version = ?", (name, version)) if version is not None else ("ORDER BY version DESC LIMIT 1", (name,))
        )
        rows = self._db.query(f"SELECT {_COLUMNS} FROM dataset_versions WHERE name = ? {chosen}", values)
        return _record(rows[0]) if rows else None

    def highest(self, name: str) -> int:
        """The highest number ever given under the name; 0 for a new one."""
        rows = self._db.query("SELECT highest FROM dataset_names WHERE name = ?", (name,))
        return int(str(rows[0][0])) if rows else 0

    def manifest(self, content: str) -> tuple[Found, ...]:
        """The files a version was registered with; `local` is "" in them."""
        rows = self._db.query("SELECT body FROM dataset_manifests WHERE content = ?", (content,))
        if not rows:
            return ()
        return tuple(Found(path, address, size, digest, "") for path, address, size, digest in json.loads(unpack(rows[0][0])))

    def profile(self, key: str) -> Profile | None:
        rows = self._db.query("SELECT body FROM dataset_profiles WHERE key = ?", (key,))
        return wire.load(Profile, unpack(rows[0][0])) if rows else None


def _record(row: Sequence[object]) -> DatasetVersionRecord:
    name, version, definition, content, count, size, columns, expectations, created, description, tags = row
    return DatasetVersionRecord(
        name=str(name),
        version=int(str(version)),
        definition=wire.load(DatasetDefinition, str(definition)),
        content=str(content),
        file_count=int(str(count)),
        size_bytes=int(str(size)),
        schema=tuple(ColumnSchema(column, kind) for column, kind in unpairs(columns)),
        expectations=wire.load(tuple, str(expectations)),
        created_at=str(created),
        description=str(description),
        tags=unpairs(tags),
    )


def put_version(db: sqlite3.Connection, record: DatasetVersionRecord, manifest: Sequence[Found]) -> None:
    body = json.dumps([[item.path, item.address, item.size, item.digest] for item in manifest], separators=(",", ":"))
    db.execute("INSERT OR IGNORE INTO dataset_manifests (content, body) VALUES (?, ?)", (record.content, pack(body)))
    db.execute(
        "INSERT INTO dataset_names (name, highest) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET highest = excluded.highest",
        (record.name, record.version),
    )
    db.execute(
        f"INSERT INTO dataset_versions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.name, record.version, wire.dump(record.definition), record.content, record.file_count, record.size_bytes,
            pairs((column.name, column.type) for column in record.schema), wire.dump(record.expectations), record.created_at,
            record.description, pairs(record.tags),
        ),
    )  # fmt: skip


def describe(db: sqlite3.Connection, name: str, version: int, description: str, tags: Sequence[tuple[str, str]]) -> None:
    db.execute(
        "UPDATE dataset_versions SET description = ?, tags = ? WHERE name = ? AND version = ?",
        (description, pairs(tags), name, version),
    )


def remove(db: sqlite3.Connection, name: str) -> int:
    """All versions of a name; returns how many. Numbers are not given again."""
    removed = db.execute("DELETE FROM dataset_versions WHERE name = ?", (name,)).rowcount
    db.execute("DELETE FROM dataset_manifests WHERE content NOT IN (SELECT content FROM dataset_versions)")
    return removed


def put_profile(db: sqlite3.Connection, key: str, profile: Profile) -> None:
    db.execute("INSERT OR REPLACE INTO dataset_profiles (key, body) VALUES (?, ?)", (key, pack(wire.dump(profile))))
