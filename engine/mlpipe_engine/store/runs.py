"""Runs and step runs: queries that give records, and the few statements that change rows.

Reading takes no lock. The writing functions take the connection of an open transaction; `recorder` groups them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from functools import lru_cache

from mlpipe_engine.errors import RunNotFoundError, nearest
from mlpipe_engine.model import wire
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.records import RunRecord, StepRecord, Sweep
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, State
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import pairs, unpack, write_document
from mlpipe_engine.store.rows import run_record, step_record
from mlpipe_engine.store.uptodate import MIRROR

_RUN_COLUMNS = (
    "id, number, pipeline, experiment, state, created_at, started_at, finished_at, seconds, parameters, tags, properties,"
    " source, spec, resumed_from, (SELECT m.id FROM runs m WHERE m.number = runs.mirrors), error, parent, name, kind"
)
_STEP_COLUMNS = (
    "s.name, s.idx, s.state, s.attempt, s.decision, s.causes, s.unread, s.compared, s.manifest, s.base_key, s.snapshot, s.result,"
    " (SELECT r.id FROM runs r WHERE r.number = s.reused_from), s.queued_at, s.started_at, s.finished_at, s.seconds, s.exit,"
    " s.error, s.cpu_seconds, s.peak_memory_bytes, s.outputs, s.expected_seconds, s.tags, s.put_away"
)


class RunQueries:
    """Reads runs of one project."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def recent(
        self,
        limit: int,
        before: int | None = None,
        *,
        experiment: str | None = None,
        pipeline: str | None = None,
        state: str | None = None,
        where: tuple[list[str], list[object]] = ([], []),
    ) -> tuple[RunRecord, ...]:
        """Newest first; `before` is the number of the last run of the page before (keyset, never OFFSET). `where`: of `filtering`."""
        wanted = {"experiment": experiment, "pipeline": pipeline, "state": state}
        clauses = ["parent IS NULL", "removed = ''", *(f"{column} = ?" for column, value in wanted.items() if value is not None)]
        values: list[object] = [value for value in wanted.values() if value is not None]
        clauses, values = [*clauses, *where[0]], [*values, *where[1]]
        if before is not None:
            clauses.append("number < ?")
            values.append(before)
        sql = f"SELECT {_RUN_COLUMNS} FROM runs WHERE {' AND '.join(clauses)} ORDER BY number DESC LIMIT ?"
        return tuple(map(run_record, self._db.query(sql, (*values, limit))))

    def count(self, where: tuple[list[str], list[object]]) -> int:
        text = " AND ".join(["parent IS NULL", "removed = ''", *where[0]])
        return int(str(self._db.query(f"SELECT count(*) FROM runs WHERE {text}", tuple(where[1]))[0][0]))

    def get(self, run_id: str) -> RunRecord:
        rows = self._db.query(f"SELECT {_RUN_COLUMNS} FROM runs WHERE id = ?", (run_id,))
        if not rows:
            raise RunNotFoundError(f"no run has the id {run_id}", hint="List the runs with `mlpipe-tui runs`.")
        return run_record(rows[0])

    def by_number(self, number: int) -> RunRecord:
        return run_record(self._db.query(f"SELECT {_RUN_COLUMNS} FROM runs WHERE number = ?", (number,))[0])

    def latest_like(self, pipeline: str, spec: str, parameters: str) -> int | None:
        """The newest run with rows of its own among the last hundred that ended well with this definition and these parameters."""
        rows = self._db.query(
            "SELECT coalesce(mirrors, number) FROM (SELECT number, mirrors, spec, parameters, state FROM runs"
            " WHERE pipeline = ? AND parent IS NULL AND kind = 'run' ORDER BY number DESC LIMIT 100)"
            " WHERE spec = ? AND parameters = ? AND state IN ('succeeded', 'reused') LIMIT 1",
            (pipeline, spec, parameters),
        )
        return int(str(rows[0][0])) if rows else None

    def maker(self, fingerprint: str, run: int, step: str) -> int | None:
        """The run that makes this result at the moment, other than for that step."""
        rows = self._db.query(
            "SELECT r.number FROM runs r JOIN step_runs s ON s.run = r.number WHERE r.state IN ('queued', 'running') AND s.manifest = ?"
            " AND s.state IN ('preparing', 'running') AND NOT (s.run = ? AND s.name = ?) ORDER BY s.state DESC, r.number DESC LIMIT 1",
            (fingerprint, run, step),
        )
        return int(str(rows[0][0])) if rows else None

    def find(self, text: str) -> RunRecord:
        """By number, "latest", id or unique prefix of an id. Raises RunNotFoundError."""
        hint = "List the runs with `mlpipe-tui runs`."
        if text == "latest":
            found = self.recent(1)
            if found:
                return found[0]
            raise RunNotFoundError("this project has no run yet", hint="Start one with `mlpipe-tui run`.")
        if text.isascii() and text.isdigit() and len(text) < 19:
            rows = self._db.query(f"SELECT {_RUN_COLUMNS}, removed FROM runs WHERE number = ?", (int(text),))
            if rows and rows[0][-1]:
                raise RunNotFoundError(f"run {text} was removed", hint="Bring it back with `mlpipe-tui gc --undo` within a day.")
            if rows:
                return run_record(rows[0][:-1])
        prefix = text.replace("-", "").lower()
        if prefix and len(prefix) >= 4 and all(character in "0123456789abcdef" for character in prefix):
            sql = f"SELECT {_RUN_COLUMNS} FROM runs WHERE id >= ? AND id < ? ORDER BY id LIMIT 3"
            rows = self._db.query(sql, (prefix, prefix + "g"))
            if len(rows) == 1:
                return run_record(rows[0])
            if rows:
                numbers = ", ".join(str(row[1]) for row in rows)
                raise RunNotFoundError(
                    f"the run id {text} is not unique: runs {numbers} ...", hint="Give more digits, or the number."
                )
        last = self._db.query("SELECT max(number) FROM runs")[0][0]
        known = f"numbers go from 1 to {last}" if last else "this project has no run yet"
        raise RunNotFoundError(f"there is no run {text!r}; {known}", hint=hint)

    def children(self, run_id: str) -> tuple[RunRecord, ...]:
        rows = self._db.query(f"SELECT {_RUN_COLUMNS} FROM runs WHERE parent = ? ORDER BY number", (run_id,))
        return tuple(map(run_record, rows))

    def last_execution(self, step: str, pipeline: str | None) -> RunRecord | None:
        """The newest run in which a step of that name was executed, however it ended; of any pipeline when none is named."""
        sql = (
            "SELECT run FROM step_runs WHERE pipeline = ? AND name = ? AND decision = 'execute' AND manifest IS NOT NULL"
            " ORDER BY run DESC LIMIT 1"
        )
        names = [pipeline] if pipeline is not None else self._pipelines()
        found = [row[0] for name in names for row in self._db.query(sql, (name, step))]
        return self.find(str(max(found))) if found else None  # type: ignore[type-var]

    def _pipelines(self) -> list[str]:
        """Names that have runs, by jumps through an index: a plain DISTINCT reads a row for every run."""
        names: list[str] = []
        while True:
            rows = self._db.query("SELECT min(pipeline) FROM step_runs WHERE pipeline > ?", (names[-1] if names else "",))
            if not rows or rows[0][0] is None:
                return names
            names.append(str(rows[0][0]))

    def sweep(self, run: RunRecord) -> Sweep:
        """Prereq: the run is of kind "sweep"."""
        row = self._db.query("SELECT axes, parallel, fail_fast FROM sweeps WHERE run = ?", (run.number,))[0]
        return Sweep(axes=wire.load(tuple, str(row[0])), parallel=int(str(row[1])), fail_fast=bool(row[2]))

    def child_states(self, run_ids: tuple[str, ...]) -> dict[str, dict[State, int]]:
        """How many runs of each state these sweeps have; a run that was started again does not count."""
        found: dict[str, dict[State, int]] = {run_id: {} for run_id in run_ids}
        marks = ", ".join("?" * len(run_ids))
        sql = (
            f"SELECT parent, state, count(*) FROM runs WHERE parent IN ({marks}) AND id NOT IN"
            f" (SELECT resumed_from FROM runs WHERE parent IN ({marks}) AND resumed_from IS NOT NULL) GROUP BY parent, state"
        )
        for parent, state, count in self._db.query(sql, (*run_ids, *run_ids)) if run_ids else ():
            found[str(parent)][State(str(state))] = int(str(count))
        return found

    def steps(self, run: RunRecord) -> tuple[StepRecord, ...]:
        """In pipeline order. A run that mirrors another shows that one's results as reused."""
        if run.mirrors is not None:
            return tuple(_mirrored(step, run) for step in self._steps(self.get(run.mirrors)))
        return self._steps(run)

    def _steps(self, run: RunRecord) -> tuple[StepRecord, ...]:
        rows = self._db.query(f"SELECT {_STEP_COLUMNS} FROM step_runs s WHERE s.run = ? ORDER BY s.idx", (run.number,))
        return tuple(step_record(run.id, row) for row in rows)

    def step(self, run: RunRecord, name: str) -> StepRecord:
        steps = self.steps(run)
        for step in steps:
            if step.name == name:
                return step
        if run.kind == "sweep":
            raise RunNotFoundError(
                f"run {run.number} is a sweep and has no steps of its own",
                hint=f"Name one of its runs: mlpipe-tui show {run.number}",
            )
        close = nearest(name, [step.name for step in steps])
        raise RunNotFoundError(
            f"run {run.number} has no step {name!r}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"List its steps with `mlpipe-tui show {run.number}`.",
        )

    def changed_steps(self, run: RunRecord, since: int) -> tuple[int, tuple[StepRecord, ...]]:
        """Step rows that changed after `since`, and the new mark."""
        sql = f"SELECT {_STEP_COLUMNS}, s.changed FROM step_runs s WHERE s.run = ? AND s.changed > ? ORDER BY s.changed, s.idx"
        rows = self._db.query(sql, (run.number, since))
        mark = max((int(row[-1]) for row in rows), default=since)  # type: ignore[call-overload]
        return mark, tuple(step_record(run.id, row) for row in rows)

    def spec(self, run: RunRecord) -> PipelineSpec:
        rows = self._db.query("SELECT body FROM specs WHERE digest = ?", (run.spec_digest,))
        return wire.load(PipelineSpec, unpack(rows[0][0]))

    def options(self, run_id: str) -> SubmitOptions:
        rows = self._db.query("SELECT options FROM runs WHERE id = ?", (run_id,))
        return wire.load(SubmitOptions, str(rows[0][0]))

    def cancel_requested(self, run_id: str) -> bool:
        return bool(self._db.query("SELECT cancel_requested FROM runs WHERE id = ?", (run_id,))[0][0])

    def superseded(self, run_id: str) -> tuple[str, ...]:
        """Steps of a run that shall not go on, because what they are made from has changed."""
        return tuple(json.loads(str(self._db.query("SELECT superseded FROM runs WHERE id = ?", (run_id,))[0][0])))

    def unfinished(self) -> tuple[RunRecord, ...]:
        rows = self._db.query(f"SELECT {_RUN_COLUMNS} FROM runs WHERE state IN ('queued', 'running') AND kind <> 'child'")
        return tuple(map(run_record, rows))


