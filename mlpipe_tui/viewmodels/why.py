"""Why a step runs, ran or was reused: six facts, each equal or not, the cause at the root, and what would undo it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from mlpipe_engine.model.manifest import Manifest, Section, is_distribution
from mlpipe_engine.model.plan import Cause, Execute, Result, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.spec import ParameterSpec, PipelineSpec, StepSpec
from mlpipe_engine.model.states import State

from mlpipe_tui.glyphs import Glyphs
from mlpipe_tui.viewmodels import words
from mlpipe_tui.viewmodels.rich_lines import Line, Tone
from mlpipe_tui.viewmodels.shots import StepShot

FACTS = ("code", "params", "inputs", "env", "outputs", "policy")
_FACT_OF = {
    "file": "code", "structure": "code", "parameter": "params", "argument": "params", "input": "inputs", "undeclared": "inputs",
    "environment": "env", "distribution": "env", "variable": "env", "output": "outputs", "lost": "outputs", "collected": "outputs",
    "failed": "outputs",
}  # fmt: skip
_ACCEPTABLE = ("file", "structure", "environment", "distribution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    name: str
    equal: bool | None
    """None: nothing to compare with."""
    causes: tuple[Cause, ...] = ()
    about: str = ""
    """What it is made of, where it is equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The whole answer, before it is laid out."""

    headline: str
    tone: Tone
    facts: tuple[Fact, ...]
    roots: tuple[str, ...] = ()
    """Where changes come from, upstream."""
    unread: tuple[Cause, ...] = ()
    """What changed but was never read."""
    undo: tuple[str, ...] = ()
    """What to do, in words; the last may be a command line."""
    undo_command: tuple[str, ...] = ()
    acceptable: bool = False
    """Only code or environment differ: a person may keep the old result."""
    where: str = ""
    """file:line of the step's definition."""


def facts(causes: Sequence[Cause], step: StepSpec, manifest: Manifest | None, *, compared: bool) -> tuple[Fact, ...]:
    """All six, always in the same order. A new step has nothing to be equal to."""
    by_fact: dict[str, list[Cause]] = {name: [] for name in FACTS}
    for cause in causes:
        if cause.kind == "new":
            continue  # nothing to be compared with is no difference
        by_fact[_FACT_OF.get(cause.kind, "policy")].append(cause)
    about = _about(step, manifest)
    return tuple(
        Fact(
            name=name,
            equal=False if by_fact[name] else (True if compared or name == "policy" else None),
            causes=tuple(by_fact[name]),
            about=about[name],
        )
        for name in FACTS
    )


def _about(step: StepSpec, manifest: Manifest | None) -> dict[str, str]:
    entries = manifest.entries if manifest is not None else ()
    code = next((str(entry.value) for entry in entries if entry.section is Section.CODE), "")
    distributions = sum(1 for entry in entries if is_distribution(entry))
    parameters = [entry.name for entry in entries if entry.section is Section.PARAMETER]
    inputs = [item.name for item in step.inputs]
    source = f"{step.source_directory}/" if step.source_directory not in (None, ".") else ""
    script = f"{source}{step.script}" if step.script else "a command"
    policy = "reuse allowed" if step.allow_reuse else "reuse is off (allow_reuse=False)"
    return {
        "code": script + (f" · snapshot {code.partition(':')[2][:8]}" if code else ""),
        "params": f"{', '.join(parameters)}" if parameters else words.count(len(step.arguments), "argument"),
        "inputs": ", ".join(inputs) or "none",
        "env": f"{words.count(distributions, 'distribution')} · {words.count(len(step.environment_variables), 'variable')}",
        "outputs": ", ".join(item.name for item in step.outputs) or "none declared",
        "policy": policy + (f" · version {step.version}" if step.version else ""),
    }


def of_step(shot: StepShot, spec: PipelineSpec, now: datetime) -> Why:
    """Of a step of a run, whatever became of it."""
    record, step = shot.step, spec.step(shot.step.name)
    manifest = shot.explanation.manifest if shot.explanation is not None else None
    compared = shot.explanation.compared_with if shot.explanation is not None else None
    found = facts(record.causes, step, manifest, compared=compared is not None or record.state is State.REUSED)
    unread = tuple(cause for cause in record.unread if cause.kind != "accepted")
    headline, tone = _headline(shot, compared, found, now)
    undo, command = _undo(record.causes, spec, compared, record.expected_seconds or record.seconds) if compared else ((), ())
    return Why(
        headline=headline, tone=tone, facts=found, roots=_roots(record.causes), unread=unread, undo=undo, undo_command=command,
        acceptable=compared is not None and _acceptable(record.causes), where=step.where,
    )  # fmt: skip


