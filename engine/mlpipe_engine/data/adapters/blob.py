"""Azure Blob storage (and Data Lake, through the Blob endpoint of its account), by Microsoft's own library.

Every request for a range carries the entity tag the download began with, so a blob that changes between two of them is noticed by
the server. The library's retries are off: `data.objects.retried` is the one place that tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlpipe_engine.data.credentials import redact
from mlpipe_engine.data.objects import RemoteObject, library
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, ObjectChangedError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec

_RANGE_BYTES = 8 << 20
_TIMEOUTS = {"connection_timeout": 10, "read_timeout": 30}


class BlobStore:
    def __init__(self, spec: DatastoreSpec, root: str, credentials: Credentials) -> None:
        self._spec = spec
        self._credentials = credentials
        self._library: Any = library("azure.storage.blob", spec)
        self._errors: Any = library("azure.core.exceptions", spec)
        parts = urlsplit(spec.url)
        self._container = unquote(parts.username or parts.hostname or "")  # abfs://container@account.dfs... and az://container
        self._prefix = f"{unquote(parts.path).strip('/')}/".lstrip("/")
        self._client: Any = None
        self._lock = threading.Lock()

    def walk(self, folder: str) -> Iterator[RemoteObject]:
        with self._translated(folder):
            for item in self._connected().list_blobs(name_starts_with=self._prefix + folder):
                path = item.name[len(self._prefix) :]
                if path.endswith("/") or (item.metadata or {}).get("hdi_isfolder") == "true":
                    continue
                yield self._object(path, item)

    def stat(self, path: str) -> RemoteObject | None:
        with self._translated(path):
            try:
                found = self._connected().get_blob_client(self._prefix + path).get_blob_properties()
            except self._errors.ResourceNotFoundError as error:
                if error.error_code == "ContainerNotFound":
                    raise
                return None
            return None if (found.metadata or {}).get("hdi_isfolder") == "true" else self._object(path, found)

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        from azure.core import MatchConditions

        client = self._connected().get_blob_client(self._prefix + item.path)
        while offset < item.size:
            length = min(_RANGE_BYTES, item.size - offset)
            with self._translated(item.path):
                answer = client.download_blob(
                    offset=offset,
                    length=length,
                    etag=item.version,
                    match_condition=MatchConditions.IfNotModified,
                    max_concurrency=1,
                )
                data = answer.readall()
            if len(data) != length:
                raise DatastoreUnreachableError(f"{self._name(item.path)}: asked for {length:,} bytes, got {len(data):,}")
            offset += length
            yield data

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        with self._translated(path), open(source, "rb") as file:
            client = self._connected().get_blob_client(self._prefix + path)
            client.upload_blob(file, overwrite=True, max_concurrency=2)
            return self._object(path, client.get_blob_properties())

    def delete(self, path: str) -> None:
        with self._translated(path):
            try:
                self._connected().get_blob_client(self._prefix + path).delete_blob()
            except self._errors.ResourceNotFoundError:
                return

    def make_container(self) -> None:
        """Idempotent."""
        with self._translated(""):
            try:
                self._connected().create_container()
            except self._errors.ResourceExistsError:
                return

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._connect().get_container_client(self._container)
            return self._client

    def _connect(self) -> Any:
        quick: dict[str, Any] = {"retry_total": 0, **_TIMEOUTS}
        service = self._library.BlobServiceClient
        connection = self._credentials.get("connection_string")
        try:
            if connection:
                return service.from_connection_string(connection, **quick)
            account = self._spec.option("account") or self._account_of_url()
            endpoint = self._spec.option("endpoint") or (f"https://{account}.blob.core.windows.net" if account else None)
            if endpoint is None:
                raise DatastoreError(
                    f"datastore {self._spec.name!r} names no account", where=self._spec.where, field=f"datastore.{self._spec.name}.account",
                    hint='Write account = "NAME", or give a connection_string.',
                )  # fmt: skip
            key, token = self._credentials.get("account_key"), self._credentials.get("sas_token")
            if key:
                return service(
                    endpoint, credential={"account_name": account or _first_part(endpoint), "account_key": key}, **quick
                )
            return service(endpoint, credential=token.lstrip("?") if token else None, **quick)
        except ValueError as error:
            raise DatastoreError(
                f"datastore {self._spec.name!r}: {redact(str(error))}", where=self._spec.where,
                hint="Correct account, endpoint or the credential.",
            ) from None  # fmt: skip

    def _account_of_url(self) -> str | None:
        parts = urlsplit(self._spec.url)
        return (parts.hostname or "").partition(".")[0] if parts.username else None

    def _name(self, path: str) -> str:
        return f"datastore://{self._spec.name}/{path}"

    @staticmethod
    def _object(path: str, found: Any) -> RemoteObject:
        return RemoteObject(path, found.size, found.etag, found.last_modified.timestamp())

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        errors = self._errors
        try:
            yield
        except errors.ResourceModifiedError as error:
            raise ObjectChangedError(f"{self._name(path)} changed while it was read") from error
        except errors.ResourceNotFoundError as error:
            if getattr(error, "error_code", "") == "ContainerNotFound":
                raise DatastoreError(
                    f"{self._name('')}: there is no container {self._container!r}", where=self._spec.where,
                    hint="Create it, or correct the URL of the datastore.",
                ) from error  # fmt: skip
            raise ObjectChangedError(f"{self._name(path)} is gone") from error
        except errors.HttpResponseError as error:
            raise self._refused(path, error) from error
        except (errors.AzureError, OSError) as error:
            raise DatastoreUnreachableError(f"{self._name(path)} cannot be reached: {redact(_first_line(error))}") from error

    def _refused(self, path: str, error: Any) -> DatastoreError:
        status, what = error.status_code, redact(_first_line(error))
        if status in (401, 403):
            return DatastoreError(
                f"{self._name(path)}: access was refused ({what})", where=self._spec.where,
                hint=self._credentials.ways("account_key", "sas_token", "connection_string"),
            )  # fmt: skip
        if status in (None, 408, 429, 500, 502, 503, 504) or status == 206:
            return DatastoreUnreachableError(f"{self._name(path)}: {what}")
        return DatastoreError(f"{self._name(path)}: {what}", where=self._spec.where)


def _first_part(endpoint: str) -> str:
    """The account in an endpoint such as http://127.0.0.1:10000/account, or https://account.blob.host."""
    parts = urlsplit(endpoint)
    return parts.path.strip("/").partition("/")[0] or (parts.hostname or "").partition(".")[0]


def _first_line(error: BaseException) -> str:
    return (str(getattr(error, "message", "")) or str(error) or type(error).__name__).split("\n")[0][:300]
