"""The parent of all local steps of one runner. Started as a program of its own: python -I -S supervisor.py FD.

It is a subreaper, so every descendant of a step that loses its parent becomes its child: a step has ended only when nothing
of its tree is left. When the runner goes away (end of file on FD) it ends everything and leaves. Standard library only, one thread.

Its own parent, a fork of it that only waits, is a subreaper too: when somebody kills runner and supervisor together, what they leave
becomes that one's, and it ends it. No step pays for that.

Messages are JSON lines. In: {"start": id, "argv", "cwd", "env", "stdout", "stderr", "timeout", "grace", "warm"}, {"cancel": id}, {"warm": wish}.
Out: {"started": id, "pid"}, {"cold": why}, {"ended": id, "status", "because", "timed_out", "canceled", "cpu", "memory", "text"}.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time
from typing import Any

LEFTOVER_GRACE_SECONDS = 0.5


class Attempt:
    def __init__(self, message: dict[str, Any], pid: int) -> None:
        self.id: str = message["start"]
        self.pid = pid
        self.grace = message.get("grace", 5.0)
        self.timeout = message.get("timeout")
        self.deadline = time.monotonic() + self.timeout if self.timeout else None
        self.kill_at: float | None = None
        self.status: int | None = None
        self.cpu = 0.0
        self.memory = 0
        self.timed_out = False
        self.canceled = False


class Supervisor:
    def __init__(self, fd: int, guard: int) -> None:
        self.fd = fd
        self.guard = guard
        os.set_inheritable(fd, False)  # a step that held it would hide from the runner that we are gone
        self.attempts: dict[str, Attempt] = {}
        self.by_pid: dict[int, Attempt] = {}
        self.buffer = b""
        self.out = b""
        self.strays: dict[int, str] = {}
        self.zygotes: Any = None
        self.refused: set[str] = set()
        self.subreaper = become_subreaper()
        self.signal_read, self.signal_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self.signal_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        ignore_signals()
        self.null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.children_fd = open_children()

    def loop(self) -> None:
        os.set_blocking(self.fd, False)
        while True:
            ready = self.ready()
            if self.signal_read in ready:
                drain(self.signal_read)
            if (self.fd in ready and not self.receive()) or self.guard in ready:
                return
            self.reap()
            self.watch_clock()
            self.send()

    def ready(self) -> set[int]:
        """Descriptors one can read from. poll, not select: a runner may have thousands of files open."""
        waiting = select.poll()
        waiting.register(self.fd, select.POLLIN | (select.POLLOUT if self.out else 0))
        waiting.register(self.signal_read, select.POLLIN)
        if self.guard >= 0:
            waiting.register(self.guard, select.POLLIN)
        pause = self.pause()
        found = waiting.poll(None if pause is None else pause * 1000)
        return {fd for fd, event in found if event & ~select.POLLOUT}

    def pause(self) -> float | None:
        now = time.monotonic()
        due = [t for a in self.attempts.values() for t in (a.deadline, a.kill_at) if t is not None]
        return max(0.0, min(due) - now) if due else None

    def receive(self) -> bool:
        """False at end of file: the runner is gone."""
        try:
            data = os.read(self.fd, 1 << 20)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        lines = (self.buffer + data).split(b"\n")
        self.buffer = lines.pop()
        for line in lines:
            message = json.loads(line)
            if "start" in message:
                self.start(message)
            elif "warm" in message:
                self.fork_warm(message)
            elif "cancel" in message and message["cancel"] in self.attempts:
                attempt = self.attempts[message["cancel"]]
                attempt.canceled = True
                self.end(attempt)
        return True

    def fork_warm(self, message: dict[str, Any]) -> bool:
        """False: it has to start cold, now."""
        if self.zygotes is None:
            from importlib.util import module_from_spec, spec_from_file_location

            spec = spec_from_file_location("warm", os.path.join(os.path.dirname(os.path.abspath(__file__)), "warm.py"))
            assert spec is not None and spec.loader is not None
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            self.zygotes = module.Zygotes()
        if "start" not in message:
            self.zygotes.prepare(message["warm"])
            return True
        pid, refused = self.zygotes.fork(message)
        if refused and refused not in self.refused:
            self.refused.add(refused)
            self.say({"cold": refused})
        if not pid:
            return False
        attempt = Attempt(message, pid)
        self.attempts[attempt.id] = attempt
        self.by_pid[pid] = attempt
        self.say({"started": attempt.id, "pid": pid, "warm": True})
        return True

    def start(self, message: dict[str, Any]) -> None:
        if message.get("warm") and self.fork_warm(message):
            return
        argv = [os.fsencode(word) for word in message["argv"]]
        environment = {os.fsencode(name): os.fsencode(value) for name, value in message["env"].items()}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            os.chdir(message["cwd"])
            pid = os.posix_spawn(
                argv[0],
                argv,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self.null, 0),
                    (os.POSIX_SPAWN_OPEN, 1, message["stdout"], flags, 0o644),
                    (os.POSIX_SPAWN_OPEN, 2, message["stderr"], flags, 0o644),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=ALL_SIGNALS,
            )
        except OSError as error:
            self.refuse(message, argv[0], error)
            return
        attempt = Attempt(message, pid)
        self.attempts[attempt.id] = attempt
        self.by_pid[pid] = attempt
        self.say({"started": attempt.id, "pid": pid})

    def refuse(self, message: dict[str, Any], program: bytes, error: OSError) -> None:
        """What could not be started ends as a shell would say it: 127 not found, 126 not executable."""
        texts = {
            errno.ENOENT: "not found (or the interpreter in its #! line is not)",
            errno.EACCES: "not executable",
            errno.ENOEXEC: "no program this machine can run (wrong architecture, or no #! line)",
            errno.E2BIG: "its arguments and environment are too long together",
        }
        code = 127 if error.errno == errno.ENOENT else 126
        text = "cannot start %s: %s" % (os.fsdecode(program), texts.get(error.errno or 0, os.strerror(error.errno or 0)))
        try:
            with open(message["stderr"], "a") as file:
                file.write("mlpipe-tui: %s\n" % text)
        except OSError:
            pass
        self.say({"ended": message["start"], "status": code << 8, "text": text, "cpu": 0.0, "memory": 0})

    def reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            attempt = self.by_pid.pop(pid, None)
            owner = attempt.id if attempt else self.strays.pop(pid, None)
            if attempt is None and owner in self.attempts:
                attempt = self.attempts[owner]
            if attempt is not None:
                attempt.cpu += usage.ru_utime + usage.ru_stime
                attempt.memory = max(attempt.memory, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
                if attempt.pid == pid:
                    attempt.status = status
        if any(attempt.status is not None for attempt in self.attempts.values()):
            self.settle()

    def settle(self) -> None:
        """Report attempts whose leader ended and of which nothing is left; end what is left of the others."""
        left = self.leftovers()
        for attempt in [a for a in self.attempts.values() if a.status is not None]:
            if left.get(attempt.id):
                if attempt.kill_at is None:
                    signal_all(left[attempt.id], signal.SIGTERM)
                    attempt.kill_at = time.monotonic() + LEFTOVER_GRACE_SECONDS
                    attempt.deadline = None
                continue
            del self.attempts[attempt.id]
            self.say({
                "ended": attempt.id, "status": attempt.status, "timed_out": attempt.timed_out, "canceled": attempt.canceled,
                "cpu": attempt.cpu, "memory": attempt.memory, "timeout": attempt.timeout,
            })  # fmt: skip

    def leftovers(self) -> dict[str, list[int]]:
        """Living processes by attempt that are ours although their parent is gone."""
        found: dict[str, list[int]] = {}
        for pid in self.children():
            if pid in self.by_pid or (self.zygotes is not None and pid in self.zygotes.pids):
                continue
            owner = self.strays.get(pid) or self.owner_of(pid)
            self.strays[pid] = owner
            found.setdefault(owner, []).extend([pid, *descendants_of(pid)])
        return found

    def children(self) -> list[int]:
        """Read again and again: by one descriptor, which is one system call instead of seven."""
        if self.children_fd >= 0:
            text = os.pread(self.children_fd, 1 << 16, 0)
            if len(text) < 4096:  # the kernel gives a page at a time; a longer list is read the long way
                return [int(pid) for pid in text.split()]
        return children_of(os.getpid())

    def owner_of(self, pid: int) -> str:
        try:
            with open("/proc/%d/environ" % pid, "rb") as file:
                for item in file.read().split(b"\0"):
                    if item.startswith(b"MLPIPE_ATTEMPT="):
                        return item[15:].decode("ascii", "replace")
        except OSError:
            pass
        try:
            session = os.getsid(pid)
        except OSError:
            session = 0
        for attempt in self.attempts.values():
            if attempt.pid == session:
                return attempt.id
        ended = [a.id for a in self.attempts.values() if a.status is not None]
        return ended[0] if len(ended) == 1 else ""

    def watch_clock(self) -> None:
        now = time.monotonic()
        for attempt in list(self.attempts.values()):
            if attempt.deadline is not None and now >= attempt.deadline:
                attempt.timed_out = True
                self.end(attempt)
            if attempt.kill_at is not None and now >= attempt.kill_at:
                signal_all(self.tree(attempt), signal.SIGKILL)
                attempt.kill_at = now + 0.05  # again, until nothing is left: a tree may fork while it is killed

    def end(self, attempt: Attempt) -> None:
        attempt.deadline = None
        if attempt.kill_at is None:
            attempt.kill_at = time.monotonic() + attempt.grace
            signal_all(self.tree(attempt), signal.SIGTERM)

    def tree(self, attempt: Attempt) -> list[int]:
        pids = [] if attempt.status is not None else [attempt.pid, *descendants_of(attempt.pid)]
        return [*pids, *self.leftovers().get(attempt.id, [])]

    def end_all(self) -> None:
        """The runner is gone: nothing of any step may outlive it by more than a moment."""
        os.set_blocking(self.signal_read, False)
        end_descendants()

    def say(self, message: dict[str, Any]) -> None:
        self.out += json.dumps(message).encode() + b"\n"

    def send(self) -> None:
        while self.out:
            try:
                self.out = self.out[os.write(self.fd, self.out) :]
            except BlockingIOError:
                return
            except OSError:
                self.out = b""


def end_descendants() -> None:
    """SIGTERM, a moment, then SIGKILL until none is left."""
    deadline = time.monotonic() + LEFTOVER_GRACE_SECONDS
    signal_all(descendants_of(os.getpid()), signal.SIGTERM)
    while True:
        try:
            while os.wait4(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if time.monotonic() >= deadline:
            signal_all(descendants_of(os.getpid()), signal.SIGKILL)
        time.sleep(0.01)


def ignore_signals() -> None:
    """The runner decides when steps end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def guarded(fd: int) -> int:
    """Returns in a child of this process, which goes on as the supervisor. Here one waits for its end, and ends what it left.

    Gives a descriptor that ends with the guard: whoever kills that one ends the steps as well. -1: there is none.
    """
    if not become_subreaper():
        return -1
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:  # no process to be had: a supervisor without a guard is better than none
        os.close(reading)
        os.close(writing)
        return -1
    if pid == 0:
        os.setsid()  # a signal to its group is none to us
        os.close(writing)
        return reading
    os.close(fd)
    os.close(reading)
    ignore_signals()
    ended, status = 0, 0
    while ended != pid:
        ended, status = os.waitpid(-1, 0)
    if status != 0:
        end_descendants()
    os._exit(0)


