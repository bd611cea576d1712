"""Which shared libraries programs need, read from the files themselves: nothing is executed, a thousand files take a moment.

Only the dynamic section of ELF files is read: the names needed, and where the file itself says to look.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_FALLBACK = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
OPENED_LATER = (
    "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libm.so.6", "libresolv.so.2", "libnss_dns.so.2",
    "libnss_files.so.2", "libgcc_s.so.1", "libstdc++.so.6", "libgomp.so.1",
)  # fmt: skip
"""What the C library and wheels open by name while they run, so that no file names it."""


@dataclass(frozen=True, slots=True)
class Needs:
    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    """Where the file says its libraries lie."""
    loader: str = ""


def needs_of(path: str) -> Needs:
    """Of a 64-bit ELF file; of anything else nothing."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:5] != b"\x7fELF\x02":
                return Needs()
            order = "<" if head[5] == 1 else ">"
            start, = struct.unpack_from(order + "Q", head, 32)  # fmt: skip
            size, count = struct.unpack_from(order + "HH", head, 54)
            file.seek(start)
            table = file.read(size * count)
            headers = [struct.unpack_from(order + "IIQQQQ", table, size * at) for at in range(count)]
            loader, dynamic, loads = "", b"", []
            for kind, _, offset, address, _, length in headers:
                if kind == _PT_LOAD:
                    loads.append((address, offset, length))
                elif kind in (_PT_INTERP, _PT_DYNAMIC):
                    file.seek(offset)
                    data = file.read(length)
                    if kind == _PT_INTERP:
                        loader = os.fsdecode(data.rstrip(b"\0"))
                    else:
                        dynamic = data
            entries = [struct.unpack_from(order + "qQ", dynamic, at) for at in range(0, len(dynamic) - 15, 16)]
            table_at = next((value for tag, value in entries if tag == _DT_STRTAB), None)
            place = next(
                (offset + table_at - at for at, offset, length in loads if table_at is not None and at <= table_at < at + length),
                None,
            )
            if place is None:
                return Needs(loader=loader)

            def text(offset: int) -> str:
                file.seek(place + offset)
                return os.fsdecode(file.read(4096).split(b"\0")[0])

            names = tuple(text(value) for tag, value in entries if tag == _DT_NEEDED)
            paths = ":".join(text(value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH))
    except (OSError, struct.error):
        return Needs()
    origin = os.path.dirname(os.path.realpath(path))
    folders = tuple(re.sub(r"\$\{?ORIGIN\}?", lambda _: origin, folder) for folder in paths.split(":") if folder)
    return Needs(names, folders, loader)


def closure(files: Iterable[str], near: tuple[str, ...]) -> dict[str, str]:
    """Path under which a library is found -> the real file, of all that `files` need, `files` themselves left out.

    `near`: folders searched before those of the system.
    """
    found: dict[str, str] = {}
    files = list(files)
    todo, seen = list(files), set(files)
    for name in OPENED_LATER:
        path = _in_system(name)
        if path:
            todo.append(path)
            found[path] = os.path.realpath(path)
    while todo:
        needs = needs_of(todo.pop())
        wanted = [(name, _find(name, (*needs.folders, *near))) for name in needs.names]
        for _, path in [*wanted, ("", needs.loader)]:
            if path and path not in seen and os.path.exists(path):
                seen.add(path)
                found[path] = os.path.realpath(path)
                todo.append(path)
    return found


def _find(name: str, folders: tuple[str, ...]) -> str:
    for folder in folders:
        path = os.path.normpath(os.path.join(folder, name))
        if os.path.exists(path):
            return path
    return _in_system(name)


def _in_system(name: str) -> str:
    known = _system_libraries().get(name)
    if known:
        return known
    return next((f"{folder}/{name}" for folder in _FALLBACK if os.path.exists(f"{folder}/{name}")), "")


@lru_cache(maxsize=1)
def _system_libraries() -> dict[str, str]:
    """As the dynamic loader knows them."""
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            done = subprocess.run([program, "-p"], capture_output=True, check=False, timeout=20, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            continue
        found: dict[str, str] = {}
        for line in os.fsdecode(done.stdout).splitlines():
            match = re.match(r"\s+(\S+) \(([^)]*)\) => (/\S+)", line)
            if match and ("64" in match[2] or "AArch64" in match[2]):
                found.setdefault(match[1], match[3])
        return found
    return {}
