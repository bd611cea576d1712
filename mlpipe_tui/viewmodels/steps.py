"""The rows of the Pipeline screen: one for each step, from a run, from a plan, or from the definition alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from mlpipe_engine.model.filters import EVERYTHING, Filter, matches
from mlpipe_engine.model.plan import Cause, Execute, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.records import StepRecord
from mlpipe_engine.model.spec import PipelineSpec
from mlpipe_engine.model.states import FINAL, State

from mlpipe_tui.glyphs import Glyphs
from mlpipe_tui.viewmodels import words
from mlpipe_tui.viewmodels.rich_lines import Tone
from mlpipe_tui.viewmodels.shots import Graph, PlanShot, RunShot

TONES: dict[State, Tone] = {
    State.QUEUED: "muted", State.PREPARING: "accent", State.RUNNING: "warning", State.SUCCEEDED: "good", State.FAILED: "bad",
    State.CANCELED: "muted", State.REUSED: "primary", State.SKIPPED: "muted",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """One row, as text."""

    name: str
    sign: str
    word: str
    tone: Tone
    why: str = ""
    short_why: str = ""
    """Where there is little room."""
    time: str = ""
    output: str = ""
    running: bool = False
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rows, the title above them, and how many there are without a filter."""

    title: str
    lines: tuple[StepLine, ...]
    all: int
    graph: Graph
    """Of the steps that are shown, in the order of the lines."""


def of_run(shot: RunShot, glyphs: Glyphs, now: datetime, wanted: Filter = EVERYTHING) -> Table:
    """Rows of a run. Steps that were left out of it (--only, --from) are not shown."""
    records = {step.name: step for step in shot.steps}
    parents = dict(shot.graph)
    lines = [_run_line(shot, records[name], parents[name], records, glyphs, now) for name, _ in shot.graph if name in records]
    return _table(_run_title(shot, now), lines, shot.graph, wanted)


def _table(title: str, lines: list[StepLine], graph: Graph, wanted: Filter) -> Table:
    kept = [line for line in lines if matches(wanted, state=line.state, name=line.name, texts=(line.why, line.word))]
    names = {line.name for line in kept}
    shown = tuple((name, tuple(parent for parent in parents if parent in names)) for name, parents in graph if name in names)
    return Table(title=title, lines=tuple(kept), all=len(lines), graph=shown)


def _run_title(shot: RunShot, now: datetime) -> str:
    counts = Counter(step.state for step in shot.steps)
    parts = [f"{counts[state]} {state.value}" for state in (
        State.RUNNING, State.PREPARING, State.SUCCEEDED, State.REUSED, State.QUEUED, State.FAILED, State.SKIPPED, State.CANCELED,
    ) if counts[state]]  # fmt: skip
    state = "interrupted" if shot.interrupted else shot.run.state.value
    state = "" if state == "running" else f" {state}"
    return " · ".join((shot.run.pipeline, f"run {shot.run.number}{state}", *parts))


def _run_line(
    shot: RunShot, step: StepRecord, parents: tuple[str, ...], records: dict[str, StepRecord], glyphs: Glyphs, now: datetime
) -> StepLine:
    gone = shot.interrupted and step.state not in FINAL
    sign = glyphs.interrupted if gone and step.state is not State.QUEUED else glyphs.state(step.state)
    word = "interrupted" if gone and step.state is not State.QUEUED else step.state.value
    why, short = _why(shot, step, parents, records, glyphs)
    return StepLine(
        name=step.name, sign=sign, word=word, tone="bad" if word == "interrupted" else TONES[step.state], why=why, short_why=short,
        time=_time(step, now, gone=gone), output=", ".join(name for name, digest in step.outputs if digest),
        running=step.state in (State.RUNNING, State.PREPARING) and not gone, state=word,
    )  # fmt: skip


def _time(step: StepRecord, now: datetime, *, gone: bool) -> str:
    about = f"~{words.took(step.expected_seconds)}" if step.expected_seconds is not None else ""
    match step.state:
        case State.RUNNING if not gone:
            elapsed = words.clock(words.since(step.started_at, now) or 0.0)
            return f"{elapsed} of {about}" if about else elapsed
        case State.QUEUED | State.PREPARING:
            return about
        case State.REUSED | State.SKIPPED:
            return ""
        case _:
            return words.took(step.seconds)


def _why(
    shot: RunShot, step: StepRecord, parents: tuple[str, ...], records: dict[str, StepRecord], glyphs: Glyphs
) -> tuple[str, str]:
    match step.state:
        case State.REUSED:
            accepted = next((cause for cause in step.unread if cause.kind == "accepted"), None)
            number = shot.number_of(step.reused_from)
            unread = f"; {len(step.unread)} changed, never read" if step.unread and accepted is None else ""
            text = f"= run {number}"
            return (f"{text}, {accepted}" if accepted else f"{text}, all six facts equal{unread}"), text
        case State.FAILED:
            text = step.error or step.exit or "failed"
            return text, text
        case State.QUEUED:
            waiting = [name for name in parents if name in records and records[name].state not in FINAL]
            if step.error:
                return step.error, step.error
            return (f"needs {', '.join(waiting)}", f"needs {waiting[0]}") if waiting else ("ready", "ready")
        case State.CANCELED:
            return step.error, step.error
    return of_causes(step.causes, glyphs)


