"""W10: the terminal app beside a bare one of Textual's own widgets and beside harlequin; its table and its log beside the stock ones."""

from __future__ import annotations

import os
import sys

from benchmarks import peers
from benchmarks.contenders import Contender, Step, make_project
from benchmarks.errors import BenchError
from benchmarks.graphs import layered
from benchmarks.measure import Bench, Figure, Sample
from benchmarks.site import PROGRAMS, Site
from benchmarks.storage import multiply
from benchmarks.terminal import Terminal

_DOWN = b"\x1b[B"
_PAGE_DOWN = b"\x1b[6~"
_PAGE_UP = b"\x1b[5~"


def screens(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W10."""
    if not os.path.exists("/proc/self/stat"):
        bench.drop("W10: needs Linux's /proc")
        return
    _app(bench, site, contenders, step)
    _table(bench, site)
    _log(bench, site)


def _program(name: str, *words: str) -> list[str]:
    return [sys.executable, str(PROGRAMS / "screens.py"), name, *words]


def _app(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    steps, runs = (20, 50) if bench.quick else (1000, 100_000)
    folder = site.folder(f"screens-{steps}")
    ours = next(one for one in contenders if one.name == "mlpipe-tui")
    make_project(ours, folder, layered(steps), step, bench.jobs)
    for _ in range(2):  # the second is one row that points at the first: a store of 100,000 runs like it can be made
        bench.time(ours.command(folder), folder)
    multiply(os.path.join(folder, ".mlpipe", "state.db"), runs)
    apps = {
        "Header+DataTable+Footer": (_program("bare"), b"ready"),
        "mlpipe-tui": ([ours.command(folder)[0]], b"s3" if bench.quick else b"s103"),
    }  # the first layer of many is one row
    harlequin = None if bench.quick else peers._installed(site.root, site.bare_python, "harlequin", bench.say)
    if harlequin:
        apps["harlequin"] = ([harlequin], b"Query Editor")
    case = f"first frame, {steps:,} steps, {runs:,} runs"
    taken: dict[str, list[Sample]] = {name: [] for name in apps}
    for number in range(bench.rounds + 1):
        for name, (argv, text) in list(apps.items()):
            try:
                with Terminal(argv, folder, bench.environment) as terminal:
                    sample = terminal.until(text)
            except BenchError as error:
                bench.drop(f"W10 {case}: {name}: {error}")
                del apps[name]
                continue
            if number:
                taken[name].append(sample)
    bench.keep(*(Figure("W10", case, name, tuple(samples)) for name, samples in taken.items() if samples))
    seconds = 3.0 if bench.quick else 10.0
    for name in ("Header+DataTable+Footer", "mlpipe-tui"):
        if name not in apps:
            continue
        argv, text = apps[name]
        with Terminal(argv, folder, bench.environment) as terminal:
            terminal.until(text)
            terminal.settle()
            bench.keep(Figure("W10", f"idle for {seconds:g} s", name, (terminal.idle(seconds),)))
            bench.keep(Figure("W10", "key to byte, one row down", name, terminal.latencies(_DOWN, 10 if bench.quick else 40)))


def _table(bench: Bench, site: Site) -> None:
    many, few = (20_000, 2_000) if bench.quick else (10_000_000, 100_000)
    for name, kind, rows, page in (("paged table", "paged", many, _PAGE_DOWN), ("DataTable", "datatable", few, _PAGE_DOWN)):
        path = _parquet(site, rows)
        _show(bench, name, _program(kind, path), b"name 7", f"table of {rows:,} rows", page, site)


def _log(bench: Bench, site: Site) -> None:
    many, few = (20_000, 2_000) if bench.quick else (1_000_000, 100_000)
    for name, kind, lines in (("log view", "logview", many), ("Log", "log", many), ("RichLog", "richlog", few)):
        path = _lines(site, lines)
        _show(bench, name, _program(kind, path), f"line {lines - 3} of".encode(), f"log of {lines:,} lines", _PAGE_UP, site)


def _show(bench: Bench, name: str, argv: list[str], text: bytes, case: str, key: bytes, site: Site) -> None:
    try:
        with Terminal(argv, site.root, bench.environment) as terminal:
            bench.keep(Figure("W10", f"{case}: first rows", name, (terminal.until(text),)))
            terminal.settle()
            bench.keep(Figure("W10", f"{case}: key to byte", name, terminal.latencies(key, 10 if bench.quick else 30)))
    except BenchError as error:
        bench.drop(f"W10 {case}: {name}: {error}")


def _parquet(site: Site, rows: int) -> str:
    path = os.path.join(site.root, "work", f"rows-{rows}.parquet")
    if not os.path.exists(path):
        import duckdb

        duckdb.connect().execute(
            f"COPY (SELECT i AS id, (i * 7919) % 1000003 AS k, (i % 977) / 977.0 AS f, 'name ' || (i % 5000) AS s, i % 7 = 0 AS b,"
            f" DATE '2020-01-01' + (i % 2000)::INT AS d, (i % 100)::TINYINT AS t, i * 1.5 AS m, md5(i::VARCHAR) AS h, NULL::INT AS n"
            f" FROM range({rows}) x(i)) TO '{path}.new' (FORMAT parquet)"
        )
        os.replace(f"{path}.new", path)
    return path


def _lines(site: Site, lines: int) -> str:
    path = os.path.join(site.root, "work", f"lines-{lines}.log")
    if not os.path.exists(path):
        with open(f"{path}.new", "w") as file:
            for start in range(0, lines, 1000):
                last = min(start + 1000, lines)
                file.write(
                    "".join(
                        f"2026-11-24 12:00:{n % 60:02d} INFO line {n} of many, loss=0.{n % 1000:03d}\n"
                        for n in range(start, last)
                    )
                )
        os.replace(f"{path}.new", path)
    return path
