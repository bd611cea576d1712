"""An image made of this machine's own interpreter and what is installed in it: no registry, no network, no build.

Everything stands in the image at the path it has here, so a virtual environment works as it is. Two layers, so that environments
share their interpreter. What goes in is known by digests before a byte is packed; the engine is told them in a label. Linux only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError
from mlpipe_engine.executors.containers import shared_libraries
from mlpipe_engine.executors.interpreters import SYSTEM_PATH, EnvironmentDescription, Interpreter, manifest_entries
from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.model.encoding import fingerprint

if TYPE_CHECKING:
    from mlpipe_engine.hashing.stat_cache import StatCache

REPOSITORY = "mlpipe-tui/host"
KEY_LABEL = "mlpipe-tui.host-image"
_FORMAT = 2
_LEFT_OUT = re.compile(
    r"/(test|tests|idlelib|idle_test|tkinter|turtledemo|lib2to3|site-packages|dist-packages|config-[^/]*|_tkinter[^/]*|_test[^/]*)(/|$)"
)
"""Of the standard library only."""
_PROGRAMS = (
    "sh", "bash", "env", "cat", "cp", "mv", "rm", "ln", "ls", "mkdir", "rmdir", "mktemp", "touch", "chmod", "head", "tail", "wc", "sort",
    "uniq", "cut", "tr", "paste", "join", "split", "tee", "seq", "grep", "sed", "awk", "find", "xargs", "cmp", "diff", "tar", "gzip", "gunzip",
    "sleep", "date", "echo", "printf", "test", "true", "false", "pwd", "basename", "dirname", "realpath", "readlink", "stat", "du", "df", "expr",
    "id", "uname", "nproc", "kill", "sha256sum", "md5sum", "base64", "od",
)  # fmt: skip
"""What shell steps start most; each is there if this machine has it."""

_QUESTION = """
import json, sys, sysconfig
own = "posix_prefix" if "posix_prefix" in sysconfig.get_scheme_names() else sysconfig.get_default_scheme()
base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix, "installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
print(json.dumps({"executable": sys.executable, "prefix": sys.prefix, "base": sys.base_prefix,
    "stdlib": [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars=base)],
    "sites": [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]}))
"""


@dataclass(frozen=True)
class Contents:
    """What goes into an image."""

    interpreter: str
    links: tuple[tuple[str, str], ...]
    """(path, target) of the links from the interpreter's name to its file."""
    trees: tuple[str, ...]
    """Folders of the standard library."""
    sites: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    """(path in the image, real file here): the interpreter, libraries, programs, pyvenv.cfg."""
    key: str
    """Of all of it."""

    @property
    def tag(self) -> str:
        return f"{REPOSITORY}:{self.key[:20]}"


def contents_of(
    interpreter: Interpreter, description: EnvironmentDescription, stats: StatCache, cached: str | None
) -> tuple[Contents, str | None]:
    """`cached`: the text kept from last time; the second value is what to keep now, None if nothing changed."""
    entries = manifest_entries(description)
    installed = fingerprint("installed", [[entry.name, entry.value] for entry in entries])
    document: dict[str, Any] = json.loads(cached) if cached else {}
    fresh = None
    if document.get("installed") != installed or document.get("format") != _FORMAT or not _all_there(document["files"]):
        document = {"installed": installed, "format": _FORMAT, **_looked_up(interpreter)}
        fresh = json.dumps(document)
    digests = [[path, _digest(real, stats)] for path, real in document["files"]]
    key = fingerprint("host image", [
        _FORMAT, interpreter.path, installed, document["links"], document["trees"], document["sites"], digests
    ])  # fmt: skip
    return Contents(
        interpreter=interpreter.path, links=tuple(map(tuple, document["links"])), trees=tuple(document["trees"]),
        sites=tuple(document["sites"]), files=tuple(map(tuple, document["files"])), key=key.partition(":")[2],
    ), fresh  # fmt: skip


def _all_there(files: list[list[str]]) -> bool:
    return all(os.path.exists(real) for _, real in files)


def _digest(path: str, stats: StatCache) -> str:
    info = os.stat(path)
    known = stats.digest(path, info)
    if known is None:
        known = hash_file(path, info.st_size)
        stats.remember(path, info, known)
    return known


