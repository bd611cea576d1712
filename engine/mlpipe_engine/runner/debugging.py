"""The directory of a step laid out once more, beside all runs: same code, inputs, arguments and environment, to be tried by hand.

Lies in .mlpipe/debug/<step>-<n>. No row of a run is made, and of the store only a table that an input is read as may be new; inputs
are lent as they were, read-only.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlpipe_engine.errors import FilesystemError, InputError, RunNotFoundError, nearest
from mlpipe_engine.executors import staging
from mlpipe_engine.executors.leases import Leases
from mlpipe_engine.executors.process import ProcessExecutor
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.model.execution import StepTask
from mlpipe_engine.model.manifest import Manifest, Section
from mlpipe_engine.model.plan import Cause, Execute, StepPlan
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.spec import PathSource, PipelineSpec, StepOutputSource, StepSpec
from mlpipe_engine.model.states import State
from mlpipe_engine.runner.collect import Borrowed
from mlpipe_engine.runner.parts import RunParts
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.runner.tables import BENCH, Tables
from mlpipe_engine.snapshots.source import SourceSnapshots
from mlpipe_engine.store.flights import Flights
from mlpipe_engine.store.journal import Journal
from mlpipe_engine.store.recorder import Recorder

if TYPE_CHECKING:
    from mlpipe_engine.model.records import StepRecord
    from mlpipe_engine.model.trees import Tree
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.results import ResultQueries
    from mlpipe_engine.store.runs import RunQueries

_OURS = ("MLPIPE_RUN", "MLPIPE_ATTEMPT")
"""Mark processes of a run, which are ended with it; a shell somebody works in is none of them."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A step directory that waits to be tried."""

    task: StepTask
    step: StepSpec
    notes: tuple[str, ...]
    """How it differs from the execution it repeats."""
    about: str
    """What it is made after: "run 12, which failed: exited 1"."""
    borrowed: tuple[Borrowed, ...] = ()

    @property
    def directory(self) -> str:
        return self.task.step_dir

    def pdb(self) -> tuple[str, ...]:
        """The command under Python's debugger. Prereq: a step of kind "python"."""
        interpreter, script, *words = self.task.argv
        return (interpreter, "-m", "pdb", script, *words)