def of_causes(causes: tuple[Cause, ...], glyphs: Glyphs) -> tuple[str, str]:
    """(the first two causes, the first alone)."""
    if not causes:
        return "", ""
    texts = [brief(cause, glyphs) for cause in causes]
    more = f" (+{len(texts) - 2} more)" if len(texts) > 2 else ""
    one = texts[0] + (f" (+{len(texts) - 1})" if len(texts) > 1 else "")
    return "; ".join(texts[:2]) + more, one


def brief(cause: Cause, glyphs: Glyphs) -> str:
    """A cause without what a row has no room for."""
    if cause.kind == "input":
        return f"input {cause.subject}" + (f" ({cause.root} ran)" if cause.root else " changed")
    if cause.kind == "new":
        return "never ran"
    text = cause.subject
    if cause.before or cause.after:
        text += f" {cause.before or glyphs.null} {glyphs.arrow} {cause.after or glyphs.null}"
    return f"{text} {cause.detail}".rstrip()


def of_plan(shot: PlanShot, glyphs: Glyphs, wanted: Filter = EVERYTHING) -> Table:
    """What would happen to each step."""
    if shot.plan is None:
        return of_definition(shot.spec, shot.graph, glyphs, wanted, note="no plan")
    plans = {step.step: step for step in shot.plan.steps}
    lines = [_plan_line(plans.get(name), name, glyphs) for name, _ in shot.graph]
    return _table(plan_title(shot), lines, shot.graph, wanted)


def plan_title(shot: PlanShot) -> str:
    assert shot.plan is not None
    kinds = Counter(type(step.decision) for step in shot.plan.steps)
    reused, all_steps = kinds[Reuse], len(shot.plan.steps)
    if reused + kinds[Skip] == all_steps:
        return f"{shot.spec.name} · plan · nothing to do: {reused} of {all_steps} reused"
    parts = [f"{kinds[Execute]} to run"]
    parts += [f"{kinds[Undecided]} to be decided"] if kinds[Undecided] else []
    parts += [f"{kinds[Skip]} to skip"] if kinds[Skip] else []
    cost = shot.plan.expected_seconds
    time = f"about {words.took(cost)}" if cost is not None else "time unknown: some never ran"
    return f"{shot.spec.name} · plan · {', '.join(parts)} · {reused} of {all_steps} reused · {time}"


def _plan_line(plan: StepPlan | None, name: str, glyphs: Glyphs) -> StepLine:
    if plan is None:
        return StepLine(
            name=name,
            sign=glyphs.state(State.SKIPPED),
            word="left out",
            tone="muted",
            why="not part of this run",
            state="skipped",
        )
    about = f"~{words.took(plan.expected_seconds)}" if plan.expected_seconds is not None else ""
    match plan.decision:
        case Reuse(result, note):
            accepted = bool(note) and note[0].kind == "accepted"
            text = f"= run {result.run_number}"
            more = (
                f", {note[0]}"
                if accepted
                else f"; {words.count(len(note), 'change')}, never read"
                if note
                else ", all six facts equal"
            )
            return StepLine(
                name=name,
                sign=glyphs.state(State.REUSED),
                word="reuse",
                tone="primary",
                why=text + more,
                short_why=text,
                state="reused",
            )
        case Execute(because):
            why, short = of_causes(because, glyphs)
            return StepLine(
                name=name,
                sign=glyphs.state(State.QUEUED),
                word="would run",
                tone="warning",
                why=why,
                short_why=short,
                time=about,
                state="queued",
            )
        case Undecided(waiting):
            built = waiting[0].startswith("environment ")
            text = f"when {waiting[0]} is built" if built else f"depends on {', '.join(waiting)}"
            return StepLine(
                name=name, sign="?", word="may run", tone="accent", why=text, short_why=text, time=about, state="queued"
            )
        case Skip(because):
            why, short = of_causes(because, glyphs)
            return StepLine(
                name=name, sign=glyphs.state(State.SKIPPED), word="skip", tone="muted", why=why, short_why=short, state="skipped"
            )


def of_definition(
    spec: PipelineSpec, graph: Graph, glyphs: Glyphs, wanted: Filter = EVERYTHING, note: str = "never run"
) -> Table:
    lines = [StepLine(name=name, sign=glyphs.state(State.QUEUED), word=note, tone="muted", state="queued") for name, _ in graph]
    return _table(f"{spec.name} · {words.count(len(lines), 'step')} · {note}", lines, graph, wanted)
