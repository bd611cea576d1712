"""Verbs that answer questions: runs, show, why, get, pipelines, doctor."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from mlpipe_engine.cli.output import (
    local_time,
    metric_document,
    print_json,
    run_document,
    seconds,
    size,
    step_document,
    table,
)  # fmt: skip
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.cli.sweep import comparison_document, folded, headline, print_comparison
from mlpipe_engine.cli.undeclared import undeclared_document, undeclared_lines
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import FilesystemError, UsageError
from mlpipe_engine.model.filters import parse_filter
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.states import State
from mlpipe_engine.model.text import clean


def runs(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    state = arguments.text("state")
    wanted = [known.value for known in State] + ["interrupted"]
    if state is not None and state not in wanted:
        raise UsageError(f"--state {state!r}", expected="one of " + ", ".join(wanted))
    limit = arguments.number("limit", 20) or 20
    text = arguments.text("filter")
    found = engine.runs(
        limit=limit if state != "interrupted" else 100000, before=arguments.number("before"), experiment=arguments.text("experiment"),
        pipeline=arguments.text("pipeline"), state=state if state != "interrupted" else None,
        wanted=parse_filter(text) if text is not None else None,
    )  # fmt: skip
    rows = [(run, engine.is_interrupted(run)) for run in found]
    if state == "interrupted":
        rows = [row for row in rows if row[1]][:limit]
    sweeps = engine.sweep_states(tuple(run.id for run, _ in rows if run.kind == "sweep"))
    if arguments.flag("json"):
        sizes = engine.sizes(tuple(run for run, _ in rows))
        print_json("runs", items=[
            run_document(run, interrupted=gone) | _folded(sweeps.get(run.id)) | {"size_bytes": sizes[run.id]} for run, gone in rows
        ])  # fmt: skip
        return 0
    if not rows:
        print(_no_runs(engine, state, text))
        return 0
    sizes = engine.sizes(tuple(run for run, _ in rows))
    table(
        ("run", "state", "pipeline", "experiment", "started", "took", "size", "parameters"),
        [(str(run.number), "interrupted" if gone else run.state.value, run.pipeline, run.experiment, local_time(run.started_at or run.created_at),
          seconds(run.seconds), size(sizes[run.id]),
          folded(sweeps[run.id]) if run.id in sweeps else " ".join(f"{name}={value}" for name, value in run.parameters)) for run, gone in rows],
    )  # fmt: skip
    return 0


def _no_runs(engine: Engine, state: str | None, text: str | None) -> str:
    if not engine.runs(limit=1):
        return "no runs yet; start one with `mlpipe-tui run`"
    return f"no run is {state}" if state is not None else f"no run fits {clean(text)!r}" if text else "no run fits"


def _folded(states: dict[State, int] | None) -> dict[str, object]:
    return {} if states is None else {"runs": {state.value: count for state, count in states.items()}}


def show(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    run = engine.find_run(arguments.positionals.get("RUN", "latest"))
    interrupted = engine.is_interrupted(run)
    if run.kind == "sweep":
        return _show_sweep(engine, run, interrupted, arguments)
    steps = engine.steps(run.id)
    metrics = engine.metrics(run.id) if arguments.flag("metrics") else ()
    if arguments.flag("json"):
        print_json(
            "show", run=run_document(run, interrupted=interrupted), items=_step_documents(engine, run, steps),
            metrics=[metric_document(metric) for metric in metrics], children=[child.id for child in engine.children(run.id)],
        )  # fmt: skip
        return 0
    _print_run(engine, run, interrupted)
    numbers = {step.reused_from: engine.find_run(step.reused_from).number for step in steps if step.reused_from}
    table(
        ("step", "state", "took", "memory", "why"),
        [
            (step.name, step.state.value, seconds(step.seconds), size(step.peak_memory_bytes), _reason(step, numbers))
            for step in steps
        ],
    )
    _print_interpreters(engine, run, steps)
    _print_data(engine, run)
    if metrics:
        print()
        _print_metrics(metrics)
    return 0


def _step_documents(engine: Engine, run: RunRecord, steps: tuple[StepRecord, ...]) -> list[dict[str, object]]:
    rows, checks = engine.port_rows(run.id), engine.checks(run.id)
    return [
        step_document(step) | {
            "rows": {kind: {port.name: port.rows for port in rows if (port.step, port.kind) == (step.name, kind)} for kind in ("input", "output")},
            "checks": [{"input": check.input, "severity": check.severity, "holds": check.holds, "text": check.text}
                       for check in checks if check.step == step.name],
        }
        for step in steps
    ]  # fmt: skip


def _print_data(engine: Engine, run: RunRecord) -> None:
    """Rows that went in and out, and what was expected of them and did not hold."""
    ports = engine.port_rows(run.id)
    if ports:
        found: dict[str, dict[str, list[str]]] = {}
        for port in ports:
            found.setdefault(port.step, {}).setdefault(port.kind, []).append(f"{port.name} {port.rows:,}")
        print()
        table(
            ("step", "rows in", "rows out"),
            [(step, ", ".join(kinds.get("input", ())), ", ".join(kinds.get("output", ()))) for step, kinds in found.items()],
        )
    for check in engine.checks(run.id):
        if not check.holds:
            print(
                f"{'unfit' if check.severity == 'fail' else 'warning'}: input {clean(check.input)} of {clean(check.step)}: {clean(check.text)}"
            )


def _show_sweep(engine: Engine, run: RunRecord, interrupted: bool, arguments: Arguments) -> int:
    found = engine.compare((run.id,))
    if arguments.flag("json"):
        children = [child.id for child in engine.children(run.id)]
        print_json("show", run=run_document(run, interrupted=interrupted), children=children, **comparison_document(found))
        return 0
    _print_run(engine, run, interrupted)
    print_comparison(found)
    print(f"\n{headline(engine, run)}")
    return 0


def _print_interpreters(engine: Engine, run: RunRecord, steps: tuple[StepRecord, ...]) -> None:
    ran: dict[str, list[str]] = {}
    for step in steps:
        text = engine.interpreter_of(run.id, step.name)
        if text:
            ran.setdefault(text, []).append(step.name)
    for text, names in ran.items():
        of = f" of {clean(', '.join(names))}" if len(ran) > 1 or len(names) < len(steps) else ""
        print(f"Python{of}: {clean(text)}")


def _print_run(engine: Engine, run: RunRecord, interrupted: bool) -> None:
    state = "interrupted" if interrupted else run.state.value
    print(f"run {run.number}  {clean(run.pipeline)}  {state}  {seconds(run.seconds)}")
    facts = [
        ("id", run.id),
        ("experiment", run.experiment),
        ("started", local_time(run.started_at or run.created_at)),
        ("source", run.source),
        ("outputs", size(engine.sizes((run,))[run.id])),
    ]
    facts += [(f"parameter {name}", json.dumps(value)) for name, value in run.parameters]
    facts += [(f"tag {name}", value) for name, value in run.tags]
    facts += [(name.removeprefix("azureml."), value) for name, value in run.properties]
    if run.parent:
        facts.append(("part of", f"run {engine.find_run(run.parent).number}"))
    if run.resumed_from:
        facts.append(("resumed from", f"run {engine.find_run(run.resumed_from).number}"))
    if run.kind == "run":
        with suppress(FilesystemError):  # a project that can only be read has no folder for a run that repeats another
            facts.append(("folder", engine.run_dir(run.id)))
    if run.error:
        facts.append(("error", run.error))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"  {clean(name):<{width}}  {clean(value)}")
    if interrupted:
        print(
            f"  Its runner is gone. Go on with `mlpipe-tui resume {run.number}`, or drop it with `mlpipe-tui cancel {run.number}`."
        )
    print()


def _reason(step: StepRecord, numbers: dict[str, int]) -> str:
    if step.state is State.REUSED:
        if step.reused_from is None:
            return "reused, where this run was made"
        return f"reused from run {numbers.get(step.reused_from, '?')}"
    if step.state is State.FAILED:
        return step.error or step.exit
    more = f" and {len(step.causes) - 1} more" if len(step.causes) > 1 else ""
    return f"{step.causes[0]}{more}" if step.causes else ""


def _print_metrics(metrics: tuple[MetricRecord, ...]) -> None:
    series: dict[tuple[str, str, str], list[object]] = {}
    for metric in metrics:
        series.setdefault((metric.step or "(run)", metric.name, metric.kind), []).append(json.loads(metric.value))
    rows = []
    for (step, name, kind), values in series.items():
        last = json.dumps(values[-1]) if kind != "scalar" else str(values[-1])
        rows.append((step, name, kind, str(len(values)), last if len(last) <= 60 else last[:57] + "..."))
    table(("step", "metric", "kind", "count", "last value"), rows)


def why(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    run = engine.find_run(arguments.positionals["RUN"])
    answer = engine.explain(run.id, arguments.positionals["STEP"])
    step = answer.step
    entries = answer.manifest.entries if answer.manifest and arguments.flag("manifest") else ()
    if arguments.flag("json"):
        print_json(
            "why", run=run.number, step=step_document(step), undeclared=undeclared_document(answer.undeclared),
            compared_with=answer.compared_with.run_number if answer.compared_with else None,
            manifest=[{"section": entry.section.value, "name": entry.name, "value": _plain(entry.value)} for entry in entries],
        )  # fmt: skip
        return 0
    compared = f", compared with its result in run {answer.compared_with.run_number}" if answer.compared_with else ""
    match step.state:
        case State.REUSED:
            source = engine.find_run(step.reused_from).number if step.reused_from else "?"
            accepted = step.unread[0] if step.unread and step.unread[0].kind == "accepted" else None
            made = f"its result of run {source} was made from the same inputs, code, arguments and environment"
            if accepted is not None:
                made = f"its result of run {source} was kept although something differs ({clean(str(accepted))})"
            print(f"{clean(step.name)} was reused in run {run.number}: {made}")
        case State.SKIPPED:
            print(f"{clean(step.name)} was skipped in run {run.number}")
        case State.QUEUED:
            print(f"{clean(step.name)} is not decided yet in run {run.number}")
        case _:
            print(f"{clean(step.name)} ran in run {run.number}{compared}, because:")
    for cause in answer.causes:
        print(f"  {clean(str(cause))}")
    unread = [cause for cause in answer.changed_but_unread if cause.kind != "accepted"]
    if unread:
        kept = len(unread) < len(answer.changed_but_unread)
        print("changed, and accepted as it is:" if kept else "changed since, but never read by it:")
        for cause in unread:
            print(f"  {clean(str(cause))}")
    for line in undeclared_lines(answer.undeclared):
        print(line)
    for entry in entries:
        print(f"  {entry.section.value:<12} {clean(entry.name)} = {clean(json.dumps(_plain(entry.value)))}")
    return 0


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


def get(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    run = engine.find_run(arguments.positionals["RUN"])
    output = arguments.positionals["OUTPUT"]
    target = arguments.text("output") or output
    if os.path.isdir(target) and arguments.text("output"):
        target = os.path.join(target, output)
    path = engine.fetch(run.id, arguments.positionals["STEP"], output, os.path.abspath(target))
    if arguments.flag("json"):
        print_json("get", path=path)
    else:
        print(clean(path))
    return 0


def pipelines(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    found = engine.pipelines()
    if arguments.flag("json"):
        print_json("pipelines", items=[
            {"name": spec.name, "where": spec.where, "description": spec.description, "steps": [step.name for step in spec.steps],
             "parameters": [{"name": p.name, "type": p.type, "default": p.default, "required": p.required, "choices": list(p.choices),
                             "minimum": p.minimum, "maximum": p.maximum} for p in spec.parameters]}
            for spec in found
        ])  # fmt: skip
        return 0
    for spec in found:
        where = os.path.relpath(spec.where, engine.root) if spec.where else ""
        print(f"{clean(spec.name)}  {len(spec.steps)} steps  {clean(where)}")
        for parameter in spec.parameters:
            default = "required" if parameter.required else f"default {json.dumps(parameter.default)}"
            print(f"  --param {clean(parameter.name)}=  {parameter.type}, {clean(default)}")
    return 0


def doctor(arguments: Arguments) -> int:
    if arguments.flag("rebuild"):
        return _rebuild(arguments)
    findings = Engine.open(arguments.text("directory")).doctor()
    if arguments.flag("json"):
        print_json("doctor", items=[{"level": finding.level, "what": finding.what, "hint": finding.hint} for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.level:<5}  {clean(finding.what)}" + (f"\n       {clean(finding.hint)}" if finding.hint else ""))
    return 4 if any(finding.level == "error" for finding in findings) else 0


def _rebuild(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    done = engine.rebuild()
    if arguments.flag("json"):
        print_json(
            "doctor",
            runs=done.runs,
            results=done.results,
            outputs=done.outputs,
            damaged=done.damaged,
            missing=done.missing,
            kept=done.kept,
        )
        return 0
    if done.kept:
        print(f"the damaged file is kept as {clean(os.path.relpath(done.kept, engine.root))}")
    print(f"rebuilt {done.runs} runs and {done.results} results; {done.outputs} stored outputs are whole")
    if done.damaged:
        print(f"{len(done.damaged)} outputs were damaged and are in quarantine; they are made again when needed")
    if done.missing:
        print(f"{done.missing} outputs that results name are not in the store; they are made again when needed")
    return 0
