"""One SELECT in a database of a datastore, as a Parquet file. PostgreSQL by ADBC, MySQL and MariaDB by PyMySQL, SQL Server by pymssql.

Rows stream through a DuckDB in memory into the file; nothing of DuckDB's extensions is needed or fetched. The session is read only
where the database knows that, and ends with a rollback. Called by `places` and `engine`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from mlpipe_engine.data.credentials import redact
from mlpipe_engine.data.objects import library
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, FilesystemError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec

_ROWS = 50_000


def database_file(spec: DatastoreSpec, root: str) -> str | None:
    """The file of an embedded database: sqlite:a.db and sqlite:///a.db are relative to the project, sqlite:////a.db is absolute."""
    if spec.scheme not in ("sqlite", "duckdb"):
        return None
    rest = spec.url.partition(":")[2]
    path = unquote(rest[3:] if rest.startswith("///") else rest)
    return os.path.normpath(os.path.join(root, path))


def read_sql(
    spec: DatastoreSpec, root: str, credentials: Credentials, query: str, target: str, parameters: Sequence[object] = (),
    timeout_seconds: float = 30.0,
) -> int:  # fmt: skip
    """Writes `target` (which must not exist) and returns the number of rows. Raises DatastoreError; nothing half-written stays."""
    readers = {
        "postgresql": _postgres, "postgres": _postgres, "mysql": _mysql, "mariadb": _mysql, "mssql": _mssql, "sqlite": _embedded,
        "duckdb": _embedded,
    }  # fmt: skip
    try:
        return readers[spec.scheme](spec, root, credentials, query, target, parameters, timeout_seconds)
    except BaseException:
        if os.path.lexists(target):
            os.unlink(target)
        raise


def _postgres(
    spec: DatastoreSpec, root: str, credentials: Credentials, query: str, target: str, parameters: Sequence[object], timeout_seconds: float
) -> int:  # fmt: skip
    import duckdb

    adbc: Any = library("adbc_driver_postgresql.dbapi", spec)
    driver: Any = library("adbc_driver_manager", spec)
    try:
        connection = adbc.connect(_postgres_address(spec, credentials))
    except driver.Error as error:
        raise _postgres_trouble(spec, credentials, error) from None
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {int(timeout_seconds * 1000)}")
            cursor.execute("SET default_transaction_read_only = on")
            connection.commit()
            cursor.execute(query, tuple(parameters) or None)
            return _write(cursor.fetch_arrow(), target)
    except (driver.Error, duckdb.Error) as error:  # DuckDB passes on what the stream met on its way
        raise _postgres_trouble(spec, credentials, error) from None
    finally:
        connection.close()


def _postgres_address(spec: DatastoreSpec, credentials: Credentials) -> str:
    parts = urlsplit(spec.url)
    user = spec.option("user") or unquote(parts.username or "")
    password = credentials.get("password")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return (
        f"postgresql://{login + '@' if login else ''}{host}{port}{parts.path}?connect_timeout=10"
        + (f"&sslmode={quote(spec.option('sslmode') or '')}" if spec.option("sslmode") else "")
        + "&application_name=mlpipe-tui"
    )


def _postgres_trouble(spec: DatastoreSpec, credentials: Credentials, error: Any) -> DatastoreError:
    state = getattr(error, "sqlstate", None) or ""
    text = redact(str(error)).split("\n")[0]
    for lead in ("[libpq] ", "Execution error [PGRES_FATAL_ERROR]: ", "Failed to prepare query: ", "Failed to connect: "):
        text = text.partition(lead)[2] or text
    what = f"datastore {spec.name!r}: {text[:400]}"
    if "password" in text.lower() or "authentication" in text.lower() or state.startswith("28"):
        return DatastoreError(what, where=spec.where, hint=credentials.ways("password"))
    if (not state and ("connect" in str(error).lower() or "connection" in text.lower())) or state.startswith(("08", "57P")):
        return DatastoreUnreachableError(what, where=spec.where, hint="Start the database, or correct the URL.")
    if state == "57014" or "statement timeout" in text:
        return DatastoreError(f"{what} (the time limit of the query)", hint="Give it more with query_timeout, or ask for less.")
    if state == "25006":
        return DatastoreError(what, hint="A dataset only reads: write one SELECT.")
    return DatastoreError(what, where=spec.where, hint="Correct the query.")


