"""Tables of state.db and how older files become newer ones, by sqlite-utils migrations.

A released migration is never edited; a new one is added below it and VERSION is raised. Imported only when a file has to be
made or migrated, because sqlite-utils takes 300 ms to import.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database, Migrations

from mlpipe_engine.store.database import VERSION

migrations = Migrations("mlpipe")

_FINAL = "('succeeded', 'failed', 'canceled', 'reused', 'skipped')"


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file behind `connection` to VERSION. Prereq: the write lock is held and an exclusive transaction is open."""
    database = Database(connection, execute_plugins=False)
    migrations.apply(database)
    connection.execute(f"PRAGMA user_version={VERSION}")


@migrations()
def m001_runs_results_and_metrics(db: Database) -> None:
    db.table("runs").create(
        {
            "number": int,
            "id": str,
            "pipeline": str,
            "experiment": str,
            "state": str,
            "created_at": str,
            "started_at": str,
            "finished_at": str,
            "seconds": float,
            "parameters": str,
            "tags": str,
            "properties": str,
            "source": str,
            "spec": str,
            "options": str,
            "resumed_from": str,
            "mirrors": int,
            "error": str,
            "parent": str,
            "name": str,
            "cancel_requested": int,
        },
        pk="number",
        not_null={"id", "pipeline", "experiment", "state", "created_at"},
        defaults={"parameters": "[]", "tags": "[]", "properties": "[]", "source": "", "spec": "", "options": "",
                  "error": "", "name": "", "cancel_requested": 0},
        strict=True,
    )  # fmt: skip
    db.table("runs").create_index(["id"], unique=True)
    db.table("runs").create_index(["experiment", "number"])
    db.table("runs").create_index(["pipeline", "number"])
    db.table("runs").create_index(["parent"])
    db.execute("CREATE TABLE specs (digest TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID")
    db.execute("CREATE TABLE documents (digest TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID")
    db.execute(
        """CREATE TABLE step_runs (
            run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE, idx INTEGER NOT NULL, name TEXT NOT NULL,
            pipeline TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, decision TEXT NOT NULL DEFAULT '',
            causes TEXT NOT NULL DEFAULT '', unread TEXT NOT NULL DEFAULT '', compared INTEGER, manifest TEXT, base_key TEXT,
            snapshot TEXT, result INTEGER, reused_from INTEGER, queued_at TEXT, started_at TEXT, finished_at TEXT, seconds REAL,
            exit TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '', cpu_seconds REAL, peak_memory_bytes INTEGER,
            outputs TEXT NOT NULL DEFAULT '', tags TEXT NOT NULL DEFAULT '', expected_seconds REAL, changed INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (run, idx)) STRICT, WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX step_runs_by_name ON step_runs (pipeline, name, run)")
    db.execute(
        """CREATE TABLE results (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL, pipeline TEXT NOT NULL, fingerprint TEXT NOT NULL,
            base_key TEXT NOT NULL, snapshot TEXT NOT NULL, structure TEXT NOT NULL, reads BLOB, outputs TEXT NOT NULL,
            seconds REAL NOT NULL, finished_at TEXT NOT NULL, withdrawn TEXT NOT NULL DEFAULT '') STRICT"""
    )
    db.execute("CREATE INDEX results_by_base_key ON results (base_key, id)")
    db.execute("CREATE INDEX results_by_step ON results (pipeline, step, id)")
    db.execute(
        """CREATE TABLE artifacts (
            digest TEXT PRIMARY KEY, kind TEXT NOT NULL, size_bytes INTEGER NOT NULL, file_count INTEGER NOT NULL,
            signature TEXT NOT NULL, created_at TEXT NOT NULL) STRICT, WITHOUT ROWID"""
    )
    db.execute(
        """CREATE TABLE metrics (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
            value TEXT NOT NULL, step_number INTEGER, time TEXT NOT NULL, origin TEXT NOT NULL DEFAULT '') STRICT"""
    )
    db.execute("CREATE INDEX metrics_by_run ON metrics (run, step, id)")
    db.execute(
        """CREATE TABLE files (
            run INTEGER NOT NULL, step TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL,
            PRIMARY KEY (run, step, name)) STRICT, WITHOUT ROWID"""
    )
    db.execute(
        """CREATE TABLE models (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, run INTEGER NOT NULL, step TEXT NOT NULL,
            path TEXT NOT NULL, tags TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE (name, version)) STRICT"""
    )
    db.execute(
        """CREATE TABLE stat_cache (
            path BLOB PRIMARY KEY, dev INTEGER, ino INTEGER, ctime_ns INTEGER, mtime_ns INTEGER, size INTEGER,
            digest TEXT NOT NULL, cached_at_ns INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"""
    )
    db.execute("CREATE TABLE cache (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID")
    db.execute("CREATE TABLE uptodate (request TEXT PRIMARY KEY, run INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID")
    for table in ("runs", "step_runs"):
        db.execute(
            f"""CREATE TRIGGER {table}_final BEFORE UPDATE OF state ON {table}
                WHEN OLD.state IN {_FINAL} AND NEW.state <> OLD.state
                BEGIN SELECT RAISE(ABORT, 'a final state never changes'); END"""
        )


@migrations(name="m005_sweeps_and_acceptances")
def m005_sweeps_and_acceptances(db: Database) -> None:
    """`kind` tells a run with a runner of its own ("run", "sweep") from what a step's script made ("child")."""
    db.execute("ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'run'")
    db.execute("UPDATE runs SET kind = 'child' WHERE parent IS NOT NULL")
    db.execute(
        """CREATE TABLE sweeps (
            run INTEGER PRIMARY KEY REFERENCES runs(number) ON DELETE CASCADE, axes TEXT NOT NULL, parallel INTEGER NOT NULL,
            fail_fast INTEGER NOT NULL) STRICT"""
    )
    db.execute(
        """CREATE TABLE acceptances (
            id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, step TEXT NOT NULL, result INTEGER NOT NULL, from_fingerprint TEXT NOT NULL,
            from_snapshot TEXT NOT NULL, fingerprint TEXT NOT NULL, snapshot TEXT NOT NULL, causes TEXT NOT NULL, who TEXT NOT NULL,
            because TEXT NOT NULL, created_at TEXT NOT NULL, revoked_at TEXT, revoked_by TEXT) STRICT"""
    )
    db.execute("CREATE INDEX acceptances_by_fingerprint ON acceptances (fingerprint, id)")


@migrations()
def m004_upkeep(db: Database) -> None:
    """Pins, runs that were removed, outputs that were collected, and what tells a copy of a project from the project."""
    db.execute("ALTER TABLE runs ADD COLUMN removed TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE artifacts ADD COLUMN collected TEXT NOT NULL DEFAULT ''")
    db.execute(
        """CREATE TABLE pins (
            run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE, step TEXT NOT NULL, output TEXT NOT NULL,
            created_at TEXT NOT NULL, PRIMARY KEY (run, step, output)) STRICT, WITHOUT ROWID"""
    )
    db.execute("CREATE TABLE project (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID")


@migrations()
def m006_up_to_date_entries_end_with_what_they_rest_on(db: Database) -> None:
    db.execute("DROP TABLE uptodate")
    db.execute("CREATE TABLE uptodate (request TEXT PRIMARY KEY, run INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID")
    db.execute("CREATE TABLE uptodate_epoch (n INTEGER NOT NULL) STRICT")
    db.execute("INSERT INTO uptodate_epoch (n) VALUES (0)")
    for name, event in (("added", "INSERT"), ("changed", "UPDATE OF withdrawn"), ("gone", "DELETE")):
        db.execute(
            f"CREATE TRIGGER uptodate_result_{name} AFTER {event} ON results"
            " BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END"
        )
    db.execute("CREATE INDEX runs_unfinished ON runs (number) WHERE state IN ('queued', 'running')")


@migrations()
def m002_undeclared(db: Database) -> None:
    """What a result used without having declared it: files with signatures, and names with the distributions that provide them."""
    for column in ("undeclared BLOB", "modules BLOB", "audit TEXT NOT NULL DEFAULT ''"):
        db.execute(f"ALTER TABLE results ADD COLUMN {column}")


@migrations()
def m012_step_directories_that_were_put_away(db: Database) -> None:
    """Not empty: the directory had nothing but what rows say; it is made anew when it is opened. The text names the interpreter."""
    db.execute("ALTER TABLE step_runs ADD COLUMN put_away TEXT NOT NULL DEFAULT ''")


@migrations()
def m008_datasets(db: Database) -> None:
    """Registered datasets: versions, the files each was registered with, and statistics by what they describe."""
    db.execute("CREATE TABLE dataset_names (name TEXT PRIMARY KEY, highest INTEGER NOT NULL) STRICT, WITHOUT ROWID")
    db.execute(
        """CREATE TABLE dataset_versions (
            name TEXT NOT NULL, version INTEGER NOT NULL, definition TEXT NOT NULL, content TEXT NOT NULL, file_count INTEGER NOT NULL,
            size_bytes INTEGER NOT NULL, columns TEXT NOT NULL, expectations TEXT NOT NULL, created_at TEXT NOT NULL,
            description TEXT NOT NULL, tags TEXT NOT NULL, PRIMARY KEY (name, version)) STRICT, WITHOUT ROWID"""
    )
    db.execute("CREATE TABLE dataset_manifests (content TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID")
    db.execute("CREATE TABLE dataset_profiles (key TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID")


@migrations()
def m007_datastores(db: Database) -> None:
    """What was delivered to datastores, file by file, as it lay there afterwards."""
    db.execute(
        """CREATE TABLE deliveries (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL, output TEXT NOT NULL, artifact TEXT NOT NULL,
            address TEXT NOT NULL, files TEXT NOT NULL, file_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
            delivered_at TEXT NOT NULL) STRICT"""
    )
    db.execute("CREATE INDEX deliveries_by_address ON deliveries (address, id)")
    db.execute("CREATE INDEX deliveries_by_run ON deliveries (run, step)")


@migrations()
def m009_rows(db: Database) -> None:
    """Rows by content; tables that were made of datasets for steps; what was expected of an input and what was found."""
    db.execute("CREATE TABLE row_counts (digest TEXT PRIMARY KEY, rows INTEGER NOT NULL) STRICT, WITHOUT ROWID")
    db.execute("CREATE TABLE made_tables (key TEXT PRIMARY KEY, artifact TEXT NOT NULL) STRICT, WITHOUT ROWID")
    db.execute(
        """CREATE TABLE checks (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE, step TEXT NOT NULL,
            input TEXT NOT NULL, severity TEXT NOT NULL, holds INTEGER NOT NULL, text TEXT NOT NULL) STRICT"""
    )
    db.execute("CREATE INDEX checks_by_run ON checks (run)")
    for name, event in (("added", "INSERT"), ("changed", "UPDATE OF definition, content, expectations"), ("gone", "DELETE")):
        db.execute(
            f"CREATE TRIGGER uptodate_dataset_{name} AFTER {event} ON dataset_versions"
            " BEGIN DELETE FROM uptodate; UPDATE uptodate_epoch SET n = n + 1; END"
        )


@migrations()
def m011_watch(db: Database) -> None:
    """Steps of a run in progress whose sources have changed: a list of names as JSON."""
    db.execute("ALTER TABLE runs ADD COLUMN superseded TEXT NOT NULL DEFAULT '[]'")
