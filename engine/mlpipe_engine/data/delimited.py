"""Delimited text: its header, its types, the scan that reads it, and where exactly a value is that does not fit.

A scan reads with every option said, nothing guessed by the engine. Whole numbers and times are read as text and converted by
expressions of ours: the engine's own conversion would round "1.5" to 2 in a column of whole numbers and drop "+02:00" from a time.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.data.expressions import identifier, literal
from mlpipe_engine.errors import FilesystemError, InputError
from mlpipe_engine.model.datasets import ColumnType, DelimitedReader, Found
from mlpipe_engine.model.text import clean

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

INFER_ALL_BYTES = 8 << 20
"""Up to so many bytes of text, all rows are looked at for types; above, the first INFER_ROWS."""
INFER_ROWS = 50_000
_MAX_FIELD_BYTES = 16 << 20
_CHUNK = 1 << 20

FILE_COLUMN = "__file"
ROW_COLUMN = "__row"

_AZURE_CODECS = {
    "utf8": "utf-8-sig", "utf8bom": "utf-8-sig", "iso88591": "latin-1", "latin1": "latin-1", "ascii": "ascii",
    "utf16": "utf-16", "utf32": "utf-32", "windows1252": "cp1252",
}  # fmt: skip


def codec_of(encoding: str) -> str:
    """Python's name of an encoding, by the Azure SDK's names or Python's. Raises LookupError."""
    name = _AZURE_CODECS.get(encoding.lower().replace("-", "").replace("_", ""), encoding)
    info = codecs.lookup(name)
    if not getattr(info, "_is_text_encoding", True):
        raise LookupError(f"{encoding} is no encoding of text")
    return "utf-8-sig" if info.name == "utf-8" else info.name


@dataclass(frozen=True)
class Source:
    """One file to read: what was found, and the file in UTF-8 that stands for it."""

    found: Found
    path: str
    names: tuple[str, ...] | None
    """Of its first record; None for a file without any."""
    blank_lines: int
    """Before the first record."""


@dataclass(frozen=True)
class Scan:
    """SELECT texts over the files. Both give the columns and FILE_COLUMN, the path of the row's file."""

    columns: tuple[str, ...]
    types: dict[str, ColumnType]
    typed: str
    texts: str
    """All columns as texts, for looking for what does not fit."""
    sources: tuple[Source, ...]


# -- reading the first record ------------------------------------------------------------------------------------------


def dialect(reader: DelimitedReader) -> type[csv.Dialect]:
    class _Dialect(csv.Dialect):
        delimiter = reader.separator
        quotechar = reader.quote
        doublequote = True
        lineterminator = "\n"
        quoting = csv.QUOTE_MINIMAL
        strict = True

    return _Dialect


