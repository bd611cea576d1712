"""What a container of a step is made with: nothing it does not need.

A pure function from a task to what the engine is asked for, so that a test can read every default. Safe defaults cost nothing
measurable: docs/decisions/0045.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlpipe_engine.errors import StagingError
from mlpipe_engine.executors.containers.gpu_requests import devices_of

if TYPE_CHECKING:
    from mlpipe_engine.executors.containers.engines import EngineFacts
    from mlpipe_engine.model.execution import Container, StepTask

LABEL = "mlpipe-tui"


def container_name(attempt_id: str) -> str:
    return f"mlpipe-{attempt_id}"


def labels_of(task: StepTask) -> dict[str, str]:
    assert task.container is not None
    return {f"{LABEL}.attempt": task.attempt_id, **dict(task.container.labels)}


def container_arguments(
    task: StepTask, facts: EngineFacts, volumes: Sequence[tuple[str, str, bool]] = ()
) -> dict[str, Any]:  # fmt: skip
    """Keyword arguments of `create_container`. Raises StagingError when something to be mounted is not there.

    `volumes`: (name, place, read-only) of what is mounted where the engine does not see our files.
    """
    from docker.types import LogConfig, Mount

    asked = task.container
    assert asked is not None
    if facts.local:
        kind, given = "bind", [(task.step_dir, task.step_dir, False), *((source, target, True) for source, target in task.mounts)]
    else:
        kind, given = "volume", list(volumes)
    for source, _, _ in given if facts.local else ():
        if not os.path.lexists(source):  # Podman would make it, as root
            raise StagingError(f"what the step is given is gone: {source}", hint="Run the pipeline again.")
    memory, gpus = asked.memory_bytes, devices_of(asked.gpus, facts)
    given = [*given, *((source, target, True) for source, target in gpus.mounts)] if facts.local else given
    # shared memory and log settings of Podman differ, so they are left to it
    more: dict[str, Any] = (
        {} if facts.podman else {"log_config": LogConfig(type="local", config={"max-size": "20m", "max-file": "3"})}
    )
    host = {
        "mounts": [Mount(target, source, type=kind, read_only=read_only) for source, target, read_only in given],
        "network_mode": asked.network, "init": True, "read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"],
        "tmpfs": dict.fromkeys(asked.scratch, "rw,exec,nosuid,nodev,mode=1777"),  # exec: compilers of kernels load what they wrote there
        "pids_limit": asked.pids, "shm_size": asked.shm_bytes, "ipc_mode": "private", "mem_limit": memory, "memswap_limit": memory,
        "nano_cpus": int(asked.cpus * 1e9) if asked.cpus and "cpus" not in facts.not_enforced else None,
        "device_requests": gpus.requests or None, "devices": gpus.devices or None, **more,
    }  # fmt: skip
    return {
        "image": asked.image, "command": list(task.argv), "entrypoint": [], "environment": gpus.variables | variables(task), "working_dir": task.cwd,
        "user": "0:0" if facts.rootless else asked.user or None, "labels": labels_of(task), "name": container_name(task.attempt_id),
        "stop_signal": "SIGTERM", "host": host,
    }  # fmt: skip


def variables(task: StepTask) -> dict[str, str]:
    return dict(task.environment)


def thread_variables(cpus: float | None) -> dict[str, str]:
    """Libraries ask the machine how many threads to start, not the limit: more would only wait for each other."""
    if not cpus:
        return {}
    count = str(max(1, math.ceil(cpus)))
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), count)


def limits_not_enforced(container: Container, facts: EngineFacts) -> tuple[str, ...]:
    """Limits of the step that this engine would silently ignore."""
    asked = {"memory": container.memory_bytes, "cpus": container.cpus, "pids": container.pids}
    return tuple(name for name in facts.not_enforced if asked[name])
