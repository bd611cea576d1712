"""What a run writes about its steps: one function per thing that can happen, each a row change and its event.

The change is written in the recorder's thread; the event is handed on only after the commit. Called by `loop`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from itertools import count

from mlpipe_engine.model.events import Event, RunFinished, RunStarted, StepChanged
from mlpipe_engine.model.execution import Finished
from mlpipe_engine.model.plan import Cause, Execute, Result, StepPlan
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import State
from mlpipe_engine.runner.collect import Collected
from mlpipe_engine.runner.follow import StepEvents
from mlpipe_engine.store import journal, results, row_counts, runs
from mlpipe_engine.store.documents import manifest_documents, pairs, unpairs
from mlpipe_engine.store.recorder import Recorder
from mlpipe_engine.store.step_writes import NewResult, StepWrite

_second = (0, "")
"""The last second that was asked for, and its text."""


def utc_now() -> str:
    """RFC 3339 with microseconds."""
    global _second
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    return f"{_second[1]}.{rest // 1000:06d}Z"


class StepRows:
    """One per run; called from the runner thread only."""

    def __init__(
        self, run: RunRecord, recorder: Recorder, acknowledge: Callable[[Event], None], journal: journal.Journal
    ) -> None:
        self._run = run
        self._journal = journal
        self._recorder = recorder
        self._acknowledge = acknowledge
        self._index: dict[str, int] = {}
        self._marks = count(1)
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
        columns: dict[str, object] = {
            "state": State.PREPARING.value, "decision": "execute", "causes": runs.causes_text(because),
            "compared": compared.id if compared else None, "manifest": plan.manifest.fingerprint, "base_key": plan.manifest.base_key,
            "snapshot": plan.code.digest if plan.code else "", "expected_seconds": plan.expected_seconds,
        }  # fmt: skip
        event = self._event(step, State.PREPARING, causes=because, expected_seconds=plan.expected_seconds)
        self._change(step, columns, event, documents=manifest_documents(plan.manifest))

    def running(self, step: str, attempt: int, expected: float | None) -> None:
        now = utc_now()
        columns: dict[str, object] = {
            "state": State.RUNNING.value,
            "attempt": attempt,
            "started_at": now,
            "error": "",
            "exit": "",
        }
        self._change(step, columns, self._event(step, State.RUNNING, now, attempt=attempt, expected_seconds=expected))

    def note(self, step: str, text: str) -> None:
        """Something to show while the step stays where it is."""
        self._change(step, {"error": text}, self._event(step, State.PREPARING, note=text))

    def retrying(self, step: str, text: str) -> None:
        self._change(step, {"state": State.QUEUED.value, "error": text}, self._event(step, State.QUEUED, note=text))

    def reused(self, step: str, plan: StepPlan, result: Result, note: tuple[Cause, ...]) -> None:
        assert plan.manifest is not None
        now = utc_now()
        columns: dict[str, object] = {
            "state": State.REUSED.value, "decision": "reuse", "causes": "", "unread": runs.causes_text(note), "compared": result.id,
            "manifest": plan.manifest.fingerprint, "base_key": plan.manifest.base_key, "snapshot": plan.code.digest if plan.code else "",
            "result": result.id, "reused_from": result.run_number, "started_at": now, "finished_at": now,
            "seconds": result.seconds, "outputs": pairs(result.outputs), "error": "",
        }  # fmt: skip
        event = self._event(step, State.REUSED, now, seconds=result.seconds, reused_from=result.run_number, causes=note)
        known = plan.manifest.fingerprint == result.fingerprint  # then its text was written with the result
        documents = () if known else manifest_documents(plan.manifest)
        copied = (result.run_number, result.step, step)
        self._change(step, columns, event, documents=documents, copied=copied, told=True)

    def succeeded(
        self, step: str, plan: StepPlan, collected: Collected, finished: Finished, seconds: float, *,
        pipeline: str, structure: str, put_away: str, then: Callable[[], None] | None,
    ) -> None:  # fmt: skip
        """Durable: the bytes of the outputs are synced before this row is written. `then` follows the commit."""
        assert plan.manifest is not None
        manifest = plan.manifest
        now = utc_now()
        columns: dict[str, object] = {
            "state": State.SUCCEEDED.value, "finished_at": now, "seconds": seconds, "exit": str(finished.exit), "error": collected.not_reusable,
            "cpu_seconds": finished.cpu_seconds, "peak_memory_bytes": finished.peak_memory_bytes, "outputs": pairs(collected.outputs),
            "put_away": put_away,
        }  # fmt: skip
        knows_imports = collected.undeclared.modules is not None
        result = NewResult(
            step=step, pipeline=pipeline, fingerprint=manifest.fingerprint,
            base_key=manifest.loose_key if knows_imports else manifest.base_key, snapshot=plan.code.digest if plan.code else "",
            structure=structure, reads=collected.reads, outputs=collected.outputs, seconds=seconds, finished_at=now,
            undeclared=collected.undeclared, withdrawn=collected.not_reusable,
        )  # fmt: skip
        artifacts = tuple(
            (record.digest, record.kind, record.size_bytes, record.file_count, signature, now)
            for record, signature in collected.artifacts
        )
        if collected.rows:
            self._recorder.put(lambda db: row_counts.put_counts(db, collected.rows))
        event = self._event(step, State.SUCCEEDED, now, seconds=seconds, note=collected.not_reusable)
        self._change(step, columns, event, then, durable=True, artifacts=artifacts, result=result, told=True)

    def skipped(self, step: str, because: tuple[Cause, ...]) -> None:
        now = utc_now()
        columns: dict[str, object] = {
            "state": State.SKIPPED.value,
            "decision": "skip",
            "causes": runs.causes_text(because),
            "finished_at": now,
        }
        self._change(step, columns, self._event(step, State.SKIPPED, now, causes=because), told=True)

    def ended(self, step: str, state: State, finished: Finished | None, seconds: float, error: str) -> None:
        now = utc_now()
        columns: dict[str, object] = {"state": state.value, "finished_at": now, "error": error}
        if finished is not None:
            columns |= {
                "exit": str(finished.exit), "seconds": seconds,
                "cpu_seconds": finished.cpu_seconds, "peak_memory_bytes": finished.peak_memory_bytes,
            }  # fmt: skip
        exit = str(finished.exit) if finished else ""
        self._change(step, columns, self._event(step, state, now, seconds=seconds, exit=exit, error=error), told=True)

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

    def _change(
        self, step: str, columns: dict[str, object], event: Event, then: Callable[[], None] | None = None, *, durable: bool = False,
        documents: tuple[tuple[str, str], ...] = (), artifacts: tuple[tuple[object, ...], ...] = (), result: NewResult | None = None,
        copied: tuple[int, str, str] | None = None, told: bool = False,
    ) -> None:  # fmt: skip
        write = StepWrite(
            run=self._run.number, index=self._index[step], mark=next(self._marks), columns=columns, documents=documents,
            artifacts=artifacts, result=result, copied=copied, told=told,
        )  # fmt: skip
        self._put(write, event, then, durable=durable)

    def _event(self, step: str, state: State, now: str | None = None, **more: object) -> StepChanged:
        return StepChanged(run_id=self._run.id, step=step, state=state, time=now or utc_now(), **more)  # type: ignore[arg-type]

    def _put(
        self,
        statement: Callable[[sqlite3.Connection], object] | StepWrite,
        event: Event,
        then: Callable[[], None] | None = None,
        *,
        durable: bool = False,
        line: Callable[[sqlite3.Connection], journal.Line] | None = None,
    ) -> None:
        def acknowledged() -> None:
            if then is not None:
                then()
            self._acknowledge(event)

        self._recorder.put(statement, acknowledged, durable=durable, line=line)


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
