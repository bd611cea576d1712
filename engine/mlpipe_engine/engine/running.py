"""Verbs that decide and run: plan, run, submit, host, resume, cancel, reap, and sweeps of runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import mlpipe_engine
from mlpipe_engine.engine.datasets import DatasetVerbs
from mlpipe_engine.engine.reading import Sink, nowhere
from mlpipe_engine.errors import (
    ExecutorUnavailableError,
    InputError,
    MlpipeError,
    UsageError,
)  # fmt: skip
from mlpipe_engine.model.records import RunRecord, Sweep
from mlpipe_engine.model.spec import Json, PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, GOOD, State
from mlpipe_engine.store import locks, results
from mlpipe_engine.store import runs as run_rows

if TYPE_CHECKING:
    from mlpipe_engine.definitions.loader import Definitions
    from mlpipe_engine.model.datasets import DatasetVersionRecord
    from mlpipe_engine.model.spec import DatasetUse, Registration
    from mlpipe_engine.model.views import Plan
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.runner.hosting import Ahead
    from mlpipe_engine.runner.repeat import Repeater


def _unseen(run: RunRecord) -> None:
    return


class Running(DatasetVerbs):
    """Everything that can be wrong with a run is raised before it starts."""

    def plan(self, spec: PipelineSpec, options: SubmitOptions) -> Plan:
        """What `run` would do. Writes nothing at all."""
        from mlpipe_engine.runner.planning import make_plan

        decisions, selection = self._decisions(spec, options, build=False)
        return make_plan(decisions.spec, decisions, selection, self._effects())

    def _effects(self) -> tuple[str, ...]:
        return self.definitions.effects if "definitions" in self.__dict__ else ()

    def _decisions(
        self, spec: PipelineSpec, options: SubmitOptions, *, build: bool = True
    ) -> tuple[Decisions, frozenset[str]]:  # fmt: skip
        """Everything that can be wrong before a run starts is raised here, all at once. `build`: environments that are missing."""
        from mlpipe_engine.planning import graph

        graph.check(spec)
        selection = graph.select(spec, options)
        decisions = self._unchecked(spec, options)
        resolver, snapshots = decisions.resolver, decisions.snapshots
        resolver.say = self.say if build else None
        self._check_computes(spec, decisions, selection.run)
        problems = resolver.problems(decisions.spec, selection.run, decisions.compute_of, decisions.check_input)
        self.warnings = tuple(snapshots.warnings)
        if problems:
            raise problems[0] if len(problems) == 1 else InputError("\n".join(map(str, problems)), hint=problems[0].hint)
        for step in decisions.spec.steps:
            if step.name in selection.assumed:
                decisions.assume(step)
        return decisions, selection.run

    def _check_computes(self, spec: PipelineSpec, decisions: Decisions, selected: frozenset[str]) -> None:
        for step in spec.steps:
            if step.name in selected:
                self.config.compute(decisions.compute_of(step))

    def _provide_images(self, decided: tuple[Decisions, frozenset[str]]) -> None:
        """Before a run starts: engines have what its steps will run in. Raises ExecutorUnavailableError, EnvironmentProblem."""
        from mlpipe_engine.runner.containers import provide_images

        provide_images(*decided, self.say)

    def run(self, spec: PipelineSpec, options: SubmitOptions, sink: Sink = nowhere) -> RunRecord:
        """Host a run in this process until it is final. SIGINT and SIGTERM cancel it when called from the main thread."""
        decided = self._decisions(spec, options)
        self._register_inputs(*decided)
        repeated = self._repeat(spec, options, decided)
        if repeated is not None:
            return self.follow(repeated, sink)
        self._provide_images(decided)
        run, lock = self._new_run(spec, options)
        return self._host(run, decided, lock, sink)

    def submit(self, spec: PipelineSpec, options: SubmitOptions) -> str:
        """Start a run in a process of its own and return its id; it outlives this process."""
        decided = self._decisions(spec, options)
        self._register_inputs(*decided)
        repeated = self._repeat(spec, options, decided)
        if repeated is not None:
            return repeated
        self._provide_images(decided)
        run, lock = self._new_run(spec, options)
        try:
            self._start_runner(run.id, lock)
        finally:
            os.close(lock)
        return run.id

    def _repeat(self, spec: PipelineSpec, options: SubmitOptions, decided: tuple[Decisions, frozenset[str]]) -> str | None:
        """Nothing is left to do: one row says so. Else the decisions are kept for the run that follows."""
        from mlpipe_engine.model.plan import Reuse
        from mlpipe_engine.runner.planning import make_plan

        decisions, selection = decided
        if self._database() is None or options.force or options.resumed_from:
            return None
        plan = make_plan(decisions.spec, decisions, selection, ())
        repeated = None
        if all(isinstance(step.decision, Reuse) for step in plan.steps) and not decisions.lost and not decisions.refreshed:
            self._writable()
            self.reap()
            repeated = self._repeater(decisions, spec).repeat(spec, options, decisions, plan.steps, self._fresh_texts)
        decisions.keep_plan(plan.steps)
        return repeated

    def _register_inputs(self, decisions: Decisions, selection: frozenset[str]) -> None:
        from mlpipe_engine.runner import versions

        versions.register_inputs(decisions, selection, self._database(), self._register)

    def _register_outputs(self, run: RunRecord, decisions: Decisions) -> None:
        from mlpipe_engine.runner import versions

        if any(output.register is not None for step in decisions.spec.steps for output in step.outputs):
            path = decisions.artifacts.path
            versions.register_outputs(
                decisions.spec, self._runs().steps(run), lambda digest: os.path.relpath(path(digest), self.root), self._writable(),
                self._register,
            )  # fmt: skip

    def _register(self, registration: Registration, use: DatasetUse) -> DatasetVersionRecord:
        assert use.definition is not None
        return self.register_dataset(
            registration.name, use.definition, expectations=use.expectations, description=registration.description,
            tags=dict(registration.tags), create_new_version=registration.new_version,
        )[0]  # fmt: skip

    def _repeater(self, decisions: Decisions, spec: PipelineSpec) -> Repeater:
        from mlpipe_engine.runner.repeat import Repeater

        return Repeater(
            root=self.root, state_dir=self.state_dir, config=(self.config.path, self._config_seen), database=self._writable(),
            artifacts=decisions.artifacts, stats=decisions.resolver.stats, definitions=self._known_definitions(),
        )  # fmt: skip

    def _known_definitions(self) -> Definitions | None:
        """None: what a run rests on cannot be told, or there is something to be said each time."""
        try:
            return None if self.warnings else self.definitions
        except MlpipeError:
            return None

    def _start_runner(self, run_id: str, lock: int) -> None:
        """The lock travels with its file descriptor, so the run is never seen without a living owner."""
        engine_root = os.path.dirname(os.path.dirname(os.path.abspath(mlpipe_engine.__file__)))
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
        return self._drive_sweep(run, lock) if run.kind == "sweep" else self._host_stored(run, lock, nowhere)

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
            self._provide_images(decided)
        except ExecutorUnavailableError:  # its containers may go on: it stays interrupted
            locks.unlock(lock)
            raise
        except MlpipeError as error:
            self._close_run(run, State.FAILED, str(error))
            locks.unlock(lock, self._life_path(run.id))
            raise
        return self._host(run, decided, lock, sink)

    def _host(
        self, run: RunRecord, decided: tuple[Decisions, frozenset[str]], lock: int, sink: Sink, ahead: Ahead | None = None
    ) -> RunRecord:  # fmt: skip
        from mlpipe_engine.runner.hosting import Site, host_run
        from mlpipe_engine.store.share import Uses

        decisions, selection = decided
        uses = Uses(self.state_dir, run.id)
        try:
            site = Site(
                root=self.root, state_dir=self.state_dir, config=self.config, database=self._reading(), artifacts=self._artifacts(uses.protect),
                can_trace=self.tracing_problem() == "", ahead=ahead,
            )  # fmt: skip
            host_run(site, run, decisions, selection, sink)
            self._register_outputs(run, decisions)
        except InputError as error:  # before its first step: a result that it takes as it is is gone
            self._close_run(run, State.FAILED, str(error))
            raise
        finally:
            uses.close()
            locks.unlock(lock)
        finished = self._runs().get(run.id)
        if decisions.options.request and finished.state is State.SUCCEEDED:
            self._repeater(decisions, decisions.as_written).keep(finished, decisions.as_written, decisions.options, decisions)
        if finished.state in FINAL:
            try:
                os.unlink(self._life_path(run.id))
            except OSError:
                pass
            self._reap_containers()
            self._keep_quota()
        return finished

    def resume(self, run_id: str, sink: Sink = nowhere) -> RunRecord:
        """An interrupted run goes on as the same run; a failed or canceled one starts again as a new run, reusing what is done."""
        queries = self._runs()
        run = queries.get(run_id)
        if run.kind == "sweep":
            return self.resume_sweep(run.id)
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

    def submit_again(self, run_id: str) -> str:
        """`resume` in a process of its own: returns the id of the run that goes on, or of the new one that takes its place."""
        queries = self._runs()
        run = queries.get(run_id)
        if run.state not in FINAL:
            if not self._has_no_runner(run):
                raise UsageError(
                    f"run {run.number} is running; there is nothing to resume", hint="Cancel it first, or wait for it."
                )
            self.reap()
            if run.kind == "sweep" or not any(step.state in (State.FAILED, State.CANCELED) for step in queries.steps(run)):
                self._start(run.id)
                return run.id
            self._close_run(run, State.FAILED, "interrupted after a step had failed")
            run = queries.get(run_id)
        if run.kind == "sweep":
            spec, options = self._spec_and_options_again(run)
            return self.start_sweep(spec, options, queries.sweep(run), detach=True)
        return self.submit(*self._spec_and_options_again(run))

    def parameter_values(self, spec: PipelineSpec, texts: Mapping[str, str]) -> tuple[tuple[str, Json], ...]:
        """What was typed as values of parameters, sorted by name. Raises ParameterError for the first that does not fit."""
        from mlpipe_engine.planning import parameters

        values = {name: parameters.parse_cli(parameters.named(spec, name), text) for name, text in texts.items()}
        parameters.effective(spec, values)
        return tuple(sorted(values.items()))

    def _resume_as_new(self, run: RunRecord, sink: Sink) -> RunRecord:
        spec, options = self._spec_and_options_again(run)
        return self.run(spec, options, sink)

    def _spec_and_options_again(self, run: RunRecord) -> tuple[PipelineSpec, SubmitOptions]:
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
        return spec, replace(queries.options(run.id), resumed_from=run.id, force=False, force_steps=())

    def cancel(self, run_id: str) -> None:
        """Ask the runner to stop everything. A run whose runner is gone is canceled at once."""
        run = self._runs().get(run_id)
        if run.state in FINAL:
            raise UsageError(f"run {run.number} is {run.state} already")
        lock = locks.try_lock(self._life_path(run_id), patience_seconds=0.2)
        if lock is not None:
            self.reap()
            for child in self.sweep_runs(run_id) if run.kind == "sweep" else ():
                if child.state not in FINAL:
                    self.cancel(child.id)
            self._close_run(run, State.CANCELED, "canceled after it was interrupted")
            locks.unlock(lock, self._life_path(run_id))
            self._reap_containers()
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

        if self._database() is None:
            return 0
        database = self._writable()  # in a copy of a project, runs of the original are closed first: their processes are not ours
        gone = {run.id for run in run_rows.RunQueries(database).unfinished() if self.is_interrupted(run) or self._is_ours(run.id)}
        return (end_marked(gone, b"MLPIPE_RUN=") if gone else 0) + self._reap_containers()

    def _reap_containers(self) -> int:
        """Of runs that are over. Those of an interrupted run go on, for whoever resumes it."""
        if not os.path.isdir(os.path.join(self.state_dir, "locks", "containers")):
            return 0
        from mlpipe_engine.runner.containers import reap_containers

        unfinished = {run.id for run in self._runs().unfinished()}
        return reap_containers(self.state_dir, lambda run_id: run_id not in unfinished)

    def _is_ours(self, run_id: str) -> bool:
        return locks.owner_of(self._life_path(run_id)).strip() == f"pid {os.getpid()}"

    def start_sweep(self, spec: PipelineSpec, options: SubmitOptions, sweep: Sweep, *, detach: bool = False) -> str:
        """Its row and those of its runs; with `detach` also a process that drives it. Raises what a run of its first point would."""
        from mlpipe_engine.planning.grid import points
        from mlpipe_engine.runner.sweeps import insert

        first = {**dict(options.parameters), **dict(points(sweep.axes)[0])}
        self._decisions(spec, replace(options, parameters=tuple(sorted(first.items()))))
        self.reap()
        sweep_id = insert(self._writable(), spec, options, sweep)
        if detach:
            self._start(sweep_id)
        return sweep_id

    def drive_sweep(self, sweep_id: str, seen: Callable[[RunRecord], None] = _unseen) -> RunRecord:
        """Start what is missing and wait for all of it. SIGINT and SIGTERM cancel every run of it."""
        lock = locks.try_lock(self._life_path(sweep_id), f"pid {os.getpid()}", patience_seconds=0.2)
        run = self._runs().get(sweep_id)
        if lock is None:
            raise UsageError(f"sweep {run.number} is running", hint=f"Follow it with `mlpipe-tui attach {run.number}`.")
        return self._drive_sweep(run, lock, seen)

    def _drive_sweep(self, run: RunRecord, lock: int, seen: Callable[[RunRecord], None] = _unseen) -> RunRecord:
        from mlpipe_engine.runner.hosting import Signals
        from mlpipe_engine.runner.sweeps import Driver, drive

        try:
            with Signals(lambda: None) as signals:
                drive(Driver(
                    database=self._writable(), start=self._start, has_no_runner=self._has_no_runner, signaled=lambda: signals.received,
                    seen=seen,
                ), run)  # fmt: skip
        finally:
            locks.unlock(lock, self._life_path(run.id))
        return self._runs().get(run.id)

    def resume_sweep(self, run_id: str, seen: Callable[[RunRecord], None] = _unseen) -> RunRecord:
        """An interrupted sweep goes on with what is missing; a failed or canceled one starts again as a new one, reusing what is done."""
        from mlpipe_engine.runner.sweeps import start_again

        queries = self._runs()
        run = queries.get(run_id)
        if run.state in FINAL:
            spec, options = self._spec_and_options_again(run)
            return self.drive_sweep(self.start_sweep(spec, options, queries.sweep(run)), seen)
        lock = locks.try_lock(self._life_path(run_id), f"pid {os.getpid()}", patience_seconds=0.2)
        if lock is None:
            raise UsageError(f"sweep {run.number} is running", hint=f"Follow it with `mlpipe-tui attach {run.number}`.")
        self.reap()
        for child in self.sweep_runs(run_id):
            hurt = any(step.state in (State.FAILED, State.CANCELED) for step in queries.steps(child))
            if child.state not in FINAL and self._has_no_runner(child) and hurt:
                self._close_run(child, State.FAILED, "interrupted after a step had failed")
            if queries.get(child.id).state in (State.FAILED, State.CANCELED):
                start_again(self._writable(), run, child)
        return self._drive_sweep(run, lock, seen)

    def _start(self, run_id: str) -> bool:
        """A process for a run that stands in the store and has none."""
        lock = locks.try_lock(self._life_path(run_id), f"pid {os.getpid()}", patience_seconds=0.2)
        if lock is None:
            return False
        try:
            self._start_runner(run_id, lock)
        finally:
            os.close(lock)
        return True
