"""Runs a step under strace and reads what every one of its programs opened, listed, started and connected to.

With seccomp-bpf only the calls asked for stop the step. Gives the same records as `step_audit`; knows nothing of what counts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError

Record = tuple[str, str]

_CALLS = "open,openat,openat2,creat,execve,execveat,connect,sendto,bind,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat"


@lru_cache(maxsize=1)
def strace() -> str:
    """The program's path. Raises EnvironmentProblem when it is missing or may not trace here."""
    found = shutil.which("strace", path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise EnvironmentProblem(
            'audit = "full" needs the program strace, which is not installed',
            hint='Install it (apt-get install strace, dnf install strace), or use audit = "python".',
        )
    try:
        done = subprocess.run([found, "-f", "-qq", "-o", "/dev/null", "/bin/true"], capture_output=True, timeout=30, check=False)
        problem = "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
    except (OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    if problem:
        raise EnvironmentProblem(
            f'audit = "full" needs to trace programs, which is not allowed here: {problem}',
            hint='Allow ptrace (in a container: --cap-add SYS_PTRACE), or use audit = "python".',
        )
    return found


def wrapped(argv: tuple[str, ...], trace: str) -> tuple[str, ...]:
    options = ("-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", "signal=none", "-e", f"trace={_CALLS}")
    return (strace(), *options, "-o", trace, "--", *argv)


_LINE = re.compile(rb"^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(?:<((?:[^>\\]|\\.)*)>)?(.*)$")
_PART = re.compile(rb"^(\d+) +(?:<\.\.\. (\w+) resumed>(.*)|(\w+\(.*) <unfinished \.\.\.>)$")
_TEXT = re.compile(rb'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_FOLDER = re.compile(rb"^(?:AT_FDCWD|\d+)<((?:[^>\\]|\\.)*)>")
_STARTUP = re.compile(r"/encodings/(__init__\.py|__pycache__/__init__\.[\w.-]+\.pyc)$")


def traced(path: str) -> tuple[list[Record], int] | None:
    """The records, and how many Python interpreters started; None when there is no trace. Raises FilesystemError."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error
    found: list[Record] = []
    waiting: dict[bytes, bytes] = {}
    fresh: set[bytes] = set()
    """Processes that have started a program and not yet shown to be Python."""
    images = 0
    for line in lines:
        part = _PART.match(line)
        if part is not None:
            pid = part[1]
            if part[4] is not None:
                waiting[pid] = part[4]
                continue
            line = pid + b" " + waiting.pop(pid, b"") + part[3]
        call = _LINE.match(line)
        if call is None:
            continue
        pid, name, arguments, result, real, _ = call.groups()
        ok = not result.startswith((b"-", b"?"))
        record = _record(name, arguments, ok, _unescaped(real) if real else "", call[6])
        if name.startswith(b"execve") and ok:
            fresh.add(pid)
        if record is None:
            continue
        found.append(record)
        way = _way(arguments, record[1], bool(real)) if ok else ""
        if way:
            found.append(("t", way))
        if record[0] == "r" and pid in fresh and _STARTUP.search(record[1]):
            images += 1
            fresh.discard(pid)
    return found, images


def _record(name: bytes, arguments: bytes, ok: bool, real: str, rest: bytes) -> Record | None:
    if name in (b"connect", b"sendto", b"bind"):
        return _address(name, arguments) if ok or b"EINPROGRESS" in rest else None
    texts = [_unescaped(match[1]) for match in _TEXT.finditer(arguments)]
    if name.startswith(b"execve"):
        return ("r", "\t" + os.path.normpath(texts[0])) if texts and texts[0].startswith("/") and ok else None
    if not texts:
        return None
    folder = _FOLDER.match(arguments)
    if name.startswith((b"rename", b"link", b"symlink", b"mkdir")):
        return ("w", _joined(arguments, texts[-1])) if ok else None
    path = real or os.path.normpath(os.path.join(_unescaped(folder[1]) if folder else "/", texts[0]))
    flags = arguments[arguments.rfind(b'"') :]
    if name == b"creat" or b"O_TRUNC" in flags or b"O_CREAT|O_EXCL" in flags:
        return ("w", path) if ok else None
    if not ok:
        return (
            None
            if b"ENOENT" not in rest and b"EACCES" not in rest and b"EPERM" not in rest
            else ("r", f"-\t{path}" if b"ENOENT" in rest else f"\t{path}")
        )
    if b"O_DIRECTORY" in flags:
        return ("l", path)
    if b"O_WRONLY" in flags:
        return None
    return ("r", f"\t{path}")


def _way(arguments: bytes, text: str, is_real: bool) -> str:
    """The path that was asked for, where it went by a link and so is another than the one in `text`; "" where it did not."""
    found = _TEXT.search(arguments)
    if found is None:
        return ""
    folder = _FOLDER.match(arguments)
    asked = os.path.join(_unescaped(folder[1]) if folder else "/", _unescaped(found[1]))
    plain = "/" + "/".join(part for part in asked.split("/") if part not in ("", "."))
    return "" if is_real and plain == text.rpartition("\t")[2] else asked


def _joined(arguments: bytes, last: str) -> str:
    """The target of a call with two paths: its own folder stands right before it."""
    before = arguments[: arguments.rfind(b'"')]
    folders = re.findall(rb"(?:AT_FDCWD|\d+)<((?:[^>\\]|\\.)*)>, ?\"", before + b'"')
    return os.path.normpath(os.path.join(_unescaped(folders[-1]) if folders else "/", last))


def _address(name: bytes, arguments: bytes) -> Record | None:
    family = re.search(rb"sa_family=AF_(\w+)", arguments)
    if family is None:
        return None
    if family[1] == b"UNIX":
        path = re.search(rb'sun_path="((?:[^"\\]|\\.)*)"', arguments)
        return ("s", _unescaped(path[1])) if path and name != b"bind" and path[1].startswith(b"/") else None
    port = re.search(rb"sin6?_port=htons\((\d+)\)", arguments)
    host = re.search(rb'inet_(?:addr\(|pton\(AF_INET6, )"([^"]*)"', arguments)
    if port is None or host is None:
        return None
    if name == b"bind":
        return ("b", port[1].decode())
    return ("s", f"{host[1].decode('ascii', 'replace')} {port[1].decode()}")


def _unescaped(text: bytes) -> str:
    if b"\\" not in text:
        return os.fsdecode(text)
    simple = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}

    def replaced(match: re.Match[bytes]) -> bytes:
        inner = match[1]
        return bytes([int(inner, 8) & 255]) if inner[:1].isdigit() else simple.get(inner, inner)

    return os.fsdecode(re.sub(rb"\\([0-7]{1,3}|.)", replaced, text))
