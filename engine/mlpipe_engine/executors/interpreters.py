"""Which interpreter runs Python steps, what is installed in it, and the environment a process step starts with.

What is found here goes into the fingerprint (Section.ENVIRONMENT); what is left out of a step's environment cannot make a
result wrong. Reads files; starts the interpreter once, to ask where its packages are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mlpipe_engine.errors import EnvironmentProblem, MlpipeError, nearest
from mlpipe_engine.executors import packages
from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.model.manifest import ManifestEntry, Section

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
OWN_DISTRIBUTION = "mlpipe-tui"


@dataclass(frozen=True, slots=True)
class Interpreter:
    path: str
    """Absolute; links are kept, because a virtual environment is found by the name it is started with."""
    how: str
    """Where it was found, for people."""


@dataclass(frozen=True, slots=True)
class EnvironmentDescription:
    version: str
    implementation: str
    executable: str
    """Digest of the real binary."""
    distributions: tuple[tuple[str, str, str], ...]
    """(normalised name, version, digest of RECORD, direct_url.json and of editable sources)."""
    path_files: tuple[tuple[str, str], ...]
    """(name, digest with that of the folders it names) of .pth files: they change what can be imported."""
    loose_sources: bool = False
    """Modules can be imported from folders that people edit (editable installs, .pth folders)."""
    packages: packages.Packages = field(default=packages.NO_PACKAGES, compare=False)
    """Which distribution brought what; follows from the rest."""


def find_interpreter(project_root: str, configured: str | None) -> Interpreter:
    """The configured one, else the project's .venv, $VIRTUAL_ENV, $CONDA_PREFIX, else our own. Raises EnvironmentProblem."""
    if configured:
        path = os.path.join(project_root, os.path.expanduser(configured))
        if os.path.isdir(path):
            path = os.path.join(path, "bin", "python")
        if not os.path.exists(path) and os.sep not in configured:
            path = shutil.which(configured) or path
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            raise EnvironmentProblem(
                f"the interpreter {configured} of mlpipe.toml cannot be started", field="python",
                hint="Write the path of a Python or of a virtual environment, relative to the project folder.",
            )  # fmt: skip
        return Interpreter(os.path.abspath(path), "mlpipe.toml")
    places = [(os.path.join(project_root, ".venv"), "the project's .venv")]
    places += [(os.environ[name], f"${name}") for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(name)]
    for folder, how in places:
        path = os.path.join(folder, "bin", "python")
        if os.access(path, os.X_OK):
            return Interpreter(os.path.abspath(path), how)
    return Interpreter(sys.executable, "the interpreter of mlpipe-tui")


_QUESTION = """
import json, platform, site, sys, sysconfig
print(json.dumps({"version": platform.python_version(), "implementation": sys.implementation.name, "platform": sysconfig.get_platform(),
    "executable": sys.executable, "base": getattr(sys, "_base_executable", sys.executable), "prefix": sys.prefix,
    "prefixes": [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix],
    "sites": [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]}))
"""


def describe_cached(
    interpreter: Interpreter, project_root: str, cached: str | None, stats: StatCache
) -> tuple[EnvironmentDescription, str | None]:
    """What is installed. `cached`: the text kept from last time; the second value is what to keep now, None if nothing changed."""
    document: dict[str, Any] = json.loads(cached) if cached else {}
    if "packages" not in document or document["witness"] != _witness(document["watched"]):
        answer = _ask(interpreter)
        watched = _watched(interpreter, answer)
        document = {"answer": answer, "watched": watched, "witness": _witness(watched)}
        document["installed"] = _installed(answer["sites"])
        document["packages"] = packages.describe(answer, document["installed"])
        fresh: str | None = json.dumps(document)
    else:
        fresh = None
    return _description(document, project_root, stats), fresh


def _ask(interpreter: Interpreter) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [interpreter.path, "-I", "-c", _QUESTION], capture_output=True, timeout=60, check=True, env={"PATH": SYSTEM_PATH}
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise EnvironmentProblem(
            f"the interpreter {interpreter.path} (from {interpreter.how}) does not work: {error}",
            hint="Repair that environment, or set python = in mlpipe.toml.",
        ) from error


def _watched(interpreter: Interpreter, answer: dict[str, Any]) -> list[str]:
    paths = [interpreter.path, os.path.realpath(interpreter.path), os.path.join(answer["prefix"], "pyvenv.cfg")]
    for site in answer["sites"]:
        paths.append(site)
        paths.extend(_records(site))
    return paths


