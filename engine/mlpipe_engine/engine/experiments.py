"""Verbs for experimenting: accept, diff, compare, debug, export, import, replay."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from mlpipe_engine.engine.reading import Sink, nowhere
from mlpipe_engine.engine.running import Running
from mlpipe_engine.errors import (
    InputError,
)  # fmt: skip
from mlpipe_engine.model.records import Acceptance, RunRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.store import results
from mlpipe_engine.store import runs as run_rows

if TYPE_CHECKING:
    from mlpipe_engine.model.bundle import Bundle, BundleFacts, Replay
    from mlpipe_engine.model.compare import Comparison, FileChange, RunDiff
    from mlpipe_engine.runner.comparing import Shelf
    from mlpipe_engine.runner.debugging import Bench


class Experimenting(Running):
    """Each is a few lines that hand what is known here to a module of `runner`."""

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

    def acceptances(self) -> tuple[Acceptance, ...]:
        """Newest first; revoked ones too."""
        from mlpipe_engine.store.acceptances import AcceptanceQueries

        database = self._database()
        return AcceptanceQueries(database).all() if database else ()

    def revoke(self, acceptance: int) -> Acceptance:
        """The steps it stood for run again."""
        from mlpipe_engine.runner.accepting import revoke

        return revoke(self._writable(), acceptance)

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
        self, what: str, step: str | None = None, sink: Sink = nowhere, *, keep: bool = False, is_file: bool = False
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
        other = type(self)(place, config)
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


def _room(folder: str) -> int:
    """Bytes that may be unpacked there: nine tenths of what is free."""
    import shutil

    return shutil.disk_usage(folder).free * 9 // 10