def records(path: str, reader: DelimitedReader, codec: str = "utf-8-sig") -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, values) of each record, by the csv module. Raises InputError naming file and line."""
    csv.field_size_limit(_MAX_FIELD_BYTES)
    try:
        with open(path, encoding=codec, newline="") as file:
            lines = csv.reader(file, dialect(reader))
            try:
                for values in lines:
                    yield lines.line_num, values
            except csv.Error as error:
                raise InputError(f"{path}:{lines.line_num}: {error}") from None
            except UnicodeDecodeError as error:
                raise not_decodable(path, reader.encoding, error, _undecodable_line(path, codec)) from None
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error


def _undecodable_line(path: str, codec: str) -> int | None:
    """The csv module reads ahead, so where it stopped is not where the bytes are."""
    decoder, line = codecs.getincrementaldecoder(codec)(errors="strict"), 1
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            try:
                line += decoder.decode(data).count("\n")
            except UnicodeError as error:
                return _line_of(error, line, codec)
    return None


def not_decodable(path: str, encoding: str, error: UnicodeError, line: int | None = None) -> InputError:
    byte = f"the byte 0x{error.object[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else "what is there"
    return InputError(
        f"{path}{f':{line}' if line else ''}: {byte} is no {encoding}",
        hint="Say the encoding of the file: encoding='latin1', 'windows1252', 'utf16' ...",
    )


def prepare(reader: DelimitedReader, files: Sequence[Found], scratch: str) -> tuple[Source, ...]:
    """Files in UTF-8 with their first records. Others are transcoded into `scratch`, under `readers.placed`. Raises InputError."""
    codec = codec_of(reader.encoding)
    sources = []
    for number, found in enumerate(files):
        path = found.local
        if codec not in ("utf-8-sig", "ascii"):
            path = transcoded(found, codec, reader.encoding, os.path.join(scratch, f"f{number:07}-text.csv"))
        elif codec == "ascii":
            _only_ascii(found)
        sources.append(_source(reader, found, path))
    return tuple(sources)


def _source(reader: DelimitedReader, found: Found, path: str) -> Source:
    if len(reader.separator) > 1:
        return _wide_source(reader, found, path)
    for blank, (_, values) in enumerate(_named(records(path, reader), path, found.address)):
        if values:
            return Source(found, path, tuple(values), blank)
    return Source(found, path, None, 0)


def _named(items: Iterator[tuple[int, list[str]]], path: str, address: str) -> Iterator[tuple[int, list[str]]]:
    """Errors name the address, not the cached or transcoded file behind it."""
    try:
        yield from items
    except InputError as error:
        raise InputError(error.what.replace(path, address, 1), hint=error.hint) from None


def _wide_source(reader: DelimitedReader, found: Found, path: str) -> Source:
    """A separator of several characters, which the csv module does not know: quoted names may not hold it."""
    blank = 0
    with open(path, encoding="utf-8-sig", newline=None) as file:
        for line in file:
            text = line.rstrip("\n")
            if text:
                quote = reader.quote
                parts = text.split(reader.separator)
                return Source(found, path, tuple(p[1:-1] if p[:1] == quote == p[-1:] and len(p) > 1 else p for p in parts), blank)
            blank += 1
    return Source(found, path, None, 0)


def transcoded(found: Found, codec: str, encoding: str, target: str) -> str:
    """The file as UTF-8. Raises InputError naming line and encoding."""
    line = 1
    try:
        with open(found.local, "rb") as source, open(target, "xb") as out:
            decoder = codecs.getincrementaldecoder(codec)(errors="strict")
            while True:
                data = source.read(_CHUNK)
                try:
                    text = decoder.decode(data, final=not data)
                except UnicodeError as error:
                    raise not_decodable(found.address, encoding, error, _line_of(error, line, codec)) from None
                line += text.count("\n")
                out.write(text.removeprefix("\ufeff").encode() if out.tell() == 0 else text.encode())
                if not data:
                    return target
    except OSError as error:
        raise FilesystemError.of(error, "transcode", found.local) from error


def _line_of(error: UnicodeError, line: int, codec: str) -> int:
    if not isinstance(error, UnicodeDecodeError):
        return line
    return line + error.object[: error.start].decode(codec, "ignore").count("\n")


def _only_ascii(found: Found) -> None:
    line = 1
    try:
        with open(found.local, "rb") as source:
            while data := source.read(_CHUNK):
                if not data.isascii():
                    at = next(n for n, byte in enumerate(data) if byte > 127)
                    error = UnicodeDecodeError("ascii", data, at, at + 1, "")
                    raise not_decodable(found.address, "ascii", error, line + data.count(b"\n", 0, at))
                line += data.count(b"\n")
    except OSError as error:
        raise FilesystemError.of(error, "read", found.local) from error


# -- names -------------------------------------------------------------------------------------------------------------


def column_names(given: Sequence[str]) -> tuple[str, ...]:
    """Names that differ also after case folding, as the engine wants them: an empty one is Column<n>, a repeated one gets _2."""
    taken: set[str] = set()
    names = []
    for number, name in enumerate(given, 1):
        base = name if name.strip() else f"Column{number}"
        candidate, again = base, 1
        while candidate.casefold() in taken:
            again += 1
            candidate = f"{base}_{again}"
        taken.add(candidate.casefold())
        names.append(candidate)
    return tuple(names)


@dataclass(frozen=True)
class _Group:
    """Files next to each other that are read with one set of names."""

    names: tuple[str, ...]
    header: bool
    skip: int
    paths: tuple[str, ...]


def _groups(reader: DelimitedReader, sources: Sequence[Source]) -> list[_Group]:
    filled = [source for source in sources if source.names is not None]
    if not filled:
        what = sources[0].found.address if len(sources) == 1 else f"each of {len(sources)} files" if sources else "no file"
        raise InputError(f"there is no row to take columns from: {what} is empty" if sources else "no file was found")
    first = filled[0]
    assert first.names is not None
    names = column_names(first.names if reader.header != "none" else [""] * len(first.names))
    groups: list[_Group] = []
    for source in filled:
        assert source.names is not None
        header = reader.header in ("all_same", "combine") or (reader.header == "first_file" and source is first)
        own = column_names(source.names) if reader.header == "combine" else names
        if reader.header == "all_same" and column_names(source.names) != names:
            raise _other_header(first, source, names)
        last = groups[-1] if groups else None
        if last is not None and (last.names, last.header, last.skip) == (own, header, source.blank_lines):
            groups[-1] = _Group(own, header, last.skip, (*last.paths, source.path))
        else:
            groups.append(_Group(own, header, source.blank_lines, (source.path,)))
    return groups


def _other_header(first: Source, source: Source, names: tuple[str, ...]) -> InputError:
    found = column_names(source.names or ())
    missing = [name for name in names if name not in found]
    more = [name for name in found if name not in names]
    parts = [f"{word} {', '.join(map(repr, items[:5]))}" for word, items in (("lacks", missing), ("has", more)) if items]
    return InputError(
        f"{source.found.address}:1: the header {' and '.join(parts) or 'has another order'}, unlike {first.found.address}",
        field="header",
        hint="Use header=PromoteHeadersBehavior.COMBINE_ALL_FILES_HEADERS to take all columns by name, or the header that fits.",
    )


# -- scans -------------------------------------------------------------------------------------------------------------


def scan(reader: DelimitedReader, sources: Sequence[Source], connection: DuckDBPyConnection) -> Scan:
    """Types are inferred here, for columns that have none. Raises InputError."""
    groups = _groups(reader, sources)
    columns: dict[str, None] = {}
    for group in groups:
        columns |= dict.fromkeys(group.names)
    names = tuple(columns)
    given = dict(reader.column_types)
    for name in given:
        if name not in columns:
            raise unknown_column(name, names, "set_column_types")
    texts = _select(reader, groups, names, {}, natively=False)
    unknown = [name for name in names if name not in given]
    types = given | dict.fromkeys(unknown, ColumnType("string"))
    if reader.infer_column_types:
        types |= _inferred_or_where_not(reader, Scan(names, types, "", texts, tuple(sources)), unknown, connection)
    typed = _select(reader, groups, names, types, natively=reader.on_error == "fail")
    return Scan(names, types, typed, texts, tuple(sources))


def unknown_column(name: str, names: Sequence[str], field: str) -> InputError:
    from mlpipe_engine.errors import nearest

    close = nearest(name, names)
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return InputError(
        f"there is no column {name!r}" + (f"; did you mean {close!r}?" if close else ""), field=field, expected=f"one of {shown}"
    )


def _select(
    reader: DelimitedReader, groups: Sequence[_Group], names: tuple[str, ...], types: dict[str, ColumnType], *, natively: bool
) -> str:
    parts = []
    for group in groups:
        read = _read(reader, group, types if natively else {}, types)
        chosen = [
            (conversion(identifier(name), types[name], reader.on_error == "null") if types else identifier(name))
            + f" AS {identifier(name)}"
            if name in group.names
            else f"CAST(NULL AS {engine_type(types[name]) if types else 'VARCHAR'}) AS {identifier(name)}"
            for name in names
        ]
        parts.append(f"SELECT {', '.join(chosen)}, filename AS {identifier(FILE_COLUMN)} FROM {read}")
    return " UNION ALL ".join(parts)


def _read(reader: DelimitedReader, group: _Group, native: dict[str, ColumnType], types: dict[str, ColumnType]) -> str:
    """`native`: columns the engine converts itself; the others arrive as texts."""
    columns = ", ".join(
        f"{literal(name)}: {literal(_native_type(native[name]) if name in native else 'VARCHAR')}" for name in group.names
    )
    options = {
        "auto_detect": "false",
        "header": "true" if group.header else "false",
        "skip": str(group.skip),
        "delim": literal(reader.separator),
        "quote": literal(reader.quote),
        "escape": literal(reader.quote),
        "filename": "true",
        "columns": "{" + columns + "}",
    }
    if reader.empty_as_string:
        kept = [name for name in group.names if not types or types[name].name in ("string", "stream")]
        if kept:
            options["force_not_null"] = "[" + ", ".join(map(literal, kept)) + "]"
    if reader.on_error == "null":
        options |= {"null_padding": "true", "parallel": "false"}
    paths = ", ".join(map(literal, group.paths))
    return f"read_csv([{paths}], {', '.join(f'{name} = {value}' for name, value in options.items())})"


def engine_type(kind: ColumnType) -> str:
    """DuckDB's type of a column."""
    return {
        "string": "VARCHAR", "stream": "VARCHAR", "long": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN", "datetime": "TIMESTAMP",
    }[kind.name]  # fmt: skip