def _records(site: str) -> list[str]:
    """Files of a site-packages folder that say what is installed there."""
    try:
        names = sorted(os.listdir(site))
    except OSError:
        return []
    found = []
    for name in names:
        if name.endswith(".dist-info"):
            found += [f"{site}/{name}/RECORD", f"{site}/{name}/direct_url.json"]
        elif name.endswith((".egg-info", ".egg-link", ".pth")):
            found.append(f"{site}/{name}")
    return found


def _witness(paths: list[str]) -> list[Any]:
    found: list[Any] = []
    for path in paths:
        try:
            info = os.stat(path)
            found.append([info.st_mtime_ns, info.st_size, info.st_ino])
        except OSError:
            found.append(None)
    return found


def _installed(sites: list[str]) -> list[list[str]]:
    """[name, version, digest, editable folder] of distributions; ["", name of .pth, digest, ""] of path files."""
    found, seen = [], set()
    for site in sites:
        for path in _records(site):
            base, kind = os.path.split(path)
            if path.endswith(".pth"):
                found.append(["", kind, _digest(path), "\n".join(_folders_of(path))])
            elif kind == "RECORD" or path.endswith((".egg-info", ".egg-link")):
                folder = os.path.basename(base) if kind == "RECORD" else kind
                name, _, version = folder.rsplit(".", 1)[0].partition("-")
                name = re.sub(r"[-_.]+", "-", name).lower()
                if name == OWN_DISTRIBUTION or name in seen:
                    continue
                seen.add(name)
                origin = os.path.join(base, "direct_url.json")
                found.append([name, version, _digest(path) + _digest(origin), _editable(origin) if kind == "RECORD" else ""])
    return sorted(found)


