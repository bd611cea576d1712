"""The only way from addresses to bytes: `find` gives files one by one, `content` what a step is lent.

Order is fixed: by path within the dataset, compared as bytes. That path is what remains below the last folder all files share; where
a dataset spans several places (this machine, datastores, hosts) each has a folder of its own.
Globs know `*`, `?`, `[...]` and `**`; as on the command line they do not match names with a leading dot, while a folder means
everything in it, hidden or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mlpipe_engine.data.addresses import Address, parse_address
from mlpipe_engine.data.local import PathInput, files_of, read_paths
from mlpipe_engine.model.datasets import Found

if TYPE_CHECKING:
    from mlpipe_engine.hashing.stat_cache import StatCache


class Elsewhere(Protocol):
    """What lies outside of this machine, as files of it (`data.remote`)."""

    def content(self, addresses: tuple[Address, ...], *, validate: bool, need: str, where: str) -> PathInput:
        """A folder (or the one file) with everything at these addresses, verified and cached. Raises InputError."""

    def find(self, addresses: tuple[Address, ...], *, validate: bool, need: str, where: str) -> tuple[Found, ...]:
        """Its files one by one, in order."""


class Places:
    """One per plan, run or question: what was found once is not looked for again by it."""

    def __init__(self, root: str, stats: StatCache, elsewhere: Elsewhere | None = None) -> None:
        self._root = root
        self._stats = stats
        self._elsewhere = elsewhere

    def find(
        self, addresses: tuple[str, ...], *, validate: bool = True, need: str = "the dataset needs", where: str = ""
    ) -> tuple[Found, ...]:
        """Every file, sorted by path. `validate`: each address must name at least one. Raises InputError (and its kinds), SnapshotError."""
        parsed = tuple(parse_address(text) for text in addresses)
        if all(address.is_local for address in parsed):
            given = read_paths(self._root, _paths(parsed), validate, self._stats, need, where)
            return tuple(sorted(files_of(self._root, given), key=lambda found: found.path.encode("utf-8", "surrogateescape")))
        return self._remote().find(parsed, validate=validate, need=need, where=where)

    def content(self, addresses: tuple[str, ...], *, validate: bool, need: str, where: str) -> PathInput:
        """What a step is lent. Local files are lent where they lie, others from the cache; those make stats alone say too little."""
        parsed = tuple(parse_address(text) for text in addresses)
        if all(address.is_local for address in parsed):
            return read_paths(self._root, _paths(parsed), validate, self._stats, need, where)
        self._stats.unwatchable = True
        return self._remote().content(parsed, validate=validate, need=need, where=where)

    def _remote(self) -> Elsewhere:
        if self._elsewhere is None:
            raise AssertionError("addresses outside of this machine, and nobody to ask for them")
        return self._elsewhere


def _paths(addresses: tuple[Address, ...]) -> tuple[str, ...]:
    return tuple(address.path for address in addresses)
