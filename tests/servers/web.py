"""A web server with real sockets that can be told to fail: cut short, change in between, answer 500, be slow, lie about its length."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler


@dataclass
class Page:
    body: bytes
    tag: str | None = None
    """None: by content; "": no entity tag at all."""
    modified: float = 1_700_000_000.0


@dataclass
class Web:
    """`pages` by path. `trouble` is asked before each GET and may send something else; it returns True when it did."""

    port: int = 0
    pages: dict[str, Page] = field(default_factory=dict)
    trouble: Callable[[BaseHTTPRequestHandler, Page], bool] | None = None
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, range)."""
    ranges: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, body: bytes, **more: object) -> str:
        self.pages[path] = Page(body, **more)  # type: ignore[arg-type]
        return f"{self.url}{path}"

    def count(self, method: str) -> int:
        return sum(1 for request in self.requests if request[0] == method)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


@contextlib.contextmanager
def web() -> Iterator[Web]:
    state = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            state.requests.append((self.command, self.path, self.headers.get("Range", "")))
            page = state.pages.get(self.path)
            if page is None:
                self.send_error(404)
                return
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if body and state.trouble is not None and state.trouble(self, page):
                    return
                send(self, page, body=body, ranges=state.ranges)

    server = _Server(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def tag_of(page: Page) -> str:
    from hashlib import sha256

    return f'"{sha256(page.body).hexdigest()[:16]}"' if page.tag is None else page.tag


def send(handler: BaseHTTPRequestHandler, page: Page, *, body: bool = True, ranges: bool = True, cut: int | None = None) -> None:
    """`cut`: promise everything, send so many bytes, hang up."""
    start, data = 0, page.body
    wanted = handler.headers.get("Range", "")
    tag = tag_of(page)
    if handler.headers.get("If-Match") and handler.headers["If-Match"] != tag:
        handler.send_error(412)
        return
    if ranges and wanted:
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first)
        data = page.body[start : int(last) + 1 if last else None]
        if start >= len(page.body):
            handler.send_error(416)
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{len(page.body)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    if tag:
        handler.send_header("ETag", tag)
    handler.send_header("Last-Modified", formatdate(page.modified, usegmt=True))
    handler.end_headers()
    if body and handler.command != "HEAD":
        handler.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            hang_up(handler)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    import socket

    handler.wfile.flush()
    time.sleep(0.01)
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)
