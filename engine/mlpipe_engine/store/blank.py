"""The schema of a new store as SQL text, so that a first run does not import sqlite-utils: 120 to 250 ms for thirty statements.

blank.sql is made from the migrations by `dev.py schema`, never by hand; a test compares the two. One that is older than the
migrations is not used: the store is then made by them, as an old one is brought up to date.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime

from mlpipe_engine.store.database import VERSION

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "blank.sql")
_NEXT = "\n--\n"
_NOW = "datetime of making"


def make(connection: sqlite3.Connection) -> bool:
    """Make everything in an empty file; False, with nothing done, when the text is of another version.

    Prereq: the write lock is held and an exclusive transaction is open.
    """
    try:
        with open(PATH, encoding="utf-8") as file:
            first, *statements = file.read().strip("\n").split(_NEXT)
    except OSError:
        return False
    if first != _first(VERSION) or connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
        return False
    now = str(datetime.now(UTC))
    for statement in statements:
        connection.execute(statement.replace(_NOW, now) if _NOW in statement else statement)
    connection.execute(f"PRAGMA user_version={VERSION}")
    return True


def text_of(connection: sqlite3.Connection) -> str:
    """What `make` reads. Prereq: the migrations were applied to an empty file and nothing else was."""
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    statements = [str(row[0]) for row in rows]
    tables = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid")]
    for table in tables:
        cursor = connection.execute(f'SELECT * FROM "{table}"')
        names = [column[0] for column in cursor.description]
        for row in cursor.fetchall():
            values = [_NOW if name == "applied_at" else value for name, value in zip(names, row)]
            statements.append(f'INSERT INTO "{table}" ({", ".join(names)}) VALUES ({", ".join(map(_literal, values))})')
    return _NEXT.join([_first(VERSION), *statements]) + "\n"


def _first(version: int) -> str:
    return f"-- made by `dev.py schema`; user_version {version}"


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def write() -> None:
    """`dev.py schema`."""
    from mlpipe_engine.store.schema import migrate

    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    with open(PATH, "w", encoding="utf-8") as file:
        file.write(text_of(connection))
