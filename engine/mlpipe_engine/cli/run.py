"""Verbs that start and steer runs: run, plan, attach, cancel, resume."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlpipe_engine.cli.output import Outlet, cause_document, print_json, run_document, seconds, step_document, width
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.cli.render import RunView, Screen
from mlpipe_engine.cli.undeclared import say_undeclared
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import RunNotFoundError, UsageError
from mlpipe_engine.model import wire
from mlpipe_engine.model.events import Event
from mlpipe_engine.model.plan import Cause, Execute, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.spec import Json, PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, GOOD, State
from mlpipe_engine.model.text import clean

if TYPE_CHECKING:
    from mlpipe_engine.model.views import Plan


def run(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    spec = engine.pipeline(arguments.positionals.get("PIPELINE"))
    options = options_of(arguments, spec)
    _say_effects(engine, arguments)
    if arguments.texts("grid"):
        from mlpipe_engine.cli import sweep

        return sweep.start(engine, spec, options, arguments)
    for name in ("parallel", "fail-fast", "metric", "goal"):
        if arguments.options.get(name):
            raise UsageError(f"--{name} is for sweeps", hint="Give the values of a parameter with --grid NAME=VALUE,VALUE.")
    engine.say = _say_progress(arguments)
    if arguments.flag("detach") or _interactive(arguments):
        run_id = engine.submit(spec, options)
        _say_warnings(engine, arguments)
        return _detached(engine, run_id, arguments) if arguments.flag("detach") else _watch(engine, run_id)
    return _plain(engine, arguments, lambda sink: engine.run(spec, options, sink))


def options_of(arguments: Arguments, spec: PipelineSpec) -> SubmitOptions:
    """Raises ParameterError, UsageError."""
    experiment = arguments.text("experiment")
    if experiment is not None and not re.fullmatch(r"[a-zA-Z0-9][\w\-]{0,254}", experiment, re.ASCII):
        raise UsageError(
            f"--experiment {experiment!r}", expected="1 to 255 letters, digits, '_' or '-', starting with a letter or digit"
        )
    return SubmitOptions(
        experiment=experiment or re.sub(r"[^A-Za-z0-9_\-]", "_", spec.name).lstrip("_-") or "pipeline",
        parameters=_parameters(arguments.texts("param"), spec), force=arguments.flag("force"), force_steps=arguments.texts("force-step"),
        until_steps=arguments.texts("step"), only_steps=arguments.texts("only"), from_steps=arguments.texts("from"),
        compute=arguments.text("compute"), continue_on_step_failure=arguments.flag("continue-on-failure"),
        tags=tuple(sorted(_pair(text, "tag") for text in arguments.texts("tag"))), source="cli", request=_request(arguments),
    )  # fmt: skip


def _request(arguments: Arguments) -> tuple[str, ...]:
    """The words typed behind `run`, where typing them again means the same: no forcing, no "last inputs", nothing to detach."""
    plain = {"param", "step", "experiment", "compute", "continue-on-failure", "directory"}
    return ("run", *arguments.words) if arguments.command.name == "run" and set(arguments.options) <= plain else ()


def _parameters(texts: tuple[str, ...], spec: PipelineSpec) -> tuple[tuple[str, Json], ...]:
    from mlpipe_engine.planning.parameters import named, parse_cli

    found: dict[str, Json] = {}
    for text in texts:
        name, value = _pair(text, "param")
        parameter = named(spec, name)
        if name in found:
            raise UsageError(f"--param {name} was given twice", hint="Give it once; lists are written as JSON: '[1, 2]'.")
        found[name] = parse_cli(parameter, value)
    return tuple(sorted(found.items()))


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--{option} got {text!r}", expected="NAME=VALUE")
    return name, value


def _interactive(arguments: Arguments) -> bool:
    return sys.stdout.isatty() and sys.stdin.isatty() and not arguments.flag("json")


def _say_effects(engine: Engine, arguments: Arguments) -> None:
    """What a person should know before a run starts: runs that lost their runner, and what loading the definition left undone."""
    for gone in engine.interrupted()[:3] if not arguments.flag("json") else ():
        ways = f"go on with `mlpipe-tui resume {gone.number}`, or drop it with `mlpipe-tui cancel {gone.number}`"
        print(f"note: run {gone.number} was interrupted; {ways}", file=sys.stderr)
    effects = engine.definitions.effects
    if effects and not arguments.flag("json"):
        print(f"note: while the definition was loaded, this was not done: {clean(', '.join(effects))}", file=sys.stderr)


def _say_warnings(engine: Engine, arguments: Arguments) -> None:
    for warning in engine.warnings if not arguments.flag("json") else ():
        print(f"warning: {clean(warning)}", file=sys.stderr)


def _say_progress(arguments: Arguments) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not arguments.flag("json"):
            print(clean(text), file=sys.stderr, flush=True)

    return say


def _detached(engine: Engine, run_id: str, arguments: Arguments) -> int:
    record = engine.find_run(run_id)
    if arguments.flag("json"):
        print_json("run", run=run_document(record, interrupted=False))
    else:
        print(f"run {record.number} started in the background")
        print(f"Follow it with `mlpipe-tui attach {record.number}`, stop it with `mlpipe-tui cancel {record.number}`.")
    return 0


def _plain(engine: Engine, arguments: Arguments, drive: Callable[[Callable[[Event], None]], RunRecord]) -> int:
    """In a pipe: plain lines, or JSON lines; the run lives and ends with this process."""
    outlet = Outlet()
    if arguments.flag("json"):
        record = drive(outlet.guard(lambda event: print(wire.dump(event), flush=True)))
        steps = [step_document(step) for step in engine.steps(record.id)]
        print_json("run", run=run_document(record, interrupted=engine.is_interrupted(record)), items=steps)
        return outlet.code(_exit_code(record))
    view, screen = RunView(), Screen()
    screen.live = False
    record = drive(outlet.guard(lambda event: screen.event(view, event)))
    _say_warnings(engine, arguments)
    say_undeclared(engine, record)
    _after_failure(engine, record, view)
    return outlet.code(_exit_code(record))


def _watch(engine: Engine, run_id: str) -> int:
    """On a terminal the run has a process of its own; this one only looks on, so leaving it does no harm."""
    view, screen = RunView(), Screen()
    asked = False
    while True:
        try:
            record = engine.follow(
                run_id,
                lambda event: screen.event(view, event),
                poll_seconds=0.05,
                tick=lambda: screen.draw(view),
                fresh=not asked,
            )
            break
        except KeyboardInterrupt:
            if asked:
                engine.cancel(run_id)
                continue
            asked = True
            answer = _ask(screen, engine.find_run(run_id).number)
            if answer == "d":
                return 0
            if answer == "c" and engine.find_run(run_id).state not in FINAL:
                engine.cancel(run_id)
    if engine.is_interrupted(record):
        screen.say(f"run {record.number} was interrupted: its runner is gone. Go on with `mlpipe-tui resume {record.number}`.")
        return 1
    say_undeclared(engine, record)
    _after_failure(engine, record, view)
    return _exit_code(record)


def _ask(screen: Screen, number: int) -> str:
    """Ctrl-C: leave the run alone, or stop it? A second Ctrl-C stops it at once."""
    screen.say("")
    try:
        print("detach or cancel? The run goes on meanwhile. [d/c, Enter goes on watching, Ctrl-C cancels] ", end="", flush=True)
        select.select([sys.stdin], [], [])
        answer = sys.stdin.readline().strip().lower()[:1]
    except KeyboardInterrupt:
        answer = "c"
    if answer == "d":
        print(f"run {number} goes on. Follow it with `mlpipe-tui attach {number}`, stop it with `mlpipe-tui cancel {number}`.")
    if answer == "c":
        print("canceling ...")
    return answer


def _after_failure(engine: Engine, record: RunRecord, view: RunView) -> None:
    """The end of what the first failed step wrote, and what to type next."""
    if record.state is not State.FAILED or not view.failed:
        return
    step = view.failed[0]
    lines = _tail(engine.log_path(record.id, step, "stderr")) or _tail(engine.log_path(record.id, step, "stdout"))
    if lines:
        print(f"\nlast lines of {clean(step)}:")
        for line in lines:
            print(f"  | {clean(line, limit=max(20, width() - 6) if sys.stdout.isatty() else 4096)}")
    name = step if re.fullmatch(r"[\w.\-]+", step) else f"'{clean(step)}'"
    read = f"Read all of it: mlpipe-tui logs {record.number} {name}\n" if lines else ""
    print(f"\n{read}Go on after mending it: mlpipe-tui run {clean(record.pipeline)}")


def _tail(path: str, count: int = 15) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16384))
            return file.read().splitlines()[-count:]
    except OSError:
        return []


def _exit_code(record: RunRecord) -> int:
    if record.state in GOOD:
        return 0
    if record.state is State.CANCELED:
        return 143 if record.error == "stopped by signal 15" else 130
    return 1


def plan(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    spec = engine.pipeline(arguments.positionals.get("PIPELINE"))
    made = engine.plan(spec, options_of(arguments, spec))
    _say_warnings(engine, arguments)
    if arguments.flag("json"):
        interpreters = dict(made.interpreters)
        print_json(
            "plan", pipeline=made.pipeline, items=[_plan_document(step, interpreters.get(step.step)) for step in made.steps],
            expected_seconds=made.expected_seconds, pulled_in=list(made.pulled_in), excluded=list(made.excluded), effects=list(made.effects),
        )  # fmt: skip
        return 0
    _print_plan(made, verbose=arguments.flag("verbose"))
    return 0


def _print_plan(made: Plan, *, verbose: bool) -> None:
    widest = min(30, max((len(step.step) for step in made.steps), default=0))
    for step in made.steps:
        symbol, text, causes = _decision_text(step)
        expected = f"  (about {seconds(step.expected_seconds)})" if step.expected_seconds is not None and symbol in "+?" else ""
        more = f" and {len(causes) - 1} more" if len(causes) > 1 and not verbose else ""
        because = f": {clean(str(causes[0]))}{more}" if causes else ""
        print(f"  {symbol} {clean(step.step):<{widest}}  {text}{because}{expected}")
        for cause in causes[1:] if verbose else ():
            print(f"    {'':<{widest}}  {clean(str(cause))}")
    if verbose:
        _print_interpreters(made)
    for effect in made.effects:
        print(f"  not done while loading: {clean(effect)}")
    kinds = [type(step.decision) for step in made.steps]
    counts = (
        (kinds.count(Execute), "to run"),
        (kinds.count(Undecided), "to be decided"),
        (kinds.count(Reuse), "to reuse"),
        (kinds.count(Skip), "to skip"),
    )
    extra = f" (+{len(made.pulled_in)} pulled in: {clean(', '.join(made.pulled_in))})" if made.pulled_in else ""
    left_out = f"; {len(made.excluded)} left out" if made.excluded else ""
    print(
        f"{clean(made.pipeline)}: "
        + ", ".join(f"{count} {word}" for count, word in counts if count)
        + extra
        + left_out
        + _expected(made)
    )


def _print_interpreters(made: Plan) -> None:
    """One line for each interpreter, with the steps it is for where there are several."""
    steps: dict[str, list[str]] = {}
    for step, text in made.interpreters:
        steps.setdefault(text, []).append(step)
    for text, names in steps.items():
        of = f" of {clean(', '.join(names))}" if len(steps) > 1 or len(names) < len(made.steps) else ""
        print(f"  Python{of}: {clean(text)}")


def _expected(made: Plan) -> str:
    if all(isinstance(step.decision, Reuse | Skip) for step in made.steps):
        return "; nothing to do"
    return (
        f"; about {seconds(made.expected_seconds)}"
        if made.expected_seconds is not None
        else "; some steps never ran, so their time is unknown"
    )


def _decision_text(step: StepPlan) -> tuple[str, str, tuple[Cause, ...]]:
    match step.decision:
        case Reuse(result, (Cause(kind="accepted") as accepted, *changes)):
            return "=", f"reuse from run {result.run_number} ({accepted})", tuple(changes)
        case Reuse(result, note):
            unread = "; changed but never read" if note else ""
            return "=", f"reuse from run {result.run_number}{unread}", note
        case Execute(because):
            return "+", "run", because
        case Undecided(waiting_on) if waiting_on[0].startswith("environment "):
            return "?", f"depends on {clean(waiting_on[0])}, which is not built yet", ()
        case Undecided(waiting_on):
            return "?", f"depends on what {', '.join(map(clean, waiting_on))} makes", ()
        case Skip(because):
            return "-", "skip", because


def _plan_document(step: StepPlan, interpreter: str | None) -> dict[str, object]:
    _, _, causes = _decision_text(step)
    names = {Reuse: "reuse", Execute: "run", Undecided: "undecided", Skip: "skip"}
    return {
        "name": step.step, "decision": names[type(step.decision)], "causes": [cause_document(cause) for cause in causes],
        "from_run": step.decision.result.run_number if isinstance(step.decision, Reuse) else None,
        "waiting_on": list(step.decision.waiting_on) if isinstance(step.decision, Undecided) else [], "expected_seconds": step.expected_seconds,
        "fingerprint": step.manifest.fingerprint if step.manifest else None, "python": interpreter,
    }  # fmt: skip


def attach(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    record = engine.find_run(arguments.positionals.get("RUN", "latest"))
    if record.kind == "sweep":
        from mlpipe_engine.cli import sweep

        return sweep.attach(engine, record, arguments)
    if _interactive(arguments) and record.state not in FINAL and not engine.is_interrupted(record):
        return _watch(engine, record.id)
    code = _plain(engine, arguments, lambda sink: engine.follow(record.id, sink))
    record = engine.find_run(record.id)
    if engine.is_interrupted(record):
        print(
            f"run {record.number} was interrupted: its runner is gone. Go on with `mlpipe-tui resume {record.number}`.",
            file=sys.stderr,
        )
        return 1
    return code


def cancel(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    record = engine.find_run(arguments.positionals["RUN"])
    engine.cancel(record.id)
    record = engine.follow(record.id)
    if arguments.flag("json"):
        print_json("cancel", run=run_document(record, interrupted=False))
    else:
        print(f"run {record.number} is {record.state}")
    return 0 if record.state is State.CANCELED else 1


def resume(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    text = arguments.positionals.get("RUN")
    record = engine.find_run(text) if text else _last_unfinished(engine)
    if record.kind == "sweep":
        from mlpipe_engine.cli import sweep

        return sweep.resume(engine, record, arguments)
    engine.say = _say_progress(arguments)
    return _plain(engine, arguments, lambda sink: engine.resume(record.id, sink))


def _last_unfinished(engine: Engine) -> RunRecord:
    for record in engine.runs(limit=200):
        if record.state in (State.FAILED, State.CANCELED) or engine.is_interrupted(record):
            return record
    raise RunNotFoundError(
        "no run of this project was interrupted, canceled or failed", hint="List the runs with `mlpipe-tui runs`."
    )
