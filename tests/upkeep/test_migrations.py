"""Older stores become newer ones with everything in them; killed at any point a store is the old one or the new one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlpipe_engine.errors import StoreTooNewError, UsageError
from mlpipe_engine.store import locks
from mlpipe_engine.store.artifacts import ArtifactStore
from mlpipe_engine.store.database import APPLICATION_ID, VERSION, Database
from mlpipe_engine.store.migrating import backups
from mlpipe_engine.store.results import ResultQueries
from mlpipe_engine.store.runs import RunQueries
from worlds import REPOSITORY, World

FIXTURES = Path(__file__).resolve().parents[1] / "store/fixtures"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The .mlpipe of schema 1: three runs of two steps, the third reusing what the first made."""
    folder = tmp_path / ".mlpipe"
    folder.mkdir()
    connection = sqlite3.connect(folder / "state.db")
    connection.executescript((FIXTURES / "schema1/state.sql").read_text())
    connection.close()
    for name, text in json.loads((FIXTURES / "schema1/artifacts.json").read_text()).items():
        path = folder / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o444)
    return folder


def version(folder: Path) -> int:
    connection = sqlite3.connect(folder / "state.db")
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    connection.close()
    return found


def test_a_store_of_schema_1_opens_and_every_result_is_still_found_and_whole(old: Path) -> None:
    rows = sqlite3.connect(old / "state.db").execute("SELECT base_key, fingerprint, outputs FROM results ORDER BY id").fetchall()
    database = Database.open(str(old), create=True)
    assert database is not None and len(rows) == 4
    assert database.query("PRAGMA user_version") == [(VERSION,)] and database.query("PRAGMA application_id") == [
        (APPLICATION_ID,)
    ]
    queries, artifacts = ResultQueries(database), ArtifactStore(str(old / "artifacts"))
    for base_key, fingerprint, outputs in rows:
        (result,) = [found for found in queries.by_base_key(base_key) if found.fingerprint == fingerprint]
        for _, digest in json.loads(outputs):
            known = queries.artifact(digest)
            assert known is not None and artifacts.intact(digest, known[1]).whole
        assert result.seconds > 0
    runs = RunQueries(database)
    assert [run.number for run in runs.recent(10)] == [3, 2, 1]
    assert [step.state.value for step in runs.steps(runs.find("3"))] == ["reused", "reused"]
    assert runs.spec(runs.find("1")).name == "words"
    assert [Path(path).name for path in backups(str(old / "state.db"))] == ["state.db.backup-v1"]
    assert sqlite3.connect(old / "state.db.backup-v1").execute("SELECT count(*) FROM results").fetchone() == (4,)


def test_what_was_made_before_a_migration_is_reused_after_it(world: World) -> None:
    world.write("src/a.py", "import sys\nopen(sys.argv[1], 'w').write('1')\n")
    world.define("""
o = PipelineData("o")
p = Pipeline(ws, [PythonScriptStep("a.py", name="a", source_directory="src", arguments=[o], outputs=[o])], name="p")
""")
    world.run().engine.close()
    downgrade(world.root / ".mlpipe/state.db")
    assert version(world.root / ".mlpipe") == 1
    assert world.run().ran == set()
    assert version(world.root / ".mlpipe") == VERSION


def downgrade(path: Path) -> None:
    """What schema 1 would hold of a store of today."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=DELETE")
    old = sqlite3.connect(":memory:")
    old.executescript((FIXTURES / "schema1/state.sql").read_text())
    known = {name for (name,) in old.execute("SELECT name FROM sqlite_schema")}
    for kind, name, sql in connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('trigger', 'index')"
    ).fetchall():
        if sql and name not in known:
            connection.execute(f"DROP {kind} {name}")
    tables = {name for (name,) in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        if name not in tables:
            connection.execute(f"DROP TABLE {name}")
            continue
        columns = {row[1] for row in old.execute(f"PRAGMA table_info({name})")}
        for _, column, *_rest in connection.execute(f"PRAGMA table_info({name})").fetchall():
            if column not in columns:
                connection.execute(f"ALTER TABLE {name} DROP COLUMN {column}")
    connection.execute("DELETE FROM _sqlite_migrations WHERE name NOT LIKE 'm001%'")
    connection.execute("PRAGMA user_version=1")
    connection.close()


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from mlpipe_engine.store import migrating, schema
left = int(sys.argv[3])
def hit(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
import sqlite3
from mlpipe_engine.store.database import Database
connect = sqlite3.connect
def traced(*words, **more):
    connection = connect(*words, **more)
    connection.set_trace_callback(hit)
    return connection
sqlite3.connect = traced
Database.open(sys.argv[1], create=True)
print("lived", left)
"""


