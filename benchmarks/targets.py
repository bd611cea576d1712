"""What the engine has to reach, as ratios of two figures of the same session. A ratio across sessions or machines is never made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.measure import Figure


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    workload: str
    case: str
    ours: str
    base: str
    limit: float
    at_least: bool = False
    """The ratio of rates (base's time by ours) has to reach the limit, where else the ratio of times must not pass it."""
    base_case: str | None = None
    of: str = "wall"
    """wall, or rss: the largest process."""
    profile: str = ""
    """Which profile shows why it was missed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    ratio: float | None
    """Of wall times, which decides. None: a figure is missing."""
    cpu_ratio: float | None = None
    """Of CPU times, which other work on the machine disturbs less. None where only a part of a process was timed."""

    @property
    def word(self) -> str:
        if self.ratio is None:
            return "not measured"
        met = self.ratio >= self.target.limit if self.target.at_least else self.ratio <= self.target.limit
        return "ok" if met else "missed"


_OURS = "mlpipe-tui"
TARGETS = (
    Target("up to date, 1,000 steps", "W1", "layered 1,000", _OURS, "floor_py", 2.0, profile="null"),
    Target("up to date, 1,000 steps", "W1", "layered 1,000", _OURS, "doit", 0.27, profile="null"),
    Target("up to date, 5,000 steps", "W1", "layered 5,000", _OURS, "floor_py", 2.0, profile="null"),
    Target("up to date, 5,000 steps", "W1", "layered 5,000", _OURS, "doit", 0.27, profile="null"),
    Target(
        "up to date, 5,000 by 1,000 (linear)", "W1", "layered 5,000", _OURS, _OURS, 5.0, base_case="layered 1,000", profile="null"
    ),
    Target("up to date, chain of 5,000", "W1", "chain 5,000", _OURS, "floor_py", 2.0, profile="null"),
    Target("first run, 1,000 steps", "W2", "layered 1,000", _OURS, "doit", 1.0, profile="cold"),
    Target("first run, 200 Python steps", "W2p", "200 Python steps", _OURS, "copy and spawn", 1.3, profile="python-steps"),
    Target("one source changed, 98 of 1,000", "W3", "layered 1,000, 98 below", _OURS, "doit", 0.30, profile="changed"),
    Target("one source touched, 1,000 steps", "W3t", "layered 1,000, touched", _OURS, "doit", 0.25, profile="null"),
    Target("--help", "W4", "layered 10", f"{_OURS} --help", "python -c pass", 2.0),
    Target("status", "W4", "layered 10", f"{_OURS} status", "python -c pass", 3.0),
    Target("100,000 files that did not change", "W6", "100,000 unchanged files", _OURS, "os.stat loop", 2.0),
    Target("one file of 2 GiB", "W6", "hash 2,048 MiB", "engine", "b3sum", 0.75, at_least=True),
    Target("100,000 cold files", "W6", "hash 100,000 cold files", "engine", "one thread", 0.6),
    *(
        Target(f"{what}, {ending}", "W7", f"profile, {ending}, 10,000,000 rows", f"{_OURS} {part}", "SUMMARIZE", limit, of=of)
        for what, part, of, limits in (
            ("core profile", "core", "wall", (0.45, 0.65)),
            ("whole profile", "all", "wall", (1.0, 1.0)),
            ("memory of a profile", "all", "rss", (1.2, 1.2)),
        )
        for ending, limit in zip(("csv", "parquet"), limits, strict=True)
    ),
    Target("first 100 rows, csv", "W7", "first 100 rows, csv, 10,000,000 rows", _OURS, "DuckDB", 0.1),
    Target("first 100 rows, parquet", "W7", "first 100 rows, parquet, 10,000,000 rows", _OURS, "DuckDB", 1.15),
    Target("save to first instruction, a write", "W8", "write, 1,000 steps", _OURS, "entr", 0.30),
    Target("save to first instruction, a replace", "W8", "atomic replace, 1,000 steps", _OURS, "entr", 0.20),
    Target("a change decided, 5,000 steps", "W8", "decision, 5,000 steps", _OURS, "50 ms", 1.0),
    Target("watching 20,000 files, nothing happens", "W8", "idle, 20,000 files", _OURS, "0.5 % of the time", 1.0),
    Target(
        "start of a forked step",
        "W8w",
        "start of a step that imports numpy, scipy, sklearn, matplotlib; 500 forks",
        "forked",
        "cold",
        10.0,
        at_least=True,
    ),
    Target("writes through the recorder", "W9", "write 100,000 rows", "recorder", "raw executemany", 0.3, at_least=True),
    Target("page 1 of 100,000 runs", "W9", "page 1 of runs, 100,000 runs", "engine", "raw query", 2.0, profile="pages"),
    Target("a deep page of 100,000 runs", "W9", "deep page of runs, 100,000 runs", "engine", "raw query", 2.0, profile="pages"),
    Target("first frame", "W10", "first frame, 1,000 steps, 100,000 runs", _OURS, "Header+DataTable+Footer", 1.25),
    Target("first frame", "W10", "first frame, 1,000 steps, 100,000 runs", _OURS, "harlequin", 0.4),
)


def judge(figures: Iterable[Figure], targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Every figure must come from one session."""
    known = list(figures)
    return [Verdict(target, *ratios(known, target)) for target in targets]


def ratios(figures: list[Figure], target: Target) -> tuple[float | None, float | None]:
    """Of wall and of CPU times."""
    ours = _find(figures, target.workload, target.case, target.ours)
    base = _find(figures, target.workload, target.base_case or target.case, target.base)
    if ours is None or base is None:
        return None, None
    if target.of == "rss":
        return ours.rss / base.rss, None
    if target.at_least:
        ours, base = base, ours
    return ours.wall / base.wall, ours.cpu / base.cpu if ours.cpu and base.cpu else None


def _find(figures: list[Figure], workload: str, case: str, contender: str) -> Figure | None:
    for figure in figures:
        if figure.workload == workload and figure.case == case and figure.contender == contender:
            return figure
    return None
