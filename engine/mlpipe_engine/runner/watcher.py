"""The loop of a watcher: hints become looks, looks become runs of its spare, runs become what it tells.

It decides nothing about steps: its spare does, and the run that follows belongs to the process that decided it. Killing the
watcher harms no run. One thread; `stop`, `answer` and `everything` may be called from others.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mlpipe_engine.config.project import FILE_NAME, ProjectConfig, load_config
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model import wire
from mlpipe_engine.model.events import Event, RunFinished, StepChanged
from mlpipe_engine.model.spec import SubmitOptions
from mlpipe_engine.model.states import FINAL, State
from mlpipe_engine.model.watch import Asked, Look, Looked, Note, SpareReady, Told, Trouble, WatchBegan
from mlpipe_engine.snapshots.ignore import is_editors_own
from mlpipe_engine.store import locks
from mlpipe_engine.watch.notify import Notices
from mlpipe_engine.watch.policy import Policy
from mlpipe_engine.watch.settle import LONG_SECONDS, Settling, What, git_is_busy

RESCAN_SECONDS = 30.0
POLL_SECONDS = 1.0
_SHARE = 600
"""A rescan is followed by a pause of at least so many times its own length: it never takes more than a sixth of a percent."""
_POLL_SHARE = 20
_LOCK_SECONDS = 0.5
_WAKE_SECONDS = 0.001
"""The end of a window is met awake: poll knows milliseconds only, and to be woken takes a processor that has gone to sleep a while."""
_SPARE_SECONDS = 0.1
"""After a run began: its first step starts before the next spare asks for the processor."""
_UNREAD_SECONDS = 60.0
_ECHO_SECONDS = 3.0
_ABSENT_SECONDS = 0.5
_MOST_AGE = 0.004
"""Of a kernel whose file times are those of its last tick, too much would be believed."""
_MOST_BACKOFF_SECONDS = 30.0


@dataclass(eq=False)
class _Process:
    """A spare, or the runner it became."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    buffer: bytes = b""
    is_ready: bool = False
    run_id: str = ""
    number: int = 0
    left: set[str] = field(default_factory=set)
    """Steps of its run that will run and are not final yet."""
    since: dict[str, float] = field(default_factory=dict)
    """When its running steps began, by the monotonic clock."""
    started_any: bool = False
    superseded: bool = False
    over: bool = False


@dataclass
class _Early:
    """A look at a batch that has not settled."""

    count: int
    number: int
    paths: frozenset[str]
    answer: dict[str, Any] | None = None


