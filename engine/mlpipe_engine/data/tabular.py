"""A definition and the files found for it, as a table: compiled to one SQL text over a locked DuckDB, read when asked.

`Table.open` reads headers and, for text, infers types; rows are read by the methods. Who wants bytes for addresses asks `places`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpipe_engine.data import delimited, files, readers
from mlpipe_engine.data.delimited import FILE_COLUMN, ROW_COLUMN
from mlpipe_engine.data.expressions import identifier, literal, to_sql
from mlpipe_engine.errors import FilesystemError, InputError, MlpipeError
from mlpipe_engine.model.datasets import (
    ColumnSchema,
    DatasetDefinition,
    DelimitedReader,
    DropColumns,
    FilterRows,
    Found,
    KeepColumns,
    Operation,
    RecentRows,
    SampleRows,
    SkipRows,
    SplitRows,
    TakeRows,
    columns_of,
)

if TYPE_CHECKING:
    import polars
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_ORDER = readers.ORDER_COLUMN


class Table:
    """Rows of a dataset. A context manager: leaving it gives back the connection and the temporary files."""

    def __init__(self, definition: DatasetDefinition, scratch: str, connection: DuckDBPyConnection) -> None:
        self.definition = definition
        self.connection = connection
        self.scratch = scratch
        self.sql = ""
        """A SELECT that gives the rows, in order."""
        self.columns: tuple[ColumnSchema, ...] = ()
        self.notes: tuple[str, ...] = ()
        """What a person should know of how the files were read."""
        self._base: readers.Base | None = None
        self._own_scratch = False

    @classmethod
    def open(
        cls,
        definition: DatasetDefinition,
        found: Sequence[Found],
        *,
        scratch: str | None = None,
        locked: bool = True,
        memory_bytes: int | None = None,
        threads: int | None = None,
    ) -> Table:
        """`found`: the files in the order that `Places.find` gave. `scratch`: a folder for temporary files, made if need be.

        Raises InputError naming the file and the line for headers and values that cannot be read, FilesystemError.
        """
        from mlpipe_engine.data import duck

        try:
            if scratch is not None:
                os.makedirs(scratch, exist_ok=True)
            folder = tempfile.mkdtemp(prefix="table-", dir=scratch)
        except OSError as error:
            raise FilesystemError.of(error, "make a temporary folder", scratch) from error
        try:
            table = cls(definition, os.path.realpath(folder), duck.connect(folder, memory_bytes=memory_bytes, threads=threads))
            table._compile(found, locked)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return table

    def _compile(self, found: Sequence[Found], locked: bool) -> None:
        from mlpipe_engine.data import duck

        made = compiled(self.definition, found, self.scratch, self.connection)
        self._base, self.sql, self.columns, self.notes = made.base, made.sql, made.columns, made.notes
        if locked:
            duck.lock(self.connection, made.base.readable, self.scratch)

    # -- reading -------------------------------------------------------------------------------------------------------

    def query(self, sql: str, doing: str = "read the dataset") -> list[tuple[Any, ...]]:
        """Rows of a SELECT of ours that reads from `self.sql`. Raises InputError naming file, line and column."""
        with self._errors(doing):
            return self.connection.execute(sql).fetchall()

    def raw(self, sql: str, doing: str) -> list[tuple[Any, ...]]:
        """Like `query`, but sums that leave the range of numbers are DuckDB's own error, for who can ask otherwise."""
        import duckdb

        with self._errors(doing):
            try:
                return self.connection.execute(sql).fetchall()
            except duckdb.OutOfRangeException as error:
                overflow: duckdb.OutOfRangeException = error
        raise overflow

    def rows(self, limit: int | None = None) -> list[tuple[Any, ...]]:
        return self.query(self.sql + (f" LIMIT {limit}" if limit is not None else ""))

    def count(self) -> int:
        """Rows. Values are not looked at: one that does not fit its type is found where it is read."""
        return int(self.query(f"SELECT count(*) FROM ({self.sql})")[0][0])

    def relation(self) -> DuckDBPyRelation:
        return self.connection.sql(self.sql)

    def polars(self) -> polars.DataFrame:
        """Needs nothing but Polars."""
        import polars

        with self._errors("read the dataset"):
            return polars.DataFrame(self.relation())

    def pandas(self) -> Any:
        """Needs pandas. The timestamp column, where there is one, becomes the index."""
        _needs("pandas", "to_pandas_dataframe")
        with self._errors("read the dataset"):
            frame = self.relation().df()
        timestamp = self.definition.timestamp
        return frame.set_index(timestamp) if timestamp is not None else frame

    def arrow(self) -> Any:
        """Needs pyarrow."""
        _needs("pyarrow", "to_arrow")
        with self._errors("read the dataset"):
            return self.relation().to_arrow_table()

    def write_parquet(self, target: str) -> int:
        """One Parquet file, whole or not at all; returns the number of rows. Raises InputError, FilesystemError."""
        return self._write(target, "FORMAT parquet, COMPRESSION zstd")

    def write_csv(self, target: str, separator: str = ",") -> int:
        return self._write(target, f"FORMAT csv, HEADER, DELIMITER {literal(separator)}")

    def write_partitions(self, folder: str, keys: Sequence[str]) -> int:
        """Folders key=value/ with Parquet files in them. `folder` must not exist."""
        by = ", ".join(map(identifier, keys))
        return self._write(folder, f"FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({by}), OVERWRITE true")

    def _write(self, target: str, options: str) -> int:
        made = os.path.join(self.scratch, f"out{len(os.listdir(self.scratch))}")
        with self._errors("write the dataset"):
            done = self.connection.execute(f"COPY ({self.sql}) TO {literal(made)} ({options})").fetchall()
        try:
            os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
            part = f"{target}.{os.path.basename(self.scratch)}.part"
            shutil.move(made, part)
            os.replace(part, target)
        except OSError as error:
            raise FilesystemError.of(error, "write", target) from error
        return int(done[0][0])

    def problems(self) -> tuple[tuple[str, int], ...]:
        """(column, values that became null because they did not fit), where that was asked for. Reads all files."""
        reader, scanned = self.definition.reader, self._base.scan if self._base is not None else None
        if not isinstance(reader, DelimitedReader) or reader.on_error != "null" or scanned is None:
            return ()
        asked = {
            name: f"count(*) FILTER ({identifier(name)} IS NOT NULL AND"
            f" {delimited.conversion(identifier(name), kind, lenient=True)} IS NULL)"
            for name, kind in scanned.types.items()
            if kind.name not in ("string", "stream")
        }
        if not asked:
            return ()
        row = self.query(f"SELECT {', '.join(asked.values())} FROM ({scanned.texts})")[0]
        return tuple((name, int(count)) for name, count in zip(asked, row, strict=True) if count)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        import duckdb

        try:
            yield
        except MlpipeError:
            raise
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except Exception as error:
            # Polars and pyarrow wrap what DuckDB says of a stream in errors of their own.
            if not isinstance(error, duckdb.Error) and "Error" not in str(error):
                raise
            raise self._explained(error, doing) from error

    def _explained(self, error: Exception, doing: str) -> MlpipeError:
        from mlpipe_engine.data import duck

        known = duck.explained(error, doing)
        if isinstance(known, FilesystemError) or self._base is None:
            return known
        return readers.explain(self.definition, self._base, self.connection) or known

    def close(self) -> None:
        self.connection.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Compiled:
    """A dataset as SQL over a connection that holds its temporary tables."""

    base: readers.Base
    sql: str
    columns: tuple[ColumnSchema, ...]
    notes: tuple[str, ...]


