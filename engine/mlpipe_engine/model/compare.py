"""What differs between runs, as frozen values: made by `planning.compare`, shown by the edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import Json, StepSpec
from mlpipe_engine.model.trees import Tree


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """One step of one run, with what its result was really made from: of the execution, where it was reused."""

    record: StepRecord
    spec: StepSpec
    manifest: Manifest | None = None
    code: Tree | None = None
    """None: no code, or no longer kept."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    run: RunRecord
    steps: tuple[StepFacts, ...]
    metrics: tuple[MetricRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueChange:
    """A named value that differs; a missing one has no `in_` flag."""

    name: str
    before: Json = None
    after: Json = None
    in_before: bool = True
    in_after: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    cause: Cause
    before: str = ""
    """Digest of the bytes; "" when the file was not there."""
    after: str = ""
    steps: tuple[str, ...] = ()
    """Steps that have this file in their code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCause:
    cause: Cause
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentChange:
    """An input or an output whose bytes differ."""

    name: str
    before: str = ""
    """Digest; "" when there is none."""
    after: str = ""
    before_bytes: int | None = None
    after_bytes: int | None = None
    lines: tuple[int, int] | None = None
    """(+added, -removed) where both are small texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDiff:
    name: str
    before_name: str = ""
    """Another name for the same work, where the step was renamed."""
    status: Literal["same", "changed", "added", "removed", "renamed"] = "same"
    before: StepRecord | None = None
    after: StepRecord | None = None
    causes: tuple[Cause, ...] = ()
    """Arguments, variables, declared outputs and the like."""
    inputs: tuple[ContentChange, ...] = ()
    outputs: tuple[ContentChange, ...] = ()
    equal_outputs: int = 0
    code_unknown: bool = False
    """The code differs, but one of the two is no longer kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChange:
    step: str
    name: str
    before: float | None = None
    after: float | None = None

    @property
    def delta(self) -> float | None:
        return self.after - self.before if self.before is not None and self.after is not None else None

    @property
    def relative(self) -> float | None:
        delta = self.delta
        return delta / abs(self.before) if delta is not None and self.before else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    before: RunRecord
    after: RunRecord
    parameters: tuple[ValueChange, ...] = ()
    code: tuple[FileChange, ...] = ()
    environment: tuple[SharedCause, ...] = ()
    steps: tuple[StepDiff, ...] = ()
    metrics: tuple[MetricChange, ...] = ()
    equal_metrics: int = 0

    @property
    def other_pipeline(self) -> bool:
        return self.before.pipeline != self.after.pipeline

    @property
    def equal(self) -> bool:
        """Nothing that decides a result, and no result, differs. Times, states and names do not count."""
        return not (
            self.parameters or self.code or self.environment or self.metrics or self.other_pipeline
            or any(step.status in ("changed", "added", "removed") for step in self.steps)
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One row of a comparison."""

    run: RunRecord
    interrupted: bool = False
    parameters: tuple[tuple[str, Json], ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()
    """Last value of each, by column name."""
    reused: int = 0
    steps: int = 0
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs x (parameters that differ, metrics)."""

    parameters: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[ComparedRun, ...] = field(default=())
    metric: str = ""
    goal: Literal["min", "max", ""] = ""

    @property
    def differing(self) -> tuple[str, ...]:
        """Metrics that are not the same in all runs, and the one that was asked for."""
        values = {name: {dict(row.metrics).get(name) for row in self.rows} for name in self.metrics}
        return tuple(name for name in self.metrics if name == self.metric or len(values[name]) > 1 or len(self.rows) < 2)
