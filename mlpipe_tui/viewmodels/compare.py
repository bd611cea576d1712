"""Runs side by side as rows of fields: only what differs, unless all is wanted. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mlpipe_engine.model.compare import ContentChange, FileChange, RunDiff
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.states import FINAL, State

from mlpipe_tui.glyphs import Glyphs
from mlpipe_tui.viewmodels import words
from mlpipe_tui.viewmodels.plot import Series, summary
from mlpipe_tui.viewmodels.rich_lines import Line, Span

Goal = Literal["min", "max", ""]
_LEAST = ("loss", "error", "rmse", "mae", "mse", "mape", "perplexity", "logloss", "brier", "wer", "cer")
_MOST = ("auc", "acc", "accuracy", "f1", "r2", "precision", "recall", "score", "map", "ndcg", "bleu", "rouge", "kappa", "mcc")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the runs, with what the store has of it."""

    run: RunRecord
    interrupted: bool = False
    steps: tuple[StepRecord, ...] = ()
    metrics: tuple[MetricRecord, ...] = ()
    diff: RunDiff | None = None
    """From the baseline to this run; None for the baseline itself."""

    @property
    def going_on(self) -> bool:
        return self.run.state not in FINAL and not self.interrupted


@dataclass(frozen=True, kw_only=True)
class ComparisonShot:
    """Two to six runs; the first is what the others are compared with."""

    sides: tuple[Side, ...]
    given_up: tuple[str, ...] = ()
    """Runs that were asked for and are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One row: a field, and what it is in each run."""

    key: str
    section: str
    name: str
    cells: tuple[tuple[Span, ...], ...]
    differs: bool


def goal_of(name: str) -> Goal:
    """By the words in a metric's name; "" where they do not tell."""
    parts = set(name.lower().replace("-", "_").replace(".", "_").replace("/", "_").split("_"))
    if parts & set(_LEAST):
        return "min"
    return "max" if parts & set(_MOST) else ""