def _native_type(kind: ColumnType) -> str:
    if kind.name == "bool" or (kind.name == "float" and kind.decimal_mark == "."):
        return engine_type(kind)
    return "VARCHAR"


def conversion(x: str, kind: ColumnType, lenient: bool) -> str:
    """The column `x`, a text or already of its type, as its type. A value that does not fit fails the query, or is null if lenient."""
    cast = "TRY_CAST" if lenient else "CAST"
    refuse = "NULL" if lenient else f"error('does not fit: ' || {x})"
    if kind.name == "long":
        return f"CASE WHEN contains({x}, '.') OR contains({x}, 'e') OR contains({x}, 'E') THEN {refuse} ELSE {cast}({x} AS BIGINT) END"
    if kind.name == "float":
        if kind.decimal_mark == ".":
            return f"{cast}({x} AS DOUBLE)"
        return f"CASE WHEN contains({x}, '.') THEN {refuse} ELSE {cast}(replace({x}, {literal(kind.decimal_mark)}, '.') AS DOUBLE) END"
    if kind.name == "bool":
        return f"{cast}({x} AS BOOLEAN)"
    if kind.name == "datetime":
        return _time(x, kind, cast, refuse)
    return x


def _time(x: str, kind: ColumnType, cast: str, refuse: str) -> str:
    if kind.formats:
        parsed = f"try_strptime({x}, [{', '.join(map(literal, kind.formats))}])"
        return f"CASE WHEN {x} IS NOT NULL AND {parsed} IS NULL THEN {refuse} ELSE {parsed} END"
    # Without a zone, as most are, the plain cast is right and five times as fast; anything else takes the way that knows zones.
    plain = (
        f"length({x}) <= 10 OR ({x}[17] = ':' AND (length({x}) = 19"
        f" OR ({x}[20] = '.' AND {x}[-1] BETWEEN '0' AND '9' AND {x}[-3] NOT IN ('+', '-', ':'))))"
    )
    return f"CASE WHEN {plain} THEN {cast}({x} AS TIMESTAMP) ELSE {cast}({x} AS TIMESTAMPTZ) AT TIME ZONE 'UTC' END"


