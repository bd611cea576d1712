"""`accept`: keep a result although code or environment changed, list what was accepted, take it back."""

from __future__ import annotations

from mlpipe_engine.cli.output import cause_document, local_time, print_json, table
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.records import Acceptance
from mlpipe_engine.model.text import clean


def accept(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    if arguments.flag("list"):
        return _list(engine, arguments)
    number = arguments.number("revoke")
    if number is not None:
        found = engine.revoke(number)
        if arguments.flag("json"):
            print_json("accept", acceptance=_document(found))
        else:
            print(f"acceptance {found.id} is revoked; step {clean(found.step)} runs again when it is next asked for")
        return 0
    step, because = arguments.positionals.get("STEP"), (arguments.text("because") or "").strip()
    if step is None:
        raise UsageError(
            "accept needs STEP", expected="mlpipe-tui accept STEP [RUN] --because TEXT", hint="Or use --list, or --revoke ID."
        )
    if not because:
        raise UsageError("accept needs a reason: it is shown wherever the result is reused", expected="--because TEXT")
    run = arguments.positionals.get("RUN")
    made = engine.accept(step, engine.find_run(run).id if run is not None else None, because, arguments.text("pipeline"))
    if arguments.flag("json"):
        print_json("accept", acceptance=_document(made))
        return 0
    print(f"accepted: step {clean(step)} keeps its result of run {made.run_number} although this changed:")
    for cause in made.causes:
        print(f"  {clean(str(cause))}")
    print(f"It holds for exactly this state. Take it back with `mlpipe-tui accept --revoke {made.id}`.")
    return 0


def _list(engine: Engine, arguments: Arguments) -> int:
    found = engine.acceptances()
    if arguments.flag("json"):
        print_json("accept", items=[_document(item) for item in found])
        return 0
    if not found:
        print("nothing was accepted in this project")
        return 0
    table(
        ("id", "step", "keeps", "by", "when", "state", "because"),
        [(str(item.id), f"{item.pipeline}/{item.step}", f"run {item.run_number}", item.who, local_time(item.created_at),
          f"revoked by {item.revoked_by}" if item.revoked_at else "valid", item.because) for item in found],
    )  # fmt: skip
    return 0


def _document(item: Acceptance) -> dict[str, object]:
    return {
        "id": item.id, "pipeline": item.pipeline, "step": item.step, "run": item.run_number, "who": item.who, "because": item.because,
        "created_at": item.created_at, "revoked_at": item.revoked_at, "revoked_by": item.revoked_by,
        "causes": [cause_document(cause) for cause in item.causes], "fingerprint": item.fingerprint,
        "from_fingerprint": item.from_fingerprint,
    }  # fmt: skip
