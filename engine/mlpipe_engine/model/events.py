"""What happened in a run, as numbered frozen events; the store commits before an event is emitted.

Renderers (command line, terminal UI, log files) subscribe to these and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    run_id: str
    number: int
    pipeline: str
    experiment: str
    steps: tuple[str, ...]
    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChanged:
    """A step entered `state`. For succeeded and reused: everything it made is durable."""

    run_id: str
    step: str
    state: State
    time: str
    attempt: int = 0
    causes: tuple[Cause, ...] = ()
    seconds: float | None = None
    """Of this execution, or, for reused, what the reused execution took."""
    expected_seconds: float | None = None
    reused_from: int | None = None
    """Run number."""
    exit: str = ""
    error: str = ""
    note: str = ""
    """For instance "waits for run 41, which makes the same result" or "attempt 2 of 3 in 4 s"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    run_id: str
    number: int
    state: State
    time: str
    seconds: float
    executed: int
    reused: int
    skipped: int
    failed: int
    canceled: int
    saved_seconds: float
    """What the reused executions took when they ran."""
    error: str = ""


Event = RunStarted | StepChanged | RunFinished
