"""Rows of a run that was made elsewhere: a new number, the same id, and where it came from."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mlpipe_engine.model import wire
from mlpipe_engine.model.bundle import Bundle
from mlpipe_engine.model.records import ArtifactRecord, StepRecord
from mlpipe_engine.store import results
from mlpipe_engine.store.documents import pairs, split_manifest, write_document, write_manifest
from mlpipe_engine.store.runs import causes_text

ORIGIN = "imported from"
"""Name of the property that says it."""


def insert(db: sqlite3.Connection, bundle: Bundle, artifacts: Sequence[tuple[ArtifactRecord, str]], now: str) -> int:
    """All rows of the run; returns its number here. A result whose outputs did not come along is kept for comparison only."""
    run = bundle.run
    properties = dict(run.properties) | {ORIGIN: f"run {run.number} of project {bundle.project}, {now[:10]}"}
    spec = write_document(db, "specs", wire.dump(bundle.spec))
    cursor = db.execute(
        "INSERT INTO runs (id, pipeline, experiment, state, created_at, started_at, finished_at, seconds, parameters, tags, properties,"
        " source, spec, options, error, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run.id, run.pipeline, run.experiment, run.state.value, run.created_at, run.started_at, run.finished_at, run.seconds,
         wire.dump(run.parameters), pairs(run.tags), pairs(sorted(properties.items())), run.source, spec, wire.dump(bundle.options),
         run.error, run.name),
    )  # fmt: skip
    number = int(cursor.lastrowid or 0)
    for fingerprint, manifest in bundle.manifests.items():
        write_manifest(db, fingerprint, split_manifest(manifest))
    for record, signature in artifacts:
        results.upsert_artifact(db, record, signature, now)
    for step in bundle.steps:
        _step(db, bundle, number, step)
    results.insert_metrics(db, number, bundle.metrics)
    return number


def _step(db: sqlite3.Connection, bundle: Bundle, number: int, step: StepRecord) -> None:
    result = bundle.results.get(step.name)
    result_id = None
    if result is not None:
        result_id = results.insert_result(
            db, run=number, step=step.name, pipeline=bundle.run.pipeline, fingerprint=result.fingerprint, base_key=result.base_key,
            snapshot=result.snapshot, structure=result.structure, reads=result.reads, outputs=result.outputs, seconds=result.seconds,
            finished_at=result.finished_at, undeclared=result.undeclared,
        )  # fmt: skip
        if any(digest and digest not in bundle.artifacts for _, digest in result.outputs):
            db.execute("UPDATE results SET withdrawn = ? WHERE id = ?", ("its outputs were not in the bundle", result_id))
    columns: dict[str, object] = {
        "run": number, "idx": step.index, "name": step.name, "pipeline": bundle.run.pipeline, "state": step.state.value,
        "attempt": step.attempt, "decision": step.decision, "causes": causes_text(step.causes), "unread": causes_text(step.unread),
        "manifest": step.fingerprint or None, "base_key": step.base_key or None, "snapshot": step.snapshot, "result": result_id,
        "queued_at": step.queued_at, "started_at": step.started_at, "finished_at": step.finished_at, "seconds": step.seconds,
        "exit": step.exit, "error": step.error, "cpu_seconds": step.cpu_seconds, "peak_memory_bytes": step.peak_memory_bytes,
        "outputs": pairs(step.outputs), "tags": pairs(step.tags), "expected_seconds": step.expected_seconds,
    }  # fmt: skip
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    db.execute(f"INSERT INTO step_runs ({names}) VALUES ({marks})", tuple(columns.values()))
