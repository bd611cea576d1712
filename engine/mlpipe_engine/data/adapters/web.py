"""HTTP and HTTPS, for reading: single files, no listings. The standard library speaks it.

A download is pinned by its entity tag (or its date): every further request is made on condition that it is still the same.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import mlpipe_engine
from mlpipe_engine.data.addresses import shown
from mlpipe_engine.data.credentials import redact
from mlpipe_engine.data.objects import RemoteObject
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, ObjectChangedError

if TYPE_CHECKING:
    from mlpipe_engine.data.credentials import Credentials
    from mlpipe_engine.model.datastores import DatastoreSpec

_TIMEOUT_SECONDS = 20.0
_SLOWEST_BYTES_PER_SECOND = 50
_PATIENCE_SECONDS = 30.0
"""A server that sends, but less than the slowest rate for so long, is as good as gone."""
_BLOCK_BYTES = 1 << 16
_RACY_SECONDS = 2.0
"""Times of HTTP have whole seconds: a file this young, by the server's own clock, may change once more and keep its time."""
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 507, 509}


class WebStore:
    """`stat` and `read` of what lies below a URL."""

    def __init__(self, spec: DatastoreSpec, root: str, credentials: Credentials) -> None:
        self._spec = spec
        self._base = spec.url.rstrip("/")
        self._credentials = credentials

    def walk(self, folder: str) -> Iterator[RemoteObject]:
        raise DatastoreError(
            f"{shown(self._base)}/{folder} cannot be listed: HTTP knows no folders", hint="Name each file by its own address."
        )

    def stat(self, path: str) -> RemoteObject | None:
        try:
            with self._request(path, "HEAD", {}) as answer:
                return _object(path, answer)
        except _Refused as refused:
            if refused.status in (404, 410):
                return None
            if refused.status not in (400, 403, 405, 501):
                raise refused.error from None
        try:  # some servers answer no HEAD
            with self._request(path, "GET", {"Range": "bytes=0-0"}) as answer:
                return _object(path, answer)
        except _Refused as refused:
            if refused.status in (404, 410):
                return None
            if refused.status == 416:
                return RemoteObject(path, 0, "", settled=False)
            raise refused.error from None

    def read(self, item: RemoteObject, offset: int) -> Iterator[bytes]:
        headers: dict[str, str] = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        strong = item.version if item.version.startswith('"') else ""
        if strong:
            headers["If-Match"] = strong
        try:
            answer = self._request(item.path, "GET", headers)
        except _Refused as refused:
            if refused.status in (404, 410, 412, 416):
                raise ObjectChangedError(f"{self._url(item.path)} is no longer what it was when its size was asked") from None
            raise refused.error from None
        with answer:
            skip = self._start_of(answer, item, offset)
            yield from self._bytes(answer, item, offset, skip)

    def _start_of(self, answer: http.client.HTTPResponse, item: RemoteObject, offset: int) -> int:
        """How many bytes of the answer come before `offset`. Raises ObjectChangedError."""
        now = _object(item.path, answer)
        if now.version != item.version or (item.size >= 0 and 0 <= now.size != item.size):
            raise ObjectChangedError(f"{self._url(item.path)} changed while it was read")
        if answer.status != 206:
            return offset
        sent = answer.headers.get("Content-Range", "")
        if not sent.replace(" ", "").lower().startswith(f"bytes{offset}-"):
            raise DatastoreUnreachableError(f"{self._url(item.path)}: asked for bytes from {offset}, the server sent {sent!r}")
        return 0

    def _bytes(self, answer: http.client.HTTPResponse, item: RemoteObject, offset: int, skip: int) -> Iterator[bytes]:
        began, got = time.monotonic(), 0
        expected = item.size - offset + skip if item.size >= 0 else -1
        while True:
            try:
                data = answer.read1(_BLOCK_BYTES)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._broken(item.path, error) from error
            if not data:
                break
            got += len(data)
            passed = time.monotonic() - began
            if passed > _PATIENCE_SECONDS and got < passed * _SLOWEST_BYTES_PER_SECOND:
                raise DatastoreUnreachableError(
                    f"{self._url(item.path)} sends less than {_SLOWEST_BYTES_PER_SECOND} bytes a second"
                )
            if skip:
                cut = min(skip, len(data))
                data, skip = data[cut:], skip - cut
            if data:
                yield data
        if 0 <= expected != got:
            raise DatastoreUnreachableError(f"{self._url(item.path)} ended after {got:,} of {expected:,} bytes")

    def write(self, path: str, source: str, digest: str) -> RemoteObject:
        raise DatastoreError(f"datastore {self._spec.name!r} is read only: HTTP has no upload", hint="Use another datastore.")

    def delete(self, path: str) -> None:
        raise DatastoreError(f"datastore {self._spec.name!r} is read only: HTTP has no delete")

    def _url(self, path: str) -> str:
        return shown(f"{self._base}/{path}")

    def _request(self, path: str, method: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        url = f"{self._base}/{quote(path, safe='/%?=&;+,:@!$()*~')}"
        request = urllib.request.Request(url, method=method, headers={
            "User-Agent": f"mlpipe-tui/{mlpipe_engine.__version__}", "Accept-Encoding": "identity", **headers,
        })  # fmt: skip
        authorization = self._authorization()
        if authorization is not None:
            request.add_unredirected_header("Authorization", authorization)
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            raise self._refused(path, error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(path, error) from error
        return answer

    def _authorization(self) -> str | None:
        token = self._credentials.get("token")
        if token:
            return f"Bearer {token}"
        user, password = self._spec.option("user"), self._credentials.get("password")
        return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}" if user and password else None

    def _refused(self, path: str, answer: urllib.error.HTTPError) -> Exception:
        with answer:
            what = f"{self._url(path)} answered {answer.code} {redact(str(answer.reason))[:200]}".rstrip()
        if answer.code in _TRANSIENT:
            return DatastoreUnreachableError(what)
        hint = 'Give it a token: a datastore with token = "env:NAME".' if answer.code in (401, 403) else "Correct the address."
        if 300 <= answer.code < 400:
            what, hint = f"{self._url(path)} leads round in circles, or nowhere (status {answer.code})", "Correct the address."
        return _Refused(answer.code, DatastoreError(what, hint=hint))

    def _broken(self, path: str, error: Exception) -> DatastoreError:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return DatastoreError(
                f"{self._url(path)}: its certificate does not hold: {reason.verify_message}",
                hint="Name your authority's file in $SSL_CERT_FILE, or correct the address.",
            )
        text = redact(str(getattr(reason, "strerror", None) or reason or type(reason).__name__))
        return DatastoreUnreachableError(f"{self._url(path)} cannot be reached: {text or type(reason).__name__}")


class _Refused(Exception):
    """An answer that says no, with the error to raise where nobody knows better."""

    def __init__(self, status: int, error: DatastoreError) -> None:
        super().__init__(status, error)
        self.status, self.error = status, error


def _object(path: str, answer: http.client.HTTPResponse) -> RemoteObject:
    headers = answer.headers
    size = -1
    total = headers.get("Content-Range", "").rpartition("/")[2]
    length = headers.get("Content-Length", "")
    if answer.status == 206:
        size = int(total) if total.isdigit() else -1
    elif length.isdigit() and not headers.get("Content-Encoding"):
        size = int(length)
    tag, date = headers.get("ETag", ""), headers.get("Last-Modified", "")
    modified, answered = _seconds(date), _seconds(headers.get("Date", ""))
    dated = f"{date} {size}" if modified is not None else ""
    aged = modified is not None and answered is not None and answered - modified > _RACY_SECONDS
    return RemoteObject(path, size, tag or dated, modified, settled=tag.startswith('"') or (aged and not tag))


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (TypeError, ValueError):
        return None
