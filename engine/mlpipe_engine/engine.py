"""The composition root: wires the adapters of one project and offers the verbs that every edge uses.

Reading verbs create nothing; a project without a store simply has no runs. One thread at a time per Engine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from mlpipe_engine.config.project import FILE_NAME, ProjectConfig, find_root, load_config
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
from mlpipe_engine.model.records import Acceptance, MetricRecord, RunRecord, StepRecord, Sweep
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, GOOD, State
from mlpipe_engine.store import locks, results
from mlpipe_engine.store import runs as run_rows
from mlpipe_engine.store.database import PerThread

if TYPE_CHECKING:
    from mlpipe_engine.definitions.loader import Definitions
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.bundle import Bundle, BundleFacts, Replay
    from mlpipe_engine.model.compare import Comparison, FileChange, RunDiff
    from mlpipe_engine.model.manifest import Manifest
    from mlpipe_engine.model.views import Explanation, Finding, Plan
    from mlpipe_engine.runner.comparing import Shelf
    from mlpipe_engine.runner.debugging import Bench
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.runner.observe import Observer
    from mlpipe_engine.runner.rebuild import Rebuilt
    from mlpipe_engine.runner.removal import Removed
    from mlpipe_engine.runner.repeat import Repeater
    from mlpipe_engine.runner.upkeep import Upkeep
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database
    from mlpipe_engine.store.pins import Pin

Sink = Callable[[Event], None]


def _nowhere(event: Event) -> None:
    return


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _unseen(run: RunRecord) -> None:
    return


def _nothing(text: str) -> None:
    return


class Engine:
    """One project. `Engine.open()` finds it upward from the current folder."""

    def __init__(self, root: str, config: ProjectConfig) -> None:
        self.root = root
        self.config = config
        self.state_dir = os.path.join(root, ".mlpipe")
        self._databases = PerThread(self.state_dir, network=config.store.network)
        self.warnings: tuple[str, ...] = ()
        """What the last plan or run noticed about its source directories: ignore rules that do not apply, large files."""
        self.say: Callable[[str], None] = _nothing
        """Told what goes on before a run starts: the building of an environment, which may take minutes."""
        self._project_id = ""
        self._config_seen: os.stat_result | None = None
        """mlpipe.toml as it was before it was read."""
        self._fresh_texts: dict[str, str] = {}
        self._observers: dict[str, Observer] = {}

    @classmethod
    def open(cls, start: str | None = None) -> Engine:
        """Raises ProjectNotFoundError, ConfigError."""
        root = find_root(start)
        seen = _lstat(os.path.join(root, FILE_NAME))
        engine = cls(root, load_config(root))
        engine._config_seen = seen
        return engine

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

        decisions, selection = self._decisions(spec, options, build=False)
        return make_plan(spec, decisions, selection, self._effects())

    def accept(self, step: str, run_id: str | None, because: str, pipeline: str | None = None) -> Acceptance:
        """Keep the result a step has in that run (else its last) for what it would run now. Only changes of code and environment."""
        from mlpipe_engine.runner import accepting
        from mlpipe_engine.runner.planning import make_plan

        run = self._runs().get(run_id) if run_id is not None else None
        spec = self.pipeline(pipeline or (run.pipeline if run is not None else None))
        known = self._runs().step(run, step).result_id if run is not None else None
        result = accepting.result_to_keep(results.ResultQueries(self._reading()), spec, step, run, known)
        made_in = run or self._runs().get(result.run_id)
        names = {parameter.name for parameter in spec.parameters}
        options = replace(
            self._runs().options(made_in.id), until_steps=(step,), only_steps=(), from_steps=(), force=False, force_steps=(),
            parameters=tuple(item for item in made_in.parameters if item[0] in names),
        )  # fmt: skip
        decisions, selection = self._decisions(spec, options)
        plan = make_plan(spec, decisions, selection, ())
        return accepting.accept(self._writable(), decisions, plan, spec.step(step), result, because)

    def diff(self, before: str, after: str, step: str | None = None) -> RunDiff:
        """What differs between two runs, and between what made their results. Raises RunNotFoundError."""
        from mlpipe_engine.runner.comparing import diff

        return diff(self._shelf(), self._runs().get(before), self._runs().get(after), step)

    def patch(self, change: FileChange) -> tuple[str, ...]:
        """Lines of the unified diff of one changed file, as they are: clean them for a terminal."""
        from mlpipe_engine.runner.comparing import patch

        return tuple(patch(self._shelf(), change))

    def compare(self, run_ids: tuple[str, ...], *, metric: str | None = None, goal: Literal["min", "max", ""] = "") -> Comparison:
        """Runs side by side; a sweep stands for its runs. The best value of `metric` comes first where `goal` is given."""
        from mlpipe_engine.runner.comparing import compare
        from mlpipe_engine.runner.sweeps import current_children

        queries, runs, shown = self._runs(), [], list[str]()
        for run in (queries.get(run_id) for run_id in run_ids):
            if run.kind == "sweep":
                shown += [name for name, _ in queries.sweep(run).axes]
            runs += list(current_children(queries, run)) if run.kind == "sweep" else [run]
        return compare(self._shelf(), tuple(dict.fromkeys(runs)), self.is_interrupted, metric, goal, tuple(shown))

    def _shelf(self) -> Shelf:
        from mlpipe_engine.runner.comparing import Shelf

        return Shelf(self._reading(), self._artifacts(), self._snapshots(self._stats()))

    def debug(self, step: str, run_id: str | None = None, pipeline: str | None = None) -> Bench:
        """The directory of a step's last execution (of that in the run, where one is given) laid out anew, else of its first."""
        from mlpipe_engine.runner import debugging

        found = debugging.execution(self._runs(), self._runs().get(run_id), step) if run_id is not None else None
        if run_id is None:
            name, database = pipeline or self.config.default_pipeline, self._database()
            found = debugging.last_execution(run_rows.RunQueries(database), name, step) if database else None
        if found is None:
            return self._debug_planned(self.pipeline(pipeline), step)
        run, record = found
        options = replace(self._runs().options(run.id), only_steps=(), until_steps=(), from_steps=(), parameters=run.parameters)
        decisions = self._unchecked(self._runs().spec(run), options)
        repeated = debugging.recall(run, record, self.manifest(run.id, record.name), decisions)
        return debugging.lay_out(repeated, decisions, self._artifacts(), results.ResultQueries(self._reading()), self._place())

    def _debug_planned(self, spec: PipelineSpec, step: str) -> Bench:
        from mlpipe_engine.runner import debugging

        planned = debugging.planned(spec, step)
        decisions, _ = self._decisions(spec, SubmitOptions(experiment="debug", only_steps=(step,)))
        queries = results.ResultQueries(self._database() or self._writable())
        return debugging.lay_out(planned, decisions, self._artifacts(), queries, self._place())

    def _place(self) -> tuple[str, str, str]:
        return self.root, self.state_dir, self.config.name

    def changed_inputs(self, bench: Bench) -> tuple[str, ...]:
        """Names of stored inputs that were changed while a step was tried by hand."""
        from mlpipe_engine.runner.debugging import changed_inputs

        return changed_inputs(bench, self._artifacts())

    def export(self, run_id: str, path: str, *, outputs: str = "last", inputs: bool = True) -> BundleFacts:
        """One file with everything of a run. `outputs`: "last" (of steps that feed no other), "all", "none" or names."""
        from mlpipe_engine.runner.bundling import facts_of
        from mlpipe_engine.store.bundles import write

        if os.path.lexists(path):
            raise InputError(f"{path} exists", hint="Choose another place with -o.")
        bundle, places = self._gather(run_id, outputs, inputs=inputs)
        write(path, bundle, places)
        return facts_of(path, bundle, places)

    def _gather(self, run_id: str, outputs: str, *, inputs: bool) -> tuple[Bundle, dict[str, str]]:
        from mlpipe_engine.runner.bundling import Gathering, Source

        run = self._runs().get(run_id)
        options = replace(self._runs().options(run.id), parameters=run.parameters)
        resolver = self._unchecked(self._runs().spec(run), options).resolver if run.kind == "run" else None
        gathering = Gathering(Source(
            root=self.root, name=self.config.name, database=self._reading(), artifacts=self._artifacts(), resolver=resolver,
            snapshots=self._snapshots(self._stats()),
        ), run)  # fmt: skip
        return gathering.bundle(outputs, inputs=inputs), gathering.places

    def import_bundle(self, path: str) -> RunRecord:
        """The run of a bundle, with a number of this project. Raises InputError; then nothing was added."""
        from mlpipe_engine.runner.bundling import Target, bring_in
        from mlpipe_engine.store.bundles import Archive

        with Archive(path, max_bytes=_room(self.root)) as archive:
            target = Target(
                state_dir=self.state_dir,
                database=self._writable(),
                artifacts=self._artifacts(),
                snapshots=self._snapshots(self._stats()),
            )
            return self._runs().get(bring_in(archive, target))

    def replay(
        self, what: str, step: str | None = None, sink: Sink = _nowhere, *, keep: bool = False, is_file: bool = False
    ) -> Replay:
        """Run it again in an empty project (`what`: the id of a run, or a bundle) and compare the outputs. Adds no run here."""
        from mlpipe_engine.runner.bundling import scratch
        from mlpipe_engine.store.bundles import Archive

        with scratch(keep=keep) as place:
            if not is_file:
                bundle, blobs = self._gather(what, "none", inputs=True)
                return self._replay(bundle, blobs, step, place, sink, keep=keep)
            with Archive(what, max_bytes=_room(place)) as archive:
                blobs = archive.unpack(os.path.join(place, ".blobs"))
                return self._replay(archive.bundle, blobs, step, place, sink, keep=keep)

    def _replay(self, bundle: Bundle, blobs: dict[str, str], step: str | None, place: str, sink: Sink, *, keep: bool) -> Replay:
        from mlpipe_engine.executors.choosing import Wanted, choose
        from mlpipe_engine.runner import replaying

        def python_of(python: str | None) -> str:
            wanted = Wanted(python, "python = in mlpipe.toml", self.config.path) if python else None
            return choose(self.root, (wanted,), self._cached, {}, self._stats()).path

        stage = replaying.set_up(bundle, blobs, replaying.steps_to_replay(bundle, step), place)
        config = replaying.config_for(self.config, python_of)
        other = Engine(place, config)
        try:
            made = other.run(stage.spec, stage.options, sink)
            ours, theirs = self._artifacts(), other._artifacts()
            judged = replaying.judge(
                bundle, other.steps(made.id), lambda record: other.manifest(made.id, record.name),
                lambda digest: bundle.artifacts.get(digest) or ours.tree(digest), theirs.tree,
            )  # fmt: skip
        finally:
            other.close()
        return replace(judged, place=place if keep else "")

    def acceptances(self) -> tuple[Acceptance, ...]:
        """Newest first; revoked ones too."""
        from mlpipe_engine.store.acceptances import AcceptanceQueries

        database = self._database()
        return AcceptanceQueries(database).all() if database else ()

    def revoke(self, acceptance: int) -> Acceptance:
        """The steps it stood for run again."""
        from mlpipe_engine.runner.accepting import revoke

        return revoke(self._writable(), acceptance)

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
        problems = resolver.problems(spec, selection.run, decisions.compute_of)
        self.warnings = tuple(snapshots.warnings)
        if problems:
            raise problems[0] if len(problems) == 1 else InputError("\n".join(map(str, problems)), hint=problems[0].hint)
        for step in spec.steps:
            if step.name in selection.assumed:
                decisions.assume(step)
        return decisions, selection.run

    def _unchecked(self, spec: PipelineSpec, options: SubmitOptions) -> Decisions:
        from mlpipe_engine.planning import parameters
        from mlpipe_engine.runner.decisions import Decisions
        from mlpipe_engine.runner.resolve import Resolver

        values = dict(parameters.effective(spec, dict(options.parameters)))
        stats = self._stats()
        snapshots = self._snapshots(stats)
        resolver = Resolver(self.root, self.config, snapshots, stats, self._cached)
        database = self._database()
        queries = results.ResultQueries(database) if database else None
        return Decisions(
            spec, options, values, resolver, snapshots, self._artifacts(), database, queries, self.config.default_compute
        )

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
        repeated = self._repeat(spec, options, decided)
        if repeated is not None:
            return self.follow(repeated, sink)
        run, lock = self._new_run(spec, options)
        return self._host(run, decided, lock, sink)

    def submit(self, spec: PipelineSpec, options: SubmitOptions) -> str:
        """Start a run in a process of its own and return its id; it outlives this process."""
        repeated = self._repeat(spec, options, self._decisions(spec, options))
        if repeated is not None:
            return repeated
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
        plan = make_plan(spec, decisions, selection, ())
        repeated = None
        if all(isinstance(step.decision, Reuse) for step in plan.steps) and not decisions.lost and not decisions.refreshed:
            self._writable()
            self.reap()
            repeated = self._repeater(decisions, spec).repeat(spec, options, decisions, plan.steps, self._fresh_texts)
        decisions.keep_plan(plan.steps)
        return repeated

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
        return self._drive_sweep(run, lock) if run.kind == "sweep" else self._host_stored(run, lock, _nowhere)

    def resume(self, run_id: str, sink: Sink = _nowhere) -> RunRecord:
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
        from mlpipe_engine.store.share import Uses

        decisions, selection = decided
        uses = Uses(self.state_dir, run.id)
        try:
            site = Site(
                root=self.root, state_dir=self.state_dir, config=self.config, database=self._reading(), artifacts=self._artifacts(uses.protect),
                can_trace=self.tracing_problem() == "",
            )  # fmt: skip
            host_run(site, run, decisions, selection, sink)
        finally:
            uses.close()
            locks.unlock(lock)
        finished = self._runs().get(run.id)
        if decisions.options.request and finished.state is State.SUCCEEDED:
            self._repeater(decisions, decisions.spec).keep(finished, decisions.spec, decisions.options, decisions)
        if finished.state in FINAL:
            try:
                os.unlink(self._life_path(run.id))
            except OSError:
                pass
            self._keep_quota()
        return finished

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

    def sweep(self, run_id: str) -> Sweep:
        """Prereq: a run of kind "sweep"."""
        return self._runs().sweep(self._runs().get(run_id))

    def sweep_runs(self, run_id: str) -> tuple[RunRecord, ...]:
        """The runs of a sweep as they stand; of one that was started again, the newest."""
        from mlpipe_engine.runner.sweeps import current_children

        return current_children(self._runs(), self._runs().get(run_id))

    def sweep_states(self, run_ids: tuple[str, ...]) -> dict[str, dict[State, int]]:
        """How many runs of each state these sweeps have."""
        return self._runs().child_states(run_ids) if run_ids else {}

    def _keep_quota(self) -> None:
        """After a run is over; whatever goes wrong here is for the next run or `gc` to tell."""
        with suppress(MlpipeError, OSError):
            self.upkeep().keep_quota(seconds=10.0)

    def upkeep(self) -> Upkeep:
        """What is in the store, what of it could go, and taking it away. Raises RunNotFoundError where there is no store yet."""
        from mlpipe_engine.runner.upkeep import Upkeep

        self._reading()
        return Upkeep(
            state_dir=self.state_dir, database=self._reading(), snapshots=self._snapshots(self._stats()), quota=self.config.store.quota,
            pipelines=self._defined_steps,
        )  # fmt: skip

    def _defined_steps(self) -> frozenset[tuple[str, str]] | None:
        """(pipeline, step) of what is defined now; None when a definition is broken. Pipelines that scripts submit are defined by their runs."""
        try:
            definitions = self.definitions
        except MlpipeError:
            return None
        if definitions.errors:
            return None
        rows = self._reading().query(
            "SELECT DISTINCT s.pipeline, s.name FROM step_runs s JOIN runs r ON r.number = s.run WHERE r.source <> 'cli'"
        )
        named = {(spec.name, step.name) for spec in definitions.pipelines for step in spec.steps}
        return frozenset(named | {(str(pipeline), str(step)) for pipeline, step in rows})

    def remove_runs(self, runs: tuple[RunRecord, ...]) -> Removed:
        """Into the trash, with their results, as far as no other run uses them. Raises UsageError for live and pinned runs."""
        from mlpipe_engine.runner.removal import remove_runs

        for run in runs:
            if run.state not in FINAL:
                way = f"Cancel it first: mlpipe-tui cancel {run.number}"
                raise UsageError(f"run {run.number} is {'interrupted' if self.is_interrupted(run) else run.state}", hint=way)
        done = remove_runs(self.state_dir, self._writable(), runs)
        self._tell({"e": "removed", "runs": list(done.runs)})
        return done

    def pins(self) -> tuple[Pin, ...]:
        from mlpipe_engine.store.pins import pins

        database = self._database()
        return pins(database) if database else ()

    def pin(self, text: str, *, keep: bool = True) -> tuple[Pin, bool]:
        """Pin (or, `keep=False`, unpin) RUN[/STEP[/OUTPUT]]; False when it was so already. Raises RunNotFoundError."""
        from mlpipe_engine.runner.record import utc_now
        from mlpipe_engine.store import pins

        name, _, rest = text.partition("/")
        step, _, output = rest.partition("/")
        run = self.find_run(name)
        if step:
            self.find_step(run.id, step)
        if output and keep:
            self._output_digest(run.id, step, output)
        pin = pins.Pin(run.number, step, output, utc_now())
        if run.mirrors and keep:  # a run that is one row stands in the journal only when somebody wants to keep it
            self._tell_mirror(run)
        changed = (pins.add_pin if keep else pins.remove_pin)(self._writable(), pin)
        self._tell({"e": "pin" if keep else "unpin", "run": pin.run, "step": step, "output": output, "time": pin.created_at})
        return pin, changed

    def _tell_mirror(self, run: RunRecord) -> None:
        from mlpipe_engine.store import journal

        with self._writable().write() as db:
            lines = journal.run_line(db, journal.Journal(self.state_dir), run.number), journal.end_line(db, run.number)
        for line in lines:
            self._tell(line)

    def _tell(self, line: Mapping[str, object]) -> None:
        from mlpipe_engine.store.journal import Journal

        journal = Journal(self.state_dir)
        journal.append(dict(line))
        journal.close()

    def rebuild(self) -> Rebuilt:
        """A new state.db from what is on disk; the damaged one is kept. Raises UsageError where nothing is damaged."""
        from mlpipe_engine.runner.rebuild import rebuild

        self.close()
        return rebuild(self.state_dir)

    def sizes(self, runs: tuple[RunRecord, ...]) -> dict[str, int]:
        """Bytes of the outputs each run shows, also of those it shares with others; what was collected counts for nothing."""
        database = self._database()
        return results.ResultQueries(database).sizes(runs) if database else {}

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
        """Not final, and nobody holds its lock. A run of a sweep that was not started yet waits for the sweep's process."""
        if run.parent is not None and run.started_at is None and locks.is_held(self._life_path(run.parent)):
            return False
        return self._has_no_runner(run)

    def _has_no_runner(self, run: RunRecord) -> bool:
        return run.state not in FINAL and run.kind != "child" and not locks.is_held(self._life_path(run.id))

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
        if results.ResultQueries(self._reading()).is_collected(digest):
            raise RunNotFoundError(
                f"output {output!r} was collected to save space",
                hint="Bring it back with `mlpipe-tui gc --undo` within a day, or run the pipeline again.",
            )
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

    def interpreter_of(self, run_id: str, step: str) -> str:
        """The interpreter a step ran with and why that one; "" for a step that never started."""
        import json

        try:
            with open(os.path.join(self.step_dir(run_id, step), "step.json"), encoding="ascii") as file:
                return str(json.load(file).get("interpreter", ""))
        except (OSError, ValueError):
            return ""

    def run_dir(self, run_id: str) -> str:
        """The folder of a run, with its steps. Raises FilesystemError."""
        from mlpipe_engine.runner.repeat import open_view

        run = self._runs().get(run_id)
        if run.mirrors is None:
            return os.path.join(self.state_dir, "runs", run.experiment, str(run.number))
        return open_view(self.state_dir, run, [(step, self.step_dir(run_id, step.name)) for step in self.steps(run_id)])

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
        """Runs that are not final and whose runner is gone. A sweep stands for its runs."""
        database = self._database()
        unfinished = run_rows.RunQueries(database).unfinished() if database else ()
        return [run for run in unfinished if run.parent is None and self.is_interrupted(run)]

    def _database(self) -> Database | None:
        return self._databases.get(create=False)

    def _writable(self) -> Database:
        database = self._databases.get(create=True)
        assert database is not None
        if database.read_only:
            raise FilesystemError(
                f"cannot write {self.state_dir}/state.db: uid {os.geteuid()} may only read it",
                hint="Change the owner or the mode of .mlpipe, or copy the project.",
            )
        if not self._project_id:
            from mlpipe_engine.runner.record import utc_now
            from mlpipe_engine.store import identity

            self._project_id = identity.settle(database, self.state_dir, utc_now())
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

    def _artifacts(self, protect: Callable[[str], None] = lambda digest: None) -> ArtifactStore:
        from mlpipe_engine.store.artifacts import ArtifactStore

        return ArtifactStore(os.path.join(self.state_dir, "artifacts"), protect)

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


def _room(folder: str) -> int:
    """Bytes that may be unpacked there: nine tenths of what is free."""
    import shutil

    return shutil.disk_usage(folder).free * 9 // 10


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
