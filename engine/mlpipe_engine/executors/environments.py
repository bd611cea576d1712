"""Environments of steps as virtual (or conda) environments: what one is made of, and how it is built.

A recipe is read from files and names a folder; building fills that folder. A folder is an environment only once its mark is written,
last of all, so one that was cut short is never used. It is built where it stays: scripts in it name their interpreter by path.
The caller holds a lock while building.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError
from mlpipe_engine.executors.conda_file import CondaFile, as_pip, read_conda_file
from mlpipe_engine.executors.interpreters import Interpreter
from mlpipe_engine.executors.requirements import Reader, Requirements
from mlpipe_engine.model.encoding import fingerprint
from mlpipe_engine.model.spec import EnvironmentSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpipe_engine.hashing.stat_cache import StatCache

MARK = "mlpipe-environment.json"
CONDA_TOOLS = ("micromamba", "mamba", "conda")
_LEFT_OUT = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
)
_SHOWN_LINES = 8


@dataclass(frozen=True, kw_only=True)
class Wheels:
    """Where packages come from, beside what pip and uv are configured to use."""

    find_links: tuple[str, ...] = ()
    """Absolute folders and addresses."""
    no_index: bool = False


@dataclass(frozen=True)
class Declared:
    """What the files and lines of an EnvironmentSpec ask for."""

    spec: EnvironmentSpec
    requirements: Requirements
    conda: tuple[str, ...]
    """Packages only conda can provide, with all other conda packages then; () where pip provides everything."""
    channels: tuple[str, ...]
    python_version: str | None
    wheels: Wheels
    wheelhouse: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    declared: Declared
    base: Interpreter | None
    """Whose virtual environment it becomes; None: the tool brings Python along."""
    python: str
    """Version and platform, as far as known before the building."""
    tool: str
    """Absolute path of uv or of a conda program; "" for venv and pip."""

    @property
    def name(self) -> str:
        return self.declared.spec.name

    @property
    def digest(self) -> str:
        """Of all that decides what is asked for; what was really installed counts in the fingerprint of steps."""
        declared = self.declared
        return fingerprint("environment recipe", [
            1, self.python, list(declared.requirements.identity), list(declared.conda), list(declared.channels) if declared.conda else [],
            declared.wheels.no_index, list(declared.wheelhouse),
        ])[3:23]  # fmt: skip

    @property
    def kind(self) -> str:
        return os.path.basename(self.tool) or "pip"


def declared(spec: EnvironmentSpec, root: str, wheels: Wheels, stats: StatCache) -> Declared:
    """Reads the files. Raises EnvironmentProblem with file and line."""
    reader = Reader(root, stats)
    conda = CondaFile()
    if spec.requirements_file:
        reader.file(os.path.normpath(os.path.join(root, spec.requirements_file)), spec.where)
    if spec.conda_file:
        path = os.path.normpath(os.path.join(root, spec.conda_file))
        stats.follow(path)
        conda = read_conda_file(path, spec.conda_file)
        for line in conda.pip:
            reader.line(line, os.path.dirname(path), spec.conda_file)
    for line in spec.packages:
        reader.line(line, root, spec.where)
    packages = (*conda.conda, *spec.conda_packages)
    only_conda = [package for package in packages if as_pip(package) is None]
    if only_conda and not conda_tool():
        place = dict(conda.lines).get(only_conda[0])
        raise EnvironmentProblem(
            f"environment {spec.name!r} needs {', '.join(only_conda)} from conda, and there is no micromamba, mamba or conda on PATH",
            where=f"{spec.conda_file}:{place}" if place else spec.where, hint="Install micromamba, or name the package of PyPI in the pip section.",
        )  # fmt: skip
    if not only_conda:
        for package in packages:
            reader.line(as_pip(package) or package, root, spec.where)
    houses = [found for link in wheels.find_links if "://" not in link for found in reader.wheelhouse(link)]
    return Declared(
        spec, reader.found, tuple(packages) if only_conda else (), (*conda.channels, *spec.channels),
        spec.python_version or conda.python_version, wheels, (*(link for link in wheels.find_links if "://" in link), *houses),
    )  # fmt: skip


def conda_tool() -> str:
    return next((found for name in CONDA_TOOLS if (found := shutil.which(name))), "")


def uv() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    return shutil.which("uv") or (beside if os.access(beside, os.X_OK) else "")


def is_built(folder: str) -> bool:
    """Whole, with an interpreter that still exists, and where it was built (its scripts name that place)."""
    try:
        with open(os.path.join(folder, MARK), encoding="utf-8") as file:
            mark = json.load(file)
    except (OSError, ValueError):
        return False
    return mark.get("folder") == folder and os.access(os.path.join(folder, "bin", "python"), os.X_OK)


def build(recipe: Recipe, folder: str, log: str, lock: int, say: Callable[[str], None]) -> None:
    """Fill `folder`. Raises EnvironmentProblem with the end of the tool's output; the folder is gone then, the log is kept.

    `lock`: descriptor of the lock, which the tools inherit: one that outlives us still holds it.
    """
    began = time.monotonic()
    remove(folder)
    count = recipe.declared.requirements.count + len(recipe.declared.conda)
    say(f"building environment {recipe.name} with {recipe.kind}: {count} requirement{'s' if count != 1 else ''}, log in {log}")
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with open(log, "wb") as output:
            _Building(recipe, folder, output, log, lock).run()
        _write_mark(recipe, folder)
    except BaseException as error:
        remove(folder)
        if isinstance(error, OSError):
            raise FilesystemError.of(error, "build an environment in", error.filename or folder) from error
        raise
    say(f"environment {recipe.name} is ready after {time.monotonic() - began:.1f} s")


def remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _write_mark(recipe: Recipe, folder: str) -> None:
    document = {
        "name": recipe.name, "folder": folder, "python": recipe.python, "tool": recipe.kind,
        "requirements": recipe.declared.requirements.identity, "conda": recipe.declared.conda,
    }  # fmt: skip
    temporary = os.path.join(folder, f"{MARK}.new")
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(document, file, indent=1)
    os.replace(temporary, os.path.join(folder, MARK))


class _Building:
    def __init__(self, recipe: Recipe, folder: str, output: IO[bytes], log: str, lock: int) -> None:
        self._recipe, self._folder, self._output, self._log, self._lock = recipe, folder, output, log, lock
        self._python = os.path.join(folder, "bin", "python")

    def run(self) -> None:
        self._make()
        found = self._recipe.declared.requirements
        if not found.lines:
            return
        words = ["-r", self._list("requirements.txt", found.lines)]
        if found.constraints:
            words += ["-c", self._list("constraints.txt", found.constraints)]
        wheels = self._recipe.declared.wheels
        words += [word for link in wheels.find_links for word in ("--find-links", link)] + ["--no-index"] * wheels.no_index
        self._call([*self._installer(), *words])

    def _make(self) -> None:
        recipe, declared = self._recipe, self._recipe.declared
        if declared.conda:
            channels = [word for channel in declared.channels for word in ("-c", channel)]
            python = f"python={declared.python_version}" if declared.python_version else "python"
            self._call([recipe.tool, "create", "-y", "-p", self._folder, *channels, python, *declared.conda])
        elif recipe.tool:
            python = recipe.base.path if recipe.base else str(declared.python_version)
            self._call([recipe.tool, "venv", "--python", python, self._folder])
        else:
            assert recipe.base is not None
            self._call([recipe.base.path, "-m", "venv", "--without-pip", self._folder])

    def _installer(self) -> list[str]:
        """uv; else the pip of the base, which may be newer than the one Python bundles; else the bundled one. None is left in it."""
        found = uv()
        if found:
            return [found, "pip", "install", "--python", self._python]
        options = [
            "--disable-pip-version-check",
            "--no-input",
            "--progress-bar",
            "off",
            "--no-warn-script-location",
            "--retries",
            "2",
        ]
        base = self._recipe.base.path if self._recipe.base else self._python
        if _pip_version(base) >= (22, 3):
            return [base, "-m", "pip", "--python", self._python, "install", *options]
        bundled = _bundled_pip(base)
        if not bundled:
            raise EnvironmentProblem(
                f"environment {self._recipe.name!r} cannot be built: {base} has no pip, and there is no uv on PATH",
                hint="Install uv, or pip for that Python (on Debian: apt-get install python3-venv python3-pip).",
            )
        return [self._python, f"{bundled}/pip", "install", *options]

    def _list(self, name: str, lines: list[str]) -> str:
        path = os.path.join(self._folder, f"mlpipe-{name}")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def _call(self, words: list[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
        self._output.write(f"$ {' '.join(words)}\n".encode("utf-8", "surrogateescape"))
        self._output.flush()
        done = subprocess.run(
            words, stdout=self._output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False, env=environment,
            cwd=os.path.dirname(self._folder), pass_fds=[self._lock],
        )  # fmt: skip
        if done.returncode:
            raise self._failed(words[0], done.returncode)

    def _failed(self, program: str, code: int) -> EnvironmentProblem:
        with open(self._log, encoding="utf-8", errors="replace") as file:
            text = file.read()[-20_000:]
        lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("$ ")]
        shown = "".join(f"\n  | {line[:300]}" for line in lines[-_SHOWN_LINES:])
        why, hint = diagnosis(text, offline=self._recipe.declared.wheels.no_index)
        why = why or f"{os.path.basename(program)} exited {code}"
        return EnvironmentProblem(
            f"environment {self._recipe.name!r} could not be built: {why}{shown}\n  all of it: {self._log}",
            where=self._recipe.declared.spec.where, hint=hint,
        )  # fmt: skip


_MISSING = re.compile(
    r"No matching distribution found for ([^\s(]+)|Because (\S+) was not found in the (?:package registry|provided package locations)"
    r"|there (?:is|are) no versions? of (\S+)"
)
_NO_NETWORK = re.compile(
    r"Failed to establish a new connection|Temporary failure in name resolution|Name or service not known|Network is unreachable"
    r"|Connection refused|Max retries exceeded|dns error|error sending request|ConnectTimeout|Could not resolve host|tunnel error",
    re.IGNORECASE,
)  # fmt: skip


def diagnosis(text: str, *, offline: bool) -> tuple[str, str]:
    """(why, what to do), read from what pip, uv and conda say."""
    found = _MISSING.search(text)
    package = next((group for group in found.groups() if group), "").rstrip(".,") if found else ""
    wheels = "put a wheel of it into a folder that [environments] find_links of mlpipe.toml names"
    if _NO_NETWORK.search(text):
        what = (
            f"{package} is not here and the package index cannot be reached" if package else "the package index cannot be reached"
        )
        return what, f"Go online, or {wheels}."
    if package and offline:
        return f"no package for {package} in the folders of find_links, and no_index forbids fetching it", wheels[
            0
        ].upper() + wheels[1:] + "."
    if package:
        return f"there is no package for {package} that fits this Python and platform", "Correct its name or version."
    if "HASHES" in text or "Hash mismatch" in text or "hash mismatch" in text:
        return "a package has other bytes than its --hash says", "Lock the requirements anew, if you trust the package."
    return "", "Read the log, mend the requirements, and run again."


def _pip_version(python: str) -> tuple[int, ...]:
    done = subprocess.run(
        [python, "-I", "-c", "import pip; print(pip.__version__)"], capture_output=True, check=False, encoding="utf-8", errors="replace"
    )  # fmt: skip
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:2]) if done.returncode == 0 else ()


def _bundled_pip(python: str) -> str:
    code = (
        "import ensurepip, glob, os; print((glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), '_bundled', 'pip-*.whl'))"
        " + glob.glob('/usr/share/python-wheels/pip-*.whl') + [''])[0])"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, check=False, encoding="utf-8", errors="replace")
    return done.stdout.strip() if done.returncode == 0 else ""
