"""`diff`: what differs between two runs: code, parameters, inputs, environment, steps, metrics, outputs."""

from __future__ import annotations

import json

from mlpipe_engine.cli.output import cause_document, print_json, run_document, seconds, size
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.compare import ContentChange, MetricChange, RunDiff, StepDiff, ValueChange
from mlpipe_engine.model.text import clean
from mlpipe_engine.planning.explain import short


def diff(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    before, after = (engine.find_run(arguments.positionals[name]) for name in ("RUN", "OTHER"))
    found = engine.diff(before.id, after.id, arguments.text("step"))
    if arguments.flag("json"):
        patches = {change.cause.subject: list(engine.patch(change)) for change in found.code} if arguments.flag("patch") else None
        print_json("diff", **_document(found), patches=patches)
    else:
        _print(engine, found, patch=arguments.flag("patch"))
    return 1 if arguments.flag("exit-code") and not found.equal else 0


def _print(engine: Engine, found: RunDiff, *, patch: bool) -> None:
    left, right = found.before, found.after
    print(f"run {left.number} -> run {right.number}")
    if found.other_pipeline:
        print(f"  these are runs of different pipelines: {clean(left.pipeline)} and {clean(right.pipeline)}")
    _section("parameters", [_value(change) for change in found.parameters])
    _section("code", [f"{change.cause}{_of(change.steps, found)}" for change in found.code])
    for change in found.code if patch else ():
        for line in engine.patch(change):
            print(f"    {clean(line)}")
    _section("environment", [f"{shared.cause}{_of(shared.steps, found)}" for shared in found.environment])
    _section("steps", [line for step in found.steps for line in _step(step)])
    _section("metrics", [_metric(change) for change in found.metrics])
    same = sum(1 for step in found.steps if step.status in ("same", "renamed"))
    tail = f"; {found.equal_metrics} metric{'' if found.equal_metrics == 1 else 's'} equal" if found.equal_metrics else ""
    verdict = "nothing that decides a result differs" if found.equal else "they differ"
    print(f"{verdict}: {same} of {len(found.steps)} steps are the same{tail}")
    states = f"{left.state} in {seconds(left.seconds) or '?'} -> {right.state} in {seconds(right.seconds) or '?'}"
    print(f"the runs: {states}")


def _section(title: str, lines: list[str]) -> None:
    if lines:
        print(f"{title}:")
        for line in lines:
            print(f"  {clean(line)}")


def _of(steps: tuple[str, ...], found: RunDiff) -> str:
    """Which steps, unless it is all of them."""
    both = [step.name for step in found.steps if step.status not in ("added", "removed")]
    return "" if set(both) <= set(steps) else f"  ({', '.join(steps)})"


def _value(change: ValueChange) -> str:
    before = json.dumps(change.before) if change.in_before else "not there"
    after = json.dumps(change.after) if change.in_after else "not there"
    return f"{change.name}  {before} -> {after}"


def _step(step: StepDiff) -> list[str]:
    if step.status == "same":
        return []
    if step.status in ("added", "removed"):
        return [f"{'+' if step.status == 'added' else '-'} {step.name}  {step.status}"]
    if step.status == "renamed":
        return [f"= {step.name}  was called {step.before_name}"]
    assert step.before is not None and step.after is not None
    name = f"{step.name} (was {step.before_name})" if step.before_name else step.name
    states = f"{step.before.state} {seconds(step.before.seconds)} -> {step.after.state} {seconds(step.after.seconds)}"
    lines = [f"~ {name}  {states}"]
    lines += [f"    {cause}" for cause in step.causes]
    lines += [f"    input {_content(change)}" for change in step.inputs]
    if step.code_unknown:
        lines.append("    code differs; one of the two is no longer kept")
    lines += [f"    output {_content(change)}" for change in step.outputs]
    if step.equal_outputs and not step.outputs:
        lines.append("    outputs equal")
    return lines


def _content(change: ContentChange) -> str:
    if not change.before or not change.after:
        return f"{change.name} {'only in the second' if change.after else 'only in the first'}"
    text = f"{change.name} {short(change.before)} -> {short(change.after)}"
    if change.before_bytes is not None and change.after_bytes is not None:
        text += f", {size(change.before_bytes)} -> {size(change.after_bytes)}"
    return text + (f", lines +{change.lines[0]} -{change.lines[1]}" if change.lines else "")


def _metric(change: MetricChange) -> str:
    name = f"{change.step}.{change.name}" if change.step else change.name
    if change.before is None or change.after is None or change.delta is None:
        return f"{name}  {_number(change.before)} -> {_number(change.after)}"
    relative = f", {change.relative:+.1%}" if change.relative is not None else ""
    return f"{name}  {_number(change.before)} -> {_number(change.after)}  ({change.delta:+.6g}{relative})"


def _number(value: float | None) -> str:
    return "not there" if value is None else f"{value:.6g}"


def _document(found: RunDiff) -> dict[str, object]:
    return {
        "before": run_document(found.before, interrupted=False), "after": run_document(found.after, interrupted=False),
        "equal": found.equal, "different_pipelines": found.other_pipeline,
        "parameters": [{"name": change.name, "before": change.before, "after": change.after, "in_before": change.in_before,
                        "in_after": change.in_after} for change in found.parameters],
        "code": [cause_document(change.cause) | {"steps": list(change.steps)} for change in found.code],
        "environment": [cause_document(shared.cause) | {"steps": list(shared.steps)} for shared in found.environment],
        "items": [_step_document(step) for step in found.steps],
        "metrics": [{"step": change.step, "name": change.name, "before": change.before, "after": change.after, "delta": change.delta,
                     "relative": change.relative} for change in found.metrics],
        "equal_metrics": found.equal_metrics,
    }  # fmt: skip


def _step_document(step: StepDiff) -> dict[str, object]:
    return {
        "name": step.name, "status": step.status, "before_name": step.before_name or None,
        "before_state": step.before.state.value if step.before else None, "after_state": step.after.state.value if step.after else None,
        "before_seconds": step.before.seconds if step.before else None, "after_seconds": step.after.seconds if step.after else None,
        "causes": [cause_document(cause) for cause in step.causes], "inputs": [_content_document(change) for change in step.inputs],
        "outputs": [_content_document(change) for change in step.outputs], "equal_outputs": step.equal_outputs,
        "code_unknown": step.code_unknown,
    }  # fmt: skip


def _content_document(change: ContentChange) -> dict[str, object]:
    return {
        "name": change.name, "before": change.before or None, "after": change.after or None, "before_bytes": change.before_bytes,
        "after_bytes": change.after_bytes, "added_lines": change.lines[0] if change.lines else None,
        "removed_lines": change.lines[1] if change.lines else None,
    }  # fmt: skip
