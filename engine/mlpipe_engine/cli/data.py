"""`data ls`, `show`, `head`, `profile`, `diff`, `register`, `sql`: datasets on the command line.

A dataset is named NAME or NAME:VERSION where it is registered, else by a path, glob or address; then the end of its name says how it
is read. What a verb needs beyond the engine is imported by it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mlpipe_engine.cli.columns import cell, row_count
from mlpipe_engine.cli.output import local_time, print_json, size, table
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import DatasetNotFoundError, InputError, UsageError
from mlpipe_engine.model.text import clean

if TYPE_CHECKING:
    from mlpipe_engine.model.datasets import (
        ColumnProfile,
        DatasetDefinition,
        DatasetDiff,
        DatasetVersionRecord,
        Expectation,
        Moved,
        Profile,
        RowsDiff,
    )

_ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".psv": "|"}


# -- which dataset is meant ----------------------------------------------------------------------------------------------


def _looks_like_a_path(engine: Engine, text: str) -> bool:
    return "/" in text or "://" in text or any(sign in text for sign in "*?[") or os.path.exists(text)


def _target(engine: Engine, text: str, arguments: Arguments) -> tuple[str, DatasetDefinition]:
    """(what it is called, its definition). Raises DatasetNotFoundError, InputError."""
    from mlpipe_engine.runner.registry import parse_name

    if os.path.isfile(_here(arguments, text)):
        return text, definition_of((_in_project(engine, arguments, text),), arguments)
    name, version = parse_name(text) if "://" not in text else (text, None)
    try:
        record = engine.dataset(name, version)
        return f"{record.name} v{record.version}", record.definition
    except DatasetNotFoundError:
        if not _looks_like_a_path(engine, text):
            raise
    return text, definition_of((_in_project(engine, arguments, text),), arguments)


def _here(arguments: Arguments, path: str) -> str:
    """Paths on a command line are relative to the folder it is typed in."""
    return os.path.join(arguments.text("directory") or "", path)


def _in_project(engine: Engine, arguments: Arguments, path: str) -> str:
    """The same path as datasets have it: relative to the project where it lies in it."""
    if "://" in path or os.path.isabs(path):
        return path
    full = os.path.normpath(os.path.join(os.path.realpath(arguments.text("directory") or "."), path))
    root = os.path.realpath(engine.root)
    return os.path.relpath(full, root) if full == root or full.startswith(root.rstrip("/") + "/") else full


def definition_of(paths: tuple[str, ...], arguments: Arguments) -> DatasetDefinition:
    """How files are read, by options and by the ending of the first. Raises InputError."""
    from mlpipe_engine.model.datasets import DatasetDefinition, DelimitedReader, JsonLinesReader, ParquetReader, Reader

    if arguments.flag("files"):
        return DatasetDefinition(kind="file", paths=paths)
    first = paths[0].rstrip("/").lower().partition("?")[0].removesuffix(".gz")
    separator = arguments.text("separator")
    reader: Reader
    if first.endswith((".parquet", ".pq")):
        reader = ParquetReader()
    elif first.endswith((".jsonl", ".ndjson", ".json")):
        reader = JsonLinesReader(encoding=arguments.text("encoding") or "utf8")
    else:
        ending = os.path.splitext(first)[1]
        if separator is None and ending not in _ENDINGS:
            raise InputError(
                f"the ending of {paths[0]!r} does not say how to read it", expected=".csv, .tsv, .parquet or .jsonl",
                hint="Give the separator (--separator ';'), or take it as files (--files).",
            )  # fmt: skip
        reader = DelimitedReader(
            separator=(separator or _ENDINGS[ending]).replace("\\t", "\t"),
            header="none" if arguments.flag("no-header") else "all_same",
            encoding=_encoding(arguments.text("encoding") or "utf8"),
            on_error="null" if arguments.flag("misfits-null") else "fail",
        )
    return DatasetDefinition(kind="tabular", paths=paths, reader=reader)


def _encoding(name: str) -> str:
    from mlpipe_engine.data.delimited import codec_of

    try:
        codec_of(name)
    except LookupError:
        raise UsageError(f"unknown encoding {name!r}", expected="utf8, latin1, windows1252, utf16 or a codec of Python") from None
    return name


# -- ls, show ------------------------------------------------------------------------------------------------------------


def data_ls(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    where = arguments.positionals.get("WHERE")
    records = engine.datasets()
    if where is None:
        return _list(records, arguments, "no dataset is registered; register one with `mlpipe-tui data register NAME PATH`")
    if where in {record.name for record in records}:
        return _list(engine.dataset_versions(where)[::-1], arguments, "")
    return _list_datastore(engine, where, arguments)


def _list(records: tuple[DatasetVersionRecord, ...], arguments: Arguments, nothing: str) -> int:
    if arguments.flag("json"):
        print_json("data-ls", items=[_document(record) for record in records])
    elif not records:
        print(nothing)
    else:
        table(
            ("name", "version", "kind", "files", "size", "columns", "registered", "description"),
            [(record.name, str(record.version), record.definition.kind, f"{record.file_count:,}", size(record.size_bytes),
              str(len(record.schema) or ""), local_time(record.created_at), record.description) for record in records],
        )  # fmt: skip
    return 0


def _list_datastore(engine: Engine, where: str, arguments: Arguments) -> int:
    name, _, path = where.removeprefix("datastore://").partition("/")
    names = [spec.name for spec in engine.datastores()]
    if name not in names:
        from mlpipe_engine.errors import nearest

        known = [*(record.name for record in engine.datasets()), *names]
        close = nearest(where, known)
        raise DatasetNotFoundError(
            f"there is no dataset or datastore {where!r}" + (f"; did you mean {close!r}?" if close else ""),
            expected=f"one of {', '.join(known)}",
        )
    found = engine.list_datastore(name, path)
    if arguments.flag("json"):
        print_json("data-ls", items=[{"path": item.path, "size_bytes": item.size} for item in found])
    elif not found:
        print(f"datastore {name} is empty")
    else:
        table(("path", "size"), [(item.path, size(item.size)) for item in found])
    return 0


def data_show(arguments: Arguments) -> int:
    from mlpipe_engine.model import wire
    from mlpipe_engine.runner.registry import parse_name

    engine = Engine.open(arguments.text("directory"))
    record = engine.dataset(*parse_name(arguments.positionals["DATASET"]))
    moved = engine.moved(record)
    verdicts = engine.check_dataset(record.definition, record.expectations) if arguments.flag("check") else ()
    failed = any(not verdict.holds and verdict.severity == "fail" for verdict in verdicts)
    if arguments.flag("json"):
        checks = [{"holds": verdict.holds, "severity": verdict.severity, "text": verdict.text} for verdict in verdicts]
        print_json(
            "data-show",
            dataset=_document(record),
            moved=_moved_document(moved),
            checks=checks if arguments.flag("check") else None,
        )
        return 1 if failed else 0
    print(f"{clean(record.name)} v{record.version}, {record.definition.kind}, registered {local_time(record.created_at)}")
    if record.description:
        print(f"  {clean(record.description)}")
    lines = [
        ("content", f"{record.content}, {record.file_count:,} file{'s' * (record.file_count != 1)}, {size(record.size_bytes)}")
    ]
    lines.append(("state", _moved_text(moved, record)))
    lines += [("path", path) for path in record.definition.paths]
    if record.definition.reader is not None:
        lines.append(("read as", _reader_text(record.definition)))
    lines += [("then", wire.dump(operation)) for operation in record.definition.operations]
    lines += [("tag", f"{key}={value}") for key, value in record.tags]
    for name, text in lines:
        print(f"  {name:<8} {clean(text)}")
    if record.schema:
        print("columns:")
        for column in record.schema:
            print(f"  {clean(column.name):<24} {clean(column.type)}")
    if record.expectations:
        print("expectations:")
        for number, expectation in enumerate(record.expectations):
            if verdicts:
                verdict = verdicts[number]
                sign = "ok  " if verdict.holds else "FAIL" if verdict.severity == "fail" else "warn"
                print(f"  {sign} {clean(verdict.text)}")
            else:
                print(f"  {clean(expectation_text(expectation))}")
    return 1 if failed else 0


def expectation_text(expectation: Expectation) -> str:
    from mlpipe_engine.data.expect import wish

    return wish(expectation) + ("" if expectation.severity == "fail" else " (warns)")


def _reader_text(definition: DatasetDefinition) -> str:
    from dataclasses import fields

    reader = definition.reader
    assert reader is not None
    kind = {
        "DelimitedReader": "delimited text", "ParquetReader": "Parquet", "JsonLinesReader": "JSON lines", "SqlReader": "a query",
    }[type(reader).__name__]  # fmt: skip
    changed = [
        f"{item.name}={getattr(reader, item.name)!r}" for item in fields(reader)
        if item.name != "column_types" and getattr(reader, item.name) != item.default
    ]  # fmt: skip
    changed += [f"{name} as {type_.name}" for name, type_ in reader.column_types]
    return ", ".join([kind, *changed])


def _moved_text(moved: Moved, record: DatasetVersionRecord) -> str:
    if not moved:
        return "as registered"
    parts = [
        f"{len(paths):,} {word}"
        for word, paths in (("changed", moved.changed), ("added", moved.added), ("gone", moved.removed))
        if paths
    ]
    return f"the data moved under v{record.version}: files {', '.join(parts)}; see `mlpipe-tui data diff {record.name}:{record.version}`"


# -- head, sql -----------------------------------------------------------------------------------------------------------


def data_head(arguments: Arguments) -> int:
    from mlpipe_engine.data.glance import Glance

    engine = Engine.open(arguments.text("directory"))
    count = arguments.number("rows", 10) or 0
    _, definition = _target(engine, arguments.positionals["DATASET"], arguments)
    if definition.kind == "file":
        return _head_files(engine, definition, count, arguments)
    found = engine.first_rows(definition, count)
    if isinstance(found, Glance):
        names, types = list(found.columns), [""] * len(found.columns)
    else:
        names, types = [column.name for column in found.columns], [column.type for column in found.columns]
    _print_rows("data-head", names, types, found.rows, found.more, arguments)
    return 0


def _head_files(engine: Engine, definition: DatasetDefinition, count: int, arguments: Arguments) -> int:
    files = engine.find(definition)
    shown = files[:count]
    if arguments.flag("json"):
        items = [{"path": item.path, "address": item.address, "size_bytes": item.size, "digest": item.digest} for item in shown]
        print_json("data-head", files=items, more=len(files) > count)
    else:
        table(("path", "size", "digest"), [(item.path, size(item.size), item.digest[:19]) for item in shown])
        if len(files) > count:
            print(f"... and {len(files) - count:,} more files")
    return 0


def data_sql(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    extra = {}
    for text in arguments.texts("dataset"):
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"--dataset got {text!r}", expected="NAME=PATH")
        extra[name] = _target(engine, path, arguments)[1]
    limit = arguments.number("limit", 1000)
    timeout = arguments.number("timeout")
    answer = engine.ask(
        arguments.positionals["QUERY"],
        extra,
        limit=limit or None,
        timeout_seconds=float(timeout) if timeout is not None else None,
    )
    names = [column.name for column in answer.columns]
    _print_rows("data-sql", names, [column.type for column in answer.columns], answer.rows, answer.more, arguments)
    return 0


def _print_rows(
    verb: str, names: list[str], types: list[str], rows: tuple[tuple[Any, ...], ...], more: bool, arguments: Arguments
) -> None:
    if arguments.flag("json"):
        columns = [{"name": name, "type": kind or None} for name, kind in zip(names, types, strict=True)]
        print_json(verb, columns=columns, rows=[[_json(value) for value in row] for row in rows], more=more)
        return
    table(tuple(names), [tuple(cell(value) for value in row) for row in rows])
    print(row_count(len(rows), more=more))


def _json(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    from mlpipe_engine.data.profiling import scalar

    if isinstance(value, list | tuple):
        return [_json(member) for member in value]
    if isinstance(value, dict):
        return {str(key): _json(member) for key, member in value.items()}
    return scalar(value)


# -- profile -------------------------------------------------------------------------------------------------------------


def data_profile(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    label, definition = _target(engine, arguments.positionals["DATASET"], arguments)
    made = engine.profile(definition, full=arguments.flag("full"), core=arguments.flag("core"), fresh=arguments.flag("fresh"))
    if arguments.flag("json"):
        print_json("data-profile", dataset=label, **_profile_document(made))
        return 0
    rows = f"{made.rows:,} rows" if made.rows is not None else "rows not counted"
    sample = f", columns from a sample of {made.sample_rows:,} (--full takes all)" if made.sampled else ""
    print(f"{clean(label)}: {rows}, {len(made.columns)} columns{sample}")
    head = ("column", "type", "missing", "distinct", "min", "25%", "median", "75%", "max", "mean", "std")
    table(head, [_profile_row(column) for column in made.columns])
    for problem in made.problems:
        print(f"warning: {clean(problem)}")
    return 0


def _profile_row(column: ColumnProfile) -> tuple[str, ...]:
    missing = f"{column.missing / column.count:.1%}" if column.missing and column.count else "0"
    distinct = "" if column.distinct is None else f"{'' if column.distinct_exact else '~'}{column.distinct:,}"
    middle = column.quantiles[3:6] if column.quantiles else ("", "", "")
    numbers = [("" if value is None else cell(value)) for value in (column.mean, column.std)]
    ends = [cell(value) if value is not None else "" for value in (column.minimum, *middle, column.maximum)]
    return (column.name, column.type, missing, distinct, *ends, *numbers)


def _profile_document(made: Profile) -> dict[str, object]:
    from dataclasses import asdict

    from mlpipe_engine.model.datasets import QUANTILES

    items = []
    for column in made.columns:
        item = asdict(column)
        item["quantiles"] = {str(point): value for point, value in zip(QUANTILES, column.quantiles, strict=False)}
        item["histogram"] = [{"from": low, "to": high, "count": count} for low, high, count in column.histogram]
        item["top_values"] = [{"value": value, "count": count} for value, count in column.top_values]
        items.append(item)
    return {
        "rows": made.rows, "sampled": made.sampled, "sample_rows": made.sample_rows, "core": made.core, "items": items,
        "problems": list(made.problems),
    }  # fmt: skip


# -- diff ----------------------------------------------------------------------------------------------------------------


def data_diff(arguments: Arguments) -> int:
    from mlpipe_engine.runner.registry import parse_name

    engine = Engine.open(arguments.text("directory"))
    name, version = parse_name(arguments.positionals["DATASET"])
    before = engine.dataset(name, version)
    other = arguments.positionals.get("OTHER")
    after = engine.dataset(*parse_name(other)) if other is not None else None
    keys = tuple(part.strip() for text in arguments.texts("key") for part in text.split(","))
    found = engine.diff_datasets(before, after, key=keys, rows=not arguments.flag("no-rows"))
    if arguments.flag("json"):
        print_json("data-diff", **_diff_document(found))
    else:
        _print_diff(found)
    return 1 if arguments.flag("exit-code") and not found.same else 0


def _print_diff(found: DatasetDiff) -> None:
    print(f"{clean(found.before)} -> {clean(found.after)}")
    for part, old, new in found.definition:
        print(f"  definition: {clean(part)}: {clean(old, limit=200)} -> {clean(new, limit=200)}")
    for word, sign, paths in (
        ("added", "+", found.files.added),
        ("removed", "-", found.files.removed),
        ("changed", "~", found.files.changed),
    ):
        for path in paths[:10]:
            print(f"  file {sign} {clean(path)}")
        if len(paths) > 10:
            print(f"  and {len(paths) - 10:,} more files {word}")
    for change in found.schema:
        print(f"  column {clean(change.column)}: {clean(change.before) or 'not there'} -> {clean(change.after) or 'not there'}")
    if found.rows is not None:
        _print_rows_diff(found.rows)
    for statistic in found.statistics:
        print(f"  {clean(statistic.column)}.{statistic.statistic}: {cell(statistic.before)} -> {cell(statistic.after)}")
    if found.same:
        print("  nothing differs")
    elif found.rows is None and found.files:
        print("  rows are not compared: the files of one side are no longer there, or rows were not asked for")


def _print_rows_diff(rows: RowsDiff) -> None:
    by = f" by {', '.join(rows.key)}" if rows.key else ""
    changed = f", {rows.changed:,} changed" if rows.key else ""
    print(f"  rows{clean(by)}: {rows.before:,} -> {rows.after:,}: {rows.added:,} added, {rows.removed:,} removed{changed}")
    if rows.note:
        print(f"    {clean(rows.note)}")
    for sign, examples in (("+", rows.added_examples), ("-", rows.removed_examples)):
        for example in examples:
            print(f"    {sign} {clean(', '.join(map(cell, example)), limit=300)}")
    for row in rows.changed_examples:
        changes = ", ".join(f"{name} {cell(old)} -> {cell(new)}" for name, old, new in row.changes)
        print(f"    ~ {clean(', '.join(map(cell, row.key)), limit=100)}: {clean(changes, limit=300)}")


def _diff_document(found: DatasetDiff) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "before": found.before, "after": found.after, "same": found.same,
        "definition": [{"part": part, "before": old, "after": new} for part, old, new in found.definition],
        "files": _moved_document(found.files), "schema": [asdict(change) for change in found.schema],
        "rows": asdict(found.rows) if found.rows is not None else None, "items": [asdict(change) for change in found.statistics],
    }  # fmt: skip


# -- register ------------------------------------------------------------------------------------------------------------


def data_register(arguments: Arguments) -> int:
    from mlpipe_engine.model.datasets import ExpectRows, ExpectUnique

    engine = Engine.open(arguments.text("directory"))
    name = arguments.positionals["NAME"]
    paths = tuple(_in_project(engine, arguments, path) for path in (arguments.positionals["PATH"], *arguments.rest))
    expectations: list[Expectation] = []
    minimum = arguments.number("min-rows")
    if minimum is not None:
        expectations.append(ExpectRows(minimum))
    if (unique := arguments.text("unique")) is not None:
        expectations.append(ExpectUnique(tuple(part.strip() for part in unique.split(","))))
    tags = {}
    for text in arguments.texts("tag"):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--tag got {text!r}", expected="NAME=VALUE")
        tags[key] = value
    record, new = engine.register_dataset(
        name, definition_of(paths, arguments), expectations=expectations, description=arguments.text("description") or "", tags=tags,
        create_new_version=arguments.flag("new-version"),
    )  # fmt: skip
    if arguments.flag("json"):
        print_json("data-register", dataset=_document(record), new=new)
    elif new:
        columns = f", {len(record.schema)} columns" if record.schema else ""
        files = f"{record.file_count:,} file{'s' * (record.file_count != 1)}"
        print(f"registered {clean(record.name)} v{record.version}: {files}, {size(record.size_bytes)}{columns}")
    else:
        print(f"{clean(record.name)} v{record.version} has this definition and content already; no new version was made")
    return 0


# -- documents -----------------------------------------------------------------------------------------------------------


def _document(record: DatasetVersionRecord) -> dict[str, object]:
    import json

    from mlpipe_engine.model import wire

    return {
        "name": record.name, "version": record.version, "kind": record.definition.kind, "created_at": record.created_at,
        "description": record.description, "tags": dict(record.tags), "paths": list(record.definition.paths), "content": record.content,
        "file_count": record.file_count, "size_bytes": record.size_bytes,
        "schema": [{"name": column.name, "type": column.type} for column in record.schema],
        "expectations": [expectation_text(item) for item in record.expectations], "definition": json.loads(wire.dump(record.definition)),
    }  # fmt: skip


def _moved_document(moved: Moved) -> dict[str, object]:
    return {"added": list(moved.added), "removed": list(moved.removed), "changed": list(moved.changed)}
