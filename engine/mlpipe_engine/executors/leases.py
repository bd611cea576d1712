"""CPUs and memory leased across all runs of the machine, so that two runs together do not ask for more than there is.

A ledger under a file lock; every owner also holds a lock of its own for life, so the leases of a dead runner are dropped by the
next one that looks. Lies in $XDG_RUNTIME_DIR/mlpipe-tui, else in a folder of the temporary directory that only this user can enter.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
from dataclasses import dataclass
from uuid import uuid4

from mlpipe_engine.errors import ExecutorUnavailableError, FilesystemError
from mlpipe_engine.executors.slots import is_held

Amounts = dict[str, list[float]]
"""Lease id -> [cpus, memory bytes]; ids start with their owner's."""


@dataclass(frozen=True)
class Lease:
    """Held until `release`, or until its owner dies."""

    leases: Leases
    id: str
    cpus: float
    memory_bytes: float

    def release(self) -> None:
        self.leases.release(self.id)


class Leases:
    """One per runner. `cpus` and `memory_bytes` default to what the machine has."""

    def __init__(self, directory: str | None = None, *, cpus: float | None = None, memory_bytes: float | None = None) -> None:
        self._directory = directory or machine_directory()
        self.cpus = cpus if cpus is not None else float(available_cpus())
        self.memory_bytes = memory_bytes if memory_bytes is not None else float(machine_memory_bytes())
        self._owner = uuid4().hex[:16]
        self._ledger = -1
        self._life = -1
        self._mine: Amounts = {}

    def bounded(self, cpus: float, memory_bytes: float) -> tuple[float, float]:
        """What a lease of so much is of: asking for more than there is leases all of it, alone."""
        return min(max(cpus, 0.0), self.cpus), min(memory_bytes, self.memory_bytes)

    def try_lease(self, cpus: float, memory_bytes: float = 0) -> Lease | None:
        """None while others hold too much."""
        cpus, memory_bytes = self.bounded(cpus, memory_bytes)
        self.open()
        fcntl.flock(self._ledger, fcntl.LOCK_EX)
        try:
            ledger = self._read()
            if not self._fits(ledger, cpus, memory_bytes):
                ledger = {id: amounts for id, amounts in ledger.items() if self._alive(id)}
                if not self._fits(ledger, cpus, memory_bytes):
                    return None
            lease = Lease(self, f"{self._owner}-{uuid4().hex[:8]}", cpus, memory_bytes)
            ledger[lease.id] = self._mine[lease.id] = [cpus, memory_bytes]
            self._write(ledger)
            return lease
        finally:
            fcntl.flock(self._ledger, fcntl.LOCK_UN)

    def release(self, id: str) -> None:
        """Idempotent."""
        if self._mine.pop(id, None) is None:
            return
        fcntl.flock(self._ledger, fcntl.LOCK_EX)
        try:
            ledger = self._read()
            ledger.pop(id, None)
            self._write(ledger)
        finally:
            fcntl.flock(self._ledger, fcntl.LOCK_UN)

    def close(self) -> None:
        for id in list(self._mine):
            self.release(id)
        if self._life >= 0:
            try:
                os.unlink(f"{self._directory}/owner-{self._owner}")
            except OSError:
                pass
            os.close(self._life)
            os.close(self._ledger)
            self._life = self._ledger = -1

    def _fits(self, ledger: Amounts, cpus: float, memory_bytes: float) -> bool:
        if not ledger:
            return True
        used_cpus = sum(amounts[0] for amounts in ledger.values())
        used_memory = sum(amounts[1] for amounts in ledger.values())
        return used_cpus + cpus <= self.cpus + 1e-9 and used_memory + memory_bytes <= self.memory_bytes

    def _alive(self, id: str) -> bool:
        owner = id.partition("-")[0]
        if owner == self._owner:
            return id in self._mine
        return is_held(f"{self._directory}/owner-{owner}")

    def open(self) -> None:
        """Done by the first lease; ahead of it where that one is in a hurry. Raises FilesystemError."""
        if self._life >= 0:
            return
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._ledger = os.open(f"{self._directory}/ledger", flags, 0o600)
            self._life = os.open(f"{self._directory}/owner-{self._owner}", flags, 0o600)
            fcntl.flock(self._life, fcntl.LOCK_EX)
        except OSError as error:
            raise FilesystemError.of(error, "open the ledger of leases in", self._directory) from error

    def _read(self) -> Amounts:
        body = os.pread(self._ledger, 1 << 20, 0)
        try:
            ledger = json.loads(body) if body else {}
        except ValueError:  # written half: its writer died; whoever holds a lock still counts, the amounts are lost
            return dict(self._mine)
        return ledger if isinstance(ledger, dict) else {}

    def _write(self, ledger: Amounts) -> None:
        body = json.dumps(ledger).encode()
        try:
            os.pwrite(self._ledger, body, 0)
            os.ftruncate(self._ledger, len(body))
        except OSError as error:
            raise FilesystemError.of(error, "write the ledger of leases in", self._directory) from error


def available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine_directory() -> str:
    """A folder of this user alone, for what is shared between all runs of the machine. Raises FilesystemError, ExecutorUnavailableError."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime) and os.access(runtime, os.W_OK):
        folder = os.path.join(runtime, "mlpipe-tui")
    else:
        folder = os.path.join(tempfile.gettempdir(), f"mlpipe-tui-{os.getuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise FilesystemError.of(error, "make the folder of leases", folder) from error
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise ExecutorUnavailableError(
            f"{folder} belongs to somebody else", hint="Set XDG_RUNTIME_DIR or TMPDIR to a folder of your own."
        )
    return folder
