"""Rows of a query over a database that is a file: DuckDB itself, or SQLite by the standard library.

No engine extension is loaded for either. The database is opened read-only and the query may be one SELECT only.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlpipe_engine.data.expressions import literal
from mlpipe_engine.errors import FilesystemError, InputError
from mlpipe_engine.model.datasets import Found, SqlReader

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SQLITE = b"SQLite format 3\0"
_PARQUET = b"PAR1"
_BATCH = 50_000


def rows(reader: SqlReader, found: Found, scratch: str, connection: DuckDBPyConnection, tag: str = "") -> str:
    """A SELECT over what the query gives. Raises InputError."""
    if _starts_with(found.local, _PARQUET):  # what a server said, kept as a file
        sql = f"SELECT * FROM read_parquet({literal(found.local)})"
    elif is_sqlite(found.local):
        sql = _from_sqlite(reader, found, scratch)
    else:
        sql = _from_duckdb(reader, found, connection, f"__answer{tag}")
    if not reader.column_types:
        return sql
    from mlpipe_engine.data.readers import converted

    names = [row[0] for row in connection.execute(f"DESCRIBE {sql}").fetchall()]
    return f"SELECT {', '.join(converted(reader.column_types, names, reader.on_error == 'null'))} FROM ({sql})"


def is_sqlite(path: str) -> bool:
    return _starts_with(path, _SQLITE)


def _starts_with(path: str, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error


def only_select(query: str, *, explain: bool = False) -> str:
    """The query without a final semicolon. Raises InputError for anything but one SELECT (or EXPLAIN of one)."""
    import duckdb

    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        from mlpipe_engine.data.duck import first_line

        raise InputError(f"the query cannot be read: {first_line(str(error))}", field="query") from None
    kinds = [statement.type.name for statement in statements]
    if kinds == ["SELECT"] or (explain and kinds == ["EXPLAIN"] and _explains_select(query)):
        return query.strip().rstrip(";").rstrip()
    found = "nothing" if not kinds else " and ".join(kinds[:3])
    raise InputError(f"the query is {found}", field="query", expected="one SELECT")


def _explains_select(query: str) -> bool:
    """EXPLAIN ANALYZE carries out what it explains."""
    import re

    rest = re.sub(r"(?is)^\s*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", "", query)
    try:
        return bool(only_select(rest))
    except InputError:
        return False


def _from_duckdb(reader: SqlReader, found: Found, connection: DuckDBPyConnection, name: str) -> str:
    """Into a table of ours: the query runs before the connection is locked, and the file is let go of again."""
    import duckdb

    from mlpipe_engine.data.duck import first_line

    query = only_select(reader.query)
    try:
        connection.execute(f"ATTACH {literal(found.local)} AS source (READ_ONLY)")
        connection.execute("USE source")
        with Deadline(reader.timeout_seconds, connection.interrupt) as deadline:
            connection.execute(f"CREATE TABLE memory.main.{name} AS SELECT * FROM ({query}\n)")
        connection.execute("USE memory")
        connection.execute("DETACH source")
    except duckdb.InterruptException:
        raise deadline.error(reader) from None
    except duckdb.Error as error:
        raise InputError(f"the query over {found.address} failed: {first_line(str(error))}", field="query") from error
    return f"SELECT * FROM memory.main.{name}"


class Deadline:
    """Calls `stop` from a thread of its own when the time is over."""

    def __init__(self, seconds: float, stop: Any) -> None:
        import threading

        self.passed = False
        self._stop = stop
        self._timer = threading.Timer(seconds, self._over) if seconds > 0 else None

    def _over(self) -> None:
        self.passed = True
        self._stop()

    def __enter__(self) -> Deadline:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def error(self, reader: SqlReader) -> BaseException:
        if not self.passed:
            return KeyboardInterrupt()
        return InputError(
            f"the query took longer than {reader.timeout_seconds:g} seconds", field="query_timeout",
            hint="Give it more time (query_timeout=seconds), or ask for less.",
        )  # fmt: skip


# -- SQLite --------------------------------------------------------------------------------------------------------------

_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit"})


def _from_sqlite(reader: SqlReader, found: Found, scratch: str) -> str:
    """By the standard library into Parquet files of ours. Two passes over one state of the database: kinds of values, then values."""
    import polars

    database = sqlite3.connect(f"file:{_uri(found.local)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    try:
        database.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        database.close()
        raise InputError(f"{found.address} cannot be read: {error}") from error
    database.set_authorizer(_only_reading)
    end = time.monotonic() + reader.timeout_seconds if reader.timeout_seconds > 0 else None
    database.set_progress_handler(lambda: int(end is not None and time.monotonic() > end), 10_000)
    try:
        names, kinds = _kinds(database, reader.query)
        schema = {name: _polars_type(kind) for name, kind in zip(names, kinds, strict=True)}
        paths = []
        for number, batch in enumerate(_batches(database, reader.query)):
            data = {
                name: [_fitted(row[at], kind) for row in batch]
                for at, (name, kind) in enumerate(zip(names, kinds, strict=True))
            }  # fmt: skip
            path = os.path.join(scratch, f"query{number}.parquet")
            polars.DataFrame(data, schema=schema).write_parquet(path)
            paths.append(path)
        if not paths:
            path = os.path.join(scratch, "query.parquet")
            polars.DataFrame(schema=schema).write_parquet(path)
            paths.append(path)
    except sqlite3.Error as error:
        if end is not None and time.monotonic() > end:
            raise InputError(
                f"the query took longer than {reader.timeout_seconds:g} seconds", field="query_timeout",
                hint="Give it more time (query_timeout=seconds), or ask for less.",
            ) from None  # fmt: skip
        raise InputError(f"the query over {found.address} failed: {error}", field="query") from error
    except OSError as error:
        raise FilesystemError.of(error, "write", scratch) from error
    finally:
        database.close()
    return f"SELECT * FROM read_parquet([{', '.join(map(literal, paths))}])"


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))


def _only_reading(action: int, first: str | None, second: str | None, *_: object) -> int:
    allowed = action in _READING and not (action == sqlite3.SQLITE_FUNCTION and second in _FORBIDDEN_FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _kinds(database: sqlite3.Connection, query: str) -> tuple[list[str], list[set[type]]]:
    cursor = database.execute(query)
    if cursor.description is None:
        raise InputError("the query gives no rows", field="query", expected="one SELECT")
    names = [item[0] for item in cursor.description]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the query gives two columns called {twice!r}", field="query", hint="Name one of them with AS.")
    kinds: list[set[type]] = [set() for _ in names]
    while batch := cursor.fetchmany(_BATCH):
        for at, seen in enumerate(kinds):
            seen |= {type(row[at]) for row in batch}
    for seen in kinds:
        seen.discard(type(None))
    return names, kinds


def _batches(database: sqlite3.Connection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = database.execute(query)
    while batch := cursor.fetchmany(_BATCH):
        yield batch


def _polars_type(kinds: set[type]) -> Any:
    import polars

    if kinds == {int}:
        return polars.Int64
    if kinds in ({float}, {int, float}):
        return polars.Float64
    return polars.Binary if kinds == {bytes} else polars.String


def _fitted(value: Any, kinds: set[type]) -> Any:
    """SQLite's columns may hold values of several kinds; where texts are among them, all become texts."""
    if value is None or len(kinds) == 1:
        return value
    if kinds == {int, float}:
        return float(value)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
