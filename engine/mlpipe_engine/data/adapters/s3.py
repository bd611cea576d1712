"""S3, Amazon's or any that speaks like it, by boto3. Ranges are asked for on condition of the entity tag; its retries are off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlpipe_engine.data.credentials import redact
from mlpipe_engine.data.objects import BLOCK_BYTES, RemoteObject, library
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, ObjectChangedError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec

_TRANSIENT = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "RequestTimeTooSkewed"}


class S3Store:
    def __init__(self, spec: DatastoreSpec, root: str, credentials: Credentials) -> None:
        self._spec = spec
        self._credentials = credentials
        self._boto: Any = library("boto3", spec)
        self._errors: Any = library("botocore.exceptions", spec)
        parts = urlsplit(spec.url)
        self._bucket = parts.netloc
        self._prefix = f"{unquote(parts.path).strip('/')}/".lstrip("/")
        self._client: Any = None
        self._lock = threading.Lock()

    def walk(self, folder: str) -> Iterator[RemoteObject]:
        with self._translated(folder):
            pages = self._connected().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + folder):
                for item in page.get("Contents", ()):
                    path = item["Key"][len(self._prefix) :]
                    if path and not path.endswith("/"):
                        yield RemoteObject(path, item["Size"], item["ETag"], item["LastModified"].timestamp())

    def stat(self, path: str) -> RemoteObject | None:
        with self._translated(path):
            try:
                found = self._connected().head_object(Bucket=self._bucket, Key=self._prefix + path)
            except self._errors.ClientError as error:
                if _status(error) == 404:
                    return None
                raise
            return RemoteObject(path, found["ContentLength"], found["ETag"], found["LastModified"].timestamp())

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        if offset >= item.size:
            return
        with self._translated(item.path):
            answer = self._connected().get_object(
                Bucket=self._bucket, Key=self._prefix + item.path, IfMatch=item.version, Range=f"bytes={offset}-"
            )
            if answer["ETag"] != item.version or answer.get("ContentRange", "") != f"bytes {offset}-{item.size - 1}/{item.size}":
                raise ObjectChangedError(f"{self._name(item.path)} changed while it was read")
            got = 0
            with answer["Body"] as body:
                while data := body.read(BLOCK_BYTES):
                    got += len(data)
                    yield data
        if got != item.size - offset:
            raise DatastoreUnreachableError(f"{self._name(item.path)} ended after {got:,} of {item.size - offset:,} bytes")

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        with self._translated(path):
            try:
                self._connected().upload_file(source, self._bucket, self._prefix + path)
            except self._boto.exceptions.S3UploadFailedError as error:
                raise error.__cause__ or error.__context__ or error from None
        written = self.stat(path)
        if written is None:
            raise DatastoreUnreachableError(f"{self._name(path)} was written, but is not there")
        return written

    def delete(self, path: str) -> None:
        with self._translated(path):
            self._connected().delete_object(Bucket=self._bucket, Key=self._prefix + path)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        config: Any = library("botocore.config", self._spec)
        unsigned: Any = library("botocore", self._spec)
        spec, credentials = self._spec, self._credentials
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 30, "max_pool_connections": 16,
            "request_checksum_calculation": "when_required", "response_checksum_validation": "when_required",
        }  # fmt: skip
        if spec.option("anonymous") == "true":
            settings["signature_version"] = unsigned.UNSIGNED
        if spec.option("endpoint"):
            settings["s3"] = {"addressing_style": "path"}
        try:
            session = self._boto.session.Session(
                aws_access_key_id=credentials.get("access_key"), aws_secret_access_key=credentials.get("secret_key"),
                aws_session_token=credentials.get("session_token"), profile_name=spec.option("profile"),
                region_name=spec.option("region") or ("us-east-1" if spec.option("endpoint") else None),
            )  # fmt: skip
            return session.client("s3", endpoint_url=spec.option("endpoint"), config=config.Config(**settings))
        except (self._errors.BotoCoreError, ValueError) as error:
            raise DatastoreError(f"datastore {spec.name!r}: {redact(str(error))}", where=spec.where) from error

    def _name(self, path: str) -> str:
        return f"datastore://{self._spec.name}/{path}"

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        errors = self._errors
        try:
            yield
        except errors.ClientError as error:
            raise self._refused(path, error) from error
        except errors.NoCredentialsError as error:
            raise DatastoreError(
                f"{self._name(path)}: no access key was given", where=self._spec.where,
                hint=self._credentials.ways("access_key", "secret_key") + ' Or write anonymous = "true".',
            ) from error  # fmt: skip
        except (errors.BotoCoreError, OSError) as error:
            if isinstance(error, errors.HTTPClientError | errors.ConnectionError | OSError):
                raise DatastoreUnreachableError(f"{self._name(path)} cannot be reached: {redact(str(error))[:300]}") from error
            raise DatastoreError(f"{self._name(path)}: {redact(str(error))[:300]}", where=self._spec.where) from error

    def _refused(self, path: str, error: Any) -> DatastoreError:
        code, status = str(error.response.get("Error", {}).get("Code", "")), _status(error)
        said = redact(str(error.response.get("Error", {}).get("Message", "")))[:200]
        what = f"{code} {said}".strip()
        if status in (409, 412, 416) or code in ("PreconditionFailed", "NoSuchKey"):
            return ObjectChangedError(f"{self._name(path)} changed while it was read ({what})")
        if code == "NoSuchBucket":
            return DatastoreError(
                f"{self._name('')}: there is no bucket {self._bucket!r}", where=self._spec.where,
                hint="Create it, or correct the URL of the datastore.",
            )  # fmt: skip
        if status in (401, 403):
            return DatastoreError(
                f"{self._name(path)}: access was refused ({what})", where=self._spec.where,
                hint=self._credentials.ways("access_key", "secret_key"),
            )  # fmt: skip
        if status >= 500 or status in (408, 429) or code in _TRANSIENT:
            return DatastoreUnreachableError(f"{self._name(path)}: {what or status}")
        return DatastoreError(f"{self._name(path)}: {what or status}", where=self._spec.where)


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
