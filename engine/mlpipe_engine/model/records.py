"""Rows read back from the store. No dict, no sqlite3 object leaves `store/`."""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.spec import Json
from mlpipe_engine.model.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    id: str
    """UUID hex."""
    number: int
    pipeline: str
    experiment: str
    state: State
    created_at: str
    """RFC 3339, UTC, microseconds."""
    started_at: str | None = None
    finished_at: str | None = None
    seconds: float | None = None
    parameters: tuple[tuple[str, Json], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    source: str = "cli"
    spec_digest: str = ""
    resumed_from: str | None = None
    mirrors: str | None = None
    """Run whose step rows stand for this one's: everything was reused."""
    error: str = ""
    parent: str | None = None
    name: str = ""
    """Set for child runs made by a step."""
    kind: str = "run"
    """"run"; "sweep": its children are ordinary runs; "child": made by a step's script, it has no runner of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    run_id: str
    name: str
    index: int
    state: State
    attempt: int = 0
    """How many times it was started in this run."""
    decision: str = ""
    """"execute", "reuse" or "skip"; "" while undecided."""
    causes: tuple[Cause, ...] = ()
    unread: tuple[Cause, ...] = ()
    """What changed since the reused result was made, but was never read by it."""
    compared_with: int | None = None
    """Id of the result the causes were found against."""
    fingerprint: str = ""
    base_key: str = ""
    snapshot: str = ""
    result_id: int | None = None
    reused_from: str | None = None
    """Id of the run whose result stands here."""
    queued_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    seconds: float | None = None
    exit: str = ""
    """As text: "exited 0", "killed by signal 9", "timed out after 5 s", "lost: ..."."""
    error: str = ""
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    outputs: tuple[tuple[str, str], ...] = ()
    """(output name, artifact digest)."""
    expected_seconds: float | None = None
    tags: tuple[tuple[str, str], ...] = ()
    """What the step's script tagged itself with."""
    put_away: str = ""
    """Not empty: its directory held nothing but what is told here, and is made anew when it is opened. Names its interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecord:
    run_id: str
    step: str
    """"" for the run itself."""
    name: str
    kind: str
    """scalar, list, row, table, image, confusion_matrix, accuracy_table, residuals, predictions."""
    value: str
    """JSON text."""
    step_number: int | None = None
    seq: int = 0
    time: str = ""
    origin: str = ""
    """The step that logged it to its parent; kept so that reuse can replay it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    digest: str
    kind: str
    """"file" or "folder"."""
    size_bytes: int
    file_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Somebody said of one change of one step that it does not matter: an earlier result stands for exactly this new manifest."""

    id: int
    pipeline: str
    step: str
    result_id: int
    run_number: int
    """The run whose result is kept."""
    from_fingerprint: str
    from_snapshot: str
    fingerprint: str
    snapshot: str
    causes: tuple[Cause, ...]
    """What was accepted."""
    who: str
    because: str
    created_at: str
    revoked_at: str | None = None
    revoked_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How the child runs of a sweep are made."""

    axes: tuple[tuple[str, tuple[Json, ...]], ...]
    """Parameter -> its values, in the order they were given."""
    parallel: int
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """One thing that was expected of an input before a step got it, and what was found."""

    step: str
    input: str
    severity: str
    """fail or warn; note: nobody asked, but it should be known (values that became null)."""
    holds: bool
    text: str


@dataclass(frozen=True, slots=True)
class PortRows:
    """How many rows an input or an output of a step has."""

    step: str
    name: str
    kind: str
    """input or output."""
    rows: int
