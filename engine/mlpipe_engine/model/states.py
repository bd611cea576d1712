"""States of runs and steps as tables: the only place that says what may follow what.

Interrupted is not a state: it is derived from a state that is not final whose runner's lock is free.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REUSED = "reused"
    SKIPPED = "skipped"


STEP_TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.PREPARING, State.SKIPPED, State.CANCELED}),
    State.PREPARING: frozenset({State.RUNNING, State.REUSED, State.SKIPPED, State.FAILED, State.CANCELED, State.QUEUED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED, State.QUEUED}),
    **dict.fromkeys((State.REUSED, State.SUCCEEDED, State.FAILED, State.SKIPPED, State.CANCELED), frozenset[State]()),
}
"""Back to queued: the runner was lost and the run was resumed, or an attempt is tried again."""

RUN_TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED, State.REUSED}),
    **dict.fromkeys((State.REUSED, State.SUCCEEDED, State.FAILED, State.CANCELED), frozenset[State]()),
}
"""REUSED: nothing had to run."""

FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED, State.REUSED, State.SKIPPED})
GOOD = frozenset({State.SUCCEEDED, State.REUSED})
