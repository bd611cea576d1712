"""`export`, `import`, `verify`, `replay`: a run as one file, and a run made again elsewhere."""

from __future__ import annotations

import os
import re
import sys

from mlpipe_engine.cli.output import cause_document, print_json, run_document, size
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.cli.render import RunView, Screen
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.bundle import BundleFacts, Replay, ReplayedStep
from mlpipe_engine.model.states import GOOD, State
from mlpipe_engine.model.text import clean


def export(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    run = engine.find_run(arguments.positionals["RUN"])
    default = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', run.pipeline)}-{run.number}.zip"
    path = os.path.abspath(arguments.text("output") or default)
    if os.path.isdir(path):
        path = os.path.join(path, default)
    facts = engine.export(run.id, path, outputs=arguments.text("outputs") or "last", inputs=not arguments.flag("no-inputs"))
    if arguments.flag("json"):
        print_json("export", **_facts(facts))
        return 0
    print(f"{clean(path)}: run {run.number}, {_contents(facts)}")
    _say_left_out(facts)
    return 0


def import_(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    run = engine.import_bundle(os.path.abspath(arguments.positionals["FILE"]))
    if arguments.flag("json"):
        print_json("import", run=run_document(run, interrupted=False))
        return 0
    origin = dict(run.properties).get("imported from", "")
    print(f"imported as run {run.number}: {clean(origin)}")
    print(f"Look at it with `mlpipe-tui show {run.number}`. Where everything matches, its results are reused here.")
    return 0


def verify(arguments: Arguments) -> int:
    from mlpipe_engine.runner.bundling import verify as verify_bundle

    path = os.path.join(arguments.text("directory") or "", arguments.positionals["FILE"])
    facts = verify_bundle(os.path.abspath(path))
    if arguments.flag("json"):
        print_json("verify", **_facts(facts))
        return 0
    print(f"{clean(facts.path)} is whole: run {facts.run.number} of project {clean(facts.project)}, {_contents(facts)}")
    _say_left_out(facts)
    return 0


def _contents(facts: BundleFacts) -> str:
    outputs = f"outputs {', '.join(facts.outputs)}" if facts.outputs else "no outputs"
    return clean(f"{facts.steps} step{'' if facts.steps == 1 else 's'}, {facts.files} files, {size(facts.size_bytes)}, {outputs}")


def _say_left_out(facts: BundleFacts) -> None:
    for line in facts.left_out:
        print(f"note: left out: {clean(line)}", file=sys.stderr)


def _facts(facts: BundleFacts) -> dict[str, object]:
    return {
        "path": facts.path, "run": run_document(facts.run, interrupted=False), "project": facts.project, "files": facts.files,
        "size_bytes": facts.size_bytes, "steps": facts.steps, "outputs": list(facts.outputs), "left_out": list(facts.left_out),
    }  # fmt: skip


def replay(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    what = arguments.positionals["RUN_OR_FILE"]
    is_file = os.path.isfile(what) or what.endswith(".zip")
    view, screen = RunView(), Screen(sys.stderr)
    screen.live = False
    found = engine.replay(
        os.path.abspath(what) if is_file else engine.find_run(what).id, arguments.text("step"), is_file=is_file, keep=arguments.flag("keep"),
        sink=(lambda event: None) if arguments.flag("json") else (lambda event: screen.event(view, event)),
    )  # fmt: skip
    if arguments.flag("json"):
        print_json(
            "replay", run=run_document(found.run, interrupted=False), equal=found.equal, place=found.place or None,
            items=[_step_document(step) for step in found.steps],
        )  # fmt: skip
    else:
        _print_replay(found)
    if any(step.state is State.CANCELED for step in found.steps):
        return 130
    return 0 if found.equal else 1


def _print_replay(found: Replay) -> None:
    for step in found.steps:
        print(f"{clean(step.name)}: {clean(_verdict(step))}")
        for cause in step.causes:
            print(f"  made from something else: {clean(str(cause))}")
    print("everything is equal" if found.equal else "the replay differs from the run")
    if found.place:
        print(f"kept: {clean(found.place)}")


def _verdict(step: ReplayedStep) -> str:
    if step.state not in GOOD:
        before = "" if step.before is step.state else f" (it {'was reused' if step.before is State.REUSED else step.before} then)"
        return f"{step.state}{before}{': ' + step.error if step.error else ''}"
    parts = []
    for output in step.outputs:
        if output.verdict != "equal":
            shown = ", ".join([output.name, *output.paths[:5]]) + (" ..." if len(output.paths) > 5 else "")
            parts.append(f"{output.verdict} ({shown})")
    if not step.outputs:
        return "ran; it has no outputs to compare"
    return "; ".join(parts) or "equal"


def _step_document(step: ReplayedStep) -> dict[str, object]:
    return {
        "name": step.name, "state": step.state.value, "state_before": step.before.value, "equal": step.equal, "error": step.error or None,
        "outputs": [{"name": output.name, "verdict": output.verdict, "paths": list(output.paths)} for output in step.outputs],
        "causes": [cause_document(cause) for cause in step.causes],
    }  # fmt: skip
