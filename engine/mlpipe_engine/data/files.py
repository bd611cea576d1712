"""The files of a dataset as rows: choosing among them by operations, and the columns that addresses add.

Needs no engine: files are thousands, not millions, and a file dataset has to be resolved where nothing else is imported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlpipe_engine.data.expressions import evaluate
from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import (
    DatasetDefinition,
    DropColumns,
    FilterRows,
    Found,
    KeepColumns,
    Operation,
    SampleRows,
    SkipRows,
    SplitRows,
    TakeRows,
    columns_of,
)
from mlpipe_engine.model.partitions import PartitionFormat, hive_values

FILE_COLUMNS = ("Path", "Size", "LastModifiedTime")
"""What a filter over a file dataset may use, beside the columns of its partition_format."""


@dataclass(frozen=True)
class PathColumns:
    """Columns made from addresses, with their DuckDB types and one row a file."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    unmatched: int = 0
    """Files whose address the partition_format does not match."""


def path_columns(definition: DatasetDefinition, found: Sequence[Found]) -> PathColumns:
    """Raises InputError for a name that comes twice."""
    include_path, text, hive = definition.path_options
    names: list[str] = ["Path"] if include_path else []
    types = ["VARCHAR"] * len(names)
    rows: list[list[object]] = [[item.address] if include_path else [] for item in found]
    unmatched = 0
    if text is not None:
        parser = PartitionFormat.parse(text)
        names += parser.columns
        types += ["TIMESTAMP" if name == parser.date_column else "VARCHAR" for name in parser.columns]
        for row, item in zip(rows, found, strict=True):
            row += (
                datetime.fromisoformat(value) if value is not None and name == parser.date_column else value
                for name, value in zip(parser.columns, parser.values(item.address), strict=True)
            )
            unmatched += not parser.matches(item.address)
    if hive:
        keys = list(dict.fromkeys(key for item in found for key, _ in hive_values(item.address)))
        values = [dict(hive_values(item.address)) for item in found]
        for key in keys:
            whole = all((row.get(key) or "0").isdecimal() and len(row.get(key) or "") < 19 for row in values)
            names.append(key)
            types.append("BIGINT" if whole else "VARCHAR")
            for row, given in zip(rows, values, strict=True):
                value = given.get(key)
                row.append(int(value) if whole and value is not None else value)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"two columns made from the path are called {sorted(twice)[0]!r}", hint="Give one of them another name.")
    return PathColumns(tuple(names), tuple(types), tuple(map(tuple, rows)), unmatched)


def pruned(definition: DatasetDefinition, found: Sequence[Found]) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """Files that the first filters cannot rule out by columns made from the path, and what to tell. One file always stays.

    Only filters that come before anything that counts rows may leave files out.
    """
    columns = path_columns(definition, found)
    notes = []
    if columns.unmatched:
        count = f"{columns.unmatched} of {len(found)} files do" if columns.unmatched > 1 else f"1 of {len(found)} files does"
        notes.append(f"{count} not match the partition_format; their columns made from the path are null")
    filters = []
    for operation in definition.operations:
        if isinstance(operation, FilterRows) and columns_of(operation.expression) <= set(columns.names):
            filters.append(operation.expression)
        elif not isinstance(operation, FilterRows | KeepColumns | DropColumns):
            break
    if not filters or len(found) < 2:
        return tuple(found), tuple(notes)
    kept = tuple(
        item
        for item, row in zip(found, columns.rows, strict=True)
        if all(evaluate(expression, dict(zip(columns.names, row, strict=True))) for expression in filters)
    )
    return kept or (found[0],), tuple(notes)


def chosen(definition: DatasetDefinition, found: Sequence[Found]) -> tuple[Found, ...]:
    """The files of a file dataset after its operations, in order. Raises InputError."""
    kept = list(found)
    for operation in definition.operations:
        kept = _applied(operation, kept, definition)
    return tuple(kept)


def _applied(operation: Operation, kept: list[Found], definition: DatasetDefinition) -> list[Found]:
    if isinstance(operation, SkipRows):
        return kept[operation.count :]
    if isinstance(operation, TakeRows):
        return kept[: operation.count]
    if isinstance(operation, SampleRows):
        bound = int(operation.probability * (1 << 64))
        return [item for item in kept if _rank(operation.seed, item.path) >> 64 < bound]
    if isinstance(operation, SplitRows):
        order = sorted(range(len(kept)), key=lambda at: (_rank(operation.seed, kept[at].path), kept[at].path))
        low, high = (rounded(bound * len(kept)) for bound in (operation.low, operation.high))
        return [kept[at] for at in sorted(order[low:high])]
    if isinstance(operation, FilterRows):
        columns = path_columns(definition, kept)
        return [
            item
            for item, row in zip(kept, columns.rows, strict=True)
            if evaluate(operation.expression, _described(item, operation) | dict(zip(columns.names, row, strict=True))) is True
        ]
    raise InputError(f"{type(operation).__name__} works on rows, not on files", hint="Use Dataset.Tabular for tables.")


def _described(item: Found, operation: FilterRows) -> dict[str, object]:
    row: dict[str, object] = {"Path": item.address, "Size": item.size}
    if "LastModifiedTime" in columns_of(operation.expression):
        row["LastModifiedTime"] = datetime.fromtimestamp(os.stat(item.local).st_mtime, UTC).replace(tzinfo=None)
    return row


def rounded(value: float) -> int:
    """Half away from zero, as DuckDB rounds."""
    return int(value + 0.5)


def _rank(seed: int, path: str) -> int:
    return int.from_bytes(
        hashlib.md5(f"{seed}:{path}".encode("utf-8", "surrogateescape"), usedforsecurity=False).digest(), "little"
    )
