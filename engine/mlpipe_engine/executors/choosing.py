"""Which interpreter a step runs with, and why: found in one fixed order, named in messages, checked before a run.

The order: the step, its compute target, mlpipe.toml, the project's .venv, $VIRTUAL_ENV, $CONDA_PREFIX, our own. Starts a program
only where a name leads to a script (the shims of pyenv and the like): it alone knows which interpreter it stands for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass

from mlpipe_engine.errors import EnvironmentProblem
from mlpipe_engine.executors.interpreters import Interpreter
from mlpipe_engine.hashing.stat_cache import StatCache

OLDEST = (3, 8)
"""The step side (`mlpipe_run`) is written for it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An interpreter somebody asked for."""

    python: str
    how: str
    """Who asked, for people: "python = in mlpipe.toml"."""
    where: str = ""
    """`file:line`, for messages."""
    field: str = "python"


def choose(
    root: str, wanted: Iterable[Wanted | None], cached: Callable[[str], str | None], to_cache: MutableMapping[str, str], stats: StatCache
) -> Interpreter:  # fmt: skip
    """The first of `wanted`, else what is found. Raises EnvironmentProblem; nothing else is tried when the wanted one is not there.

    `stats` is told all that was looked at.
    """
    for item in wanted:
        if item is not None:
            path = _path_of(root, item, stats)
            return Interpreter(_resolved(path, item, root, cached, to_cache, stats), item.how)
    places = [(os.path.join(root, ".venv"), "the project's .venv")]
    places += [(os.environ[name], f"${name}") for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(name)]
    for folder, how in places:
        path = os.path.join(folder, "bin", "python")
        stats.follow(path)
        if os.access(path, os.X_OK):
            return Interpreter(os.path.abspath(path), how)
        if how == "the project's .venv" and os.path.lexists(path):
            raise EnvironmentProblem(
                f"the interpreter of the project's .venv is gone: {path} leads to {os.path.realpath(path)}",
                hint="Make .venv anew, or remove it.",
            )
    return Interpreter(sys.executable, "the interpreter of mlpipe-tui")


def _path_of(root: str, item: Wanted, stats: StatCache) -> str:
    """A path relative to the project, a folder that holds bin/python, or the name of a program on PATH."""
    path = os.path.normpath(os.path.join(root, os.path.expanduser(item.python)))
    stats.follow(path)
    if os.path.isdir(path):
        inner = os.path.join(path, "bin", "python")
        stats.follow(inner)
        if not os.access(inner, os.X_OK):
            gone = os.path.lexists(inner) or os.path.exists(os.path.join(path, "pyvenv.cfg"))
            raise _problem(
                item,
                f"the environment {item.python} is broken: its bin/python leads nowhere" if gone else f"the folder {item.python} holds no bin/python",
                "Make that environment anew." if gone else "Write the path of a Python, or of a virtual or conda environment.",
            )  # fmt: skip
        return inner
    if not os.path.lexists(path) and os.sep not in item.python:
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            stats.follow(folder or ".")
        found = shutil.which(item.python)
        if found is None:
            raise _problem(
                item, f"there is no program {item.python!r} on PATH and nothing of that name in the project", _PATH_HINT
            )
        return os.path.abspath(found)
    if not os.path.exists(path):
        raise _problem(item, f"the interpreter {item.python} does not exist", _PATH_HINT)
    if not os.access(path, os.X_OK):
        raise _problem(item, f"the interpreter {item.python} is not executable", _PATH_HINT)
    return path


_PATH_HINT = "Write the path of a Python or of an environment, relative to the project folder, or the name of a program on PATH."


def _problem(item: Wanted, what: str, hint: str) -> EnvironmentProblem:
    return EnvironmentProblem(what, where=item.where, field=item.field, hint=hint)


def _resolved(
    path: str, item: Wanted, root: str, cached: Callable[[str], str | None], to_cache: MutableMapping[str, str], stats: StatCache
) -> str:  # fmt: skip
    """The interpreter behind a script. Asked again when the script or what such scripts decide by changes."""
    if not _is_script(path):
        return path
    for file in _shim_files(path, root):
        stats.follow(file)
    key, witness = f"shim {path}", _shim_witness(path, root)
    known = json.loads(to_cache.get(key) or cached(key) or "{}")
    if known.get("witness") == witness and os.access(known["path"], os.X_OK):
        return str(known["path"])
    try:
        done = subprocess.run(
            [path, "-c", "import sys; print(sys.executable)"], cwd=root, capture_output=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise _problem(item, f"{item.python} cannot be started: {error}", _PATH_HINT) from error
    found = done.stdout.strip()
    if done.returncode or not os.access(found, os.X_OK):
        said = next((line.strip() for line in done.stderr.splitlines() if line.strip()), f"it exited {done.returncode}")
        raise _problem(item, f"{item.python} is a script ({path}) that starts no Python: {said}", _PATH_HINT)
    to_cache[key] = json.dumps({"witness": witness, "path": found})
    return found


def _is_script(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


SHIM_VARIABLES = ("PYENV_VERSION", "PYENV_ROOT", "ASDF_PYTHON_VERSION", "PATH", "HOME")
"""What shims decide by, besides files."""


def _shim_files(path: str, root: str) -> list[str]:
    files = [path, *(os.path.join(root, name) for name in (".python-version", ".tool-versions", "mise.toml"))]
    return [*files, os.path.join(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"), "version")]


def _shim_witness(path: str, root: str) -> list[object]:
    found: list[object] = [os.environ.get(name, "") for name in SHIM_VARIABLES]
    for file in _shim_files(path, root):
        try:
            info = os.stat(file)
            found.append([info.st_mtime_ns, info.st_size, info.st_ino])
        except OSError:
            found.append(None)
    return found


def too_old(version: str, interpreter: Interpreter, item: Wanted | None) -> EnvironmentProblem | None:
    """`version`: "3.7.16 linux-x86_64" as an interpreter tells it."""
    numbers = tuple(int(part) for part in version.split()[0].split(".")[:2] if part.isdigit())
    if numbers >= OLDEST:
        return None
    return EnvironmentProblem(
        f"{interpreter.path} ({interpreter.how}) is Python {version.split()[0]}", where=item.where if item else "",
        field=item.field if item else "", expected=f"Python {OLDEST[0]}.{OLDEST[1]} or newer",
        hint="Name another one with python = in mlpipe.toml or python= of the step.",
    )  # fmt: skip
