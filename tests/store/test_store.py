"""The store: final states, damage, versions, many writers; and artifacts that are what their digest says."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from mlpipe_engine.errors import StagingError, StoreDamagedError, StoreTooNewError
from mlpipe_engine.model.spec import PipelineSpec, StepSpec, SubmitOptions, Text
from mlpipe_engine.model.states import State
from mlpipe_engine.store import results, runs
from mlpipe_engine.store.artifacts import ArtifactStore
from mlpipe_engine.store.database import VERSION, Database
from mlpipe_engine.store.uptodate import LOG_BYTES
from worlds import World

SPEC = PipelineSpec(name="p", steps=(StepSpec(name="s", kind="command", command=((Text("true"),),)),))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database.open(str(tmp_path / ".mlpipe"), create=True)
    assert made is not None
    return made


def insert(database: Database, run_id: str) -> int:
    with database.write() as db:
        return runs.insert_run(
            db, run_id, SPEC, SubmitOptions(experiment="e"), (), "2026-01-01T00:00:00.000000Z", frozenset({"s"})
        )


def test_a_final_state_never_changes(database: Database) -> None:
    number = insert(database, "a" * 32)
    with database.write() as db:
        runs.finish_run(db, "a" * 32, State.SUCCEEDED, "t", 1.0, "")
        runs.update_step(db, number, 0, 1, {"state": "failed"})
    with pytest.raises(sqlite3.IntegrityError, match="final state"), database.write() as db:
        runs.update_run(db, "a" * 32, state="failed")
    with pytest.raises(sqlite3.IntegrityError, match="final state"), database.write() as db:
        runs.update_step(db, number, 0, 2, {"state": "succeeded"})
    with database.write() as db:
        runs.finish_run(db, "a" * 32, State.FAILED, "t", 1.0, "")
    assert runs.RunQueries(database).get("a" * 32).state is State.SUCCEEDED


def test_a_failed_block_writes_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as db:
        runs.insert_run(db, "a" * 32, SPEC, SubmitOptions(experiment="e"), (), "t", frozenset())
        raise RuntimeError
    assert runs.RunQueries(database).recent(10) == ()


def merges_of_small_writes(database: Database, count: int) -> int:
    seen: list[str] = []
    database._connection.set_trace_callback(seen.append)
    for _ in range(count):
        insert(database, uuid4().hex)
    database._connection.set_trace_callback(None)
    return sum("wal_checkpoint" in statement for statement in seen)


def write_a_long_log(database: Database) -> None:
    with database.write() as db:
        results.put_cached(db, "long", "x" * (LOG_BYTES + (1 << 20)))


def test_one_long_log_is_merged_once(database: Database, tmp_path: Path) -> None:
    """Not by every write that follows: each merge waits for the disk."""
    write_a_long_log(database)
    assert merges_of_small_writes(database, 20) == 0
    assert (tmp_path / ".mlpipe/state.db-wal").stat().st_size < LOG_BYTES
    write_a_long_log(database)
    assert (tmp_path / ".mlpipe/state.db-wal").stat().st_size > LOG_BYTES, (
        "the log started anew, and was merged when it was long again"
    )


def test_a_log_that_somebody_reads_is_not_merged_by_every_write(database: Database, tmp_path: Path) -> None:
    insert(database, "f" * 32)
    reader = sqlite3.connect(f"file:{tmp_path}/.mlpipe/state.db?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    write_a_long_log(database)
    assert merges_of_small_writes(database, 20) == 0
    reader.execute("COMMIT")
    write_a_long_log(database)
    assert merges_of_small_writes(database, 20) == 0
    assert (tmp_path / ".mlpipe/state.db-wal").stat().st_size < LOG_BYTES


def test_runs_are_found_by_number_id_prefix_and_latest(database: Database) -> None:
    insert(database, "abcd" + "0" * 28)
    insert(database, "abce" + "0" * 28)
    queries = runs.RunQueries(database)
    assert [queries.find(text).number for text in ("1", "latest", "abcd", "abce" + "0" * 28)] == [1, 2, 1, 2]
    for text in ("3", "abc", "ffff", "", "x"):
        with pytest.raises(Exception, match="no run"):
            queries.find(text)


def test_pages_are_keyed_by_number(database: Database) -> None:
    for number in range(25):
        insert(database, f"{number:032x}")
    queries = runs.RunQueries(database)
    first = queries.recent(10)
    assert [run.number for run in first] == list(range(25, 15, -1))
    assert [run.number for run in queries.recent(10, first[-1].number)] == list(range(15, 5, -1))


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path, database: Database) -> None:
    with database.write() as db:
        db.execute("PRAGMA user_version=99")
    database.close()
    before = (tmp_path / ".mlpipe/state.db").read_bytes()
    with pytest.raises(StoreTooNewError, match=f"schema version 99; this mlpipe-tui knows versions up to {VERSION}"):
        Database.open(str(tmp_path / ".mlpipe"), create=True)
    assert (tmp_path / ".mlpipe/state.db").read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "truncated", "folder"])
def test_a_damaged_store_is_named_and_never_overwritten(world: World, damage: str) -> None:
    world.define('p = Pipeline(ws, [CommandStep("true", name="s")])')
    world.cli("run")
    path = world.root / ".mlpipe/state.db"
    for name in ("state.db-wal", "state.db-shm"):
        (world.root / ".mlpipe" / name).unlink(missing_ok=True)
    match damage:
        case "text":
            path.write_text("not a database at all" * 100)
        case "truncated":
            os.truncate(path, 5000)
        case "folder":
            path.unlink()
            path.mkdir()
    before = path.read_bytes() if path.is_file() else b""
    done = world.cli("run")
    assert done.returncode == 5, done.stderr
    assert "store damaged" in done.stderr and "state.db" in done.stderr
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_read_only_project_can_be_looked_at(world: World) -> None:
    world.define('p = Pipeline(ws, [CommandStep("true", name="s")])')
    world.cli("run")
    for folder, _, names in os.walk(world.root):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)
    bounded = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []  # root without the right to pass over modes

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*bounded, *world.command(*words)],
            cwd=world.root,
            env=world.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    shown = command("show")
    assert shown.returncode == 0 and "succeeded" in shown.stdout, shown.stderr
    refused = command("run")
    assert refused.returncode == 4 and "cannot" in refused.stderr, refused.stderr
    for folder, _, _ in os.walk(world.root):
        os.chmod(folder, 0o755)


WRITER = """
import sys
from mlpipe_engine.store.database import VERSION, Database
from mlpipe_engine.store.results import put_cached
database = Database.open(sys.argv[1], create=True)
for number in range(40):
    with database.write() as db:
        before = db.execute("SELECT count(*) FROM cache").fetchone()[0]
        put_cached(db, f"{sys.argv[2]}-{number}", str(before))
