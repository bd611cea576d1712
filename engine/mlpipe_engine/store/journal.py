"""A second record of every result beside state.db: one JSON line after each commit, so that a damaged database can be made anew.

.mlpipe/journal/results.jsonl is only appended to, one write a line; texts that many lines share (specs, environments) are files
below documents/. Not synced: it trails the database by what a power cut takes, never leads it. A journal that cannot be
written does not stop a run; `doctor` tells what it lacks.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from uuid import uuid4

from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import unpack

Line = dict[str, object]


PACKED = ("reads", "undeclared", "modules")
"""Columns of a result that are compressed in the store and plain in the journal."""


class Journal:
    """Called from one thread at a time; several processes may append."""

    def __init__(self, state_dir: str) -> None:
        self.folder = os.path.join(state_dir, "journal")
        self.path = os.path.join(self.folder, "results.jsonl")
        self._fd = -1
        self._documents: set[str] = set()

    def append(self, *lines: Line) -> None:
        """In one write. Prereq: what the lines say is committed."""
        if not lines:
            return
        with suppress(OSError):
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)  # made by `begin` only
            os.write(self._fd, "".join([_text_of(line) for line in lines]).encode("ascii"))

    def keep_document(self, digest: str, text: str | None) -> None:
        """Idempotent."""
        if text is None or digest in self._documents:
            return
        self._documents.add(digest)
        path = os.path.join(self.folder, "documents", digest)
        with suppress(OSError):
            if os.path.exists(path):
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = f"{path}.{uuid4().hex}"
            with open(temporary, "w", encoding="ascii") as file:
                file.write(text)
            os.replace(temporary, path)

    def document(self, digest: str) -> str | None:
        with suppress(OSError, ValueError), open(os.path.join(self.folder, "documents", digest), encoding="ascii") as file:
            return file.read()
        return None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def lines(self) -> Iterator[Line]:
        """Whole lines in order; what a crash cut short is passed over."""
        try:
            file = open(self.path, "rb")  # noqa: SIM115  (closed below)
        except OSError:
            return
        with file:
            for raw in file:
                with suppress(ValueError):
                    line = json.loads(raw)
                    if isinstance(line, dict) and isinstance(line.get("e"), str):
                        yield line

    def begin(self, database: Database) -> None:
        """Make the journal where there is none yet, from what the database knows. Safe beside other runs that begin."""
        if os.path.exists(self.path):
            return
        with database.write() as db:  # nobody commits meanwhile, so nothing is missed or told twice
            if os.path.exists(self.path):
                return
            with suppress(OSError):
                os.makedirs(self.folder, exist_ok=True)
                temporary = f"{self.path}.{uuid4().hex}"
                with open(temporary, "w", encoding="ascii") as file:
                    for line in self._known(db):
                        file.write(json.dumps(line, separators=(",", ":")) + "\n")
                os.replace(temporary, self.path)

    def _known(self, db: sqlite3.Connection) -> Iterator[Line]:
        for row in db.execute(
            "SELECT number, id, pipeline, experiment, created_at, parameters, tags, source, spec, state, finished_at, seconds, error, options"
            " FROM runs WHERE parent IS NULL AND mirrors IS NULL AND removed = '' AND state <> 'queued' ORDER BY number"
        ).fetchall():
            yield run_line(db, self, row[0])
            for step in db.execute(
                "SELECT idx, result, reused_from FROM step_runs WHERE run = ? ORDER BY idx", (row[0],)
            ).fetchall():
                yield (
                    result_line(db, self, step[1]) if step[1] is not None and step[2] is None else step_line(db, row[0], step[0])
                )
            yield end_line(db, row[0])
        for name, version in db.execute("SELECT name, version FROM dataset_versions ORDER BY name, version").fetchall():
            yield dataset_line(db, self, name, version)
        for row in db.execute("SELECT run, step, output, created_at FROM pins").fetchall():
            yield {"e": "pin", "run": row[0], "step": row[1], "output": row[2], "time": row[3]}


_text_encoder = json.JSONEncoder(separators=(",", ":")).encode


def _text_of(line: Line) -> str:
    return _text_encoder(line) + "\n"


def _line(db: sqlite3.Connection, kind: str, sql: str, values: tuple[object, ...]) -> Line:
    cursor = db.execute(sql, values)
    names = [column[0] for column in cursor.description]
    row = cursor.fetchone()
    return {"e": kind, **(dict(zip(names, row)) if row else {})}


def run_line(db: sqlite3.Connection, journal: Journal, number: int) -> Line:
    line = _line(
        db, "run", "SELECT number, id, pipeline, experiment, created_at, started_at, parameters, tags, source, spec, options, resumed_from,"
        " mirrors FROM runs WHERE number = ?", (number,),
    )  # fmt: skip
    _keep(db, journal, "specs", line.get("spec"))
    return line


def end_line(db: sqlite3.Connection, number: int) -> Line:
    return _line(
        db, "end", "SELECT number, state, finished_at, seconds, error, properties, tags FROM runs WHERE number = ?", (number,)
    )


def dataset_line(db: sqlite3.Connection, journal: Journal, name: str, version: int) -> Line:
    """A registered version as it stands now. What files it had is a document of its own, named by their content."""
    line = _line(
        db, "dataset", "SELECT v.*, n.highest FROM dataset_versions v JOIN dataset_names n ON n.name = v.name"
        " WHERE v.name = ? AND v.version = ?", (name, version),
    )  # fmt: skip
    row = db.execute("SELECT body FROM dataset_manifests WHERE content = ?", (line.get("content"),)).fetchone()
    journal.keep_document(manifest_name(str(line.get("content"))), unpack(row[0]) if row else None)
    return line


def manifest_name(content: str) -> str:
    """The document of the journal that lists the files of a dataset version."""
    return f"files-{content.replace(':', '-')}"


_RESULT = (
    "SELECT res.*, s.idx, s.attempt, s.causes, s.queued_at, s.started_at, s.exit, s.cpu_seconds, s.peak_memory_bytes, s.put_away"
    " FROM results res JOIN step_runs s ON s.pipeline = res.pipeline AND s.name = res.step AND s.run = res.run"
)
_STEP = (
    "SELECT s.run, s.idx, s.name, s.pipeline, s.state, s.attempt, s.causes, s.manifest AS fingerprint, s.base_key,"
    " s.snapshot, s.queued_at, s.started_at, s.finished_at, s.seconds, s.exit, s.error, s.outputs, res.run AS made_by_run,"
    " res.step AS made_by_step FROM step_runs s LEFT JOIN results res ON res.id = s.result"
)


def result_line(db: sqlite3.Connection, journal: Journal, result: int) -> Line:
    """Everything that reuse needs, and the row of the step."""
    return result_lines(db, journal, result, result, {})[result]


def result_lines(db: sqlite3.Connection, journal: Journal, first: int, last: int, texts: Mapping[str, str]) -> dict[int, Line]:
    """By number. `texts`: documents that were written with them, so that they are not unpacked again."""
    import zlib

    cursor = db.execute(f"{_RESULT} WHERE res.id BETWEEN ? AND ?", (first, last))
    names = [column[0] for column in cursor.description]
    found: dict[int, Line] = {}
    for row in cursor.fetchall():
        line: Line = {"e": "result", **dict(zip(names, row))}
        for name in PACKED:
            body = line.get(name)
            if isinstance(body, bytes):
                line[name] = zlib.decompress(body).decode("ascii")
        fingerprint = str(line.get("fingerprint"))
        line["manifest"] = texts.get(fingerprint) or _text(db, "documents", fingerprint)
        if isinstance(line["manifest"], str):
            _keep(db, journal, "documents", _environment(line["manifest"]))
        found[row[0]] = line
    return found


def step_line(db: sqlite3.Connection, run: int, index: int) -> Line:
    """A step that made no result of its own: reused, failed, skipped, canceled. The result is named by run and step."""
    return step_lines(db, [(run, index)])[run, index]


def step_lines(db: sqlite3.Connection, steps: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Line]:
    found: dict[tuple[int, int], Line] = {}
    for run in dict.fromkeys(run for run, _ in steps):
        indexes = [index for of, index in steps if of == run]
        for start in range(0, len(indexes), 500):
            some = indexes[start : start + 500]
            cursor = db.execute(f"{_STEP} WHERE s.run = ? AND s.idx IN ({', '.join('?' * len(some))})", (run, *some))
            names = [column[0] for column in cursor.description]
            found.update({(row[0], row[1]): {"e": "step", **dict(zip(names, row))} for row in cursor.fetchall()})
    return found


def _environment(manifest: str) -> str | None:
    """A stored manifest is (digest of the environment, the rest)."""
    if manifest.startswith('["'):
        return manifest[2 : manifest.index('"', 2)]  # a digest: nothing in it is escaped
    with suppress(ValueError, IndexError, TypeError, KeyError):
        found = json.loads(manifest)
        first = found["items"][0] if isinstance(found, dict) else found[0]
        return first if isinstance(first, str) else None
    return None


def _keep(db: sqlite3.Connection, journal: Journal, table: str, digest: object) -> None:
    if isinstance(digest, str) and digest and digest not in journal._documents:
        journal.keep_document(digest, _text(db, table, digest))


def _text(db: sqlite3.Connection, table: str, digest: object) -> str | None:
    row = db.execute(f"SELECT body FROM {table} WHERE digest = ?", (digest,)).fetchone()
    return unpack(row[0]) if row else None