def _mysql(
    spec: DatastoreSpec, root: str, credentials: Credentials, query: str, target: str, parameters: Sequence[object], timeout_seconds: float
) -> int:  # fmt: skip
    pymysql: Any = library("pymysql", spec)
    cursors: Any = library("pymysql.cursors", spec)
    parts = urlsplit(spec.url)
    try:
        connection = pymysql.connect(
            host=parts.hostname, port=parts.port or 3306, user=spec.option("user") or unquote(parts.username or ""),
            password=credentials.get("password") or "", database=unquote(parts.path.strip("/")) or None, connect_timeout=10,
            read_timeout=timeout_seconds, charset="utf8mb4", cursorclass=cursors.SSCursor,
        )  # fmt: skip
    except pymysql.Error as error:
        raise _mysql_trouble(spec, credentials, error) from None
    try:
        with connection.cursor() as cursor:
            _only_reads(spec, query)
            cursor.execute("START TRANSACTION READ ONLY")
            cursor.execute(query, tuple(parameters) or None)
            if cursor.description is None:
                raise DatastoreError(
                    f"datastore {spec.name!r}: the query gives no rows", hint="A dataset only reads: write one SELECT."
                )
            return _write_rows(cursor, _mysql_types(cursor, pymysql), target)
    except pymysql.Error as error:
        raise _mysql_trouble(spec, credentials, error) from None
    finally:
        connection.close()


_COMMENTS = re.compile(r"\s+|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*(?!!).*?\*/|\(", re.DOTALL)


def _only_reads(spec: DatastoreSpec, query: str) -> None:
    """A transaction that only reads is no hindrance to DROP and its like, which end it first. Raises DatastoreError."""
    at = 0
    while found := _COMMENTS.match(query, at):
        at = found.end()
    word = re.match(r"\w*", query[at:])
    if word is None or word[0].upper() not in ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "DESCRIBE"):
        raise DatastoreError(
            f"datastore {spec.name!r}: the query begins with {query[at : at + 20]!r}", expected="SELECT or WITH",
            hint="A dataset only reads: write one SELECT.",
        )  # fmt: skip


def _mysql_types(cursor: Any, pymysql: Any) -> dict[str, Any]:
    import polars as pl

    codes = pymysql.constants.FIELD_TYPE
    whole = (codes.TINY, codes.SHORT, codes.LONG, codes.LONGLONG, codes.INT24, codes.YEAR)
    fields = getattr(cursor, "_result", None)
    binary = [getattr(field, "charsetnr", 0) == 63 for field in fields.fields] if fields is not None else []
    found: dict[str, Any] = {}
    for at, column in enumerate(cursor.description):
        code, name = column[1], _unique(column[0], found)
        unsigned = bool(fields is not None and fields.fields[at].flags & 32)
        if code in whole:
            found[name] = pl.UInt64 if unsigned and code == codes.LONGLONG else pl.Int64
        elif code in (codes.DECIMAL, codes.NEWDECIMAL):
            found[name] = pl.Decimal(38, column[5] or 0)
        elif code in (codes.FLOAT, codes.DOUBLE):
            found[name] = pl.Float64
        elif code in (codes.DATE, codes.NEWDATE):
            found[name] = pl.Date
        elif code in (codes.DATETIME, codes.TIMESTAMP):
            found[name] = pl.Datetime("us")
        elif code == codes.TIME:
            found[name] = pl.Duration("us")
        elif code == codes.BIT or (binary and binary[at] and code != codes.JSON):
            found[name] = pl.Binary
        else:
            found[name] = pl.String
    return found


def _mysql_trouble(spec: DatastoreSpec, credentials: Credentials, error: Any) -> DatastoreError:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    what = f"datastore {spec.name!r}: {redact(str(error.args[-1] if error.args else error))[:400]}"
    if code in (1044, 1045, 1698):
        return DatastoreError(what, where=spec.where, hint=credentials.ways("password"))
    if code in (2002, 2003, 2006, 2013, 1040):
        return DatastoreUnreachableError(what, where=spec.where, hint="Start the database, or correct the URL.")
    if code == 1792:
        return DatastoreError(what, hint="A dataset only reads: write one SELECT.")
    return DatastoreError(what, where=spec.where, hint="Correct the query.")


def _mssql(
    spec: DatastoreSpec, root: str, credentials: Credentials, query: str, target: str, parameters: Sequence[object], timeout_seconds: float
) -> int:  # fmt: skip
    """Untested: no server that speaks TDS was at hand."""
    pymssql: Any = library("pymssql", spec)
    parts = urlsplit(spec.url)
    try:
        connection = pymssql.connect(
            server=parts.hostname, port=str(parts.port or 1433), user=spec.option("user") or unquote(parts.username or ""),
            password=credentials.get("password") or "", database=unquote(parts.path.strip("/")), login_timeout=10, timeout=int(timeout_seconds),
        )  # fmt: skip
    except pymssql.Error as error:
        raise DatastoreUnreachableError(f"datastore {spec.name!r}: {redact(str(error))[:400]}", where=spec.where) from None
    try:
        with connection.cursor() as cursor:
            _only_reads(spec, query)
            cursor.execute(query, tuple(parameters) or None)
            names: dict[str, Any] = {}
            for column in cursor.description:
                names[_unique(column[0], names)] = None
            return _write_rows(cursor, names, target)
    except pymssql.Error as error:
        raise DatastoreError(f"datastore {spec.name!r}: {redact(str(error))[:400]}", hint="Correct the query.") from None
    finally:
        connection.close()


