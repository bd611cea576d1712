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
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mlpipe_engine.errors import EnvironmentProblem, MlpipeError, nearest
from mlpipe_engine.executors import code_roots, installed, packages
from mlpipe_engine.hashing.files import hash_bytes, hash_file
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.model.manifest import ManifestEntry, Section
from mlpipe_engine.snapshots.roots import CodeRoot, ScannedRoot, scan_root

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
    """(normalised name, version, digest of RECORD, direct_url.json and of editable sources that are not staged)."""
    path_files: tuple[tuple[str, str], ...]
    """(name, digest with that of the folders it names that are not staged) of .pth files: they change what can be imported."""
    conda: tuple[str, ...] = ()
    """Packages of a conda environment."""
    roots: tuple[ScannedRoot, ...] = field(default=(), compare=False)
    """Editable installs and .pth folders that are staged as code; they count in the snapshot, not here."""
    whole: tuple[CodeRoot, ...] = field(default=(), compare=False)
    """Those that cannot be staged, so that all of them counts here."""
    packages: packages.Packages = field(default=packages.NO_PACKAGES, compare=False)
    """Which distribution brought what; follows from the rest."""

    @property
    def loose_sources(self) -> bool:
        """Modules are imported in place from folders that people edit."""
        return bool(self.whole)


_QUESTION = """
import json, platform, site, sys, sysconfig
implementation = getattr(getattr(sys, "implementation", None), "name", "cpython")
print(json.dumps({"version": platform.python_version(), "implementation": implementation, "platform": sysconfig.get_platform(),
    "executable": sys.executable, "base": getattr(sys, "_base_executable", sys.executable), "prefix": sys.prefix,
    "prefixes": [getattr(sys, n, sys.prefix) for n in ("prefix", "base_prefix", "exec_prefix", "base_exec_prefix")],
    "sites": [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]}))
"""


def describe_cached(
    interpreter: Interpreter, project_root: str, cached: str | None, stats: StatCache
) -> tuple[EnvironmentDescription, str | None]:
    """What is installed. `cached`: the text kept from last time; the second value is what to keep now, None if nothing changed."""
    document: dict[str, Any] = json.loads(cached) if cached else {}
    for path in document.get("watched", ()):
        stats.follow(path)
    if "packages" not in document or document["witness"] != _witness(document["watched"]):
        answer = _ask(interpreter)
        watched = _watched(interpreter, answer)
        for path in watched:
            stats.follow(path)
        document = {"answer": answer, "watched": watched, "witness": _witness(watched)}
        document |= _installed(answer["sites"]) | {"conda": installed.conda_packages(answer["prefix"])}
        document["packages"] = packages.describe(answer)
        fresh: str | None = json.dumps(document)
    else:
        fresh = None
    return _description(document, project_root, stats), fresh


def version_cached(interpreter: Interpreter, cached: str | None) -> tuple[str, str | None]:
    """("3.12.1 linux-x86_64", what to keep now or None). `cached`: the text kept from last time."""
    witness = _witness([interpreter.path, os.path.realpath(interpreter.path)])
    document = json.loads(cached) if cached else {}
    if document.get("witness") == witness:
        return str(document["version"]), None
    answer = _ask(interpreter)
    version = f"{answer['version']} {answer['platform']}"
    return version, json.dumps({"witness": witness, "version": version})


def _ask(interpreter: Interpreter) -> dict[str, Any]:
    said = ""
    for isolated in (["-I"], ["-E", "-s"]):  # Python 2 knows no -I, and its version is worth telling
        try:
            done = subprocess.run(
                [interpreter.path, *isolated, "-c", _QUESTION], capture_output=True, timeout=60, check=False, cwd="/",
                env={"PATH": SYSTEM_PATH}, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace",
            )  # fmt: skip
            if done.returncode == 0:
                answer: dict[str, Any] = json.loads(done.stdout)
                return answer
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            said = said or (lines[-1] if lines else f"it exited {done.returncode}")
        except ValueError:
            said = said or "it does not answer like a Python"
        except (OSError, subprocess.SubprocessError) as error:
            said = said or str(error)
    raise EnvironmentProblem(
        f"the interpreter {interpreter.path} (from {interpreter.how}) does not work: {said}",
        hint="Repair that environment, or set python = in mlpipe.toml.",
    )


def _watched(interpreter: Interpreter, answer: dict[str, Any]) -> list[str]:
    paths = [interpreter.path, os.path.realpath(interpreter.path), os.path.join(answer["prefix"], "pyvenv.cfg")]
    paths.append(os.path.join(answer["prefix"], "conda-meta"))
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
        elif name.endswith((".egg-info", ".egg-link", ".pth")) or name.startswith(code_roots.FINDERS):
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