def _looked_up(interpreter: Interpreter) -> dict[str, Any]:
    if not sys.platform.startswith("linux"):
        raise EnvironmentProblem(
            "an image from this machine's own interpreter can be made on Linux only",
            hint='Name an image: image = "python:3.12-slim" of the compute target, or Environment.from_docker_image.',
        )  # fmt: skip
    done = subprocess.run(
        [interpreter.path, "-I", "-c", _QUESTION], capture_output=True, check=False, cwd="/", env={"PATH": SYSTEM_PATH}, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise EnvironmentProblem(
            f"the interpreter {interpreter.path} does not tell what it is made of: {done.stderr.decode(errors='replace')[-300:]}"
        )
    answer = json.loads(done.stdout)
    trees = tuple(dict.fromkeys(filter(os.path.isdir, map(os.path.realpath, answer["stdlib"]))))
    sites = tuple(dict.fromkeys(filter(os.path.isdir, answer["sites"])))
    real = os.path.realpath(interpreter.path)
    links = _links(interpreter.path)
    inside = [path for tree in trees for path in _objects(tree, standard=True)] + [
        path for site in sites for path in _objects(site)
    ]
    files = {real: real}
    config = os.path.join(answer["prefix"], "pyvenv.cfg")
    if os.path.isfile(config):
        files[config] = config
    for name in _PROGRAMS:
        program = shutil.which(name, path=SYSTEM_PATH)
        if program:
            files[program] = os.path.realpath(program)
    near = (os.path.join(answer["base"], "lib"), os.path.join(answer["prefix"], "lib"))
    libraries = shared_libraries.closure([*files.values(), *inside], near)
    packed = (*trees, *sites)
    for path, target in libraries.items():
        if not any(os.path.normpath(path).startswith(folder + "/") for folder in packed):
            files[os.path.normpath(path)] = target
    return {"links": links, "trees": trees, "sites": sites, "files": sorted(files.items())}


def _links(path: str) -> list[tuple[str, str]]:
    """From the name an interpreter is started with, link by link, to its file. Folders that are links are followed as folders."""
    found: list[tuple[str, str]] = []
    while os.path.islink(path) and len(found) < 40:
        target = os.readlink(path)
        found.append((path, target))
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if path != os.path.realpath(path):  # a folder on the way is a link
        found.append((path, os.path.realpath(path)))
    return found


def _objects(folder: str, *, standard: bool = False) -> Iterator[str]:
    for path, folders, names in os.walk(folder):
        if standard:
            folders[:] = [name for name in folders if not _LEFT_OUT.search(f"/{name}/")]
        for name in names:
            if ".so" in name:
                yield os.path.join(path, name)


def build(contents: Contents, architecture: str, folder: str, load: Callable[[Iterator[bytes]], None]) -> None:
    """Pack the layers in a scratch folder below `folder` and hand the archive to `load`. Raises FilesystemError."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="image-") as scratch:
            base = _Layer(os.path.join(scratch, "base.tar"))
            with base.open() as tar:
                _pack_base(tar, contents)
            upper = _Layer(os.path.join(scratch, "packages.tar"))
            with upper.open() as tar:
                _pack_packages(tar, contents)
            load(_archive(contents, architecture, [base, upper]))
    except OSError as error:
        raise FilesystemError.of(error, "make an image in", error.filename or folder) from error


class _Layer:
    def __init__(self, path: str) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def open(self) -> tarfile.TarFile:
        return tarfile.open(self.path, "w", format=tarfile.GNU_FORMAT)

    def digest(self) -> str:
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by nobody in particular and readable by all; times stay, because .pyc files are judged by them."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = int(info.mtime)
    info.mode = (info.mode & 0o755) | (0o555 if info.isdir() or info.mode & 0o100 else 0o444)
    return info


def _pack_base(tar: tarfile.TarFile, contents: Contents) -> None:
    for tree in contents.trees:
        _pack_tree(tar, tree, standard=True)
    for path, real in contents.files:
        if not path.endswith("pyvenv.cfg"):
            _pack_file(tar, path, real)
    _pack_made(tar, "tmp", tarfile.DIRTYPE, 0o1777)
    people = b"root:x:0:0::/tmp:/bin/sh\nmlpipe:x:1000:1000::/tmp:/bin/sh\n"
    _pack_made(tar, "etc/passwd", tarfile.REGTYPE, 0o644, people)
    _pack_made(tar, "etc/group", tarfile.REGTYPE, 0o644, b"root:x:0:\nmlpipe:x:1000:\n")
    _pack_made(tar, "etc/nsswitch.conf", tarfile.REGTYPE, 0o644, b"passwd: files\ngroup: files\nhosts: files dns\n")
    if not any(path == "/bin/sh" for path, _ in contents.files):
        shell = next((path for path, _ in contents.files if os.path.basename(path) == "sh"), "")
        if shell:
            _pack_made(tar, "bin/sh", tarfile.SYMTYPE, 0o777, target=shell)
    for name in ("env",):
        place = next((path for path, _ in contents.files if os.path.basename(path) == name), "")
        if place and place != f"/usr/bin/{name}":
            _pack_made(tar, f"usr/bin/{name}", tarfile.SYMTYPE, 0o777, target=place)


def _pack_packages(tar: tarfile.TarFile, contents: Contents) -> None:
    for site in contents.sites:
        _pack_tree(tar, site)
    for path, real in contents.files:
        if path.endswith("pyvenv.cfg"):
            _pack_file(tar, path, real)
    for path, target in contents.links:
        _pack_made(tar, path.lstrip("/"), tarfile.SYMTYPE, 0o777, target=target)
    folder, packed = os.path.dirname(contents.interpreter), {path for path, _ in (*contents.links, *contents.files)}
    for name in ("python", "python3"):  # scripts say #!/usr/bin/env python3
        if f"{folder}/{name}" not in packed:
            _pack_made(tar, f"{folder.lstrip('/')}/{name}", tarfile.SYMTYPE, 0o777, target=contents.interpreter)


def _pack_tree(tar: tarfile.TarFile, folder: str, *, standard: bool = False) -> None:
    for path, folders, names in os.walk(folder):
        folders.sort()
        if standard:
            folders[:] = [name for name in folders if not _LEFT_OUT.search(f"/{name}/")]
        tar.addfile(_plain(tar.gettarinfo(path, path.lstrip("/"))))
        for link in [name for name in folders if os.path.islink(os.path.join(path, name))]:
            names.append(link)
        for name in sorted(names):
            full = os.path.join(path, name)
            if standard and (_LEFT_OUT.search(f"/{name}") or name.endswith((".opt-1.pyc", ".opt-2.pyc"))):
                continue
            _pack_file(tar, full, full)


def _pack_file(tar: tarfile.TarFile, path: str, real: str) -> None:
    info = tar.gettarinfo(real, path.lstrip("/"))
    if info is None:  # a socket
        return
    if info.islnk():  # two names of one file: each is packed
        info.type, info.linkname = tarfile.REGTYPE, ""
        info.size = os.path.getsize(real)
    if info.isreg():
        with open(real, "rb") as file:
            tar.addfile(_plain(info), file)
    elif info.issym() or info.isdir():
        tar.addfile(_plain(info))


def _pack_made(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, body: bytes = b"", target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(body), target
    tar.addfile(info, io.BytesIO(body))


def _archive(contents: Contents, architecture: str, layers: list[_Layer]) -> Iterator[bytes]:
    """What `docker load` takes. Nothing in it is a time, so the same contents are the same image everywhere."""
    folder = os.path.dirname(contents.interpreter)
    config = json.dumps({
        "architecture": architecture, "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Env": [f"PATH={folder}:{SYSTEM_PATH}"], "Cmd": [contents.interpreter], "Labels": {KEY_LABEL: contents.key}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest()}" for layer in layers]},
        "history": [{"created_by": "mlpipe-tui"} for _ in layers],
    }, sort_keys=True).encode()  # fmt: skip
    names = [os.path.basename(layer.path) for layer in layers]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [contents.tag], "Layers": names}]).encode()
    for name, body in (("config.json", config), ("manifest.json", manifest)):
        yield _member(name, len(body)) + body + bytes(-len(body) % 512)
    for layer in layers:
        size = os.path.getsize(layer.path)
        yield _member(os.path.basename(layer.path), size)
        with open(layer.path, "rb") as file:
            while data := file.read(1 << 20):
                yield data
        yield bytes(-size % 512)
    yield bytes(1024)


def _member(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(format=tarfile.GNU_FORMAT)
