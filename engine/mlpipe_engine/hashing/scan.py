"""Trees read from disk: of code and inputs (`scan_tree`), and of what a step wrote (`walk_artifact`).

Links are never followed out; special files are refused by name; a file that changes while it is read is read again, then
refused. Iterative. Which files are left out is the caller's word (`snapshots.ignore`).
"""

from __future__ import annotations

import os
import stat as st
from collections.abc import Callable
from typing import Protocol

from mlpipe_engine.errors import FilesystemError, SnapshotError, StagingError
from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.model.trees import Entry, Kind, Tree

_STATE_DIR = ".mlpipe"


class IgnoreRules(Protocol):
    """Says what of a folder is left out."""

    def enter(self, relative: str, names: list[str]) -> Callable[[str, bool], bool]:
        """For the folder `relative` ("" is the root) with these names in it: a test (name, is folder) -> ignored."""


def scan_tree(root: str, *, ignore: IgnoreRules | None, cache: StatCache) -> Tree:
    """The tree at `root`, a folder or a single file. Raises SnapshotError naming the path."""
    try:
        found = os.lstat(root)
    except OSError as error:
        raise SnapshotError(f"cannot read {root}: {error.strerror}") from error
    if not st.S_ISDIR(found.st_mode):
        return Tree.of([_entry("", root, found, cache)])
    entries: list[Entry] = []
    folders = [("", root)]
    while folders:
        relative, path = folders.pop()
        cache.look(path)
        listed = _listed(path)
        skip = ignore.enter(relative, [item.name for item in listed]) if ignore is not None else None
        for item in listed:
            is_folder = item.is_dir(follow_symlinks=False)
            if (item.name == _STATE_DIR and is_folder) or (skip is not None and skip(item.name, is_folder)):
                continue
            inner = f"{relative}/{item.name}" if relative else item.name
            if is_folder:
                entries.append(Entry(inner, "d"))
                folders.append((inner, item.path))
            else:
                entries.append(_scanned(inner, item, cache))
    return Tree.of(entries)


def _listed(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as listing:
            return list(listing)
    except OSError as error:
        raise SnapshotError(f"cannot list the folder {path}: {error.strerror}", hint="Change its mode, or ignore it.") from error


def _scanned(relative: str, item: os.DirEntry[str], cache: StatCache) -> Entry:
    try:
        return _entry(relative, item.path, item.stat(follow_symlinks=False), cache)
    except OSError as error:
        raise SnapshotError(f"cannot read {item.path}: {error.strerror}") from error


def _entry(relative: str, path: str, found: os.stat_result, cache: StatCache) -> Entry:
    mode = found.st_mode
    if st.S_ISLNK(mode):
        cache.saw(path, found)
        return Entry(relative, "l", os.readlink(path))
    if not st.S_ISREG(mode):
        raise SnapshotError(
            f"{path} is a {special_kind(mode)}; only files, folders and links can be frozen",
            hint="Remove it, or name it in .amlignore.",
        )
    digest = cache.digest(path, found)
    if digest is None:
        found, digest = _hashed_while_still(path, found)
        cache.remember(path, found, digest)
    kind: Kind = "x" if mode & 0o100 else "f"
    return Entry(relative, kind, digest, found.st_size)


def _hashed_while_still(path: str, found: os.stat_result) -> tuple[os.stat_result, str]:
    """Hash until the file is the same before and after."""
    for _ in range(3):
        try:
            digest = hash_file(path, found.st_size)
            after = os.lstat(path)
        except FilesystemError as error:
            raise SnapshotError(str(error), hint="Change its mode, or name it in .amlignore.") from error
        if (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) == (
            after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns
        ):  # fmt: skip
            return after, digest
        found = after
    raise SnapshotError(f"changed while being read: {path}", hint="Let the program that writes it finish, then run again.")


def special_kind(mode: int) -> str:
    kinds = {st.S_IFIFO: "named pipe", st.S_IFSOCK: "socket", st.S_IFBLK: "block device", st.S_IFCHR: "character device"}
    return kinds.get(st.S_IFMT(mode), "special file")


def walk_artifact(path: str) -> tuple[Tree, list[tuple[str, os.stat_result]]]:
    """Hash what a step wrote. Returns the tree and (absolute path, stat) of every file and folder, folders after their content.

    Raises StagingError for special files and for links that lead out of the output; FilesystemError.
    """
    try:
        found = os.lstat(path)
        if not st.S_ISDIR(found.st_mode):
            if st.S_ISLNK(found.st_mode):
                raise StagingError(
                    f"{path} is a link; an output must be a file or a folder", hint="Copy the file instead of linking it."
                )
            return Tree.of([_written("", path, found)]), [(path, found)]
        entries: list[Entry] = []
        files: list[tuple[str, os.stat_result]] = []
        _make_readable(path, found, 0o700)
        folders, seen = [("", path)], [(path, found)]
        while folders:
            relative, folder = folders.pop()
            with os.scandir(folder) as listing:
                items = list(listing)
            for item in items:
                inner = f"{relative}/{item.name}" if relative else item.name
                info = item.stat(follow_symlinks=False)
                if st.S_ISDIR(info.st_mode):
                    entries.append(Entry(inner, "d"))
                    _make_readable(item.path, info, 0o700)
                    folders.append((inner, item.path))
                    seen.append((item.path, info))
                elif st.S_ISLNK(info.st_mode):
                    entries.append(Entry(inner, "l", _inner_link(path, item.path)))
                else:
                    entries.append(_written(inner, item.path, info))
                    files.append((item.path, info))
    except PermissionError as error:
        raise StagingError(f"{error.filename or path} cannot be read: {os.strerror(error.errno or 0)}") from error
    except OSError as error:
        raise FilesystemError.of(error, "read the output", error.filename or path) from error
    return Tree.of(entries), files + seen[::-1]


def _make_readable(path: str, info: os.stat_result, bits: int) -> None:
    """What a step left without permission for its own user; in the store everything can be read. Raises PermissionError of others' files."""
    if info.st_mode & bits != bits:
        os.chmod(path, st.S_IMODE(info.st_mode) | bits)


def _written(relative: str, path: str, info: os.stat_result) -> Entry:
    if not st.S_ISREG(info.st_mode):
        raise StagingError(f"{path} is a {special_kind(info.st_mode)}; an output may hold files, folders and links only")
    _make_readable(path, info, 0o400)
    return Entry(relative, "x" if info.st_mode & 0o100 else "f", hash_file(path, info.st_size), info.st_size)


def _inner_link(root: str, path: str) -> str:
    target = os.readlink(path)
    resolved = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or not resolved.startswith(root + os.sep):
        raise StagingError(
            f"{path} is a link that leads out of the output, to {target}", hint="Copy the file instead of linking it."
        )
    return target
