"""Runs in which nothing is left to do: one row that points at the run whose results they repeat, and what makes the next one quick.

A run repeats another when pipeline, parameters and every result are the same and nothing else is worth a word. Called by `engine`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from mlpipe_engine.definitions.witness import signature_of
from mlpipe_engine.errors import FilesystemError, MlpipeError
from mlpipe_engine.executors.choosing import SHIM_VARIABLES
from mlpipe_engine.model import wire
from mlpipe_engine.model.plan import Reuse, StepPlan
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import State
from mlpipe_engine.store import results, runs
from mlpipe_engine.store.database import VERSION
from mlpipe_engine.store.documents import document_digest
from mlpipe_engine.store.uptodate import SHOWN_STEPS, Witness, timestamp

if TYPE_CHECKING:
    from mlpipe_engine.definitions.loader import Definitions
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database


@dataclass(frozen=True, kw_only=True)
class Repeater:
    """`definitions` is None when the pipeline did not come from the project's definition files."""

    root: str
    state_dir: str
    config: tuple[str, os.stat_result | None]
    """mlpipe.toml, and its stat from before it was read: what it says now may not be what the decisions rest on."""
    database: Database
    artifacts: ArtifactStore
    stats: StatCache
    definitions: Definitions | None

    def repeat(
        self, spec: PipelineSpec, options: SubmitOptions, decisions: Decisions, plans: tuple[StepPlan, ...], texts: Mapping[str, str]
    ) -> str | None:  # fmt: skip
        """Id of the new run when everything is reused from one earlier run; None: it takes a run of its own rows.

        `texts` and what the decisions learnt are kept in the same transaction. Raises FilesystemError, LockTimeoutError.
        """
        earlier = self._earlier(spec, decisions, plans) if not _delivers(spec) else None
        if earlier is None:
            return None
        began, run_id, now = time.monotonic(), uuid4().hex, timestamp()
        queries = runs.RunQueries(self.database)
        entry = self._entry(spec, options, queries.steps(queries.by_number(earlier)), earlier)
        rows = decisions.resolver.stat_rows()
        with self.database.write() as db:
            runs.insert_mirror(db, run_id, earlier, options, now, time.monotonic() - began)
            for key, text in (*texts.items(), *decisions.resolver.to_cache.items()):
                results.put_cached(db, key, text)
            results.put_stat_rows(db, rows)
            if entry is not None:
                results.put_uptodate(db, options.request, earlier, entry, decisions.epoch)
        return run_id

    def keep(self, run: RunRecord, spec: PipelineSpec, options: SubmitOptions, decisions: Decisions) -> None:
        """After a run that ended well: what has to stay as it is for the next one to be up to date. A failure here changes nothing."""
        queries = runs.RunQueries(self.database)
        steps = queries.steps(run)
        if (
            run.state is not State.SUCCEEDED
            or decisions.lost
            or any(step.state not in (State.SUCCEEDED, State.REUSED) for step in steps)
        ):
            return
        if any(step.error for step in steps) or any(not step.allow_reuse for step in spec.steps):
            return
        entry = self._entry(spec, options, steps, run.number)
        if entry is None:
            return
        made = self.database.query("SELECT count(*) FROM results WHERE run = ?", (run.number,))[0][0]
        try:
            with self.database.write() as db:
                results.put_uptodate(db, options.request, run.number, entry, decisions.epoch + int(str(made)))
        except MlpipeError:
            return

    def _earlier(self, spec: PipelineSpec, decisions: Decisions, plans: tuple[StepPlan, ...]) -> int | None:
        """Number of the run whose rows say exactly what this one's would."""
        queries = runs.RunQueries(self.database)
        parameters = wire.dump(tuple(decisions.parameters.items()))
        number = queries.latest_like(spec.name, document_digest(wire.dump_once(spec)), parameters)
        if number is None:
            return None
        rows = {step.name: step for step in queries.steps(queries.by_number(number))}
        return number if len(rows) == len(plans) and all(_says_the_same(plan, rows.get(plan.step)) for plan in plans) else None

    def _entry(self, spec: PipelineSpec, options: SubmitOptions, steps: tuple[StepRecord, ...], run: int) -> bytes | None:
        """What `store.uptodate` compares; None when stats alone could not tell that something changed."""
        definitions = self.definitions
        if not options.request or definitions is None or not definitions.cacheable or definitions.errors or definitions.effects:
            return None
        if (
            self.stats.unwatchable
            or _delivers(spec)
            or not any(known is spec or wire.dump(known) == wire.dump_once(spec) for known in definitions.pipelines)
        ):
            return None
        witness = Witness(self.root, self.stats.since_ns)
        self.stats.saw(*self.config)
        for path in _git_files(self.root):
            self.stats.look(path)
        witness.saw(self.stats.seen)
        witness.saw(self.stats.followed, followed=True)
        for name in ("VIRTUAL_ENV", "CONDA_PREFIX", *SHIM_VARIABLES):
            witness.variable(name, os.environ.get(name))
        if not _saw_definitions(witness, definitions):
            return None
        try:
            for digest in {digest for step in steps for _, digest in step.outputs if digest}:
                for path, stat in self.artifacts.stats(digest):
                    witness.stored(path, stat)
        except FilesystemError:
            return None
        facts = {
            "pipeline": spec.name, "experiment": options.experiment, "options": wire.dump(options), "steps": str(len(steps)),
            "saved": repr(sum(step.seconds or 0.0 for step in steps)), "lines": self._lines(steps, run),
        }  # fmt: skip
        return witness.body(VERSION, facts)

    def _lines(self, steps: tuple[StepRecord, ...], run: int) -> str:
        if len(steps) > SHOWN_STEPS:
            return "-"
        queries = runs.RunQueries(self.database)
        made_in = {step.reused_from: queries.get(step.reused_from).number for step in steps if step.reused_from}
        return "\n".join(
            f"{made_in[step.reused_from] if step.reused_from else run} {step.seconds or 0.0!r} {step.name}" for step in steps
        )


