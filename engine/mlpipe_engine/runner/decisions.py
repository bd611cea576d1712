"""Decides steps one by one, for a plan and for a run alike: the same code, so that a plan is what a run does.

Reads the store; writes nothing. What a run learns in between (outputs, metrics) is told to `note_outputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

from mlpipe_engine.errors import InputError
from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.plan import Cause, Execute, Result, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.spec import (
    InputSpec,
    Json,
    PathSource,
    PipelineSpec,
    StepOutputSource,
    StepSpec,
    SubmitOptions,
    VersionSource,
)  # fmt: skip
from mlpipe_engine.model.trees import Tree
from mlpipe_engine.planning.fingerprint import step_manifest
from mlpipe_engine.planning.planner import Lookup, Previous, Surroundings, decide
from mlpipe_engine.runner.resolve import Resolver, platform_tag
from mlpipe_engine.store.acceptances import AcceptanceQueries
from mlpipe_engine.store.documents import read_manifest

if TYPE_CHECKING:
    from mlpipe_engine.model.records import Acceptance
    from mlpipe_engine.runner.dataset_inputs import DatasetInputs
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database
    from mlpipe_engine.store.results import ResultQueries

MetricLookup = Callable[[str, str], float | None]


class Trees(Mapping[str, Tree]):
    """Code trees of earlier executions, read when asked for."""

    def __init__(self, snapshots: SourceSnapshots) -> None:
        self._snapshots = snapshots
        self._known: dict[str, Tree | None] = {}

    def __getitem__(self, digest: str) -> Tree:
        if digest not in self._known:
            self._known[digest] = self._snapshots.load(digest) if digest else None
        tree = self._known[digest]
        if tree is None:
            raise KeyError(digest)
        return tree

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Decisions:
    """`database` and `results` are None in a project that has no store yet."""

    def __init__(
        self,
        spec: PipelineSpec,
        options: SubmitOptions,
        parameters: Mapping[str, Json],
        resolver: Resolver,
        snapshots: SourceSnapshots,
        artifacts: ArtifactStore,
        database: Database | None,
        results: ResultQueries | None,
        default_compute: str,
        as_written: PipelineSpec | None = None,
    ) -> None:
        self.spec = spec
        self.as_written = as_written or spec
        """Before names of datasets were looked up in it."""
        self.options = options
        self.parameters = parameters
        self.resolver = resolver
        self.snapshots = snapshots
        self.artifacts = artifacts
        self._database = database
        self._results = results
        self._default_compute = default_compute
        self._trees = Trees(snapshots)
        self._outputs: dict[tuple[str, str], str] = {}
        self._assumed: dict[tuple[str, str], str] = {}
        """Of steps that the run leaves out: nothing makes them again."""
        self._changed: dict[str, tuple[str, str]] = {}
        self.expected: dict[str, float] = results.expected_seconds(spec.name) if results else {}
        self.lost: list[tuple[str, str]] = []
        """(artifact, what is wrong) of damaged artifacts that were met; a run moves them to quarantine."""
        self.refreshed: dict[str, str] = {}
        """New stat signatures of artifacts whose inodes changed while their bytes did not (a project that was moved)."""
        self._checked: dict[str, bool] = {}
        self.epoch = results.epoch() if results else 0
        self._planned: dict[str, StepPlan] = {}
        self._first: dict[int, bool] = {}
        """Run number -> whether no earlier run has a step of this pipeline: then there is nothing to compare with."""
        self.parents: Mapping[str, tuple[str, ...]] | None = None
        """Direct upstream steps of every step, where somebody has worked them out already."""

    def renewed(self, resolver: Resolver) -> Decisions:
        """The same pipeline and options, with nothing decided yet, on what `resolver` sees."""
        other = copy(self)
        other.resolver = resolver
        other._outputs, other._assumed, other._changed, other._planned = {}, {}, {}, {}
        other.lost, other.refreshed, other._checked = [], {}, {}
        other._first = {}
        other.epoch = self._results.epoch() if self._results else 0
        return other

    def store_epoch(self) -> int:
        """A number that grows with every result that is added, withdrawn or accepted, by whichever process."""
        return self._results.epoch() if self._results else 0

    def use_store(self, database: Database, results: ResultQueries, artifacts: ArtifactStore) -> None:
        """What a run goes on with: a store that may not have existed when its inputs were checked, and the one artifact store
        it also publishes to, which remembers what it has seen."""
        self._database, self._results, self.artifacts = database, results, artifacts
        self.lost.clear()
        self._checked.clear()  # from here on what is looked at is also protected from being collected
        self._outputs = dict(self._assumed)  # those of planned steps are noted again as each is decided
        for digest in filter(None, self._outputs.values()):
            if not self._intact(digest):
                raise InputError(
                    "a result this run was going to use was collected at this moment", hint="Run the same command again."
                )

    def compute_of(self, step: StepSpec) -> str:
        return self.options.compute or step.compute or self._default_compute

    def note_outputs(self, step: str, outputs: Mapping[str, str]) -> None:
        for name, digest in outputs.items():
            self._outputs[step, name] = digest

    def note_changed(self, step: str, causes: tuple[Cause, ...]) -> None:
        """`step` ran because of `causes`; steps below name it, or its own root, as the root cause."""
        first = causes[0]
        root = first.root or step
        self._changed[step] = (root, first.detail if first.root else str(first))

    def output(self, step: str, name: str) -> str | None:
        return self._outputs.get((step, name))

    def metrics_of(self, result: Result) -> list[tuple[str, float]]:
        """Scalar values a reused execution logged, in order, for conditions of steps below."""
        import json

        found = []
        for metric in self._results.metrics(result.run_number, result.step) if self._results else ():
            value = json.loads(metric.value)
            if metric.kind == "scalar" and isinstance(value, int | float) and not isinstance(value, bool):
                found.append((metric.name, float(value)))
        return found

    def waiting_on(self, step: StepSpec, unknown: set[str]) -> tuple[str, ...]:
        """Steps in `unknown` whose outputs or metrics this step needs, and its environment where that is not built yet."""
        from mlpipe_engine.planning.conditions import names

        needed = [item.source.step for item in step.inputs if isinstance(item.source, StepOutputSource)]
        if step.when:
            needed.extend(producer for producer, _ in names(step.when)[1])
        waiting = tuple(dict.fromkeys(name for name in needed if name in unknown))
        unbuilt = self.resolver.unbuilt(step, self.compute_of(step))
        return waiting if unbuilt is None else (f"environment {unbuilt}", *waiting)

    def assume(self, step: StepSpec) -> None:
        """Take the last result of a step that this run leaves out. Raises InputError when there is none."""
        last = self._results.last_of_step(self.spec.name, step.name) if self._results else None
        result = self._results.get(last[4]) if self._results and last and last[4] is not None else None
        if result is None or not self._whole(result):
            raise InputError(
                f"step {step.name!r} is left out of this run, but has no result that could be used",
                where=step.where,
                hint=f"Run it first: mlpipe-tui run {self.spec.name} --step {step.name!r}",
            )
        self.leave_out(step.name, result)

    def leave_out(self, step: str, result: Result) -> None:
        """The run takes this result of a step as it is, and does not look at the step."""
        self.note_outputs(step, dict(result.outputs))
        self._assumed |= {(step, name): digest for name, digest in result.outputs}

    def manifest(self, step: StepSpec) -> tuple[Manifest, Tree | None]:
        """Prereq: the outputs of every step before it are noted. Raises InputError, SnapshotError, EnvironmentProblem."""
        code = self.resolver.code(step, self.compute_of(step))
        inputs = {item.name: self.content(item, step) for item in step.inputs}
        uses = {
            item.name: self.datasets.identity(item, step, inputs[item.name], self.artifacts)
            for item in step.inputs
            if item.use is not None and inputs[item.name]
        }
        return (
            step_manifest(
                step,
                parameters=self.parameters,
                inputs=inputs,
                uses=uses,
                environment=self.resolver.environment(step, self.compute_of(step)),
                code=code,
                platform=platform_tag(),
            ),
            code,
        )

    def content(self, item: InputSpec, step: StepSpec) -> str:
        """Digest of the bytes of an input, before anything is made of them. Raises InputError, SnapshotError."""
        if item.use is not None and item.use.chooses_files:
            return self.datasets.chosen_content(item, step)
        if item.use is not None and self.datasets.asks_database(item):
            return self.datasets.answer(item, step).digest
        match item.source:
            case StepOutputSource(producer, output):
                return self._outputs[producer, output]
            case PathSource():
                return self.resolver.path_input(item.source, step).tree.digest
            case VersionSource():
                raise AssertionError("versions are looked up before anything is decided")

    def check_input(self, item: InputSpec, step: StepSpec) -> None:
        """Raises InputError for an input that is not there, or unfit: a registered version whose files are others now."""
        from mlpipe_engine.runner.versions import check_pinned

        if isinstance(item.source, PathSource) and not (item.use is not None and self.datasets.asks_database(item)):
            self.resolver.path_input(item.source, step)
        check_pinned(item, step, self)

    @cached_property
    def datasets(self) -> DatasetInputs:
        from mlpipe_engine.runner.dataset_inputs import DatasetInputs
        from mlpipe_engine.runner.record import utc_now

        return DatasetInputs(self.resolver.places, self.resolver.stats, utc_now().rstrip("Z"))

    def table(self, key: str) -> str | None:
        """The artifact that holds a table which was made earlier, if it is still there and whole."""
        from mlpipe_engine.store.row_counts import RowQueries

        found = RowQueries(self._database).table(key) if self._database is not None else None
        return found if found is not None and self._intact(found) else None

    def keep_plan(self, plans: Iterable[StepPlan]) -> None:
        """Decisions of a plan that was just made stand for the run that follows it: what was decided once is not decided again."""
        if self.lost:
            return
        conditional = {step.name for step in self.spec.steps if step.when}
        self._planned = {plan.step: plan for plan in plans if isinstance(plan.decision, Reuse | Execute) and plan.manifest}
        for name in conditional:
            self._planned.pop(name, None)

    def is_planned_reuse(self, step: str) -> bool:
        """Whether the plan made just before found a result to use again."""
        plan = self._planned.get(step)
        return plan is not None and isinstance(plan.decision, Reuse)

    def decide(self, step: StepSpec, metrics: MetricLookup, before_run: int | None = None) -> StepPlan:
        """The decision for a step all of whose inputs are known. `before_run`: compare with runs before that number."""
        planned = self._planned.pop(step.name, None)
        if planned is not None and (isinstance(planned.decision, Execute) or self._whole(planned.decision.result)):  # type: ignore[union-attr]
            return planned
        if (
            planned is not None
        ):  # collected or damaged since: what was decided of steps below rests on bytes that may be others now
            self._planned.clear()
        skipped = self._skip(step, metrics)
        expected = self.expected.get(step.name)
        if skipped is not None:
            return StepPlan(step=step.name, decision=skipped, expected_seconds=expected)
        manifest, code = self.manifest(step)
        forced = self.options.force or step.name in self.options.force_steps
        lookup = self._lookup(step, manifest, code, forced, before_run)
        upstream = {
            item.name: self._changed[item.source.step]
            for item in step.inputs
            if isinstance(item.source, StepOutputSource) and item.source.step in self._changed
        }
        decision = decide(
            step, manifest, code, lookup, forced=forced, upstream=upstream, trees=self._trees, counts=self.line_counts,
            around=self._around(step),
        )  # fmt: skip
        return StepPlan(step=step.name, decision=decision, manifest=manifest, code=code, expected_seconds=expected)

    def again(self, step: StepSpec, plan: StepPlan) -> Result | None:
        """Look once more for a result that another process may have made since; None while forced or not reusable."""
        from mlpipe_engine.planning.planner import matches

        if self.options.force or step.name in self.options.force_steps or not step.allow_reuse or plan.manifest is None:
            return None
        keys = plan.manifest.base_key, plan.manifest.loose_key
        for result in self._results.by_base_key(*keys) if self._results else ():
            if matches(result, plan.code, step, self._around(step)) and self._whole(result):
                return result
        return None

    def _around(self, step: StepSpec) -> Surroundings:
        return self.resolver.surroundings(step, self.compute_of(step))

    def undecided(self, step: StepSpec, waiting_on: tuple[str, ...]) -> StepPlan:
        """Forced steps and steps that never reuse are decided even before their inputs are known."""
        expected = self.expected.get(step.name)
        decision: Execute | Undecided = Undecided(waiting_on)
        if not step.when:
            if self.options.force or step.name in self.options.force_steps:
                decision = Execute((Cause(kind="forced", subject="asked to run again"),))
            elif not step.allow_reuse:
                decision = Execute((Cause(kind="disabled", subject="allow_reuse is off for this step"),))
        return StepPlan(step=step.name, decision=decision, expected_seconds=expected)

    def _skip(self, step: StepSpec, metrics: MetricLookup) -> Skip | None:
        if not step.when:
            return None
        from mlpipe_engine.planning.conditions import evaluate

        if evaluate(step.when, self.parameters, metrics):
            return None
        return Skip((Cause(kind="condition", subject=f"when {step.when}", detail="is not true"),))

    def _lookup(self, step: StepSpec, manifest: Manifest, code: Tree | None, forced: bool, before: int | None) -> Lookup:
        if self._results is None or self._database is None:
            return Lookup()
        whole: list[Result] = []
        lost: list[Result] = []
        if step.allow_reuse and not forced:
            from mlpipe_engine.planning.planner import matches

            around = self._around(step)
            for result in self._results.by_base_key(manifest.base_key, manifest.loose_key):
                if not matches(result, code, step, around):
                    continue
                if self._whole(result):
                    return Lookup(candidates=(result,))
                lost.append(result)
            accepted = self._accepted(manifest.fingerprint)
            if accepted is not None:
                return Lookup(accepted=accepted)
        gone = frozenset(result.id for result in lost if self._was_collected(result))
        return Lookup(candidates=whole, lost=lost, collected=gone, previous=self._previous(step, before))

    def _accepted(self, fingerprint: str) -> tuple[Acceptance, Result] | None:
        assert self._results is not None and self._database is not None
        found = AcceptanceQueries(self._database).valid_for(fingerprint)
        result = self._results.get(found.result_id) if found is not None else None
        return (found, result) if found is not None and result is not None and self.whole(result) else None

    def _previous(self, step: StepSpec, before: int | None) -> Previous | None:
        assert self._results is not None and self._database is not None
        if before is not None:
            first = self._first.get(before)
            if first is None:
                first = self._first[before] = not self._results.has_run(self.spec.name, before)
            if first:
                return None
        last = self._results.last_of_step(self.spec.name, step.name, before)
        if last is None:
            return None
        number, state, outcome, fingerprint, result_id = last
        result = self._results.get(result_id) if result_id is not None else None
        if result is not None:
            fingerprint = result.fingerprint
        manifest = read_manifest(self._database, fingerprint)
        tree = self._trees.get(_snapshot_of(manifest)) if manifest else None
        return Previous(result=result, manifest=manifest, code=tree, run_number=number, outcome=outcome or state)

    def whole(self, result: Result) -> bool:
        """Whether the outputs of a result are still there and unharmed."""
        return self._whole(result)

    def _whole(self, result: Result) -> bool:
        return all(self._intact(digest) for _, digest in result.outputs if digest)

    def _was_collected(self, result: Result) -> bool:
        return self._results is not None and any(self._results.is_collected(digest) for _, digest in result.outputs if digest)

    def _intact(self, digest: str) -> bool:
        known = self._checked.get(digest)
        if known is None:
            known = self._checked[digest] = self._check(digest)
        return known

    def _check(self, digest: str) -> bool:
        row = self._results.artifact(digest) if self._results else None
        if row is None:
            return False
        verdict = self.artifacts.intact(digest, row[1])
        if not verdict.whole and self._results is not None and self._results.is_collected(digest):
            return False  # on purpose: nothing is damaged
        if verdict.signature and verdict.signature != row[1]:
            self.refreshed[digest] = verdict.signature
        if not verdict.whole:
            self.lost.append((digest, verdict.problem))
        return verdict.whole

    def line_counts(self, before: str, after: str) -> tuple[int, int] | None:
        from mlpipe_engine.snapshots.lines import line_counts

        left, right = self.snapshots.read_blob(before), self._read_now(after)
        return None if left is None or right is None else line_counts(left, right)

    def _read_now(self, digest: str) -> bytes | None:
        stored = self.snapshots.read_blob(digest)
        return stored if stored is not None else self.snapshots.read_scanned(digest)


def _snapshot_of(manifest: Manifest) -> str:
    for entry in manifest.entries:
        if entry.section.value == "code":
            return str(entry.value)
    return ""
