"""Sweeps and comparisons: `run --grid`, `compare`, and a sweep wherever a run is shown, attached to or resumed."""

from __future__ import annotations

import json
import sys
import time
from typing import Literal, cast

from mlpipe_engine.cli.output import print_json, run_document, seconds, table
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.compare import ComparedRun, Comparison
from mlpipe_engine.model.records import RunRecord, Sweep
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, GOOD, State
from mlpipe_engine.model.text import clean

Goal = Literal["min", "max", ""]


def start(engine: Engine, spec: PipelineSpec, options: SubmitOptions, arguments: Arguments) -> int:
    """`run --grid`: hosted here; with -d in the background."""
    from mlpipe_engine.executors.leases import available_cpus
    from mlpipe_engine.planning.grid import parse_axes

    axes = parse_axes(spec, arguments.texts("grid"), dict(options.parameters))
    parallel = arguments.number("parallel", available_cpus())
    if not parallel:
        raise UsageError("--parallel got 0", expected="a whole number from 1")
    metric, goal = wanted_metric(arguments)
    sweep = Sweep(axes=axes, parallel=parallel, fail_fast=arguments.flag("fail-fast"))
    sweep_id = engine.start_sweep(spec, options, sweep, detach=arguments.flag("detach"))
    record = engine.find_run(sweep_id)
    if arguments.flag("detach"):
        if arguments.flag("json"):
            print_json("run", run=run_document(record, interrupted=False))
        else:
            print(f"sweep {record.number} started in the background: {len(engine.sweep_runs(sweep_id))} runs")
            print(f"Follow it with `mlpipe-tui attach {record.number}`, stop it with `mlpipe-tui cancel {record.number}`.")
        return 0
    _say_start(engine, record, arguments)
    return _ended(engine, engine.drive_sweep(sweep_id, lambda run: _say_run(engine, run, arguments)), arguments, metric, goal)


def resume(engine: Engine, record: RunRecord, arguments: Arguments) -> int:
    done = engine.resume_sweep(record.id, lambda run: _say_run(engine, run, arguments))
    return _ended(engine, done, arguments)


def attach(engine: Engine, record: RunRecord, arguments: Arguments) -> int:
    """Watch until it ends; leaving does no harm."""
    _say_start(engine, record, arguments)
    seen: set[str] = set()
    while True:
        sweep = engine.find_run(record.id)
        for run in engine.sweep_runs(record.id):
            if run.id not in seen and run.state in FINAL:
                seen.add(run.id)
                _say_run(engine, run, arguments)
        if sweep.state in FINAL or engine.is_interrupted(sweep):
            return _ended(engine, sweep, arguments)
        time.sleep(0.2)


def _say_start(engine: Engine, sweep: RunRecord, arguments: Arguments) -> None:
    if not arguments.flag("json"):
        plan = engine.sweep(sweep.id)
        sizes = " x ".join(f"{len(values)} {clean(name)}" for name, values in plan.axes)
        count = len(engine.sweep_runs(sweep.id))
        print(f"sweep {sweep.number}: {clean(sweep.pipeline)}, {count} runs ({sizes}), {plan.parallel} at a time", flush=True)


def _say_run(engine: Engine, run: RunRecord, arguments: Arguments) -> None:
    if arguments.flag("json"):
        print_json("run", run=run_document(run, interrupted=engine.is_interrupted(run)))
        sys.stdout.flush()
        return
    state = run.state.value if run.state in FINAL else "lost its runner"
    steps = engine.steps(run.id)
    reused = sum(1 for step in steps if step.state is State.REUSED)
    failed = next((step for step in steps if step.state is State.FAILED), None)
    note = (
        f"{clean(failed.name)} {clean(failed.error or failed.exit)}"
        if failed
        else f"{reused} of {len(steps)} steps reused"
        if reused
        else ""
    )
    text = f"  run {run.number:<5} {state:<10} {seconds(run.seconds):>8}  {clean(dict(run.tags).get('grid', ''))}  {note}"
    print(text.rstrip(), flush=True)


