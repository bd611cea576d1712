"""Who may talk to the app in the browser: pages of this very server, opened with its token, on this machine.

A server on loopback is reached by every page that any browser here shows, so each request is judged by three things that such a page
cannot set: the host it was sent to (a name that was made to point here is refused), the page it comes from, and a cookie that only the
link printed in the terminal gives. Pure: headers in, a verdict out.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

HOSTS = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Literal["in", "welcome", "refused"]
    """"welcome": the token is right, and a cookie takes its place."""
    why: str = ""


def cookie_name(port: int) -> str:
    """Cookies do not tell ports apart: two projects at once need two names."""
    return f"mlpipe_tui_{port}"


def judge(
    headers: Mapping[str, str], cookies: Mapping[str, str], token_given: str, *, token: str, cookie: str, socket: bool
) -> Verdict:  # fmt: skip
    """`token_given`: of the link, "" without one; `socket`: the request asks for the connection that carries keys and screen."""
    host = headers.get("Host", "")
    if not _is_here(host):
        return Verdict("refused", "this server answers to 127.0.0.1 and localhost only")
    origin = headers.get("Origin")
    if origin is not None and origin != f"http://{host}":
        return Verdict("refused", "the request comes from another page")
    if socket and origin is None:
        return Verdict("refused", "a connection must say which page it comes from")
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return Verdict("refused", "the request comes from another page")
    if secrets.compare_digest(cookies.get(cookie, "").encode(), token.encode()):
        return Verdict("in")
    if token_given and not socket and secrets.compare_digest(token_given.encode("utf-8", "replace"), token.encode()):
        return Verdict("welcome")
    return Verdict("refused", "open the link that `mlpipe-tui web` printed: it has the token")


def _is_here(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, "80"
    return name in HOSTS and port.isdigit()
