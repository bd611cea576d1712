"""Verbs for datastores: which there are, what is in one, files in and out, registering."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlpipe_engine.engine.upkeep import Keeping
from mlpipe_engine.errors import ConfigError, InputError, InputMissingError
from mlpipe_engine.model.datastores import BUILT_IN, DatastoreSpec

if TYPE_CHECKING:
    from mlpipe_engine.data.objects import RemoteObject
    from mlpipe_engine.data.places import Places
    from mlpipe_engine.data.transfer import OnConflict, Seen, Transferred
    from mlpipe_engine.store.deliveries import Delivery


class Storing(Keeping):
    """Names of datastores are those of `datastores()`; paths in them are relative."""

    def places(self) -> Places:
        """The way from addresses to files, for a question of its own (a run has one that all its steps share)."""
        from mlpipe_engine.data.places import Places

        stats = self._stats()
        return Places(self.root, stats, self.data_sources(stats))

    def datastores(self) -> tuple[DatastoreSpec, ...]:
        """Built in, declared in mlpipe.toml, registered."""
        return self.data_sources().specs()

    def datastore(self, name: str | None = None) -> DatastoreSpec:
        """By name; None is the default one. Raises DatasetNotFoundError."""
        return self.data_sources().spec(self.default_datastore() if name is None else name)

    def default_datastore(self) -> str:
        from mlpipe_engine.config.registered import read

        return self.config.default_datastore or read(self.root).default or BUILT_IN[0]

    def set_default_datastore(self, name: str) -> None:
        """Raises DatasetNotFoundError, and ConfigError where mlpipe.toml says another."""
        from mlpipe_engine.config import registered

        self.datastore(name)
        declared = self.config.default_datastore
        if declared is not None and declared != name:
            raise ConfigError(
                f"mlpipe.toml makes {declared!r} the default datastore", where=self.config.line("default", "datastore"),
                field="default.datastore", hint="Change it there.",
            )  # fmt: skip
        registered.change(self.root, default=name)

    def register_datastore(self, spec: DatastoreSpec) -> None:
        """Replaces a registered one of that name. Raises ConfigError for a name that mlpipe.toml or the product has taken."""
        from mlpipe_engine.config import registered

        for known in (*map(str, BUILT_IN), *(declared.name for declared in self.config.datastores)):
            if known.lower() == spec.name.lower():
                place = "is built in" if known in BUILT_IN else "stands in mlpipe.toml"
                raise ConfigError(f"the datastore {known!r} {place}", field="datastore_name", hint="Choose another name.")
        registered.change(self.root, add=spec)

    def unregister_datastore(self, name: str) -> None:
        """Its data stays where it is. Raises DatasetNotFoundError, ConfigError."""
        from mlpipe_engine.config import registered

        spec = self.datastore(name)
        if spec.origin != "registered":
            place = "is built in" if spec.origin == "built in" else "stands in mlpipe.toml"
            raise ConfigError(
                f"the datastore {name!r} {place}", where=spec.where, hint="Only a registered datastore can be unregistered."
            )
        registered.change(self.root, remove=name)

    def check_datastore(self, name: str) -> None:
        """Connects and asks one small thing. Raises DatastoreError when it does not answer or refuses."""
        from mlpipe_engine.data.objects import retried

        spec = self.datastore(name)
        if spec.kind == "sql":
            import tempfile

            with tempfile.TemporaryDirectory() as folder:
                self.read_sql(name, "SELECT 1 AS one", os.path.join(folder, "one.parquet"), timeout_seconds=10)
            return
        store = self.data_sources().store(name)
        if spec.kind == "http":
            retried(lambda: store.stat(""))
        else:
            retried(lambda: next(iter(store.walk("")), None))

    def make_container(self, name: str) -> None:
        """The container of a Blob datastore, where it does not exist yet. Raises DatastoreError."""
        from mlpipe_engine.data.adapters.blob import BlobStore

        store = self.data_sources().store(name)
        if isinstance(store, BlobStore):
            store.make_container()

    def list_datastore(self, name: str, path: str = "") -> list[RemoteObject]:
        """Objects at a path, below a folder or matching a glob, sorted. Raises DatastoreError, InputMissingError when nothing is there."""
        from mlpipe_engine.data.addresses import parse_address
        from mlpipe_engine.data.objects import retried
        from mlpipe_engine.data.remote import listed

        store, address = self.data_sources().store(name), parse_address(f"datastore://{name}/{path.lstrip('/')}")
        found, _ = retried(lambda: listed(store, address))
        if not found and path.strip("/"):
            raise InputMissingError(
                f"nothing in datastore {name!r} {'matches' if address.is_pattern else 'is called'} {path!r}",
                hint=f"List it: mlpipe-tui data ls {name}",
            )
        return sorted(found, key=lambda item: item.path)

    def upload(
        self, name: str, files: Sequence[tuple[str, str]], *, overwrite: bool = False, on_conflict: OnConflict = "keep",
        seen: Seen | None = None,
    ) -> list[Transferred]:  # fmt: skip
        """(local file, path in the datastore) each; verified. See `data.transfer.upload`."""
        from mlpipe_engine.data import transfer

        if self.datastore(name).is_read_only:
            raise InputError(f"datastore {name!r} is read only", hint="Upload to another datastore.")
        return transfer.upload(self.data_sources().store(name), files, overwrite=overwrite, on_conflict=on_conflict, seen=seen)

    def download(
        self, name: str, path: str, target: str, *, overwrite: bool = False, seen: Seen | None = None
    ) -> list[Transferred]:  # fmt: skip
        """Everything at a path, below a folder, or matching a glob, under its path in the datastore below `target`; verified."""
        from mlpipe_engine.data import transfer

        items = [(item, os.path.join(target, *_safe_parts(item.path))) for item in self.list_datastore(name, path)]
        return transfer.download(self.data_sources().store(name), items, overwrite=overwrite, seen=seen)

    def download_prefix(
        self, name: str, prefix: str, target: str, *, overwrite: bool, seen: Seen | None = None
    ) -> list[Transferred]:
        """Everything whose path starts with `prefix`, as the Azure SDK has it."""
        from mlpipe_engine.data import transfer
        from mlpipe_engine.data.objects import retried

        store = self.data_sources().store(name)
        found = retried(lambda: list(store.walk(prefix.rpartition("/")[0] + "/" if "/" in prefix else "")))
        items = [
            (item, os.path.join(target, *_safe_parts(item.path)))
            for item in sorted(found, key=lambda item: item.path) if item.path.startswith(prefix)
        ]  # fmt: skip
        return transfer.download(store, items, overwrite=overwrite, seen=seen)

    def read_sql(
        self, name: str, query: str, target: str, parameters: Sequence[object] = (), timeout_seconds: float = 30.0
    ) -> int:
        """The rows of one SELECT in a database, into the Parquet file `target`; returns how many. Raises InputError."""
        from mlpipe_engine.data.credentials import Credentials
        from mlpipe_engine.data.sql import read_sql

        spec = self.datastore(name)
        if spec.kind != "sql":
            raise InputError(
                f"datastore {name!r} is no database",
                hint="Use a datastore with a postgresql://, mysql://, sqlite: or duckdb: URL.",
            )
        return read_sql(spec, self.root, Credentials(spec), query, target, parameters, timeout_seconds)

    def deliveries(self, run_id: str) -> tuple[Delivery, ...]:
        """What the steps of a run delivered to datastores."""
        from mlpipe_engine.store import deliveries

        return deliveries.of_run(self._reading(), self._runs().get(run_id).number)


def _safe_parts(path: str) -> list[str]:
    """A path of a datastore as a path below a folder of this machine. Raises InputError for one that would lead out of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise InputError(
            f"the datastore has an object called {path!r}, which cannot be a file below a folder", hint="Rename it there."
        )
    return parts
