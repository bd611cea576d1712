"""A program on a terminal of its own (a pty of 120x40): how long until a text stands on it, what it costs to wait, how soon a key shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self

from benchmarks.errors import BenchError
from benchmarks.measure import Sample

_PATIENCE_SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Terminal:
    """Started with `with`; at its end the program is killed."""

    def __init__(self, argv: Sequence[str], cwd: str, environment: Mapping[str, str]) -> None:
        self._argv, self._cwd = list(argv), cwd
        self._environment = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            self._argv, cwd=self._cwd, env=self._environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.bytes = 0
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        os.close(self._master)

    def read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._master], [], [], max(seconds, 0))
        if not ready:
            return b""
        try:
            data = os.read(self._master, 1 << 16)
        except OSError as error:
            raise BenchError(f"{self._argv[0]} ended") from error
        self.bytes += len(data)
        return data

    def until(self, text: bytes) -> Sample:
        """Time and cost from the start until the text was drawn."""
        seen = b""
        end = self.started + _PATIENCE_SECONDS
        while text not in seen:
            if time.perf_counter() > end:
                raise BenchError(f"{self._argv[0]} never showed {text!r}: {seen[-300:]!r}")
            seen = seen[-4096:] + self.read(0.5)
        return Sample(time.perf_counter() - self.started, self.cpu(), self.memory())

    def settle(self, quiet_seconds: float = 1.0) -> None:
        """Until nothing was drawn for so long."""
        end = time.perf_counter() + _PATIENCE_SECONDS
        while self.read(quiet_seconds) and time.perf_counter() < end:
            pass

    def idle(self, seconds: float) -> Sample:
        """What doing nothing costs: the CPU time is that of the window."""
        before, started = self.cpu(), time.perf_counter()
        while (left := started + seconds - time.perf_counter()) > 0:
            self.read(left)
        return Sample(time.perf_counter() - started, self.cpu() - before, self.memory())

    def latencies(self, key: bytes, times: int) -> tuple[Sample, ...]:
        """From a key to the first byte that answers it."""
        found = []
        for _ in range(times):
            while self.read(0.05):
                pass
            before, started = self.cpu(), time.perf_counter()
            os.write(self._master, key)
            if not self.read(5.0):
                raise BenchError(f"{self._argv[0]} drew nothing for {key!r}")
            found.append(Sample(time.perf_counter() - started, self.cpu() - before, self.memory()))
        return tuple(found)

    def cpu(self) -> float:
        with open(f"/proc/{self._process.pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS

    def memory(self) -> int:
        with open(f"/proc/{self._process.pid}/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)


def median(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.wall_seconds for sample in samples)
