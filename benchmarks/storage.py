"""W9: what the store costs. Writing through the recorder, and asking a store that holds a hundred thousand runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys

from benchmarks.contenders import Contender, Step, make_project
from benchmarks.errors import BenchError
from benchmarks.graphs import layered
from benchmarks.measure import Bench, Entry, Figure, Sample
from benchmarks.site import PROGRAMS, Site


def writes(bench: Bench, site: Site) -> None:
    """One row a call, as a runner gets them."""
    rows = 2_000 if bench.quick else 100_000
    taken: dict[str, list[Sample]] = {"ours": [], "raw": []}
    for _ in range(bench.rounds):
        for way in taken:
            folder = site.folder("store-writes")
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            os.sync()
            seconds = float(_answer(site, "store_writes.py", way, folder, str(rows)))
            taken[way].append(Sample(seconds, 0.0, 0))
    names = {"ours": "recorder", "raw": "raw executemany"}
    bench.keep(*(
        Figure("W9", f"write {rows:,} rows", names[way], tuple(samples), rows) for way, samples in taken.items()
    ))  # fmt: skip


def pages(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """The first page and a deep one, `why` and `plan`, on many runs."""
    runs = 200 if bench.quick else 100_000
    folder = site.folder(f"store-{runs}")
    graph = layered(2)
    ours = next(one for one in contenders if one.name == "mlpipe-tui")
    make_project(ours, folder, graph, step, bench.jobs)
    for _ in range(2):
        bench.time(ours.command(folder), folder)
    multiply(os.path.join(folder, ".mlpipe", "state.db"), runs)
    answer = json.loads(_answer(site, "store_pages.py", folder, "5" if bench.quick else "200"))
    for question, ways in answer.items():
        for way, name in (("ours", "engine"), ("raw", "raw query")):
            samples = tuple(Sample(seconds, 0.0, 0) for seconds in ways[way])
            bench.keep(Figure("W9", f"{question}, {runs:,} runs", name, samples))
    words = [
        ["runs", "-n", "50"],
        ["runs", "-n", "50", "--before", str(runs // 10)],
        ["why", str(runs // 2), "s0"],
        ["plan"],
        ["run"],
    ]
    words.append(["diff", str(runs // 2), str(runs // 2 + 1)])
    program = ours.command(folder)[0]
    entries = [Entry(f"mlpipe-tui {' '.join(some)}", lambda some=some: [program, *some], folder) for some in words]  # type: ignore[misc]
    bench.compare("W9", f"whole process, {runs:,} runs", entries)


def multiply(path: str, runs: int) -> None:
    """Copies of the last run and its steps, and as many results of other pipelines' making, by plain SQL."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        last = db.execute("SELECT max(number) FROM runs").fetchone()[0]
        db.execute("BEGIN")
        for table, number, unique in (("runs", "number", "lower(hex(randomblob(16)))"), ("step_runs", "run", None)):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            chosen = ["n" if name == number else unique if name == "id" and unique else name for name in columns]
            source = f"(SELECT * FROM {table} WHERE {number} = {last})"
            db.execute(
                f"WITH RECURSIVE c(n) AS (SELECT {last + 1} UNION ALL SELECT n + 1 FROM c WHERE n < {runs})"
                f" INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(map(str, chosen))} FROM c, {source}"
            )
        columns = [row[1] for row in db.execute("PRAGMA table_info(results)") if row[1] != "id"]
        chosen = ["lower(hex(randomblob(32)))" if name in ("base_key", "fingerprint") else "'other'" if name == "pipeline" else name
                  for name in columns]  # fmt: skip
        db.execute(
            f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {runs})"
            f" INSERT INTO results ({', '.join(columns)}) SELECT {', '.join(chosen)} FROM c, (SELECT * FROM results LIMIT 1)"
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    counted = _count(path)
    if counted != runs:
        raise BenchError(f"the store holds {counted} runs, {runs} were wanted")


def _count(path: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM runs").fetchone()[0])


def _answer(site: Site, program: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / program), *words], env=site.environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{program}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def store(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W9."""
    writes(bench, site)
    pages(bench, site, contenders, step)