def _installed(sites: list[str]) -> dict[str, Any]:
    """distributions: [name, version, digest, editable folder]; path_files: [name, digest, lines]; mapped: what finders lead to."""
    finders = {path: code_roots.mapped(path) for site in sites for path in _records(site) if _is_finder(path)}
    understood = frozenset(os.path.basename(path) for path, found in finders.items() if found is not None)
    distributions: list[list[str]] = []
    path_files: list[list[Any]] = []
    seen = set()
    for site in sites:
        for path in _records(site):
            base, kind = os.path.split(path)
            if path.endswith(".pth"):
                path_files.append([kind, _digest(path), _lines_of(path)])
            elif kind == "RECORD" or path.endswith((".egg-info", ".egg-link")):
                folder = os.path.basename(base) if kind == "RECORD" else kind
                name, _, version = folder.rsplit(".", 1)[0].partition("-")
                name = re.sub(r"[-_.]+", "-", name).lower()
                if name == OWN_DISTRIBUTION or name in seen:
                    continue
                seen.add(name)
                distributions.append([name, version, *_provenance(path, understood)])
    mapped = [[os.path.basename(path), folder] for path, found in finders.items() for folder in found or ()]
    return {"distributions": sorted(distributions), "path_files": sorted(path_files), "mapped": mapped}


def _provenance(path: str, understood: frozenset[str]) -> tuple[str, str]:
    """(digest of what is installed and where it came from, folder of an editable install)."""
    if os.path.basename(path) != "RECORD":
        return _digest(path), ""
    origin = os.path.join(os.path.dirname(path), "direct_url.json")
    folder = _editable(origin)
    return installed.record_digest(path, understood) + ("" if folder else _digest(origin)), folder


def _is_finder(path: str) -> bool:
    return path.endswith(".py") and os.path.basename(path).startswith(code_roots.FINDERS)


def _lines_of(path: str) -> list[list[str]]:
    """[line, folder] of a .pth file; the folder is "" for a line of code. What lies in the folders can be imported."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.strip() for line in file]
    except OSError:
        return []
    return [
        [line, "" if line.startswith(("import ", "import\t")) else os.path.normpath(os.path.join(os.path.dirname(path), line))]
        for line in lines
        if line and not line.startswith("#")
    ]


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
    loose = _Loose(answer["prefix"], project_root, stats)
    path_files = tuple(
        (name, loose.path_file(name, digest, lines))
        for name, digest, lines in document["path_files"]
        if not _is_our_path_file(name)
    )
    for finder, folder in document["mapped"]:
        loose.root(folder, finder)
    distributions = tuple(
        (name, version, digest + (loose.editable(name, folder) if folder else ""))
        for name, version, digest, folder in document["distributions"]
    )
    return EnvironmentDescription(
        packages=packages.read(document, tuple(root.path for root in loose.whole)),
        version=f"{answer['version']} {answer['platform']}",
        implementation=answer["implementation"],
        executable=_file_digest(os.path.realpath(answer["executable"]), stats),
        distributions=distributions,
        path_files=path_files,
        conda=tuple(document["conda"]),
        roots=tuple(loose.staged.values()),
        whole=tuple(loose.whole),
    )


class _Loose:
    """Folders of one interpreter that code is imported from in place: each is staged as code, or counts whole."""

    def __init__(self, prefix: str, project_root: str, stats: StatCache) -> None:
        self._prefix, self._project_root, self._stats = prefix.rstrip("/") + "/", project_root, stats
        self.staged: dict[str, ScannedRoot] = {}
        self.whole: list[CodeRoot] = []

    def root(self, folder: str, origin: str) -> str:
        """What counts of the folder in the environment: its label where it is staged, else the digest of all of it."""
        known = self.staged.get(folder)
        if known is None:
            root = CodeRoot(folder, origin)
            try:
                known = scan_root(root, self._project_root, self._stats)
            except MlpipeError as error:
                self.whole.append(root)
                return f"unreadable {type(error).__name__}"
            if known is None:
                return "absent"
            if not known.staged or folder.startswith(self._prefix):  # inside of the environment nobody edits
                if not known.staged:
                    self.whole.append(root)
                return known.tree.digest
            self.staged[folder] = known
        return f"staged {known.label}"

    def path_file(self, name: str, digest: str, lines: list[list[str]]) -> str:
        """Folders that are staged count by their labels, so that moving a project with its environment changes nothing."""
        if not any(folder for _, folder in lines):
            return digest
        return hash_bytes("\n".join(self.root(folder, name) if folder else line for line, folder in lines).encode())[3:]

    def editable(self, name: str, folder: str) -> str:
        """Where no .pth file and no finder we understand leads into an editable install, all of it counts."""
        real = os.path.realpath(folder)
        for known in self.staged:
            if (os.path.realpath(known) + "/").startswith(real.rstrip("/") + "/"):
                return ""
        if any(root.path == folder or root.path.startswith(folder.rstrip("/") + "/") for root in self.whole):
            return ""
        return self._everything(name, folder)

    def _everything(self, name: str, folder: str) -> str:
        self.whole.append(CodeRoot(folder, f"editable install of {name}"))
        try:
            found = scan_root(self.whole[-1], self._project_root, self._stats)
        except MlpipeError:
            return "unreadable"
        return found.tree.digest if found else "absent"


def _is_our_path_file(name: str) -> bool:
    return "mlpipe_tui" in name or "mlpipe-tui" in name


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
    found += [ManifestEntry(Section.ENVIRONMENT, f"conda {name}", "installed") for name in description.conda]
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
        for folder in search_path(interpreter).split(":"):
            stats.follow(folder)
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
