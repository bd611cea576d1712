"""When, where and with what a session was measured, and the documents made of it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from benchmarks.measure import Figure
from benchmarks.targets import Verdict

TITLES = {
    "W1": "Nothing to do",
    "W2": "First run",
    "W2p": "First run of Python steps that share a source folder of 50 files",
    "W3": "One source changed",
    "W3t": "One source touched, its bytes the same",
    "W4": "Start-up, a project of ten steps",
    "W6": "Hashing files",
    "W7": "Tables of ten columns",
    "W8": "Watch mode",
    "W8w": "Warm starts, beside a process that keeps one core busy",
    "W9": "The store",
    "W10": "The terminal app",
}


@dataclass(frozen=True, slots=True)
class Session:
    date: str
    machine: str
    cores: int
    load_at_start: tuple[float, float, float]
    versions: Mapping[str, str]
    absent: Mapping[str, str]
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    load_at_end: tuple[float, float, float] = (0.0, 0.0, 0.0)
    profiles: tuple[str, ...] = field(default=())

    @property
    def busy(self) -> bool:
        """Too much else was going on when it began for its figures to be published."""
        return self.load_at_start[0] > 1.5 * self.cores


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def machine() -> str:
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        return model
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def as_json(session: Session) -> str:
    document = {
        "schema": "mlpipe.bench/1", "date": session.date, "machine": session.machine, "cores": session.cores,
        "load_at_start": session.load_at_start, "load_at_end": session.load_at_end, "busy": session.busy,
        "versions": dict(session.versions), "absent": dict(session.absent), "notes": list(session.notes),
        "targets": [
            {"what": verdict.target.what, "ours": verdict.target.ours, "base": verdict.target.base, "limit": verdict.target.limit,
             "at_least": verdict.target.at_least, "ratio": verdict.ratio, "cpu_ratio": verdict.cpu_ratio, "verdict": verdict.word}
            for verdict in session.verdicts
        ],
        "figures": [
            {"workload": figure.workload, "case": figure.case, "contender": figure.contender, "steps": figure.steps, "ran": figure.ran,
             "wall_seconds": figure.wall, "cpu_seconds": figure.cpu, "rss_bytes": figure.rss,
             "samples": [asdict(sample) for sample in figure.samples[:50]]}
            for figure in session.figures
        ],
    }  # fmt: skip
    return json.dumps(document, indent=1) + "\n"


def as_markdown(session: Session) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Made by `python3 dev.py bench`; do not edit. Compare ratios, not seconds: both sides of every ratio were measured in turns, in one",
        "session, on one machine.",
        "",
        f"{session.date}, {session.machine}. Load average {_load(session.load_at_start)} at the start, {_load(session.load_at_end)} at the end.",
        "",
        "## Targets",
        "",
        "| what | against | wanted | found | of CPU time | |",
        "|---|---|---|---|---|---|",
        *(_target_row(verdict) for verdict in session.verdicts),
        "",
    ]
    if session.profiles:
        links = ", ".join(f"[{name}](benchmarks/profiles/{name}.txt)" for name in session.profiles)
        lines += [f"Where the time goes in what was missed: {links}.", ""]
    lines += ["## Figures", ""]
    lines += [
        "Medians. `cpu` is user and system time of a process and of all it waited for; `times` is the wall time by ours.",
        "",
    ]
    for workload in dict.fromkeys(figure.workload for figure in session.figures):
        lines += [f"### {workload}: {TITLES.get(workload, workload)}", ""]
        lines += _table([figure for figure in session.figures if figure.workload == workload])
    lines += [*_method(session), ""]
    return "\n".join(lines)


def as_lines(session: Session) -> list[str]:
    """Ratios first, for a terminal."""
    lines = [f"{session.date}  load {_load(session.load_at_start)} -> {_load(session.load_at_end)}", ""]
    for verdict in session.verdicts:
        if verdict.ratio is not None:
            target = verdict.target
            sign = ">=" if target.at_least else "<="
            cpu = "" if verdict.cpu_ratio is None else f"   of CPU time {verdict.cpu_ratio:.2f}x"
            found = f"{verdict.ratio:>8.2f}x {target.base:<16} wanted {sign} {target.limit:.2f}"
            lines.append(f"  {verdict.word:<7} {target.what:<38} {found}{cpu}")
    return lines


def _target_row(verdict: Verdict) -> str:
    target = verdict.target
    found = "" if verdict.ratio is None else f"{verdict.ratio:.2f}x"
    cpu = "" if verdict.cpu_ratio is None else f"{verdict.cpu_ratio:.2f}x"
    base = f"itself, {target.base_case}" if target.base_case else target.base
    word = {"ok": "ok", "missed": "**missed**"}.get(verdict.word, verdict.word)
    return f"| {target.what} | {base} | {'>=' if target.at_least else '<='} {target.limit:.2f}x | {found} | {cpu} | {word} |"


def _table(figures: list[Figure]) -> list[str]:
    lines = [
        "| case | contender | wall ms | cpu ms | RSS MiB | times | ran | n | slowest by fastest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    bases = {figure.case: figure.wall for figure in figures if figure.contender in ("mlpipe-tui", "engine", "recorder")}
    for figure in figures:
        base = bases.get(figure.case)
        lines.append(
            f"| {figure.case} | {figure.contender} | {_ms(figure.wall)} | {_ms(figure.cpu) if figure.cpu else ''} |"
            f" {f'{figure.rss / 2**20:.0f}' if figure.rss else ''} | {f'{figure.wall / base:.3g}' if base else ''} |"
            f" {'' if figure.ran is None else f'{figure.ran:,}'} | {len(figure.samples)} | {figure.spread:.2f} |"
        )
    return [*lines, ""]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.3g}" if seconds < 1 else f"{seconds * 1000:,.0f}"


def _load(load: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.2f}" for value in load)


def _method(session: Session) -> list[str]:
    absent = "; ".join(f"{name}: {why}" for name, why in session.absent.items()) or "none"
    return [
        "## Method",
        "",
        "- Whole processes, timed from before the spawn until wait4 returns, by a small process that does nothing else (so RSS cannot read",
        "  below about 10 MiB). Output goes to a file, the environment is fixed, caches are warm, everything lies on one file system.",
        "- In every round all contenders run once, each round begins with another one; before each process `sync`, untimed. Nothing is timed",
        "  on a cold cache: every contender has run twice before, and start-up has a first round that does not count. A contender that has taken",
        "  ten seconds after two samples is not asked for more.",
        "- The graph is seeded: ten layers, a step reads its own source and the outputs of two steps of the layer before. The program of every",
        "  step is a static C program that writes a digest of what it read; without a C compiler, a shell script. After every first run and every",
        "  change all outputs of all contenders are compared with what they must contain; a contender that is wrong is left out.",
        "- `floor_c` looks at files or spawns processes, and nothing else. `floor_py` is `python -I -S` with SQLite, os.stat, posix_spawn, blake2b",
        "  and one record a step in one transaction, without command line, definitions, logs or crash safety.",
        "- `copy and spawn` copies the source folder for each step and spawns its script. `recorder` puts one row a call; `raw executemany` gets",
        "  them all in one call.",
        "- Peers are set up in the fastest documented way that looks at content or modification times, as many at a time as there are cores, except",
        "  dvc, which knows one at a time. Peers whose time would pass that of all others together have smaller cases only.",
        "",
        f"Absent: {absent}.",
        "",
        *(f"- {note}" for note in session.notes),
        *([""] if session.notes else []),
        "Versions: " + "; ".join(f"{name} {_bare(name, text)}" for name, text in session.versions.items()) + ".",
    ]


def _bare(name: str, text: str) -> str:
    return text.removeprefix(name).strip()
