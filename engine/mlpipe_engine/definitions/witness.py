"""What a loaded definition depended on, as plain tuples that stats alone can check again.

No import but os: the thin "is there anything to do?" path uses it before anything else is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

Item = tuple[str, str, str]
"""(kind, name, signature): kind is file, folder, stat or env."""


def signature_of(kind: str, name: str, environ: Mapping[str, str]) -> str:
    """As it is now; a missing thing has a signature too."""
    if kind == "env":
        value = environ.get(name)
        return "unset" if value is None else f"={value}"
    try:
        if kind == "folder":
            return "\0".join(sorted(os.listdir(name)))
        info = os.stat(name)
    except OSError:
        return "missing"
    if kind == "stat":
        return f"{info.st_mode:o}"
    return f"{info.st_ino} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}"


def still_valid(items: Iterable[Item], environ: Mapping[str, str]) -> bool:
    return all(signature_of(kind, name, environ) == signature for kind, name, signature in items)
