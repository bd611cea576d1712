"""Results that may be reused, what past executions took, metrics, artifacts' rows and small caches."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable
from statistics import median

from mlpipe_engine.model.plan import Result, Undeclared
from mlpipe_engine.model.records import ArtifactRecord, MetricRecord, RunRecord
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import pairs, unpairs

_COLUMNS = (
    "res.id, r.id, res.run, res.step, res.fingerprint, res.base_key, res.snapshot, res.structure, res.reads, res.outputs,"
    " res.seconds, res.finished_at, res.undeclared, res.modules, res.audit"
)
_FROM = "FROM results res JOIN runs r ON r.number = res.run"


class ResultQueries:
    def __init__(self, database: Database) -> None:
        self._db = database

    def by_base_key(self, base_key: str, loose_key: str = "", limit: int = 50) -> tuple[Result, ...]:
        """Newest first; withdrawn results (damaged, or refused by hand) are left out. `loose_key`: of results that know what they imported."""
        sql = f"SELECT {_COLUMNS} {_FROM} WHERE res.base_key IN (?, ?) AND res.withdrawn = '' ORDER BY res.id DESC LIMIT ?"
        return tuple(map(_result, self._db.query(sql, (base_key, loose_key or base_key, limit))))

    def get(self, result_id: int) -> Result | None:
        rows = self._db.query(f"SELECT {_COLUMNS} {_FROM} WHERE res.id = ?", (result_id,))
        return _result(rows[0]) if rows else None

    def made_by(self, run: int) -> tuple[Result, ...]:
        """The results a run made, in the order its steps ended."""
        return tuple(map(_result, self._db.query(f"SELECT {_COLUMNS} {_FROM} WHERE res.run = ? ORDER BY res.id", (run,))))

    def last_of_step(
        self, pipeline: str, step: str, before_run: int | None = None
    ) -> tuple[int, str, str, str, int | None] | None:
        """(run number, state, exit or error, manifest, result id) of the newest final step run that has a manifest and no better one above.

        A result that was used last (made or reused) wins over a later failure, so that causes compare with what was good.
        """
        limit = before_run if before_run is not None else 1 << 62
        rows = self._db.query(
            "SELECT run, state, CASE WHEN error <> '' THEN error ELSE exit END, manifest, result FROM step_runs"
            " WHERE pipeline = ? AND name = ? AND run < ? AND result IS NOT NULL ORDER BY run DESC LIMIT 1",
            (pipeline, step, limit),
        ) or self._db.query(
            "SELECT run, state, CASE WHEN error <> '' THEN error ELSE exit END, manifest, result FROM step_runs"
            " WHERE pipeline = ? AND name = ? AND run < ? AND manifest IS NOT NULL AND state IN ('failed', 'canceled')"
            " ORDER BY run DESC LIMIT 1",
            (pipeline, step, limit),
        )
        if not rows:
            return None
        run, state, outcome, manifest, result = rows[0]
        return int(str(run)), str(state), str(outcome), str(manifest or ""), None if result is None else int(str(result))

    def has_run(self, pipeline: str, before_run: int) -> bool:
        """Whether a step of that pipeline stands in an earlier run."""
        return bool(self._db.query("SELECT 1 FROM step_runs WHERE pipeline = ? AND run < ? LIMIT 1", (pipeline, before_run)))

    def expected_seconds(self, pipeline: str) -> dict[str, float]:
        """Median of the last five executions of every step of a pipeline."""
        rows = self._db.query(
            "SELECT step, seconds FROM (SELECT step, seconds, row_number() OVER (PARTITION BY step ORDER BY id DESC) AS age"
            " FROM results WHERE pipeline = ?) WHERE age <= 5",
            (pipeline,),
        )
        taken: dict[str, list[float]] = {}
        for step, seconds in rows:
            taken.setdefault(str(step), []).append(float(str(seconds)))
        return {step: median(values) for step, values in taken.items()}

    def metrics(self, run: int, step: str | None) -> tuple[MetricRecord, ...]:
        sql = (
            "SELECT r.id, m.step, m.name, m.kind, m.value, m.step_number, m.id, m.time, m.origin"
            " FROM metrics m JOIN runs r ON r.number = m.run WHERE m.run = ?"
        )
        values: tuple[object, ...] = (run,)
        if step is not None:
            sql += " AND m.step = ?"
            values = (run, step)
        return tuple(
            MetricRecord(run_id=str(row[0]), step=str(row[1]), name=str(row[2]), kind=str(row[3]), value=str(row[4]),
                         step_number=None if row[5] is None else int(str(row[5])), seq=int(str(row[6])), time=str(row[7]), origin=str(row[8]))
            for row in self._db.query(sql + " ORDER BY m.id", values)
        )  # fmt: skip

    def artifact(self, digest: str) -> tuple[ArtifactRecord, str] | None:
        """The artifact and its stat signature."""
        rows = self._db.query("SELECT digest, kind, size_bytes, file_count, signature FROM artifacts WHERE digest = ?", (digest,))
        if not rows:
            return None
        row = rows[0]
        return ArtifactRecord(
            digest=str(row[0]), kind=str(row[1]), size_bytes=int(str(row[2])), file_count=int(str(row[3]))
        ), str(row[4])

    def sizes(self, runs: Iterable[RunRecord]) -> dict[str, int]:
        """Run id -> bytes of the outputs it shows that are still there."""
        found = {}
        for run in runs:
            rows = self._db.query(
                "SELECT outputs FROM step_runs WHERE outputs <> '' AND run = (SELECT coalesce(mirrors, number) FROM runs WHERE id = ?)",
                (run.id,),
            )
            digests = sorted({digest for row in rows for _, digest in unpairs(row[0]) if digest})
            known = self._db.query(
                f"SELECT coalesce(sum(size_bytes), 0) FROM artifacts WHERE collected = '' AND digest IN ({','.join('?' * len(digests))})",
                tuple(digests),
            )
            found[run.id] = int(str(known[0][0]))
        return found

    def is_collected(self, digest: str) -> bool:
        """Whether the bytes were taken away to save space. The row stays: its size and what made it are still told."""
        return bool(self._db.query("SELECT 1 FROM artifacts WHERE digest = ? AND collected <> ''", (digest,)))

    def run_place(self, number: int) -> str | None:
        """The experiment a run belongs to: its folder."""
        rows = self._db.query("SELECT experiment FROM runs WHERE number = ?", (number,))
        return str(rows[0][0]) if rows else None

    def epoch(self) -> int:
        """A number that grows with every result that is added, withdrawn or accepted."""
        return int(str(self._db.query("SELECT n FROM uptodate_epoch")[0][0]))

    def stat_rows(self) -> list[tuple[object, ...]]:
        return list(self._db.query("SELECT path, dev, ino, ctime_ns, mtime_ns, size, digest, cached_at_ns FROM stat_cache"))

    def cached(self, key: str) -> str | None:
        rows = self._db.query("SELECT body FROM cache WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def files(self, run: int, step: str) -> tuple[tuple[str, str], ...]:
        """(name, path relative to the project) of what a step uploaded."""
        rows = self._db.query("SELECT name, path FROM files WHERE run = ? AND step = ? ORDER BY name", (run, step))
        return tuple((str(name), str(path)) for name, path in rows)


def insert_result(
    db: sqlite3.Connection, *, run: int, step: str, pipeline: str, fingerprint: str, base_key: str, snapshot: str, structure: str,
    reads: tuple[tuple[str, str], ...] | None, outputs: tuple[tuple[str, str], ...], seconds: float, finished_at: str,
    undeclared: Undeclared,
) -> int:  # fmt: skip
    cursor = db.execute(
        "INSERT INTO results (run, step, pipeline, fingerprint, base_key, snapshot, structure, reads, outputs, seconds, finished_at,"
        " undeclared, modules, audit) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run, step, pipeline, fingerprint, base_key, snapshot, structure, packed(reads), pairs(outputs), seconds, finished_at,
         packed(undeclared.files or None), packed(undeclared.modules), undeclared.audit),
    )  # fmt: skip
    return int(cursor.lastrowid or 0)


def packed(items: tuple[tuple[str, str], ...] | None) -> bytes | None:
    return None if items is None else zlib.compress(pairs(items).encode("ascii"), 1)


def _unpacked(body: object) -> tuple[tuple[str, str], ...] | None:
    return unpairs(zlib.decompress(body).decode("ascii")) if isinstance(body, bytes) else None


def withdraw_results_with(db: sqlite3.Connection, artifact: str, why: str) -> None:
    """Results whose output is damaged are never offered again."""
    db.execute("UPDATE results SET withdrawn = ? WHERE withdrawn = '' AND instr(outputs, ?) > 0", (why, artifact))


def upsert_artifact(db: sqlite3.Connection, record: ArtifactRecord, signature: str, now: str) -> None:
    db.execute(
        "INSERT INTO artifacts (digest, kind, size_bytes, file_count, signature, created_at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET signature = excluded.signature, collected = ''",
        (record.digest, record.kind, record.size_bytes, record.file_count, signature, now),
    )


def insert_metrics(db: sqlite3.Connection, run: int, rows: Iterable[MetricRecord]) -> None:
    db.executemany(
        "INSERT INTO metrics (run, step, name, kind, value, step_number, time, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(run, row.step, row.name, row.kind, row.value, row.step_number, row.time, row.origin) for row in rows],
    )


def copy_metrics(db: sqlite3.Connection, from_run: int, to_run: int, made_by: str, step: str) -> None:
    """Metrics, tags and files of a reused step stand in the new run too; what it had logged to its parent is replayed with its origin."""
    db.execute(
        "INSERT INTO metrics (run, step, name, kind, value, step_number, time, origin)"
        " SELECT ?, CASE WHEN step = '' THEN '' ELSE ? END, name, kind, value, step_number, time,"
        " CASE WHEN origin = '' THEN '' ELSE ? END FROM metrics"
        " WHERE run = ? AND (step = ? OR (step = '' AND origin = ?)) ORDER BY id",
        (to_run, step, step, from_run, made_by, made_by),
    )
    db.execute(
        "INSERT OR IGNORE INTO files (run, step, name, path) SELECT ?, ?, name, path FROM files WHERE run = ? AND step = ?",
        (to_run, step, from_run, made_by),
    )
    db.execute(
        "UPDATE step_runs SET tags = coalesce((SELECT tags FROM step_runs WHERE run = ? AND name = ?), '') WHERE run = ? AND name = ?",
        (from_run, made_by, to_run, step),
    )


def insert_files(db: sqlite3.Connection, run: int, step: str, files: Iterable[tuple[str, str]]) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO files (run, step, name, path) VALUES (?, ?, ?, ?)", [(run, step, *item) for item in files]
    )


def insert_model(db: sqlite3.Connection, run: int, step: str, name: str, path: str, tags: object, now: str) -> int:
    """The next version of a registered model."""
    version = int(db.execute("SELECT coalesce(max(version), 0) + 1 FROM models WHERE name = ?", (name,)).fetchone()[0])
    db.execute(
        "INSERT INTO models (name, version, run, step, path, tags, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, version, run, step, path, json.dumps(tags), now),
    )
    return version


def put_cached(db: sqlite3.Connection, key: str, body: str) -> None:
    db.execute("INSERT OR REPLACE INTO cache (key, body) VALUES (?, ?)", (key, body))


def put_uptodate(db: sqlite3.Connection, request: tuple[str, ...], run: int, entry: bytes, epoch: int) -> None:
    """`epoch`: that of the decisions, and one more for every result the run added; another one means that somebody else wrote too."""
    if db.execute("SELECT n FROM uptodate_epoch").fetchone()[0] == epoch:
        db.execute("INSERT OR REPLACE INTO uptodate (request, run, body) VALUES (?, ?, ?)", ("\0".join(request), run, entry))


def put_stat_rows(db: sqlite3.Connection, rows: Iterable[tuple[object, ...]]) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO stat_cache (path, dev, ino, ctime_ns, mtime_ns, size, digest, cached_at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _result(row: tuple[object, ...]) -> Result:
    return Result(
        id=int(str(row[0])), run_id=str(row[1]), run_number=int(str(row[2])), step=str(row[3]), fingerprint=str(row[4]),
        base_key=str(row[5]), snapshot=str(row[6]), structure=str(row[7]), reads=_unpacked(row[8]), outputs=unpairs(row[9]),
        seconds=float(str(row[10])), finished_at=str(row[11]),
        undeclared=Undeclared(files=_unpacked(row[12]) or (), modules=_unpacked(row[13]), audit=str(row[14])),
    )  # fmt: skip
