"""Requirements in pip's format: what is to be installed, and what of it counts in the identity of an environment.

Includes are followed, comments dropped, local packages counted by content. Installs nothing, fetches nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from hashlib import sha256

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError, MlpipeError
from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.snapshots.ignore import ProjectIgnore

_MAX_BYTES = 4 << 20
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")
_METADATA = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass
class Requirements:
    """Filled by `Reader`."""

    lines: list[str] = field(default_factory=list)
    """As they are installed: local paths are absolute."""
    constraints: list[str] = field(default_factory=list)
    identity: list[str] = field(default_factory=list)
    """The same, with local packages by content and values of variables by digest."""

    @property
    def count(self) -> int:
        return sum(1 for line in self.lines if not line.startswith("-") or line.startswith("-e "))


class Reader:
    """Reads files and lines for one environment. Raises EnvironmentProblem with file and line."""

    def __init__(self, root: str, stats: StatCache) -> None:
        self._root, self._stats = root, stats
        self._seen: set[tuple[str, bool]] = set()
        self.found = Requirements()

    def file(self, path: str, where: str, *, constraint: bool = False) -> None:
        """`path`: absolute. `where`: who names it."""
        if (path, constraint) in self._seen:
            return
        self._seen.add((path, constraint))
        shown = self._shown(path)
        self._stats.follow(path)
        for number, line in _logical_lines(_text(path, shown, where)):
            self.line(line, os.path.dirname(path), f"{shown}:{number}", constraint=constraint)

    def line(self, line: str, folder: str, where: str, *, constraint: bool = False) -> None:
        """`folder`: what paths in it are relative to."""
        name, value = _option(line)
        if name in ("-r", "--requirement", "-c", "--constraint"):
            if "://" in value:
                raise EnvironmentProblem(
                    f"includes the address {value}", where=where, expected="a file", hint="Download it and name the file."
                )
            self.file(
                os.path.normpath(os.path.join(folder, value)), where, constraint=constraint or name in ("-c", "--constraint")
            )
        elif name in ("-f", "--find-links") and "://" not in value:
            self._add(f"--find-links {os.path.normpath(os.path.join(folder, value))}", f"--find-links {value}", constraint)
        elif name in ("-e", "--editable") and "://" not in value:
            path, rest = self._local(value, folder, where)
            self._add(f"-e {path}{rest}", f"-e {self._shown(path)}{rest} {self._metadata(path)}", constraint)
        elif name:
            self._add(line, line, constraint)
        else:
            self._requirement(line, folder, where, constraint)

    def _requirement(self, line: str, folder: str, where: str, constraint: bool) -> None:
        direct = re.match(r"\s*[\w.\-]+(?:\[[^\]]*\])?\s*@\s*", line)
        target = line[direct.end() :] if direct else line
        word = re.match(r"[^\s;\[]*", target.removeprefix("file://"))
        text = word[0] if word else ""
        if not _is_path(target, text, folder, self._root) or (direct and not target.startswith("file://")):
            self._add(line, line, constraint)
            return
        path, _ = self._local(text, folder, where)
        rest = target.removeprefix("file://")[len(text) :]
        before = f"{line[: direct.end()]}file://" if direct else ""
        self._add(f"{before}{path}{rest}", f"{before}{self._shown(path)}{rest} {self._content(path)}", constraint)

    def _add(self, line: str, identity: str, constraint: bool) -> None:
        if re.search(r"\$\{\w+\}", identity):
            self._stats.unwatchable = True  # stats of paths do not tell when the value of a variable changes
        (self.found.constraints if constraint else self.found.lines).append(line)
        self.found.identity.append(("constraint " if constraint else "") + re.sub(r"\$\{(\w+)\}", _variable, identity))

    def _local(self, text: str, folder: str, where: str) -> tuple[str, str]:
        """(absolute path, extras behind it): below the folder of the file, else below the project."""
        word = re.match(r"[^\s;\[]*", text.removeprefix("file://"))
        named = word[0] if word else text
        rest = text.removeprefix("file://")[len(named) :]
        for base in (folder, self._root):
            path = os.path.normpath(os.path.join(base, os.path.expanduser(named)))
            self._stats.follow(path)
            if os.path.exists(path):
                return path, rest
        raise EnvironmentProblem(
            f"{named} does not exist", where=where, hint="Local packages are relative to the file that names them, or to the project folder."
        )  # fmt: skip

    def _content(self, path: str) -> str:
        try:
            if os.path.isdir(path):
                return scan_tree(
                    path, ignore=ProjectIgnore(path, path), cache=self._stats
                ).digest  # no ignore file stands above it
            return self._digest(path)
        except MlpipeError as error:
            raise EnvironmentProblem(str(error)) from error

    def _metadata(self, path: str) -> str:
        """Of an editable install only what says how it is built: its code is code of the steps."""
        files = [os.path.join(path, name) for name in _METADATA]
        for file in files:
            self._stats.follow(file)
        return " ".join(self._digest(file) for file in files if os.path.isfile(file))

    def _digest(self, path: str) -> str:
        path = os.path.realpath(path)
        info = os.stat(path)
        known = self._stats.digest(path, info)
        if known is None:
            known = hash_file(path, info.st_size)
            self._stats.remember(path, info, known)
        return known

    def _shown(self, path: str) -> str:
        return os.path.relpath(path, self._root) if path.startswith(self._root.rstrip("/") + "/") else path

    def wheelhouse(self, folder: str) -> list[str]:
        """Names and digests of the archives in a local folder of packages."""
        self._stats.follow(folder)
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(_ARCHIVES))
        except OSError as error:
            raise FilesystemError.of(error, "list", folder) from error
        return [f"{name} {self._digest(os.path.join(folder, name))}" for name in names]


def _text(path: str, shown: str, where: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise EnvironmentProblem(
            f"the requirements file {shown} does not exist", where=where, hint="Correct its path (in a definition: relative to the project folder)."
        ) from None  # fmt: skip
    except IsADirectoryError:
        raise EnvironmentProblem(f"{shown} is a folder", where=where, expected="a requirements file") from None
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error
    except UnicodeDecodeError:
        raise EnvironmentProblem(f"{shown} is no UTF-8 text", where=where) from None


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(number, line): joined where a line ends with a backslash, without comments and empty lines."""
    found: list[tuple[int, str]] = []
    pending, first = "", 0
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        line = re.sub(r"(^|\s+)#.*$", "", raw)
        first = first if pending else number
        if line.endswith("\\") and line == raw:
            pending += line[:-1].strip() + " "
            continue
        line = (pending + line.strip()).strip()
        pending = ""
        if line:
            found.append((first, re.sub(r"\s+", " ", line)))
    if pending.strip():
        found.append((first, pending.strip()))
    return found


def _option(line: str) -> tuple[str, str]:
    if not line.startswith("-"):
        return "", line
    if line.startswith("--"):
        name, _, value = line.replace("=", " ", 1).partition(" ")
        return name, value.strip().strip("\"'")
    return line[:2], line[2:].lstrip(" =").strip("\"'")


def _is_path(target: str, text: str, folder: str, root: str) -> bool:
    if target.startswith("file://") or text.startswith((".", "/", "~")):
        return bool(text)
    if "://" in text:
        return False
    return ("/" in text or text.endswith(_ARCHIVES)) and any(os.path.exists(os.path.join(base, text)) for base in (folder, root))


def _variable(found: re.Match[str]) -> str:
    """A variable in a line counts by its value, which may be a secret and is not kept."""
    value = os.environ.get(found[1])
    return found[0] if value is None else f"{found[0]}#{sha256(value.encode()).hexdigest()[:16]}"
