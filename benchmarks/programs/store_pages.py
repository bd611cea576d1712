"""Asks a large store questions through the engine and by the bare query under each: python store_pages.py PROJECT LOOKS.

Prints one JSON object: question -> {"ours": [seconds], "raw": [seconds]}. Both in one process, one after the other.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Callable

from mlpipe_engine.engine import Engine

PAGE = (
    "SELECT id, number, pipeline, experiment, state, created_at, started_at, finished_at, seconds, parameters, tags, properties,"
    " source, spec, resumed_from, mirrors, error, parent, name FROM runs WHERE parent IS NULL AND number < ? ORDER BY number DESC LIMIT 50"
)
STEPS = "SELECT * FROM step_runs WHERE run = (SELECT coalesce(mirrors, number) FROM runs WHERE id = ?) ORDER BY idx"
WHY = (
    "SELECT s.*, m.body FROM step_runs s JOIN documents m ON m.digest = s.manifest"
    " WHERE s.run = (SELECT coalesce(mirrors, number) FROM runs WHERE id = ?) AND s.idx = 0"
)


def main(folder: str, looks: int) -> None:
    engine = Engine.open(folder)
    db = sqlite3.connect(f"file:{folder}/.mlpipe/state.db?mode=ro", uri=True, isolation_level=None)
    newest = engine.runs(limit=1)[0]
    middle = engine.find_run(str(newest.number // 2))
    questions: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "page 1 of runs": (
            lambda: engine.runs(limit=50),
            lambda: db.execute(PAGE, (1 << 60,)).fetchall(),
        ),
        "deep page of runs": (
            lambda: engine.runs(limit=50, before=newest.number // 10),
            lambda: db.execute(PAGE, (newest.number // 10,)).fetchall(),
        ),
        "steps of a run": (lambda: engine.steps(middle.id), lambda: db.execute(STEPS, (middle.id,)).fetchall()),
        "why": (lambda: engine.explain(middle.id, "s0"), lambda: db.execute(WHY, (middle.id,)).fetchall()),
    }
    found: dict[str, dict[str, list[float]]] = {}
    for name, (ours, raw) in questions.items():
        times: dict[str, list[float]] = {"ours": [], "raw": []}
        for way, ask in (("ours", ours), ("raw", raw)) * (looks + 1):
            begun = time.perf_counter()
            assert ask()
            times[way].append(time.perf_counter() - begun)
        found[name] = {way: values[1:] for way, values in times.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