def _folders_of(path: str) -> list[str]:
    """Folders a .pth file puts on sys.path: what lies in them can be imported, and no RECORD vouches for it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.strip() for line in file]
    except OSError:
        return []
    named = [
        os.path.normpath(os.path.join(os.path.dirname(path), line))
        for line in lines
        if line and not line.startswith(("#", "import "))
    ]
    return [folder for folder in named if os.path.isdir(folder)]


def _digest(path: str) -> str:
    if not os.path.isfile(path):
        return ""
    return hash_file(os.path.realpath(path))[3:19]


def _editable(origin: str) -> str:
    try:
        with open(origin, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError):
        return ""
    url = str(document.get("url", ""))
    if not document.get("dir_info", {}).get("editable") or not url.startswith("file://"):
        return ""
    from urllib.parse import unquote

    return unquote(url[7:])


def _description(document: dict[str, Any], project_root: str, stats: StatCache) -> EnvironmentDescription:
    answer = document["answer"]
    real = os.path.realpath(answer["executable"])
    distributions = tuple(
        (name, version, digest + (_sources(folder, stats) if folder else ""))
        for name, version, digest, folder in document["installed"]
        if name
    )
    installed = document["installed"]
    return EnvironmentDescription(
        packages=packages.read(document),
        loose_sources=any(folders and not (not name and _is_our_path_file(version)) for name, version, _, folders in installed),
        version=f"{answer['version']} {answer['platform']}",
        implementation=answer["implementation"],
        executable=_file_digest(real, stats),
        distributions=distributions,
        path_files=tuple(
            (version, digest + "".join(_sources(folder, stats) for folder in folders.split("\n") if folder))
            for name, version, digest, folders in document["installed"]
            if not name and not _is_our_path_file(version)
        ),
    )


def _is_our_path_file(name: str) -> bool:
    return "mlpipe" in name


def _sources(folder: str, stats: StatCache) -> str:
    """An editable install is code that no RECORD vouches for: all of its tree counts."""
    from mlpipe_engine.snapshots.ignore import ProjectIgnore

    try:
        return scan_tree(folder, ignore=ProjectIgnore(folder, folder), cache=stats).digest
    except MlpipeError:
        return "unreadable"


def _file_digest(path: str, stats: StatCache) -> str:
    info = os.stat(path)
    known = stats.digest(path, info)
    if known is None:
        known = hash_file(path, info.st_size)
        stats.remember(path, info, known)
    return known


def manifest_entries(description: EnvironmentDescription) -> tuple[ManifestEntry, ...]:
    return _entries(description)


@lru_cache(maxsize=16)
def _entries(description: EnvironmentDescription) -> tuple[ManifestEntry, ...]:
    found = [
        ManifestEntry(Section.ENVIRONMENT, "python", f"{description.implementation} {description.version}"),
        ManifestEntry(Section.ENVIRONMENT, "interpreter", description.executable),
    ]
    found += [
        ManifestEntry(Section.ENVIRONMENT, f"distribution {name}", (version, digest))
        for name, version, digest in description.distributions
    ]
    found += [ManifestEntry(Section.ENVIRONMENT, f"path file {name}", digest) for name, digest in description.path_files]
    return tuple(found)


def search_path(interpreter: Interpreter) -> str:
    """Fixed, so that what a step starts does not depend on the shell somebody ran us from."""
    return f"{os.path.dirname(interpreter.path)}:{SYSTEM_PATH}"


def describe_command(
    program: str, interpreter: Interpreter, description: EnvironmentDescription, stats: StatCache, code: str | None
) -> tuple[ManifestEntry, ...]:
    """The program of a command step and its #! interpreter by content, and the Python environment, which it may start.

    A program inside the step's own code counts as code. Raises EnvironmentProblem when it is not found or cannot be started.
    """
    entries = list(manifest_entries(description))
    if "/" in program and not os.path.isabs(program):
        path = os.path.normpath(os.path.join(code, program)) if code else program
        if code is None or not os.path.exists(path):
            raise _not_found(program, f"in the source directory {code}" if code else "and the step has no source_directory", [])
        if not os.access(path, os.X_OK):
            raise EnvironmentProblem(f"the program {program} is not executable", hint=f"chmod +x {program}")
    else:
        path = _find(program, search_path(interpreter))
        entries.append(ManifestEntry(Section.ENVIRONMENT, f"program {program}", _file_digest(os.path.realpath(path), stats)))
    starter = _shebang(path)
    if starter:
        resolved = starter if os.path.isabs(starter) else _find(starter, search_path(interpreter))
        if not os.path.exists(resolved):
            raise EnvironmentProblem(f"the program {program} asks for {starter} in its #! line, which does not exist")
        entries.append(ManifestEntry(Section.ENVIRONMENT, f"program {starter}", _file_digest(os.path.realpath(resolved), stats)))
    return tuple(entries)


def _find(program: str, path: str) -> str:
    found = program if os.path.isabs(program) else shutil.which(program, path=path)
    if found is None or not os.path.exists(found):
        names = [name for folder in path.split(":") if os.path.isdir(folder) for name in os.listdir(folder)]
        raise _not_found(program, f"on the fixed PATH {path}", names)
    if not os.access(found, os.X_OK) or os.path.isdir(found):
        raise EnvironmentProblem(f"the program {program} is not executable", hint=f"chmod +x {program}")
    return found


def _not_found(program: str, where: str, names: list[str]) -> EnvironmentProblem:
    close = nearest(program, names)
    return EnvironmentProblem(
        f"the program {program!r} was not found {where}" + (f"; did you mean {close!r}?" if close else ""),
        hint="Install it, or write its absolute path.",
    )


def _shebang(path: str) -> str:
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:
        return ""
    if not head.startswith(b"#!"):
        return ""
    words = head[2:].split(b"\n")[0].split()
    if not words:
        return ""
    if os.path.basename(words[0]) == b"env" and len(words) > 1 and not words[1].startswith(b"-"):
        return os.fsdecode(words[1])
    return os.fsdecode(words[0])


def program_path(program: str, interpreter: Interpreter, code: str) -> str:
    """The absolute path an executor starts."""
    if os.path.isabs(program):
        return program
    if "/" in program:
        return os.path.normpath(os.path.join(code, program))
    return _find(program, search_path(interpreter))


def base_environment(interpreter: Interpreter, step_dir: str, home: str) -> dict[str, str]:
    """All a step gets besides what it declares. Nothing is inherited: a variable that is not hashed could make reuse wrong.

    HOME is a folder of the project, so that caches survive but a person's settings do not leak into results.
    """
    environment = {
        "HOME": home,
        "PATH": search_path(interpreter),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "SHELL": "/bin/sh",
        "TMPDIR": f"{step_dir}/tmp",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
    }
    folder = os.path.dirname(os.path.dirname(interpreter.path))
    if os.path.exists(os.path.join(folder, "pyvenv.cfg")):
        environment["VIRTUAL_ENV"] = folder
    return environment
