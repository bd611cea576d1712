"""GPUs as something steps lease: which there are, which are free, how they are used. The same leases for processes and containers.

The machine's GPUs are those of the driver, or those a compute target lists by id. A lease is exclusive, holds across all runs of
this user's machine, and dies with its runner. Used by the runner; how a container gets its devices is in `containers.gpu_requests`.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError
from mlpipe_engine.executors import nvml
from mlpipe_engine.executors.leases import machine_directory
from mlpipe_engine.executors.slots import Held, Slots

HEADER = "seconds,gpu,utilization_percent,memory_bytes\n"
_SAMPLE_SECONDS = 0.5


@dataclass
class GpuLease:
    """The devices of one step while it runs."""

    ids: tuple[str, ...]
    """As the target lists them, else indices of the driver."""
    _held: Held
    _ended: threading.Event = field(default_factory=threading.Event)

    def variables(self) -> dict[str, str]:
        """For a process: it sees these devices alone, in the driver's order."""
        if not self.ids:
            return {"CUDA_VISIBLE_DEVICES": ""}
        uuids = {str(gpu.index): gpu.uuid for gpu in _known()}
        names = [uuids.get(id, id) for id in self.ids]
        return {"CUDA_VISIBLE_DEVICES": ",".join(names), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def record(self, path: str) -> None:
        """Write down how busy they are, twice a second, until the lease ends; where the driver can be asked."""
        indices = [gpu.index for gpu in _known() if str(gpu.index) in self.ids or gpu.uuid in self.ids]
        if indices:
            threading.Thread(target=_record, args=(path, indices, self._ended), name="gpu usage", daemon=True).start()

    def release(self) -> None:
        """Idempotent."""
        self._ended.set()
        self._held.release()


class GpuLeases:
    """One per runner. `owner`: who leases, for people that wait."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._slots = Slots(os.path.join(machine_directory(), "gpus"))

    def try_lease(self, count: int, listed: tuple[str, ...]) -> GpuLease | None:
        """None while others hold too many. Raises EnvironmentProblem, FilesystemError."""
        ids = ids_of(listed)
        held = self._slots.try_take(count, [name.replace("/", "_") for name in ids], self._owner)
        return None if held is None else GpuLease(tuple(id for id in ids if id.replace("/", "_") in held.names), held)

    def holders(self, listed: tuple[str, ...]) -> str:
        return ", ".join(sorted(set(self._slots.holders(ids_of(listed)))))


def no_gpus() -> GpuLease:
    """For a step that goes without."""
    return GpuLease((), Held((), []))


def ids_of(listed: tuple[str, ...]) -> tuple[str, ...]:
    return listed or tuple(str(gpu.index) for gpu in _known())


def _known() -> tuple[nvml.Gpu, ...]:
    try:
        return nvml.gpus()
    except nvml.NoDriver:
        return ()


def require(count: int, listed: tuple[str, ...], step: str, where: str) -> None:
    """Raises EnvironmentProblem before anything starts when there will never be so many."""
    if listed:
        found = len(listed)
    else:
        try:
            found = len(nvml.gpus())
        except nvml.NoDriver as error:
            raise EnvironmentProblem(
                f"step {step!r} asks for {_counted(count)}, but {error}", where=where,
                hint="Install the driver (sudo apt-get install nvidia-driver, then restart), or let the step run without: gpus_optional=True.",
            ) from None  # fmt: skip
    if count > found:
        whose = "its compute target lists" if listed else "this machine has"
        raise EnvironmentProblem(
            f"step {step!r} asks for {_counted(count)}, but {whose} {_counted(found)}", where=where, hint="Ask for fewer, or use gpus_optional=True."
        )  # fmt: skip


def available(count: int, listed: tuple[str, ...]) -> bool:
    return count <= len(ids_of(listed))


def _counted(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count or 'no'} GPUs"


def _record(path: str, indices: list[int], ended: threading.Event) -> None:
    began = time.monotonic()
    try:
        with open(path, "a", encoding="ascii") as file:
            file.write(HEADER)
            while True:
                for index in indices:
                    percent, memory = nvml.busy(index)
                    file.write(f"{time.monotonic() - began:.2f},{index},{percent},{memory}\n")
                file.flush()
                if ended.wait(_SAMPLE_SECONDS):
                    return
    except (OSError, nvml.NoDriver, FilesystemError):
        return
