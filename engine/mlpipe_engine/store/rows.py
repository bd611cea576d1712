"""Rows as records, fast: a page of fifty runs is asked for at every key press.

A frozen record sets its fields through the back door, one call each: 3 us for twenty. Here a class with the same slots that may be
written is filled, and then becomes the record: 0.3 us. What a column holds is known from the schema (STRICT), so nothing is converted.
"""

from __future__ import annotations

from typing import Any, cast

from mlpipe_engine.model import wire
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.model.states import State
from mlpipe_engine.store.documents import unpairs

_STATES = {state.value: state for state in State}
_NOTHING: tuple[Any, ...] = ()


class _Run:
    __slots__ = RunRecord.__slots__


class _Step:
    __slots__ = StepRecord.__slots__


def run_record(row: tuple[Any, ...]) -> RunRecord:
    """Of a row of `runs._RUN_COLUMNS`."""
    run: Any = _Run()
    (run.id, run.number, run.pipeline, run.experiment, state, run.created_at, run.started_at, run.finished_at, run.seconds, parameters,
     tags, properties, run.source, run.spec_digest, run.resumed_from, run.mirrors, run.error, run.parent, run.name, run.kind) = row  # fmt: skip
    run.state = _STATES[state]
    run.parameters = _NOTHING if parameters == "[]" else wire.load(tuple, parameters)
    run.tags = _NOTHING if tags == "[]" else unpairs(tags)
    run.properties = _NOTHING if properties == "[]" else unpairs(properties)
    run.__class__ = RunRecord
    return cast(RunRecord, run)


def step_record(run_id: str, row: tuple[Any, ...]) -> StepRecord:
    """Of a row of `runs._STEP_COLUMNS`, which may have more behind it."""
    step: Any = _Step()
    (step.name, step.index, state, step.attempt, step.decision, causes, unread, step.compared_with, manifest, base_key, snapshot,
     step.result_id, step.reused_from, step.queued_at, step.started_at, step.finished_at, step.seconds, step.exit, step.error,
     step.cpu_seconds, step.peak_memory_bytes, outputs, step.expected_seconds, tags, step.put_away) = row[:25]  # fmt: skip
    step.run_id = run_id
    step.state = _STATES[state]
    step.causes, step.unread = causes_of(causes), causes_of(unread)
    step.fingerprint, step.base_key, step.snapshot = manifest or "", base_key or "", snapshot or ""
    step.outputs = unpairs(outputs) if outputs else _NOTHING
    step.tags = unpairs(tags) if tags else _NOTHING
    step.__class__ = StepRecord
    return cast(StepRecord, step)


_known_causes: dict[str, tuple[Cause, ...]] = {}
"""Texts that were read lately: the steps of a run mostly have the same."""


def causes_of(text: str) -> tuple[Cause, ...]:
    if not text:
        return _NOTHING
    found = _known_causes.get(text)
    if found is None:
        if len(_known_causes) > 256:
            _known_causes.clear()
        found = _known_causes[text] = wire.load(tuple, text)
    return found
