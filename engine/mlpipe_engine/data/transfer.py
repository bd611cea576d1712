"""Files into a datastore and out of it: several at a time, verified by hash, gone on with after an interruption.

A file that is there already is never replaced unless that was asked for, and never passes for the new one: equal bytes are left alone,
others are told. What was written is read back. Called by `engine` and by `runner.delivering`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar
from uuid import uuid4

from blake3 import blake3

from mlpipe_engine.data.objects import PART, ObjectStore, RemoteObject, retried
from mlpipe_engine.errors import DatastoreError, FilesystemError, InputError, ObjectChangedError
from mlpipe_engine.hashing.files import hash_file

THREADS = 8
_WRITES = 3
T = TypeVar("T")
OnConflict = Literal["keep", "error"]
What = Literal["uploaded", "downloaded", "unchanged", "kept"]


@dataclass(frozen=True, slots=True)
class Transferred:
    """One file that is where it should be, or, where `what` is "kept", one that is not because another was in its place."""

    path: str
    """In the datastore."""
    local: str
    what: What
    size: int
    digest: str
    """Of the bytes that were given."""
    other: str = ""
    """Of the bytes that were kept instead."""
    version: str = ""

    def warning(self, place: str) -> str:
        return (
            f"kept {place}: it has other bytes ({self.other}) than {self.local} ({self.digest}); use overwrite=True to replace it"
            if self.what == "kept"
            else ""
        )


Seen = Callable[[Transferred], None]


def upload(
    store: ObjectStore,
    files: Sequence[tuple[str, str]],
    *,
    overwrite: bool,
    on_conflict: OnConflict = "keep",
    seen: Seen | None = None,
) -> list[Transferred]:
    """`files`: (local file, path in the datastore). The first trouble stops the rest; run again, it goes on where it stopped.

    With on_conflict="error" nothing is written if any file differs from what is there. Raises DatastoreError, FilesystemError.
    """
    if on_conflict == "error" and not overwrite:
        there = _in_parallel([partial(_compared, store, *file) for file in files])
        for item in there:
            if item is not None and item.what == "kept":
                raise DatastoreError(
                    f"{item.path} is there with other bytes ({item.other}) than {item.local} ({item.digest})",
                    hint="Use overwrite=True to replace it, or another target_path.",
                )
    return _in_parallel([partial(_put, store, *file, overwrite) for file in files], seen)


def download(
    store: ObjectStore, items: Sequence[tuple[RemoteObject, str]], *, overwrite: bool, seen: Seen | None = None
) -> list[Transferred]:
    """`items`: (object, local path). A local file of other bytes is kept unless `overwrite`."""
    return _in_parallel([partial(_get, store, *item, overwrite) for item in items], seen)


def _put(store: ObjectStore, local: str, path: str, overwrite: bool) -> Transferred:
    there = _compared(store, local, path)
    if there is not None and (there.what == "unchanged" or not overwrite):
        return there
    digest = there.digest if there is not None else hash_file(local)
    size = os.path.getsize(local)
    for _ in range(_WRITES):
        written = retried(lambda: store.write(path, local, digest))
        try:
            if hash_of(store, written) == digest:
                return Transferred(path, local, "uploaded", size, digest, version=written.version)
        except ObjectChangedError:
            pass
        if hash_file(local) != digest:
            raise DatastoreError(
                f"{local} changed while it was uploaded", hint="Let the program that writes it finish, then try again."
            )
    raise DatastoreError(f"{path} was written {_WRITES} times, but never came back with the bytes of {local}")


def _compared(store: ObjectStore, local: str, path: str) -> Transferred | None:
    """None: nothing is there."""
    there = retried(lambda: store.stat(path))
    if there is None:
        return None
    digest, size = hash_file(local), os.path.getsize(local)
    other = hash_of(store, there)
    what: What = "unchanged" if other == digest else "kept"
    return Transferred(path, local, what, size, digest, other, there.version)


def hash_of(store: ObjectStore, item: RemoteObject) -> str:
    """Digest of an object, read to the end. Raises ObjectChangedError, DatastoreError."""
    hasher, offset = blake3(), 0

    def go_on() -> None:
        nonlocal offset
        for data in store.read(item, offset):
            hasher.update(data)
            offset += len(data)

    retried(go_on)
    return "b3:" + hasher.hexdigest()


def _get(store: ObjectStore, item: RemoteObject, local: str, overwrite: bool) -> Transferred:
    if os.path.lexists(local):
        if os.path.isdir(local):
            raise InputError(f"{local} is a folder; the file {item.path} cannot take its place", hint="Choose another folder.")
        digest, other = hash_of(store, item), hash_file(os.path.realpath(local))
        if digest == other or not overwrite:
            what: What = "unchanged" if digest == other else "kept"
            return Transferred(item.path, local, what, item.size, digest, other, item.version)
    part = f"{local}.{uuid4().hex}{PART}"
    try:
        os.makedirs(os.path.dirname(local) or ".", exist_ok=True)
        try:
            digest = _read_into(store, item, part)
            os.replace(part, local)
        finally:
            if os.path.lexists(part):
                os.unlink(part)
    except OSError as error:
        raise FilesystemError.of(error, "write", local) from error
    return Transferred(item.path, local, "downloaded", os.path.getsize(local), digest, version=item.version)


def _read_into(store: ObjectStore, item: RemoteObject, part: str) -> str:
    hasher, offset = blake3(), 0
    with open(part, "xb") as file:

        def go_on() -> None:
            nonlocal offset
            for data in store.read(item, offset):
                file.write(data)
                hasher.update(data)
                offset += len(data)

        retried(go_on)
        if 0 <= item.size != offset:
            raise ObjectChangedError(f"{item.path} has {offset:,} bytes, not {item.size:,}", hint="Run the same command again.")
        file.flush()
        os.fsync(file.fileno())
    return "b3:" + hasher.hexdigest()


def _in_parallel(tasks: Sequence[Callable[[], T]], seen: Callable[[T], None] | None = None) -> list[T]:
    """Results in order; `seen` is told each, in this thread, as they come. After the first trouble nothing new is begun."""
    if not tasks:
        return []
    with ThreadPoolExecutor(min(THREADS, len(tasks)), thread_name_prefix="transfer") as pool:
        futures = [pool.submit(task) for task in tasks]
        waiting: set[Future[T]] = set(futures)
        try:
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    result = future.result()
                    if seen is not None:
                        seen(result)
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
    return [future.result() for future in futures]


def local_files(folder: str) -> list[str]:
    """Every file below a folder, in a fixed order; one that cannot be listed is an error. Raises FilesystemError."""
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise error

    try:
        for here, folders, names in os.walk(folder, onerror=refuse):
            folders.sort()
            found += [os.path.join(here, name) for name in sorted(names) if not name.endswith(PART)]
    except OSError as error:
        raise FilesystemError.of(error, "list") from error
    return found
