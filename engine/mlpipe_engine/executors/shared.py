"""What a step holds besides CPUs and memory while it runs: GPUs of the machine, a slot of its pool. Leased together, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.executors.slots import Held, Slots

if TYPE_CHECKING:
    from mlpipe_engine.executors.gpus import GpuLease
    from mlpipe_engine.model.spec import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What a compute target has of which there are a few."""

    gpus: tuple[str, ...]
    """Ids; (): all of the driver."""
    gpus_per_node: int
    slots: int
    """0: no limit."""
    folder: str
    """Where the locks of its slots lie."""

    @property
    def names(self) -> list[str]:
        return [str(number) for number in range(self.slots)]


@dataclass
class SharedLease:
    gpus: GpuLease | None
    slot: Held | None

    def release(self) -> None:
        """Idempotent."""
        for item in (self.gpus, self.slot):
            if item is not None:
                item.release()


def lease_shared(resources: Resources, shares: Shares, owner: str) -> SharedLease | None:
    """None while others hold too much. Raises FilesystemError."""
    slot = None
    if shares.slots:
        slot = Slots(shares.folder).try_take(1, shares.names, owner)
        if slot is None:
            return None
    count, optional = _wanted(resources, shares)
    if not count:
        return SharedLease(None, slot)
    from mlpipe_engine.executors.gpus import GpuLeases, available, no_gpus

    gpus = no_gpus() if optional and not available(count, shares.gpus) else GpuLeases(owner).try_lease(count, shares.gpus)
    if gpus is None and slot is not None:
        slot.release()
    return SharedLease(gpus, slot) if gpus is not None else None


def _wanted(resources: Resources, shares: Shares) -> tuple[int, bool]:
    """(how many GPUs, whether it may go without)."""
    if resources.gpus:
        return resources.gpus, resources.gpus_optional
    return shares.gpus_per_node, True


def holders(resources: Resources, shares: Shares) -> str:
    """What a step waits for and who has it, for people."""
    if shares.slots:
        slots = Slots(shares.folder)
        if all(slots.is_held(name) for name in shares.names):
            return f"a node of its pool, of which all {shares.slots} are in use"
    from mlpipe_engine.executors.gpus import GpuLeases

    return f"a GPU, held by {GpuLeases('').holders(shares.gpus) or 'another step'}"
