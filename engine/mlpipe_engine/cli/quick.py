"""`run` when nothing is to be done, and `status`: answered from stats and one query, before anything heavy is imported.

Whatever is not plainly known here is left to the long way (`cli.run`), which decides, explains and remembers.
"""

from __future__ import annotations

import os
import time
from _sqlite3 import Error
from typing import Any

from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.store.uptodate import UpToDate, changes, check, find_root, open_quickly


def run(words: list[str], directory: str | None) -> int | None:
    """The exit code, or None when there may be something to do."""
    began = time.monotonic()
    try:
        root = find_root(directory or os.getcwd())
    except OSError:
        return None
    known = check(root, ["run", *words]) if root is not None else None
    number = known.record(began) if known is not None else None
    if known is None or number is None:
        return None
    _print(known, number, time.monotonic() - began)
    return 0


def status(arguments: Arguments) -> int:
    """What runs, what ran last, and whether anything has changed since."""
    root = find_root(arguments.text("directory") or os.getcwd())
    if root is None:
        from mlpipe_engine.config.project import find_root as find

        find(arguments.text("directory"))  # raises what there is to say
    assert root is not None
    try:
        rows = _pipelines(root)
    except Error:
        from mlpipe_engine.engine import Engine

        Engine.open(root).runs(limit=1)  # raises what there is to say
        raise
    if arguments.flag("json"):
        from mlpipe_engine.cli.output import print_json

        print_json("status", project=root, items=rows)
        return 0
    from mlpipe_engine.model.text import clean

    print(f"project {clean(root)}")
    if not rows:
        print("  no runs yet; start one with `mlpipe-tui run`")
    width = max((len(str(row["pipeline"])) for row in rows), default=0)
    for row in rows:
        print(f"  {clean(str(row['pipeline'])):<{width}}  run {row['run']} {row['state']}{clean(_news(row))}")
    return 0


def _news(row: dict[str, object]) -> str:
    changed = row["changed"]
    if row["state"] in ("queued", "running"):
        return f"; follow it with `mlpipe-tui attach {row['run']}`"
    if row["state"] == "interrupted":
        return f"; go on with `mlpipe-tui resume {row['run']}`"
    if not isinstance(changed, list):
        return f", finished {row['finished_at']}; `mlpipe-tui plan` says what would run"
    if not changed:
        return f", finished {row['finished_at']}; nothing has changed since"
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f", finished {row['finished_at']}; looks different: {', '.join(map(str, changed[:3]))}{more}"


def _pipelines(root: str) -> list[dict[str, object]]:
    """One row a pipeline: its last run, and what of its last up-to-date entry no longer holds (None: there is none)."""
    connection = open_quickly(root)
    entries: dict[str, list[str]] = {}
    if connection is None:
        rows = _rows_to_look_at(root)
    else:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for (body,) in connection.execute("SELECT body FROM uptodate ORDER BY run LIMIT 50").fetchall():
            facts, changed = changes(root, body, version)
            entries[facts["pipeline"]] = changed
        rows = connection.execute(LAST_RUNS).fetchall()
    found: list[dict[str, object]] = []
    for pipeline, number, run_id, state, finished in rows:
        if state in ("queued", "running") and not _is_alive(root, run_id):
            state = "interrupted"
        finished = finished and finished[:19].replace("T", " ") + " UTC"
        fresh = entries.get(pipeline) if state in ("succeeded", "reused") else None
        found.append({"pipeline": pipeline, "run": number, "state": state, "finished_at": finished, "changed": fresh})
    return found


def _rows_to_look_at(root: str) -> list[tuple[Any, ...]]:
    """The long way: no store yet, or one this user may only read."""
    from mlpipe_engine.store.database import Database

    database = Database.open(os.path.join(root, ".mlpipe"), create=False)
    return database.query(LAST_RUNS) if database is not None else []


LAST_RUNS = (
    "WITH RECURSIVE known(p) AS (SELECT min(pipeline) FROM runs UNION ALL"
    " SELECT (SELECT min(pipeline) FROM runs WHERE pipeline > p) FROM known WHERE p IS NOT NULL)"
    " SELECT r.pipeline, r.number, r.id, r.state, r.finished_at FROM known JOIN runs r ON r.number ="
    " (SELECT max(number) FROM runs WHERE pipeline = p) WHERE p IS NOT NULL ORDER BY r.number DESC LIMIT 50"
)
"""The newest run of each pipeline by one look into the index each, however many runs there are."""


def _is_alive(root: str, run_id: str) -> bool:
    from mlpipe_engine.store.locks import is_held

    return is_held(os.path.join(root, ".mlpipe", "locks", "runs", run_id))


def _print(known: UpToDate, number: int, took: float) -> None:
    from mlpipe_engine.model.text import clean

    facts, count = known.facts, int(known.facts["steps"])
    steps = f"{count} step{'s' if count != 1 else ''}"
    print(f"run {number}: {clean(facts['pipeline'])} ({steps}), experiment {clean(facts['experiment'])}")
    if facts["lines"] != "-":
        rows = [line.split(" ", 2) for line in facts["lines"].split("\n")]
        width = min(30, max(len(name) for _, _, name in rows))
        for made_in, seconds, name in rows:
            print(f"  {clean(name):<{width}}  reused     from run {made_in}, saves {shown(float(seconds))}")
    saved = shown(float(facts["saved"]))
    print(f"run {number} is up to date in {shown(took)}: {count} reused; reuse saved {saved}")


def shown(value: float) -> str:
    """0.42 s, 8.1 s, 2 min 05 s, 1 h 02 min."""
    if value < 0.095:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"