# -- types from values -------------------------------------------------------------------------------------------------

_WHOLE = r" *[+-]?[0-9]+ *"
_NUMBER = r" *[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|(?i:nan|inf|infinity)) *"
_MOMENT = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)


def _inferred_or_where_not(
    reader: DelimitedReader, untyped: Scan, names: Sequence[str], connection: DuckDBPyConnection
) -> dict[str, ColumnType]:
    import duckdb

    try:
        return _inferred(reader, untyped.texts, names, untyped.sources, connection)
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        found = _broken_row(reader, untyped, connection)
        if found is None:
            raise
        raise found from None


def _inferred(
    reader: DelimitedReader, texts: str, names: Sequence[str], sources: Sequence[Source], connection: DuckDBPyConnection
) -> dict[str, ColumnType]:
    """The narrowest type that fits every value looked at. Days that are not written year first stay text: they are ambiguous."""
    if not names:
        return {}
    limit = reader.infer_rows
    if limit is None and sum(source.found.size for source in sources) > INFER_ALL_BYTES:
        limit = INFER_ROWS
    asked = []
    for name in names:
        x = identifier(name)
        whole, number, moment = (f"regexp_full_match({x}, {literal(pattern)})" for pattern in (_WHOLE, _NUMBER, _MOMENT))
        tests = (
            f"{whole} AND TRY_CAST({x} AS BIGINT) IS NOT NULL",
            # A whole number too large for 64 bits would lose digits as a float; it stays text.
            f"{number} AND NOT ({whole} AND TRY_CAST({x} AS BIGINT) IS NULL)",
            f"lower({x}) IN ('true', 'false')",
            f"{moment} AND TRY_CAST({x} AS TIMESTAMP) IS NOT NULL",
        )
        asked += [f"count({x}) FILTER ({x} <> '')", *(f"bool_and({test}) FILTER ({x} <> '')" for test in tests)]
    rows = f"SELECT * FROM ({texts})" + (f" LIMIT {limit}" if limit is not None else "")
    answer = connection.execute(f"SELECT {', '.join(asked)} FROM ({rows})").fetchone()
    assert answer is not None
    found = {}
    for number_of, name in enumerate(names):
        count, *fits = answer[number_of * 5 : number_of * 5 + 5]
        kinds = [kind for kind, fit in zip(("long", "float", "bool", "datetime"), fits, strict=True) if fit]
        found[name] = ColumnType(kinds[0] if count and kinds else "string")  # type: ignore[arg-type]
    return found


