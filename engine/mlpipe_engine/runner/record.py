"""What a run writes about its steps: one function per thing that can happen, each a row change and its event.

The statement runs in the recorder's thread; the event is handed on only after the commit. Called by `loop`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count

from mlpipe_engine.model.events import Event, RunFinished, RunStarted, StepChanged
from mlpipe_engine.model.execution import Finished
from mlpipe_engine.model.plan import Cause, Execute, Result, StepPlan
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import State
from mlpipe_engine.runner.collect import Collected
from mlpipe_engine.runner.follow import StepEvents
from mlpipe_engine.store import journal, results, rows, runs
from mlpipe_engine.store.documents import ManifestTexts, pairs, unpairs, write_manifest
from mlpipe_engine.store.journal import Journal
from mlpipe_engine.store.recorder import Recorder


def utc_now() -> str:
    """RFC 3339 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class StepRows:
    """One per run; called from the runner thread only."""

    def __init__(self, run: RunRecord, recorder: Recorder, acknowledge: Callable[[Event], None], journal: Journal) -> None:
        self._run = run
        self._journal = journal
        self._recorder = recorder
        self._acknowledge = acknowledge
        self._index: dict[str, int] = {}
        self._marks = count(1)
        self._texts = ManifestTexts()
        self._counted: dict[str, float | None] = {}

    def number_steps(self, index: Mapping[str, int], first_mark: int) -> None:
        """Rows by step name, and the first number for changes (a resumed run goes on counting)."""
        self._index = dict(index)
        self._marks = count(first_mark)

    def run_started(self, event: RunStarted) -> None:
        def statement(db: sqlite3.Connection) -> None:
            runs.update_run(db, self._run.id, state=State.RUNNING.value, started_at=event.time)

        self._put(statement, event, line=lambda db: journal.run_line(db, self._journal, self._run.number))

    def run_finished(self, event: RunFinished) -> None:
        def statement(db: sqlite3.Connection) -> None:
            runs.finish_run(db, self._run.id, event.state, event.time, event.seconds, event.error)

        self._put(statement, event, line=lambda db: journal.end_line(db, self._run.number))

    def preparing(self, step: str, plan: StepPlan) -> None:
        assert plan.manifest is not None and isinstance(plan.decision, Execute)
        because, compared = plan.decision.because, plan.decision.compared_with
        parts = self._texts.split(plan.manifest)
        fingerprint = plan.manifest.fingerprint
        columns: dict[str, object] = {
            "state": State.PREPARING.value, "decision": "execute", "causes": runs.causes_text(because),
            "compared": compared.id if compared else None, "manifest": fingerprint, "base_key": plan.manifest.base_key,
            "snapshot": plan.code.digest if plan.code else "", "expected_seconds": plan.expected_seconds,
        }  # fmt: skip
        change = self._change(step, columns)

        def statement(db: sqlite3.Connection) -> None:
            write_manifest(db, fingerprint, parts)
            change(db)

        self._put(statement, self._event(step, State.PREPARING, causes=because, expected_seconds=plan.expected_seconds))

    def running(self, step: str, attempt: int, expected: float | None) -> None:
        columns = {"state": State.RUNNING.value, "attempt": attempt, "started_at": utc_now(), "error": "", "exit": ""}
        event = self._event(step, State.RUNNING, attempt=attempt, expected_seconds=expected)
        self._put(self._change(step, columns), event)

    def note(self, step: str, text: str) -> None:
        """Something to show while the step stays where it is."""
        self._put(self._change(step, {"error": text}), self._event(step, State.PREPARING, note=text))

    def retrying(self, step: str, text: str) -> None:
        self._put(self._change(step, {"state": State.QUEUED.value, "error": text}), self._event(step, State.QUEUED, note=text))

    def reused(self, step: str, plan: StepPlan, result: Result, note: tuple[Cause, ...]) -> None:
        assert plan.manifest is not None
        parts = self._texts.split(plan.manifest)
        fingerprint = plan.manifest.fingerprint
        now = utc_now()
        columns: dict[str, object] = {
            "state": State.REUSED.value, "decision": "reuse", "causes": "", "unread": runs.causes_text(note), "compared": result.id,
            "manifest": fingerprint, "base_key": plan.manifest.base_key, "snapshot": plan.code.digest if plan.code else "",
            "result": result.id, "reused_from": result.run_number, "started_at": now, "finished_at": now,
            "seconds": result.seconds, "outputs": pairs(result.outputs), "error": "",
        }  # fmt: skip
        change = self._change(step, columns)

        def statement(db: sqlite3.Connection) -> None:
            write_manifest(db, fingerprint, parts)
            change(db)
            results.copy_metrics(db, result.run_number, self._run.number, result.step, step)

        self._put(
            statement,
            self._event(step, State.REUSED, seconds=result.seconds, reused_from=result.run_number, causes=note),
            line=self._line(step),
        )

    def succeeded(
        self, step: str, plan: StepPlan, collected: Collected, finished: Finished, seconds: float, *,
        pipeline: str, structure: str, then: Callable[[], None] | None,
    ) -> None:  # fmt: skip
        """Durable: the bytes of the outputs are synced before this row is written. `then` follows the commit."""
        assert plan.manifest is not None
        manifest = plan.manifest
        now = utc_now()
        snapshot = plan.code.digest if plan.code else ""
        base: dict[str, object] = {
            "state": State.SUCCEEDED.value, "finished_at": now, "seconds": seconds, "exit": str(finished.exit), "error": collected.not_reusable,
            "cpu_seconds": finished.cpu_seconds, "peak_memory_bytes": finished.peak_memory_bytes, "outputs": pairs(collected.outputs),
        }  # fmt: skip
        mark = next(self._marks)
        made: list[int] = []
        knows_imports = collected.undeclared.modules is not None
        base_key = manifest.loose_key if knows_imports else manifest.base_key

        def statement(db: sqlite3.Connection) -> None:
            for record, signature in collected.artifacts:
                results.upsert_artifact(db, record, signature, now)
            rows.put_counts(db, collected.rows)
            number = results.insert_result(
                db, run=self._run.number, step=step, pipeline=pipeline, fingerprint=manifest.fingerprint, base_key=base_key,
                snapshot=snapshot, structure=structure, reads=collected.reads, outputs=collected.outputs, seconds=seconds, finished_at=now,
                undeclared=collected.undeclared,
            )  # fmt: skip
            if collected.not_reusable:
                db.execute("UPDATE results SET withdrawn = ? WHERE id = ?", (collected.not_reusable, number))
            runs.update_step(db, self._run.number, self._index[step], mark, {**base, "result": number})
            made.append(number)

        event = self._event(step, State.SUCCEEDED, seconds=seconds, note=collected.not_reusable)
        self._put(statement, event, then, durable=True, line=lambda db: journal.result_line(db, self._journal, made[0]))

    def skipped(self, step: str, because: tuple[Cause, ...]) -> None:
        columns = {
            "state": State.SKIPPED.value,
            "decision": "skip",
            "causes": runs.causes_text(because),
            "finished_at": utc_now(),
        }
        self._put(self._change(step, columns), self._event(step, State.SKIPPED, causes=because), line=self._line(step))

    def ended(self, step: str, state: State, finished: Finished | None, seconds: float, error: str) -> None:
        columns: dict[str, object] = {"state": state.value, "finished_at": utc_now(), "error": error}
        if finished is not None:
            columns |= {
                "exit": str(finished.exit), "seconds": seconds,
                "cpu_seconds": finished.cpu_seconds, "peak_memory_bytes": finished.peak_memory_bytes,
            }  # fmt: skip
        exit = str(finished.exit) if finished else ""
        self._put(
            self._change(step, columns), self._event(step, state, seconds=seconds, exit=exit, error=error), line=self._line(step)
        )

    def step_events(self, step: str, batch: StepEvents) -> None:
        """Metrics, tags, files, child runs and models a step reported; no event of its own."""
        run = self._run

        def statement(db: sqlite3.Connection) -> None:
            now = utc_now()
            for child, name in batch.children:
                runs.insert_child_run(db, child, run.id, name, now)
            results.insert_metrics(db, run.number, batch.metrics)
            for child, metrics in batch.child_metrics:
                number = db.execute("SELECT number FROM runs WHERE id = ?", (child,)).fetchone()
                if number is not None:
                    results.insert_metrics(db, number[0], metrics)
            results.insert_files(db, run.number, step, batch.files)
            for target, column, name, value in batch.labels:
                if target:
                    _set_label(db, "runs", column, run.id if target == "parent" else target, name, value)
                else:
                    _set_label(db, "step_runs", column, (run.number, self._index[step]), name, value)
            for child, state in batch.children_ended:
                runs.finish_run(db, child, State(state), now, 0.0, "")
            for name, path, tags in batch.models:
                results.insert_model(db, run.number, step, name, path, tags, now)

        self._recorder.put(statement)

    def _change(self, step: str, columns: Mapping[str, object]) -> Callable[[sqlite3.Connection], None]:
        mark, index, number = next(self._marks), self._index[step], self._run.number
        return lambda db: runs.update_step(db, number, index, mark, columns)

    def _line(self, step: str) -> Callable[[sqlite3.Connection], journal.Line]:
        number, index = self._run.number, self._index[step]
        return lambda db: journal.step_line(db, number, index)

    def _event(self, step: str, state: State, **more: object) -> StepChanged:
        return StepChanged(run_id=self._run.id, step=step, state=state, time=utc_now(), **more)  # type: ignore[arg-type]

    def _put(
        self,
        statement: Callable[[sqlite3.Connection], None],
        event: Event,
        then: Callable[[], None] | None = None,
        *,
        durable: bool = False,
        line: Callable[[sqlite3.Connection], journal.Line] | None = None,
    ) -> None:
        """`line` is read from the rows in the same transaction and stands in the journal once that is committed."""
        lines: list[journal.Line] = []

        def told(db: sqlite3.Connection) -> None:
            statement(db)
            if line is not None:
                lines.append(line(db))

        def acknowledged() -> None:
            for told_line in lines:
                self._journal.append(told_line)
            if then is not None:
                then()
            self._acknowledge(event)

        self._recorder.put(told, acknowledged, durable=durable)


def _set_label(db: sqlite3.Connection, table: str, kind: str, key: str | tuple[int, int], name: str, value: str | None) -> None:
    """Tags may change; a property is written once. A step keeps both in one column."""
    column, where, values = (kind, "id = ?", (key,)) if isinstance(key, str) else ("tags", "run = ? AND idx = ?", key)
    row = db.execute(f"SELECT {column} FROM {table} WHERE {where}", values).fetchone()
    if row is None:
        return
    labels = dict(unpairs(row[0]))
    if kind == "properties" and name in labels:
        return
    if value is None:
        labels.pop(name, None)
    else:
        labels[name] = value
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (pairs(sorted(labels.items())), *values))
