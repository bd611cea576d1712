"""Comparisons as values: what counts as a difference, what is best."""

from __future__ import annotations

import json

import pytest
from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.compare import RunFacts, StepFacts
from mlpipe_engine.model.manifest import Manifest, ManifestEntry, Section
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import Json, StepSpec
from mlpipe_engine.model.states import State
from mlpipe_engine.planning.compare import compare_runs, diff_runs, last_scalars


class Nothing:
    """A store that has no bytes any more."""

    def size(self, digest: str) -> int | None:
        return None

    def lines(self, before: str, after: str) -> tuple[int, int] | None:
        return None


def run(number: int, **parameters: Json) -> RunRecord:
    return RunRecord(
        id=f"{number:032x}", number=number, pipeline="p", experiment="e", state=State.SUCCEEDED, created_at="",
        parameters=tuple(sorted(parameters.items())),
    )  # fmt: skip


def metric(step: str, name: str, value: object) -> MetricRecord:
    return MetricRecord(run_id="", step=step, name=name, kind="scalar", value=json.dumps(value))


def step(name: str, *entries: ManifestEntry, outputs: tuple[tuple[str, str], ...] = (), result: int | None = None) -> StepFacts:
    manifest = Manifest.of(list(entries))
    record = StepRecord(
        run_id="", name=name, index=0, state=State.SUCCEEDED, fingerprint=manifest.fingerprint, outputs=outputs, result_id=result
    )
    return StepFacts(record=record, spec=StepSpec(name=name, kind="shell"), manifest=manifest)


def pandas(version: str) -> ManifestEntry:
    return ManifestEntry(Section.ENVIRONMENT, "distribution pandas", (version, f"digest of {version}"))


def diff(left: RunFacts, right: RunFacts):  # type: ignore[no-untyped-def]
    return diff_runs(left, right, Nothing(), lambda before, after: None)


def test_parameters_are_typed_and_may_be_missing() -> None:
    found = diff(RunFacts(run=run(1, a=1, b=1, c="x"), steps=()), RunFacts(run=run(2, a=1.0, b=1, d=None), steps=()))
    assert [(change.name, change.in_before, change.in_after) for change in found.parameters] == [
        ("a", True, True), ("c", True, False), ("d", False, True)
    ]  # fmt: skip
    assert not found.equal


def test_an_environment_that_changed_for_all_steps_is_told_once() -> None:
    left = RunFacts(run=run(1), steps=(step("a", pandas("2.2")), step("b", pandas("2.2"))))
    right = RunFacts(run=run(2), steps=(step("a", pandas("2.3")), step("b", pandas("2.3"))))
    (shared,) = diff(left, right).environment
    assert str(shared.cause) == "pandas 2.2 -> 2.3" and shared.steps == ("a", "b")


def test_added_removed_and_renamed_steps() -> None:
    same = ManifestEntry(Section.STEP, "script", "x.py")
    left = RunFacts(run=run(1), steps=(step("old", same), step("gone", pandas("1"))))
    right = RunFacts(run=run(2), steps=(step("new", same), step("fresh", pandas("3"))))
    assert [(found.name, found.before_name, found.status) for found in diff(left, right).steps] == [
        ("new", "old", "renamed"), ("fresh", "", "added"), ("gone", "", "removed")
    ]  # fmt: skip


def test_equal_runs_are_equal_whatever_their_states_and_times() -> None:
    entry = ManifestEntry(Section.STEP, "script", "x.py")
    left = RunFacts(run=run(1), steps=(step("a", entry),), metrics=(metric("a", "m", 1),))
    found = diff(left, RunFacts(run=run(2), steps=(step("a", entry),), metrics=(metric("a", "m", 1.0),)))
    assert found.equal and found.equal_metrics == 1


def test_metrics_have_deltas() -> None:
    left = RunFacts(run=run(1), steps=(), metrics=(metric("a", "rmse", 4.0), metric("a", "zero", 0)))
    right = RunFacts(run=run(2), steps=(), metrics=(metric("a", "rmse", 9), metric("a", "rmse", 3.0), metric("a", "zero", 1)))
    rmse, zero = diff(left, right).metrics
    assert (rmse.before, rmse.after, rmse.delta, rmse.relative) == (4.0, 3.0, -1.0, -0.25)
    assert (zero.delta, zero.relative) == (1.0, None)


def test_only_finite_numbers_are_compared() -> None:
    metrics = [metric("a", "m", value) for value in (1, True, "NaN", None)]
    assert last_scalars(metrics) == {("a", "m"): 1.0}


def rows(*found: tuple[RunRecord, tuple[MetricRecord, ...]]):  # type: ignore[no-untyped-def]
    return [(record, False, metrics, 0, 1) for record, metrics in found]


def test_a_comparison_shows_what_varies_and_marks_the_best() -> None:
    table = rows(
        (run(1, lr=0.1, seed=7), (metric("train", "rmse", 3), metric("train", "loss", 1), metric("test", "loss", 2))),
        (run(2, lr=0.2, seed=7), (metric("train", "rmse", 2),)),
        (run(3, lr=0.3, seed=7), ()),
        (run(4, lr=0.4, seed=7), (metric("train", "rmse", 2),)),
    )
    found = compare_runs(table, metric="rmse", goal="min")
    assert found.parameters == ("lr",) and found.metrics == ("rmse", "train.loss", "test.loss")
    assert [(row.run.number, row.best) for row in found.rows] == [(2, True), (4, True), (1, False), (3, False)]
    assert [row.run.number for row in compare_runs(table, metric="rmse", goal="max").rows] == [1, 2, 4, 3]
    assert compare_runs(table, shown=("seed",)).parameters == ("lr", "seed")


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(UsageError, match="did you mean 'rmse'"):
        compare_runs(rows((run(1), (metric("a", "rmse", 1),))), metric="rsme", goal="min")
