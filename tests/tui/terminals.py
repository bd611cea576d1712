"""The app on a real terminal (tmux): keys go in, the text of the screen comes out."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 40.0


class Terminal:
    """One window with a shell in it, so that what is left of the terminal after the app can be seen."""

    def __init__(self, socket: Path, folder: Path, columns: int, rows: int) -> None:
        self._socket, self.folder = str(socket), folder
        self.environment = {
            "PYTHONPATH": f"{REPOSITORY / 'engine'}{os.pathsep}{REPOSITORY}", "LC_ALL": "C.UTF-8", "COLORTERM": "truecolor", "PS1": "$ ",
            "XDG_STATE_HOME": str(folder.parent / "state"), "EDITOR": "", "VISUAL": "", "HOME": str(folder.parent),
        }  # fmt: skip
        words = [f"{name}={value}" for name, value in self.environment.items()]
        self._tmux(
            "-f", os.devnull, "new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(folder), "env", "-u", "NO_COLOR", *words,
            "sh", "-i",
        )  # fmt: skip
        self.wait("$")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-u", "-S", self._socket, *words], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    def app(self, *words: str) -> None:
        self.type(f"{shlex.quote(sys.executable)} -m mlpipe_tui {shlex.join(words)}; echo left with $?.\n")

    def type(self, text: str) -> None:
        for part in text.splitlines(keepends=True):
            self._tmux("send-keys", "-l", part.rstrip("\n"))
            if part.endswith("\n"):
                self._tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.3 if key == "Escape" else 0.05)  # Esc and a letter at once is Alt and the letter

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait(self, *texts: str, gone: str = "") -> str:
        """Until all texts stand on the screen (and `gone` does not). Fails with the screen."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            shown = self.screen
            if all(text in shown for text in texts) and not (gone and gone in shown):
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{texts} (without {gone!r}) did not appear on\n{self.screen}")

    def pid(self) -> int:
        """Of the app: the child of the shell of the pane."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        found = subprocess.run(["pgrep", "-P", shell], capture_output=True, text=True, check=False).stdout.split()
        return int(found[-1])

    def flags(self) -> dict[str, str]:
        """What an app may leave switched on: the other screen, the mouse, a hidden cursor."""
        names = ("alternate_on", "mouse_any_flag", "cursor_flag", "keypad_flag", "mouse_sgr_flag")
        values = self._tmux("display-message", "-p", " ".join(f"#{{{name}}}" for name in names)).split()
        return dict(zip(names, values))

    def close(self) -> None:
        self._tmux("kill-server")


@contextmanager
def terminal(folder: Path, columns: int = 100, rows: int = 30) -> Iterator[Terminal]:
    found = Terminal(folder.parent / "tmux", folder, columns, rows)
    try:
        yield found
    finally:
        found.close()
