"""The innermost SELECT of each kind of reader: all rows of all files, with the file each one is from.

Text with separators is `delimited`; Parquet, JSON lines and databases are here, and so are the columns that paths add.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlpipe_engine.data import delimited, queries
from mlpipe_engine.data.delimited import FILE_COLUMN, ROW_COLUMN, Scan
from mlpipe_engine.data.expressions import identifier, literal
from mlpipe_engine.data.files import PathColumns, path_columns
from mlpipe_engine.errors import FilesystemError, InputError
from mlpipe_engine.model.datasets import (
    ColumnType,
    DatasetDefinition,
    DelimitedReader,
    Found,
    JsonLinesReader,
    ParquetReader,
    SqlReader,
)
from mlpipe_engine.model.text import clean

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAME_COLUMN = "__name"
ORDER_COLUMN = "__order"


@dataclass(frozen=True)
class Base:
    """All rows before any operation."""

    sql: str
    identified: str
    """The same rows with ORDER_COLUMN, ROW_COLUMN and NAME_COLUMN: which row of which file each one is."""
    keeps_order: bool
    """`identified` gives the rows in order."""
    readable: tuple[str, ...]
    """Files the SELECTs open."""
    files: tuple[tuple[str, Found], ...]
    """(path that is read, what was found)."""
    scan: Scan | None = None


def base(
    definition: DatasetDefinition,
    found: Sequence[Found],
    scratch: str,
    connection: DuckDBPyConnection,
    tag: str = "",
    *,
    identify: bool = False,
) -> Base:
    """`identify`: `identified` will be used. Raises InputError when there is nothing to read, or when files do not go together."""
    reader = definition.reader
    if not found:
        raise InputError(f"no file is there for {', '.join(definition.paths)}", hint="Correct the path, or bring the file.")
    added = path_columns(definition, found)
    given = _distinct(found, scratch, everyone=len(found) > 1 and (identify or bool(added.names)))
    scanned: Scan | None = None
    if isinstance(reader, DelimitedReader):
        scanned = delimited.scan(reader, delimited.prepare(reader, given, scratch), connection)
        raw, paths, numbered = scanned.typed, [source.path for source in scanned.sources], False
    elif isinstance(reader, ParquetReader):
        paths = [item.local for item in given]
        raw, numbered = _parquet(reader, given, connection), True
    elif isinstance(reader, JsonLinesReader):
        paths = [_json_file(reader, item, scratch, number) for number, item in enumerate(given)]
        raw, numbered = _json(reader, paths, given, connection), False
    else:
        assert isinstance(reader, SqlReader)
        paths = [given[0].local]
        raw, numbered = queries.rows(reader, given[0], scratch, connection, tag), False
        raw = f"SELECT *, {literal(paths[0])} AS {identifier(FILE_COLUMN)} FROM ({raw})"
    own = [row[0] for row in connection.execute(f"DESCRIBE {raw}").fetchall()]
    _refuse_reserved(own)
    number_of = "0" if len(given) == 1 else f"CAST(substr({identifier(FILE_COLUMN)}, {len(scratch) + 3}, 7) AS INTEGER)"
    sql = _with_path_columns(raw, own, added, number_of)
    identified, keeps_order = _identified(sql, given, number_of, numbered)
    return Base(sql, identified, keeps_order, tuple(paths), tuple(zip(paths, given, strict=True)), scanned)


def explain(definition: DatasetDefinition, built: Base, connection: DuckDBPyConnection) -> InputError | None:
    """Where exactly reading failed, if that can be found by looking again."""
    import duckdb

    reader = definition.reader
    try:
        if isinstance(reader, DelimitedReader) and built.scan is not None:
            return delimited.misfit(reader, built.scan, connection)
        if isinstance(reader, JsonLinesReader):
            return next((_bad_line(path, item.address) for path, item in built.files if _bad_line(path, item.address)), None)
    except duckdb.Error:
        return None
    return None


def placed(scratch: str, number: int, name: str) -> str:
    """The path of a file of ours that stands for file `number`: the number is read from it again by SQL."""
    return os.path.join(scratch, f"f{number:07}-{name}")


def _distinct(found: Sequence[Found], scratch: str, *, everyone: bool) -> list[Found]:
    """Every file under a path of its own: two objects of equal bytes may lie behind one cached copy.

    `everyone`: under a path that tells its number. A join with a table of files would lose the order of rows.
    """
    seen: set[str] = set()
    given = []
    for number, item in enumerate(found):
        path = os.path.abspath(item.local)
        if everyone or path in seen:
            # The end of the name says how a file is compressed.
            link = placed(scratch, number, os.path.basename(item.address)[-40:].replace("?", "_"))
            try:
                os.symlink(path, link)
            except OSError as error:
                raise FilesystemError.of(error, "link", link) from error
            path = link
        seen.add(path)
        given.append(replace(item, local=path))
    return given


def _refuse_reserved(names: Sequence[str]) -> None:
    for name in names:
        if name in (NAME_COLUMN, ORDER_COLUMN) or names.count(name) > 1:
            raise InputError(f"a column is called {name!r}, which is used here for something else", hint="Give it another name.")


# -- columns from paths --------------------------------------------------------------------------------------------------


def _values(values: Sequence[object], kind: str) -> str:
    return f"CAST([{', '.join(map(_value, values))}] AS {kind}[])"


def _value(value: object) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else literal(_utf8(str(value)))


def _utf8(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _with_path_columns(raw: str, own: Sequence[str], added: PathColumns, number_of: str) -> str:
    if not added.names:
        return raw
    made = {
        name: f"({_values([row[at] for row in added.rows], kind)})[{number_of} + 1] AS {identifier(name)}"
        for at, (name, kind) in enumerate(zip(added.names, added.types, strict=True))
    }
    if "Path" in made and "Path" in own:
        raise InputError("the files have a column called Path themselves", field="include_path", hint="Leave include_path out.")
    chosen = [made.pop("Path")] if "Path" in made else []
    chosen += [identifier(name) for name in own if name not in made]
    chosen += made.values()
    return f"SELECT {', '.join(chosen)} FROM ({raw})"


def _identified(sql: str, given: Sequence[Found], number_of: str, numbered: bool) -> tuple[str, bool]:
    file, row, order = map(identifier, (FILE_COLUMN, ROW_COLUMN, ORDER_COLUMN))
    name = f"({_values([item.path for item in given], 'VARCHAR')})[{number_of} + 1] AS {identifier(NAME_COLUMN)}"
    if numbered:
        place = f"CAST({number_of} AS BIGINT) * 1099511627776 + {row} AS {order}"
        return f"SELECT *, {place}, {name} FROM ({sql})", True
    ordered = f"SELECT *, row_number() OVER () AS {order} FROM ({sql})"
    if len(given) == 1:
        return f"SELECT *, {order} - 1 AS {row}, {name} FROM ({ordered})", True
    starts = f"SELECT {file} AS __of, min({order}) AS __start FROM __rows GROUP BY ALL"
    return (
        f"SELECT * EXCLUDE (__start, __of), {name} FROM (WITH __rows AS MATERIALIZED ({ordered}), __starts AS ({starts})"
        f" SELECT r.*, r.{order} - s.__start AS {row}, s.__start, s.__of FROM __rows r JOIN __starts s ON r.{file} = s.__of)"
    ), False


# -- Parquet -------------------------------------------------------------------------------------------------------------


def _parquet(reader: ParquetReader, found: Sequence[Found], connection: DuckDBPyConnection) -> str:
    paths = ", ".join(literal(item.local) for item in found)
    if len(found) > 1:
        _same_schema(found, paths, connection)
    read = f"read_parquet([{paths}], filename = true, file_row_number = true, hive_partitioning = false)"
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {read}").fetchall()]
    own = [name for name in names if name not in ("filename", "file_row_number")]
    chosen = converted(reader.column_types, own, reader.on_error == "null")
    return f"SELECT {', '.join(chosen)}, filename AS {identifier(FILE_COLUMN)}, file_row_number AS {identifier(ROW_COLUMN)} FROM {read}"


def _same_schema(found: Sequence[Found], paths: str, connection: DuckDBPyConnection) -> None:
    """The engine would read the columns of the first file and leave out what others have more."""
    rows = connection.execute(
        f"SELECT file_name, list(name || ' ' || coalesce(type, '') ORDER BY name) FROM parquet_schema([{paths}]) GROUP BY ALL"
    ).fetchall()
    kinds = {str(file): set(columns) for file, columns in rows}
    first = kinds.get(found[0].local, set())
    for item in found[1:]:
        other = kinds.get(item.local, first)
        if other != first:
            column = sorted(other ^ first)[0].split(" ")[0]
            raise InputError(
                f"{item.address}: its columns are not those of {found[0].address}; the first that differs is {column!r}",
                hint="Make two datasets of them, or write the files anew with the same columns and types.",
            )


def converted(given: tuple[tuple[str, ColumnType], ...], names: Sequence[str], lenient: bool) -> list[str]:
    types = dict(given)
    for name in types:
        if name not in names:
            raise delimited.unknown_column(name, names, "set_column_types")
    return [
        f"{delimited.conversion(f'CAST({identifier(name)} AS VARCHAR)', types[name], lenient)} AS {identifier(name)}"
        if name in types
        else identifier(name)
        for name in names
    ]


# -- JSON lines ----------------------------------------------------------------------------------------------------------


def _json(reader: JsonLinesReader, paths: Sequence[str], given: Sequence[Found], connection: DuckDBPyConnection) -> str:
    import duckdb

    quoted = ", ".join(map(literal, paths))
    read = f"read_json([{quoted}], format = 'newline_delimited', records = true, union_by_name = true, sample_size = -1, filename = true)"
    try:
        names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {read}").fetchall() if row[0] != "filename"]
    except duckdb.InvalidInputException:
        found = next(filter(None, (_bad_line(path, item.address) for path, item in zip(paths, given, strict=True))), None)
        if found is None:
            raise
        raise found from None
    if not names:
        raise InputError("there is no row to take columns from: the files are empty")
    chosen = converted(reader.column_types, names, reader.on_error == "null")
    return f"SELECT {', '.join(chosen)}, filename AS {identifier(FILE_COLUMN)} FROM {read}"


def _json_file(reader: JsonLinesReader, found: Found, scratch: str, number: int) -> str:
    """The file in UTF-8, without invalid lines where they are to be dropped."""
    path = found.local
    codec = delimited.codec_of(reader.encoding)
    if codec not in ("utf-8-sig", "ascii"):
        path = delimited.transcoded(found, codec, reader.encoding, placed(scratch, number, "lines.json"))
    if reader.invalid_lines == "error":
        return path
    target = placed(scratch, number, "valid.json")
    try:
        with open(target, "xb") as out:
            for _, line, valid in _json_lines(path):
                if valid:
                    out.write(line.rstrip(b"\r\n") + b"\n")
    except OSError as error_:
        raise FilesystemError.of(error_, "write", target) from error_
    return target


def _json_lines(path: str) -> Iterator[tuple[int, bytes, bool]]:
    """(number, line, whether it holds one JSON object) of every line that is not blank."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield number, line, isinstance(json.loads(line.removeprefix(b"\xef\xbb\xbf")), dict)
                except (ValueError, RecursionError):
                    yield number, line, False
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error


def _bad_line(path: str, address: str) -> InputError | None:
    for number, line, valid in _json_lines(path):
        if not valid:
            return InputError(
                f"{address}:{number}: this line is no JSON object: {clean(line.strip(), limit=60)!r}",
                hint="Correct the line, or leave such lines out: invalid_lines='drop'.",
            )
    return None
