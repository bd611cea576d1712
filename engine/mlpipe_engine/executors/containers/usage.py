"""CPU and memory of a running container as a curve in a file: `seconds,cpus,memory_bytes` a second. Never a reason to fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

HEADER = "seconds,cpus,memory_bytes\n"


@dataclass
class Usage:
    """The totals so far."""

    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


def follow_usage(samples: Iterable[dict[str, Any]], path: str, usage: Usage, ended: Callable[[], bool]) -> None:
    """Until the container has ended: the engine goes on with empty samples for ever after."""
    began = time.monotonic()
    try:
        with open(path, "a", encoding="ascii") as file:
            if os.fstat(file.fileno()).st_size == 0:
                file.write(HEADER)
            for sample in samples:
                memory = sample.get("memory_stats") or {}
                if ended() or not memory.get("usage"):
                    return
                used = _used(memory)
                usage.peak_memory_bytes = max(usage.peak_memory_bytes or 0, used, int(memory.get("max_usage") or 0))
                usage.cpu_seconds = sample["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
                file.write(f"{time.monotonic() - began:.2f},{_cpus(sample):.3f},{used}\n")
                file.flush()
    except Exception:
        return


def _used(memory: dict[str, Any]) -> int:
    """Without the pages that the kernel would give back at once."""
    details = memory.get("stats") or {}
    return max(0, int(memory["usage"]) - int(details.get("total_inactive_file") or details.get("inactive_file") or 0))


def _cpus(sample: dict[str, Any]) -> float:
    now, before = sample["cpu_stats"], sample.get("precpu_stats") or {}
    elapsed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    if not before.get("system_cpu_usage") or elapsed <= 0:
        return 0.0
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    return float(used / elapsed * int(now.get("online_cpus") or 1))
