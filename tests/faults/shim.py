"""Builds shim.c once and makes the environment and the command that put it in front of one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "faults"
if {" ", ":"} & set(str(_CACHE)):  # LD_PRELOAD is a list separated by these
    _CACHE = Path(tempfile.gettempdir()) / f"mlpipe-faults-{os.geteuid()}"


@lru_cache(maxsize=1)
def library() -> Path:
    """The shared object. Built when the source is new; two builders at once do no harm."""
    target = _CACHE / f"shim-{sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not target.exists():
        compiler = shutil.which("cc")
        assert compiler, "needs a C compiler (cc)"
        _CACHE.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", fresh, _SOURCE, "-ldl"], check=True, capture_output=True)
        fresh.rename(target)
    return target


def owned(command: list[str]) -> list[str]:
    """The same command, told its own pid: the shim lets the children of that process alone."""
    return ["/bin/sh", "-c", 'FAULT_OWNER=$$ exec "$@"', "sh", *command]


def variables(root: Path | str, **settings: object) -> dict[str, str]:
    """`at=3, mode="kill"` becomes FAULT_AT=3, FAULT_MODE=kill."""
    found = {f"FAULT_{name.upper()}": str(value) for name, value in settings.items()}
    return {"LD_PRELOAD": str(library()), "FAULT_ROOT": str(root)} | found
