"""A folder of this machine as a datastore."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlpipe_engine.data.objects import BLOCK_BYTES, PART, RemoteObject
from mlpipe_engine.errors import FilesystemError, ObjectChangedError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec


def folder_of(spec: DatastoreSpec, root: str) -> str:
    """Absolute path of the folder a datastore of this kind names; relative ones are relative to the project."""
    from urllib.parse import unquote

    url = spec.url
    path = unquote(url[len("file://") :]) if url.lower().startswith("file://") else os.path.expanduser(url)
    return os.path.normpath(os.path.join(root, path))


class FolderStore:
    def __init__(self, spec: DatastoreSpec, root: str, credentials: Credentials) -> None:
        self._spec = spec
        self.root = folder_of(spec, root)

    def _full(self, path: str) -> str:
        return os.path.join(self.root, path)

    def walk(self, folder: str) -> Iterator[RemoteObject]:
        start = self._full(folder)
        if not os.path.isdir(start):
            return
        try:
            for here, folders, names in os.walk(start, onerror=_refuse):
                folders.sort()
                for name in sorted(names):
                    full = os.path.join(here, name)
                    if not name.endswith(PART) and os.path.isfile(full):
                        yield _object(os.path.relpath(full, self.root), os.stat(full))
        except OSError as error:
            raise FilesystemError.of(error, "list") from error

    def stat(self, path: str) -> RemoteObject | None:
        try:
            found = os.stat(self._full(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FilesystemError.of(error, "read", self._full(path)) from error
        return None if os.path.isdir(self._full(path)) else _object(path, found)

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        try:
            with open(self._full(item.path), "rb") as file:
                file.seek(offset)
                while data := file.read(BLOCK_BYTES):
                    yield data
                if _object(item.path, os.fstat(file.fileno())).version != item.version:
                    raise ObjectChangedError(f"{self._full(item.path)} changed while it was read")
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{self._full(item.path)} is gone") from error
        except OSError as error:
            raise FilesystemError.of(error, "read", self._full(item.path)) from error

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        target = self._full(path)
        part = f"{target}.{digest[-16:]}.{os.getpid()}{PART}"
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                shutil.copyfile(source, part)
                with open(part, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(part, target)
            finally:
                if os.path.lexists(part):
                    os.unlink(part)
            return _object(path, os.stat(target))
        except OSError as error:
            raise FilesystemError.of(error, "write", target) from error

    def delete(self, path: str) -> None:
        try:
            os.unlink(self._full(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise FilesystemError.of(error, "delete", self._full(path)) from error


def _object(path: str, found: os.stat_result) -> RemoteObject:
    version = f"{found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_size}"
    return RemoteObject(path.replace(os.sep, "/"), found.st_size, version, found.st_mtime)


def _refuse(error: OSError) -> None:
    raise error