def _headline(shot: StepShot, compared: Result | None, found: tuple[Fact, ...], now: datetime) -> tuple[str, Tone]:
    record = shot.step
    differ = sum(1 for fact in found if fact.equal is False)
    match record.state:
        case State.REUSED:
            accepted = next((cause for cause in record.unread if cause.kind == "accepted"), None)
            source = f"run {shot.made_in}" if shot.made_in is not None else "an earlier run"
            if accepted is not None:
                return f"Reused from {source}, kept although something differs: {accepted}.", "warning"
            return f"Reused: all 6 facts equal those of {source}.", "primary"
        case State.SKIPPED:
            return f"Skipped: {record.causes[0] if record.causes else record.error or 'a step above did not end well'}.", "muted"
        case State.QUEUED | State.PREPARING if not record.causes:
            waits = ", ".join(f"{name} ({state})" for name, state in shot.blocked)
            return (f"Not decided yet: it needs {waits}." if waits else "Not decided yet."), "muted"
        case State.CANCELED if not record.causes:
            return "Canceled before it was decided.", "muted"
    verb = {State.RUNNING: "Runs", State.PREPARING: "Is about to run"}.get(record.state, "Ran")
    if compared is None:
        new = any(cause.kind == "new" for cause in record.causes)
        return (
            f"{verb} because there is no earlier result: it never ran here." if new else f"{verb} because: {record.causes[0]}."
        ), "warning"
    when = words.when(compared.finished_at, now)
    return (
        f"{verb} because {differ} of 6 facts differ from the nearest earlier result (run {compared.run_number}, {when}).",
        "warning",
    )


def of_plan(plan: StepPlan, spec: PipelineSpec, now: datetime) -> Why:
    """Of a step before anything runs."""
    step = spec.step(plan.step)
    match plan.decision:
        case Reuse(result, note):
            found = facts((), step, plan.manifest, compared=True)
            accepted = bool(note) and note[0].kind == "accepted"
            text = f"Would be reused: all 6 facts equal those of run {result.run_number} ({words.when(result.finished_at, now)})."
            if accepted:
                text = f"Would be reused from run {result.run_number}: {note[0]}."
            unread = tuple(cause for cause in note if cause.kind != "accepted")
            return Why(headline=text, tone="primary", facts=found, unread=unread, where=step.where)
        case Execute(because, compared):
            found = facts(because, step, plan.manifest, compared=compared is not None)
            differ = sum(1 for fact in found if fact.equal is False)
            if compared is None:
                head = "Would run: it never ran here." if because[0].kind == "new" else f"Would run: {because[0]}."
                return Why(headline=head, tone="warning", facts=found, roots=_roots(because), where=step.where)
            undo, command = _undo(because, spec, compared, plan.expected_seconds)
            head = f"Would run because {differ} of 6 facts differ from run {compared.run_number} ({words.when(compared.finished_at, now)})."
            return Why(
                headline=head, tone="warning", facts=found, roots=_roots(because), undo=undo, undo_command=command,
                acceptable=_acceptable(because), where=step.where,
            )  # fmt: skip
        case Undecided(waiting):
            head = f"Depends on what {', '.join(waiting)} makes: if its bytes come out as they were, this step is reused."
            return Why(headline=head, tone="accent", facts=facts((), step, plan.manifest, compared=False), where=step.where)
        case Skip(because):
            return Why(
                headline=f"Would be skipped: {because[0]}.",
                tone="muted",
                facts=facts((), step, plan.manifest, compared=False),
                where=step.where,
            )


def _acceptable(causes: Sequence[Cause]) -> bool:
    return bool(causes) and all(cause.kind in _ACCEPTABLE for cause in causes)


def _roots(causes: Sequence[Cause]) -> tuple[str, ...]:
    """Steps above whose change is the reason, with their first cause."""
    found = {cause.root: cause.detail for cause in causes if cause.root}
    return tuple(f"{root} ran: {detail}" if detail else f"{root} ran" for root, detail in found.items())