def keep_spec(db: sqlite3.Connection, spec: PipelineSpec) -> str:
    """Write a definition down ahead of the run that names it: 100 ms for a thousand steps. Returns its digest."""
    return write_document(db, "specs", wire.dump_once(spec))


def insert_run(
    db: sqlite3.Connection, run_id: str, spec: PipelineSpec, options: SubmitOptions, parameters: Iterable[tuple[str, object]], now: str,
    selected: frozenset[str], *, parent: str | None = None, kind: str = "run", kept: str | None = None,
) -> int:  # fmt: skip
    """A queued run with a queued row for every selected step. `kept`: what `keep_spec` gave for `spec`. Returns its number."""
    digest = kept or keep_spec(db, spec)
    cursor = db.execute(
        "INSERT INTO runs (id, pipeline, experiment, state, created_at, parameters, tags, properties, source, spec, options, resumed_from,"
        " parent, kind) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run_id, spec.name, options.experiment, now, wire.dump(tuple(parameters)), pairs(options.tags), pairs(options.properties),
         options.source, digest, wire.dump(options), options.resumed_from, parent, kind),
    )  # fmt: skip
    number = int(cursor.lastrowid or 0)
    db.executemany(
        "INSERT INTO step_runs (run, idx, name, pipeline, state, queued_at) VALUES (?, ?, ?, ?, 'queued', ?)",
        [(number, spec.places[name], name, spec.name, now) for name in spec.in_order(selected)],
    )
    return number