def _delivers(spec: PipelineSpec) -> bool:
    """Whether destinations have to be looked at: a run of its own rows does that."""
    if not any(output.datastore for step in spec.steps for output in step.outputs):
        return False
    from mlpipe_engine.runner.delivering import delivers

    return delivers(spec)


def _says_the_same(plan: StepPlan, row: StepRecord | None) -> bool:
    """An executed row of the earlier run becomes "reused"; a reused one keeps what it said had changed without being read."""
    if row is None or not isinstance(plan.decision, Reuse) or row.result_id != plan.decision.result.id:
        return False
    return plan.decision.note == (row.unread if row.state is State.REUSED else ())


def _saw_definitions(witness: Witness, definitions: Definitions) -> bool:
    """False when something the definitions used is no longer what it was when they were loaded."""
    for kind, name, signature in definitions.witness:
        if signature_of(kind, name, os.environ) != signature:
            return False
        if kind == "env":
            witness.variable(name, os.environ.get(name))
        elif kind == "stat":
            witness.asked(name, _mode(name))
        else:
            witness.saw({name: _stat(name)}, followed=True)
    return True


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _mode(path: str) -> str:
    found = _stat(path)
    return "-" if found is None else str(found.st_mode)


def _git_files(folder: str) -> list[str]:
    """They change with every commit and every checkout: a run after one tells its own commit."""
    while True:
        place = os.path.join(folder, ".git")
        if os.path.lexists(place):
            return [place] if os.path.isfile(place) else [f"{place}/HEAD", f"{place}/logs/HEAD"]
        if folder == os.path.dirname(folder):
            return []
        folder = os.path.dirname(folder)


def open_view(state_dir: str, run: RunRecord, steps: Iterable[tuple[StepRecord, str]]) -> str:
    """The folder of a run; that of one that repeats another is made now, with a link for every step. Raises FilesystemError.

    `steps`: records with the folder of the execution that made each.
    """
    folder = os.path.join(state_dir, "runs", run.experiment, str(run.number))
    try:
        os.makedirs(folder, exist_ok=True)
        for step, made_in in steps:
            if not os.path.lexists(f"{folder}/{step.name}"):
                os.symlink(os.path.relpath(made_in, folder), f"{folder}/{step.name}")
    except OSError as error:
        raise FilesystemError.of(error, "make the folder of the run", folder) from error
    return folder
