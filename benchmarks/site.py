"""The place measurements are made in: .cache/bench below the repository, with its programs, peers and work folders."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import PEERS, Contender, FloorC, FloorPython, Ours, Step
from benchmarks.errors import BenchError
from benchmarks.graphs import cksum, fnv

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).resolve().parent / "programs"


@dataclass(frozen=True, slots=True)
class Site:
    root: str

    @classmethod
    def of(cls, root: str | os.PathLike[str]) -> Site:
        """Makes the folders. Everything a benchmark writes lies below `root`."""
        site = cls(os.path.realpath(root))
        for name in ("bin", "work", "home", "peers"):
            os.makedirs(os.path.join(site.root, name), exist_ok=True)
        os.makedirs(os.path.join(site.root, "runtime"), mode=0o700, exist_ok=True)
        return site

    @property
    def environment(self) -> dict[str, str]:
        """What every process sees. Leases of other projects on this machine are not waited for."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": os.path.join(self.root, "home"),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": os.path.join(self.root, "runtime"),
        }

    def folder(self, *names: str) -> str:
        return os.path.join(self.root, "work", *names)

    @property
    def ours(self) -> str:
        return os.path.join(os.path.dirname(sys.executable), "mlpipe-tui")

    @property
    def bare_python(self) -> str:
        """The interpreter under our environment, so that no .pth file and no site module counts."""
        return os.path.join(os.path.realpath(sys.base_exec_prefix), "bin", f"python{sysconfig.get_python_version()}")

    def compiled(self, name: str) -> str | None:
        """programs/NAME.c as a static program; None where there is no C compiler that can."""
        source, target = PROGRAMS / f"{name}.c", os.path.join(self.root, "bin", name)
        if os.path.exists(target) and os.stat(target).st_mtime_ns >= source.stat().st_mtime_ns:
            return target
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            return None
        made = subprocess.run([compiler, "-O2", "-static", "-o", target, source], capture_output=True, check=False)
        if made.returncode != 0:
            made = subprocess.run([compiler, "-O2", "-o", target, source], capture_output=True, check=False)
        return target if made.returncode == 0 else None

    def step(self) -> Step:
        program = self.compiled("step")
        if program:
            return Step((program,), fnv)
        script = os.path.join(self.root, "bin", "step.sh")
        shutil.copy(PROGRAMS / "step.sh", script)
        return Step((script,), cksum)

    def contenders(self, peers: dict[str, str]) -> list[Contender]:
        """Ourselves, the floors, and of the peers those in `peers` (name to program)."""
        found: list[Contender] = [
            Ours(self.ours),
            FloorPython(self.bare_python, str(PROGRAMS / "floor.py")),
        ]
        floor = self.compiled("floor")
        if floor:
            found.append(FloorC(floor))
        found += [PEERS[name](program) for name, program in peers.items()]
        return found


def versions(site: Site, peers: dict[str, str]) -> dict[str, str]:
    """One line each, of what was measured."""
    import sqlite3

    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "kernel": platform.release()}
    for name, program in {"mlpipe-tui": site.ours, **peers}.items():
        found[name] = _version([program, "--version"])
    revision = subprocess.run(
        ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    found["revision"] = revision.stdout.strip() or "unknown"
    return found


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    if not lines:
        raise BenchError(f"{command[0]} tells no version")
    return lines[0]
