"""SMB shares (Windows, Samba, Azure Files) by smbprotocol."""

from __future__ import annotations

import errno
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

_REFUSED = {0xC000006D, 0xC000006A, 0xC0000022, 0xC0000064, 0xC0000072, 0xC0000234}
"""NtStatus: logon failure, wrong password, access denied, no such user, account disabled, account locked."""
_NO_SHARE = 0xC00000CC


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
                except OSError as error:
                    if error.errno == errno.ENOENT:
                        continue
                    raise
                for entry in entries:
                    path = f"{here}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path + "/")
                    elif not path.endswith(PART):
                        info = entry.smb_info  # what the listing said: asking each file would be a round trip each
                        yield _object(path, info.end_of_file, info.last_write_time.timestamp())

    def stat(self, path: str) -> RemoteObject | None:
        with self._session(path) as words:
            try:
                found = self._smb.stat(self._full(path), **words)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    return None
                raise
            return None if st.S_ISDIR(found.st_mode) else _object(path, found.st_size, found.st_mtime)

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        with self._session(item.path) as words:
            file = self._smb.open_file(self._full(item.path), mode="rb", buffering=0, share_access="rwd", **words)
            with file:
                file.seek(offset)
                while data := file.read(BLOCK_BYTES):
                    yield data
            now = self._smb.stat(self._full(item.path), **words)
            if _object(item.path, now.st_size, now.st_mtime).version != item.version:
                raise ObjectChangedError(f"{self._name(item.path)} changed while it was read")

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        target = self._full(path)
        part = f"{target}.{digest[-16:]}.{os.getpid()}{PART}"
        with self._session(path) as words:
            self._smb.makedirs(target.rpartition("\\")[0], exist_ok=True, **words)
            with open(source, "rb") as reading, self._smb.open_file(part, mode="wb", buffering=0, **words) as writing:
                shutil.copyfileobj(reading, writing, BLOCK_BYTES)
            self._smb.replace(part, target, **words)
            written = self._smb.stat(target, **words)
            return _object(path, written.st_size, written.st_mtime)

    def delete(self, path: str) -> None:
        with self._session(path) as words:
            try:
                self._smb.remove(self._full(path), **words)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise

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
        except errors.SMBAuthenticationError as error:
            raise self._refused(path) from error
        except (errors.SMBException, OSError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ENOENT:
                raise ObjectChangedError(f"{self._name(path)} is gone") from error
            if getattr(error, "ntstatus", 0) in _REFUSED or getattr(error, "errno", None) == errno.EACCES:
                raise self._refused(path) from error
            if getattr(error, "ntstatus", 0) == _NO_SHARE:
                raise DatastoreError(f"{self._name('')}: there is no such share", where=self._spec.where) from error
            self._pool.clear()
            raise DatastoreUnreachableError(f"{self._name(path)} cannot be reached: {redact(str(error))[:300]}") from error

    def _refused(self, path: str) -> DatastoreError:
        return DatastoreError(
            f"{self._name(path)}: access was refused for user {self._user!r}", where=self._spec.where,
            hint=self._credentials.ways("password"),
        )  # fmt: skip


def _object(path: str, size: int, seconds: float) -> RemoteObject:
    """Times in whole milliseconds: listings and questions give them with different precision."""
    version, settled = by_time(int(seconds * 1000) / 1000, size)
    return RemoteObject(path, size, version, seconds, settled)
