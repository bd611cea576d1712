"""SFTP by paramiko. The host must be known (known_hosts, or `host_key`), or nothing is sent to it.

SFTP knows no entity tags: an object is told by time and size, and one younger than a few seconds is read again next time.
"""

from __future__ import annotations

import os
import stat as st
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlpipe_engine.data.credentials import redact
from mlpipe_engine.data.objects import PART, RemoteObject, by_time, library
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, FilesystemError, ObjectChangedError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec

_BLOCK_BYTES = 32 * 1024
_TIMEOUT_SECONDS = 20.0


class SftpStore:
    def __init__(self, spec: DatastoreSpec, root: str, credentials: Credentials) -> None:
        self._spec = spec
        self._root = root
        self._credentials = credentials
        self._paramiko: Any = library("paramiko", spec)
        parts = urlsplit(spec.url)
        self._host, self._port = parts.hostname or "", parts.port or 22
        self._user = spec.option("user") or unquote(parts.username or "") or os.environ.get("USER", "")
        self._base = unquote(parts.path).rstrip("/") + "/"  # "/~/data" is relative to the home, as with curl
        if self._base.startswith("/~/"):
            self._base = self._base[3:]
        self._transport: Any = None
        self._lock = threading.Lock()
        self._channels = threading.local()

    def walk(self, folder: str) -> Iterator[RemoteObject]:
        folders = [folder]
        while folders:
            here = folders.pop()
            with self._session(here) as sftp:
                try:
                    entries = sorted(sftp.listdir_attr(self._base + here), key=lambda entry: str(entry.filename))
                except FileNotFoundError:
                    continue
                for entry in entries:
                    path, found = f"{here}{entry.filename}", entry
                    if st.S_ISLNK(entry.st_mode or 0):
                        try:
                            found = sftp.stat(self._base + path)
                        except OSError:
                            continue
                    if st.S_ISDIR(found.st_mode or 0) and found is entry:  # links to folders are not followed: they may go round
                        folders.append(path + "/")
                    elif st.S_ISREG(found.st_mode or 0) and not path.endswith(PART):
                        yield _object(path, found)

    def stat(self, path: str) -> RemoteObject | None:
        with self._session(path) as sftp:
            try:
                found = sftp.stat(self._base + path)
            except FileNotFoundError:
                return None
            return _object(path, found) if st.S_ISREG(found.st_mode or 0) else None

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        with self._session(item.path) as sftp:
            try:
                file = sftp.open(self._base + item.path, "rb")
            except FileNotFoundError:
                raise ObjectChangedError(f"{self._name(item.path)} is gone") from None
            with file:
                self._same(item, file.stat())
                file.seek(offset)
                file.prefetch(item.size, max_concurrent_requests=64)
                while data := file.read(_BLOCK_BYTES):
                    yield data
                self._same(item, file.stat())
            self._same(item, sftp.stat(self._base + item.path))  # another file may have taken its name

    def _same(self, item: RemoteObject, now: Any) -> None:
        if by_time(float(now.st_mtime or 0), now.st_size or 0)[0] != item.version:
            raise ObjectChangedError(f"{self._name(item.path)} changed while it was read")

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        """What an earlier attempt left is gone on with: the part is named by the digest of what it is to become."""
        target = self._base + path
        part = f"{target}.{digest[-16:]}{PART}"
        with self._session(path) as sftp:
            self._make_folders(sftp, os.path.dirname(target))
            try:
                there = sftp.stat(part).st_size or 0
            except FileNotFoundError:
                there = 0
            size = os.path.getsize(source)
            with open(source, "rb") as reading, sftp.open(part, "ab" if 0 < there < size else "wb") as writing:
                writing.set_pipelined(True)
                if 0 < there < size:
                    reading.seek(there)
                while data := reading.read(_BLOCK_BYTES):
                    writing.write(data)
            sftp.posix_rename(part, target)
            return _object(path, sftp.stat(target))

    def _make_folders(self, sftp: Any, folder: str) -> None:
        missing: list[str] = []
        while folder not in ("", "/"):
            try:
                sftp.stat(folder)
                break
            except FileNotFoundError:
                missing.append(folder)
                folder = os.path.dirname(folder)
        for name in reversed(missing):
            try:
                sftp.mkdir(name)
            except OSError:
                sftp.stat(name)  # another thread made it

    def delete(self, path: str) -> None:
        with self._session(path) as sftp:
            try:
                sftp.remove(self._base + path)
            except FileNotFoundError:
                return

    def _name(self, path: str) -> str:
        return f"datastore://{self._spec.name}/{path}"

    @contextmanager
    def _session(self, path: str) -> Iterator[Any]:
        """A channel of this thread, and one translation of everything paramiko raises."""
        try:
            with self._lock:
                if self._transport is None or not self._transport.is_active():
                    self._transport = self._connect()
                transport = self._transport
            if getattr(self._channels, "transport", None) is not transport:
                self._channels.transport = transport
                self._channels.sftp = transport.open_sftp_client()
                self._channels.sftp.get_channel().settimeout(_TIMEOUT_SECONDS)
            yield self._channels.sftp
        except (DatastoreError, FilesystemError):
            raise
        except PermissionError as error:
            raise DatastoreError(f"{self._name(path)}: the server refused access", where=self._spec.where) from error
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{self._name(path)} is gone") from error
        except (self._paramiko.SSHException, OSError, EOFError) as error:
            self._channels.transport = None
            text = redact(str(error)) or type(error).__name__
            raise DatastoreUnreachableError(f"{self._name(path)} cannot be reached: {text[:300]}") from error

    def _connect(self) -> Any:
        import socket

        paramiko = self._paramiko
        try:
            connection = socket.create_connection((self._host, self._port), timeout=_TIMEOUT_SECONDS)
        except OSError as error:
            raise DatastoreUnreachableError(
                f"datastore {self._spec.name!r}: {self._host}:{self._port} cannot be reached: {error.strerror or error}"
            ) from error
        transport = paramiko.Transport(connection)
        transport.banner_timeout = transport.auth_timeout = _TIMEOUT_SECONDS
        try:
            self._start(transport)
        except BaseException:
            transport.close()
            raise
        transport.set_keepalive(15)
        return transport

    def _start(self, transport: Any) -> None:
        known = self._known_keys()
        if known:
            kinds = [key.get_name() for key in known]
            preferred = [name for name in transport.get_security_options().key_types if _family(name) in map(_family, kinds)]
            transport.get_security_options().key_types = preferred or transport.get_security_options().key_types
        transport.start_client(timeout=_TIMEOUT_SECONDS)
        self._check_host(transport.get_remote_server_key(), known)
        self._log_in(transport)

    def _known_keys(self) -> list[Any]:
        files = [self._spec.option("known_hosts") or "~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"]
        names = (self._host if self._port == 22 else f"[{self._host}]:{self._port}",)
        found: list[Any] = []
        for file in files:
            hosts = self._paramiko.HostKeys()
            try:
                hosts.load(os.path.join(self._root, os.path.expanduser(file)))
            except OSError:
                continue
            for name in names:
                found += list((hosts.lookup(name) or {}).values())
        return found

    def _check_host(self, key: Any, known: list[Any]) -> None:
        wanted, given = self._spec.option("host_key"), key.fingerprint
        place = f"datastore {self._spec.name!r}: {self._host}:{self._port}"
        if wanted is not None:
            if given.rstrip("=") != wanted.rstrip("="):
                raise DatastoreError(
                    f"{place} shows the host key {given}", where=self._spec.where, field=f"datastore.{self._spec.name}.host_key",
                    expected=wanted, hint="Somebody may be in between; ask who runs the server before you change host_key.",
                )  # fmt: skip
            return
        if any(key == one for one in known):
            return
        if known:
            raise DatastoreError(
                f"{place} shows the host key {given}, which is not the one in known_hosts", where=self._spec.where,
                hint="Somebody may be in between; ask who runs the server before you change known_hosts.",
            )  # fmt: skip
        raise DatastoreError(
            f"{place} is not a known host; it shows the key {given}", where=self._spec.where,
            hint=f'If that is right, write host_key = "{given}" into [datastore.{self._spec.name}], or add it to known_hosts.',
        )  # fmt: skip

    def _log_in(self, transport: Any) -> None:
        tried: list[str] = []
        for how, attempt in self._ways(transport):
            try:
                attempt()
                if transport.is_authenticated():
                    return
            except self._paramiko.AuthenticationException:
                tried.append(how)
        how = f"tried {', '.join(tried)}" if tried else "no key or password given"
        raise DatastoreError(
            f"datastore {self._spec.name!r}: {self._user}@{self._host} was not let in ({how})", where=self._spec.where,
            hint='Write key_file = "PATH", or password = "env:NAME".',
        )  # fmt: skip

    def _ways(self, transport: Any) -> Iterator[tuple[str, Any]]:
        from io import StringIO

        secret, passphrase = self._credentials.get("private_key"), self._credentials.get("passphrase")
        file, password = self._spec.option("key_file"), self._credentials.get("password")
        try:
            if secret:
                key = self._paramiko.PKey.from_private_key(StringIO(secret), passphrase)
                yield "private_key", lambda: transport.auth_publickey(self._user, key)
            if file:
                path = os.path.join(self._root, os.path.expanduser(file))
                held = self._paramiko.PKey.from_path(path, passphrase.encode() if passphrase else None)
                yield f"key_file {file}", lambda: transport.auth_publickey(self._user, held)
        except (OSError, ValueError, TypeError, self._paramiko.SSHException) as error:
            raise DatastoreError(
                f"datastore {self._spec.name!r}: the key cannot be read: {redact(str(error))}", where=self._spec.where,
                hint="Name a private key that ssh itself can use; passphrase = \"env:NAME\" opens it.",
            ) from error  # fmt: skip
        if password:
            yield "password", lambda: transport.auth_password(self._user, password)
        if not (secret or file or password):
            for held in self._paramiko.Agent().get_keys():
                yield "a key of the agent", lambda held=held: transport.auth_publickey(self._user, held)


def _family(name: str) -> str:
    return "rsa" if "rsa" in name else name


def _object(path: str, found: Any) -> RemoteObject:
    size, seconds = found.st_size or 0, float(found.st_mtime or 0)
    version, settled = by_time(seconds, size)
    return RemoteObject(path, size, version, seconds, settled)
