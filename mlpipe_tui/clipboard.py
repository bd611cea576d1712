"""Copying that works and says where the text went.

A terminal drops what it will not take without a word, so every copy also goes into a file of the project. Beside it the first
of these that can be had: the desktop's own tool when the app runs on the desktop, the terminal's escape (OSC 52) over SSH,
in a container or in the browser, where a tool would reach the wrong machine.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

FILE_NAME = "clip.txt"
_OSC52_LIMIT = 74_994
"""Bytes of text whose base64 still passes through terminals that cut at 100,000."""
_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Where a text went. `to`: a tool's name, "terminal", or "" when only the file has it."""

    to: str
    file: str
    characters: int
    problem: str = ""

    def __str__(self) -> str:
        """One line for a toast."""
        amount = f"{self.characters:,} character{'' if self.characters == 1 else 's'}"
        places = [name for name in (self._place(), self.file) if name]
        if not places:
            return f"not copied: {self.problem}"
        text = f"copied {amount} to {' and '.join(places)}"
        return f"{text} ({self.problem})" if self.problem else text

    def _place(self) -> str:
        if self.to == "terminal":
            return "the terminal's clipboard, if it takes it (OSC 52)"
        return f"the clipboard ({self.to})" if self.to else ""


def copy(text: str, state_dir: str | None, send: Callable[[str], None], environment: Mapping[str, str] | None = None) -> Copied:
    """Copy `text`; never raises for what a machine lacks. `send` writes a terminal sequence; `state_dir` may not exist or be writable."""
    found = os.environ if environment is None else environment
    written, problem = _write(text, state_dir)
    tool = None if is_far(found) else _tool(found)
    if tool is not None and _give(tool, text, found):
        return Copied(to=tool[0], file=written, characters=len(text), problem=problem)
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) > _OSC52_LIMIT:
        return Copied(
            to="",
            file=written,
            characters=len(text),
            problem=problem or f"more than {_OSC52_LIMIT:,} bytes: too long for a terminal",
        )
    send(f"\x1b]52;c;{base64.b64encode(raw).decode('ascii')}\x07")
    return Copied(to="terminal", file=written, characters=len(text), problem=problem)


def is_far(environment: Mapping[str, str]) -> bool:
    """The clipboard of this machine is not the one of the person at the keys."""
    return any(environment.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT", "TEXTUAL_DRIVER"))


def _tool(environment: Mapping[str, str]) -> list[str] | None:
    if sys.platform == "darwin":
        candidates = [["pbcopy"]]
    else:
        candidates = []
        if environment.get("WAYLAND_DISPLAY"):
            candidates += [["wl-copy"]]
        if environment.get("DISPLAY"):
            candidates += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
        if environment.get("WSL_DISTRO_NAME"):
            candidates += [["clip.exe"]]
    path = environment.get("PATH")
    return next((words for words in candidates if shutil.which(words[0], path=path)), None)


def _give(words: list[str], text: str, environment: Mapping[str, str]) -> bool:
    raw = text.encode("utf-16-le" if words[0] == "clip.exe" else "utf-8", "surrogateescape")
    program = shutil.which(words[0], path=environment.get("PATH")) or words[0]
    try:
        done = subprocess.run(
            [program, *words[1:]], input=raw, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_SECONDS, check=False,
            env=dict(environment), start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _write(text: str, state_dir: str | None) -> tuple[str, str]:
    """(path as shown, what went wrong). Readable by this user only: what is copied may be a secret."""
    if state_dir is None:
        return "", "no project here to keep a copy in"
    path = os.path.join(state_dir, FILE_NAME)
    try:
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.replace(f"{path}.new", path)
    except OSError as error:
        return "", f"{os.path.basename(state_dir)}/{FILE_NAME}: {error.strerror}"
    return f"{os.path.basename(state_dir)}/{FILE_NAME}", ""
