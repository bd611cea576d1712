"""Source directories frozen in the project's store, laid out for steps, and read back afterwards.

Blobs lie under their digest, read-only; a tree is a text of entries. Nothing here decides reuse. One writer per process; several
processes may save the same tree at once, because every file appears by rename.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from uuid import uuid4

from mlpipe_engine.errors import FilesystemError, SnapshotError, StagingError
from mlpipe_engine.hashing.files import copy_while_hashing
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.model import wire
from mlpipe_engine.model.trees import Entry, Tree, split_root
from mlpipe_engine.snapshots import roots as code_roots
from mlpipe_engine.snapshots.ignore import ProjectIgnore
from mlpipe_engine.snapshots.roots import ScannedRoot

_DAY_NS = 86_400_000_000_000
LARGE_BYTES, LARGE_COUNT = 100_000_000, 5_000


@dataclass(frozen=True, slots=True)
class _Staged:
    atime_ns: int
    ctime_ns: int
    ino: int


class SourceSnapshots:
    """`can_trace`: whether reads show in the times of files on this file system (see `canary`)."""

    def __init__(self, store_dir: str, project_root: str, cache: StatCache, *, can_trace: bool = True) -> None:
        self._store = store_dir
        self._root = project_root
        self._cache = cache
        self._can_trace = can_trace
        self._saved: set[str] = set()
        self._places: dict[str, str] = {}
        self._staged: dict[str, dict[str, _Staged]] = {}
        self._originals: dict[str, set[str]] = {}
        """Label of a code root -> the folders under which interpreters know it."""
        self.warnings: list[str] = []

    def trace_if(self, possible: bool) -> None:
        """Whether the canary saw every kind of read here."""
        self._can_trace = possible

    def scan(self, directory: str) -> Tree:
        """Raises SnapshotError."""
        if not os.path.isdir(directory):
            raise SnapshotError(
                f"the source directory {directory} does not exist",
                hint="Correct source_directory; it is relative to the project folder.",
            )
        if self._root.startswith(directory.rstrip("/") + "/") or directory.startswith(("/proc", "/sys", "/dev")):
            raise SnapshotError(
                f"the source directory {directory} holds far more than the code of a step",
                expected="a folder inside the project, or beside it",
                hint="Put the step's scripts into a folder of their own and name that.",
            )
        rules = ProjectIgnore(self._root, directory)
        for path in rules.consulted:
            self._cache.look(path)
        tree = scan_tree(directory, ignore=rules, cache=self._cache)
        for path in rules.consulted:
            self._cache.look(path)
        for warning in (*rules.warnings, *_large(tree, directory)):
            if warning not in self.warnings:
                self.warnings.append(warning)
        for entry in tree.entries:
            if entry.kind in "fx":
                self._places.setdefault(entry.digest, f"{directory}/{entry.path}")
        return tree

    def saw(self, entry: Entry, path: str) -> None:
        """A file of a scanned tree that was looked at again, alone."""
        self._places[entry.digest] = path

    def with_roots(self, code: Tree | None, roots: tuple[ScannedRoot, ...]) -> Tree | None:
        """The source tree of a step together with the code roots of its interpreter."""
        for scanned in roots:
            real = os.path.normpath(os.path.join(self._root, scanned.label))
            written = scanned.root.path if os.path.isdir(scanned.root.path) else os.path.dirname(scanned.root.path)
            self._originals.setdefault(scanned.label, set()).update({real, written})
            for entry in scanned.tree.entries:
                if entry.kind in "fx":
                    self._places.setdefault(entry.digest, f"{real}/{entry.path}")
        return code_roots.combined(code, roots)

    def load(self, digest: str) -> Tree | None:
        """A tree saved earlier, or None when it is not kept (any more)."""
        try:
            with open(self._tree_path(digest), encoding="ascii") as file:
                return wire.load(Tree, file.read())
        except (OSError, ValueError):
            return None

    def read_blob(self, digest: str) -> bytes | None:
        try:
            with open(self.blob_path(digest), "rb") as file:
                return file.read()
        except OSError:
            return None

    def read_scanned(self, digest: str) -> bytes | None:
        """The bytes of a file that `scan` saw, read from where it lies now."""
        place = self._places.get(digest)
        if place is None:
            return None
        try:
            with open(place, "rb") as file:
                return file.read(2 << 20)
        except OSError:
            return None

    def save(self, tree: Tree, directory: str) -> None:
        """Keep the bytes of `tree`. Raises SnapshotError when a file is no longer what `scan` saw."""
        if tree.digest in self._saved or os.path.exists(self._tree_path(tree.digest)):
            self._saved.add(tree.digest)
            return
        try:
            os.makedirs(f"{self._store}/trees", exist_ok=True)
            for entry in tree.entries:
                if entry.kind in "fx" and not os.path.exists(self.blob_path(entry.digest)):
                    self._save_blob(self._origin(entry.path, directory), entry.digest)
            temporary = f"{self._store}/trees/{uuid4().hex}.tmp"
            with open(temporary, "w", encoding="ascii") as file:
                file.write(wire.dump(tree))
            os.replace(temporary, self._tree_path(tree.digest))
        except OSError as error:
            raise FilesystemError.of(error, "save a snapshot of", directory) from error
        self._saved.add(tree.digest)

    def _origin(self, path: str, directory: str) -> str:
        """Where a file of a tree lies now."""
        label, relative = split_root(path)
        return os.path.realpath(os.path.join(self._root, label, relative)) if label else f"{directory}/{relative}"

    def _save_blob(self, source: str, digest: str) -> None:
        place = self.blob_path(digest)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        temporary = f"{place}.{uuid4().hex}"
        found, _ = copy_while_hashing(source, temporary, 0o444)
        if found != digest:
            os.unlink(temporary)
            raise SnapshotError(
                f"changed while being read: {source}", hint="Let the program that writes it finish, then run again."
            )
        os.replace(temporary, place)

    def lay_out(self, tree: Tree, destination: str) -> None:
        """A private, writable copy of a saved tree. Raises StagingError when the stored bytes are gone, FilesystemError."""
        roots = code_roots.places(tree, destination)
        try:
            os.mkdir(destination)
            for folder in roots.values():
                os.makedirs(folder)
            staged: dict[str, _Staged] = {}
            for entry in tree.entries:
                place = _place(entry.path, destination, roots)
                if entry.kind == "d":
                    os.mkdir(place)
                elif entry.kind == "l":
                    os.symlink(entry.digest, place)
                else:
                    staged[entry.path] = self._lay_out_file(entry.digest, place, 0o755 if entry.kind == "x" else 0o644)
            if roots:
                code_roots.write_hook(destination, {path: roots[label] for label in roots for path in self._known_as(label)})
        except FileNotFoundError as error:
            raise StagingError(
                f"a file of the snapshot is missing in the store: {error.filename}", hint="Run `mlpipe-tui doctor`."
            ) from error
        except OSError as error:
            raise FilesystemError.of(error, "copy the source to", destination) from error
        self._staged[destination] = staged

    def _known_as(self, label: str) -> set[str]:
        return self._originals.get(label, {os.path.normpath(os.path.join(self._root, label))})

    def _lay_out_file(self, digest: str, place: str, mode: int) -> _Staged:
        reading = os.open(self.blob_path(digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            writing = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                while data := os.read(reading, 1 << 20):
                    os.write(writing, data)
                now = os.fstat(writing).st_mtime_ns
                os.utime(writing, ns=(now - _DAY_NS, now))
                info = os.fstat(writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return _Staged(info.st_atime_ns, info.st_ctime_ns, info.st_ino)

    def no_reads_seen(self, destination: str) -> None:
        """What runs there reads another copy: `reads` cannot tell."""
        self._staged.pop(destination, None)

    def reads(self, tree: Tree, destination: str) -> tuple[tuple[str, str], ...] | None:
        """A file whose access or change time moved, or that is gone or replaced, was used. A .pyc counts as itself."""
        staged = self._staged.pop(destination, None)
        if not self._can_trace or staged is None:
            return None
        used = []
        roots = code_roots.places(tree, destination)
        for entry in tree.entries:
            before = staged.get(entry.path)
            if before is None:
                continue
            try:
                now = os.lstat(_place(entry.path, destination, roots))
            except OSError:
                used.append((entry.path, entry.digest))
                continue
            if (now.st_atime_ns, now.st_ctime_ns, now.st_ino) != (before.atime_ns, before.ctime_ns, before.ino):
                used.append((entry.path, entry.digest))
        return tuple(used)

    def blob_path(self, digest: str) -> str:
        """Where the bytes of a saved file lie."""
        hexes = digest.partition(":")[2]
        return f"{self._store}/blobs/{hexes[:2]}/{hexes}"

    def _tree_path(self, digest: str) -> str:
        return f"{self._store}/trees/{digest.partition(':')[2]}"


def _place(path: str, destination: str, roots: dict[str, str]) -> str:
    if not path.startswith("/"):
        return f"{destination}/{path}"
    label, relative = split_root(path)
    return f"{roots[label]}/{relative}"


def _large(tree: Tree, directory: str) -> list[str]:
    """Every step gets a copy of its source directory, so a large one is worth a word."""
    if tree.size_bytes <= LARGE_BYTES and tree.file_count <= LARGE_COUNT:
        return []
    biggest = sorted(tree.entries, key=lambda entry: -entry.size_bytes)[:3]
    names = ", ".join(f"{entry.path} ({entry.size_bytes / 1e6:.0f} MB)" for entry in biggest)
    return [
        f"the source directory {directory} has {tree.file_count:,} files, {tree.size_bytes / 1e6:.0f} MB, and is copied for every step;"
        f" the biggest are {names}: name what is no code in .amlignore"
    ]
