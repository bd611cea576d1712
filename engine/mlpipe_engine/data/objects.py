"""What every kind of datastore can do, whatever speaks to it: walk, stat, read from an offset, write, delete.

Adapters (`adapters`) translate the errors of their library at this edge: `DatastoreUnreachableError` for what may go through
later, `ObjectChangedError`, `DatastoreError` for the rest. Retrying, caching and verifying is done once, above them.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeVar

from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec

PART = ".mlpipe-part"
"""Ending of a file that is being written; never listed."""
TICK_SECONDS = 10.0
"""An object without an entity tag that is younger than this may change once more within one tick of its server's clock."""
BLOCK_BYTES = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteObject:
    path: str
    """Relative to the datastore, `/` between parts."""
    size: int
    """-1: the other side does not tell."""
    version: str
    """Changes whenever the bytes do: an entity tag, a version id, a time with the size. "": nothing tells."""
    modified: float | None = None
    """Seconds since the epoch on the clock of the other side."""
    settled: bool = True
    """False: `version` may stay the same although the bytes change, so it proves nothing later."""


class ObjectStore(Protocol):
    """Safe to be called from several threads. Paths are relative to what the datastore's URL names."""

    def walk(self, folder: str) -> Iterator[RemoteObject]:
        """Every object below `folder` ("" or ending in a slash), in any order; none when it does not exist."""

    def stat(self, path: str) -> RemoteObject | None:
        """None: there is no such object (a folder is none)."""

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        """Its bytes from `offset` to the end. Raises ObjectChangedError when it is no longer `item`."""

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        """The bytes of the local file `source`, visible all at once or not at all; replaces. `digest` may name a half-written part."""

    def delete(self, path: str) -> None:
        """Idempotent."""


def by_time(seconds: float, size: int) -> tuple[str, bool]:
    """(version, settled) of an object of which only time and size are known."""
    return f"{seconds!r} {size}", abs(time.time() - seconds) > TICK_SECONDS and seconds < time.time()


def library(name: str, spec: DatastoreSpec) -> object:
    """A library that only some datastores need. Raises DatastoreError with the line that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise DatastoreError(
            f"datastore {spec.name!r} ({spec.scheme}://) needs the Python package {name.partition('.')[0]!r}, which is not installed",
            where=spec.where, hint=f"Install it: pip install 'mlpipe-tui[{spec.extra}]'",
        ) from error  # fmt: skip


_KINDS = {
    "folder": "folder:FolderStore", "http": "web:WebStore", "blob": "blob:BlobStore", "s3": "s3:S3Store", "sftp": "sftp:SftpStore",
    "smb": "smb:SmbStore",
}  # fmt: skip


def open_store(spec: DatastoreSpec, root: str, credentials: Credentials) -> ObjectStore:
    """The adapter for a datastore. Connects at its first use. Raises DatastoreError."""
    if spec.kind == "sql":
        raise DatastoreError(
            f"datastore {spec.name!r} is a database: it holds tables, no files", hint="Use Dataset.Tabular.from_sql_query."
        )
    module, _, name = _KINDS[spec.kind].partition(":")
    made: ObjectStore = getattr(import_module(f"mlpipe_engine.data.adapters.{module}"), name)(spec, root, credentials)
    return made


ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.25


def retried(operation: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Tries again after DatastoreUnreachableError, a few times with growing pauses; then the last error, which says how often."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return operation()
        except DatastoreUnreachableError as error:
            if attempt == ATTEMPTS:
                raise DatastoreUnreachableError(
                    f"{error.what} (tried {ATTEMPTS} times)", where=error.where, hint=error.hint or _HINT
                ) from error
            pause(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.8, 1.2))
    raise AssertionError("unreachable")


_HINT = "Check the network and the address, then run the same command again; what has arrived is kept."


def tag(*parts: object) -> str:
    """A short name for a pair of texts, for files of the cache."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()[:40]
