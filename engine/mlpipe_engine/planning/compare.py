"""What differs between two runs, and many runs side by side. Pure; `explain` compares manifests and trees, nothing else does.

Bytes and sizes come from outside through `Contents`, because they need the store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from mlpipe_engine.errors import UsageError, nearest
from mlpipe_engine.model.compare import (
    ComparedRun,
    Comparison,
    ContentChange,
    FileChange,
    MetricChange,
    RunDiff,
    RunFacts,
    SharedCause,
    StepDiff,
    StepFacts,
    ValueChange,
)  # fmt: skip
from mlpipe_engine.model.encoding import encode
from mlpipe_engine.model.manifest import Manifest, Section
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.records import MetricRecord, RunRecord
from mlpipe_engine.model.spec import Json
from mlpipe_engine.model.trees import Entry
from mlpipe_engine.planning.explain import LineCounts, code_causes, manifest_causes

_MISSING = object()
_ENVIRONMENT = ("environment", "distribution")


class Contents(Protocol):
    """What the store knows of stored bytes."""

    def size(self, digest: str) -> int | None:
        """None when the bytes are not in the store."""

    def lines(self, before: str, after: str) -> tuple[int, int] | None:
        """(+added, -removed) of two small text files, else None."""


def diff_runs(before: RunFacts, after: RunFacts, contents: Contents, counts: LineCounts, *, step: str | None = None) -> RunDiff:
    """`step`: only this one; the caller has checked that one of the runs has it."""
    pairs = _pairs(before.steps, after.steps)
    if step is not None:
        pairs = [
            pair for pair in pairs if step in (pair[0].record.name if pair[0] else "", pair[1].record.name if pair[1] else "")
        ]
    code: dict[tuple[str, str, str], FileChange] = {}
    environment: dict[Cause, tuple[str, ...]] = {}
    steps = tuple(_step(left, right, contents, counts, code, environment) for left, right in pairs)
    metrics, equal = _metrics(before.metrics, after.metrics, step, {diff.before_name or diff.name: diff.name for diff in steps})
    return RunDiff(
        before=before.run, after=after.run, parameters=_values(before.run.parameters, after.run.parameters), code=tuple(code.values()),
        environment=tuple(SharedCause(cause=cause, steps=names) for cause, names in environment.items()),
        steps=steps, metrics=metrics, equal_metrics=equal,
    )  # fmt: skip


def _pairs(before: Sequence[StepFacts], after: Sequence[StepFacts]) -> list[tuple[StepFacts | None, StepFacts | None]]:
    """Steps of one name; then steps of two names with the same manifest or the same result: a step was renamed."""
    old, new = {step.record.name: step for step in before}, {step.record.name: step for step in after}
    gone = [step for name, step in old.items() if name not in new]
    pairs: list[tuple[StepFacts | None, StepFacts | None]] = []
    for name, step in new.items():
        partner = old.get(name) or next((left for left in gone if _same_work(left, step)), None)
        if partner in gone:
            gone.remove(partner)
        pairs.append((partner, step))
    return pairs + [(step, None) for step in gone]


def _same_work(left: StepFacts, right: StepFacts) -> bool:
    if left.record.result_id is not None and left.record.result_id == right.record.result_id:
        return True
    return left.manifest is not None and right.manifest is not None and left.manifest.fingerprint == right.manifest.fingerprint


def _step(
    left: StepFacts | None, right: StepFacts | None, contents: Contents, counts: LineCounts,
    code: dict[tuple[str, str, str], FileChange], environment: dict[Cause, tuple[str, ...]],
) -> StepDiff:  # fmt: skip
    if left is None or right is None:
        only = left or right
        assert only is not None
        return StepDiff(
            name=only.record.name, status="removed" if right is None else "added",
            before=left.record if left else None, after=right.record if right else None,
        )  # fmt: skip
    causes: list[Cause] = []
    inputs: tuple[ContentChange, ...] = ()
    unknown = False
    name = right.record.name
    if left.manifest is not None and right.manifest is not None and left.manifest.fingerprint != right.manifest.fingerprint:
        for cause in manifest_causes(left.manifest, right.manifest, right.spec, {}):
            if cause.kind in _ENVIRONMENT:
                environment[cause] = (*environment.get(cause, ()), name)
            elif cause.kind != "input" and not (cause.kind == "file" and left.code is not None and right.code is not None):
                causes.append(cause)
        inputs = _contents(_inputs(left.manifest), _inputs(right.manifest), contents)
        unknown = _code(left, right, counts, code)
    outputs = _contents(dict(left.record.outputs), dict(right.record.outputs), contents)
    has_code = any(name in change.steps for change in code.values()) or unknown
    changed = bool(causes or inputs or outputs or has_code or any(name in steps for steps in environment.values()))
    renamed = left.record.name != name
    return StepDiff(
        name=name, before_name=left.record.name if renamed else "", status="changed" if changed else "renamed" if renamed else "same",
        before=left.record, after=right.record, causes=tuple(causes), inputs=inputs, outputs=outputs,
        equal_outputs=len(right.record.outputs) - sum(1 for change in outputs if change.after), code_unknown=unknown,
    )  # fmt: skip


def _code(left: StepFacts, right: StepFacts, counts: LineCounts, found: dict[tuple[str, str, str], FileChange]) -> bool:
    """Adds changed files to `found`; True when the code differs but cannot be compared any more."""
    if left.code is None or right.code is None:
        return _snapshot(left.manifest) != _snapshot(right.manifest)
    folder = right.spec.source_directory or ""
    prefix = "" if folder in ("", ".") else folder.rstrip("/") + "/"
    for cause in code_causes(left.code, right.code, counts, prefix=prefix):
        path = cause.subject[len(prefix) :]
        before, after = _digest(left.code.by_path.get(path)), _digest(right.code.by_path.get(path))
        known = found.get((cause.subject, before, after))
        steps = (*(known.steps if known else ()), right.record.name)
        found[cause.subject, before, after] = FileChange(cause=cause, before=before, after=after, steps=steps)
    return False


def _digest(entry: Entry | None) -> str:
    return entry.digest if entry is not None and entry.kind in "fx" else ""


def _snapshot(manifest: Manifest | None) -> str:
    entries = manifest.entries if manifest is not None else ()
    return next((str(entry.value) for entry in entries if entry.section is Section.CODE), "")


def _inputs(manifest: Manifest) -> dict[str, str]:
    found = {}
    for entry in manifest.entries:
        if entry.section is Section.INPUT and isinstance(entry.value, list | tuple):
            found[entry.name] = str(entry.value[2])
    return found


def _contents(before: Mapping[str, str], after: Mapping[str, str], contents: Contents) -> tuple[ContentChange, ...]:
    changes = []
    for name in [*after, *(name for name in before if name not in after)]:
        left, right = before.get(name, ""), after.get(name, "")
        if left != right:
            changes.append(ContentChange(
                name=name, before=left, after=right, before_bytes=contents.size(left) if left else None,
                after_bytes=contents.size(right) if right else None, lines=contents.lines(left, right) if left and right else None,
            ))  # fmt: skip
    return tuple(changes)


def _values(before: Iterable[tuple[str, Json]], after: Iterable[tuple[str, Json]]) -> tuple[ValueChange, ...]:
    """Typed: 1, 1.0 and True differ."""
    old, new = dict(before), dict(after)
    changes = []
    for name in sorted(old.keys() | new.keys()):
        left, right = old.get(name, _MISSING), new.get(name, _MISSING)
        if left is _MISSING or right is _MISSING:
            changes.append(
                ValueChange(name=name, before=old.get(name), after=new.get(name), in_before=name in old, in_after=name in new)
            )
        elif encode(old[name]) != encode(new[name]):
            changes.append(ValueChange(name=name, before=old[name], after=new[name]))
    return tuple(changes)


def last_scalars(metrics: Iterable[MetricRecord]) -> dict[tuple[str, str], float]:
    """The last finite value of every scalar metric by (step, name), in the order they first appeared."""
    found: dict[tuple[str, str], float] = {}
    for metric in metrics:
        if metric.kind != "scalar":
            continue
        value = json.loads(metric.value)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[metric.step, metric.name] = float(value)
    return found


def _metrics(
    before: Iterable[MetricRecord], after: Iterable[MetricRecord], step: str | None, renamed: Mapping[str, str]
) -> tuple[tuple[MetricChange, ...], int]:
    old = {(renamed.get(key[0], key[0]), key[1]): value for key, value in last_scalars(before).items()}
    new = last_scalars(after)
    changes, equal = [], 0
    for key in [*new, *(key for key in old if key not in new)]:
        if step is not None and key[0] != step:
            continue
        if old.get(key) == new.get(key):
            equal += 1
        else:
            changes.append(MetricChange(step=key[0], name=key[1], before=old.get(key), after=new.get(key)))
    return tuple(changes), equal


Row = tuple[RunRecord, bool, tuple[MetricRecord, ...], int, int]
"""(run, interrupted, its metrics, steps reused, steps)."""


def compare_runs(
    rows: Sequence[Row], *, shown: Sequence[str] = (), metric: str | None = None, goal: Literal["min", "max", ""] = ""
) -> Comparison:
    """Parameters that differ (and those of `shown`), and metrics, of many runs. With `metric` and `goal` the best comes first.

    A metric is named by its name where only one step has it, else `step.name`. Raises UsageError for an unknown metric.
    """
    scalars = [last_scalars(row[2]) for row in rows]
    keys = list(dict.fromkeys(key for found in scalars for key in found))
    names = {
        key: key[1] if sum(1 for other in keys if other[1] == key[1]) == 1 else f"{key[0] or 'run'}.{key[1]}" for key in keys
    }
    columns = [names[key] for key in keys]
    if metric is not None and metric not in columns:
        close = nearest(metric, columns)
        raise UsageError(
            f"none of these runs has a metric {metric!r}" + (f"; did you mean {close!r}?" if close else ""),
            expected="one of " + ", ".join(columns) if columns else "a run that logged a number",
        )
    parameters = list(dict.fromkeys(name for row in rows for name, _ in row[0].parameters))
    parameters = [name for name in parameters if name in shown or _varies(name, [row[0] for row in rows])]
    compared = [
        ComparedRun(
            run=run, interrupted=gone, parameters=tuple((name, value) for name, value in run.parameters if name in parameters),
            metrics=tuple((names[key], value) for key, value in found.items()), reused=reused, steps=steps,
        )
        for (run, gone, _, reused, steps), found in zip(rows, scalars, strict=True)
    ]  # fmt: skip
    if metric is not None and goal:
        compared = _ranked(compared, metric, goal)
    return Comparison(parameters=tuple(parameters), metrics=tuple(columns), rows=tuple(compared), metric=metric or "", goal=goal)


def _varies(name: str, runs: Sequence[RunRecord]) -> bool:
    values = [dict(run.parameters).get(name, _MISSING) for run in runs]
    return any(
        (value is _MISSING) != (values[0] is _MISSING) or (value is not _MISSING and encode(value) != encode(values[0]))  # type: ignore[arg-type]
        for value in values
    )


def _ranked(rows: list[ComparedRun], metric: str, goal: str) -> list[ComparedRun]:
    """Best first; runs without the metric last, in their own order. All that share the best value are best."""
    from dataclasses import replace

    sign = 1.0 if goal == "min" else -1.0
    values = [dict(row.metrics).get(metric) for row in rows]
    known = [sign * value for value in values if value is not None]
    best = min(known) if known else None
    order = sorted(range(len(rows)), key=lambda at: (values[at] is None, sign * (values[at] or 0.0)))
    return [
        replace(rows[at], best=values[at] is not None and sign * (values[at] or 0.0) == best)
        for at in order
    ]  # fmt: skip