def insert_sweep(db: sqlite3.Connection, run: int, sweep: Sweep) -> None:
    db.execute(
        "INSERT INTO sweeps (run, axes, parallel, fail_fast) VALUES (?, ?, ?, ?)",
        (run, wire.dump(sweep.axes), sweep.parallel, int(sweep.fail_fast)),
    )


def insert_mirror(db: sqlite3.Connection, run_id: str, mirrored: int, options: SubmitOptions, now: str, seconds: float) -> int:
    """One row for a run in which everything was reused; its step rows are those of `mirrored`."""
    cursor = db.execute(
        MIRROR,
        (run_id, options.experiment, now, now, now, seconds, pairs(options.tags), options.source, wire.dump(options), mirrored),
    )
    return int(cursor.lastrowid or 0)


def insert_child_run(db: sqlite3.Connection, child_id: str, parent: str, name: str, now: str) -> None:
    db.execute(
        "INSERT OR IGNORE INTO runs (id, pipeline, experiment, state, created_at, started_at, source, spec, parent, name, kind)"
        " SELECT ?, pipeline, experiment, 'running', ?, ?, 'step', '', id, ?, 'child' FROM runs WHERE id = ?",
        (child_id, now, now, name, parent),
    )


def update_run(db: sqlite3.Connection, run_id: str, **columns: object) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE runs SET {names} WHERE id = ?", (*columns.values(), run_id))


