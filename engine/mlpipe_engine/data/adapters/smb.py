"""SMB shares (Windows, Samba, Azure Files) by smbprotocol."""

from __future__ import annotations

import os
import shutil
import stat as st
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlpipe_engine.data.credentials import redact
from mlpipe_engine.data.objects import BLOCK_BYTES, PART, RemoteObject, by_time, library
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, ObjectChangedError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec


class SmbStore:
    def __init__(self, spec: DatastoreSpec, root: str, credentials: Credentials) -> None:
        self._spec = spec
        self._credentials = credentials
        self._smb: Any = library("smbclient", spec)
        self._errors: Any = library("smbprotocol.exceptions", spec)
        parts = urlsplit(spec.url)
        self._host, self._port = parts.hostname or "", parts.port or 445
        share = unquote(parts.path).strip("/").replace("/", "\\")
        if not share:
            raise DatastoreError(
                f"the URL of datastore {spec.name!r} names no share", where=spec.where, expected="smb://user@host/share/folder"
            )
        self._base = f"\\\\{self._host}\\{share}"
        user = spec.option("user") or unquote(parts.username or "")
        self._user = f"{spec.option('domain')}\\{user}" if spec.option("domain") else user
        self._pool: dict[str, Any] = {}  # of this store alone: two stores may use one server with two users

    def walk(self, folder: str) -> Iterator[RemoteObject]:
        folders = [folder]
        while folders:
            here = folders.pop()
            with self._session(here) as words:
                try:
                    entries = sorted(self._smb.scandir(self._full(here), **words), key=lambda entry: str(entry.name))
                except FileNotFoundError:
                    continue
                for entry in entries:
                    path = f"{here}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path + "/")
                    elif not path.endswith(PART):
                        yield _object(path, entry.stat(follow_symlinks=False))

    def stat(self, path: str) -> RemoteObject | None:
        with self._session(path) as words:
            try:
                found = self._smb.stat(self._full(path), **words)
            except FileNotFoundError:
                return None
            except NotADirectoryError:
                return None
            return None if st.S_ISDIR(found.st_mode) else _object(path, found)

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        with self._session(item.path) as words:
            try:
                file = self._smb.open_file(self._full(item.path), mode="rb", buffering=0, share_access="rwd", **words)
            except FileNotFoundError:
                raise ObjectChangedError(f"{self._name(item.path)} is gone") from None
            with file:
                file.seek(offset)
                while data := file.read(BLOCK_BYTES):
                    yield data
            if _object(item.path, self._smb.stat(self._full(item.path), **words)).version != item.version:
                raise ObjectChangedError(f"{self._name(item.path)} changed while it was read")

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        target = self._full(path)
        part = f"{target}.{digest[-16:]}.{os.getpid()}{PART}"
        with self._session(path) as words:
            self._smb.makedirs(target.rpartition("\\")[0], exist_ok=True, **words)
            with open(source, "rb") as reading, self._smb.open_file(part, mode="wb", buffering=0, **words) as writing:
                shutil.copyfileobj(reading, writing, BLOCK_BYTES)
            self._smb.replace(part, target, **words)
            return _object(path, self._smb.stat(target, **words))

    def delete(self, path: str) -> None:
        with self._session(path) as words:
            try:
                self._smb.remove(self._full(path), **words)
            except FileNotFoundError:
                return

    def _full(self, path: str) -> str:
        inner = path.rstrip("/").replace("/", "\\")
        return f"{self._base}\\{inner}" if inner else self._base

    def _name(self, path: str) -> str:
        return f"datastore://{self._spec.name}/{path}"

    @contextmanager
    def _session(self, path: str) -> Iterator[dict[str, Any]]:
        errors = self._errors
        try:
            yield {
                "username": self._user or None, "password": self._credentials.get("password"), "port": self._port,
                "connection_cache": self._pool, "connection_timeout": 20,
            }  # fmt: skip
        except DatastoreError:
            raise
        except (errors.SMBAuthenticationError, errors.LogonFailure, errors.AccessDenied, PermissionError) as error:
            raise DatastoreError(
                f"{self._name(path)}: access was refused for user {self._user!r}", where=self._spec.where,
                hint=self._credentials.ways("password"),
            ) from error  # fmt: skip
        except errors.BadNetworkName as error:
            raise DatastoreError(f"{self._name('')}: there is no such share", where=self._spec.where) from error
        except (errors.SMBException, OSError, ValueError) as error:
            self._pool.clear()
            raise DatastoreUnreachableError(f"{self._name(path)} cannot be reached: {redact(str(error))[:300]}") from error


def _object(path: str, found: Any) -> RemoteObject:
    nanoseconds = getattr(found, "st_mtime_ns", None)
    seconds = nanoseconds / 1e9 if nanoseconds is not None else float(found.st_mtime)
    version, settled = by_time(seconds, found.st_size)
    return RemoteObject(path, found.st_size, version, seconds, settled)
