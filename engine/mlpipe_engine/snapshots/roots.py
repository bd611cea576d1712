"""Code roots: folders beside the source directory that code is imported from, scanned as part of a step's code.

Where they come from (editable installs, .pth files) is the caller's knowledge. In a tree their files stand under
`/<label>//` (see `model.trees`), in a step directory under `roots/<n>/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.model.trees import Entry, Tree, in_root, split_root
from mlpipe_engine.snapshots.ignore import ProjectIgnore

LARGE_FILES = 2_000
"""A root outside of the project with more files is not copied for every step; all of it counts instead."""
_MODULES = (".py", ".so", ".pyd")
_HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hook.py")


@dataclass(frozen=True, slots=True)
class CodeRoot:
    path: str
    """As the interpreter has it on sys.path or in a finder: a folder, or a single module."""
    origin: str
    """What brings it, for people: the name of a .pth file or of a distribution."""


@dataclass(frozen=True)
class ScannedRoot:
    root: CodeRoot
    label: str
    """Project-relative where inside the project, else absolute; "." is the project folder itself."""
    tree: Tree
    """Paths below the root."""
    staged: bool
    """False: too large to be copied, so that all of it counts."""


def scan_root(root: CodeRoot, project_root: str, cache: StatCache) -> ScannedRoot | None:
    """None when there is nothing at its path. Raises SnapshotError."""
    real = os.path.realpath(root.path)
    cache.look(root.path)
    if real != root.path:
        cache.unwatchable = True  # a link inside of the path could be turned without a trace
    if not os.path.exists(real):
        return None
    if not os.path.isdir(real):
        folder = os.path.dirname(real)
        entry = replace(scan_tree(real, ignore=None, cache=cache).entries[0], path=os.path.basename(real))
        return ScannedRoot(root, _label(folder, project_root), Tree.of([entry]), real.endswith(".py"))
    inside = _holds(project_root, real)
    narrow = _holds(real, project_root)
    ignore = ProjectIgnore(project_root if inside else real, real)
    rules = _Rules(ignore, narrow=narrow)
    entries = [_followed(entry, real, cache) for entry in scan_tree(real, ignore=rules, cache=cache).entries]
    for path in ignore.consulted:
        cache.look(path)
    tree = Tree.of(_without_empty(entries) if narrow else entries)
    return ScannedRoot(root, _label(real, project_root), tree, inside or narrow or tree.file_count <= LARGE_FILES)


def _holds(folder: str, inner: str) -> bool:
    return inner == folder or inner.startswith(folder.rstrip("/") + "/")


def _label(real: str, project_root: str) -> str:
    return os.path.relpath(real, project_root).replace(os.sep, "/") if _holds(project_root, real) else real


class _Rules:
    """The ignore rules, but modules are kept: version files and compiled extensions are ignored by git and imported all the same.

    `narrow`: of a folder that holds the whole project only modules and the files of packages are code.
    """

    def __init__(self, rules: ProjectIgnore, *, narrow: bool) -> None:
        self._rules, self._narrow = rules, narrow
        self._packages: set[str] = set()

    def enter(self, relative: str, names: list[str]) -> Callable[[str, bool], bool]:
        ignored = self._rules.enter(relative, names)
        in_package = "__init__.py" in names or (relative and os.path.dirname(relative) in self._packages)
        if in_package:
            self._packages.add(relative)

        def skip(name: str, is_folder: bool) -> bool:
            if is_folder:
                return ignored(name, True) or (self._narrow and name.startswith("."))
            if name.endswith(_MODULES):
                return False
            return (self._narrow and not in_package) or ignored(name, False)

        return skip


def _followed(entry: Entry, root: str, cache: StatCache) -> Entry:
    """A link that leads out of the root to a file counts, and is copied, as that file (setuptools' strict editable installs)."""
    if entry.kind != "l":
        return entry
    target = os.path.realpath(os.path.join(root, entry.path))
    if _holds(root, target) or not os.path.isfile(target):
        return entry
    cache.follow(os.path.join(root, entry.path))
    info = os.stat(target)
    digest = cache.digest(target, info)
    if digest is None:
        digest = hash_file(target, info.st_size)
        cache.remember(target, info, digest)
    return Entry(entry.path, "x" if info.st_mode & 0o100 else "f", digest, info.st_size)


def _without_empty(entries: list[Entry]) -> list[Entry]:
    kept: set[str] = set()
    for entry in entries:
        folder = os.path.dirname(entry.path) if entry.kind != "d" else ""
        while folder and folder not in kept:
            kept.add(folder)
            folder = os.path.dirname(folder)
    return [entry for entry in entries if entry.kind != "d" or entry.path in kept]


def combined(code: Tree | None, roots: tuple[ScannedRoot, ...]) -> Tree | None:
    """The code of a step with its roots. Without roots it is `code` itself, so that its identity stays what it was."""
    if not roots:
        return code
    entries = {entry.path: entry for entry in code.entries} if code is not None else {}
    for scanned in roots:
        for entry in scanned.tree.entries:
            path = in_root(scanned.label, entry.path)
            entries[path] = replace(entry, path=path)
    return Tree.of(list(entries.values()))


def places(tree: Tree, code: str) -> dict[str, str]:
    """Label -> folder of its private copy, for a step whose code lies in the folder `code`."""
    labels = dict.fromkeys(split_root(entry.path)[0] for entry in tree.entries if entry.path.startswith("/"))
    above = os.path.dirname(code)
    return {
        label: f"{above}/roots/{number}/{os.path.basename(label).strip('.') or 'project'}" for number, label in enumerate(labels)
    }


def write_hook(code: str, moved: dict[str, str]) -> None:
    """`moved`: original folder -> its copy. The hook puts the copies where the interpreter has the originals."""
    folder = hook_folder(os.path.dirname(code))
    os.makedirs(folder)
    with open(_HOOK, "rb") as source, open(f"{folder}/sitecustomize.py", "wb") as target:
        target.write(source.read())
    with open(f"{folder}/moved.json", "w", encoding="ascii") as file:
        json.dump(moved, file)


def hook_folder(step_dir: str) -> str:
    return f"{step_dir}/roots/hook"