def _undo(
    causes: Sequence[Cause], spec: PipelineSpec, compared: Result | None, cost: float | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What would make the step reusable again; parameters have a command line."""
    if compared is None or not causes:
        return (), ()
    known = {parameter.name: parameter for parameter in spec.parameters}
    parameters = [cause for cause in causes if cause.kind == "parameter" and cause.subject in known]
    files = [cause.subject for cause in causes if cause.kind == "file"]
    roots = list(dict.fromkeys(cause.root for cause in causes if cause.root))
    rest = [cause for cause in causes if cause not in parameters and cause.kind not in ("file",) and not cause.root]
    parts = [f"set {cause.subject} back to {cause.before}" for cause in parameters if cause.before]
    parts += [f"restore {name}" for name in files[:3]] + ([f"and {len(files) - 3} more files"] if len(files) > 3 else [])
    parts += [f"undo what made {root} run" for root in roots]
    parts += [
        f"undo: {cause}" for cause in rest if cause.kind not in ("forced", "disabled", "new", "lost", "collected", "failed")
    ]
    if not parts:
        return (), ()
    saving = f", saving ~{words.took(cost)}" if cost is not None else ""
    text = f"Undo: {'; '.join(parts)}. Then it is reused{saving}."
    command: tuple[str, ...] = ()
    if parameters and len(parameters) == len(causes):
        given = [
            word
            for cause in parameters
            if cause.before
            for word in ("--param", f"{cause.subject}={_typed(cause.before, known[cause.subject])}")
        ]
        command = ("run", spec.name, *given)
    return (text,), command


def _typed(text: str, parameter: ParameterSpec) -> str:
    """A value as causes show it (Python's notation for what is no plain text) as `--param` takes it."""
    if parameter.type in ("str", "any") and len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return {"True": "true", "False": "false", "None": "null"}.get(text, text)


def lines(why: Why, glyphs: Glyphs, width: int) -> list[Line]:
    """The Why tab."""
    found = [Line.of((why.headline, why.tone))]
    found += [Line.of((text, "strong")) for text in why.undo]
    if why.undo_command:
        found.append(Line.of("    ", (shlex.join(("mlpipe-tui", *why.undo_command)), "accent")))
    found.append(Line())
    for fact in why.facts:
        found += _fact_lines(fact, glyphs)
    if why.roots:
        found += [Line(), *(Line.of(("Root cause  ", "strong"), root) for root in why.roots)]
    if why.unread:
        found += [Line(), Line.of(("Changed, but never read by it:", "muted"))]
        found += [Line.of("    ", str(cause)) for cause in why.unread]
    if why.acceptable:
        kept = "Does the change not matter? a keeps the earlier result, and says for ever who said so and why."
        found += [Line(), Line.of((kept, "muted"))]
    if why.where:
        found += [Line(), Line.of(("defined in ", "muted"), _short_path(why.where), ("   E opens it", "muted"))]
    return found


def _fact_lines(fact: Fact, glyphs: Glyphs) -> list[Line]:
    if fact.equal is None:
        return [Line.of(("  ? ", "muted"), (f"{fact.name:<8} ", "muted"), (fact.about, "muted"))]
    if fact.equal:
        return [Line.of((f"  {glyphs.equal} ", "primary"), f"{fact.name:<8} ", (fact.about, "muted"))]
    rows = []
    for at, cause in enumerate(fact.causes):
        sign = f"  {glyphs.differs} " if at == 0 else "    "
        rows.append(Line.of((sign, "warning"), (f"{fact.name if at == 0 else '':<8} ", "strong"), *_cause_spans(cause, glyphs)))
    return rows


def _cause_spans(cause: Cause, glyphs: Glyphs) -> list[tuple[str, Tone]]:
    spans: list[tuple[str, Tone]] = [(cause.subject, "")]
    if cause.before or cause.after:
        spans += [
            ("  ", ""),
            (cause.before or glyphs.null, "muted"),
            (f" {glyphs.arrow} ", "muted"),
            (cause.after or glyphs.null, "strong"),
        ]
    if cause.kind == "input" and cause.root:
        spans.append((f"  because {cause.root} ran: {cause.detail}", "muted"))
    elif cause.detail:
        spans.append((f"  {cause.detail}", "muted"))
    return spans


def _short_path(where: str) -> str:
    """The last three parts of a path are enough to know it by."""
    path, colon, line = where.rpartition(":")
    parts = PurePath(path or where).parts
    return str(PurePath(*parts[-3:])) + (f"{colon}{line}" if path else "")


def markdown(why: Why, name: str) -> str:
    """For pasting into an issue."""
    rows = [f"**{name}**: {why.headline}", "", "| fact | | what |", "|---|---|---|"]
    for fact in why.facts:
        sign = "?" if fact.equal is None else "=" if fact.equal else "≠"
        what = "; ".join(map(str, fact.causes)) or fact.about
        rows.append(f"| {fact.name} | {sign} | {what.replace('|', chr(92) + '|')} |")
    rows += ["", *(f"Root cause: {root}" for root in why.roots), *why.undo]
    return "\n".join(rows).rstrip() + "\n"
