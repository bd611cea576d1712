"""Which file system a store lies on: SQLite's write-ahead log needs memory shared by all writers, which no network file system has.

There the store keeps a rollback journal, and only where `[store] network = true` says that somebody wants it so.
"""

from __future__ import annotations

import os

from mlpipe_engine.errors import FilesystemError

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "virtiofs"})


_allowed: set[str] = set()
"""Folders this process was told about: the recorder opens the store that `engine` has opened before it."""


def needs_rollback(folder: str, *, allowed: bool) -> bool:
    """Whether a database in `folder` must not use a write-ahead log. Raises FilesystemError when nobody allowed it to lie there."""
    kind = network_kind(folder)
    if not kind:
        return False
    if allowed:
        _allowed.add(folder)
    if any(folder == known or folder.startswith(known + "/") for known in _allowed):
        return True
    raise FilesystemError(
        f"{folder} lies on a network file system ({kind}): several machines writing to it at once would damage the store",
        hint="Move the project to a local disk, or set `network = true` in the table [store] of mlpipe.toml and use it from one machine.",
    )


def network_kind(folder: str) -> str:
    """Its type as the kernel names it, or "" for a local file system. Linux only: elsewhere everything counts as local."""
    try:
        device = os.stat(folder).st_dev
        if os.major(device) != 0:  # a disk; reading the table of mounts costs more than the rest of opening a store
            return ""
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return kind_in(file.read(), device)
    except OSError:
        return ""


def kind_in(mounts: str, device: int) -> str:
    """The network type of `device` in a text like /proc/self/mountinfo."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if left.split(" ")[2:3] == [wanted]:
            kind = right.split(" ")[0]
            return kind if kind in _NETWORK or kind == "fuse" or kind.startswith("fuse.") else ""
    return ""
