"""Times whole processes: wall clock, CPU and memory as the kernel counts them (wait4), contenders taking turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.errors import BenchError


@dataclass(frozen=True, slots=True)
class Sample:
    wall_seconds: float
    cpu_seconds: float
    """User and system time of the process and of all it waited for."""
    rss_bytes: int
    """The largest single process. It cannot read lower than what this harness holds itself."""


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

    def compare(
        self, workload: str, case: str, entries: Sequence[Entry], *, steps: int = 0, rounds: int | None = None, warm: bool = True
    ) -> list[Figure]:
        """All entries once a round, each round beginning with another. `warm`: a first round that does not count.

        An entry that fails is named and left out; the others go on.
        """
        taken: dict[str, list[Sample]] = {entry.name: [] for entry in entries}
        ran: dict[str, int | None] = {}
        alive = list(entries)
        wanted = rounds or self.rounds
        for number in range(-1 if warm else 0, wanted):
            shift = number % max(1, len(alive))
            for entry in [*alive[shift:], *alive[:shift]]:
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
        os.sync()  # what an earlier process left to be written is not paid by this one
        back = os.getcwd()
        os.chdir(cwd)
        try:
            begun = time.perf_counter()
            pid = os.posix_spawn(
                argv[0], argv, self.environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
            )  # fmt: skip
            _, status, usage = os.wait4(pid, 0)
            wall = time.perf_counter() - begun
        except OSError as error:
            raise BenchError(f"cannot start {argv[0]}: {error.strerror}") from error
        finally:
            os.chdir(back)
        if status != 0:
            raise BenchError(f"{os.path.basename(argv[0])} ended with {os.waitstatus_to_exitcode(status)}: {_tail(output)}")
        return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _tail(path: str) -> str:
    with open(path, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return " / ".join(lines[-3:]) or "no output"
