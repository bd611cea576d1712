"""What an address says: a path or glob of this machine, `datastore://NAME/path/or/glob`, or `http(s)://...`. Reads nothing.

Used by `places` and by the SDK; what lies at an address is asked of `local` and `remote`.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from mlpipe_engine.errors import InputError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_STORE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Address:
    """`place` is "" for this machine, else the name of a datastore, or scheme and host of a URL."""

    text: str
    """As written."""
    place: str
    path: str
    """Below the place; for a URL with its query. Never starts with a slash, except on this machine."""

    @property
    def is_local(self) -> bool:
        return self.place == ""

    @property
    def is_url(self) -> bool:
        return "://" in self.place

    @property
    def is_pattern(self) -> bool:
        return not self.is_url and glob.has_magic(self.path)

    @property
    def name(self) -> str:
        """What a file from there is called."""
        path = self.path.partition("?")[0] if self.is_url else self.path
        last = path.rstrip("/").rpartition("/")[2]
        name = unquote(last) if self.is_url else last
        return name.replace("/", "_").replace("\0", "_") if name not in ("", ".", "..") else "data"


def parse_address(text: str) -> Address:
    """Raises InputError for a scheme nobody here knows, and for a path that leaves its datastore."""
    found = _SCHEME.match(text)
    if found is None:
        return Address(text, "", text)
    scheme = found[1].lower()
    if scheme == "datastore":
        return _in_datastore(text)
    if scheme in ("http", "https"):
        return _url(text)
    if scheme == "file":
        return Address(text, "", unquote(text[len("file://") :]))
    raise InputError(
        f"found the address {shown(text)}", expected="a path, datastore://NAME/path, http:// or https://",
        hint=f"Declare a table [datastore.NAME] with url = \"{scheme}://...\" in mlpipe.toml, and use datastore://NAME/path.",
    )  # fmt: skip


def _in_datastore(text: str) -> Address:
    name, _, path = text[len("datastore://") :].partition("/")
    if not _STORE_NAME.fullmatch(name):
        raise InputError(f"found the address {text!r}", expected="datastore://NAME/path, NAME of letters, digits, '_', '.', '-'")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InputError(f"the path of {text!r} leaves the datastore", hint="Use a path without '..'.")
    return Address(text, name, "/".join(parts) + ("/" if parts and path.endswith("/") else ""))


def _url(text: str) -> Address:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"found the address {shown(text)}: {error}", expected="http(s)://host/path") from None
    if not host:
        raise InputError(f"the address {shown(text)} names no host", expected="http(s)://host/path")
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"the address {shown(text)} holds a user or a password",
            hint='Declare a datastore with url = "https://..." and user = / password = "env:NAME", and use datastore://NAME/path.',
        )
    path = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    return Address(text, f"{parts.scheme.lower()}://{parts.netloc}", path)


def shown(text: str) -> str:
    """An address as it may be printed: without user, password and the values of its query."""
    hidden = re.sub(r"(?<=://)[^/@?#\s]*@", "***@", text)
    return re.sub(r"([?&][^=&#\s]{1,64}=)[^&#\s]+", r"\1***", hidden)


def translated_glob(pattern: str) -> re.Pattern[str]:
    """The test for paths of a store: as on this machine, `*` and `?` stop at `/`, `**` does not, and neither sees a leading dot."""
    expression, parts = "", pattern.split("/")
    for at, part in enumerate(parts):
        last = at == len(parts) - 1
        if part == "**":
            expression += r"(?:[^/.][^/]*/)*" + (r"[^/.][^/]*" if last else "")
            continue
        expression += _part(part) + ("" if last else "/")
    return re.compile(expression, re.DOTALL)


def _part(part: str) -> str:
    """One name of a pattern, without a slash in it."""
    out = r"(?!\.)" if part[:1] in ("*", "?", "[") else ""
    at = 0
    while at < len(part):
        char = part[at]
        at += 1
        end = part.find("]", at + 1) if char == "[" else -1
        if char == "*":
            out += r"[^/]*"
        elif char == "?":
            out += r"[^/]"
        elif end > 0:
            inner = part[at:end].replace("\\", r"\\").replace("[", r"\[")
            out += (
                f"[{'^' + inner[1:] if inner[0] == '!' else inner.replace('^', chr(92) + '^', 1) if inner[0] == '^' else inner}]"
            )
            at = end + 1
        else:
            out += re.escape(char)
    return out


def fixed_prefix(pattern: str) -> str:
    """The folder below which all matches of a pattern lie: what has to be listed. "" or ends with a slash."""
    parts: list[str] = []
    for part in pattern.split("/")[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return "".join(f"{part}/" for part in parts)