class Watcher:
    """Prereq: the project has a store. `supersede` asks a runner to stop steps; `forget` removes a run that never began; `merge`: at
    the end, what its runs left in the log of the store goes into the one file."""

    def __init__(
        self, root: str, pipeline: str | None, options: SubmitOptions, *,
        supersede: Callable[[str, tuple[str, ...]], None], forget: Callable[[str], bool], merge: Callable[[], None],
    ) -> None:  # fmt: skip
        self._root, self._pipeline, self._options = root, pipeline, options
        self._supersede, self._forget, self._merge = supersede, forget, merge
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._stopped = False
        self._answers: list[str] = []
        self._tell: Callable[[Told], None] = lambda told: None
        self._settling = Settling(lambda: git_is_busy(root))
        self._notices: Notices | None = None
        self._spare: _Process | None = None
        self._runners: list[_Process] = []
        self._pending: set[str] | None = set()
        """Paths that no spare has looked at yet; None: any."""
        self._asked_at: dict[int, tuple[float, frozenset[str] | None]] = {}
        self._numbers = 0
        self._touched: set[str] = set()
        """What a run would cover now."""
        self._line = ""
        self._held: str = ""
        """Why a run that is wanted does not start: "" (it does), "asked", or "running"."""
        self._next_rescan = 0.0
        self._rescan_cost = 0.0
        self._reconciles = True
        self._lock: int | None = None
        self._backoff = 0.0
        self._not_before = 0.0
        self._place: tuple[int, int] | None = None
        self._slept = _asleep()
        self._told_reason = ""
        self._failed = False
        self._own = _own_files()
        self._whole: frozenset[str] = frozenset()
        self._names: frozenset[str] = frozenset()
        self._keys: dict[str, str] = {}
        """What the last spare that ran knew of the steps it ran or left alone."""
        self._early: _Early | None = None
        self._says_ready = False
        self._carried: Look | None = None
        """A look at steps that no run has taken up yet."""
        self._aside: set[str] = set()
        """Paths of the project that changed and that no decision rests on."""
        self._aside_at = 0.0
        self._edits: dict[str, float] = {}
        """Files that were said to have changed, and when."""
        self._unread: dict[str, float] = {}
        """Paths that were said to be read by no step, and when."""

    # ---- for others

    def stop(self) -> None:
        """`run` returns soon. Runs go on."""
        self._stopped = True
        self._wake()

    def answer(self, yes: bool) -> None:
        """To the last `Asked`."""
        self._answers.append("yes" if yes else "no")
        self._wake()

    def everything(self) -> None:
        """Run what a plain run would run."""
        self._answers.append("everything")
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._writing, b".")
        except OSError:
            pass

    def run(self, tell: Callable[[Told], None]) -> None:
        """Until `stop`. Raises ConfigError when mlpipe.toml cannot be read at the start."""
        self._tell = tell
        self._take_config(load_config(self._root))
        try:
            if not self._wait_for_turn():
                return
            self._open()
            while not self._stopped:
                self._turn()
        finally:
            self._close()

    # ---- beginning and end

    def _take_config(self, config: ProjectConfig) -> None:
        self._config = config.watch
        watch = config.watch
        self._policy = Policy(self._root, run=watch.run, ask=watch.ask, ignore=watch.ignore)

    def _lock_path(self) -> str:
        """One watcher drives a pipeline with its parameters; the others look on and take over."""
        from mlpipe_engine.hashing.files import hash_bytes

        text = f"{self._pipeline}\0{wire.dump(self._options.parameters)}\0{self._options.experiment}\0{self._options.compute}"
        return os.path.join(self._root, ".mlpipe", "locks", "watch", hash_bytes(text.encode("ascii", "backslashreplace"))[3:19])

    def _wait_for_turn(self) -> bool:
        told = False
        while not self._stopped:
            self._lock = locks.try_lock(self._lock_path(), f"pid {os.getpid()}")
            if self._lock is not None:
                return True
            if not told:
                owner = locks.owner_of(self._lock_path()).strip() or "another process"
                self._tell(Note(text=f"{owner} watches this pipeline already; this watcher takes over when that one ends"))
                told = True
            select.select([self._reading], [], [], _LOCK_SECONDS)
        return False

    def _open(self) -> None:
        info = os.stat(self._root)
        self._place = info.st_dev, info.st_ino
        self._notices = Notices(poll=self._config.poll)
        self._spawn()

    def _close(self) -> None:
        for process in (self._spare, *self._runners):
            if process is not None:
                process.socket.close()
        if self._notices is not None:
            self._notices.close()
        if self._lock is not None:
            locks.unlock(self._lock, self._lock_path())
            self._lock = None
        for fd in (self._reading, self._writing):
            os.close(fd)
        with suppress(MlpipeError):
            self._merge()

    def _spawn(self) -> None:
        """A new spare. What runners are making is told to it, so that it does not want that again."""
        import mlpipe_engine

        ours, theirs = socket.socketpair()
        engine_root = os.path.dirname(os.path.dirname(os.path.abspath(mlpipe_engine.__file__)))
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [engine_root, os.environ.get("PYTHONPATH", "")]))
        log_path = os.path.join(self._root, ".mlpipe", "locks", "runner.log")
        try:
            with open(log_path, "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "mlpipe_engine.cli.spare", self._root, str(theirs.fileno())], cwd=self._root,
                    pass_fds=[theirs.fileno()], start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            self._tell(Trouble(text=f"cannot start a runner: {error.strerror}", hint="It is tried again."))
            self._retry_later()
            return
        finally:
            theirs.close()
        self._spare = _Process(process, ours)
        self._send(stand={"pipeline": self._pipeline, "options": wire.dump(self._options), "keys": self._keys})
        self._asked_at.clear()

    def _retry_later(self) -> None:
        self._backoff = min(_MOST_BACKOFF_SECONDS, max(0.5, self._backoff * 2))
        self._not_before = time.monotonic() + self._backoff

    def _send(self, **message: object) -> None:
        assert self._spare is not None
        try:
            self._spare.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # its end is seen when its socket is read

    # ---- one turn

    def _turn(self) -> None:
        assert self._notices is not None
        waiting = select.poll()
        sources: dict[int, _Process] = {}
        waiting.register(self._reading, select.POLLIN)
        waiting.register(self._notices.fileno(), select.POLLIN)
        for process in (self._spare, *self._runners):
            if process is not None:
                waiting.register(process.socket, select.POLLIN)
                sources[process.socket.fileno()] = process
        ready = [fd for fd, _ in waiting.poll(int(self._pause() * 1000))]
        while not ready and 0.0 < self._pause() < _WAKE_SECONDS:
            ready = [fd for fd, _ in waiting.poll(0)]
        now = time.monotonic()
        if self._reading in ready:
            _drain(self._reading)
        for fd in ready:
            if fd in sources:
                self._hear(sources[fd])
        for path, what in self._notices.take():
            self._hint(path, what, now)
        self._tell_aside(now)
        self._look_early()
        self._take_answers()
        if self._is_gone():
            self._wait_for_project()
            return
        batch = self._settling.ready(time.monotonic())
        if batch is not None and not self._was_early():
            self._more(batch.paths)
        if self._spare is None and not self._stopped and now >= self._not_before:
            self._spawn()
        self._consider(now)

    def _pause(self) -> float:
        now = time.monotonic()
        due = [self._next_rescan - now if self._next_rescan else RESCAN_SECONDS]
        if self._aside:
            due.append(self._aside_at - now)
        settled = self._settling.due()
        if settled is not None:
            due.append(settled - now)
        if self._spare is None:
            due.append(self._not_before - now)
        return max(0.0, min(due))

    def _look_early(self) -> None:
        """One closed file is looked at while it may still settle; nothing is made of the answer before it has."""
        path, spare = self._settling.quick(), self._spare
        if path is None or spare is None or not spare.is_ready or self._asked_at or self._pending != set():
            return
        if self._early is None or self._early.count != self._settling.count:
            if self._early is not None and self._early.answer is not None:
                self._looked(self._early.answer, act=False)  # the next answer only tells what is new since then
            self._early = _Early(self._settling.count, self._numbers + 1, frozenset((path,)))
            self._look(frozenset((path,)))

    def _was_early(self) -> bool:
        """The batch that is due was looked at already: its answer counts from now on."""
        early, self._early = self._early, None
        if early is None:
            return False
        if early.answer is not None:
            self._looked(early.answer, act=early.count == self._settling.count)
        return early.count == self._settling.count

    def _more(self, paths: frozenset[str] | None) -> None:
        if paths is None or self._pending is None:
            self._pending = None
        else:
            self._pending |= paths

    def _hint(self, path: str, what: What, now: float) -> None:
        """An event: of what a decision may rest on, of our own, or of something that nobody reads."""
        store = os.path.join(self._root, ".mlpipe")
        if path == store or path.startswith(store + "/") or path in self._own:
            return
        folder = os.path.dirname(path)
        inside = path == self._root or path.startswith(self._root + "/")
        if what is not What.LOST and path not in self._names and path not in self._whole and folder not in self._whole:
            if inside and not is_editors_own(os.path.basename(path)) and what in (What.CLOSED, What.GONE):
                self._aside.add(path)
                self._aside_at = now + LONG_SECONDS
            return
        if not inside or what is What.LOST or self._policy.of(path) != "ignore":
            self._settling.take(path, what, now - _age(path) if what is What.CLOSED else now)

    def _tell_aside(self, now: float) -> None:
        if self._aside and now >= self._aside_at:
            aside, self._aside = frozenset(self._aside), set()
            if self._is_news(aside, now):
                self._tell(Looked(look=Look(reloaded=self._shown(aside))))

    def _consider(self, now: float) -> None:
        """Let the spare look at what is pending, or at everything when it is time."""
        spare = self._spare
        if spare is None or not spare.is_ready or self._asked_at:
            return
        slept = _asleep()
        if now >= self._next_rescan or slept > self._slept + 2.0:
            self._pending = None
        self._slept = slept
        if self._pending is None or self._pending:
            pending, self._pending = self._pending, set()
            self._look(None if pending is None else frozenset(pending))
        elif self._says_ready:
            self._says_ready = False
            self._tell(SpareReady())

    def _look(self, paths: frozenset[str] | None) -> None:
        self._numbers += 1
        self._asked_at[self._numbers] = time.monotonic(), paths
        self._send(look=None if paths is None else sorted(paths), n=self._numbers)

    def _take_answers(self) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            if answer == "everything" and self._spare is not None and self._spare.is_ready:
                self._send(want=True)
            elif self._held == "asked" and answer == "yes":
                self._start()
            elif self._held == "asked":
                self._held = ""
                self._tell(Note(text="left as it is; the next change of these steps asks again"))

    # ---- what processes say

    def _hear(self, process: _Process) -> None:
        try:
            data = process.socket.recv(1 << 20)
        except OSError:
            data = b""
        lines = (process.buffer + data).split(b"\n")
        process.buffer = lines.pop()
        for line in lines:
            self._take(process, json.loads(line))
        if not data:
            self._ended(process)

    def _take(self, process: _Process, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._ready(process, message)
        elif "looked" in message and self._early is not None and self._early.number == message["n"]:
            message["look"] = wire.load(Look, message["looked"])  # while it settles there is time
            self._early.answer = message
            self._asked_at.pop(message["n"])
            self._early.answer["paths"] = self._early.paths
        elif "looked" in message:
            self._looked(message)
        elif "failed" in message:
            self._trouble(process, message)
        elif "running" in message:
            self._running(process, message["running"])
        elif "nothing" in message:
            process.is_ready = True
        elif "event" in message:
            self._event(process, wire.load(object, message["event"]))  # type: ignore[arg-type]
        elif "done" in message:
            process.over = True

    def _ready(self, process: _Process, message: dict[str, Any]) -> None:
        assert self._notices is not None
        process.is_ready = True
        self._backoff = 0.0
        self._failed = False
        self._reload_policy()
        self._take_scope(message["scope"])
        self._schedule_rescan(time.monotonic(), 0.0)
        look = wire.load(Look, message["ready"])
        self._touched = set(message["touched"])
        if self._reconciles:
            self._tell(WatchBegan(
                pipeline=message["pipeline"], steps=message["steps"], files=message["files"],
                folders=len(message["scope"]["folders"]),
                polling=self._notices.reason,
            ))  # fmt: skip
            self._told_reason = self._notices.reason
            for warning in message["warnings"]:
                self._tell(Note(text=warning))
            self._pending = None  # between its look and our watches something may have changed
            self._tell(Looked(look=look))
        elif look.steps:
            self._tell(Looked(look=look))
        self._says_ready = True
        self._reconciles = False
        if self._touched:
            self._act(look, None if self._pending is None else frozenset(self._pending))

    def _take_scope(self, scope: dict[str, list[str]]) -> None:
        assert self._notices is not None
        self._whole, self._names = frozenset(scope["whole"]), frozenset(scope["names"])
        self._notices.watch(scope["folders"])

    def _reload_policy(self) -> None:
        try:
            self._take_config(load_config(self._root))
        except MlpipeError:
            return

    def _schedule_rescan(self, now: float, cost: float) -> None:
        assert self._notices is not None
        if self._notices.reason:
            self._next_rescan = now + max(POLL_SECONDS, _POLL_SHARE * cost)
        else:
            self._next_rescan = now + max(RESCAN_SECONDS, _SHARE * cost)
        if self._notices.reason != self._told_reason and not self._reconciles:
            self._told_reason = self._notices.reason
            text = f"polling: {self._told_reason}" if self._told_reason else "file events come again"
            self._tell(Note(text=text))

    def _looked(self, message: dict[str, Any], *, act: bool = True) -> None:
        """`act=False`: more is coming; what was found is kept until then."""
        assert self._notices is not None
        began, paths = self._asked_at.pop(message["n"], (time.monotonic(), message.get("paths", frozenset())))
        now = time.monotonic()
        if paths is None and message["n"] >= 0:
            self._schedule_rescan(now, now - began)
        if message.get("scope"):
            self._take_scope(message["scope"])
            self._reload_policy()
        look = message["look"] if "look" in message else wire.load(Look, message["looked"])
        if look.again:
            self._settling.put_back(look.again, now)
            return
        self._touched = set(message["touched"])
        tell, held = self._tell, list[Told]()
        self._tell = held.append  # a run is started first and told of then
        try:
            self._take_look(look, message["n"], paths, now, act=act)
        finally:
            self._tell = tell
            for told in held:
                tell(told)

    def _take_look(self, look: Look, number: int, paths: frozenset[str] | None, now: float, *, act: bool) -> None:
        if self._failed and number >= 0:
            self._failed = False
            self._tell(Note(text="all can be read again"))
        inside = frozenset(path for path in paths or () if path.startswith(self._root + "/"))
        unread = bool(inside) and not look.edits and not look.reloaded
        if unread and self._is_news(inside, now):
            self._tell(Looked(look=Look(edits=(), reloaded=self._shown(inside))))
        elif (look.edits or look.steps) and not self._is_echo(look, now):
            self._tell(Looked(look=look))
        if act and not self._settling and (look.steps or self._held == "running" or self._carried is not None):
            self._act(look, paths)
        elif look.steps:
            self._carried = look

    def _is_echo(self, look: Look, now: float) -> bool:
        """An event of a change that a rescan, or the spare before this one, has seen already."""
        known = {path for path, at in self._edits.items() if now - at < _ECHO_SECONDS}
        self._edits = dict.fromkeys(known, now) | {edit.path: now for edit in look.edits if edit.kind != "same"}
        return not look.steps and all(edit.kind == "same" and edit.path in known for edit in look.edits)

    def _is_news(self, paths: frozenset[str], now: float) -> bool:
        """A log that grows in a folder of sources is not told again and again."""
        known = all(now - self._unread.get(path, -1e9) < _UNREAD_SECONDS for path in paths)
        self._unread = {path: at for path, at in self._unread.items() if now - at < _UNREAD_SECONDS}
        self._unread.update(dict.fromkeys(paths, now))
        return not known

    def _shown(self, paths: frozenset[str]) -> str:
        names = sorted(os.path.relpath(path, self._root) for path in paths)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"{', '.join(names[:3])}{more}: read by no step"

    def _act(self, look: Look, paths: frozenset[str] | None) -> None:
        """Run what is touched: at once, after an answer, or after what runs."""
        if look.steps:
            self._line, self._carried = str(look), look
        elif self._carried is not None:
            look = self._carried
        edited = {os.path.join(self._root, edit.path) for edit in look.edits if edit.kind != "same"} or set(paths or ())
        actions = {self._policy.of(path) for path in edited}
        if actions and actions <= {"ignore"}:
            return
        if "ask" in actions and "run" not in actions:
            self._held = "asked"
            self._tell(Asked(look=look))
            return
        self._start()

    def _start(self) -> None:
        """Make room for the touched steps, then let the spare run them."""
        spare = self._spare
        if spare is None or not spare.is_ready or not self._touched:
            self._held = "running" if self._touched else ""
            return
        limit, now = self._config.restart_below_seconds, time.monotonic()
        for runner in [runner for runner in self._runners if not runner.over]:
            stale = runner.left & self._touched
            old = [name for name in stale if name in runner.since and now - runner.since[name] >= limit]
            if old:
                if self._held != "running":
                    text = f"{', '.join(sorted(old)[:3])} of run {runner.number} ran for {now - runner.since[old[0]]:.0f} s already: it ends first"
                    self._tell(Note(text=text))
                self._held = "running"
                return
        for runner in [runner for runner in self._runners if not runner.over]:
            stale = runner.left & self._touched
            if stale:
                runner.superseded = True
                self._tell(Note(text=f"run {runner.number}: {_few(stale)} superseded"))
                try:
                    self._supersede(runner.run_id, tuple(sorted(stale)))
                except MlpipeError as error:
                    self._tell(Trouble(text=str(error), hint=error.hint))
        self._held = ""
        spare.is_ready = False
        self._send(run={"tags": [["watch", self._line]]})

    def _running(self, process: _Process, run: dict[str, Any]) -> None:
        process.run_id, process.number = run["id"], run["number"]
        process.left, self._keys = set(run["steps"]), run["keys"]
        self._runners.append(process)
        self._spare = None
        self._touched, self._carried = set(), None
        self._not_before = time.monotonic() + _SPARE_SECONDS

    def _event(self, process: _Process, event: Event) -> None:
        if isinstance(event, StepChanged):
            if event.state is State.RUNNING:
                process.since[event.step] = time.monotonic()
                process.started_any = True
            elif event.state in FINAL:
                process.left.discard(event.step)
                process.since.pop(event.step, None)
        if isinstance(event, RunFinished):
            process.over = True
        self._tell(event)

    def _trouble(self, process: _Process, message: dict[str, Any]) -> None:
        assert self._notices is not None
        number = message["n"]
        if number == -3:  # a run that could not be made, or the machine gave up under one
            process.over = process in self._runners
            process.is_ready = not process.over
            self._tell_trouble(message["failed"])
            return
        self._asked_at.pop(number, None)
        process.is_ready = True
        if message.get("scope"):
            self._take_scope(message["scope"])
        self._schedule_rescan(time.monotonic(), 0.0)
        self._reconciles = self._reconciles and number == -1
        if not self._failed or number != -1:
            self._tell_trouble(message["failed"])
        self._failed = True

    def _tell_trouble(self, failed: dict[str, Any]) -> None:
        self._tell(Trouble(text=failed["text"], hint=failed["hint"], traceback=failed["traceback"]))

    def _ended(self, process: _Process) -> None:
        """Its socket is closed: a runner is done, or somebody killed it."""
        process.socket.close()
        if process in self._runners:
            self._runners.remove(process)
            if not process.over:
                self._tell(
                    Trouble(
                        text=f"run {process.number} was interrupted: its runner is gone",
                        hint=f"Go on with `mlpipe-tui resume {process.number}`.",
                    )
                )
            _wait(process.process)
            if process.superseded and not process.started_any and self._forget_quietly(process.run_id):
                self._tell(Note(text=f"run {process.number} had started nothing: it is no run"))
            if self._held == "running":
                self._pending = self._pending if self._pending else set()
                self._look(frozenset()) if self._spare is not None and self._spare.is_ready and not self._asked_at else None
            return
        _wait(process.process)
        if process is self._spare:
            self._spare = None
            self._asked_at.clear()
            self._pending = None
            self._retry_later()

    def _forget_quietly(self, run_id: str) -> bool:
        try:
            return self._forget(run_id)
        except MlpipeError:
            return False

    # ---- a project that comes and goes

    def _is_gone(self) -> bool:
        try:
            info = os.stat(self._root)
        except OSError:
            return True
        return (info.st_dev, info.st_ino) != self._place or not os.path.exists(os.path.join(self._root, FILE_NAME))

    def _wait_for_project(self) -> None:
        """The folder was deleted, or its mlpipe.toml was: nothing is made there until both are back."""
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline and not self._stopped:  # an editor that saves by rename takes a moment
            if not self._is_gone():
                return
            select.select([self._reading], [], [], 0.05)
        self._tell(Trouble(text=f"{self._root} is gone, or has no {FILE_NAME}", hint="Watching goes on when it is back."))
        if self._spare is not None:
            self._spare.socket.close()
            _wait(self._spare.process)
            self._spare = None
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        if self._lock is not None:
            locks.unlock(self._lock)
            self._lock = None
        self._asked_at.clear()
        while not self._stopped and not os.path.isfile(os.path.join(self._root, FILE_NAME)):
            select.select([self._reading], [], [], _ABSENT_SECONDS)
        if self._stopped:
            return
        self._tell(Note(text=f"{self._root} is back"))
        self._settling = Settling(lambda: git_is_busy(self._root))
        self._pending, self._reconciles, self._told_reason, self._failed = set(), True, "", False
        self._keys = {}
        os.makedirs(os.path.join(self._root, ".mlpipe", "locks"), exist_ok=True)
        self._reload_policy()
        if self._wait_for_turn():
            self._open()


def _age(path: str) -> float:
    """For how long a file is settling already: the event of its save took a moment. Seconds, at most _MOST_AGE."""
    try:
        return min(max(time.time() - os.stat(path).st_ctime, 0.0), _MOST_AGE)
    except OSError:
        return 0.0


def _few(names: set[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        pass


def _own_files() -> frozenset[str]:
    """Where our own output goes, when that is a file: it may lie in a folder of sources."""
    found = set()
    for fd in (1, 2):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if os.path.isfile(path):
            found.add(path)
    return frozenset(found)


def _asleep() -> float:
    """Seconds the machine has slept since it was started, where the system tells."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot) - time.monotonic() if boot is not None else 0.0