ALL_SIGNALS = [s for s in range(1, 65) if s not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)]


def become_subreaper() -> bool:
    """Linux only; elsewhere a process that leaves its session and loses its parent cannot be found again."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)


def drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def open_children() -> int:
    """The list of our children, -1 where the system has none. Prereq: one thread."""
    try:
        return os.open("/proc/self/task/%d/children" % os.getpid(), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, thread)) as file:
                found.extend(int(child) for child in file.read().split())
    except OSError:
        pass
    return found


def descendants_of(pid: int) -> list[int]:
    found: list[int] = []
    queue = [pid]
    while queue:
        for child in children_of(queue.pop()):
            found.append(child)
            queue.append(child)
    return found


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def close_others(fd: int) -> None:
    """Descriptors the runner was started with and does not know of: a step that inherited one would hold somebody's pipe open."""
    try:
        last = max(int(name) for name in os.listdir("/proc/self/fd"))
    except OSError:
        last = 1024
    os.closerange(3, fd)
    os.closerange(fd + 1, last + 1)


def main() -> None:
    os.umask(0o022)
    fd = int(sys.argv[1])
    close_others(fd)
    supervisor = Supervisor(fd, guarded(fd))
    supervisor.loop()
    supervisor.end_all()


if __name__ == "__main__":
    main()
