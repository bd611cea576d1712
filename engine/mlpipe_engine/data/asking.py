"""One SELECT of a person over datasets, in a DuckDB that can read their files, nothing else, and write nowhere.

Each dataset is a view. The statement is parsed before anything runs: one SELECT, or EXPLAIN of one. Settings are locked, extensions
and the network are off, variables of this program are not seen, memory is limited, and a question that takes too long is stopped.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpipe_engine.data import duck, queries
from mlpipe_engine.data.expressions import identifier
from mlpipe_engine.data.tabular import compiled
from mlpipe_engine.errors import FilesystemError, InputError, MlpipeError, nearest
from mlpipe_engine.model.datasets import ColumnSchema, DatasetDefinition, Found

TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Answer:
    columns: tuple[ColumnSchema, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    """There are rows behind the limit."""


def mentioned(query: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those names that stand in the query as words; a text or a comment that holds one costs a look at its files, nothing more."""
    words = {word.casefold() for word in re.findall(r'"(?:[^"]|"")*"|[\w.\-]+|\w+', query)}
    words |= {word.casefold() for word in re.findall(r"\w+", query)} | {word.strip('"').replace('""', '"') for word in words}
    return tuple(name for name in names if name.casefold() in words)


def ask(
    query: str,
    datasets: Mapping[str, tuple[DatasetDefinition, Sequence[Found]]],
    *,
    limit: int | None = 1000,
    timeout_seconds: float = TIMEOUT_SECONDS,
    memory_bytes: int | None = None,
    scratch: str | None = None,
    known: Sequence[str] = (),
) -> Answer:
    """`known`: names that could have been asked for, for the message when one is misspelt. Raises InputError, FilesystemError."""
    text = queries.only_select(query, explain=True)
    try:
        if scratch is not None:
            os.makedirs(scratch, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="sql-", dir=scratch)
    except OSError as error:
        raise FilesystemError.of(error, "make a temporary folder", scratch) from error
    try:
        return _ask(text, datasets, limit, timeout_seconds, memory_bytes, os.path.realpath(folder), known)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ask(
    query: str, datasets: Mapping[str, tuple[DatasetDefinition, Sequence[Found]]], limit: int | None, timeout_seconds: float,
    memory_bytes: int | None, folder: str, known: Sequence[str],
) -> Answer:  # fmt: skip
    import duckdb

    connection = duck.connect(folder, memory_bytes=memory_bytes)
    try:
        readable: list[str] = []
        for number, (name, (definition, found)) in enumerate(datasets.items()):
            own = os.path.join(folder, str(number))
            os.mkdir(own)
            made = compiled(definition, found, own, connection, tag=str(number))
            readable += made.base.readable
            connection.execute(f"CREATE VIEW {identifier(name)} AS {made.sql}")
        # Writable is nothing: what spills goes where the engine itself keeps its temporary files, which no statement can name.
        duck.lock(connection, readable)
        with queries.Deadline(timeout_seconds, connection.interrupt) as deadline:
            try:
                connection.execute(query)
                rows = connection.fetchmany(limit + 1) if limit is not None else connection.fetchall()
                columns = tuple(ColumnSchema(item[0], str(item[1])) for item in connection.description or ())
            except duckdb.InterruptException:
                if not deadline.passed:
                    raise KeyboardInterrupt from None
                raise InputError(
                    f"the question took longer than {timeout_seconds:g} seconds",
                    hint="Ask for less, or give it more time (--timeout).",
                ) from None
            except duckdb.Error as error:
                raise _explained(error, known) from None
    finally:
        connection.close()
    shown = rows if limit is None else rows[:limit]
    return Answer(columns, tuple(shown), len(rows) > len(shown))


def _explained(error: Exception, known: Sequence[str]) -> MlpipeError:
    text = duck.first_line(str(error))
    missing = re.search(r"Table with name (\S+) does not exist", text)
    if missing is not None:
        close = nearest(missing[1], known)
        return InputError(
            f"there is no dataset {missing[1]!r}" + (f"; did you mean {close!r}?" if close else ""),
            expected=f"one of {', '.join(known)}" if known else "a registered dataset, or --dataset NAME=PATH",
        )
    if "file system operations are disabled" in text or "Loading external extensions is disabled" in text:
        return InputError(
            "the query reaches for something outside of its datasets, which is not possible here",
            hint="Ask for datasets by name.",
        )
    if "configuration has been locked" in text:
        return InputError("settings cannot be changed here", hint="Ask for rows only.")
    return duck.explained(error, "answer the question")
