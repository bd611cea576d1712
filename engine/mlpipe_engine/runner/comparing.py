"""Gathers what a comparison of runs needs from the store: indexed rows of the runs named, nothing of all the others."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlpipe_engine.errors import RunNotFoundError, nearest
from mlpipe_engine.model.compare import Comparison, FileChange, RunDiff, RunFacts, StepFacts
from mlpipe_engine.model.records import MetricRecord, RunRecord
from mlpipe_engine.model.states import State
from mlpipe_engine.planning.compare import Row, compare_runs, diff_runs
from mlpipe_engine.snapshots.lines import line_counts
from mlpipe_engine.store.documents import read_manifest
from mlpipe_engine.store.results import ResultQueries
from mlpipe_engine.store.runs import RunQueries

if TYPE_CHECKING:
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database

_TEXT_BYTES = 1 << 20


@dataclass(frozen=True)
class Shelf:
    """Where the facts of runs lie."""

    database: Database
    artifacts: ArtifactStore
    snapshots: SourceSnapshots

    def size(self, digest: str) -> int | None:
        row = ResultQueries(self.database).artifact(digest)
        return row[0].size_bytes if row is not None else None

    def lines(self, before: str, after: str) -> tuple[int, int] | None:
        left, right = self._text(before), self._text(after)
        return line_counts(left, right) if left is not None and right is not None else None

    def _text(self, digest: str) -> bytes | None:
        """A small stored file that looks like text."""
        path = self.artifacts.path(digest)
        try:
            if not os.path.isfile(path) or os.path.getsize(path) > _TEXT_BYTES:
                return None
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            return None

    def counts(self, before: str, after: str) -> tuple[int, int] | None:
        left, right = self.snapshots.read_blob(before), self.snapshots.read_blob(after)
        return line_counts(left, right) if left is not None and right is not None else None

    def metrics(self, run: RunRecord) -> tuple[MetricRecord, ...]:
        """Of the run, and of the one it mirrors."""
        queries = RunQueries(self.database)
        shown = queries.get(run.mirrors) if run.mirrors is not None else run
        return ResultQueries(self.database).metrics(shown.number, None)

    def facts(self, run: RunRecord) -> RunFacts:
        """A reused step counts as what its result was made from, not as what it looked like when it was reused."""
        queries, results = RunQueries(self.database), ResultQueries(self.database)
        spec = {step.name: step for step in queries.spec(run).steps}
        steps = []
        for record in queries.steps(run):
            result = results.get(record.result_id) if record.result_id is not None else None
            manifest = read_manifest(self.database, result.fingerprint if result is not None else record.fingerprint)
            snapshot = result.snapshot if result is not None else record.snapshot
            code = self.snapshots.load(snapshot) if snapshot else None
            steps.append(StepFacts(record=record, spec=spec[record.name], manifest=manifest, code=code))
        return RunFacts(run=run, steps=tuple(steps), metrics=self.metrics(run))


def diff(shelf: Shelf, before: RunRecord, after: RunRecord, step: str | None) -> RunDiff:
    """Raises RunNotFoundError when neither run has `step`, or one of them is a sweep."""
    for run in (before, after):
        if run.kind != "run":
            raise RunNotFoundError(
                f"run {run.number} is a {'sweep' if run.kind == 'sweep' else 'child run of a step'} and has no steps of its own",
                hint=f"Compare its runs with `mlpipe-tui compare {run.number}`." if run.kind == "sweep" else "",
            )
    left, right = shelf.facts(before), shelf.facts(after)
    names = list(dict.fromkeys(facts.record.name for facts in (*left.steps, *right.steps)))
    if step is not None and step not in names:
        close = nearest(step, names)
        raise RunNotFoundError(
            f"neither run {before.number} nor run {after.number} has a step {step!r}"
            + (f"; did you mean {close!r}?" if close else ""),
            expected="one of " + ", ".join(names),
        )
    return diff_runs(left, right, shelf, shelf.counts, step=step)


def patch(shelf: Shelf, change: FileChange) -> Iterator[str]:
    """Lines of a unified diff; one line says why there is none."""
    name = change.cause.subject
    left = shelf.snapshots.read_blob(change.before) if change.before else b""
    right = shelf.snapshots.read_blob(change.after) if change.after else b""
    if left is None or right is None:
        yield f"{name}: one of the two versions is no longer kept"
    elif b"\0" in left or b"\0" in right or max(len(left), len(right)) > _TEXT_BYTES:
        yield f"{name}: a binary or large file, {len(left):,} -> {len(right):,} bytes"
    else:
        old, new = (body.decode("utf-8", "backslashreplace").splitlines() for body in (left, right))
        before, after = ("/dev/null" if not change.before else f"a/{name}"), ("/dev/null" if not change.after else f"b/{name}")
        yield from difflib.unified_diff(old, new, before, after, lineterm="")


def compare(
    shelf: Shelf, runs: tuple[RunRecord, ...], interrupted: Callable[[RunRecord], bool], metric: str | None,
    goal: Literal["min", "max", ""], shown: tuple[str, ...],
) -> Comparison:  # fmt: skip
    queries = RunQueries(shelf.database)
    rows: list[Row] = []
    for run in runs:
        steps = queries.steps(run)
        reused = sum(1 for step in steps if step.state is State.REUSED)
        rows.append((run, interrupted(run), shelf.metrics(run), reused, len(steps)))
    return compare_runs(rows, shown=shown, metric=metric, goal=goal)
