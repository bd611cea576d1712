"""Verbs that keep the store small: du, gc, pin, unpin, pins, rm."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from mlpipe_engine.cli.output import local_time, print_json, size, table
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.config.project import size_bytes
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.text import clean
from mlpipe_engine.planning.retention import Verdict, total

if TYPE_CHECKING:
    from mlpipe_engine.runner.upkeep import Collected, Survey, Upkeep

_SHOWN = 20


def du(arguments: Arguments) -> int:
    upkeep = Engine.open(arguments.text("directory")).upkeep()
    survey = upkeep.survey()
    limit = upkeep.limit_bytes(survey.used_bytes)
    if arguments.flag("json"):
        print_json(
            "du",
            used_bytes=survey.used_bytes,
            quota_bytes=limit,
            items=[{"kind": kind, "size_bytes": b} for kind, b in survey.usage.items()],
        )
        return 0
    for kind, used in sorted(survey.usage.items(), key=lambda item: -item[1]):
        print(f"  {size(used):>10}  {_KINDS[kind]}")
    print(f"  {size(survey.used_bytes):>10}  in all{_of(limit)}")
    return 0


_KINDS = {
    "outputs": "outputs of steps", "runs": "folders of runs: code copies, logs", "snapshots": "source snapshots",
    "trash": "trash (gc --empty-trash frees it)", "quarantine": "damaged outputs, kept for inspection",
    "environments": "environments of steps", "database": "the database and its backups", "other": "other",
}  # fmt: skip


def _of(limit: int | None) -> str:
    return "; no quota" if limit is None else f" of a quota of {size(limit)}"


def gc(arguments: Arguments) -> int:
    upkeep = Engine.open(arguments.text("directory")).upkeep()
    if arguments.flag("undo"):
        return _undo(upkeep, arguments)
    if arguments.flag("empty-trash"):
        return _empty(upkeep, arguments)
    survey = upkeep.survey()
    to = arguments.text("to")
    verdict = upkeep.plan(
        survey, to_bytes=_bytes(to) if to is not None else None, keep_runs=arguments.number("keep-runs"),
        older_than=_seconds(arguments.text("older-than")),
    )  # fmt: skip
    if not arguments.flag("json"):
        _print_plan(upkeep, survey, verdict, verbose=arguments.flag("verbose"))
    done = upkeep.carry_out(survey, verdict) if verdict.going and _agreed(arguments, verdict) else None
    if arguments.flag("json"):
        print_json("gc", **_document(upkeep, survey, verdict, done))
    elif done is not None:
        print(
            f"moved {_things(done.count)}, {size(done.bytes)}, to the trash; freed for good after 24 h or by `mlpipe-tui gc --empty-trash`"
        )
    return 0


def _agreed(arguments: Arguments, verdict: Verdict) -> bool:
    if arguments.flag("plan"):
        return False
    if arguments.flag("yes"):
        return True
    if arguments.flag("json") or not (sys.stdin.isatty() and sys.stdout.isatty()):
        if not arguments.flag("json"):
            print("nothing was changed; `mlpipe-tui gc --yes` does it")
        return False
    return input("Move it to the trash? [y/N] ").strip().lower() in ("y", "yes")


def _print_plan(upkeep: Upkeep, survey: Survey, verdict: Verdict, *, verbose: bool) -> None:
    limit = upkeep.limit_bytes(survey.used_bytes)
    print(f"the store takes {size(survey.used_bytes)}{_of(limit)}")
    if not verdict.going:
        print("nothing has to go" + ("" if verdict.missing_bytes else "; --to, --keep-runs and --older-than ask for more"))
    else:
        print(f"can go: {_things(len(verdict.going))}, {size(total(verdict.going))}")
        shown = verdict.going if verbose else verdict.going[:_SHOWN]
        table(
            ("  kind", "size", "what", "why"),
            [(f"  {going.holding.kind}", size(going.holding.size_bytes), going.holding.name, going.because) for going in shown],
        )
        if len(shown) < len(verdict.going):
            print(f"  ... and {len(verdict.going) - len(shown)} more (--verbose lists them)")
    if verbose:
        table(
            ("  stays", "size", "what", "why"),
            [(f"  {k.holding.kind}", size(k.holding.size_bytes), k.holding.name, k.because) for k in verdict.staying],
        )
    elif verdict.staying:
        print("stays: " + _stays(verdict))
    if verdict.missing_bytes:
        print(
            f"{size(verdict.missing_bytes)} more were asked for, but the rest is needed; unpin or `rm` runs, or raise [store] quota"
        )


def _stays(verdict: Verdict) -> str:
    sums: dict[str, int] = {}
    for kept in verdict.staying:
        why = re.sub(r"^(last result) of .*", r"\1 of a step", re.sub(r"^run \d+", "run", kept.because))
        sums[why] = sums.get(why, 0) + kept.holding.size_bytes
    return ", ".join(f"{size(used)} {clean(why)}" for why, used in sorted(sums.items(), key=lambda item: -item[1]))


def _document(upkeep: Upkeep, survey: Survey, verdict: Verdict, done: Collected | None) -> dict[str, object]:
    return {
        "used_bytes": survey.used_bytes, "quota_bytes": upkeep.limit_bytes(survey.used_bytes), "missing_bytes": verdict.missing_bytes,
        "items": [{"kind": g.holding.kind, "what": g.holding.name, "size_bytes": g.holding.size_bytes, "why": g.because} for g in verdict.going],
        "stays": [{"kind": k.holding.kind, "what": k.holding.name, "size_bytes": k.holding.size_bytes, "why": k.because} for k in verdict.staying],
        "collected": None if done is None else {"name": done.name, "count": done.count, "bytes": done.bytes},
    }  # fmt: skip


def _things(count: int) -> str:
    return f"{count} thing{'' if count == 1 else 's'}"


def _undo(upkeep: Upkeep, arguments: Arguments) -> int:
    name, back, kept = upkeep.undo()
    if arguments.flag("json"):
        print_json("gc", undone=name, count=back, made_again=kept)
    else:
        print(
            f"brought back {_things(back)} of the collection {name}" + (f"; {kept} had been made again meanwhile" if kept else "")
        )
    return 0


def _empty(upkeep: Upkeep, arguments: Arguments) -> int:
    freed = upkeep.trash.empty(older_than_seconds=0.0)
    if arguments.flag("json"):
        print_json("gc", freed_bytes=freed)
    else:
        print(f"freed {size(freed)}")
    return 0


def _bytes(text: str) -> int:
    if text.strip() in ("0", "0B"):
        return 0
    try:
        return size_bytes(int(text) if text.isascii() and text.isdigit() else text)
    except ValueError:
        raise UsageError(f"--to {text!r}", expected='a size such as "5GB" or "500MB"') from None


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})\s*([smhdw])", text.strip())
    if not found:
        raise UsageError(f"--older-than {text!r}", expected='a time such as "30d", "12h" or "90m"')
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]


def pin(arguments: Arguments) -> int:
    return _pin(arguments, keep=True)


def unpin(arguments: Arguments) -> int:
    return _pin(arguments, keep=False)


def _pin(arguments: Arguments, *, keep: bool) -> int:
    found, changed = Engine.open(arguments.text("directory")).pin(arguments.positionals["RESULT"], keep=keep)
    if arguments.flag("json"):
        print_json(
            "pin" if keep else "unpin", run=found.run, step=found.step or None, output=found.output or None, changed=changed
        )
        return 0
    words = {
        (True, True): "is pinned: gc never takes it", (True, False): "was pinned already",
        (False, True): "is no longer pinned", (False, False): "was not pinned",
    }  # fmt: skip
    print(f"{clean(str(found))} {words[keep, changed]}")
    return 0


def pins(arguments: Arguments) -> int:
    found = Engine.open(arguments.text("directory")).pins()
    if arguments.flag("json"):
        print_json(
            "pins",
            items=[{"run": p.run, "step": p.step or None, "output": p.output or None, "created_at": p.created_at} for p in found],
        )
    elif not found:
        print("nothing is pinned")
    else:
        table(("pinned", "since"), [(str(p), local_time(p.created_at)) for p in found])
    return 0


def rm(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    runs = {run.number: run for run in map(engine.find_run, (arguments.positionals["RUN"], *arguments.rest))}
    done = engine.remove_runs(tuple(runs.values()))
    if arguments.flag("json"):
        print_json("rm", removed=list(done.runs), kept=list(done.kept))
        return 0
    for kept in done.kept:
        print(f"the result of {clean(kept)} stays, because other runs use it")
    names, many = ", ".join(map(str, done.runs)), len(done.runs) > 1
    them = "them" if many else "it"
    print(f"removed run{'s' if many else ''} {names}; `mlpipe-tui gc --undo` brings {them} back within a day")
    return 0