def finish_run(db: sqlite3.Connection, run_id: str, state: State, now: str, seconds: float, error: str) -> None:
    db.execute(
        "UPDATE runs SET state = ?, finished_at = ?, seconds = ?, error = ? WHERE id = ? AND state IN ('queued', 'running')",
        (state.value, now, seconds, error, run_id),
    )


def cancel_unfinished_steps(db: sqlite3.Connection, run_id: str, now: str) -> None:
    db.execute(
        "UPDATE step_runs SET state = 'canceled', finished_at = ? WHERE run = (SELECT number FROM runs WHERE id = ?)"
        " AND state IN ('queued', 'preparing', 'running')",
        (now, run_id),
    )


def update_step(db: sqlite3.Connection, run: int, index: int, mark: int, columns: Mapping[str, object]) -> None:
    """`mark` grows with every change of the run, so that followers can ask for what is new."""
    names = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE step_runs SET {names}, changed = ? WHERE run = ? AND idx = ?", (*columns.values(), mark, run, index))


def supersede_steps(db: sqlite3.Connection, run_id: str, steps: Iterable[str]) -> None:
    """Their runner stops them when it looks next; others of the run go on. Steps asked for earlier stay so."""
    row = db.execute("SELECT superseded FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is not None:
        db.execute("UPDATE runs SET superseded = ? WHERE id = ?", (json.dumps(sorted({*json.loads(row[0]), *steps})), run_id))


@lru_cache(maxsize=256)
def causes_text(causes: tuple[Cause, ...]) -> str:
    return wire.dump(causes) if causes else ""


def _mirrored(step: StepRecord, run: RunRecord) -> StepRecord:
    from dataclasses import replace

    if step.state is State.SKIPPED:
        return replace(step, run_id=run.id, started_at=run.created_at, finished_at=run.finished_at)
    producer = step.reused_from or step.run_id
    return replace(
        step, run_id=run.id, state=State.REUSED, attempt=0, decision="reuse", causes=(), reused_from=producer,
        queued_at=run.created_at, started_at=run.created_at, finished_at=run.finished_at, exit="",
    )  # fmt: skip


def is_final(run: RunRecord) -> bool:
    return run.state in FINAL
