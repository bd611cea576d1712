"""Steps as local processes, started and watched by one supervisor process per runner.

A memory request is a lease here, not a limit: only containers enforce it. Implements ports.Executor; one thread.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any
from uuid import uuid4

from mlpipe_engine.errors import ExecutorUnavailableError
from mlpipe_engine.model.execution import Exit, Exited, Finished, Killed, Lost, StepTask, WarmStart

_MARK = "MLPIPE_WARM"
_SUPERVISOR = os.path.join(os.path.dirname(__file__), "supervisor.py")


class ProcessExecutor:
    """`wake_fd`: readable when `wait` should return early; it is emptied here."""

    def __init__(self, wake_fd: int | None = None) -> None:
        self._wake_fd = wake_fd
        self._socket: socket.socket | None = None
        self._pid = 0
        self._buffer = b""
        self._running: dict[str, int] = {}
        """Attempt -> pid of its leader, 0 until it is known."""
        self._lost: list[Finished] = []
        self._mark = uuid4().hex
        """In the environment of warm interpreters: the kernel shows a step forked from one with the environment that had."""
        self.warm_starts = 0
        self.is_lent = False
        """To a run that is not its last one: `close` leaves the supervisor standing."""

    def wake_by(self, fd: int) -> None:
        """From now on `wait` also returns early when this one is readable."""
        self._wake_fd = fd

    def launch(self) -> None:
        """Start the supervisor ahead of the first step: it takes an interpreter's start."""
        if self._socket is None:
            self._launch()

    def start(self, task: StepTask) -> None:
        self.launch()
        message = {
            "start": task.attempt_id, "argv": task.argv, "cwd": task.cwd, "env": dict(task.environment),
            "stdout": task.stdout_path, "stderr": task.stderr_path, "timeout": task.timeout_seconds, "grace": task.grace_seconds,
            "warm": self._wish(task.argv[0], task.warm) if task.warm is not None else None,
        }  # fmt: skip
        self._running[task.attempt_id] = 0
        self._say(message)

    def warm_up(self, python: str, warm: WarmStart) -> None:
        """Start a warm interpreter ahead of the first step that is forked from it."""
        self.launch()
        self._say({"warm": self._wish(python, warm)})

    def _wish(self, python: str, warm: WarmStart) -> dict[str, Any]:
        return {"python": python, "modules": warm.modules, "env": {**dict(warm.environment), _MARK: self._mark}}

    def wait(self, timeout_seconds: float) -> list[Finished]:
        if self._lost:
            lost, self._lost = self._lost, []
            return lost
        waiting = select.poll()
        if self._wake_fd is not None:
            waiting.register(self._wake_fd, select.POLLIN)
        if self._socket is not None:
            waiting.register(self._socket, select.POLLIN)
        ready = {fd for fd, _ in waiting.poll(timeout_seconds * 1000)}
        if self._wake_fd in ready:
            assert self._wake_fd is not None
            _drain(self._wake_fd)
        if self._socket is not None and self._socket.fileno() in ready:
            return self._receive()
        return []

    def cancel(self, attempt_id: str) -> None:
        if attempt_id in self._running and self._socket is not None:
            self._say({"cancel": attempt_id})

    def close(self) -> None:
        """The supervisor sees the end of the connection, ends every step and leaves; waits for that."""
        if self.is_lent:
            self._wake_fd = None
            return
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            try:
                os.waitpid(self._pid, 0)
            except ChildProcessError:
                pass

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", _SUPERVISOR, str(theirs.fileno())],
                {"PATH": os.defpath, "LANG": "C.UTF-8"},
                setsid=True,
                setsigmask=[],
            )
        except OSError as error:
            raise ExecutorUnavailableError(f"cannot start the supervisor of local steps: {error.strerror}") from error
        finally:
            theirs.close()
        self._socket = ours

    def _say(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._supervisor_gone()

    def _receive(self) -> list[Finished]:
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self._supervisor_gone()
            lost, self._lost = self._lost, []
            return lost
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        finished = []
        for line in lines:
            message = json.loads(line)
            if "cold" in message:
                print(f"mlpipe-tui: steps start cold: {message['cold']}", file=sys.stderr, flush=True)
            elif "started" in message:
                self.warm_starts += bool(message.get("warm"))
                self._running[message["started"]] = message["pid"]
            elif self._running.pop(message["ended"], None) is not None:
                finished.append(_finished(message))
        return finished

    def _supervisor_gone(self) -> None:
        """Somebody killed it: its steps are nobody's children now. They are found by what they carry, and ended."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass
        end_marked(set(self._running), b"MLPIPE_ATTEMPT=")
        end_marked({self._mark}, f"{_MARK}=".encode())
        for attempt_id in self._running:
            self._lost.append(Finished(attempt_id=attempt_id, exit=Lost("the supervisor of local steps was killed")))
        self._running.clear()


def end_marked(values: set[str], marker: bytes) -> int:
    """SIGKILL every process of this user whose environment has `marker` with one of `values`; until none is left, at most 2 s.

    Returns how many were ended. Linux only: elsewhere nothing is found.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + 2.0
    while values and time.monotonic() < deadline:
        found = _marked(values, marker)
        if not found:
            break
        for pid in found:
            ended.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.01)
    return len(ended)


def _marked(values: set[str], marker: bytes) -> list[int]:
    found = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read()
        except OSError:
            continue
        for item in environment.split(b"\0"):
            if item.startswith(marker) and item[len(marker) :].decode("ascii", "replace") in values:
                found.append(pid)
    return found


def _finished(message: dict[str, Any]) -> Finished:
    timed_out, canceled = bool(message.get("timed_out")), bool(message.get("canceled"))
    return Finished(
        attempt_id=message["ended"], exit=_exit(message, timed_out, canceled), cpu_seconds=message["cpu"],
        peak_memory_bytes=message["memory"], timed_out=timed_out, canceled=canceled,
    )  # fmt: skip


def _exit(message: dict[str, Any], timed_out: bool, canceled: bool) -> Exit:
    status = int(message["status"])
    because = f"timed out after {message['timeout']:g} s" if timed_out else "canceled" if canceled else ""
    if os.WIFSIGNALED(status):
        return Killed(os.WTERMSIG(status), because)
    code = os.WEXITSTATUS(status)
    if timed_out or canceled:
        return Killed(signal.SIGTERM, f"{because} (exited {code})")
    return Exited(code)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