@dataclass(frozen=True, kw_only=True)
class _BenchParts(RunParts):
    """Stages as any run does, but at one place."""

    bench: str

    def step_dir(self, run: RunRecord, step: str) -> str:
        return self.bench


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be laid out."""

    run: RunRecord
    step: StepSpec
    code: Tree | None
    about: str
    notes: tuple[str, ...] = ()
    stored: bool = True
    """The code lies in the store already."""


def execution(queries: RunQueries, run: RunRecord, name: str) -> tuple[RunRecord, StepRecord]:
    """The execution behind a step of a run: where it was reused, the one that made its result. Raises RunNotFoundError."""
    record = queries.step(run, name)
    if record.decision == "reuse" and record.reused_from is not None and record.reused_from != run.id:
        made_by = queries.get(record.reused_from)
        steps = [step for step in queries.steps(made_by) if step.result_id == record.result_id and step.decision == "execute"]
        if steps:
            return made_by, steps[0]
    return run, record


def last_execution(queries: RunQueries, pipeline: str | None, name: str) -> tuple[RunRecord, StepRecord] | None:
    """The newest execution of a step of that name, however it ended; None when it never ran."""
    found = queries.last_execution(name, pipeline)
    return (found, queries.step(found, name)) if found is not None else None


def recall(run: RunRecord, record: StepRecord, manifest: Manifest | None, decisions: Decisions) -> Wanted:
    """An earlier execution: its code, and its inputs told to `decisions`. Raises RunNotFoundError when it cannot be repeated."""
    step = decisions.spec.step(record.name)
    if manifest is None:
        raise RunNotFoundError(
            f"step {step.name!r} of run {run.number} is {record.state} and was never laid out there",
            hint="Leave RUN out, or name another.",
        )
    entries = [entry for entry in manifest.entries if entry.section is Section.INPUT]
    digests = {entry.name: str(entry.value[2]) for entry in entries if isinstance(entry.value, list | tuple)}
    notes = []
    for item in step.inputs:
        match item.source:
            case StepOutputSource(producer, output):
                decisions.note_outputs(producer, {output: digests[item.name]})
            case PathSource():
                if decisions.content(item, step) != digests[item.name]:
                    notes.append(f"input {item.name} is no longer what it was; these are the files as they are now")
    code = decisions.snapshots.load(record.snapshot) if record.snapshot else None
    if code is None and step.source_directory is not None:
        raise RunNotFoundError(
            f"the code step {step.name!r} ran with in run {run.number} is no longer kept", hint="Run the step again."
        )
    outcome = f": {record.error or record.exit}" if record.state is State.FAILED else ""
    return Wanted(run=run, step=step, code=code, about=f"run {run.number}, where it {record.state}{outcome}", notes=tuple(notes))


def planned(spec: PipelineSpec, name: str) -> Wanted:
    """A step that never ran, as the definition has it now. Raises RunNotFoundError with the nearest name."""
    names = [step.name for step in spec.steps]
    if name not in names:
        close = nearest(name, names)
        raise RunNotFoundError(
            f"pipeline {spec.name!r} has no step {name!r}" + (f"; did you mean {close!r}?" if close else ""),
            expected="one of " + ", ".join(names),
        )
    run = RunRecord(
        id=BENCH, number=0, pipeline=spec.name, experiment="debug", state=State.QUEUED, created_at=utc_now(), source="cli"
    )
    return Wanted(run=run, step=spec.step(name), code=None, about="the definition as it is now: it never ran", stored=False)


def _identity_of(folder: str) -> tuple[int, int]:
    info = os.stat(folder)
    return info.st_dev, info.st_ino


def lay_out(
    wanted: Wanted, decisions: Decisions, artifacts: ArtifactStore, queries: ResultQueries, where: tuple[str, str, str]
) -> Bench:
    """`where`: project, its state folder, its name. Raises StagingError, FilesystemError, InputError; nothing is left then."""
    root, state_dir, _ = where
    step, place = wanted.step, _free_place(state_dir, wanted.step.name)
    _require_inputs(step, decisions, artifacts)
    code, snapshots = wanted.code, decisions.snapshots
    if not wanted.stored:
        code, snapshots = (
            decisions.resolver.code(step, decisions.compute_of(step)),
            SourceSnapshots(f"{place}.code", root, StatCache()),
        )
    recorder = Recorder(state_dir, lambda: None)
    parts = bench_parts(wanted.run, decisions, snapshots, artifacts, queries, recorder, where, place)
    plan = StepPlan(step=step.name, decision=Execute((Cause(kind="debug", subject="laid out by hand"),)), code=code)
    try:
        await_inputs(parts, step)
        layout, borrowed = parts.stage(wanted.run, step, plan, 1)
        task, _ = parts.task(wanted.run, step, layout, 1, plan)
        task = replace(task, environment=tuple(item for item in task.environment if item[0] not in _OURS))
        if task.container is not None:
            from mlpipe_engine.runner.containers import by_hand

            task = by_hand(task)
        staging.write_command_file(task)
    except BaseException:
        remove(place)
        raise
    finally:
        parts.tables.close()
        recorder.close()
        remove(f"{place}.code")
    return Bench(task=task, step=step, notes=wanted.notes, about=wanted.about, borrowed=tuple(borrowed))


def await_inputs(parts: RunParts, step: StepSpec) -> None:
    """Tables that are made of datasets for the step are made first."""
    while not parts.inputs_ready(step):
        time.sleep(0.02)


def bench_parts(
    run: RunRecord, decisions: Decisions, snapshots: SourceSnapshots, artifacts: ArtifactStore, queries: ResultQueries, recorder: Recorder,
    where: tuple[str, str, str], place: str,
) -> RunParts:  # fmt: skip
    """What lays one step out at `place`, as a run would. `where`: project, its state folder, its name."""
    root, state_dir, workspace = where
    return _BenchParts(
        root=root, state_dir=state_dir, workspace=workspace, spec=decisions.spec, options=decisions.options, parameters=decisions.parameters,
        selection=frozenset(), parents={}, finished_before={}, decisions=decisions, snapshots=snapshots, artifacts=artifacts, queries=queries,
        executor=ProcessExecutor(), leases=Leases(), flights=Flights(state_dir), spare=None, recorder=recorder, signaled=lambda: None,
        cancel_requested=lambda: False, superseded=tuple, wake=lambda: None, maker=lambda fingerprint, step: None, bench=place,
        journal=Journal(state_dir), max_log_bytes=0, place=_identity_of(state_dir),
        tables=Tables(root, state_dir, run, decisions, artifacts, recorder, lambda: None),
    )  # fmt: skip


def _free_place(state_dir: str, step: str) -> str:
    number = 1
    while os.path.lexists(f"{state_dir}/debug/{step}-{number}"):
        number += 1
    return f"{state_dir}/debug/{step}-{number}"


def _require_inputs(step: StepSpec, decisions: Decisions, artifacts: ArtifactStore) -> None:
    for item in step.inputs:
        if not isinstance(item.source, StepOutputSource):
            continue
        digest = decisions.output(item.source.step, item.source.output)
        if not digest or not os.path.lexists(artifacts.path(digest)):
            raise InputError(
                f"the bytes of input {item.name!r} of step {step.name!r} are no longer in the store",
                hint=f"Make them again: mlpipe-tui run {decisions.spec.name} --step '{item.source.step}'",
            )


def changed_inputs(bench: Bench, artifacts: ArtifactStore) -> tuple[str, ...]:
    """Stored inputs that were changed although they were only lent."""
    return tuple(item.name for item in bench.borrowed if item.signature and artifacts.lent_changed(item.digest, item.signature))


@contextmanager
def cleared_afterwards(bench: Bench, *, keep: bool) -> Iterator[None]:
    try:
        yield
    finally:
        if not keep:
            remove(bench.directory)


def remove(place: str) -> None:
    """The directory and all of it; also what a step made read-only. Links are not followed."""
    if not os.path.isdir(place) or os.path.islink(place):
        return
    for folder, _, _ in os.walk(place):
        try:
            os.chmod(folder, 0o700)
        except OSError as error:
            raise FilesystemError.of(error, "remove", place) from error
    try:
        shutil.rmtree(place)
        os.rmdir(os.path.dirname(place))
    except OSError as error:
        if os.path.lexists(place):
            raise FilesystemError.of(error, "remove", place) from error
