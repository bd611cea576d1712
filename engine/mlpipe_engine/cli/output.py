"""How values are printed: JSON documents, times, tables of plain text. Shared by all verbs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from mlpipe_engine.cli.columns import table as table
from mlpipe_engine.cli.columns import width as width
from mlpipe_engine.cli.quick import shown
from mlpipe_engine.model.events import Event
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord


class Outlet:
    """Tells what happens for as long as somebody reads it. What happens does not depend on that: a run goes on unseen."""

    def __init__(self) -> None:
        self._lost: OSError | None = None

    def guard(self, tell: Callable[[Event], None]) -> Callable[[Event], None]:
        def told(event: Event) -> None:
            if self._lost is not None:
                return
            try:
                tell(event)
                sys.stdout.flush()
            except OSError as error:
                self._lost = error
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

        return told

    def code(self, code: int) -> int:
        """A reader who left (`| head`) is nobody's trouble; a disk that took no more is, though the run itself went on."""
        if self._lost is None or isinstance(self._lost, BrokenPipeError):
            return code
        print(f"error: cannot write to stdout: {self._lost.strerror}; the run went on without", file=sys.stderr)
        return code or 4


def print_json(verb: str, **fields: object) -> None:
    """One document, `{"schema": "mlpipe.<verb>/1", ...}`."""
    print(json.dumps({"schema": f"mlpipe.{verb}/1", **fields}))


def seconds(value: float | None) -> str:
    """0.42 s, 8.1 s, 2 min 05 s, 1 h 02 min."""
    return "" if value is None else shown(value)


def size(value: int | None) -> str:
    if value is None:
        return ""
    amount = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def local_time(text: str | None) -> str:
    """A stored UTC time as the person's own."""
    if not text:
        return ""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def cause_document(cause: Cause) -> dict[str, str]:
    return {
        "kind": cause.kind, "subject": cause.subject, "before": cause.before, "after": cause.after, "detail": cause.detail,
        "root": cause.root, "text": str(cause),
    }  # fmt: skip


def run_document(run: RunRecord, *, interrupted: bool) -> dict[str, object]:
    return {
        "id": run.id, "number": run.number, "pipeline": run.pipeline, "experiment": run.experiment,
        "state": "interrupted" if interrupted else run.state.value, "created_at": run.created_at, "started_at": run.started_at,
        "finished_at": run.finished_at, "duration_seconds": run.seconds, "parameters": dict(run.parameters), "tags": dict(run.tags),
        "properties": dict(run.properties), "source": run.source, "resumed_from": run.resumed_from, "error": run.error or None,
        "kind": run.kind, "parent": run.parent,
    }  # fmt: skip


def step_document(step: StepRecord) -> dict[str, object]:
    return {
        "name": step.name, "state": step.state.value, "attempt": step.attempt, "decision": step.decision,
        "causes": [cause_document(cause) for cause in step.causes], "changed_but_unread": [cause_document(cause) for cause in step.unread],
        "fingerprint": step.fingerprint or None, "reused_from": step.reused_from, "started_at": step.started_at,
        "finished_at": step.finished_at, "duration_seconds": step.seconds, "expected_seconds": step.expected_seconds, "exit": step.exit or None,
        "error": step.error or None, "cpu_seconds": step.cpu_seconds, "peak_memory_bytes": step.peak_memory_bytes, "outputs": dict(step.outputs),
        "tags": dict(step.tags),
    }  # fmt: skip


def metric_document(metric: MetricRecord) -> dict[str, object]:
    return {
        "step": metric.step, "name": metric.name, "kind": metric.kind, "value": json.loads(metric.value), "step_number": metric.step_number,
        "time": metric.time, "origin": metric.origin or None,
    }  # fmt: skip
