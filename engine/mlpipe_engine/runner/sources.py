"""The datastores of a project, and what their addresses lead to: built-in ones, those of mlpipe.toml, those that were registered.

Given to `data.places` and used by the verbs for datastores. Opens nothing before it is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mlpipe_engine.errors import DatasetNotFoundError, DatastoreError, nearest
from mlpipe_engine.model.datastores import BUILT_IN, DatastoreSpec

if TYPE_CHECKING:
    from mlpipe_engine.data.cache import RemoteCache
    from mlpipe_engine.data.objects import ObjectStore
    from mlpipe_engine.data.remote import Remote
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.datasets import Found


class DataSources:
    """`registered` is asked once, and only for a name that is neither built in nor in mlpipe.toml."""

    def __init__(
        self, root: str, declared: tuple[DatastoreSpec, ...], registered: Callable[[], tuple[DatastoreSpec, ...]],
        stats: StatCache, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.root = root
        self._declared = declared
        self._registered = registered
        self._stats = stats
        self._say = say
        self._remote: Remote | None = None
        self._kept: RemoteCache | None = None
        self._open: dict[str, ObjectStore] = {}

    def specs(self) -> tuple[DatastoreSpec, ...]:
        """Built in, then those of mlpipe.toml, then registered ones. A name in mlpipe.toml hides a registered one."""
        named = {*BUILT_IN, *(spec.name for spec in self._declared)}
        return (
            *map(self._built_in, BUILT_IN), *self._declared, *(spec for spec in self._registered() if spec.name not in named)
        )  # fmt: skip

    def _built_in(self, name: str) -> DatastoreSpec:
        return DatastoreSpec(name=name, url=f".mlpipe/datastores/{name}", origin="built in")

    def spec(self, name: str) -> DatastoreSpec:
        """Raises DatasetNotFoundError with the nearest name."""
        if name in BUILT_IN:
            return self._built_in(name)
        found = {spec.name: spec for spec in self._declared}.get(name) or {spec.name: spec for spec in self.specs()}.get(name)
        if found is None:
            names = [spec.name for spec in self.specs()]
            close = nearest(name, names)
            raise DatasetNotFoundError(
                f"there is no datastore {name!r}" + (f"; did you mean {close!r}?" if close else ""), expected="one of " + ", ".join(names),
                hint=f"Add a table [datastore.{name}] to mlpipe.toml, or run the script that registers it.",
            )  # fmt: skip
        return found

    def local_path(self, datastore: str) -> str | None:
        spec = self.spec(datastore)
        if spec.kind == "folder":
            from mlpipe_engine.data.adapters.folder import folder_of

            return folder_of(spec, self.root)
        if spec.scheme in ("sqlite", "duckdb"):
            from mlpipe_engine.data.sql import database_file

            return database_file(spec, self.root)
        return None

    def is_database(self, datastore: str) -> bool:
        """A server, not a database that is a file."""
        return self.spec(datastore).kind == "sql" and self.local_path(datastore) is None

    def query(self, datastore: str, sql: str, parameters: Sequence[object], timeout_seconds: float) -> Found:
        from mlpipe_engine.data.credentials import Credentials
        from mlpipe_engine.data.sql import read_sql
        from mlpipe_engine.hashing.files import hash_file
        from mlpipe_engine.model.datasets import Found

        spec = self.spec(datastore)
        if spec.kind != "sql":
            raise DatastoreError(
                f"datastore {datastore!r} is no database", where=spec.where,
                hint="Use one with a postgresql://, mysql://, sqlite: or duckdb: URL.",
            )  # fmt: skip
        cache = self._cache()
        target = cache.scratch(".parquet")
        read_sql(spec, self.root, Credentials(spec), sql, target, parameters, timeout_seconds)
        digest, size = hash_file(target), os.path.getsize(target)
        cache.adopt(target, digest)
        return Found("query.parquet", f"datastore://{datastore}", size, digest, cache.blob(digest))

    def store(self, place: str) -> ObjectStore:
        """For a datastore, or for scheme and host of a URL. Raises DatasetNotFoundError, DatastoreError."""
        if place not in self._open:
            from mlpipe_engine.data.credentials import Credentials
            from mlpipe_engine.data.objects import open_store

            spec = DatastoreSpec(name=place, url=place) if "://" in place else self.spec(place)
            self._open[place] = open_store(spec, self.root, Credentials(spec))
        return self._open[place]

    def elsewhere(self) -> Remote:
        if self._remote is None:
            from mlpipe_engine.data.remote import Remote

            self._remote = Remote(self.root, self._cache(), self._stats, self.store, self._say)
        return self._remote

    def _cache(self) -> RemoteCache:
        if self._kept is None:
            from mlpipe_engine.data.cache import RemoteCache

            self._kept = RemoteCache(os.path.join(self.root, ".mlpipe", "cache", "remote"))
        return self._kept