def _embedded(
    spec: DatastoreSpec, root: str, credentials: Credentials, query: str, target: str, parameters: Sequence[object], timeout_seconds: float
) -> int:  # fmt: skip
    file = database_file(spec, root) or ""
    if not os.path.isfile(file):
        raise DatastoreError(f"datastore {spec.name!r}: there is no file {file}", where=spec.where, hint="Correct the URL.")
    reader = _sqlite if spec.scheme == "sqlite" else _duckdb
    return reader(spec, file, query, target, parameters, timeout_seconds)


def _sqlite(spec: DatastoreSpec, file: str, query: str, target: str, parameters: Sequence[object], timeout_seconds: float) -> int:
    import sqlite3
    import time

    connection = sqlite3.connect(f"file:{quote(file)}?mode=ro", uri=True)
    deadline = time.monotonic() + timeout_seconds
    connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
    try:
        cursor = connection.execute(query, tuple(parameters))
        if cursor.description is None:
            raise DatastoreError(
                f"datastore {spec.name!r}: the query gives no rows", hint="A dataset only reads: write one SELECT."
            )
        names: dict[str, Any] = {}
        for column in cursor.description:
            names[_unique(column[0], names)] = None
        return _write_rows(cursor, names, target)
    except sqlite3.Error as error:
        raise DatastoreError(f"datastore {spec.name!r}: {error}", where=spec.where, hint="Correct the query.") from None
    finally:
        connection.close()


def _duckdb(spec: DatastoreSpec, file: str, query: str, target: str, parameters: Sequence[object], timeout_seconds: float) -> int:
    import threading

    import duckdb

    settings: dict[str, Any] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    try:
        connection = duckdb.connect(file, read_only=True, config=settings)
    except duckdb.Error as error:
        raise DatastoreError(f"datastore {spec.name!r}: {str(error).splitlines()[0]}", where=spec.where) from None
    timer = threading.Timer(timeout_seconds, connection.interrupt)
    timer.start()
    try:
        connection.execute("SET lock_configuration = true")
        relation = connection.sql(query, params=list(parameters) or None)
        if relation is None:
            raise DatastoreError(
                f"datastore {spec.name!r}: the query gives no rows", hint="A dataset only reads: write one SELECT."
            )
        return _write(_Stream(relation), target)
    except duckdb.Error as error:
        raise DatastoreError(
            f"datastore {spec.name!r}: {str(error).splitlines()[0]}", where=spec.where, hint="Correct the query."
        ) from None
    finally:
        timer.cancel()
        connection.close()


class _Stream:
    """An Arrow stream without what it comes from: DuckDB refuses relations of another database, and reads this."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._source.__arrow_c_stream__(requested_schema)


def _unique(name: str, taken: dict[str, Any]) -> str:
    found, number = name, 0
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _write_rows(cursor: Any, types: dict[str, Any], target: str) -> int:
    """Rows of a driver that gives Python values, in parts, so that a large answer does not have to fit in memory."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=os.path.dirname(target) or ".", prefix=".sql-") as folder:
        parts = list(_parts(cursor, types, folder))
        connection = _connection()
        try:
            shown = ", ".join("?" * len(parts))
            relation = connection.sql(f"SELECT * FROM read_parquet([{shown}], union_by_name = true)", params=parts)
            return _copied(connection, relation, target)
        finally:
            connection.close()


def _parts(cursor: Any, types: dict[str, Any], folder: str) -> Iterator[str]:
    """Columns without a known type get one from their values; parts may differ, the union decides."""
    import polars as pl

    number, schema = 0, dict(types)
    while True:
        rows = cursor.fetchmany(_ROWS)
        if not rows and number:
            return
        columns = list(zip(*rows)) if rows else [() for _ in schema]
        frame = pl.DataFrame(
            [
                pl.Series(name, list(values), dtype=kind, strict=kind is not None)
                for (name, kind), values in zip(schema.items(), columns)
            ]
        )
        path = os.path.join(folder, f"{number}.parquet")
        frame.write_parquet(path)
        number += 1
        yield path


def _write(stream: Any, target: str) -> int:
    connection = _connection()
    try:
        return _copied(connection, connection.from_arrow(stream), target)
    finally:
        connection.close()


def _connection() -> Any:
    """One thread: the same rows are the same bytes."""
    import duckdb

    settings: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "1"}
    connection = duckdb.connect(config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _copied(connection: Any, relation: Any, target: str) -> int:
    import duckdb

    try:
        relation.write_parquet(target, compression="zstd")
        return int(connection.sql("SELECT count(*) FROM read_parquet(?)", params=[target]).fetchall()[0][0])
    except duckdb.IOException as error:
        raise FilesystemError(f"cannot write {target}: {str(error).splitlines()[0]}") from error
