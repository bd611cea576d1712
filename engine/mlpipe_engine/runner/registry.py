"""Registered datasets: what a name and a number stand for, whether their files are still those, and new versions.

A version pins the definition and the content it had. Used by the engine's verbs and by whatever resolves inputs of steps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlpipe_engine.errors import DatasetNotFoundError, InputError, nearest
from mlpipe_engine.model.datasets import (
    ColumnSchema,
    DatasetDefinition,
    DatasetVersionRecord,
    Expectation,
    Found,
    manifest_digest,
)
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.store import datasets as rows

if TYPE_CHECKING:
    from mlpipe_engine.store.database import Database

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def check_name(name: str) -> str:
    """Raises InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(f"the dataset name {name!r}", field="name", expected="up to 100 letters, digits, '_', '.' or '-'")
    return name


def parse_name(text: str) -> tuple[str, int | None]:
    """`flights`, `flights:3` or `flights:latest`. Raises InputError."""
    name, colon, version = text.partition(":")
    if not colon or version == "latest":
        return name, None
    if not version.isdecimal():
        raise InputError(f"the version {version!r} of {name!r}", field="version", expected="a number or latest")
    return name, int(version)


def lookup(database: Database | None, name: str, version: int | None = None) -> DatasetVersionRecord:
    """None as version: the newest. Raises DatasetNotFoundError that names what there is."""
    queries = rows.DatasetQueries(database) if database is not None else None
    found = queries.version(name, version) if queries is not None else None
    if found is not None:
        return found
    names = queries.names() if queries is not None else ()
    if queries is not None and name in names:
        known = [str(record.version) for record in queries.versions(name)]
        raise DatasetNotFoundError(f"dataset {name!r} has no version {version}", expected=f"one of {', '.join(known[-20:])}")
    close = nearest(name, names)
    raise DatasetNotFoundError(
        f"Cannot find dataset registered with name {name!r}" + (f"; did you mean {close!r}?" if close else ""),
        expected=f"one of {', '.join(names[:20])}" if names else "a registered dataset",
        hint="Register one: mlpipe-tui data register NAME PATH, or dataset.register(ws, name).",
    )


def register(
    database: Database,
    name: str,
    definition: DatasetDefinition,
    found: Sequence[Found],
    schema: Sequence[ColumnSchema] = (),
    *,
    expectations: Sequence[Expectation] = (),
    description: str = "",
    tags: Sequence[tuple[str, str]] = (),
    create_new_version: bool = False,
) -> tuple[DatasetVersionRecord, bool]:
    """The version, and whether it is new. The newest version is given back as it is where definition and content are the same.

    Raises InputError when the name is taken by something else and `create_new_version` is False.
    """
    check_name(name)
    content = manifest_digest(found)
    with database.write() as db:
        queries = rows.DatasetQueries(database)
        newest = queries.version(name, None)
        if newest is not None and _same(newest, definition, content, expectations):
            return newest, False
        if newest is not None and not create_new_version:
            raise InputError(
                f"There is already a dataset registered under name {name!r}",
                hint="Specify create_new_version=True (--new-version) to register it as a new version.",
            )
        record = DatasetVersionRecord(
            name=name,
            version=queries.highest(name) + 1,
            definition=definition,
            content=content,
            file_count=len(found),
            size_bytes=sum(item.size for item in found),
            schema=tuple(schema),
            expectations=tuple(expectations),
            created_at=utc_now(),
            description=description,
            tags=tuple(sorted(tags)),
        )
        rows.put_version(db, record, found)
    return record, True


def _same(newest: DatasetVersionRecord, definition: DatasetDefinition, content: str, expectations: Sequence[Expectation]) -> bool:
    return (newest.definition.digest, newest.content, newest.expectations) == (definition.digest, content, tuple(expectations))


def unregister(database: Database, name: str) -> int:
    """All versions; returns how many. Raises DatasetNotFoundError."""
    lookup(database, name)
    with database.write() as db:
        return rows.remove(db, name)


def describe(
    database: Database, name: str, version: int, *, description: str | None, tags: Sequence[tuple[str, str]] | None
) -> DatasetVersionRecord:
    """Change what is said of a version; None leaves it. Raises DatasetNotFoundError."""
    record = lookup(database, name, version)
    with database.write() as db:
        rows.describe(
            db,
            name,
            version,
            record.description if description is None else description,
            record.tags if tags is None else sorted(tags),
        )
    return lookup(database, name, version)