# -- where it does not fit ---------------------------------------------------------------------------------------------


def misfit(reader: DelimitedReader, scanned: Scan, connection: DuckDBPyConnection) -> InputError | None:
    """The first row or value that cannot be read as declared, with file, line and column. Reads everything again."""
    return _broken_row(reader, scanned, connection) or _broken_value(reader, scanned, connection)


def _broken_row(reader: DelimitedReader, scanned: Scan, connection: DuckDBPyConnection) -> InputError | None:
    """Rows with too few or too many values, quotes without an end, bytes that are no text."""
    import duckdb

    for source in scanned.sources:
        if source.names is None:
            continue
        group = _groups(reader, [source])[0]
        if reader.header in ("first_file", "all_same"):
            names = scanned.columns
            header = reader.header == "all_same" or source is next(s for s in scanned.sources if s.names is not None)
            group = _Group(names, header, source.blank_lines, group.paths)
        strict = DelimitedReader(separator=reader.separator, quote=reader.quote)
        read = _read(strict, group, {}, {})[:-1] + ", store_rejects = true, rejects_limit = 1)"
        try:
            connection.execute(f"SELECT max(hash(COLUMNS(*))) FROM {read}").fetchall()
            rows = connection.execute(
                "SELECT line, line_byte_position, column_name, error_type, csv_line FROM reject_errors ORDER BY line LIMIT 1"
            ).fetchall()
            connection.execute("DROP TABLE IF EXISTS reject_errors")
            connection.execute("DROP TABLE IF EXISTS reject_scans")
        except duckdb.Error as error:
            return _unparsable(source, str(error))
        if rows:
            record, position, column, kind, text = rows[0]
            return _row_error(source, len(group.names), int(record), position, column, str(kind), text or "", reader)
    return None


def _unparsable(source: Source, text: str) -> InputError:
    from mlpipe_engine.data.duck import first_line

    if "invalid state" not in text:
        found = re.search(r"CSV Error on Line: (\d+)", text)
        place = f"{source.found.address}:{found[1]}" if found else source.found.address
        return InputError(f"{place}: {first_line(text)[:300]}")
    first = None
    with open(source.path, "rb") as file:
        for line, content in enumerate(file, 1):
            ending = content.endswith(b"\r\n")
            first = ending if first is None else first
            if ending != first and content.endswith(b"\n"):
                return InputError(
                    f"{source.found.address}:{line}: the line ends with {_ENDINGS[ending]}, those before it with {_ENDINGS[first]}",
                    hint="Write the file with one kind of line endings.",
                )
    return InputError(f"{source.found.address}: a quote stands where none may", hint="Double the quotes inside of quoted values.")


_ENDINGS = {True: "\\r\\n", False: "\\n"}
_FOUND_COUNT = {"MISSING COLUMNS": "too few", "TOO MANY COLUMNS": "too many"}


def _row_error(
    source: Source,
    width: int,
    record: int,
    position: int | None,
    column: str | None,
    kind: str,
    text: str,
    reader: DelimitedReader,
) -> InputError:
    line = line_at(source.path, position) if position else record
    place = f"{source.found.address}:{line}"
    shown = clean(text.split("\n")[0], limit=60)
    if kind in _FOUND_COUNT:
        what = f"{_FOUND_COUNT[kind]} values, {width} columns were expected: {shown!r}"
        hint = "Correct the line, or say the separator of the file (separator=...)."
        if kind == "MISSING COLUMNS":
            hint = "Correct the line, or use on_error='null' (--misfits-null) to make what is missing null."
        return InputError(f"{place}: {what}", hint=hint)
    if kind == "UNQUOTED VALUE":
        return InputError(f"{place}: a quoted value does not end as it should: {shown!r}", hint="Double the quotes inside of it.")
    if kind == "INVALID ENCODING":
        return InputError(
            f"{place}: what is there is no {reader.encoding}: {shown!r}",
            hint="Say the encoding of the file: encoding='latin1', 'windows1252', 'utf16' ...",
        )
    if kind == "INVALID STATE":
        return InputError(f"{place}: the line ends unlike the others (\\n, \\r\\n), or a quote stands where none may: {shown!r}")
    return InputError(f"{place}: {kind.lower()}" + (f" in column {column!r}" if column else "") + f": {shown!r}")


