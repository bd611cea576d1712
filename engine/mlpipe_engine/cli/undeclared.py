"""What steps used without having declared it, in words: for the end of a run and for `why`."""

from __future__ import annotations

from mlpipe_engine.engine import Engine
from mlpipe_engine.model.plan import Undeclared
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import State
from mlpipe_engine.model.text import clean

_SHOWN = 3


def say_undeclared(engine: Engine, record: RunRecord) -> None:
    """One line after a run, about the steps it executed."""
    if record.state not in (State.SUCCEEDED, State.FAILED):
        return
    found = {step: _paths(used) for step, used in engine.undeclared(record.id).items() if _paths(used)}
    if not found:
        return
    parts = []
    for step, paths in list(found.items())[:_SHOWN]:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        parts.append(f"{clean(step)}: {clean(paths[0])}{more} (why {record.number} {clean(step)})")
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    count = f"{len(found)} step{'s' if len(found) > 1 else ''}"
    print(f"{count} read files outside their declared inputs: {'; '.join(parts)}{more}")


def _paths(used: Undeclared) -> list[str]:
    """Of what was really there; what was only looked for is left to `why`."""
    return [path for path, sign in used.files if sign not in ("absent", "refused") and not sign.startswith("ignored")]


def undeclared_lines(used: Undeclared) -> list[str]:
    lines = []
    counted = [(path, sign) for path, sign in used.files if not sign.startswith("ignored")]
    if counted:
        lines.append("used outside its declared inputs (a change runs it again; declare it as an input):")
        lines += [f"  {path}{_kind(sign)}" for path, sign in counted]
    for path, sign in used.files:
        if sign.startswith("ignored "):
            lines.append(f"{path} is kept out of its copy of the source by {sign[8:]}; declare it as an input if it needs it")
    if used.modules is not None:
        names = sorted({text.partition(" ")[0] for _, owners in used.modules for text in owners.split("; ") if text})
        lines.append(f"of the installed distributions only these count: {', '.join(names) or 'none'}")
    if used.audit.startswith("not audited"):
        lines.append(used.audit)
    return [clean(line) for line in lines]


def _kind(sign: str) -> str:
    if sign == "absent":
        return "  (looked for, not there)"
    word = sign.partition(" ")[0]
    return {"folder": "  (its names were listed)", "link": "  (a link)", "refused": "  (refused by isolation = strict)"}.get(
        word, ""
    )


def undeclared_document(used: Undeclared) -> dict[str, object]:
    return {
        "audit": used.audit or None,
        "files": [{"path": path, "signature": sign} for path, sign in used.files],
        "modules": None if used.modules is None else [{"name": name, "distributions": owners} for name, owners in used.modules],
    }
