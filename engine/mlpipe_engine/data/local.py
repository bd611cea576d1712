"""Paths and globs of this machine: which files they mean and what is in them, seen through the stat cache.

Everything that is listed or looked at goes through `StatCache.look`, so that a later run can tell by stats alone that nothing
changed. Called by `places`.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.errors import InputError, InputMissingError
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.model.datasets import Found
from mlpipe_engine.model.trees import Entry, Tree

if TYPE_CHECKING:
    from mlpipe_engine.hashing.stat_cache import StatCache


@dataclass(frozen=True)
class PathInput:
    """Files outside the artifact store that a step reads."""

    tree: Tree
    base: str
    """Absolute: the one path, or the folder that holds all `files`."""
    files: tuple[str, ...] | None
    """Paths below `base` that belong to it; None: all of `base`."""


def read_paths(root: str, paths: tuple[str, ...], validate: bool, stats: StatCache, need: str, where: str) -> PathInput:
    """One literal path stands for itself, file or folder; several, or a glob, for what they name below their common folder.

    `need`: who asks, as in "step 'train' needs". Raises InputMissingError, SnapshotError.
    """
    if len(paths) == 1 and not glob.has_magic(paths[0]):
        path = os.path.normpath(os.path.join(root, paths[0]))
        if not os.path.lexists(path):
            raise missing(root, paths[0], need, where)
        path = _without_links(path, stats, {})
        return PathInput(scan_tree(path, ignore=None, cache=stats), path, None)
    found: set[str] = set()
    for pattern in paths:
        matches = _matches(root, pattern, stats)
        if not matches and validate:
            raise missing(root, pattern, need, where)
        found.update(matches)
    base = os.path.commonpath([os.path.dirname(path) for path in found]) if found else root
    entries: list[Entry] = []
    folders: dict[str, str] = {}
    for path in sorted(found):
        real = _without_links(path, stats, folders)
        relative = os.path.relpath(path, base).replace(os.sep, "/")
        tree = scan_tree(real, ignore=None, cache=stats)
        entries.extend(
            Entry(f"{relative}/{entry.path}" if entry.path else relative, entry.kind, entry.digest, entry.size_bytes)
            for entry in tree.entries
        )
    return PathInput(Tree.of(entries), base, tuple(sorted(os.path.relpath(path, base) for path in found)))


def files_of(root: str, given: PathInput) -> tuple[Found, ...]:
    """The files of an input one by one, sorted by path. A link counts as the file it leads to, if that is one. Raises InputError."""
    found: list[Found] = []
    for entry in given.tree.entries:
        if entry.kind == "d":
            continue
        local = os.path.join(given.base, entry.path) if entry.path else given.base
        name = entry.path or os.path.basename(given.base)
        digest, size = entry.digest, entry.size_bytes
        if entry.kind == "l":
            behind = _behind_link(local)
            if behind is None:
                continue
            digest, size = behind
        address = os.path.relpath(local, root) if local.startswith(root.rstrip("/") + "/") else local
        found.append(Found(name, address, size, digest, local))
    return tuple(found)


def _behind_link(path: str) -> tuple[str, int] | None:
    from mlpipe_engine.hashing.files import hash_file

    target = os.path.realpath(path)
    if not os.path.exists(target):
        raise InputError(f"{path} is a link to {target}, which does not exist", hint="Correct or remove the link.")
    return (hash_file(target), os.path.getsize(target)) if os.path.isfile(target) else None


def _matches(root: str, pattern: str, stats: StatCache) -> list[str]:
    full = os.path.join(root, pattern)
    for folder in _globbed_folders(full):
        stats.look(folder)
    if not glob.has_magic(pattern):
        return [os.path.normpath(full)] if os.path.lexists(full) else []
    return [os.path.normpath(path) for path in glob.glob(full, recursive=True) if not os.path.isdir(path)]


def _without_links(path: str, stats: StatCache, folders: dict[str, str]) -> str:
    from mlpipe_engine.hashing.files import real_path

    real = real_path(path, folders)
    if real != path:
        stats.unwatchable = True
    return real


def _globbed_folders(pattern: str) -> list[str]:
    """Every folder whose listing decides what a pattern matches."""
    parts = pattern.split("/")
    found: list[str] = []
    for at, part in enumerate(parts):
        if part == "**":
            for start in glob.glob("/".join(parts[:at]) or "/"):
                found.extend(folder for folder, _, _ in os.walk(start))
            break
        if glob.has_magic(part):
            found.extend(glob.glob("/".join(parts[:at]) or "/"))
    return found


def missing(root: str, path: str, need: str, where: str) -> InputMissingError:
    from mlpipe_engine.errors import nearest

    folder, name = os.path.split(os.path.join(root, path))
    try:
        close = nearest(name, os.listdir(folder))
    except OSError:
        close = None
    path = path if len(path) <= 300 else f"{path[:297]}... ({len(path)} characters)"
    kind = "nothing matches" if glob.has_magic(path) else "no file or folder"
    return InputMissingError(
        f"{need} {path}, but {kind} {'it' if glob.has_magic(path) else 'of that name exists'}"
        + (f"; did you mean {close!r}?" if close else ""),
        where=where,
        hint="Correct the path (it is relative to the project folder), or bring the file.",
    )
