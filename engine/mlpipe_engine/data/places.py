"""The only way from addresses to bytes: `find` gives files one by one, `content` what a step is lent.

Order is fixed: by path within the dataset, compared as bytes. That path is what remains below the last folder all files share; where
a dataset spans several places (this machine, datastores, hosts) each has a folder of its own.
Globs know `*`, `?`, `[...]` and `**`; as on the command line they do not match names with a leading dot, while a folder means
everything in it, hidden or not.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mlpipe_engine.data.addresses import Address, parse_address
from mlpipe_engine.data.local import PathInput, files_of, read_paths
from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import Found

if TYPE_CHECKING:
    from mlpipe_engine.hashing.stat_cache import StatCache


class Elsewhere(Protocol):
    """What lies outside of this machine, as files of it (`data.remote`)."""

    def content(self, addresses: tuple[Address, ...], *, validate: bool, need: str, where: str) -> PathInput:
        """A folder (or the one file) with everything at these addresses, verified and cached. Raises InputError."""

    def find(self, addresses: tuple[Address, ...], *, validate: bool, need: str, where: str) -> tuple[Found, ...]:
        """Its files one by one, in order."""


class Surroundings(Protocol):
    """What a project knows of datastores."""

    def local_path(self, datastore: str) -> str | None:
        """The folder of this machine that a datastore is, or the file of a database; None: elsewhere. Raises DatasetNotFoundError."""

    def is_database(self, datastore: str) -> bool:
        """A server that answers queries and has no files. Raises DatasetNotFoundError."""

    def elsewhere(self) -> Elsewhere:
        """Made when first asked for."""

    def query(self, datastore: str, sql: str, parameters: Sequence[object], timeout_seconds: float) -> Found:
        """The rows of one SELECT, as a Parquet file of the cache. Raises DatastoreError."""


class Places:
    """One per plan, run or question: what was found once is not looked for again by it."""

    def __init__(self, root: str, stats: StatCache, surroundings: Surroundings) -> None:
        self._root = root
        self._stats = stats
        self._surroundings = surroundings
        self._queried: dict[tuple[str, str, str], Found] = {}

    def find(
        self, addresses: tuple[str, ...], *, validate: bool = True, need: str = "the dataset needs", where: str = ""
    ) -> tuple[Found, ...]:
        """Every file, sorted by path. `validate`: each address must name at least one. Raises InputError (and its kinds), SnapshotError."""
        parsed = self._parsed(addresses, where)
        if all(address.is_local for address in parsed):
            given = read_paths(self._root, _paths(parsed), validate, self._stats, need, where)
            return tuple(sorted(files_of(self._root, given), key=lambda found: found.path.encode("utf-8", "surrogateescape")))
        return self._surroundings.elsewhere().find(parsed, validate=validate, need=need, where=where)

    def content(self, addresses: tuple[str, ...], *, validate: bool, need: str, where: str) -> PathInput:
        """What a step is lent. Local files are lent where they lie, others from the cache; those make stats alone say too little."""
        parsed = self._parsed(addresses, where)
        if all(address.is_local for address in parsed):
            return read_paths(self._root, _paths(parsed), validate, self._stats, need, where)
        self._stats.unwatchable = True
        return self._surroundings.elsewhere().content(parsed, validate=validate, need=need, where=where)

    def answers_queries(self, address: str) -> bool:
        """Whether it names a database that has no files to be lent, so that what a query gives now is all there is."""
        parsed = parse_address(address)
        return not (parsed.is_local or parsed.is_url) and self._surroundings.is_database(parsed.place)

    def query(
        self, address: str, sql: str, *, parameters: Sequence[object] = (), timeout_seconds: float = 30.0, where: str = ""
    ) -> Found:
        """What a query in a database (`datastore://NAME`) gives now, as a Parquet file: asked once by each plan or run.

        Its digest is that of the rows in the order they came: a query without ORDER BY may differ although its rows do not.
        """
        self._stats.unwatchable = True
        key = (address, sql, repr(tuple(parameters)))
        if key not in self._queried:
            try:
                place = parse_address(address).place
                self._queried[key] = self._surroundings.query(place, sql, parameters, timeout_seconds)
            except InputError as error:
                error.where = error.where or where
                raise
        return self._queried[key]

    def _parsed(self, addresses: tuple[str, ...], where: str) -> tuple[Address, ...]:
        try:
            return tuple(self._localized(parse_address(text)) for text in addresses)
        except InputError as error:
            error.where = error.where or where
            raise

    def _localized(self, address: Address) -> Address:
        """A datastore that is a folder of this machine is one: its files are lent where they lie."""
        if address.is_local or address.is_url:
            return address
        folder = self._surroundings.local_path(address.place)
        if folder is None:
            return address
        path = os.path.join(glob.escape(folder) if address.is_pattern else folder, address.path)
        return Address(address.text, "", path.rstrip("/") or "/")


def _paths(addresses: tuple[Address, ...]) -> tuple[str, ...]:
    return tuple(address.path for address in addresses)
