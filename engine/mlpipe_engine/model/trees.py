"""A tree: files and folders frozen as names, kinds and content digests.

Used for code snapshots, path inputs and artifacts alike, so that equal bytes have equal digests wherever they come from.
Scanning a disk lives in `hashing` and `snapshots`; this module only knows the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mlpipe_engine.model.encoding import fingerprint

Kind = Literal["f", "x", "d", "l"]
"""File, executable file, directory, symbolic link."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree."""

    path: str
    """Relative, `/` between parts; undecodable bytes as surrogates (os.fsdecode). The root itself is ""."""
    kind: Kind
    digest: str = ""
    """`b3:<hex>` of the bytes of a file; "" for a folder; the target text of a link."""
    size_bytes: int = 0


def in_root(label: str, relative: str) -> str:
    """The path of a file of a code root in the tree of a step: no path below a source directory begins with a slash."""
    return f"/{label}//{relative}"


def split_root(path: str) -> tuple[str, str]:
    """(label of the code root, path below it); the label is "" for a file of the source directory."""
    if not path.startswith("/"):
        return "", path
    label, _, relative = path[1:].partition("//")
    return label, relative


def shown_path(path: str, prefix: str) -> str:
    """As people know it: relative to the project. `prefix`: of the source directory, with its slash."""
    label, relative = split_root(path)
    if not label:
        return prefix + relative
    return relative if label == "." else f"{label}/{relative}"


@dataclass(frozen=True)
class Tree:
    """Entries sorted by the bytes of their path. An artifact that is one file is a tree with the single entry path ""."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: list[Entry]) -> Tree:
        return cls(tuple(sorted(entries, key=lambda e: e.path.encode("utf-8", "surrogateescape"))))

    @cached_property
    def digest(self) -> str:
        """Identity (`k1:<hex>`) of names, kinds, exec bits, link targets and all bytes."""
        return fingerprint("tree", [[e.path, e.kind, e.digest] for e in self.entries])

    @cached_property
    def structure(self) -> str:
        """Identity of names, kinds, exec bits and link targets without the bytes of files."""
        return fingerprint("structure", [[e.path, e.kind, e.digest if e.kind == "l" else ""] for e in self.entries])

    def with_entries(self, changed: Mapping[str, Entry]) -> Tree:
        """The same names, kinds and exec bits with other bytes. Cheaper than a new tree: nothing is sorted or compared again."""
        tree = Tree(tuple(changed.get(entry.path, entry) for entry in self.entries))
        tree.__dict__["structure"] = self.structure
        return tree

    @cached_property
    def by_path(self) -> dict[str, Entry]:
        return {entry.path: entry for entry in self.entries}

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def file_count(self) -> int:
        return sum(1 for entry in self.entries if entry.kind in "fx")
