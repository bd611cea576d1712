"""What the screens ask, as functions of an engine that return snapshots. Run by the lanes of `bridge`; none keeps anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError, RunNotFoundError
from mlpipe_engine.model.filters import Filter
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, State

from mlpipe_tui.viewmodels.details import fault_in
from mlpipe_tui.viewmodels.form import options_for
from mlpipe_tui.viewmodels.shots import (
    DefinitionShot,
    Fault,
    MachineShot,
    OutputFacts,
    PlanShot,
    ProjectShot,
    RunDetail,
    RunLine,
    RunShot,
    RunsPage,
    StepShot,
    Trouble,
)

_TAIL = 65536
_SIZE_LIMIT = 2000
"""Files of an output folder that are added up; more are "at least"."""


def project(engine: Engine) -> ProjectShot:
    state_dir = engine.state_dir
    place = state_dir if os.path.isdir(state_dir) else engine.root
    database = os.path.join(state_dir, "state.db")
    writable = os.access(place, os.W_OK) and (not os.path.exists(database) or os.access(database, os.W_OK))
    return ProjectShot(
        root=engine.root, name=engine.config.name, state_dir=state_dir, default_pipeline=engine.config.default_pipeline or "",
        writable=writable, interrupted=tuple(engine.interrupted()),
    )  # fmt: skip


def definitions(engine: Engine) -> DefinitionShot:
    """What is sound of the definitions, and the first trouble with the rest."""
    try:
        found = engine.definitions
    except MlpipeError as error:
        return DefinitionShot(trouble=Trouble.of(error))
    specs, graphs, trouble = [], [], Trouble.of(found.errors[0]) if found.errors else None
    for spec in found.pipelines:
        try:
            graphs.append(engine.graph(spec))
            specs.append(spec)
        except MlpipeError as error:
            trouble = trouble or Trouble.of(error)
    if not specs and trouble is None:
        try:
            engine.pipeline()
        except MlpipeError as error:
            trouble = Trouble.of(error)
    return DefinitionShot(pipelines=tuple(specs), graphs=tuple(graphs), trouble=trouble)


class Watch:
    """Looks at one run again and again, and answers only when something is different."""

    def __init__(self) -> None:
        self._seen: tuple[object, ...] = ()
        self._last: RunShot | None = None
        self._specs: dict[str, tuple[PipelineSpec, tuple[tuple[str, tuple[str, ...]], ...]]] = {}

    def look(self, pinned: str | None, pipeline: str) -> Callable[[Engine], RunShot | None]:
        """`pinned`: id of a run; None: the newest one of `pipeline` ("" is any). The answer is None while nothing is new."""
        return lambda engine: self._shot(engine, pinned, pipeline)

    def forget(self) -> None:
        self._seen = ()

    def _shot(self, engine: Engine, pinned: str | None, pipeline: str) -> RunShot | None:
        changes = engine.changes_seen()
        if changes < 0:
            return None
        waiting = self._last is not None and self._last.run.state not in FINAL
        interrupted = engine.is_interrupted(self._last.run) if waiting and self._last is not None else False
        seen = (changes, pinned, pipeline, interrupted)
        if seen == self._seen:
            return None
        shot = self._read(engine, pinned, pipeline)
        self._seen = seen
        if shot == self._last:
            return None
        self._last = shot
        return shot

    def _read(self, engine: Engine, pinned: str | None, pipeline: str) -> RunShot | None:
        newest = engine.runs(limit=1)
        if pinned is not None:
            run = engine.find_run(pinned)
        else:
            found = next((run for run in engine.runs(limit=20, pipeline=pipeline or None) if run.kind == "run"), None)
            if found is None:
                return None
            run = found
        if run.kind != "run" and not engine.steps(run.id):
            return None
        spec, graph = self._spec(engine, run)
        steps = engine.steps(run.id)
        reused = {step.reused_from for step in steps if step.reused_from}
        return RunShot(
            run=run, steps=steps, spec=spec, graph=graph, interrupted=engine.is_interrupted(run),
            numbers=tuple(sorted((run_id, _number(engine, run_id)) for run_id in reused)), latest=newest[0].number if newest else run.number,
            live=tuple((other.number, other.pipeline) for other in _live(engine)),
        )  # fmt: skip

    def _spec(self, engine: Engine, run: RunRecord) -> tuple[PipelineSpec, tuple[tuple[str, tuple[str, ...]], ...]]:
        if run.spec_digest not in self._specs:
            spec = engine.spec(run.id)
            self._specs[run.spec_digest] = (spec, engine.graph(spec))
        return self._specs[run.spec_digest]


def _number(engine: Engine, run_id: str) -> int:
    try:
        return engine.find_run(run_id).number
    except RunNotFoundError:
        return 0


def _live(engine: Engine) -> list[RunRecord]:
    """Newest first, what runs before what waits."""
    return sorted(engine.going_on(), key=lambda run: (run.state is not State.RUNNING, -run.number))[:20]


def step(run_id: str, name: str) -> Callable[[Engine], StepShot]:
    def ask(engine: Engine) -> StepShot:
        run, record = engine.find_run(run_id), engine.find_step(run_id, name)
        started = record.decision in ("execute", "reuse") and record.state not in (State.QUEUED, State.SKIPPED)
        spec = engine.spec(run_id)
        parents = dict(engine.graph(spec)).get(name, ())
        blocked = [other for other in engine.steps(run_id) if other.name in parents and other.state not in FINAL]
        return StepShot(
            run=run, step=record, explanation=engine.explain(run_id, name), metrics=engine.metrics(run_id, name),
            outputs=tuple(_outputs(engine, run_id, record)), files=tuple(_files(engine, run_id, name)) if started else (),
            stdout=engine.log_path(run_id, name, "stdout") if started else "", stderr=engine.log_path(run_id, name, "stderr") if started else "",
            directory=engine.step_dir(run_id, name) if started else "", interpreter=engine.interpreter_of(run_id, name) if started else "",
            made_in=_number(engine, record.reused_from) if record.reused_from else None,
            blocked=tuple((other.name, other.state.value) for other in blocked),
            fault=_fault(engine, run_id, record, spec) if record.state is State.FAILED else None,
        )  # fmt: skip

    return ask


def _fault(engine: Engine, run_id: str, record: StepRecord, spec: PipelineSpec) -> Fault | None:
    try:
        with open(engine.log_path(run_id, record.name, "stderr"), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return None
    code = os.path.join(engine.step_dir(run_id, record.name), "code")
    return fault_in(text, code, os.path.join(engine.root, spec.step(record.name).source_directory or "."))


def _outputs(engine: Engine, run_id: str, record: StepRecord) -> list[OutputFacts]:
    found = []
    for name, digest in record.outputs:
        if not digest:
            found.append(OutputFacts(name=name, path="", problem="left out by the step"))
            continue
        try:
            path = engine.artifact(run_id, record.name, name)
        except MlpipeError as error:
            found.append(OutputFacts(name=name, path="", problem=error.what))
            continue
        found.append(OutputFacts(name=name, path=path, size_bytes=_size(path)))
    return found


def _size(path: str) -> int | None:
    try:
        if not os.path.isdir(path):
            return os.path.getsize(path)
        total = count = 0
        for folder, _, names in os.walk(path):
            for name in names:
                total += os.lstat(os.path.join(folder, name)).st_size
                count += 1
                if count >= _SIZE_LIMIT:
                    return total
        return total
    except OSError:
        return None


def _files(engine: Engine, run_id: str, name: str) -> list[tuple[str, int | None]]:
    return [(item, _size(engine.file_path(run_id, name, item))) for item in engine.files(run_id, name)[:500]]


def plan(
    spec: PipelineSpec, graph: tuple[tuple[str, tuple[str, ...]], ...], options: SubmitOptions
) -> Callable[[Engine], PlanShot]:
    def ask(engine: Engine) -> PlanShot:
        try:
            made = engine.plan(spec, options)
        except MlpipeError as error:
            return PlanShot(spec=spec, graph=graph, options=options, trouble=Trouble.of(error))
        return PlanShot(spec=spec, graph=graph, options=options, plan=made, warnings=engine.warnings)

    return ask


def plan_typed(
    spec: PipelineSpec, graph: tuple[tuple[str, tuple[str, ...]], ...], texts: Mapping[str, str], base: SubmitOptions
) -> Callable[[Engine], PlanShot]:
    """A plan for parameters as they were typed."""

    def ask(engine: Engine) -> PlanShot:
        try:
            options = options_for(spec, engine.parameter_values(spec, texts), base)
        except MlpipeError as error:
            return PlanShot(spec=spec, graph=graph, options=base, trouble=Trouble.of(error))
        return plan(spec, graph, options)(engine)

    return ask


def submit(name: str, options: SubmitOptions, say: Callable[[str], None]) -> Callable[[Engine], RunRecord]:
    """Start a run of the pipeline as it is defined now."""

    def ask(engine: Engine) -> RunRecord:
        engine.say = say
        return engine.find_run(engine.submit(engine.pipeline(name), options))

    return ask


def runs(limit: int, wanted: Filter, metric: str) -> Callable[[Engine], RunsPage]:
    """The newest `limit` runs that fit. `metric`: "" takes the one most of them have."""

    def ask(engine: Engine) -> RunsPage:
        total = engine.count_runs()
        if not total:
            return RunsPage(lines=(), total=0, all=0, wanted=wanted)
        found = engine.runs(limit=limit, wanted=wanted or None)
        listing = engine.listing()
        counts = listing.step_counts(found)
        shown = metric or next(iter(listing.metric_names(found[:50])), "")
        values = listing.metric_values(found, shown) if shown else {}
        lines = tuple(
            RunLine(
                run=run, interrupted=engine.is_interrupted(run), reused=counts.get(run.id, (0, 0))[0], steps=counts.get(run.id, (0, 0))[1],
                metric=values.get(run.id, ()),
            )
            for run in found
        )  # fmt: skip
        fitting = engine.count_runs(wanted) if wanted else total
        without: tuple[tuple[str, int], ...] = ()
        if not lines and wanted:
            without = tuple((str(term), engine.count_runs(wanted.without(term))) for term in wanted.terms)
        return RunsPage(lines=lines, total=fitting, all=total, wanted=wanted, metric=shown, without=without)

    return ask


def run_detail(line: RunLine) -> Callable[[Engine], RunDetail]:
    def ask(engine: Engine) -> RunDetail:
        run = engine.find_run(line.run.id)
        folder = ""
        if run.kind == "run":
            with suppress(MlpipeError, OSError):
                folder = os.path.join(engine.state_dir, "runs", run.experiment, str(run.number))
        return RunDetail(
            line=line, steps=engine.steps(run.id), metrics=engine.metrics(run.id), directory=folder, size_bytes=engine.sizes((run,)).get(run.id),
            children=engine.sweep_runs(run.id) if run.kind == "sweep" else engine.children(run.id),
        )  # fmt: skip

    return ask


def run_changes(detail: RunDetail, baseline: RunRecord | None) -> Callable[[Engine], RunDetail]:
    """The same detail with what differs from the baseline."""
    from dataclasses import replace

    def ask(engine: Engine) -> RunDetail:
        if baseline is None or baseline.id == detail.line.run.id or "sweep" in (baseline.kind, detail.line.run.kind):
            return replace(detail, baseline=baseline, diff=None)
        try:
            return replace(detail, baseline=baseline, diff=engine.diff(baseline.id, detail.line.run.id))
        except MlpipeError as error:
            return replace(detail, baseline=baseline, trouble=Trouble.of(error))

    return ask


def machine(engine: Engine) -> MachineShot:
    """Compute targets, and what of the machine the steps of this project hold. Costs a few queries."""
    computes = []
    for compute in engine.config.computes:
        limits = [f"{compute.cpus:g} cpu"] if compute.cpus else []
        limits += [f"{compute.memory_bytes / 1e9:.1f} GB"] if compute.memory_bytes else []
        computes.append((compute.name, compute.kind, ", ".join(limits) or "all of the machine"))
    holders, waiting = [], []
    for run in _live(engine) if engine.changes_seen() >= 0 else ():
        parents = dict(engine.graph(engine.spec(run.id))) if run.kind == "run" else {}
        steps = engine.steps(run.id) if run.kind == "run" else ()
        states = {item.name: item.state for item in steps}
        for item in steps:
            if item.state in (State.PREPARING, State.RUNNING):
                holders.append((run.number, item.name, item.state.value, item.started_at or ""))
            elif item.state is State.QUEUED:
                needs = [name for name in parents.get(item.name, ()) if states.get(name) not in FINAL]
                waiting.append(
                    (run.number, item.name, f"needs {', '.join(needs)}" if needs else item.error or "waits for a free place")
                )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    used = total - os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return MachineShot(
        computes=tuple(computes), default=engine.config.default_compute, cpus=float(os.cpu_count() or 1), cpus_used=os.getloadavg()[0],
        memory_bytes=float(total), memory_used=float(used), holders=tuple(holders), waiting=tuple(waiting),
    )  # fmt: skip