def compiled(
    definition: DatasetDefinition, found: Sequence[Found], scratch: str, connection: DuckDBPyConnection, tag: str = ""
) -> Compiled:
    """`tag` tells several datasets in one connection apart. Raises InputError."""
    from mlpipe_engine.data import duck

    if definition.reader is None:
        raise InputError("a file dataset has no rows", hint="Use Dataset.Tabular to read files as a table.")
    if definition.depends_on_clock:
        raise AssertionError("stop the clock first: definition.at(now)")
    kept, notes = files.pruned(definition, found)
    by_hash = any(isinstance(operation, SampleRows | SplitRows) for operation in definition.operations)
    with duck.translated("read the dataset"):
        base = readers.base(definition, kept, scratch, connection, tag, identify=by_hash)
        described = connection.execute(f"DESCRIBE {base.sql}").fetchall()
    columns = [ColumnSchema(name, kind) for name, kind, *_ in described if name not in (FILE_COLUMN, ROW_COLUMN)]
    plan = _Plan(base, columns, by_hash)
    for operation in definition.operations:
        plan.apply(operation)
    _check_timestamp(definition, plan.columns)
    return Compiled(base, plan.finished(), tuple(plan.columns), notes)


def _needs(module: str, method: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        from mlpipe_engine.errors import EnvironmentProblem

        raise EnvironmentProblem(f"{method} needs {module}, which is not installed", hint=f"Install it: pip install {module}")


def _check_timestamp(definition: DatasetDefinition, columns: Sequence[ColumnSchema]) -> None:
    """The time filters were given columns of times. Whether they exist was seen when the filters were compiled."""
    kinds = {column.name: column.type for column in columns}
    for name in (definition.timestamp, definition.partition_timestamp):
        kind = kinds.get(name or "")
        if kind is not None and not kind.startswith(("TIMESTAMP", "DATE")):
            raise InputError(
                f"the timestamp column {name!r} holds {kind}", expected="dates or times", field="timestamp",
                hint="Set its type: set_column_types={..: DataType.to_datetime()}.",
            )  # fmt: skip


# -- operations ----------------------------------------------------------------------------------------------------------


class _Plan:
    """SQL that grows by one layer per operation, with the columns it has so far."""

    def __init__(self, base: readers.Base, columns: list[ColumnSchema], by_hash: bool) -> None:
        """`by_hash`: an operation will choose rows by hashing which row of which file they are."""
        self.columns = columns
        self._sorted = not by_hash or base.keeps_order
        self._sql = base.identified if by_hash else base.sql

    def apply(self, operation: Operation) -> None:
        if isinstance(operation, KeepColumns | DropColumns):
            self._choose(operation)
        elif isinstance(operation, FilterRows):
            for name in sorted(columns_of(operation.expression)):
                self._known(name, "filter")
            self._layer(f"SELECT * FROM ({self._sql}) WHERE {to_sql(operation.expression)}")
        elif isinstance(operation, SkipRows | TakeRows):
            word = "OFFSET" if isinstance(operation, SkipRows) else "LIMIT"
            self._layer(f"SELECT * FROM ({self._sql}){self._order()} {word} {operation.count}")
        elif isinstance(operation, SampleRows | SplitRows):
            self._by_hash(operation)
        elif isinstance(operation, RecentRows):
            raise AssertionError("stop the clock first: definition.at(now)")

    def _choose(self, operation: KeepColumns | DropColumns) -> None:
        for name in operation.names:
            self._known(name, "columns")
        if isinstance(operation, KeepColumns):
            kinds = {column.name: column for column in self.columns}
            self.columns = [kinds[name] for name in operation.names]
        else:
            self.columns = [column for column in self.columns if column.name not in operation.names]
            if not self.columns:
                raise InputError("all columns are dropped", field="columns", expected="at least one that is kept")

    def _known(self, name: str, field: str) -> None:
        names = [column.name for column in self.columns]
        if name not in names:
            raise delimited.unknown_column(name, names, field)

    def _by_hash(self, operation: SampleRows | SplitRows) -> None:
        rank = f"md5_number(concat({literal(str(operation.seed) + ':')}, {identifier(readers.NAME_COLUMN)}, ':', {identifier(ROW_COLUMN)}))"
        if isinstance(operation, SampleRows):
            # 128 bits of hash, of which 64 are compared: a share of all numbers is a share of all rows.
            bound = int(operation.probability * (1 << 64))
            top = f"CAST({rank} // 18446744073709551616 AS UHUGEINT)"
            self._layer(f"SELECT * FROM ({self._sql}) WHERE {top} < {bound}::UHUGEINT")
            return
        numbered = f"SELECT *, row_number() OVER (ORDER BY {rank}, {_ORDER}) - 1 AS __rank, count(*) OVER () AS __count FROM ({self._sql})"
        low, high = (f"round({bound!r}::DOUBLE * __count)" for bound in (operation.low, operation.high))
        self._layer(f"SELECT * EXCLUDE (__rank, __count) FROM ({numbered}) WHERE __rank >= {low} AND __rank < {high}")
        self._sorted = False

    def _layer(self, sql: str) -> None:
        self._sql = sql

    def _order(self) -> str:
        return "" if self._sorted else f" ORDER BY {_ORDER}"

    def finished(self) -> str:
        names = ", ".join(identifier(column.name) for column in self.columns)
        return f"SELECT {names} FROM ({self._sql}){self._order()}"


# -- one question more -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """Some rows for people."""

    columns: tuple[ColumnSchema, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    """There are further rows."""


def page(
    definition: DatasetDefinition, found: Sequence[Found], count: int, *, offset: int = 0, scratch: str | None = None
) -> Page:
    """The first rows, or those from `offset` on; only as much of the files is read as they need."""
    shown = replace(definition, operations=(*definition.operations, SkipRows(offset)) if offset else definition.operations)
    with Table.open(shown, found, scratch=scratch) as table:
        rows = table.rows(count + 1)
        return Page(table.columns, tuple(rows[:count]), len(rows) > count)


def now_utc() -> str:
    """For `DatasetDefinition.at`."""
    from datetime import UTC, datetime

    return datetime.now(UTC).replace(tzinfo=None).isoformat()
