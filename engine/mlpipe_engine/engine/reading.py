"""Verbs that look: runs, steps, results, files, and the events of a run that goes on anywhere. They create nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mlpipe_engine.engine.project import Project
from mlpipe_engine.errors import (
    InputError,
    RunNotFoundError,
    nearest,
)  # fmt: skip
from mlpipe_engine.model.events import Event
from mlpipe_engine.model.plan import NOTHING_UNDECLARED, Undeclared
from mlpipe_engine.model.records import CheckRecord, MetricRecord, PortRows, RunRecord, StepRecord, Sweep
from mlpipe_engine.model.spec import PipelineSpec
from mlpipe_engine.model.states import FINAL, State
from mlpipe_engine.store import locks, results
from mlpipe_engine.store import runs as run_rows

if TYPE_CHECKING:
    from mlpipe_engine.model.filters import Filter
    from mlpipe_engine.model.manifest import Manifest
    from mlpipe_engine.model.views import Explanation
    from mlpipe_engine.store.listing import Listing


Sink = Callable[[Event], None]


def nowhere(event: Event) -> None:
    """A sink for callers who do not listen."""


def _clauses(wanted: Filter | None) -> tuple[list[str], list[object]]:
    if not wanted:
        return [], []
    from datetime import UTC, datetime

    from mlpipe_engine.store.filtering import clauses

    return clauses(wanted, datetime.now(UTC))


class Reading(Project):
    """A project without a store simply has no runs."""

    def runs(
        self,
        *,
        limit: int = 50,
        before: int | None = None,
        experiment: str | None = None,
        pipeline: str | None = None,
        state: str | None = None,
        wanted: Filter | None = None,
    ) -> tuple[RunRecord, ...]:
        """Newest first."""
        database = self._database()
        if database is None:
            return ()
        found = run_rows.RunQueries(database).recent(
            limit, before, experiment=experiment, pipeline=pipeline, state=state, where=_clauses(wanted)
        )
        return found if wanted is None else tuple(run for run in found if self._fits_its_lock(run, wanted))

    def _fits_its_lock(self, run: RunRecord, wanted: Filter) -> bool:
        """What only a lock can tell: whether a run that is not final is interrupted."""
        terms = [term for term in wanted.terms if term.field == "state" and run.state not in FINAL]
        gone = bool(terms) and self.is_interrupted(run)
        return all(((term.value == "interrupted") == gone) != term.negated for term in terms)

    def count_runs(self, wanted: Filter | None = None) -> int:
        """How many runs the filter lets through (interrupted ones counted among those that are not final)."""
        database = self._database()
        return run_rows.RunQueries(database).count(_clauses(wanted)) if database is not None else 0

    def listing(self) -> Listing:
        """What a list of runs shows beside their rows. Raises RunNotFoundError where there is no store yet."""
        from mlpipe_engine.store.listing import Listing

        return Listing(self._reading())

    def changes_seen(self) -> int:
        """A number that moves when another process committed something; -1 while there is no store. Costs microseconds."""
        database = self._database()
        return database.changes_seen() if database is not None else -1

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

    def interrupted(self) -> list[RunRecord]:
        """Runs that are not final and whose runner is gone. A sweep stands for its runs."""
        database = self._database()
        unfinished = run_rows.RunQueries(database).unfinished() if database else ()
        return [run for run in unfinished if run.parent is None and self.is_interrupted(run)]

    def going_on(self) -> list[RunRecord]:
        """Runs that are not final and have a living runner, oldest first: sweeps stand beside their runs."""
        database = self._database()
        unfinished = run_rows.RunQueries(database).unfinished() if database else ()
        return [run for run in unfinished if not self.is_interrupted(run)]

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

    def graph(self, spec: PipelineSpec) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Every step with those it waits for, each after all of them. Raises DefinitionError for steps that wait for each other."""
        from mlpipe_engine.planning.graph import topological, upstream

        parents = upstream(spec)
        return tuple((name, parents[name]) for name in topological(spec))

    def children(self, run_id: str) -> tuple[RunRecord, ...]:
        return self._runs().children(run_id)

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

    def port_rows(self, run_id: str) -> tuple[PortRows, ...]:
        """Rows of every input and output of a run's steps that is a table and was counted, or can be quickly."""
        from mlpipe_engine.runner.counting import port_rows

        return port_rows(self.spec(run_id), self.steps(run_id), self._reading(), self._artifacts())

    def checks(self, run_id: str) -> tuple[CheckRecord, ...]:
        """What was expected of the inputs of the steps that a run executed, and what was found."""
        from mlpipe_engine.store.row_counts import RowQueries

        return RowQueries(self._reading()).checks(self._runs().get(run_id).number)

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
        run, name, folder = self._folder_of(run_id, record)
        self._open(run, name, record, folder)
        return folder

    def _folder_of(self, run_id: str, record: StepRecord) -> tuple[RunRecord, str, str]:
        """The run and the step that made what stands there, and their folder."""
        run = self._runs().get(record.reused_from or run_id)
        made_by = results.ResultQueries(self._reading()).get(record.result_id) if record.result_id is not None else None
        name = made_by.step if made_by else record.name
        return run, name, os.path.join(self.state_dir, "runs", run.experiment, str(run.number), name)

    def _open(self, run: RunRecord, name: str, shown: StepRecord, folder: str) -> None:
        """Make the folder of a step that was put away. In a project that can only be read nothing is made."""
        from mlpipe_engine.runner import views

        if os.path.exists(f"{folder}/step.json") and (not shown.put_away or views.is_open(folder)):
            return
        made = next((step for step in self._runs().steps(run) if step.name == name), None)
        if made is not None and made.put_away and not views.is_open(folder):
            self._make_views(run, [(made, folder)])

    def _make_views(self, run: RunRecord, steps: list[tuple[StepRecord, str]]) -> None:
        from mlpipe_engine.runner import views

        if not os.access(self.state_dir, os.W_OK):
            return
        options = replace(self._runs().options(run.id), only_steps=(), until_steps=(), from_steps=(), parameters=run.parameters)
        decisions = self._unchecked(self._runs().spec(run), options)
        queries, where = results.ResultQueries(self._reading()), (self.root, self.state_dir, self.config.name)
        for step, folder in steps:
            manifest = self.manifest(run.id, step.name)
            stage = views.stager(run, step, manifest, decisions, self._artifacts(), queries, where)
            views.open_step(run, step, folder, self._artifacts(), stage)

    def interpreter_of(self, run_id: str, step: str) -> str:
        """The interpreter a step ran with and why that one; "" for a step that never started."""
        import json

        record = self.find_step(run_id, step)
        folder = self._folder_of(run_id, record)
        if not os.path.isdir(folder[2]):
            made = next((found for found in self._runs().steps(folder[0]) if found.name == folder[1]), record)
            return made.put_away
        try:
            with open(os.path.join(folder[2], "step.json"), encoding="ascii") as file:
                return str(json.load(file).get("interpreter", ""))
        except (OSError, ValueError):
            return ""

    def run_dir(self, run_id: str) -> str:
        """The folder of a run, with its steps: links for what was reused, and what was put away made anew. Raises FilesystemError."""
        from mlpipe_engine.runner import views
        from mlpipe_engine.runner.repeat import open_view

        run, steps = self._runs().get(run_id), self.steps(run_id)
        folder = os.path.join(self.state_dir, "runs", run.experiment, str(run.number))
        shown = [(step, *self._folder_of(run_id, step)) for step in steps if step.decision in ("execute", "reuse")]
        made_in: dict[str, list[tuple[str, str]]] = {}
        for _, maker, name, place in shown:
            made_in.setdefault(maker.id, []).append((name, place))
        for maker_id, places in made_in.items():
            maker = self._runs().get(maker_id)
            away = {step.name: step for step in self._runs().steps(maker) if step.put_away}
            closed = [(away[name], place) for name, place in places if name in away and not views.is_open(place)]
            if closed:
                self._make_views(maker, closed)
        if not os.access(self.state_dir, os.W_OK):
            return folder
        return open_view(self.state_dir, run, [(step, place) for step, _, _, place in shown if step.state is State.REUSED])

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

    def sizes(self, runs: tuple[RunRecord, ...]) -> dict[str, int]:
        """Bytes of the outputs each run shows, also of those it shares with others; what was collected counts for nothing."""
        database = self._database()
        return results.ResultQueries(database).sizes(runs) if database else {}

    def follow(
        self, run_id: str, sink: Sink = nowhere, *, deadline: float | None = None, poll_seconds: float = 0.1,
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

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlpipe_engine.store.documents import pairs

        run = self._runs().get(run_id)
        merged = dict(run.tags) | {str(name): str(value) for name, value in tags.items()}
        with self._writable().write() as db:
            run_rows.update_run(db, run_id, tags=pairs(sorted(merged.items())))
