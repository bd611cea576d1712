"""Serves the app through textual-serve, with a page and a guard of our own. Started by name: `python -m mlpipe_tui.web`."""

from __future__ import annotations

import asyncio
import html
import os
import secrets
import shlex
import signal
import socket
import string
import sys
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from aiohttp import web
from textual_serve.server import Server

from mlpipe_tui.web.guard import HEADERS, cookie_name, judge

MOST_SESSIONS = 8
"""Apps at once: each page is a process of its own."""
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GuardedServer(Server):
    """One project on one loopback port."""

    def __init__(self, command: list[str], listening: socket.socket, title: str) -> None:
        self._listening = listening
        self.token = secrets.token_urlsafe(24)
        self._sessions = 0
        super().__init__(shlex.join(command), host="127.0.0.1", port=int(listening.getsockname()[1]), title=title)

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    async def _make_app(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guard])
        own = resources.files("mlpipe_tui.web") / "page"
        app.add_routes([
            web.get("/", self.handle_index, name="index"),
            web.get("/ws", self.handle_websocket, name="websocket"),
            web.get("/download/{key}", self.handle_download, name="download"),
            web.static("/static", self.statics_path, name="static"),
            web.static("/page", str(own), name="page"),
        ])  # fmt: skip
        app.on_response_prepare.append(_add_headers)
        return app

    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        cookie = cookie_name(self.port)
        verdict = judge(
            request.headers, request.cookies, request.query.get("token", ""), token=self.token, cookie=cookie, socket=request.path == "/ws"
        )  # fmt: skip
        if verdict.kind == "welcome":
            response = web.HTTPSeeOther("/")
            response.set_cookie(cookie, self.token, httponly=True, samesite="Strict", path="/")
            return response
        if verdict.kind == "refused":
            return web.Response(status=403, text=f"Not allowed: {verdict.why}.\n")
        if request.path == "/ws" and self._sessions >= MOST_SESSIONS:
            return web.Response(status=503, text=f"{MOST_SESSIONS} pages are open already: close one.\n")
        return await handler(request)

    async def handle_index(self, request: web.Request) -> web.Response:
        text = (resources.files("mlpipe_tui.web") / "page" / "index.html").read_text(encoding="utf-8")
        size = request.query.get("fontsize", "16")
        filled = string.Template(text).substitute(
            title=html.escape(self.title), socket=html.escape(f"ws://{request.host}/ws"), size=size if size.isdigit() and len(size) < 3 else "16"
        )  # fmt: skip
        return web.Response(text=filled, content_type="text/html")

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        self._sessions += 1
        try:
            return await super().handle_websocket(request)
        finally:
            self._sessions -= 1

    def run(self, ready: Callable[[str], None]) -> None:
        """Serve until SIGINT or SIGTERM; `ready` is told the link."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request_exit)

        async def told(app: web.Application) -> None:
            ready(self.link)

        async def make() -> web.Application:
            app = await self._make_app()
            app.on_startup.append(told)
            return app

        web.run_app(
            make(), sock=self._listening, handle_signals=False, loop=loop, print=_say_nothing, access_log=None, shutdown_timeout=2
        )


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _say_nothing(*words: Any) -> None:
    return


def session_command(root: str, options: list[str]) -> list[str]:
    """What one page runs."""
    return [sys.executable, "-m", "mlpipe_tui.web.session", "-C", root, *options]


def listen(port: int) -> socket.socket:
    """On loopback only; 0 is any free port. Raises OSError."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
        found.listen(128)  # from here on whoever comes waits: the link is told before the first one is served
    except OSError:
        found.close()
        raise
    os.set_inheritable(found.fileno(), False)
    return found
