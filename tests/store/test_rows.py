"""Records made from rows are the records their class makes, in every respect."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.model.states import State
from mlpipe_engine.store.rows import run_record, step_record
from mlpipe_engine.store.runs import causes_text

RUN = (
    "a" * 32, 7, "p", "e", "running", "2026-01-01T00:00:00.000000Z", None, None, 1.5, '[["n",3]]', '[["t","x"]]', "[]", "cli", "b" * 64,
    None, None, "", None, "", "run",
)  # fmt: skip
STEP = (
    "s", 3, "succeeded", 1, "execute", causes_text((Cause(kind="new", subject="new step"),)), "", None, "k1:f", "k1:b", None, 4, None,
    "q", "b", "e", 0.25, "exited 0", "", 0.1, 1024, '[["o","b3:00"]]', None, "", "python",
)  # fmt: skip


def test_a_run() -> None:
    run = run_record(RUN)
    assert run == RunRecord(
        id="a" * 32, number=7, pipeline="p", experiment="e", state=State.RUNNING, created_at="2026-01-01T00:00:00.000000Z", seconds=1.5,
        parameters=(("n", 3),), tags=(("t", "x"),), spec_digest="b" * 64,
    )  # fmt: skip
    assert type(run) is RunRecord and hash(run) == hash(replace(run)) and repr(run).startswith("RunRecord(")


def test_a_step() -> None:
    step = step_record("r", (*STEP, "more"))
    assert step == StepRecord(
        run_id="r", name="s", index=3, state=State.SUCCEEDED, attempt=1, decision="execute", causes=(Cause(kind="new", subject="new step"),),
        fingerprint="k1:f", base_key="k1:b", result_id=4, queued_at="q", started_at="b", finished_at="e", seconds=0.25, exit="exited 0",
        cpu_seconds=0.1, peak_memory_bytes=1024, outputs=(("o", "b3:00"),), put_away="python",
    )  # fmt: skip


@pytest.mark.parametrize("record", [run_record(RUN), step_record("r", STEP)])
def test_they_are_frozen_and_whole(record: RunRecord | StepRecord) -> None:
    with pytest.raises(FrozenInstanceError):
        record.name = "other"  # type: ignore[misc]
    for field in fields(record):
        getattr(record, field.name)  # every slot is filled
