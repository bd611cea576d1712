"""The composition root: wires the adapters of one project and offers the verbs that every edge uses.

Reading verbs create nothing; a project without a store simply has no runs. One thread at a time per Engine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

from mlpipe_engine.config.project import ProjectConfig, find_root, load_config
from mlpipe_engine.errors import (
    ExecutorUnavailableError,
    FilesystemError,
    InputError,
    MlpipeError,
    RunNotFoundError,
    UsageError,
    nearest,
)  # fmt: skip
from mlpipe_engine.model.events import Event
from mlpipe_engine.model.plan import NOTHING_UNDECLARED, Undeclared
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, GOOD, State
from mlpipe_engine.store import locks, results
from mlpipe_engine.store import runs as run_rows
from mlpipe_engine.store.database import PerThread

if TYPE_CHECKING:
    from mlpipe_engine.definitions.loader import Definitions
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.manifest import Manifest
    from mlpipe_engine.model.views import Explanation, Finding, Plan
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.runner.observe import Observer
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database

Sink = Callable[[Event], None]


def _nowhere(event: Event) -> None:
    return


class Engine:
    """One project. `Engine.open()` finds it upward from the current folder."""

    def __init__(self, root: str, config: ProjectConfig) -> None:
        self.root = root
        self.config = config
        self.state_dir = os.path.join(root, ".mlpipe")
        self._databases = PerThread(self.state_dir)
        self.warnings: tuple[str, ...] = ()
        """What the last plan or run noticed about its source directories: ignore rules that do not apply, large files."""
        self._fresh_texts: dict[str, str] = {}
        self._observers: dict[str, Observer] = {}

    @classmethod
    def open(cls, start: str | None = None) -> Engine:
        """Raises ProjectNotFoundError, ConfigError."""
        root = find_root(start)
        return cls(root, load_config(root))

    def close(self) -> None:
        """Give back what this thread holds of the store. The engine can be used again afterwards."""
        self._databases.close()

    @cached_property
    def definitions(self) -> Definitions:
        """Raises DefinitionError. Files that are broken are in `errors`."""
        from mlpipe_engine.definitions.loader import load_definitions

        return load_definitions(self.root, _Texts(self))

    def pipelines(self) -> tuple[PipelineSpec, ...]:
        """All pipelines of the project. Raises PipelineLoadError when a file is broken."""
        definitions = self.definitions
        if definitions.errors:
            raise definitions.errors[0]
        return definitions.pipelines

    def pipeline(self, name: str | None = None) -> PipelineSpec:
        """By name; without one the default of mlpipe.toml, or the only one. A broken file elsewhere does not matter."""
        definitions = self.definitions
        found = definitions.pipelines
        wanted = name or self.config.default_pipeline
        for pipeline in found:
            if pipeline.name == wanted:
                return pipeline
        if definitions.errors:
            raise definitions.errors[0]
        names = [pipeline.name for pipeline in found]
        if wanted is not None:
            close = nearest(wanted, names)
            raise UsageError(
                f"there is no pipeline {wanted!r}" + (f"; did you mean {close!r}?" if close else ""),
                expected="one of " + ", ".join(names) if names else "a definition", hint="List them with `mlpipe-tui pipelines`.",
            )  # fmt: skip
        if len(found) == 1:
            return found[0]
        if not found:
            raise InputError(
                "the definition files define no Pipeline at module level", where=self.root,
                hint='A Pipeline made below `if __name__ == "__main__":` is not seen; move it to the top level.',
            )  # fmt: skip
        raise UsageError(
            "this project has several pipelines",
            expected="one of " + ", ".join(names),
            hint=f"For example: mlpipe-tui run {names[0]}",
        )

    def plan(self, spec: PipelineSpec, options: SubmitOptions) -> Plan:
        """What `run` would do. Writes nothing at all."""
        from mlpipe_engine.runner.planning import make_plan

        decisions, selection = self._decisions(spec, options)
        return make_plan(spec, decisions, selection, self._effects())

    def _effects(self) -> tuple[str, ...]:
        return self.definitions.effects if "definitions" in self.__dict__ else ()

    def _decisions(self, spec: PipelineSpec, options: SubmitOptions) -> tuple[Decisions, frozenset[str]]:
        """Everything that can be wrong before a run starts is raised here, all at once."""
        from mlpipe_engine.planning import graph, parameters
        from mlpipe_engine.runner.decisions import Decisions
        from mlpipe_engine.runner.resolve import Resolver

        graph.check(spec)
        selection = graph.select(spec, options)
        values = dict(parameters.effective(spec, dict(options.parameters)))
        stats = self._stats()
        snapshots = self._snapshots(stats)
        resolver = Resolver(self.root, self.config, snapshots, stats, self._cached)
        database = self._database()
        queries = results.ResultQueries(database) if database else None
        decisions = Decisions(
            spec, options, values, resolver, snapshots, self._artifacts(), database, queries, self.config.default_compute
        )
        self._check_computes(spec, decisions, selection.run)
        problems = resolver.problems(spec, selection.run, decisions.compute_of)
        self.warnings = tuple(snapshots.warnings)
        if problems:
            raise problems[0] if len(problems) == 1 else InputError("\n".join(map(str, problems)), hint=problems[0].hint)
        for step in spec.steps:
            if step.name in selection.assumed:
                decisions.assume(step)
        return decisions, selection.run

    def _check_computes(self, spec: PipelineSpec, decisions: Decisions, selected: frozenset[str]) -> None:
        for step in spec.steps:
            if step.name not in selected:
                continue
            compute = self.config.compute(decisions.compute_of(step))
            if compute.kind != "process":
                raise ExecutorUnavailableError(
                    f"step {step.name!r} runs on compute target {compute.name!r} of kind {compute.kind!r}, but no executor of that kind is installed",
                    where=step.where, hint='Use a compute target of kind "process".',
                )  # fmt: skip

    def run(self, spec: PipelineSpec, options: SubmitOptions, sink: Sink = _nowhere) -> RunRecord:
        """Host a run in this process until it is final. SIGINT and SIGTERM cancel it when called from the main thread."""
        decided = self._decisions(spec, options)
        run, lock = self._new_run(spec, options)
        return self._host(run, decided, lock, sink)

    def submit(self, spec: PipelineSpec, options: SubmitOptions) -> str:
        """Start a run in a process of its own and return its id; it outlives this process."""
        self._decisions(spec, options)
        run, lock = self._new_run(spec, options)
        try:
            self._start_runner(run.id, lock)
        finally:
            os.close(lock)
        return run.id

    def _start_runner(self, run_id: str, lock: int) -> None:
        """The lock travels with its file descriptor, so the run is never seen without a living owner."""
        engine_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [engine_root, os.environ.get("PYTHONPATH", "")]))
        os.makedirs(os.path.join(self.state_dir, "locks"), exist_ok=True)
        with open(os.path.join(self.state_dir, "locks", "runner.log"), "ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "mlpipe_engine.cli.host", self.root, run_id, str(lock)], cwd=self.root, pass_fds=[lock],
                start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    def host(self, run_id: str, lock: int) -> RunRecord:
        """What the detached runner process does."""
        queries = self._runs()
        run = queries.get(run_id)
        return self._host_stored(run, lock, _nowhere)

    def resume(self, run_id: str, sink: Sink = _nowhere) -> RunRecord:
        """An interrupted run goes on as the same run; a failed or canceled one starts again as a new run, reusing what is done."""
        queries = self._runs()
        run = queries.get(run_id)
        if run.state in FINAL:
            return self._resume_as_new(run, sink)
        lock = locks.try_lock(self._life_path(run_id), f"pid {os.getpid()}", patience_seconds=0.2)
        if lock is None:
            raise UsageError(
                f"run {run.number} is running; there is nothing to resume",
                hint=f"Follow it with `mlpipe-tui attach {run.number}`.",
            )
        self.reap()
        if any(step.state in (State.FAILED, State.CANCELED) for step in queries.steps(run)):
            self._close_run(run, State.FAILED, "interrupted after a step had failed")
            locks.unlock(lock, self._life_path(run_id))
            return self._resume_as_new(queries.get(run_id), sink)
        return self._host_stored(run, lock, sink)

    def _resume_as_new(self, run: RunRecord, sink: Sink) -> RunRecord:
        if run.state in GOOD:
            raise UsageError(
                f"run {run.number} ended well; there is nothing to resume",
                hint=f"Run it again with `mlpipe-tui run {run.pipeline}`.",
            )
        queries = self._runs()
        try:
            spec = self.pipeline(run.pipeline)
        except MlpipeError:
            spec = queries.spec(run)
        options = replace(queries.options(run.id), resumed_from=run.id, force=False, force_steps=())
        return self.run(spec, options, sink)

    def cancel(self, run_id: str) -> None:
        """Ask the runner to stop everything. A run whose runner is gone is canceled at once."""
        run = self._runs().get(run_id)
        if run.state in FINAL:
            raise UsageError(f"run {run.number} is {run.state} already")
        lock = locks.try_lock(self._life_path(run_id), patience_seconds=0.2)
        if lock is not None:
            self.reap()
            self._close_run(run, State.CANCELED, "canceled after it was interrupted")
            locks.unlock(lock, self._life_path(run_id))
            return
        with self._writable().write() as db:
            run_rows.update_run(db, run_id, cancel_requested=1)

    def _close_run(self, run: RunRecord, state: State, error: str) -> None:
        from mlpipe_engine.runner.record import utc_now

        with self._writable().write() as db:
            run_rows.cancel_unfinished_steps(db, run.id, utc_now())
            run_rows.finish_run(db, run.id, state, utc_now(), 0.0, error)

    def reap(self) -> int:
        """End processes of runs whose runner is gone. Normally their supervisor has done it already."""
        from mlpipe_engine.executors.process import end_marked

        database = self._database()
        if database is None:
            return 0
        gone = {run.id for run in run_rows.RunQueries(database).unfinished() if self.is_interrupted(run) or self._is_ours(run.id)}
        return end_marked(gone, b"MLPIPE_RUN=") if gone else 0

    def _is_ours(self, run_id: str) -> bool:
        return locks.owner_of(self._life_path(run_id)).strip() == f"pid {os.getpid()}"

    def _new_run(self, spec: PipelineSpec, options: SubmitOptions) -> tuple[RunRecord, int]:
        from mlpipe_engine.planning import graph, parameters
        from mlpipe_engine.runner.record import utc_now

        self.reap()
        run_id = uuid4().hex
        selected = graph.select(spec, options).run
        lock = locks.try_lock(self._life_path(run_id), f"pid {os.getpid()}")
        assert lock is not None, "nobody else knows this id"
        values = parameters.effective(spec, dict(options.parameters))
        with self._writable().write() as db:
            run_rows.insert_run(db, run_id, spec, options, values, utc_now(), selected)
            for key, text in self._fresh_texts.items():
                results.put_cached(db, key, text)
        self._fresh_texts.clear()
        return self._runs().get(run_id), lock

    def _host_stored(self, run: RunRecord, lock: int, sink: Sink) -> RunRecord:
        """A run whose pipeline stands in the store: started by another process, or resumed."""
        queries = self._runs()
        try:
            decided = self._decisions(queries.spec(run), queries.options(run.id))
        except MlpipeError as error:
            self._close_run(run, State.FAILED, str(error))
            locks.unlock(lock, self._life_path(run.id))
            raise
        return self._host(run, decided, lock, sink)

    def _host(self, run: RunRecord, decided: tuple[Decisions, frozenset[str]], lock: int, sink: Sink) -> RunRecord:
        from mlpipe_engine.runner.hosting import Site, host_run

        decisions, selection = decided
        try:
            site = Site(
                root=self.root, state_dir=self.state_dir, config=self.config, database=self._reading(), artifacts=self._artifacts(),
                can_trace=self.tracing_problem() == "",
            )  # fmt: skip
            host_run(site, run, decisions, selection, sink)
        finally:
            locks.unlock(lock)
        finished = self._runs().get(run.id)
        if finished.state in FINAL:
            try:
                os.unlink(self._life_path(run.id))
            except OSError:
                pass
        return finished

    def follow(
        self, run_id: str, sink: Sink = _nowhere, *, deadline: float | None = None, poll_seconds: float = 0.1,
        tick: Callable[[], None] | None = None, fresh: bool = True,
    ) -> RunRecord:  # fmt: skip
        """Events of a run that runs anywhere, from its start until it is final, interrupted, or `deadline` (monotonic).

        `tick` is called between two looks. `fresh=False` goes on where the last call for this run was left (by Ctrl-C).
        """
        from mlpipe_engine.runner.observe import Observer

        if fresh or run_id not in self._observers:
            self._observers[run_id] = Observer(self._runs(), run_id)
        observer = self._observers[run_id]
        while True:
            run = self._runs().get(run_id)
            interrupted = self.is_interrupted(run)
            for event in observer.news(run):
                sink(event)
            if tick is not None:
                tick()
            if run.state in FINAL or interrupted or (deadline is not None and time.monotonic() >= deadline):
                return run
            time.sleep(poll_seconds)

    def runs(
        self,
        *,
        limit: int = 50,
        before: int | None = None,
        experiment: str | None = None,
        pipeline: str | None = None,
        state: str | None = None,
    ) -> tuple[RunRecord, ...]:
        """Newest first."""
        database = self._database()
        if database is None:
            return ()
        return run_rows.RunQueries(database).recent(limit, before, experiment=experiment, pipeline=pipeline, state=state)

    def experiments(self) -> tuple[str, ...]:
        database = self._database()
        rows = database.query("SELECT DISTINCT experiment FROM runs ORDER BY experiment") if database else []
        return tuple(str(row[0]) for row in rows)

    def find_run(self, text: str) -> RunRecord:
        """By number, "latest", id or unique prefix. Raises RunNotFoundError."""
        return self._runs().find(text)

    def is_interrupted(self, run: RunRecord) -> bool:
        """Not final, and nobody holds its lock."""
        return run.state not in FINAL and run.parent is None and not locks.is_held(self._life_path(run.id))

    def steps(self, run_id: str) -> tuple[StepRecord, ...]:
        queries = self._runs()
        return queries.steps(queries.get(run_id))

    def find_step(self, run_id: str, name: str) -> StepRecord:
        """Raises RunNotFoundError with the nearest name."""
        queries = self._runs()
        return queries.step(queries.get(run_id), name)

    def spec(self, run_id: str) -> PipelineSpec:
        queries = self._runs()
        return queries.spec(queries.get(run_id))

    def children(self, run_id: str) -> tuple[RunRecord, ...]:
        return self._runs().children(run_id)

    def metrics(self, run_id: str, step: str | None = None) -> tuple[MetricRecord, ...]:
        """Of one step, of the run itself (""), or of all (None)."""
        run = self._runs().get(run_id)
        if run.mirrors is not None:
            run = self._runs().get(run.mirrors)
        return results.ResultQueries(self._reading()).metrics(run.number, step)

    def explain(self, run_id: str, step: str) -> Explanation:
        """Why a step ran, was reused or was skipped."""
        from mlpipe_engine.model.views import Explanation

        run = self._runs().get(run_id)
        record = self._runs().step(run, step)
        queries = results.ResultQueries(self._reading())
        compared = queries.get(record.compared_with) if record.compared_with is not None else None
        used = queries.get(record.result_id) if record.result_id is not None else None
        return Explanation(
            run=run, step=record, causes=record.causes, compared_with=compared, changed_but_unread=record.unread,
            manifest=self.manifest(run_id, step), undeclared=used.undeclared if used else NOTHING_UNDECLARED,
        )  # fmt: skip

    def undeclared(self, run_id: str) -> dict[str, Undeclared]:
        """Step -> what it used without having declared it, of the steps that a run executed."""
        made = results.ResultQueries(self._reading()).made_by(self._runs().get(run_id).number)
        return {result.step: result.undeclared for result in made if result.undeclared.files}

    def manifest(self, run_id: str, step: str) -> Manifest | None:
        from mlpipe_engine.store.documents import read_manifest

        return read_manifest(self._reading(), self.find_step(run_id, step).fingerprint)

    def artifact(self, run_id: str, step: str, output: str) -> str:
        """Where an output lies: a read-only file or folder. Raises RunNotFoundError."""
        return self._artifacts().path(self._output_digest(run_id, step, output))

    def _output_digest(self, run_id: str, step: str, output: str) -> str:
        record = self.find_step(run_id, step)
        outputs = dict(record.outputs)
        if output not in outputs:
            declared = [item.name for item in self.spec(run_id).step(step).outputs]
            close = nearest(output, declared)
            if output in declared:
                raise RunNotFoundError(f"step {step!r} is {record.state} and has made no output yet")
            raise RunNotFoundError(
                f"step {step!r} has no output {output!r}" + (f"; did you mean {close!r}?" if close else ""),
                expected=", ".join(declared) or "none",
            )
        if not outputs[output]:
            raise RunNotFoundError(f"step {step!r} did not write its output {output!r}, which it may leave out")
        digest = outputs[output]
        if not os.path.lexists(self._artifacts().path(digest)):
            raise RunNotFoundError(
                f"the bytes of output {output!r} are no longer in the store", hint="Run the pipeline again; they are made again."
            )
        return digest

    def fetch(self, run_id: str, step: str, output: str, destination: str) -> str:
        """A private, writable copy at `destination`, which must not exist."""
        digest = self._output_digest(run_id, step, output)
        if os.path.lexists(destination):
            raise InputError(f"{destination} exists", hint="Choose another place with -o.")
        self._artifacts().copy_out(digest, destination)
        return destination

    def step_dir(self, run_id: str, step: str) -> str:
        """The folder of a step's execution: of the run that made the result, where it was reused."""
        record = self.find_step(run_id, step)
        run = self._runs().get(record.reused_from or run_id)
        made_by = results.ResultQueries(self._reading()).get(record.result_id) if record.result_id is not None else None
        return os.path.join(self.state_dir, "runs", run.experiment, str(run.number), made_by.step if made_by else step)

    def log_path(self, run_id: str, step: str, stream: str) -> str:
        return os.path.join(self.step_dir(run_id, step), "logs", f"{stream}.log")

    def files(self, run_id: str, step: str) -> tuple[str, ...]:
        """Names of files a step uploaded or wrote below outputs/ and logs/."""
        return tuple(sorted(self._file_paths(run_id, step)))

    def file_path(self, run_id: str, step: str, name: str) -> str:
        found = self._file_paths(run_id, step)
        if name not in found:
            close = nearest(name, found)
            raise RunNotFoundError(f"step {step!r} has no file {name!r}" + (f"; did you mean {close!r}?" if close else ""))
        return found[name]

    def _file_paths(self, run_id: str, step: str) -> dict[str, str]:
        folder = self.step_dir(run_id, step)
        found: dict[str, str] = {}
        for kind in ("outputs", "logs"):
            for path, _, names in os.walk(f"{folder}/code/{kind}"):
                for name in names:
                    full = os.path.join(path, name)
                    found[os.path.relpath(full, f"{folder}/code").replace(os.sep, "/")] = full
        run = self._runs().get(run_id)
        for name, relative in results.ResultQueries(self._reading()).files(run.number, step):
            full = os.path.join(folder, relative)
            if os.path.isfile(full):
                found[name] = full
        return found

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlpipe_engine.store.documents import pairs

        run = self._runs().get(run_id)
        merged = dict(run.tags) | {str(name): str(value) for name, value in tags.items()}
        with self._writable().write() as db:
            run_rows.update_run(db, run_id, tags=pairs(sorted(merged.items())))

    def doctor(self) -> tuple[Finding, ...]:
        """Is this machine and this project fit? Changes nothing."""
        from mlpipe_engine.runner.checkup import Patient, examine

        return examine(
            Patient(
                root=self.root,
                state_dir=self.state_dir,
                config=self.config,
                database=self._database(),
                artifacts=self._artifacts(),
                definitions=lambda: self.definitions,
                interrupted=self.interrupted,
            )
        )

    def interrupted(self) -> list[RunRecord]:
        """Runs that are not final and whose runner is gone."""
        database = self._database()
        return [run for run in run_rows.RunQueries(database).unfinished() if self.is_interrupted(run)] if database else []

    def _database(self) -> Database | None:
        return self._databases.get(create=False)

    def _writable(self) -> Database:
        database = self._databases.get(create=True)
        assert database is not None
        if database.read_only:
            raise FilesystemError(
                f"cannot write {self.state_dir}/state.db: this user may only read it",
                hint="Change the owner or the mode of .mlpipe.",
            )
        return database

    def _reading(self) -> Database:
        database = self._database()
        if database is None:
            raise RunNotFoundError("this project has no run yet", hint="Start one with `mlpipe-tui run`.")
        return database

    def _runs(self) -> run_rows.RunQueries:
        return run_rows.RunQueries(self._reading())

    def _life_path(self, run_id: str) -> str:
        return os.path.join(self.state_dir, "locks", "runs", run_id)

    def _artifacts(self) -> ArtifactStore:
        from mlpipe_engine.store.artifacts import ArtifactStore

        return ArtifactStore(os.path.join(self.state_dir, "artifacts"))

    def _stats(self) -> StatCache:
        from mlpipe_engine.hashing.stat_cache import StatCache

        database = self._database()
        rows = results.ResultQueries(database).stat_rows() if database else []
        return StatCache(rows, root=self.root)

    def _snapshots(self, stats: StatCache) -> SourceSnapshots:
        from mlpipe_engine.snapshots.source import SourceSnapshots

        return SourceSnapshots(os.path.join(self.state_dir, "snapshots"), self.root, stats)

    def tracing_problem(self) -> str:
        """ "" when the reads of steps can be told here; else why not. Tried once per boot and file system."""
        from mlpipe_engine.snapshots.canary import can_trace

        key = f"canary {os.stat(self.state_dir).st_dev} {_boot_id()}"
        known = self._cached(key)
        if known is None:
            known = can_trace(self.state_dir)
            with self._writable().write() as db:
                results.put_cached(db, key, known)
        return known

    def _cached(self, key: str) -> str | None:
        database = self._database()
        return results.ResultQueries(database).cached(key) if database else None


class _Texts:
    """The cache of definitions: read from the store; what is new is kept until a run writes anyway, so that a plan writes nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, key: str) -> str | None:
        return self._engine._cached(key)

    def put(self, key: str, text: str) -> None:
        self._engine._fresh_texts[key] = text


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
