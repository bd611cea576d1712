"""What the detail tabs of a step and of a run say, line by line; and what an empty one says instead."""

from __future__ import annotations

import json
import math
import os.path
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mlpipe_engine.model.manifest import Manifest, Section
from mlpipe_engine.model.records import MetricRecord, StepRecord
from mlpipe_engine.model.spec import (
    InputRef,
    Json,
    LiteralRef,
    OutputRef,
    ParameterRef,
    PathSource,
    PipelineSpec,
    StepOutputSource,
    StepSpec,
    Text,
    Word,
)
from mlpipe_engine.model.states import State

from mlpipe_tui.glyphs import Glyphs
from mlpipe_tui.viewmodels import plot, words
from mlpipe_tui.viewmodels.rich_lines import Line, pairs
from mlpipe_tui.viewmodels.shots import Fault, RunDetail, StepShot, Trouble
from mlpipe_tui.viewmodels.steps import TONES


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All values of one metric of one step, in the order they were logged."""

    step: str
    name: str
    kind: str
    values: tuple[float, ...]
    steps: tuple[int | None, ...] = ()
    last: str = ""
    """The last value as text, for kinds that are no numbers."""


def series(metrics: Iterable[MetricRecord]) -> tuple[Series, ...]:
    found: dict[tuple[str, str, str], list[MetricRecord]] = {}
    for metric in metrics:
        found.setdefault((metric.step, metric.name, metric.kind), []).append(metric)
    made = []
    for (step, name, kind), records in found.items():
        values = [_number(record.value) for record in records]
        numbers = tuple(value for value in values if value is not None)
        last = records[-1].value if not numbers else words.number(numbers[-1])
        steps = tuple(record.step_number for record, value in zip(records, values) if value is not None)
        made.append(
            Series(
                step=step, name=name, kind=kind, values=numbers, steps=steps, last=last if len(last) <= 80 else last[:77] + "..."
            )
        )
    return tuple(made)


def _number(text: str) -> float | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def metric_lines(found: tuple[Series, ...], step: str, glyphs: Glyphs, *, width: int = 60) -> list[Line]:
    """One row for each metric: last, least, most, and its course."""
    if not found:
        return [
            Line.of(f"{step} logged no metric."), Line(),
            Line.of("This line in its script adds one (y copies it):"), Line.of("    ", (HOW_TO_LOG, "accent")),
        ]  # fmt: skip
    name_width = min(30, max(len(item.name) for item in found))
    rows = [Line.of((f"  {'metric':<{name_width}}  {'last':>10}  {'least':>10}  {'most':>10}  {'count':>6}", "muted"))]
    for item in found:
        if not item.values:
            rows.append(Line.of(f"  {item.name:<{name_width}}  ", (f"{item.kind}  ", "muted"), item.last))
            continue
        low, high = words.number(min(item.values)), words.number(max(item.values))
        bars = words.trend(item.values, max(8, min(32, width - name_width - 46)), glyphs.bar)
        rows.append(Line.of(
            f"  {item.name:<{name_width}}  ", (f"{item.last:>10}", "strong"), f"  {low:>10}  {high:>10}  {len(item.values):>6}  ", (bars, "primary"),
        ))  # fmt: skip
    return rows


def curve(item: Series) -> plot.Series:
    """Over the steps it was logged with, else over their count."""
    steps = [number if number is not None else at for at, number in enumerate(item.steps)] or list(range(len(item.values)))
    return plot.Series(name=item.name, points=tuple(zip(map(float, steps), item.values)), note=item.last)


HOW_TO_LOG = "from mlpipe_run import Run; Run.get_context().log('auc', 0.9)"


def in_out_lines(shot: StepShot, spec: PipelineSpec) -> list[Line]:
    """Inputs with where they come from, outputs with where they lie, files the step left."""
    step = spec.step(shot.step.name)
    digests = _input_digests(shot.explanation.manifest if shot.explanation is not None else None)
    rows = [Line.of(("Inputs", "strong"))]
    for item in step.inputs:
        match item.source:
            case StepOutputSource(producer, output):
                source = f"{producer}/{output}"
            case PathSource(paths):
                source = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        rows.append(Line.of(f"  {item.name:<16} ", (f"from {source}", "muted"), (f"  {digests.get(item.name, '')}", "muted")))
    rows += [] if step.inputs else [Line.of(("  none", "muted"))]
    rows += [Line(), Line.of(("Outputs", "strong"))]
    made = {item.name: item for item in shot.outputs}
    for declared in step.outputs:
        facts = made.get(declared.name)
        if facts is None:
            rows.append(Line.of(f"  {declared.name:<16} ", ("not made yet", "muted")))
        elif facts.problem:
            rows.append(Line.of(f"  {declared.name:<16} ", (facts.problem, "bad")))
        else:
            rows.append(Line.of(f"  {declared.name:<16} ", f"{words.size(facts.size_bytes):>9}  ", (facts.path, "muted")))
    rows += [] if step.outputs else [Line.of(("  none declared", "muted"))]
    return rows


def _input_digests(manifest: Manifest | None) -> dict[str, str]:
    found = {}
    for entry in manifest.entries if manifest is not None else ():
        if entry.section is Section.INPUT and isinstance(entry.value, list | tuple) and len(entry.value) == 3:
            found[entry.name] = str(entry.value[2]).partition(":")[2][:8]
    return found


def parameter_lines(spec: PipelineSpec, step: StepSpec | None, given: Mapping[str, Json]) -> list[Line]:
    """Parameters with their values in the run; those a step uses are marked."""
    used = _used(step) if step is not None else set()
    rows = []
    for parameter in sorted(spec.parameters, key=lambda item: item.name not in used):
        value = given.get(parameter.name, parameter.default)
        changed = parameter.name in given and given[parameter.name] != parameter.default
        mark = "used here" if parameter.name in used else ""
        default = "" if not changed else f"  (default {words.value(parameter.default)})"
        rows.append(Line.of(
            f"  {parameter.name:<20} ", (words.value(value), "strong" if changed else ""), (default, "muted"),
            (f"  {parameter.type}{'  ' + mark if mark else ''}", "muted"),
        ))  # fmt: skip
    return rows or [
        Line.of(("The pipeline has no parameters. PipelineParameter('rate', 0.1) among a step's arguments makes one.", "muted"))
    ]


def _used(step: StepSpec) -> set[str]:
    parts = [part for word in (*step.command, *step.arguments) for part in word] + [part for _, part in step.params]
    return {part.name for part in parts if isinstance(part, ParameterRef)}


def code_lines(step: StepSpec, shot: StepShot | None) -> list[Line]:
    """What is executed, with what, and where the definition stands."""
    command = [_word(word) for word in step.command] if step.command else [step.script or ""]
    facts = [("kind", step.kind), ("command", shlex.join([*command, *(_word(word) for word in step.arguments)]))]
    facts += [("source", step.source_directory or "none: only the command counts"), ("defined in", step.where or "?")]
    if step.run_after:
        facts.append(("runs after", ", ".join(step.run_after)))
    if step.when:
        facts.append(("when", step.when))
    if step.environment_variables:
        facts.append(("variables", ", ".join(name for name, _ in step.environment_variables)))
    facts.append(("reuse", "allowed" if step.allow_reuse else "off"))
    resources = [f"{step.resources.cpus:g} cpu"]
    resources += [words.size(step.resources.memory_bytes)] if step.resources.memory_bytes else []
    resources += [words.count(step.resources.gpus, "GPU")] if step.resources.gpus else []
    facts.append(("resources", ", ".join(resources) + (f" on {step.compute}" if step.compute else "")))
    if step.retries or step.timeout_seconds:
        facts.append(
            ("limits", f"{words.count(step.retries, 'retry', 'retries')}, time-out {words.took(step.timeout_seconds) or 'none'}")
        )
    if step.description:
        facts.append(("description", step.description))
    if shot is not None:
        facts += [("Python", shot.interpreter)] if shot.interpreter else []
        facts += [("directory", shot.directory)] if shot.directory else []
    return [*pairs(facts), Line(), Line.of(("  E opens the script, ! is a shell where it ran", "muted"))]


def _word(word: Word) -> str:
    texts = []
    for part in word:
        match part:
            case Text(text):
                texts.append(text)
            case ParameterRef(name):
                texts.append(f"<{name}>")
            case InputRef(name):
                texts.append(f"<in/{name}>")
            case OutputRef(name):
                texts.append(f"<out/{name}>")
            case LiteralRef(value):
                texts.append(words.value(value))
    return "".join(texts)


def file_lines(shot: StepShot) -> list[Line]:
    rows = [Line.of(f"  {words.size(size):>9}  ", name) for name, size in shot.files]
    if not rows:
        rows = [Line.of(("  The step wrote no file below outputs/ or logs/ and uploaded none.", "muted"))]
    return [*rows, Line(), Line.of(("  all of it lies in ", "muted"), shot.directory)]


def state_lines(shot: StepShot, now: datetime) -> list[Line]:
    """How an execution went."""
    step = shot.step
    facts = [("state", step.state.value + (f", attempt {step.attempt}" if step.attempt > 1 else ""))]
    facts += [("error", step.error)] if step.error else []
    facts += [("exit", step.exit)] if step.exit else []
    facts += [("started", words.when(step.started_at, now)), ("took", words.took(step.seconds))]
    facts += [("CPU time", words.took(step.cpu_seconds))] if step.cpu_seconds is not None else []
    facts += [("peak memory", words.size(step.peak_memory_bytes))] if step.peak_memory_bytes is not None else []
    facts += [(f"tag {name}", value) for name, value in step.tags]
    return pairs([fact for fact in facts if fact[1]])


def no_log(step: StepRecord | None, blocked: tuple[tuple[str, str], ...], *, ran: bool) -> str:
    """What stands in place of a log that has no line."""
    if step is None:
        return "The step was never run here. r runs the pipeline, p shows what that would do."
    match step.state:
        case State.QUEUED | State.PREPARING:
            waits = ", ".join(f"{name} ({state})" for name, state in blocked)
            return f"Waits for {waits}." if waits else step.error or "About to start."
        case State.SKIPPED:
            return "The step was skipped, so it wrote nothing. Why says why."
        case State.CANCELED:
            return "The step was canceled before it wrote anything."
        case State.RUNNING:
            return "It wrote nothing yet."
    return "It wrote nothing." if ran else "Its log is no longer kept."


def trouble_lines(trouble: Trouble) -> list[Line]:
    rows = [Line.of((text, "bad")) for text in trouble.what.split("\n")]
    rows += [Line.of(("hint: ", "strong"), trouble.hint)] if trouble.hint else []
    if trouble.traceback:
        rows += [Line(), *(Line.of((text, "muted")) for text in trouble.traceback.rstrip().split("\n"))]
    if trouble.where:
        rows += [Line(), Line.of((f"E opens {trouble.where}", "muted"))]
    return rows


def run_lines(detail: RunDetail, now: datetime) -> list[Line]:
    """The Summary tab of a run."""
    run = detail.line.run
    state = "interrupted: its runner is gone. R goes on with it, x drops it" if detail.line.interrupted else run.state.value
    facts = [("run", f"{run.number}  ({run.id})"), ("state", state), ("pipeline", run.pipeline), ("experiment", run.experiment)]
    facts += [("error", run.error)] if run.error else []
    facts += [
        ("started", words.when(run.started_at or run.created_at, now)),
        ("took", words.took(run.seconds)),
        ("by", run.source),
    ]
    facts += [("reused", f"{detail.line.reused} of {words.count(detail.line.steps, 'step')}")] if run.kind == "run" else []
    facts += [("size", words.size(detail.size_bytes))] if detail.size_bytes is not None else []
    facts += [(f"tag {name}", value) for name, value in run.tags]
    facts += [("folder", detail.directory)] if detail.directory else []
    rows = pairs([fact for fact in facts if fact[1]])
    if detail.steps:
        rows.append(Line())
        width = min(30, max(len(step.name) for step in detail.steps))
        for step in detail.steps:
            first = str(step.causes[0]) if step.causes and step.state is not State.FAILED else step.error
            rows.append(Line.of(
                f"  {step.name:<{width}}  ", (f"{step.state.value:<10}", TONES[step.state]), f" {words.took(step.seconds):>8}  ", (first, "muted"),
            ))  # fmt: skip
    for child in detail.children:
        rows.append(Line.of(f"  run {child.number:<6} ", (f"{child.state.value:<10} ", TONES[child.state]), f"{words.took(child.seconds):>8}  ",
                            (" ".join(f"{name}={words.value(value)}" for name, value in child.parameters), "muted")))  # fmt: skip
    return rows


def changes_lines(detail: RunDetail, glyphs: Glyphs) -> list[Line]:
    """What differs from the baseline."""
    if detail.trouble is not None:
        return trouble_lines(detail.trouble)
    if detail.baseline is None:
        return [Line.of(("No baseline. b on another run makes it the one that runs are compared with.", "muted"))]
    if detail.diff is None:
        return [Line.of(("This is the baseline.", "muted"))]
    diff = detail.diff
    rows = [Line.of(f"Against run {detail.baseline.number}"), Line()]
    for change in diff.parameters:
        rows.append(
            Line.of(
                ("  param   ", "muted"),
                f"{change.name}  ",
                words.value(change.before),
                (f" {glyphs.arrow} ", "muted"),
                (words.value(change.after), "strong"),
            )
        )
    for file in diff.code:
        rows.append(Line.of(("  code    ", "muted"), f"{file.cause.subject}  ", (file.cause.detail, "muted")))
    for shared in diff.environment:
        rows.append(Line.of(("  env     ", "muted"), str(shared.cause)))
    for step in diff.steps:
        for content in step.inputs:
            rows.append(Line.of(("  input   ", "muted"), f"{step.name}.{content.name}  ", ("content differs", "muted")))
        for content in step.outputs:
            rows.append(Line.of(("  output  ", "muted"), f"{step.name}.{content.name}  ", ("content differs", "muted")))
        if step.status in ("added", "removed"):
            rows.append(Line.of(("  step    ", "muted"), f"{step.name}  ", (step.status, "muted")))
    for metric in diff.metrics:
        before = words.number(metric.before) if metric.before is not None else glyphs.null
        after = words.number(metric.after) if metric.after is not None else glyphs.null
        rows.append(
            Line.of(
                ("  metric  ", "muted"),
                f"{metric.step}.{metric.name}  ",
                before,
                (f" {glyphs.arrow} ", "muted"),
                (after, "strong"),
            )
        )
    if len(rows) == 2:
        rows.append(Line.of(("  Nothing that decides a result differs, and no result does.", "primary")))
    return rows


_FRAME = re.compile(r'^\s*File "([^"\n]{1,1000})", line (\d{1,9})')


def fault_in(text: str, code: str, source: str) -> Fault | None:
    """The last place of the step's own code in a Python traceback, and the line that ends it. `code`: the step's copy of `source`."""
    place, message = None, ""
    for line in text.split("\n"):
        frame = _FRAME.match(line[:2000])
        if frame is not None:
            if frame[1].startswith(code + "/") or not frame[1].startswith(("/", "<")):
                relative = frame[1].removeprefix(code + "/")
                place = (os.path.normpath(os.path.join(source, relative)), int(frame[2]))
            message = ""
        elif place is not None and line and not line[0].isspace() and not message:
            message = line[:400]
    return Fault(message=message, path=place[0], line=place[1]) if place is not None else None
