"""`doctor --rebuild`: a new state.db from the journal, the folders of runs and the outputs on disk. The damaged file is kept.

The new file is made beside the old one and takes its place by rename at the end, so that a rebuild that is killed changes
nothing. Every output is hashed: what is damaged goes to quarantine, what is missing is told as collected.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlpipe_engine.errors import FilesystemError, MlpipeError, UsageError
from mlpipe_engine.executors.staging import Layout
from mlpipe_engine.hashing.scan import walk_artifact
from mlpipe_engine.model.records import ArtifactRecord
from mlpipe_engine.runner.follow import Follower
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.store import results
from mlpipe_engine.store.artifacts import ArtifactStore
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import pack, pairs, unpairs
from mlpipe_engine.store.journal import PACKED, Journal, Line, manifest_name
from mlpipe_engine.store.locks import is_held

_STORE_FILES = ("state.db", "state.db-wal", "state.db-shm", "state.db-journal")


@dataclass
class Rebuilt:
    runs: int = 0
    results: int = 0
    outputs: int = 0
    damaged: list[str] = field(default_factory=list)
    """Outputs that were moved to quarantine."""
    missing: int = 0
    kept: str = ""
    """Where the damaged file is now; "" when there was none."""


_AS_TOLD = ("attempt", "causes", "queued_at", "started_at", "exit", "cpu_seconds", "peak_memory_bytes", "put_away")
"""Columns of a step that a line of the journal has under the same name."""


def rebuild(state_dir: str) -> Rebuilt:
    """Raises UsageError while a run is going on or where nothing is damaged, FilesystemError."""
    _refuse(state_dir)
    workshop = os.path.join(state_dir, "rebuild")
    shutil.rmtree(workshop, ignore_errors=True)
    database = Database.open(workshop, create=True)
    assert database is not None
    found = Rebuilt()
    try:
        _fill(state_dir, database, found)
        database.query("PRAGMA wal_checkpoint(TRUNCATE)")  # one whole file, that a rename can put in place
    finally:
        database.close()
    _swap(state_dir, workshop, found)
    return found


def _refuse(state_dir: str) -> None:
    folder = os.path.join(state_dir, "locks", "runs")
    living = [name for name in (os.listdir(folder) if os.path.isdir(folder) else ()) if is_held(os.path.join(folder, name))]
    if living:
        raise UsageError(f"run {living[0][:8]} is going on", hint="Wait until it has ended, or end it, then rebuild.")
    missing = missing_results(state_dir)
    if missing == 0:
        raise UsageError("state.db is whole and has every result of the journal; there is nothing to rebuild")


def missing_results(state_dir: str) -> int | None:
    """Results the journal names and a sound database lacks; None when the database is not sound."""
    try:
        database = Database.open(state_dir, create=False)
        if database is None:
            return None
        try:
            if database.query("PRAGMA integrity_check") != [("ok",)]:
                return None
            known = {(int(str(run)), str(step)) for run, step in database.query("SELECT run, step FROM results")}
            numbers = {int(str(row[0])) for row in database.query("SELECT number FROM runs")}
        finally:
            database.close()
    except MlpipeError:
        return None
    newest = max(numbers, default=0)
    named = {(_int(line, "run"), str(line.get("step"))) for line in Journal(state_dir).lines() if line["e"] == "result"}
    return len([pair for pair in named - known if pair[0] > newest or pair[0] in numbers])


def _fill(state_dir: str, database: Database, found: Rebuilt) -> None:
    journal = Journal(state_dir)
    sizes = _outputs(state_dir, found)
    removed: set[int] = set()
    with database.write() as db:
        for line in journal.lines():
            with suppress(sqlite3.Error, KeyError, TypeError, ValueError):  # one line that makes no sense costs that line only
                match line["e"]:
                    case "run":
                        _run(db, journal, line)
                    case "result":
                        _result(db, journal, line)
                    case "step":
                        _step(db, line)
                    case "end":
                        _end(db, line)
                    case "restored":
                        removed.difference_update(int(number) for number in line["runs"])  # type: ignore[attr-defined]
                    case "removed":
                        removed.update(int(number) for number in line["runs"])  # type: ignore[attr-defined]
                    case "pin":
                        row = (line["run"], line["step"], line["output"], line["time"])
                        db.execute("INSERT OR IGNORE INTO pins (run, step, output, created_at) VALUES (?, ?, ?, ?)", row)
                    case "dataset":
                        _dataset(db, journal, line)
                    case "dataset_gone":
                        db.execute("DELETE FROM dataset_versions WHERE name = ?", (line["name"],))
                    case "unpin":
                        db.execute(
                            "DELETE FROM pins WHERE run = ? AND step = ? AND output = ?",
                            (line["run"], line["step"], line["output"]),
                        )
        _unknown_runs(db, state_dir)
        _forget(db, removed)
        db.execute(
            "UPDATE runs SET state = 'canceled', error = 'its end is not known: the store was rebuilt' WHERE state IN ('queued', 'running')"
        )
        db.execute("UPDATE step_runs SET state = 'canceled' WHERE state IN ('queued', 'preparing', 'running')")
        found.missing = _artifact_rows(db, sizes)
    _replay(state_dir, database)
    found.runs = int(str(database.query("SELECT count(*) FROM runs WHERE parent IS NULL")[0][0]))
    found.results = int(str(database.query("SELECT count(*) FROM results")[0][0]))


def _outputs(state_dir: str, found: Rebuilt) -> dict[str, tuple[ArtifactRecord, str]]:
    """Every stored output that is what its name says."""
    root = os.path.join(state_dir, "artifacts")
    store = ArtifactStore(root)
    sizes: dict[str, tuple[ArtifactRecord, str]] = {}
    for inner in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        for name in sorted(os.listdir(f"{root}/{inner}")):
            digest = f"k1:{name}"
            try:
                tree, _ = walk_artifact(f"{root}/{inner}/{name}")
                if tree.digest != digest:
                    raise FilesystemError("its bytes have changed")
            except MlpipeError:
                store.quarantine(digest)
                found.damaged.append(digest)
                continue
            kind = "folder" if (tree.entries and tree.entries[0].kind == "d") or "" not in tree.by_path else "file"
            record = ArtifactRecord(digest=digest, kind=kind, size_bytes=tree.size_bytes, file_count=tree.file_count)
            sizes[digest] = (record, store.signature(digest))
    found.outputs = len(sizes)
    return sizes


def _run(db: sqlite3.Connection, journal: Journal, line: Line) -> None:
    names = (
        "number",
        "id",
        "pipeline",
        "experiment",
        "created_at",
        "started_at",
        "parameters",
        "tags",
        "source",
        "spec",
        "options",
        "resumed_from",
        "mirrors",
    )
    _document(db, journal, "specs", str(line["spec"]))
    columns = [name for name in names if line.get(name) is not None]
    db.execute(
        f"INSERT OR IGNORE INTO runs (state, {', '.join(columns)}) VALUES ('running', {', '.join('?' * len(columns))})",
        tuple(line[name] for name in columns),
    )


def _dataset(db: sqlite3.Connection, journal: Journal, line: Line) -> None:
    """The newest line of a version says what is known of it."""
    names = ("name", "version", "definition", "content", "file_count", "size_bytes", "columns", "expectations", "created_at",
             "description", "tags")  # fmt: skip
    files = journal.document(manifest_name(str(line["content"])))
    if files is not None:
        db.execute("INSERT OR IGNORE INTO dataset_manifests (content, body) VALUES (?, ?)", (line["content"], pack(files)))
    db.execute(
        f"INSERT OR REPLACE INTO dataset_versions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        tuple(line[name] for name in names),
    )
    db.execute(
        "INSERT INTO dataset_names (name, highest) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET highest = max(highest, excluded.highest)",
        (line["name"], line["highest"]),
    )


def _document(db: sqlite3.Connection, journal: Journal, table: str, digest: str) -> None:
    text = journal.document(digest)
    if text is not None:
        db.execute(f"INSERT OR IGNORE INTO {table} (digest, body) VALUES (?, ?)", (digest, pack(text)))


def _result(db: sqlite3.Connection, journal: Journal, line: Line) -> None:
    packed = [zlib.compress(text.encode("ascii"), 1) if isinstance(text := line.get(name), str) else None for name in PACKED]
    names = (
        "run",
        "step",
        "pipeline",
        "fingerprint",
        "base_key",
        "snapshot",
        "structure",
        "outputs",
        "seconds",
        "finished_at",
        "withdrawn",
        "audit",
    )
    cursor = db.execute(
        f"INSERT INTO results ({', '.join((*PACKED, *names))}) VALUES ({', '.join('?' * (len(PACKED) + len(names)))})",
        (*packed, *(line[name] for name in names)),
    )
    manifest = line.get("manifest")
    if isinstance(manifest, str):
        db.execute("INSERT OR IGNORE INTO documents (digest, body) VALUES (?, ?)", (line["fingerprint"], pack(manifest)))
        with suppress(ValueError, IndexError, TypeError):
            _document(db, journal, "documents", str(json.loads(manifest)[0]))
    row = {
        "run": line["run"], "idx": line["idx"], "name": line["step"], "pipeline": line["pipeline"], "state": "succeeded", "decision": "execute",
        "manifest": line["fingerprint"], "base_key": line["base_key"], "snapshot": line["snapshot"], "result": cursor.lastrowid,
        "outputs": line["outputs"], "seconds": line["seconds"], "finished_at": line["finished_at"],
    } | {name: line.get(name) for name in _AS_TOLD}  # fmt: skip
    _insert_step(db, row)


def _insert_step(db: sqlite3.Connection, row: dict[str, object]) -> None:
    columns = [name for name, value in row.items() if value is not None]
    db.execute(
        f"INSERT OR REPLACE INTO step_runs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
        tuple(row[name] for name in columns),
    )


def _step(db: sqlite3.Connection, line: Line) -> None:
    names = ("run", "idx", "name", "pipeline", "state", "attempt", "causes", "base_key", "snapshot", "queued_at", "started_at", "finished_at",
             "seconds", "exit", "error", "outputs")  # fmt: skip
    row = {name: line.get(name) for name in names} | {"manifest": line.get("fingerprint")}
    made = db.execute(
        "SELECT id FROM results WHERE run = ? AND step = ? ORDER BY id DESC LIMIT 1",
        (line.get("made_by_run"), line.get("made_by_step")),
    ).fetchone()
    if line["state"] == "reused":
        row |= {"decision": "reuse", "reused_from": line.get("made_by_run"), "result": made[0] if made else None}
    _insert_step(db, row)


def _end(db: sqlite3.Connection, line: Line) -> None:
    names = ("state", "finished_at", "seconds", "error", "properties", "tags")
    known = [name for name in names if line.get(name) is not None]
    db.execute(
        f"UPDATE runs SET {', '.join(f'{name} = ?' for name in known)} WHERE number = ?",
        (*(line[name] for name in known), line["number"]),
    )


def _unknown_runs(db: sqlite3.Connection, state_dir: str) -> None:
    """Runs of which only folders are left: made before there was a journal, or lost from it."""
    root = os.path.join(state_dir, "runs")
    for experiment in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        for number in sorted(os.listdir(f"{root}/{experiment}")):
            if not number.isdigit() or db.execute("SELECT 1 FROM runs WHERE number = ?", (int(number),)).fetchone():
                continue
            for step in sorted(os.listdir(f"{root}/{experiment}/{number}")):
                with (
                    suppress(OSError, ValueError, KeyError, TypeError),
                    open(f"{root}/{experiment}/{number}/{step}/step.json", "rb") as file,
                ):
                    about = json.load(file)
                    if about["run_number"] != int(number):
                        continue  # a link to the folder of another run
                    modified = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                    db.execute(
                        "INSERT INTO runs (number, id, pipeline, experiment, state, created_at, parameters, tags, source)"
                        " VALUES (?, ?, ?, ?, 'running', ?, ?, ?, 'rebuilt')",
                        (int(number), about["run_id"], about["pipeline"], experiment, modified, pairs(sorted(about["parameters"].items())),
                         pairs(sorted(about["tags"].items()))),
                    )  # fmt: skip
                    break


def _forget(db: sqlite3.Connection, removed: set[int]) -> None:
    """Runs somebody removed stay removed, unless others use their results; then they are out of sight."""
    db.executemany("UPDATE runs SET removed = 'before the rebuild' WHERE number = ?", [(number,) for number in removed])
    from mlpipe_engine.store.trash import purge_runs

    purge_runs(db, "before the rebuild")


def _artifact_rows(db: sqlite3.Connection, sizes: dict[str, tuple[ArtifactRecord, str]]) -> int:
    """Rows for what results name. Returns how many of it are not there."""
    now, missing = utc_now(), set()
    for (outputs,) in db.execute("SELECT outputs FROM results").fetchall():
        for _, digest in unpairs(outputs):
            if digest in sizes:
                results.upsert_artifact(db, *sizes[digest], now)
            elif digest and digest not in missing:
                missing.add(digest)
                db.execute(
                    "INSERT INTO artifacts (digest, kind, size_bytes, file_count, signature, created_at, collected)"
                    " VALUES (?, 'file', 0, 0, '', ?, 'missing when the store was rebuilt')", (digest, now),
                )  # fmt: skip
    return len(missing)


def _replay(state_dir: str, database: Database) -> None:
    """Metrics, files and models from what steps wrote down themselves; then those of reused steps from where they were made."""
    made = database.query(
        "SELECT r.experiment, r.number, s.name FROM step_runs s JOIN runs r ON r.number = s.run WHERE s.reused_from IS NULL ORDER BY 2, s.idx"
    )
    for experiment, number, step in made:
        layout = Layout(os.path.join(state_dir, "runs", str(experiment), str(number), str(step)), {}, {})
        try:
            batch = Follower(layout, str(step)).read(final=True)
        except OSError:
            continue
        if batch:
            with database.write() as db:
                results.insert_metrics(db, int(str(number)), batch.metrics)
                results.insert_files(db, int(str(number)), str(step), batch.files)
                for name, path, tags in batch.models:
                    results.insert_model(db, int(str(number)), str(step), name, path, tags, utc_now())
    reused = database.query(
        "SELECT s.reused_from, s.run, res.step, s.name FROM step_runs s JOIN results res ON res.id = s.result WHERE s.reused_from IS NOT NULL"
    )
    with database.write() as db:
        for source, run, made_by, step in reused:
            results.copy_metrics(db, int(str(source)), int(str(run)), str(made_by), str(step))


def _swap(state_dir: str, workshop: str, found: Rebuilt) -> None:
    """Under the write lock: the damaged file aside, the new one in its place."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        lock = os.open(os.path.join(state_dir, "meta.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for name in _STORE_FILES:
                path = os.path.join(state_dir, name)
                if os.path.lexists(path):
                    aside = os.path.join(state_dir, f"state.db.damaged-{stamp}{name.removeprefix('state.db')}")
                    os.rename(path, aside)
                    found.kept = found.kept or aside
            os.rename(os.path.join(workshop, "state.db"), os.path.join(state_dir, "state.db"))
        finally:
            os.close(lock)
    except OSError as error:
        raise FilesystemError.of(error, "put the rebuilt store in its place in", state_dir) from error
    shutil.rmtree(workshop, ignore_errors=True)


def _int(line: Line, name: str) -> int:
    value = line.get(name)
    return value if isinstance(value, int) else -1