def line_at(path: str, position: int) -> int:
    """The number of the line that holds the byte at `position`."""
    line = 1
    with open(path, "rb") as file:
        while position > 0 and (data := file.read(min(_CHUNK, position))):
            line += data.count(b"\n")
            position -= len(data)
    return line


def _broken_value(reader: DelimitedReader, scanned: Scan, connection: DuckDBPyConnection) -> InputError | None:
    asked = {
        name: f"min({identifier(ROW_COLUMN)}) FILTER ({identifier(name)} IS NOT NULL AND"
        f" {conversion(identifier(name), kind, lenient=True)} IS NULL)"
        for name, kind in scanned.types.items()
        if kind.name not in ("string", "stream")
    }
    if not asked:
        return None
    numbered = f"SELECT *, row_number() OVER () AS {identifier(ROW_COLUMN)} FROM ({scanned.texts})"
    answer = connection.execute(f"SELECT {', '.join(asked.values())} FROM ({numbered})").fetchone()
    assert answer is not None
    hits = [(row, name) for row, name in zip(answer, asked, strict=True) if row is not None]
    if not hits:
        return None
    row, name = min(hits)
    where = f"SELECT {identifier(name)}, {identifier(FILE_COLUMN)} FROM ({numbered}) WHERE {identifier(ROW_COLUMN)} = {row}"
    value, path = connection.execute(where).fetchall()[0]
    before = connection.execute(
        f"SELECT count(*) FROM ({numbered}) WHERE {identifier(FILE_COLUMN)} = {literal(path)} AND {identifier(ROW_COLUMN)} < {row}"
    ).fetchall()[0][0]
    source = next(source for source in scanned.sources if source.path == path)
    line = _line_of_row(reader, scanned, source, int(before))
    kind = scanned.types[name]
    given = name in dict(reader.column_types)
    return InputError(
        f"{source.found.address}:{line}: column {name!r}: {clean(value, limit=60)!r} is no {_PEOPLE[kind.name]}"
        + (f" in the formats {', '.join(kind.formats)}" if kind.formats else ""),
        expected=f"{kind.name} ({'as set' if given else 'as inferred from the rows before'})",
        hint="Correct the value, set the type of the column (set_column_types), or use on_error='null' (--misfits-null) to make such values null.",
    )


_PEOPLE = {"long": "whole number", "float": "number", "bool": "true or false", "datetime": "date or time"}


def _line_of_row(reader: DelimitedReader, scanned: Scan, source: Source, row: int) -> str:
    """The first line of a data row, counted by the csv module because quoted values may span lines."""
    header = reader.header in ("all_same", "combine") or (
        reader.header == "first_file" and source is next(s for s in scanned.sources if s.names is not None)
    )
    if len(reader.separator) > 1:
        return f"row {row + 1}"
    seen, end = -1 if header else 0, 0
    for last, values in records(source.path, reader):
        if values or (len(scanned.columns) == 1 and seen >= 0):
            if seen == row:
                return str(end + 1)
            seen += 1
        end = last
    return f"row {row + 1}"


# -- the first rows without an engine ------------------------------------------------------------------------------------


def first_texts(reader: DelimitedReader, source: Source, count: int) -> tuple[tuple[str, ...], list[list[str]]]:
    """Column names and the texts of the first rows of one file, by the csv module alone."""
    assert source.names is not None
    has_header = reader.header != "none"
    names = column_names(source.names if has_header else [""] * len(source.names))
    rows: list[list[str]] = []
    skipping = has_header
    for _, values in _named(records(source.path, reader), source.path, source.found.address):
        if not values and (len(names) > 1 or skipping):
            continue
        if skipping:
            skipping = False
            continue
        if len(rows) == count:
            break
        rows.append(values)
    return names, rows
