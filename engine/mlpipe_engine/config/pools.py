"""Pools that were made by a script rather than written in the project file: a small file each below .mlpipe/compute.

A pool is a compute target with slots: as many of its steps run at once. Read with the project file; written by the SDK.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass

from mlpipe_engine.errors import ConfigError, FilesystemError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
SIZES = {
    "STANDARD_NC6": 1,
    "STANDARD_NC12": 2,
    "STANDARD_NC24": 4,
    "STANDARD_NV6": 1,
    "STANDARD_NC6S_V3": 1,
    "STANDARD_ND96ASR_V4": 8,
}
"""GPUs of machines that have some, by Azure's names in capitals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFile:
    name: str
    kind: str
    vm_size: str
    priority: str
    """"dedicated" or "lowpriority", which starts after the others."""
    min_nodes: int
    max_nodes: int
    idle_seconds: float
    created_at: str
    changed_at: str
    description: str = ""

    @property
    def gpus_per_node(self) -> int:
        return SIZES.get(self.vm_size.upper(), 0)


def folder_of(root: str) -> str:
    return os.path.join(root, ".mlpipe", "compute")


def read_pools(root: str) -> tuple[PoolFile, ...]:
    """Raises ConfigError for a file that somebody spoilt."""
    try:
        names = sorted(os.listdir(folder_of(root)))
    except OSError:
        return ()
    found = []
    for name in names:
        path = os.path.join(folder_of(root), name)
        if not name.endswith(".json"):
            continue
        try:
            with open(path, encoding="utf-8") as file:
                found.append(PoolFile(**json.load(file)))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"the pool {name[:-5]} cannot be read: {error}", where=path, hint="Remove the file, and create the pool anew."
            ) from error
    return tuple(found)


def write_pool(root: str, pool: PoolFile) -> None:
    """Whole or not at all. Raises FilesystemError."""
    path = os.path.join(folder_of(root), f"{pool.name}.json")
    try:
        os.makedirs(folder_of(root), exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(asdict(pool), file, indent=1)
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise FilesystemError.of(error, "write", path) from error


def remove_pool(root: str, name: str) -> None:
    """Idempotent."""
    try:
        os.unlink(os.path.join(folder_of(root), f"{name}.json"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise FilesystemError.of(error, "remove", f"{folder_of(root)}/{name}.json") from error
