"""Thousands of small runs, in one process and through the command line: nothing may grow that nobody asked for.

Linux only: what a process holds is read from /proc.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from benchmarks.contenders import write
from benchmarks.errors import BenchError
from benchmarks.measure import Bench
from benchmarks.site import PROGRAMS, Site

_STEPS = 2
_WAL_BYTES = 64 << 20
_DB_BYTES_PER_STEP = 2048
_GROWTH = 1.10


@dataclass(frozen=True, slots=True)
class Point:
    """What there is after so many runs."""

    runs: int
    ms_per_run: float
    rss: int
    fds: int
    threads: int
    db: int
    wal: int
    temporary: int
    """Files and folders in the temporary directory of the runs, and locks of runs that are over."""


def soak(bench: Bench, site: Site, runs: int) -> int:
    """Prints the curve and the verdict. 1 when something grew."""
    if not os.path.isdir("/proc/self/fd"):
        raise BenchError("a soak reads /proc, which this system lacks")
    every = max(1, runs // 10)
    problems: list[str] = []
    for way, points in (
        ("in one process", _inside(bench, site, runs, every)),
        ("by the command line", _outside(bench, site, runs, every)),
    ):
        print(f"\n{runs:,} runs {way}, {_STEPS} steps each, every second one reused\n")
        print("    runs   ms/run    RSS MiB   fds  threads    DB KiB  DB bytes/step   WAL KiB  left over")
        curve: list[Point] = []
        for point in points:
            curve.append(point)
            print(
                f"  {point.runs:>6,} {point.ms_per_run:>8.1f} {point.rss / 2**20:>10.1f} {point.fds:>5} {point.threads:>8}"
                f" {point.db / 1024:>9,.0f} {_per_step(curve):>14.0f} {point.wal / 1024:>9,.0f} {point.temporary:>10}",
                flush=True,
            )
        problems += [f"{way}: {problem}" for problem in verdict(curve)]
    print()
    for problem in problems:
        print("GREW  " + problem)
    print("soak: " + ("nothing grew that should not" if not problems else f"{len(problems)} of the limits were passed"))
    return 1 if problems else 0


def verdict(curve: list[Point]) -> list[str]:
    """What grew, compared with the second point: by then everything that is loaded once is loaded."""
    first, last = curve[min(1, len(curve) - 1)], curve[-1]
    found = []
    if last.rss > first.rss * _GROWTH:
        found.append(f"memory went from {first.rss / 2**20:.1f} to {last.rss / 2**20:.1f} MiB; allowed are 10 % more")
    if last.fds > first.fds:
        found.append(f"open files went from {first.fds} to {last.fds}")
    if last.threads > first.threads:
        found.append(f"threads went from {first.threads} to {last.threads}")
    if max(point.wal for point in curve) > _WAL_BYTES:
        found.append(f"the write-ahead log reached {max(point.wal for point in curve) / 2**20:.0f} MiB; allowed are 64")
    if _per_step(curve) > _DB_BYTES_PER_STEP:
        found.append(f"the database grew by {_per_step(curve):.0f} bytes a step; allowed are {_DB_BYTES_PER_STEP:,}")
    if last.temporary > 0:
        found.append(f"{last.temporary} temporary files or locks were left")
    return found


def _per_step(curve: list[Point]) -> float:
    """Growth of the database since the first point."""
    first, last = curve[0], curve[-1]
    if last.runs == first.runs:
        return 0.0
    return (last.db - first.db) / ((last.runs - first.runs) * _STEPS)


def _project(site: Site, bench: Bench, name: str) -> str:
    folder = site.folder(name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "tmp"))
    step = list(site.step().words)
    write(folder, "value.txt", "a source")
    write(folder, "mlpipe.toml", f"[compute.local]\ncpus = {bench.jobs}\n")
    write(
        folder, "pipeline.py",
        "from pathlib import Path\n\nfrom mlpipe_engine import CommandStep, Pipeline, PipelineData, PipelineParameter, Workspace\n\n"
        f"STEP = {step!r}\nws = Workspace.from_config()\nsource = Path('value.txt')\nvalue = PipelineParameter('value', 'none')\n"
        "first, second = PipelineData('first'), PipelineData('second')\n"
        "one = CommandStep(['/bin/sh', '-c', 'cat \"$1\" > \"$2\"; echo \"$3\" >> \"$2\"', 'one', source, first, value],\n"
        "                  name='one', inputs=[source], outputs=[first])\n"
        "two = CommandStep([*STEP, second, first], name='two', inputs=[first], outputs=[second])\n"
        "pipeline = Pipeline(ws, steps=[one, two], name='soak')\n",
    )  # fmt: skip
    return folder


def _inside(bench: Bench, site: Site, runs: int, every: int) -> Iterator[Point]:
    folder = _project(site, bench, "soak-inside")
    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "soak_inside.py"), folder, str(runs), str(every)],
        env=_environment(site, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    before, seconds = 0, 0.0
    for line in process.stdout:
        held = json.loads(line)
        each = (held["seconds"] - seconds) / (held["runs"] - before)
        before, seconds = held["runs"], held["seconds"]
        yield _point(folder, before, each, int(held["rss"]), int(held["fds"]), int(held["threads"]))
        process.stdin.write("\n")
        process.stdin.flush()
    _, problem = process.communicate()
    if process.returncode:
        raise BenchError(
            f"the soak ended after {before} runs: {problem.strip().splitlines()[-1] if problem.strip() else process.returncode}"
        )


def _outside(bench: Bench, site: Site, runs: int, every: int) -> Iterator[Point]:
    """A process a run: its memory is the peak of the run; open files and threads end with it, so those of the system are not asked."""
    folder = _project(site, bench, "soak-outside")
    outer, bench.environment = bench.environment, _environment(site, folder)
    seconds, rss = 0.0, 0
    try:
        for number in range(runs):
            sample = bench.time([site.ours, "run", "-p", f"value=outside {number // 2}"], folder)
            seconds, rss = seconds + sample.wall_seconds, max(rss, sample.rss_bytes)
            if (number + 1) % every == 0:
                yield _point(folder, number + 1, seconds / every, rss, 0, 0)
                seconds, rss = 0.0, 0
    finally:
        bench.environment = outer


def _environment(site: Site, folder: str) -> dict[str, str]:
    return site.environment | {"TMPDIR": os.path.join(folder, "tmp")}


def _point(folder: str, runs: int, seconds: float, rss: int, fds: int, threads: int) -> Point:
    state = os.path.join(folder, ".mlpipe")
    return Point(
        runs=runs, ms_per_run=seconds * 1000, rss=rss, fds=fds, threads=threads, db=_database_bytes(f"{state}/state.db"),
        wal=_size(f"{state}/state.db-wal"), temporary=_left_over(folder),
    )  # fmt: skip


def _left_over(folder: str) -> int:
    """Between two runs nothing is live, so whatever lies in a temporary folder or is locked is left over."""
    found = len(os.listdir(os.path.join(folder, "tmp")))
    for path, _, names in os.walk(os.path.join(folder, ".mlpipe", "locks")):
        if os.path.basename(path) == "runs":
            found += len(names)
    for path, folders, names in os.walk(os.path.join(folder, ".mlpipe", "runs")):
        if os.path.basename(path) == "tmp":
            found += len(folders) + len(names)
    return found


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _database_bytes(path: str) -> int:
    """As large as it is once everything in the write-ahead log has been moved over. Changes nothing."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute("PRAGMA page_count").fetchone()[0]) * int(db.execute("PRAGMA page_size").fetchone()[0])
