"""DuckDB as used here: in memory, no extension is ever fetched, and what it may read is said before the first question.

A locked connection reads the given files and nothing else, writes nowhere but below its own scratch folder, and its settings
cannot be changed any more. Imported where tables are evaluated, never on the way to "nothing to do".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlpipe_engine.data.expressions import literal
from mlpipe_engine.errors import FilesystemError, InputError, MlpipeError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    # Else `SELECT * FROM name` would find variables of the Python program around it.
    "python_enable_replacements": "false",
}


def connect(scratch: str, *, memory_bytes: int | None = None, threads: int | None = None) -> DuckDBPyConnection:
    """A connection that spills below `scratch`. Times without a zone are UTC, on every machine."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = dict(_CONFIG)
    config["temp_directory"] = os.path.join(scratch, "spill")
    if memory_bytes is not None:
        config["memory_limit"] = f"{memory_bytes}B"
    if threads is not None:
        config["threads"] = threads
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET TimeZone = 'UTC'")
    # The small side of our joins is the one on the right; swapping them would lose the order of rows.
    connection.execute("SET disabled_optimizers = 'build_side_probe_side'")
    return connection


def lock(connection: DuckDBPyConnection, readable: Iterable[str], writable: str | None = None) -> None:
    """From here on it reads `readable` and, below the folder `writable`, reads and writes; nothing else can be opened."""
    connection.execute(f"SET allowed_paths = [{', '.join(literal(path) for path in readable)}]")
    if writable is not None:
        connection.execute(f"SET allowed_directories = [{literal(writable)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """DuckDB's errors as ours: one line, no advice about options that only DuckDB has."""
    import duckdb

    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        raise explained(error, doing) from error


def explained(error: Exception, doing: str) -> MlpipeError:
    text = first_line(str(error))
    if "No space left" in text or "max_temp_directory_size" in text:
        return FilesystemError(f"cannot {doing}: no space is left for temporary files", hint="Free some disk space.")
    if type(error).__name__ == "OutOfMemoryException":
        return FilesystemError(
            f"cannot {doing}: it needs more memory than there is", hint="Close other programs, or take fewer rows."
        )
    return InputError(f"cannot {doing}: {text}")


def first_line(text: str) -> str:
    """The sentence of a message of DuckDB without its kind and without where it stands in a query that we wrote."""
    head = text.strip().split("\n\n")[0].split("\nLINE ")[0]
    return re.sub(r"^[A-Za-z ]+ Error: ", "", " ".join(head.split()))
