"""What a RECORD says of a distribution, without what only tells how and where it was installed.

The same wheel put somewhere by pip, by uv, or into a folder of another name counts the same.
"""

from __future__ import annotations

import os

from mlpipe_engine.hashing.files import hash_bytes

_BY_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")


def record_digest(path: str, understood: frozenset[str] = frozenset()) -> str:
    """`understood`: finders of editable installs that were followed; their text names folders of this machine.

    .pth files are left out, because each counts by itself; so is bytecode. Scripts count without the interpreter they name.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = sorted(line.strip() for line in file if line.strip())
    except OSError:
        return ""
    kept, generated = [], _entry_points(os.path.join(os.path.dirname(path), "entry_points.txt"))
    for line in lines:
        name = line.rsplit(",", 2)[0].strip('"')
        base = os.path.basename(name)
        if name.endswith((".pyc", ".pth")) or base in understood or (base in _BY_INSTALLER and ".dist-info/" in name):
            continue
        if name.startswith("../") and base in generated:
            continue
        if name.startswith("../"):
            line = f"{base},{_script_digest(os.path.normpath(os.path.join(os.path.dirname(os.path.dirname(path)), name)))}"
        kept.append(line)
    return hash_bytes("\n".join(kept).encode("utf-8", "surrogateescape"))[3:19]


def _entry_points(path: str) -> set[str]:
    """Names of scripts that an installer writes, in words of its own; entry_points.txt counts for them."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return {line.split("=")[0].strip() for line in file if "=" in line}
    except OSError:
        return set()


def _script_digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            body = file.read()
    except OSError:
        return ""
    if body.startswith(b"#!/bin/sh\n'''exec'"):  # a path too long for a #! line
        body = body.split(b"\n", 3)[-1]
    elif body.startswith(b"#!"):
        body = body.partition(b"\n")[2]
    return hash_bytes(body)


def conda_packages(prefix: str) -> tuple[str, ...]:
    """Packages of a conda environment, name-version-build: libraries that are no Python distribution stand only here."""
    try:
        names = os.listdir(os.path.join(prefix, "conda-meta"))
    except OSError:
        return ()
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))
