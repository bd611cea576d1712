"""What the bridge brings from the engine: frozen values that screens may keep, compare and draw at any time. Nothing here asks or draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlpipe_engine.errors import MlpipeError, PipelineLoadError
from mlpipe_engine.model.filters import EVERYTHING, Filter
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL
from mlpipe_engine.model.views import Explanation, Finding, Plan

if TYPE_CHECKING:
    from mlpipe_engine.model.compare import RunDiff

Graph = tuple[tuple[str, tuple[str, ...]], ...]
"""Steps in topological order, each with those it waits for."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What a person can do something about (an MlpipeError), or a fault of ours (`ours`)."""

    what: str
    hint: str = ""
    where: str = ""
    """file:line."""
    traceback: str = ""
    """The user's own, where there is one."""
    kind: str = ""
    ours: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        if isinstance(error, MlpipeError):
            traceback = error.user_traceback if isinstance(error, PipelineLoadError) else ""
            return cls(what=str(error), hint=error.hint, where=error.where, traceback=traceback, kind=type(error).__name__)
        if isinstance(error, OSError):
            return cls(what=f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), kind="OSError")
        return cls(what=f"internal error: {type(error).__name__}: {error}", kind=type(error).__name__, ours=True,
                   hint="This is a bug of mlpipe-tui. Runs go on; the traceback is in the log of the app.")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProjectShot:
    """What a project is, as far as it can be told without loading its definitions."""

    root: str
    name: str
    state_dir: str
    default_pipeline: str = ""
    writable: bool = True
    interrupted: tuple[RunRecord, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DefinitionShot:
    """The definitions as they were when they were last loaded."""

    pipelines: tuple[PipelineSpec, ...] = ()
    graphs: tuple[Graph, ...] = ()
    trouble: Trouble | None = None

    def named(self, name: str) -> tuple[PipelineSpec, Graph] | None:
        for spec, graph in zip(self.pipelines, self.graphs, strict=True):
            if spec.name == name:
                return spec, graph
        return None


@dataclass(frozen=True, kw_only=True)
class RunShot:
    """One run with its steps, as they stood at one moment."""

    run: RunRecord
    steps: tuple[StepRecord, ...]
    spec: PipelineSpec
    graph: Graph
    interrupted: bool = False
    numbers: tuple[tuple[str, int], ...] = ()
    """Run id -> number, of runs whose results are reused here."""
    latest: int = 0
    """Number of the newest run of the project."""
    live: tuple[tuple[int, str], ...] = ()
    """(number, pipeline) of all runs that are not final and have a runner."""

    @property
    def going_on(self) -> bool:
        return self.run.state not in FINAL and not self.interrupted

    def number_of(self, run_id: str | None) -> str:
        return str(dict(self.numbers).get(run_id or "", "?"))


@dataclass(frozen=True, kw_only=True)
class PlanShot:
    """What a run would do, or why that cannot be told."""

    spec: PipelineSpec
    graph: Graph
    options: SubmitOptions
    plan: Plan | None = None
    trouble: Trouble | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OutputFacts:
    name: str
    path: str
    size_bytes: int | None = None
    problem: str = ""
    """Why its bytes are not there."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Where the script of a failed step stood, as far as its traceback tells."""

    message: str
    path: str
    """Of the project's file, not of the step's copy, where that can be told."""
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class StepShot:
    """Everything the detail of one step of one run shows."""

    run: RunRecord
    step: StepRecord
    explanation: Explanation | None = None
    metrics: tuple[MetricRecord, ...] = ()
    outputs: tuple[OutputFacts, ...] = ()
    files: tuple[tuple[str, int | None], ...] = ()
    """(name, bytes)."""
    stdout: str = ""
    stderr: str = ""
    directory: str = ""
    interpreter: str = ""
    made_in: int | None = None
    """Number of the run whose execution this is, where it was reused."""
    blocked: tuple[tuple[str, str], ...] = ()
    """(step, state) of those it waits for."""
    fault: Fault | None = None


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """One row of the list of runs."""

    run: RunRecord
    interrupted: bool = False
    reused: int = 0
    steps: int = 0
    metric: tuple[float, ...] = ()
    """Values of the shown metric in the order they were logged, at most 64."""


@dataclass(frozen=True, kw_only=True)
class RunsPage:
    """The newest runs that fit a filter."""

    lines: tuple[RunLine, ...]
    total: int
    """How many fit."""
    all: int
    """How many there are."""
    wanted: Filter = EVERYTHING
    metric: str = ""
    without: tuple[tuple[str, int], ...] = ()
    """Where nothing fits: (term, how many would fit without it)."""


@dataclass(frozen=True, kw_only=True)
class RunDetail:
    line: RunLine
    steps: tuple[StepRecord, ...] = ()
    metrics: tuple[MetricRecord, ...] = ()
    directory: str = ""
    size_bytes: int | None = None
    children: tuple[RunRecord, ...] = ()
    diff: RunDiff | None = None
    baseline: RunRecord | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, kw_only=True)
class MachineShot:
    """Where steps run."""

    computes: tuple[tuple[str, str, str], ...] = ()
    """(name, kind, what it is limited to)."""
    default: str = ""
    cpus: float = 0.0
    cpus_used: float = 0.0
    memory_bytes: float = 0.0
    memory_used: float = 0.0
    holders: tuple[tuple[int, str, str, str], ...] = ()
    """(run, step, state, since) of what is preparing or running."""
    waiting: tuple[tuple[int, str, str], ...] = ()
    """(run, step, what it waits for)."""
    findings: tuple[Finding, ...] = field(default=())
