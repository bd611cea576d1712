"""Times whole processes: wall clock, CPU and memory as the kernel counts them (wait4), contenders taking turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.errors import BenchError

_ENOUGH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    wall_seconds: float
    cpu_seconds: float
    """User and system time of the process and of all it waited for."""
    rss_bytes: int
    """The largest single process. It cannot read lower than the 10 MiB of the process that starts and times it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One contender in one case: all its samples."""

    workload: str
    case: str
    contender: str
    samples: tuple[Sample, ...]
    steps: int = 0
    """Of the case, where a cost a step makes sense."""
    ran: int | None = None
    """Steps that really ran, where that was counted."""
    note: str = ""

    @property
    def wall(self) -> float:
        return statistics.median(sample.wall_seconds for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu_seconds for sample in self.samples)

    @property
    def rss(self) -> int:
        return int(statistics.median(sample.rss_bytes for sample in self.samples))

    @property
    def spread(self) -> float:
        """Slowest by fastest."""
        walls = [sample.wall_seconds for sample in self.samples]
        return max(walls) / min(walls) if min(walls) > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Entry:
    """Who runs in a case: `before` is not timed, `check` raises when it did not do what it had to, and tells how many steps ran."""

    name: str
    argv: Callable[[], Sequence[str]]
    """Asked for just before it is started: what floor_c does depends on what is there."""
    cwd: str
    before: Callable[[int], None] = lambda _: None
    check: Callable[[], int | None] = lambda: None


@dataclass(slots=True)
class Bench:
    """One session: where things lie, what a process sees, how often everything is measured."""

    root: str
    rounds: int
    jobs: int
    quick: bool = False
    say: Callable[[str], None] = print
    environment: Mapping[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _timer: _Timer = field(default_factory=lambda: _Timer())

    def compare(
        self, workload: str, case: str, entries: Sequence[Entry], *, steps: int = 0, rounds: int | None = None, warm: bool = True
    ) -> list[Figure]:
        """All entries once a round, each round beginning with another. `warm`: a first round that does not count.

        One that has taken ten seconds by its second sample is not asked for more.
        An entry that fails is named and left out; the others go on.
        """
        taken: dict[str, list[Sample]] = {entry.name: [] for entry in entries}
        ran: dict[str, int | None] = {}
        alive = list(entries)
        wanted = rounds or self.rounds
        for number in range(-1 if warm else 0, wanted):
            shift = number % max(1, len(alive))
            for entry in [*alive[shift:], *alive[:shift]]:
                if _enough(taken[entry.name]):
                    continue
                try:
                    entry.before(number)
                    sample = self.time(entry.argv(), entry.cwd)
                    ran[entry.name] = entry.check()
                except BenchError as error:
                    self.drop(f"{workload} {case}: {entry.name}: {error}")
                    alive.remove(entry)
                    continue
                if number >= 0:
                    taken[entry.name].append(sample)
        made = [
            Figure(workload, case, entry.name, tuple(taken[entry.name]), steps, ran.get(entry.name))
            for entry in alive if taken[entry.name]
        ]  # fmt: skip
        self.keep(*made)
        return made

    def keep(self, *figures: Figure) -> None:
        self.figures.extend(figures)
        for figure in figures:
            ran = f"   {figure.ran:,} ran" if figure.ran is not None else ""
            self.say(
                f"  {figure.workload:<3} {figure.case:<26} {figure.contender:<24} {figure.wall:>9.4f} s   cpu {figure.cpu:>8.4f} s"
                f"   {figure.rss / 2**20:>5.0f} MiB   n={len(figure.samples)}{ran}"
            )

    def drop(self, note: str) -> None:
        self.notes.append(note)
        self.say("  left out: " + note)

    def time(self, argv: Sequence[str], cwd: str) -> Sample:
        """Raises BenchError with the last lines it printed when it does not exit with 0."""
        output = os.path.join(self.root, "last-output.txt")
        answer = self._timer.ask({"argv": list(argv), "cwd": cwd, "env": dict(self.environment), "output": output})
        if "error" in answer:
            raise BenchError(f"cannot start {argv[0]}: {answer['error']}")
        if answer["code"] != 0:
            raise BenchError(f"{os.path.basename(argv[0])} ended with {answer['code']}: {_tail(output)}")
        return Sample(answer["wall"], answer["cpu"], answer["rss"])

    def close(self) -> None:
        self._timer.close()


class _Timer:
    """programs/timer.py, which starts what is measured: a child inherits the peak memory of its parent."""

    def __init__(self) -> None:
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs", "timer.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _enough(samples: Sequence[Sample]) -> bool:
    """A contender that takes many seconds is not asked as often as one that takes milliseconds: two samples tell it."""
    return len(samples) >= 2 and sum(sample.wall_seconds for sample in samples) > _ENOUGH_SECONDS


def _tail(path: str) -> str:
    with open(path, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return " / ".join(lines[-3:]) or "no output"
