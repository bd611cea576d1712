"""File systems whose changes are not told: those that are changed from another machine, or through a layer that tells nothing."""

from __future__ import annotations

import os

_SILENT = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "v9fs", "drvfs", "vboxsf", "afs", "ceph", "glusterfs", "lustre", "prl_fs"}
)


def silent_mount(folder: str) -> str:
    """Why events do not come from `folder`; "" where they do, or where that cannot be told."""
    kind = _kind_of(os.path.realpath(folder))
    if kind in _SILENT or (kind.startswith("fuse.") and kind not in ("fuse.fuse-overlayfs",)):
        return f"{folder} lies on a file system ({kind}) that does not tell of changes"
    return ""


def _kind_of(path: str) -> str:
    """By the longest mount point above `path`."""
    best, kind = -1, ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.split(" ")
                point = words[4].replace("\\040", " ").rstrip("/")
                if len(point) > best and (path == point or path.startswith(point + "/")):
                    best, kind = len(point), words[words.index("-") + 1]
    except (OSError, ValueError, IndexError):
        return ""
    return kind