"""


def test_eight_writers_that_start_together_on_an_empty_folder(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / ".mlpipe"), str(n)], env=environment, stderr=subprocess.PIPE
        )
        for n in range(8)
    ]
    for process in processes:
        assert process.communicate(timeout=120)[1] == b"" and process.returncode == 0
    database = Database.open(str(tmp_path / ".mlpipe"), create=False)
    assert database is not None
    assert database.query("SELECT count(*), count(DISTINCT body) FROM cache") == [(320, 320)], "every writer saw all before it"
    assert database.query("PRAGMA integrity_check") == [("ok",)]


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


def test_a_file_is_stored_once_read_only_and_comes_back_writable(artifacts: ArtifactStore, tmp_path: Path) -> None:
    digests = set()
    for _ in range(2):
        (tmp_path / "out").write_text("x")
        digests.add(artifacts.publish(str(tmp_path / "out")).digest)
        assert not (tmp_path / "out").exists()
    (digest,) = digests
    path = Path(artifacts.path(digest))
    assert path.read_text() == "x" and path.stat().st_mode & 0o777 == 0o444
    artifacts.copy_out(digest, str(tmp_path / "copy"))
    (tmp_path / "copy").write_text("mine")
    assert path.read_text() == "x"


def test_equal_names_and_bytes_are_one_folder_and_the_exec_bit_counts(artifacts: ArtifactStore, tmp_path: Path) -> None:
    def folder(mode: int) -> str:
        (tmp_path / "out/a").mkdir(parents=True)
        (tmp_path / "out/a/f").write_text("1")
        (tmp_path / "out/a/f").chmod(mode)
        return artifacts.publish(str(tmp_path / "out")).digest

    assert folder(0o644) == folder(0o600) != folder(0o755)


def test_a_file_with_a_second_name_is_copied_so_that_nobody_can_change_it(artifacts: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    os.link(tmp_path / "out", tmp_path / "other")
    digest = artifacts.publish(str(tmp_path / "out")).digest
    (tmp_path / "other").write_text("changed")
    assert Path(artifacts.path(digest)).read_text() == "x"


def test_damage_in_the_place_of_a_new_output_is_moved_away(artifacts: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    digest = artifacts.publish(str(tmp_path / "out")).digest
    os.chmod(artifacts.path(digest), 0o644)
    Path(artifacts.path(digest)).write_text("y")
    (tmp_path / "out").write_text("x")
    assert artifacts.publish(str(tmp_path / "out")).digest == digest
    assert Path(artifacts.path(digest)).read_text() == "x"


def test_signatures_tell_touched_from_untouched(artifacts: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/f").write_text("1")
    digest = artifacts.publish(str(tmp_path / "out")).digest
    signature = artifacts.signature(digest)
    assert ArtifactStore(str(tmp_path / "artifacts")).intact(digest, signature).whole
    inner = Path(artifacts.path(digest)) / "a/f"
    inner.chmod(0o644)
    inner.write_text("2")
    assert not artifacts.intact(digest, signature).whole
    assert artifacts.lent_changed(digest, signature)


def test_special_files_are_refused_by_name(artifacts: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out/pipe")
    with pytest.raises(StagingError, match="out/pipe is a named pipe"):
        artifacts.publish(str(tmp_path / "out"))


def test_a_sync_makes_a_group_durable(artifacts: ArtifactStore, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "out").write_text(str(number))
        artifacts.publish(str(tmp_path / "out"))
    artifacts.sync()
    assert artifacts._unsynced == []


def test_errors_survive_a_trip_to_another_process() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(StoreDamagedError("x", where="y:1", hint="z")))
    assert (str(error), error.hint, error.exit_code) == ("y:1: x", "z", 5)
