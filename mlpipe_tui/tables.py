"""Tables on disk, by pages: any rows of a Parquet file of any length; CSV and JSON are converted once. DuckDB does the work.

A `Table` belongs to the thread that opened it, except `interrupt`. Nothing here knows of screens; DuckDB is loaded at the first use.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpipe_tui.clean import one_line

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SAMPLE_ROWS = 100_000
_KEPT_BYTES = 2 << 30
_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
)
_TIMES = ("DATE", "TIME", "TIMESTAMP")
_SHORT = {
    "TINYINT": "i8", "SMALLINT": "i16", "INTEGER": "i32", "BIGINT": "i64", "HUGEINT": "i128", "UTINYINT": "u8", "USMALLINT": "u16", "UINTEGER": "u32",
    "UBIGINT": "u64", "FLOAT": "f32", "DOUBLE": "f64", "VARCHAR": "str", "BOOLEAN": "bool", "BLOB": "bytes", "DATE": "date", "TIMESTAMP": "time",
}  # fmt: skip


class TableProblem(Exception):
    """Why there is no table to show, as one line fit for a terminal."""


class Interrupted(TableProblem):
    """Somebody asked for it to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    name: str
    type: str
    """As DuckDB says it."""

    @property
    def is_number(self) -> bool:
        return self.type.startswith(_NUMBERS)

    @property
    def short_type(self) -> str:
        return _SHORT.get(self.type, self.type.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a column holds. `rows` were looked at; with `sampled` they are not all."""

    column: str
    rows: int
    nulls: int
    distinct: int
    """Approximately."""
    low: Any = None
    middle: Any = None
    high: Any = None
    bars: tuple[int, ...] = ()
    """Rows in eight equal stretches of a number's or a time's range."""
    top: tuple[tuple[Any, int], ...] = ()
    """Most frequent values of anything else."""
    sampled: bool = False


class Table:
    """Rows that can be read from anywhere, sorted and filtered."""

    def __init__(self, connection: DuckDBPyConnection, files: Sequence[str]) -> None:
        self._connection = connection
        self._files = tuple(files)
        self._starts = [0]
        for file in self._files:
            ((count,),) = self._all("SELECT num_rows FROM parquet_file_metadata(?)", [file])
            self._starts.append(self._starts[-1] + count)
        described = self._all(f"DESCRIBE SELECT * FROM read_parquet({self._list()}, union_by_name=true)")
        self.columns = tuple(TableColumn(name=row[0], type=row[1]) for row in described)
        self.total = self._starts[-1]
        self.rows = self.total
        """Rows of the present view: fewer than `total` where it is filtered."""
        self.order: tuple[str, bool] | None = None
        """(column, whether the highest comes first)"""
        self.filter = ""
        self._indexed = False

    # Opening

    @classmethod
    def open(cls, path: str, previews: str | None = None) -> Table:
        """A file, or a folder whose files are all parts of one table. Raises TableProblem.

        `previews` is where converted files are kept; None, or a folder that cannot be written, means a temporary one.
        """
        return cls.of(tables_in(path), previews)

    @classmethod
    def of(cls, paths: Sequence[str], previews: str | None = None) -> Table:
        if not paths:
            raise TableProblem("no file in it is a table (Parquet, CSV or JSON)")
        previews = writable(previews)
        connection = _connect(previews)
        try:
            return cls(connection, [_as_parquet(connection, path, previews) for path in paths])
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        with suppress(Exception):
            self._connection.close()

    def interrupt(self) -> None:
        """Stop what it is doing: that call raises Interrupted. From any thread."""
        with suppress(Exception):
            self._connection.interrupt()

    def _list(self) -> str:
        return "[" + ", ".join(_text(file) for file in self._files) + "]"

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return _run(self._connection, sql, values)

    # Reading

    def page(self, start: int, count: int, columns: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
        """Rows of the view from `start`, fewer at its end, with these columns (None: all). Values as Python has them."""
        names = [column.name for column in self.columns] if columns is None else list(columns)
        if not names:
            return [()] * max(min(count, self.rows - start), 0)
        if not self._indexed:
            return self._natural(start, count, names)
        chosen = [
            row[0]
            for row in self._all(
                "SELECT __row__ FROM view_rows WHERE rowid BETWEEN ? AND ? ORDER BY rowid", [start, start + count - 1]
            )
        ]
        found: dict[int, tuple[Any, ...]] = {}
        for index, file in enumerate(self._files):
            first, behind = self._starts[index], self._starts[index + 1]
            wanted = [row - first for row in chosen if first <= row < behind]
            if wanted:
                where = f"file_row_number IN ({', '.join(map(str, wanted))})"
                for number, *values in self._rows(file, names, where):
                    found[number + first] = tuple(values)
        return [found[row] for row in chosen if row in found]

    def _natural(self, start: int, count: int, names: Sequence[str]) -> list[tuple[Any, ...]]:
        end = min(start + count, self.total)
        rows: list[tuple[Any, ...]] = []
        index = max(bisect_right(self._starts, start) - 1, 0)
        while start < end and index < len(self._files):
            first, behind = self._starts[index], self._starts[index + 1]
            stop = min(end, behind)
            if start < stop:
                where = f"file_row_number BETWEEN {start - first} AND {stop - first - 1}"
                rows += [tuple(values) for _, *values in sorted(self._rows(self._files[index], names, where), key=_number)]
            start, index = max(stop, start), index + 1
        return rows

    def _rows(self, file: str, names: Sequence[str], where: str) -> list[tuple[Any, ...]]:
        here = (
            {column for (column, *_) in self._all("DESCRIBE SELECT * FROM read_parquet(?)", [file])}
            if len(self._files) > 1
            else None
        )
        listed = ", ".join(_name(name) if here is None or name in here else "NULL" for name in names)
        return self._all(
            f"SELECT file_row_number, {listed} FROM read_parquet(?, file_row_number=true) WHERE {where} ORDER BY 1", [file]
        )

    def arrange(self, order: tuple[str, bool] | None, typed: str = "") -> None:
        """Sort by a column and keep only rows that a filter lets through. Raises TableProblem for a filter that makes no sense.

        On an error or an interruption the view stays as it was.
        """
        conditions, values = self._conditions(typed)
        if order is None and not conditions:
            self._indexed, self.rows = False, self.total
        else:
            where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
            by = (
                f" ORDER BY {_name(order[0])} {'DESC' if order[1] else 'ASC'} NULLS LAST, __row__"
                if order
                else " ORDER BY __row__"
            )
            self._all(f"CREATE OR REPLACE TEMP TABLE fresh_rows AS SELECT __row__ FROM ({self._union()}){where}{by}", values)
            self._all("DROP TABLE IF EXISTS view_rows")
            self._all("ALTER TABLE fresh_rows RENAME TO view_rows")
            ((count,),) = self._all("SELECT count(*) FROM view_rows")
            self._indexed, self.rows = True, count
        self.order, self.filter = order, typed

    def _union(self) -> str:
        return " UNION ALL BY NAME ".join(
            f"SELECT file_row_number + {self._starts[index]} AS __row__, * EXCLUDE (file_row_number)"
            f" FROM read_parquet({_text(file)}, file_row_number=true)"
            for index, file in enumerate(self._files)
        )

    def _conditions(self, typed: str) -> tuple[list[str], list[Any]]:
        """One for each word: `plan=fiber`, `tenure>=12`, `name:ann` (contains), a plain word (any column contains it), `!` before any."""
        names = {column.name.casefold(): column for column in self.columns}
        conditions: list[str] = []
        values: list[Any] = []
        for word in re.findall(r'(?:[^\s"]|"[^"]*")+', typed):
            negated = word.startswith("!") and len(word) > 1 and word[1] != "="
            plain = word[1:] if negated else word
            match = re.match(r'("[^"]+"|[^<>=!:~"]+)(>=|<=|!=|=|<|>|:|~)(.*)$', plain)
            column = names.get(match.group(1).strip('"').casefold()) if match else None
            if match and column is None and match.group(2) != ":":
                raise TableProblem(
                    f"no column is called {one_line(match.group(1), limit=60)}; a word without = < > looks in all columns"
                )
            if match and column is not None:
                condition, value = _compared(column, match.group(2), match.group(3).strip('"'))
            else:
                value = plain.strip('"')
                condition = (
                    " OR ".join(f"contains(lower(CAST({_name(each.name)} AS VARCHAR)), lower($value))" for each in self.columns)
                    or "false"
                )
            if "$value" in condition:
                condition = condition.replace("$value", f"${len(values) + 1}")
                values.append(value)
            conditions.append(f"NOT coalesce(({condition}), false)" if negated else f"({condition})")
        return conditions, values

    def export(self, path: str) -> int:
        """The view as a new file, of the kind its name says (csv, parquet, json); the number of its rows. Nothing is overwritten."""
        kind = {".csv": "csv, HEADER", ".parquet": "parquet", ".json": "json"}.get(os.path.splitext(path)[1].lower())
        if kind is None:
            raise TableProblem(f"{one_line(os.path.basename(path))}: the name must end with .csv, .parquet or .json")
        if os.path.lexists(path):
            raise TableProblem(f"{one_line(path)} is there already; choose another name")
        where = " JOIN view_rows USING (__row__) ORDER BY view_rows.rowid" if self._indexed else " ORDER BY __row__"
        made = f"{path}.{os.getpid()}"
        try:
            self._all(
                f"COPY (SELECT rows.* EXCLUDE (__row__) FROM ({self._union()}) rows{where}) TO {_text(made)} (FORMAT {kind})"
            )
            os.link(made, path)
        except OSError as error:
            raise TableProblem(f"{one_line(path)}: {error.strerror}") from error
        finally:
            with suppress(OSError):
                os.unlink(made)
        return self.rows

    # Telling what is in it

    def profile(self, column: str, *, full: bool = False) -> Profile:
        """Of the first 100,000 rows of the file, or of all. Of the whole table, not of the filtered view."""
        found = next(each for each in self.columns if each.name == column)
        sampled = not full and self.total > SAMPLE_ROWS
        limit = f" LIMIT {SAMPLE_ROWS}" if sampled else ""
        source = f"(SELECT {_name(column)} AS v FROM read_parquet({self._list()}, union_by_name=true){limit})"
        numeric = found.is_number or found.type.startswith(_TIMES)
        middle = "quantile_disc(v, 0.5)" if numeric else "NULL"
        finite = " FILTER (isfinite(v))" if found.type in ("FLOAT", "DOUBLE") else ""
        nested = found.type.endswith("]") or found.type.startswith(("STRUCT", "MAP", "UNION"))
        ends = f"min(v){finite}, {middle}, max(v){finite}" if not nested else "NULL, NULL, NULL"
        ((rows, filled, distinct, low, mid, high),) = self._all(
            f"SELECT count(*), count(v), approx_count_distinct(v), {ends} FROM {source}"
        )
        bars: tuple[int, ...] = ()
        top: tuple[tuple[Any, int], ...] = ()
        if numeric and low is not None and low != high and not found.type.startswith("TIME"):
            bars = self._bars(source, found, low, high)
        elif not numeric:
            top = tuple(
                (value, count)
                for value, count in self._all(
                    f"SELECT v, count(*) c FROM {source} WHERE v IS NOT NULL GROUP BY v ORDER BY c DESC, 1 LIMIT 3"
                )
            )
        return Profile(
            column=column, rows=rows, nulls=rows - filled, distinct=distinct, low=low, middle=mid, high=high, bars=bars, top=top, sampled=sampled
        )  # fmt: skip

    def _bars(self, source: str, column: TableColumn, low: Any, high: Any) -> tuple[int, ...]:
        if column.type.startswith("DATE"):
            value, first, span = (
                "datediff('day', DATE '1970-01-01', v)",
                "datediff('day', DATE '1970-01-01', ?::DATE)",
                (high - low).days,
            )
            counted = self._all(
                f"SELECT least(7, floor(({value} - {first}) * 8.0 / {span})::INT) b, count(*) FROM {source} WHERE v IS NOT NULL GROUP BY b",
                [low],
            )
        else:
            span = float(high) - float(low)
            if not span or span in (float("inf"), float("-inf")):
                return ()
            wanted = "v IS NOT NULL AND isfinite(v::DOUBLE)"
            counted = self._all(
                f"SELECT least(7, floor((v::DOUBLE - ?) * 8.0 / ?)::INT) b, count(*) FROM {source} WHERE {wanted} GROUP BY b",
                [float(low), span],
            )
        heights = dict(counted)
        return tuple(heights.get(index, 0) for index in range(8))


def query(
    sql: str, tables: Mapping[str, str | Callable[[], str]], previews: str | None = None, *, started: Any = None
) -> Table:  # fmt: skip
    """The result of one SELECT over tables (name -> path of a file or folder, or what gives it when it is asked for), as a table of its own.
    Raises TableProblem.

    The statement sees nothing but those tables: no other file, no network, no extension, and it cannot write. `started` is told the
    function that interrupts it.
    """
    folder = writable(previews)
    connection = _connect(folder)
    try:
        if started is not None:
            started(connection.interrupt)
        _only_a_select(sql)
        used = {name: path for name, path in tables.items() if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE)}
        places = {name: path() if callable(path) else path for name, path in used.items()}
        files = {name: [_as_parquet(connection, part, folder) for part in tables_in(path)] for name, path in places.items()}
        for name, found in files.items():
            if not found:
                raise TableProblem(f"{one_line(name)} is no table")
            listed = ", ".join(_text(file) for file in found)
            _run(connection, f"CREATE VIEW {_name(name)} AS SELECT * FROM read_parquet([{listed}], union_by_name=true)")
        result = os.path.join(folder, f"result-{os.getpid()}-{next(_count)}.parquet")
        allowed = ", ".join(_text(file) for file in [*(file for found in files.values() for file in found), result])
        for setting in (f"allowed_paths=[{allowed}]", "enable_external_access=false", "lock_configuration=true"):
            _run(connection, f"SET {setting}")
        try:
            _run(connection, f"COPY (\n{sql.strip().rstrip(';')}\n) TO {_text(result)} (FORMAT parquet)")
        except BaseException:
            with suppress(OSError):
                os.unlink(result)
            raise
    finally:
        connection.close()
    return Table.of([result], previews)


def _counting() -> Any:
    import itertools

    return itertools.count(1)


_count = _counting()


def _only_a_select(sql: str) -> None:
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise TableProblem(_first_line(error)) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise TableProblem("only one SELECT can be run here: what steps wrote is never changed")


def tables_in(path: str) -> list[str]:
    """The file itself, or those files of a folder that together are one table: all of the kind that most of them are."""
    if not os.path.isdir(path):
        return [path]
    kinds: dict[str, list[str]] = {}
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            kind = kind_of(os.path.join(folder, name))
            if kind:
                kinds.setdefault(kind, []).append(os.path.join(folder, name))
    return max(kinds.values(), key=len, default=[])


def kind_of(path: str) -> str:
    """ "parquet", "csv", "json", or "" for what is no table: by its first bytes, for stored outputs have no ending; then by its name."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return ""
    if head.startswith(b"PAR1"):
        return "parquet"
    name = os.path.basename(path).lower()
    packed = head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
    if packed:
        return "json" if ".json" in name or ".ndjson" in name else "csv" if ".csv" in name or ".tsv" in name else ""
    if not head or b"\0" in head or _binary(head):
        return ""
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return "json"
    if name.endswith((".csv", ".tsv", ".psv")):
        return "csv"
    if "." in name:
        return ""
    text = head.lstrip()
    if text[:1] in (b"{", b"["):
        return "json"
    first = head.split(b"\n")[0]
    return "csv" if any(first.count(mark) for mark in (b",", b"\t", b";", b"|")) and b"\n" in head else ""


def _binary(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start < len(head) - 4
    return False


# DuckDB


def _connect(previews: str) -> DuckDBPyConnection:
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": "1GB",
        "temp_directory": os.path.join(previews, "spill"),
        "max_temp_directory_size": "8GB",
    }
    connection = duckdb.connect(":memory:", config=settings)
    connection.execute("SET enable_progress_bar = false")  # it would draw over the app
    return connection


def _run(connection: DuckDBPyConnection, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    import duckdb

    try:
        return connection.execute(sql, list(values)).fetchall()
    except duckdb.InterruptException as error:
        raise Interrupted("stopped") from error
    except duckdb.Error as error:
        raise TableProblem(_first_line(error)) from error
    except (OverflowError, ValueError) as error:
        raise TableProblem(f"a value that Python cannot hold: {one_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[0] if lines else type(error).__name__, limit=300)


def _as_parquet(connection: DuckDBPyConnection, path: str, previews: str) -> str:
    """The file itself, or its conversion: made once for these bytes."""
    kind = kind_of(path)
    if kind == "parquet":
        return _without_globs(path, previews)
    try:
        found = os.stat(path)
    except OSError as error:
        raise TableProblem(f"{one_line(os.path.basename(path))}: {error.strerror}") from error
    if not kind:
        empty = "is empty" if not found.st_size else "is no table (Parquet, CSV or JSON)"
        raise TableProblem(f"{one_line(os.path.basename(path))} {empty}")
    key = hashlib.sha256(
        repr((os.path.realpath(path), found.st_ino, found.st_size, found.st_mtime_ns)).encode("utf-8", "surrogateescape")
    ).hexdigest()[:32]
    target = os.path.join(previews, f"{key}.parquet")
    if os.path.exists(target):
        os.utime(target)
        return target
    _make_room(previews)
    source = _text(_without_globs(path, previews))
    read = f"read_csv({source}{_packing(path)})" if kind == "csv" else f"read_json({source}{_packing(path)})"
    made = f"{target}.{os.getpid()}"
    try:
        _run(connection, f"COPY (SELECT * FROM {read}) TO {_text(made)} (FORMAT parquet)")
        os.replace(made, target)
    finally:
        with suppress(OSError):
            os.unlink(made)
    return target


def _packing(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(4)
    return (
        ", compression='gzip'"
        if head[:2] == b"\x1f\x8b"
        else ", compression='zstd'"
        if head == b"\x28\xb5\x2f\xfd"
        else ", compression='none'"
    )


def _without_globs(path: str, previews: str) -> str:
    """DuckDB reads * ? [ in a path as a pattern: such a file is reached by a link with a plain name."""
    path = os.path.abspath(path)
    if not set(path) & set("*?["):
        return path
    link = os.path.join(previews, "link-" + hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:32])
    with suppress(FileExistsError):
        os.symlink(path, link)
    return link


def writable(previews: str | None) -> str:
    if previews is not None and not set(previews) & set("*?["):
        try:
            os.makedirs(previews, mode=0o700, exist_ok=True)
            if os.access(previews, os.W_OK):
                return previews
        except OSError:
            pass
    folder = os.path.join(tempfile.gettempdir(), f"mlpipe-tui-{os.getuid()}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.stat(folder).st_uid != os.getuid():
        raise TableProblem(f"{folder} belongs to somebody else")
    return folder


def _make_room(previews: str) -> None:
    """Conversions and results that were not used for longest go first."""
    with os.scandir(previews) as entries:
        found = sorted(
            (entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in entries if entry.name.endswith(".parquet")
        )
    size = sum(each[1] for each in found)
    for _, length, path in found:
        if size <= _KEPT_BYTES:
            break
        size -= length
        with suppress(OSError):
            os.unlink(path)


def _number(row: tuple[Any, ...]) -> int:
    return int(row[0])


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _compared(column: TableColumn, sign: str, value: str) -> tuple[str, Any]:
    name = _name(column.name)
    if sign in (":", "~"):
        return f"contains(lower(CAST({name} AS VARCHAR)), lower($value))", value
    if not value or value == "∅":
        return (f"{name} IS NULL" if sign == "=" else f"{name} IS NOT NULL"), None
    if column.type.startswith(("VARCHAR", "ENUM")):
        return f"{name} {'<>' if sign == '!=' else sign} $value", value
    return f"{name} {'<>' if sign == '!=' else sign} TRY_CAST($value AS {column.type})", value
