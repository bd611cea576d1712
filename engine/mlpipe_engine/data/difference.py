"""What differs between two datasets: definition, files, columns, rows and statistics. Rows are compared out of core.

Both sides are written to temporary Parquet files first, so that each is read once and neither has to fit into memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from mlpipe_engine.data import duck, profiling
from mlpipe_engine.data.expressions import identifier, literal
from mlpipe_engine.data.profiling import scalar
from mlpipe_engine.data.tabular import Table
from mlpipe_engine.errors import FilesystemError, InputError
from mlpipe_engine.model import wire
from mlpipe_engine.model.datasets import (
    ChangedRow,
    ColumnProfile,
    ColumnSchema,
    DatasetDefinition,
    DatasetDiff,
    Found,
    Moved,
    ParquetReader,
    RowsDiff,
    SchemaChange,
    StatisticChange,
    consumed_digest,
    lowered,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXAMPLES = 5
_STATISTICS = ("count", "missing", "distinct", "minimum", "maximum", "mean", "std")


@dataclass(frozen=True)
class Side:
    """One of the two. `found` is None where the files it had are no longer there: then only definition and names are compared."""

    label: str
    definition: DatasetDefinition
    manifest: tuple[Found, ...]
    """The files it stands for; `local` is not needed."""
    found: tuple[Found, ...] | None
    schema: tuple[ColumnSchema, ...] = ()
    """As registered; used where the files are gone."""


def moved(before: Sequence[Found], after: Sequence[Found]) -> Moved:
    """Files by their name within the dataset."""
    old, new = ({item.path: item.digest for item in side} for side in (before, after))
    return Moved(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path])),
    )


def compare(
    before: Side, after: Side, *, key: Sequence[str] = (), expected_key: Sequence[str] = (), scratch: str | None = None, rows: bool = True,
) -> DatasetDiff:  # fmt: skip
    """`key`: columns that name a row; `expected_key`: without one, if they do. Raises InputError when rows cannot be read, or a
    key that was asked for is not unique."""
    found = DatasetDiff(
        before=before.label,
        after=after.label,
        definition=definition_changes(before.definition, after.definition),
        files=moved(before.manifest, after.manifest),
    )
    tables = before.definition.kind == after.definition.kind == "tabular"
    if not tables:
        return found
    if before.found is None or after.found is None or not rows:
        return replace(found, schema=schema_changes(_schema(before, scratch), _schema(after, scratch)))
    if before.definition.recipe == after.definition.recipe and _consumed(before) == _consumed(after):
        return found
    try:
        if scratch is not None:
            os.makedirs(scratch, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="diff-", dir=scratch)
    except OSError as error:
        raise FilesystemError.of(error, "make a temporary folder", scratch) from error
    try:
        return _with_rows(found, before, after, tuple(key), tuple(expected_key), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _schema(side: Side, scratch: str | None) -> tuple[ColumnSchema, ...]:
    if side.schema or not side.found:
        return side.schema
    with Table.open(side.definition, side.found, scratch=scratch) as table:
        return table.columns


def _consumed(side: Side) -> str:
    assert side.found is not None
    return consumed_digest(side.definition, side.found)


def definition_changes(before: DatasetDefinition, after: DatasetDefinition) -> tuple[tuple[str, str, str], ...]:
    """(part, before, after), options of the reader one by one."""
    changes = []
    for name in ("kind", "paths", "operations", "partition_format", "timestamp", "partition_timestamp", "validate"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            changes.append((name, _shown(old), _shown(new)))
    if type(before.reader) is not type(after.reader):
        changes.append(("reader", type(before.reader).__name__, type(after.reader).__name__))
    elif before.reader is not None and after.reader is not None:
        for item in fields(before.reader):
            old, new = getattr(before.reader, item.name), getattr(after.reader, item.name)
            if old != new:
                changes.append((f"reader.{item.name}", _shown(old), _shown(new)))
    return tuple(changes)


def _shown(value: object) -> str:
    if isinstance(value, str) or value is None:
        return repr(value)
    if isinstance(value, tuple) and all(isinstance(member, str) for member in value):
        return ", ".join(map(repr, value)) or "none"
    return wire.dump(lowered(value)) if not isinstance(value, bool | int | float) else str(value)


def _with_rows(
    found: DatasetDiff, before: Side, after: Side, key: tuple[str, ...], expected_key: tuple[str, ...], folder: str
) -> DatasetDiff:  # fmt: skip
    paths, schemas, profiles = [], [], []
    for number, side in enumerate((before, after)):
        assert side.found is not None
        path = os.path.join(folder, f"side{number}.parquet")
        with Table.open(side.definition, side.found, scratch=folder) as table:
            schemas.append(table.columns)
            table.write_parquet(path)
        paths.append(path)
        profiles.append(_statistics(path, folder))
    schema = schema_changes(schemas[0], schemas[1])
    connection = duck.connect(folder)
    try:
        duck.lock(connection, paths, folder)
        with duck.translated("compare the rows"):
            try:
                rows = _rows(connection, paths, schemas, key or expected_key)
            except InputError as problem:
                if key:
                    raise
                whole = _rows(connection, paths, schemas, ())
                rows = replace(whole, note=f"{problem.what}; whole rows are compared")
    finally:
        connection.close()
    return replace(found, schema=schema, rows=rows, statistics=_statistic_changes(profiles[0], profiles[1]))


def schema_changes(before: Sequence[ColumnSchema], after: Sequence[ColumnSchema]) -> tuple[SchemaChange, ...]:
    old, new = ({column.name: column.type for column in side} for side in (before, after))
    names = [*old, *(name for name in new if name not in old)]
    return tuple(SchemaChange(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name))


def _statistics(path: str, folder: str) -> dict[str, ColumnProfile]:
    definition = DatasetDefinition(kind="tabular", paths=(path,), reader=ParquetReader())
    found = (Found(os.path.basename(path), path, os.path.getsize(path), "", path),)
    with Table.open(definition, found, scratch=folder) as table:
        return {column.name: column for column in profiling.profile(table, found, full=True).columns}


def _statistic_changes(before: dict[str, ColumnProfile], after: dict[str, ColumnProfile]) -> tuple[StatisticChange, ...]:
    changes = []
    for name in before.keys() & after.keys():
        for statistic in _STATISTICS:
            old, new = getattr(before[name], statistic), getattr(after[name], statistic)
            if old != new:
                changes.append(StatisticChange(column=name, statistic=statistic, before=old, after=new))
    order = list(before)
    return tuple(sorted(changes, key=lambda change: (order.index(change.column), _STATISTICS.index(change.statistic))))


# -- rows ------------------------------------------------------------------------------------------------------------------


def _rows(
    connection: DuckDBPyConnection, paths: Sequence[str], schemas: Sequence[Sequence[ColumnSchema]], key: tuple[str, ...]
) -> RowsDiff:
    old, new = ({column.name: column.type for column in schema} for schema in schemas)
    common = [name for name in old if name in new]
    for name in key:
        if name not in common:
            raise InputError(f"the key {name!r} is no column of both sides", field="key", expected=f"some of {', '.join(common)}")
    # Where a column has another type now, values are the same if they read the same.
    chosen = ", ".join(
        identifier(name) if old[name] == new[name] else f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}"
        for name in common
    )
    for view, path in zip(("b", "a"), paths, strict=True):
        connection.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT {chosen or '1'} FROM read_parquet({literal(path)})")
    counts = [int(_one(connection, f"SELECT count(*) FROM {view}")) for view in ("b", "a")]
    if not common:
        return RowsDiff(key=key, before=counts[0], after=counts[1], added=counts[1], removed=counts[0], changed=0)
    if key:
        return _keyed(connection, key, common, counts)
    added = int(_one(connection, "SELECT count(*) FROM (SELECT * FROM a EXCEPT ALL SELECT * FROM b)"))
    removed = int(_one(connection, "SELECT count(*) FROM (SELECT * FROM b EXCEPT ALL SELECT * FROM a)"))
    examples = [
        _examples(connection, f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}") if count else ()
        for one, other, count in (("a", "b", added), ("b", "a", removed))
    ]
    return RowsDiff(
        key=(), before=counts[0], after=counts[1], added=added, removed=removed, changed=0,
        added_examples=examples[0], removed_examples=examples[1],
    )  # fmt: skip


def _keyed(connection: DuckDBPyConnection, key: tuple[str, ...], common: Sequence[str], counts: Sequence[int]) -> RowsDiff:
    keys = ", ".join(map(identifier, key))
    for view, word in (("b", "before"), ("a", "after")):
        twice = connection.execute(f"SELECT {keys} FROM {view} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1").fetchall()
        if twice:
            raise InputError(
                f"the key {', '.join(key)} is not unique in what was there {word}: {', '.join(map(str, twice[0]))} comes more than once",
                field="key", hint="Name more columns, or compare without a key.",
            )  # fmt: skip
    same_key = " AND ".join(f"b.{identifier(name)} IS NOT DISTINCT FROM a.{identifier(name)}" for name in key)
    others = [name for name in common if name not in key]
    differs = " OR ".join(f"b.{identifier(name)} IS DISTINCT FROM a.{identifier(name)}" for name in others) or "false"
    added, removed = (
        f"SELECT * FROM {one} WHERE NOT EXISTS (SELECT 1 FROM {other} WHERE {same_key})"
        for one, other in (("a", "b"), ("b", "a"))
    )
    pairs = f"FROM b JOIN a ON {same_key} WHERE {differs}"
    values = ", ".join(f"b.{identifier(name)}, a.{identifier(name)}" for name in others)
    shown = ", ".join(f"b.{identifier(name)}" for name in key)
    changed = int(_one(connection, f"SELECT count(*) {pairs}")) if others else 0
    rows = connection.execute(f"SELECT {shown}, {values} {pairs} ORDER BY {shown} LIMIT {EXAMPLES}").fetchall() if changed else []
    return RowsDiff(
        key=key,
        before=counts[0],
        after=counts[1],
        added=int(_one(connection, f"SELECT count(*) FROM ({added})")),
        removed=int(_one(connection, f"SELECT count(*) FROM ({removed})")),
        changed=changed,
        added_examples=_examples(connection, added),
        removed_examples=_examples(connection, removed),
        changed_examples=tuple(_changed_row(row, len(key), others) for row in rows),
    )


def _changed_row(row: tuple[Any, ...], width: int, names: Sequence[str]) -> ChangedRow:
    pairs = zip(row[width::2], row[width + 1 :: 2], strict=True)
    changes = [(name, scalar(old), scalar(new)) for name, (old, new) in zip(names, pairs, strict=True) if old != new]
    return ChangedRow(tuple(map(scalar, row[:width])), tuple(changes))


def _examples(connection: DuckDBPyConnection, sql: str) -> tuple[tuple[Any, ...], ...]:
    rows = connection.execute(f"SELECT * FROM ({sql}) ORDER BY ALL LIMIT {EXAMPLES}").fetchall()
    return tuple(tuple(map(scalar, row)) for row in rows)


def _one(connection: DuckDBPyConnection, sql: str) -> Any:
    return connection.execute(sql).fetchall()[0][0]
