"""The supervisor's side of warm starts: one zygote for each interpreter, list of modules and environment. Standard library only.

Loaded by supervisor.py, by its path, when the first step asks for it. Never waits for an import: a step that comes before the
zygote is ready starts cold.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

_ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")
_FORK_SECONDS = 5.0


class Zygote:
    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid, self.line = pid, line
        self.buffer = b""
        self.ready = False
        self.refused = ""

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None while there is none."""
        self.line.settimeout(seconds)
        try:
            while b"\n" not in self.buffer:
                data = self.line.recv(1 << 16)
                if not data:
                    self.refused = self.refused or "the process that preloads ended"
                    return None
                self.buffer += data
        except OSError:
            return None
        line, self.buffer = self.buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


class Zygotes:
    def __init__(self) -> None:
        self._known: dict[str, Zygote] = {}

    @property
    def pids(self) -> set[int]:
        return {zygote.pid for zygote in self._known.values()}

    def prepare(self, wish: dict[str, Any]) -> Zygote:
        """Start it where there is none yet; returns at once. `wish`: {"python", "modules", "env"}."""
        key = json.dumps(wish, sort_keys=True)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _start(wish)
        if not known.ready and not known.refused:
            message = known.answer(0.0)
            if message is not None:
                known.ready, known.refused = "ready" in message, message.get("refused", "")
        return known

    def fork(self, message: dict[str, Any]) -> tuple[int, str]:
        """(pid of the step, "") or (0, why it has to start cold; "" while the zygote is not ready)."""
        zygote = self.prepare(message["warm"])
        if zygote.refused or not zygote.ready:
            return 0, zygote.refused
        request = {name: message[name] for name in ("argv", "cwd", "env", "stdout", "stderr")}
        try:
            zygote.line.settimeout(_FORK_SECONDS)
            zygote.line.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            zygote.refused = "the process that preloads ended"
            return 0, zygote.refused
        answer = zygote.answer(_FORK_SECONDS)
        if answer is None or "pid" not in answer:
            zygote.refused = "the process that preloads does not answer"
            return 0, zygote.refused
        return int(answer["pid"]), ""


def _start(wish: dict[str, Any]) -> Zygote:
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    environment = {os.fsencode(name): os.fsencode(value) for name, value in wish["env"].items()}
    try:
        pid = os.posix_spawn(
            wish["python"], [wish["python"], _ZYGOTE, str(theirs.fileno()), *wish["modules"]], environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)], setsid=True, setsigmask=[],
            setsigdef=[s for s in range(1, 65) if s not in (9, 19, 32, 33)],
        )  # fmt: skip
    except OSError as error:
        zygote = Zygote(0, ours)
        zygote.refused = f"it cannot be started: {error.strerror}"
        return zygote
    finally:
        theirs.close()
        os.close(null)
    return Zygote(pid, ours)