def test_killed_at_any_statement_it_is_the_old_store_or_the_new_one(old: Path) -> None:
    import shutil

    seen = set()
    for number in range(1, 200, 6):
        folder = old.parent / f"copy{number}"
        shutil.copytree(old, folder)
        words = [sys.executable, "-c", KILLED, str(folder), str(REPOSITORY / "engine"), str(number)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        found = version(folder)
        assert found in (1, VERSION)
        seen.add(found)
        again = Database.open(str(folder), create=True)
        assert again is not None and again.query("SELECT count(*) FROM results") == [(4,)]
        assert again.query("PRAGMA integrity_check") == [("ok",)]
        again.close()
        shutil.rmtree(folder)
        if "lived" in done.stdout:
            break
    assert done.returncode == 0 and seen == {1, VERSION}, "every moment of a migration was tried"


def test_two_backups_are_kept(old: Path) -> None:
    for number in (0, -1):
        (old / f"state.db.backup-v{number + 1}").write_text("older")
    (old / "state.db.backup-v0").write_text("older")
    Database.open(str(old), create=True)
    names = sorted(path.name for path in old.glob("state.db.backup-*"))
    assert names == ["state.db.backup-v0", "state.db.backup-v1"]


def test_no_migration_under_a_run_of_an_older_program(old: Path) -> None:
    lock = locks.try_lock(str(old / "locks/runs" / ("b" * 32)))
    before = (old / "state.db").read_bytes()
    with pytest.raises(UsageError, match="is going on with an older mlpipe-tui"):
        Database.open(str(old), create=True)
    assert not list(old.glob("*.backup*")) and version(old) == 1 and len(before) == len((old / "state.db").read_bytes())
    assert lock is not None
    locks.unlock(lock)
    assert Database.open(str(old), create=True) is not None


def test_an_older_store_that_may_not_be_written_is_read_all_the_same(old: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from mlpipe_engine.store.database import Database\nfrom mlpipe_engine.store.runs import RunQueries\n"
        "d = Database.open(sys.argv[1], create=False)\nprint(d.read_only, [r.number for r in RunQueries(d).recent(9)])"
    )
    (old / "state.db").chmod(0o444)
    old.chmod(0o555)
    bounded = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*bounded, sys.executable, "-c", script, str(old), str(REPOSITORY / "engine")],
        capture_output=True,
        text=True,
        check=False,
    )
    old.chmod(0o755)
    assert done.stdout.strip() == "True [3, 2, 1]", done.stderr
    assert version(old) == 1


def test_a_newer_store_is_refused_with_both_numbers_and_not_touched(old: Path) -> None:
    connection = sqlite3.connect(old / "state.db")
    connection.execute("PRAGMA user_version=77")
    connection.close()
    before = (old / "state.db").read_bytes()
    with pytest.raises(StoreTooNewError, match=f"schema version 77; this mlpipe-tui knows versions up to {VERSION}"):
        Database.open(str(old), create=False)
    assert (old / "state.db").read_bytes()[100:] == before[100:]


def test_the_text_a_new_store_is_made_from_is_what_the_migrations_make() -> None:
    from mlpipe_engine.store import blank, schema

    migrated, made = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    schema.migrate(migrated)
    assert blank.make(made), "store/blank.sql is of another version: write it anew with `dev.py schema`"
    assert blank.text_of(made) == blank.text_of(migrated), "write store/blank.sql anew with `dev.py schema`"
    assert made.execute("PRAGMA user_version").fetchall() == migrated.execute("PRAGMA user_version").fetchall()
    assert not blank.make(made), "only an empty file is made from the text"


def test_a_new_store_is_made_by_the_migrations_when_the_text_is_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe_engine.store import blank

    old = tmp_path / "blank.sql"
    old.write_text(Path(blank.PATH).read_text().replace(f"user_version {VERSION}", f"user_version {VERSION - 1}"))
    monkeypatch.setattr(blank, "PATH", str(old))
    state = tmp_path / "state"
    database = Database.open(str(state), create=True)
    assert database is not None and database.query("SELECT count(*) FROM runs") == [(0,)]
    database.close()
