"""Where the time of our own process goes, for what missed its target: cProfile of the main thread, the 25 most expensive functions."""

from __future__ import annotations

import io
import os
import pstats
import re
import sys

from benchmarks import python_steps
from benchmarks.contenders import Contender, Step, edit, make_project
from benchmarks.graphs import layered
from benchmarks.measure import Bench
from benchmarks.site import PROGRAMS, REPOSITORY, Site

_LINES = 25


def profile(bench: Bench, site: Site, contenders: list[Contender], step: Step, name: str) -> str:
    """The text of one profile, one of TITLES. Prereq for pages: W9 was measured in this session."""
    path = os.path.join(site.root, f"{name}.prof")
    traced = [os.path.join(os.path.dirname(site.ours), "python"), str(PROGRAMS / "traced.py"), path]
    if name == "pages":
        bench.time([*traced, str(PROGRAMS / "store_pages.py"), site.folder("store-100000"), "200"], site.root)
        return _text(name, path)
    ours = next(one for one in contenders if one.name == "mlpipe-tui")
    folder = site.folder("profile")
    graph = layered(1000)
    if name == "python-steps":
        python_steps.make_project(folder, 200, bench.jobs)
    else:
        make_project(ours, folder, graph, step, bench.jobs)
    if name in ("null", "changed"):
        for _ in range(2):
            bench.time([site.ours, "run"], folder)
    if name == "changed":
        edit(folder, graph.step_with_below(98), 1)
    bench.time([*traced, site.ours, "run"], folder)
    return _text(name, path)


TITLES = {
    "null": "mlpipe-tui run, layered 1,000, nothing to do",
    "changed": "mlpipe-tui run, layered 1,000, 98 steps below one changed source",
    "cold": "mlpipe-tui run, layered 1,000, first run",
    "python-steps": "mlpipe-tui run, 200 Python steps that share 50 files, first run",
    "pages": "pages of 100,000 runs, steps of a run, why: each asked 201 times through the engine and by the raw query",
}


def _text(name: str, path: str) -> str:
    return f"{TITLES[name]}\n\n{_listed(path, 'tottime')}\n{_listed(path, 'cumulative')}"


def _listed(path: str, order: str) -> str:
    text = io.StringIO()
    stats = pstats.Stats(path, stream=text)
    stats.sort_stats(order).print_stats(_LINES)
    lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()][1:]
    return "\n".join(_shorten(line) for line in lines) + "\n"


def _shorten(line: str) -> str:
    """No path of this machine."""
    for folder in (str(REPOSITORY / "engine"), str(REPOSITORY), sys.base_prefix, sys.prefix):
        line = line.replace(folder + os.sep, "")
    return re.sub(r"(^|\s)/\S*/([^/\s]+)", r"\1\2", line)
