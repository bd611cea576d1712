"""What a confined step may read and write, and whether this kernel can refuse the rest. The refusing itself: `confine`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError
from mlpipe_engine.executors.audit import is_system
from mlpipe_engine.executors.confine import landlock_abi

LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "confine.py")

_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/proc", "/sys", "/dev", "/var/cache/fontconfig",
            "/run/systemd/resolve", "/run/nscd")  # fmt: skip
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")
_GPU_DEVICES = ("nvidia", "dri", "kfd")


def require() -> None:
    """Raises EnvironmentProblem where steps cannot be confined."""
    abi, problem = landlock_abi()
    if abi < 1:
        system = os.uname()
        raise EnvironmentProblem(
            f'isolation = "strict" needs Landlock, which this kernel does not offer ({system.sysname} {system.release}: {problem})',
            expected="Linux 5.13 or newer, with landlock in the kernel's lsm= list",
            hint='Use a newer kernel, or isolation = "none".',
        )


def write_rules(step_dir: str, reads: Iterable[str], writes: Iterable[str]) -> str:
    """The file `confine` reads. Raises FilesystemError."""
    devices = [f"/dev/{name}" for name in _dev() if name in _DEVICES or name.startswith(_GPU_DEVICES)]
    readable = [*_FOLDERS, *_machine_settings(), *reads]
    path = f"{step_dir}/confine.json"
    document = {"read": sorted(dict.fromkeys(readable)), "write": [*writes, *devices]}
    try:
        with open(path, "w", encoding="ascii") as file:
            json.dump(document, file)
    except OSError as error:
        raise FilesystemError.of(error, "write", path) from error
    return path


def _dev() -> list[str]:
    try:
        return os.listdir("/dev")
    except OSError:
        return []


def _machine_settings() -> list[str]:
    """How the machine is set up, not what other programs are told: the same names that an audit takes for the system's."""
    try:
        return [f"/etc/{name}" for name in os.listdir("/etc") if is_system(f"/etc/{name}") or is_system(f"/etc/{name}/x")]
    except OSError:
        return []


def describe() -> str:
    """For `doctor`."""
    abi, problem = landlock_abi()
    return f"Landlock version {abi}" if abi >= 1 else f"no Landlock ({problem or sys.platform})"
