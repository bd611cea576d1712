"""Who gets into the app in the browser: the page the link opened, and nobody else."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from worlds import World

from mlpipe_tui.web.guard import judge

TOKEN, COOKIE = "right", "mlpipe_tui_8000"
HERE = {"Host": "127.0.0.1:8000"}


def kind(headers: dict[str, str], *, cookie: str = "", given: str = "", socket: bool = False) -> str:
    return judge(headers, {COOKIE: cookie} if cookie else {}, given, token=TOKEN, cookie=COOKIE, socket=socket).kind


@pytest.mark.parametrize(
    ("headers", "more", "found"),
    [
        (HERE, {"given": TOKEN}, "welcome"), (HERE, {"cookie": TOKEN}, "in"), (HERE, {}, "refused"), (HERE, {"given": "wrong"}, "refused"),
        (HERE, {"cookie": "wrong", "given": ""}, "refused"), (HERE, {"given": "ri\u00dft"}, "refused"),
        (HERE | {"Origin": "http://127.0.0.1:8000"}, {"cookie": TOKEN, "socket": True}, "in"),
        (HERE, {"cookie": TOKEN, "socket": True}, "refused"), (HERE | {"Origin": "http://127.0.0.1:8000"}, {"given": TOKEN, "socket": True}, "refused"),
        (HERE | {"Origin": "http://evil.example"}, {"cookie": TOKEN, "socket": True}, "refused"), (HERE | {"Origin": "null"}, {"cookie": TOKEN, "socket": True}, "refused"),
        (HERE | {"Origin": "http://127.0.0.1:9999"}, {"cookie": TOKEN}, "refused"), (HERE | {"Origin": "https://127.0.0.1:8000"}, {"cookie": TOKEN}, "refused"),
        ({"Host": "evil.example:8000"}, {"cookie": TOKEN, "given": TOKEN}, "refused"), ({"Host": "127.0.0.1.evil.example:8000"}, {"given": TOKEN}, "refused"),
        ({"Host": "127.0.0.1:80@evil.example"}, {"given": TOKEN}, "refused"), ({}, {"given": TOKEN}, "refused"), ({"Host": "localhost:9000"}, {"given": TOKEN}, "welcome"),
        ({"Host": "[::1]:8000"}, {"given": TOKEN}, "welcome"), ({"Host": "0.0.0.0:8000"}, {"given": TOKEN}, "refused"),
        (HERE | {"Sec-Fetch-Site": "cross-site"}, {"cookie": TOKEN}, "refused"), (HERE | {"Sec-Fetch-Site": "same-site"}, {"cookie": TOKEN}, "refused"),
        (HERE | {"Sec-Fetch-Site": "none"}, {"given": TOKEN}, "welcome"),
    ],
)  # fmt: skip
def test_verdicts(headers: dict[str, str], more: dict[str, Any], found: str) -> None:
    assert kind(headers, **more) == found


@pytest.fixture
def served(world: World) -> Iterator[tuple[World, str, subprocess.Popen[str]]]:
    world.write("src/a.py", "print('hello from a')\n")
    world.define("pipeline = Pipeline(ws, steps=[PythonScriptStep('a.py', name='first', source_directory='src')], name='p')")
    process = subprocess.Popen(
        world.command("web"), cwd=world.root, env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
    assert found is not None, line + (process.stderr.read() if process.stderr and process.poll() is not None else "")
    yield world, found.group(0), process
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_over_http(served: tuple[World, str, subprocess.Popen[str]]) -> None:
    _, link, _ = served
    base = link.partition("?")[0]
    port = int(base.rpartition(":")[2].strip("/"))

    async def act() -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            for path in ("", "ws", "static/js/textual.js", "page/page.js", "download/x", "?token=wrong"):
                async with session.get(base + path) as answer:
                    assert answer.status == 403 and (await answer.text()).startswith("Not allowed: "), path
            async with session.get(link, allow_redirects=False) as answer:
                assert (
                    answer.status == 303
                    and "HttpOnly" in answer.headers["Set-Cookie"]
                    and "SameSite=Strict" in answer.headers["Set-Cookie"]
                )
            async with session.get(base) as answer:
                text = await answer.text()
                assert (
                    answer.status == 200
                    and answer.headers["X-Frame-Options"] == "DENY"
                    and "default-src 'none'" in answer.headers["Content-Security-Policy"]
                )
                assert (
                    "http://" not in text.replace(f"ws://127.0.0.1:{port}", "")
                    and "https://" not in text
                    and link.partition("token=")[2] not in text
                )
            for path in ("static/js/textual.js", "static/css/xterm.css", "page/page.css", "page/page.js"):
                async with session.get(base + path) as answer:
                    assert answer.status == 200, path
            for path in ("static/", "page/", "static/../server.py", "page/..%2fguard.py", "page/%2e%2e/guard.py"):
                async with session.get(base + path) as answer:
                    assert answer.status in (403, 404), path
            for headers in (
                {"Origin": "http://evil.example"},
                {"Origin": "null"},
                {},
                {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
            ):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(base + "ws", headers=headers)
                assert caught.value.status == 403
            async with session.ws_connect(base + "ws?width=100&height=30", headers={"Origin": base.rstrip("/")}) as screen:
                seen = b""
                async with asyncio.timeout(40):
                    while b"first" not in seen:
                        message = await screen.receive()
                        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
                        seen += message.data if isinstance(message.data, bytes) else message.data.encode()

    asyncio.run(act())
    with socket.socket() as outside:  # not on other addresses of this machine
        outside.settimeout(1)
        address = next(
            (
                found[4][0]
                for found in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)
                if not str(found[4][0]).startswith("127.")
            ),
            None,
        )
        if address is not None:
            assert outside.connect_ex((str(address), port)) != 0


def test_wrong_words_and_a_port_that_is_taken(world: World) -> None:
    assert "a port is a number" in world.cli("web", "--port", "x").stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = world.cli("web", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 4 and "Address already in use" in done.stderr and "hint: leave --port out" in done.stderr


@pytest.mark.needs("browser")
def test_in_a_real_browser(served: tuple[World, str, subprocess.Popen[str]], tmp_path: Path) -> None:
    """Open, type, click, copy; a page of another origin gets nothing; nothing asks outside."""
    _, link, _ = served
    here = Path(__file__).parent
    modules = here.parents[1] / ".cache" / "browser" / "node_modules"
    done = subprocess.run(
        ["node", str(here / "browser.cjs"), link, str(tmp_path / "screen.png")], capture_output=True, text=True, timeout=180, check=False,
        env=World.environment(served[0], NODE_PATH=str(modules)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "open",
        "typed",
        "clicked",
        "copied",
        "foreign page refused",
        "0 requests outside",
        "ended",
    ]