def _ended(engine: Engine, sweep: RunRecord, arguments: Arguments, metric: str | None = None, goal: Goal = "") -> int:
    runs = engine.sweep_runs(sweep.id)
    if metric is not None and not any(item.name == metric for run in runs for item in engine.metrics(run.id)):
        print(f"note: none of these runs logged {clean(metric)!r}", file=sys.stderr)
        metric, goal = None, ""
    comparison = engine.compare((sweep.id,), metric=metric, goal=goal)
    if arguments.flag("json"):
        print_json("sweep", run=run_document(sweep, interrupted=engine.is_interrupted(sweep)), **comparison_document(comparison))
    else:
        print()
        print_comparison(comparison)
        print(f"\n{headline(engine, sweep)}")
    if sweep.state in GOOD:
        return 0
    if sweep.state is State.CANCELED:
        return 143 if sweep.error == "stopped by signal 15" else 130
    return 1


def headline(engine: Engine, sweep: RunRecord) -> str:
    """One line: what became of it, and what to type next."""
    counts = folded(engine.sweep_states((sweep.id,))[sweep.id])
    if engine.is_interrupted(sweep):
        return f"sweep {sweep.number} was interrupted: {counts}. Go on with `mlpipe-tui resume {sweep.number}`."
    words = {State.SUCCEEDED: "succeeded", State.REUSED: "is up to date", State.FAILED: "failed", State.CANCELED: "was canceled"}
    took = f" in {seconds(sweep.seconds)}" if sweep.seconds is not None else ""
    error = f"; {clean(sweep.error)}" if sweep.error else ""
    again = f"\nGo on with `mlpipe-tui resume {sweep.number}`." if sweep.state in (State.FAILED, State.CANCELED) else ""
    return f"sweep {sweep.number} {words.get(sweep.state, sweep.state.value)}{took}: {counts}{error}{again}"


def folded(states: dict[State, int]) -> str:
    """ "8 runs, 7 succeeded, 1 failed"."""
    total = sum(states.values())
    parts = [f"{states[state]} {state.value}" for state in State if states.get(state)]
    return ", ".join([f"{total} run{'' if total == 1 else 's'}", *parts])


def compare(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    runs = [engine.find_run(text) for text in (arguments.positionals["RUN"], *arguments.rest)]
    metric, goal = wanted_metric(arguments)
    found = engine.compare(tuple(run.id for run in runs), metric=metric, goal=goal)
    if arguments.flag("json"):
        print_json("compare", **comparison_document(found))
    else:
        print_comparison(found, everything=arguments.flag("all"))
    return 0


def wanted_metric(arguments: Arguments) -> tuple[str | None, Goal]:
    metric, goal = arguments.text("metric"), arguments.text("goal")
    if goal not in (None, "min", "max"):
        raise UsageError(f"--goal got {goal!r}", expected="min or max")
    if (metric is None) != (goal is None):
        raise UsageError("--metric and --goal go together", expected="for instance --metric rmse --goal min")
    return metric, cast("Goal", goal or "")


def print_comparison(found: Comparison, *, everything: bool = False) -> None:
    """Metrics that are the same everywhere tell nothing; they are only counted."""
    shown = found.metrics if everything else found.differing
    rows = []
    for row in found.rows:
        values, metrics = dict(row.parameters), dict(row.metrics)
        cells = [str(row.run.number), "interrupted" if row.interrupted else row.run.state.value, seconds(row.run.seconds)]
        cells += [_shown(values[name]) if name in values else "" for name in found.parameters]
        for name in shown:
            text = f"{metrics[name]:.6g}" if name in metrics else ""
            cells.append(f"{text} (best)" if row.best and name == found.metric else text)
        rows.append(cells)
    table(("run", "state", "took", *map(clean, found.parameters), *map(clean, shown)), rows)
    hidden = len(found.metrics) - len(shown)
    if hidden:
        print(
            f"{hidden} metric{' is' if hidden == 1 else 's are'} the same in all of them; `compare --all` shows {'it' if hidden == 1 else 'them'}"
        )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def comparison_document(found: Comparison) -> dict[str, object]:
    return {
        "parameters": list(found.parameters), "metrics": list(found.metrics), "metric": found.metric or None, "goal": found.goal or None,
        "items": [_row(row) for row in found.rows],
    }  # fmt: skip


def _row(row: ComparedRun) -> dict[str, object]:
    return {
        "run": row.run.number, "id": row.run.id, "state": "interrupted" if row.interrupted else row.run.state.value,
        "duration_seconds": row.run.seconds, "parameters": dict(row.parameters), "metrics": dict(row.metrics), "best": row.best,
        "steps": row.steps, "steps_reused": row.reused,
    }  # fmt: skip