def metric_series(metrics: Iterable[MetricRecord]) -> dict[tuple[str, str], tuple[tuple[float, float], ...]]:
    """(step, metric) -> its numbers over their steps, in the order they were logged."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for metric in metrics:
        try:
            value = json.loads(metric.value)
        except ValueError:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            points = found.setdefault((metric.step, metric.name), [])
            points.append((float(metric.step_number if metric.step_number is not None else len(points)), float(value)))
    return {key: tuple(points) for key, points in found.items()}


def fields(shot: ComparisonShot, glyphs: Glyphs, *, everything: bool = False) -> list[Field]:
    """All rows, section by section; of those that are equal only their number unless `everything`."""
    made: list[Field] = []
    for section in (_parameters, _metrics, _data, _steps, _code):
        rows = section(shot, glyphs)
        shown = [row for row in rows if row.differs or everything]
        made += shown
        hidden = len(rows) - len(shown)
        if hidden:
            name = rows[0].section
            blank = tuple(() for _ in shot.sides)
            made.append(Field(key=f"{name}/", section=name, name=f"({hidden} equal, hidden)", cells=blank, differs=False))
    return made


def title(side: Side, glyphs: Glyphs, *, base: bool) -> str:
    sign = glyphs.interrupted if side.interrupted else glyphs.state(side.run.state)
    return f"{side.run.number} {sign}{' baseline' if base else ''}"


def _against(text: str, base: str, glyphs: Glyphs, *, first: bool) -> tuple[Span, ...]:
    if first:
        return ((text, ""),)
    return ((glyphs.equal, "muted"),) if text == base else ((f"{glyphs.differs} ", "warning"), (text, "strong"))


def _row(section: str, name: str, texts: Sequence[str], glyphs: Glyphs) -> Field:
    cells = tuple(_against(text, texts[0], glyphs, first=at == 0) for at, text in enumerate(texts))
    return Field(key=f"{section}/{name}", section=section, name=name, cells=cells, differs=len(set(texts)) > 1)


def _parameters(shot: ComparisonShot, glyphs: Glyphs) -> list[Field]:
    found = [dict(side.run.parameters) for side in shot.sides]
    names = dict.fromkeys(name for values in found for name in values)
    return [
        _row("params", name, [words.value(values[name]) if name in values else "not there" for values in found], glyphs)
        for name in names
    ]


def _metrics(shot: ComparisonShot, glyphs: Glyphs) -> list[Field]:
    found = [metric_series(side.metrics) for side in shot.sides]
    keys = dict.fromkeys(key for series in found for key in series)
    rows = []
    for step, name in keys:
        goal = goal_of(name)
        label = f"{step}.{name}" if step else name
        arrow = {"min": f" {glyphs.down}", "max": f" {glyphs.up}", "": ""}[goal]
        lines = [series.get((step, name), ()) for series in found]
        lasts = [line[-1][1] if line else None for line in lines]
        bests = [_best(line, goal) for line in lines]
        rows.append(_numbers("metrics", label + arrow, f"metrics/{step}/{name}", lasts, goal, shot, glyphs))
        if goal and any(best != last for best, last in zip(bests, lasts)):
            rows.append(_numbers("metrics", f"{label}{arrow} best", f"metrics/{step}/{name}", bests, goal, shot, glyphs))
    times = [side.run.seconds for side in shot.sides]
    if any(value is not None for value in times):
        texts = [words.took(value) or ("running" if side.going_on else "?") for value, side in zip(times, shot.sides)]
        rows.append(
            Field(
                key="metrics/ time",
                section="metrics",
                name="time",
                cells=tuple(((text, ""),) for text in texts),
                differs=len(set(texts)) > 1,
            )
        )
    return rows


def _best(points: Sequence[tuple[float, float]], goal: Goal) -> float | None:
    finite = [value for _, value in points if math.isfinite(value)]
    return (min if goal == "min" else max)(finite) if finite and goal else finite[-1] if finite else None


def _numbers(
    section: str, name: str, key: str, values: Sequence[float | None], goal: Goal, shot: ComparisonShot, glyphs: Glyphs
) -> Field:
    cells: list[tuple[Span, ...]] = []
    base = values[0]
    for at, (value, side) in enumerate(zip(values, shot.sides)):
        if value is None:
            cells.append((("not yet" if side.going_on else "none", "muted"),))
        elif at == 0 or base is None:
            cells.append(((words.number(value), ""),))
        elif value == base or (value != value and base != base):
            cells.append(((words.number(value), ""), (f" {glyphs.equal}", "muted")))
        else:
            delta = value - base
            good = (delta < 0) == (goal == "min")
            verdict: Span = ("", "") if not goal or delta != delta else (" better", "good") if good else (" worse", "bad")
            if verdict[0] and side.going_on:
                verdict = (f"{verdict[0]} so far", "muted")
            cells.append(((words.number(value), "strong"), (f"  {delta:+.3g}", "muted"), verdict))
    known = {words.number(value) if value is not None else "" for value in values}
    return Field(key=key, section=section, name=name, cells=tuple(cells), differs=len(known) > 1)


def _data(shot: ComparisonShot, glyphs: Glyphs) -> list[Field]:
    """What steps took in and gave out, by content."""
    found: dict[tuple[str, str, str], dict[int, ContentChange]] = {}
    for at, side in enumerate(shot.sides):
        for step in side.diff.steps if side.diff is not None else ():
            for kind, changes in (("takes", step.inputs), ("gives", step.outputs)):
                for change in changes:
                    found.setdefault((step.name, kind, change.name), {})[at] = change
    rows = []
    for (name, kind, what), changed in found.items():
        example = next(iter(changed.values()))
        cells: list[tuple[Span, ...]] = [((_content(example.before, example.before_bytes), ""),)]
        for at in range(1, len(shot.sides)):
            other = changed.get(at)
            if other is None:
                cells.append(((glyphs.equal, "muted"),))
            else:
                lines = f" +{other.lines[0]} -{other.lines[1]} lines" if other.lines else ""
                cells.append(((f"{glyphs.differs} ", "warning"), (_content(other.after, other.after_bytes) + lines, "strong")))
        rows.append(
            Field(
                key=f"data/{name}/{kind}/{what}", section="data", name=f"{name} {kind} {what}", cells=tuple(cells), differs=True
            )
        )
    return rows


def _content(digest: str, size_bytes: int | None) -> str:
    if not digest:
        return "not there"
    short = digest.partition(":")[2] or digest
    return short[:8] + (f" {words.size(size_bytes)}" if size_bytes is not None else "")


def _steps(shot: ComparisonShot, glyphs: Glyphs) -> list[Field]:
    found = [{step.name: step for step in side.steps} for side in shot.sides]
    names = dict.fromkeys(name for steps in found for name in steps)
    rows = []
    for name in names:
        records = [steps.get(name) for steps in found]
        texts = ["not there" if step is None else glyphs.labelled(step.state) for step in records]
        cells: list[tuple[Span, ...]] = []
        for at, (step, text) in enumerate(zip(records, texts)):
            ran = step is not None and step.state in (State.SUCCEEDED, State.FAILED)
            took = f" {words.took(step.seconds)}" if step is not None and ran and step.seconds is not None else ""
            strong = at > 0 and text != texts[0]
            cells.append(((text, "strong" if strong else ""), (took, "muted")))
        rows.append(Field(key=f"steps/{name}", section="steps", name=name, cells=tuple(cells), differs=len(set(texts)) > 1))
    return rows


def _code(shot: ComparisonShot, glyphs: Glyphs) -> list[Field]:
    found: dict[tuple[str, str], dict[int, str]] = {}
    for at, side in enumerate(shot.sides):
        if side.diff is None:
            continue
        for change in side.diff.code:
            found.setdefault(("file", change.cause.subject), {})[at] = _how(change)
        for shared in side.diff.environment:
            cause = shared.cause
            text = (
                f"{cause.before or 'nothing'} {glyphs.arrow} {cause.after or 'nothing'}"
                if cause.before or cause.after
                else cause.detail or "differs"
            )
            found.setdefault((cause.kind, cause.subject), {})[at] = text
    rows = []
    for (kind, subject), changes in found.items():
        cells: list[tuple[Span, ...]] = [(("", ""),)]
        for at in range(1, len(shot.sides)):
            change_text = changes.get(at)
            cells.append(
                ((glyphs.equal, "muted"),)
                if change_text is None
                else ((f"{glyphs.differs} ", "warning"), (change_text, "strong"))
            )
        rows.append(
            Field(key=f"code/{kind}/{subject}", section="code and environment", name=subject, cells=tuple(cells), differs=True)
        )
    return rows


def _how(change: FileChange) -> str:
    if not change.before:
        return "added"
    if not change.after:
        return "removed"
    return change.cause.detail or "changed"


def curves(shot: ComparisonShot, step: str, name: str) -> list[Series]:
    """One line for each run that logged it."""
    goal = goal_of(name)
    found = []
    for side in shot.sides:
        points = metric_series(side.metrics).get((step, name), ())
        if points:
            found.append(
                Series(
                    name=str(side.run.number), points=points, note=summary(points, goal) + (" so far" if side.going_on else "")
                )
            )
    return found


def metrics_of(shot: ComparisonShot) -> list[tuple[str, str]]:
    """(step, metric) that have numbers in any of the runs; those with more than one value first."""
    counts: dict[tuple[str, str], int] = {}
    for side in shot.sides:
        for key, points in metric_series(side.metrics).items():
            counts[key] = max(counts.get(key, 0), len(points))
    return sorted(counts, key=lambda key: (counts[key] < 2, key))


def reading(shot: ComparisonShot) -> list[Line]:
    """In sentences: what differs, and what came of it."""
    base = shot.sides[0]
    lines = []
    for side in shot.sides[1:]:
        diff = side.diff
        if diff is None:
            continue
        parts = [
            words.count(len(diff.parameters), "parameter") if diff.parameters else "",
            words.count(len(diff.code), "file of code", "files of code") if diff.code else "",
            words.count(len(diff.environment), "thing of the environment", "things of the environment")
            if diff.environment
            else "",
            words.count(sum(1 for step in diff.steps if step.inputs), "step's input", "steps' inputs")
            if any(s.inputs for s in diff.steps)
            else "",
        ]
        what = ", ".join(part for part in parts if part) or "nothing that decides a result"
        lines.append(
            Line.of(
                (f"{side.run.number} against {base.run.number}: ", "strong"),
                f"{what} differ{'s' if what.startswith(('1 ', 'nothing')) and ',' not in what else ''}.",
            )
        )
        if diff.other_pipeline:
            lines.append(Line.of(f"  They are runs of different pipelines: {base.run.pipeline} and {side.run.pipeline}."))
        verdicts = _verdicts(base, side)
        if verdicts:
            lines.append(Line.of("  " + verdicts))
        if side.going_on or base.going_on:
            lines.append(Line.of(("  Too early to judge: a run is still going on.", "warning")))
    for gone in shot.given_up:
        lines.append(Line.of((f"Run {gone} is gone.", "warning")))
    return lines


def _verdicts(base: Side, side: Side) -> str:
    before, after = metric_series(base.metrics), metric_series(side.metrics)
    better: list[str] = []
    worse: list[str] = []
    for key in before.keys() & after.keys():
        goal = goal_of(key[1])
        one, other = _best(before[key], goal), _best(after[key], goal)
        if goal and one is not None and other is not None and one != other:
            (better if (other < one) == (goal == "min") else worse).append(key[1])
    parts = [
        f"better: {', '.join(sorted(set(better))[:5])}" if better else "",
        f"worse: {', '.join(sorted(set(worse))[:5])}" if worse else "",
    ]
    return "; ".join(part for part in parts if part)


def markdown(shot: ComparisonShot, rows: Sequence[Field], glyphs: Glyphs) -> str:
    """The table as it is shown, for a note or a pull request."""
    heads = ["field", *(title(side, glyphs, base=at == 0) for at, side in enumerate(shot.sides))]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        cells = ["".join(text for text, _ in cell).strip() for cell in row.cells]
        lines.append("| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in [row.name, *cells]) + " |")
    return "\n".join(lines) + "\n"
