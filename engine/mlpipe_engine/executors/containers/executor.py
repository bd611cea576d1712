"""Attempts as containers, one each. Implements ports.Executor; `start`, `wait`, `cancel`, `close` come from the runner's thread.

A thread per attempt makes the container, copies its output and reads how it ended; one thread keeps time; one asks engines whether
they still answer. The end of the output never means the end of the step: only what the engine says of the container does. A
container is removed after its end was reported.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.executors.containers import gpu_requests, marks, transport
from mlpipe_engine.executors.containers.creation import container_arguments, container_name, limits_not_enforced
from mlpipe_engine.executors.containers.engines import EngineAccess
from mlpipe_engine.executors.containers.streams import Connection, LogFiles, copy_frames
from mlpipe_engine.executors.containers.usage import Usage, follow_usage
from mlpipe_engine.model.execution import Exit, Exited, Finished, Killed, Lost, StepTask

ENGINE_GRACE_SECONDS = 60.0
"""How long an engine may be away (restarting, hung) before its steps are given up."""
_USAGE_AFTER_SECONDS = 1.0
"""Steps shorter than this have no curve: asking for it costs the engine as much as they do."""
_HEALTH_SECONDS = 2.0


class DockerExecutor:
    """`wake` is called from other threads when `wait` has something to return."""

    def __init__(self, wake: Callable[[], None] | None = None, *, grace_seconds: float = ENGINE_GRACE_SECONDS) -> None:
        self._wake = wake
        self.grace_seconds = grace_seconds
        self._ended: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self._attempts: dict[str, _Attempt] = {}
        self._engines: dict[str, EngineAccess] = {}
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._keepers: list[threading.Thread] = []

    def start(self, task: StepTask) -> None:
        """A task whose container is there already is gone on with: what it wrote meanwhile is read when it ends."""
        assert task.container is not None
        engine = self.engine(task.container.engine)
        attempt = _Attempt(task, engine, self)
        self._attempts[task.attempt_id] = attempt
        self._keep()
        thread = threading.Thread(target=attempt.run, name=f"container {task.attempt_id[:8]}", daemon=True)
        self._threads = [known for known in self._threads if known.is_alive()]
        self._threads.append(thread)
        thread.start()

    def engine(self, url: str) -> EngineAccess:
        """Raises ExecutorUnavailableError when it does not answer."""
        found = self._engines.get(url)
        if found is None:
            found = EngineAccess(url)
            _ = found.facts
            self._engines[url] = found
        return found

    def wait(self, timeout_seconds: float) -> list[Finished]:
        found: list[Finished] = []
        deadline = time.monotonic() + timeout_seconds
        while not found or not self._ended.empty():
            try:
                finished = self._ended.get(timeout=max(0.0, deadline - time.monotonic()) if not found else 0.0)
            except queue.Empty:
                break
            self._attempts.pop(finished.attempt_id, None)
            found.append(finished)
        return found

    def cancel(self, attempt_id: str) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.canceled = True
            self.turn()

    def close(self) -> None:
        if self._closing.is_set():
            return
        for attempt in list(self._attempts.values()):
            attempt.canceled = True
            attempt.grace = 0.0
        self.turn()
        deadline = time.monotonic() + self.grace_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._closing.set()
        self.turn()
        for keeper in self._keepers:
            keeper.join(1.0)

    def turn(self) -> None:
        """Somebody changed what the timekeeper looks at."""
        with self._changed:
            self._changed.notify_all()

    def report(self, finished: Finished) -> None:
        self._ended.put(finished)
        if self._wake is not None:
            self._wake()

    def _keep(self) -> None:
        if not self._keepers:
            self._keepers = [
                threading.Thread(target=self._keep_time, name="containers: time", daemon=True),
                threading.Thread(target=self._keep_asking, name="containers: health", daemon=True),
            ]
            for keeper in self._keepers:
                keeper.start()

    def _keep_time(self) -> None:
        while not self._closing.is_set():
            now = time.monotonic()
            due = [moment for attempt in list(self._attempts.values()) if (moment := attempt.look_at_clock(now)) is not None]
            with self._changed:
                if not self._closing.is_set():
                    self._changed.wait(max(0.01, min([*due, now + 0.5]) - time.monotonic()))

    def _keep_asking(self) -> None:
        """An engine that is hung says nothing at all: its steps are given up after a while."""
        silent_since: dict[str, float] = {}
        while not self._closing.wait(_HEALTH_SECONDS):
            for url, engine in list(self._engines.items()):
                running = [attempt for attempt in list(self._attempts.values()) if attempt.engine is engine]
                if not running or _answers(engine):
                    silent_since.pop(url, None)
                    continue
                began = silent_since.setdefault(url, time.monotonic())
                if time.monotonic() - began > self.grace_seconds:
                    for attempt in running:
                        attempt.give_up()


def _answers(engine: EngineAccess) -> bool:
    try:
        return bool(engine.client().ping())
    except Exception:
        return False


class _Attempt:
    """One attempt. `run` is its thread; `look_at_clock` and `give_up` come from the keepers."""

    def __init__(self, task: StepTask, engine: EngineAccess, executor: DockerExecutor) -> None:
        assert task.container is not None
        self.engine = engine
        self.canceled = False
        self.timed_out = False
        self.grace = task.grace_seconds
        self._task, self._executor = task, executor
        self._container = task.container
        self._id = task.container.adopted
        self._adopted = bool(task.container.adopted)
        self._running = False
        self._over = threading.Event()
        self._reported = threading.Lock()
        self._deadline: float | None = None
        self._asked_at: float | None = None
        self._killed = False
        self._connection: Connection | None = None
        self._usage = Usage()
        self._away = False
        """The engine did not answer at some time while the step ran."""

    def run(self) -> None:
        try:
            logs = LogFiles(self._task.stdout_path, self._task.stderr_path)
        except OSError as error:
            self._report(Lost(f"cannot write its logs: {error.strerror}"))
            return
        try:
            self._report(self._live(logs))
        except MlpipeError as error:
            self._report(Lost(str(error)))
        except Exception as error:  # the library, or the engine in a way nobody thought of: never a success
            self._report(Lost(f"{self._what()}: {_explained(error)}"))
        finally:
            self._over.set()
            logs.close()
            self._remove()

    def _live(self, logs: LogFiles) -> Exit:
        if not self._adopted:
            if self.canceled:
                return self._ended_by_us(signal.SIGTERM)
            problem = self._create()
            if problem is not None:
                return problem
            self._attach()
            problem = self._start()
            if problem is not None:
                return problem
        self._running = True
        if self._task.timeout_seconds:
            self._deadline = time.monotonic() + self._task.timeout_seconds - self._age()
        self._executor.turn()
        self._watch_usage()
        if self._connection is not None:
            copy_frames(self._connection.receive, logs.write)
        state = self._state_at_the_end()
        if self._adopted or self._away:
            self._catch_up(logs)
        if state is not None and not self.engine.facts.local:
            self.engine.patiently(lambda: transport.fetch(self.engine, self._task, self._id), self._executor.grace_seconds)
        return self._judged(state, logs)

    def _age(self) -> float:
        """Seconds an adopted container has run already."""
        if not self._adopted:
            return 0.0
        from datetime import UTC, datetime

        with suppress(Exception):
            text = str(self.engine.client().inspect_container(self._id)["State"]["StartedAt"])
            began = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
            return max(0.0, (datetime.now(UTC) - began).total_seconds())
        return 0.0

    def _create(self) -> Exit | None:
        """After an answer that got lost the container is looked up by its name; there is never a second one."""
        from docker.errors import APIError, ImageNotFound, NotFound

        client, task = self.engine.client(), self._task
        placed = [] if self.engine.facts.local else transport.volumes(task)
        if placed:
            self.engine.patiently(lambda: transport.send(self.engine, task), self._executor.grace_seconds)
        arguments = container_arguments(task, self.engine.facts, placed)
        arguments["host_config"] = client.create_host_config(**arguments.pop("host"))

        def create() -> str:
            try:
                return str(client.create_container(**arguments)["Id"])
            except ImageNotFound:
                raise
            except APIError as error:
                if error.status_code != 409:
                    raise
                return str(client.inspect_container(container_name(task.attempt_id))["Id"])

        try:
            self._id = self.engine.patiently(create, self._executor.grace_seconds)
        except (ImageNotFound, NotFound):
            return Lost(f"the engine has no image {self._container.image}")
        except APIError as error:
            return Lost(f"the engine refused to make its container: {_explained(error)}")
        except Exception:
            return Lost(self._silent())
        return None

    def _attach(self) -> None:
        """Before the start, so that not one byte is missed."""
        client = self.engine.stream_client()
        asked = {"stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
        given = self.engine.patiently(lambda: client.attach_socket(self._id, asked), self._executor.grace_seconds)
        self._connection = Connection(given)

    def _start(self) -> Exit | None:
        from docker.errors import APIError

        try:
            self.engine.patiently(lambda: self.engine.client().start(self._id), self._executor.grace_seconds)
        except APIError as error:
            return Lost(f"its container could not be started: {gpu_requests.explained(_explained(error))}")
        except Exception:
            return Lost(self._silent())
        return None

    def _state_at_the_end(self) -> dict[str, Any] | None:
        """What the engine says of the ended container; None when it knows it no more."""
        from docker.errors import NotFound

        while True:
            try:
                state: dict[str, Any] = self.engine.client().inspect_container(self._id)["State"]
            except NotFound:
                return None
            except Exception:
                self._away = True
                state = self.engine.patiently(
                    lambda: self.engine.client().inspect_container(self._id)["State"], self._executor.grace_seconds
                )
            if state["Status"] in ("exited", "dead"):
                return state
            if state["Status"] == "created":  # the engine went away between the two requests of a start
                return {**state, "ExitCode": -1}
            self._away = True  # it runs on although its output ended: the engine was restarted under it
            if self._over.wait(0.3):
                return state

    def _judged(self, state: dict[str, Any] | None, logs: LogFiles) -> Exit:
        if state is None:
            if self.canceled or self.timed_out:
                return self._ended_by_us(signal.SIGKILL)
            return Lost("its container was removed by somebody else")
        code = int(state["ExitCode"])
        if code < 0:
            return Lost(f"its container never ran: {state.get('Error') or 'the engine went away'}")
        number = code - 128 if 128 < code <= 128 + 31 else 0
        if self.canceled or self.timed_out:
            return self._ended_by_us(number, code)
        if state.get("OOMKilled"):
            limit = _limit(self._task)
            if number == signal.SIGKILL:
                return Killed(signal.SIGKILL, f"out of memory{limit}")
            logs.note(f"a process of this step was killed: out of memory{limit}")
        if number and self._away:
            return Lost(f"the container engine at {self.engine.url} was stopped or restarted, and ended its container")
        if number == signal.SIGKILL and self.engine.facts.podman and _limit(self._task):
            return Killed(number, f"probably out of memory{_limit(self._task)}")
        if number:
            return Killed(number)
        if state.get("Error") and code in (126, 127):
            logs.note(str(state["Error"]))
        return Exited(code)

    def _ended_by_us(self, number: int, code: int = 0) -> Exit:
        because = f"timed out after {self._task.timeout_seconds:g} s" if self.timed_out else "canceled"
        return Killed(number, because) if number else Killed(signal.SIGTERM, f"{because} (exited {code})")

    def _catch_up(self, logs: LogFiles) -> None:
        def ask(is_stderr: bool) -> Any:
            client = self.engine.stream_client()
            return client.logs(self._id, stdout=not is_stderr, stderr=is_stderr, stream=True, follow=False)

        with suppress(Exception):
            logs.catch_up(ask, "of what the step wrote while nobody was connected, the beginning is lost")

    def _watch_usage(self) -> None:
        def follow() -> None:
            if self._over.wait(_USAGE_AFTER_SECONDS):
                return
            client = None
            with suppress(Exception):
                client = self.engine.stream_client()
                samples = client.stats(self._id, decode=True, stream=True)
                path = os.path.join(os.path.dirname(self._task.stdout_path), "usage.csv")
                follow_usage(samples, path, self._usage, self._over.is_set)
            if client is not None:
                client.close()

        threading.Thread(target=follow, name="container usage", daemon=True).start()

    def look_at_clock(self, now: float) -> float | None:
        """Sends what is due; the next moment something will be."""
        if not self._running or self._over.is_set() or self._killed:
            return None
        if self._asked_at is None:
            if self._deadline is not None and now >= self._deadline and not self.canceled:
                self.timed_out = True
            if not (self.canceled or self.timed_out):
                return self._deadline
            self._asked_at = now
            if self.grace > 0:
                self._kill("SIGTERM")
        if now >= self._asked_at + self.grace:
            self._killed = self._kill("SIGKILL")
            return None if self._killed else now + 0.5
        return self._asked_at + self.grace

    def _kill(self, name: str) -> bool:
        try:
            self.engine.client().kill(self._id, name)
        except Exception as error:
            return getattr(error, "status_code", None) in (404, 409)  # gone, or not running any more
        return True

    def give_up(self) -> None:
        """The engine says nothing for too long. Its container is looked for by its label when the engine is back."""
        self._report(Lost(self._silent()))
        self._over.set()
        if self._connection is not None:
            self._connection.end()

    def _report(self, exit: Exit) -> None:
        if not self._reported.acquire(blocking=False):
            return
        self._over.set()
        self._executor.report(Finished(
            attempt_id=self._task.attempt_id, exit=exit, cpu_seconds=self._usage.cpu_seconds,
            peak_memory_bytes=self._usage.peak_memory_bytes, timed_out=self.timed_out, canceled=self.canceled,
        ))  # fmt: skip

    def _remove(self) -> None:
        """Off the critical path; one that cannot be removed now is found by its label later."""
        if self._connection is not None:
            self._connection.close()
        gone = removed(self.engine, self._id or container_name(self._task.attempt_id))
        if not self.engine.facts.local:
            transport.drop(self.engine, self._task)
        if gone and self._container.mark:
            marks.remove(self._container.mark)

    def _what(self) -> str:
        return f"container {container_name(self._task.attempt_id)} at {self.engine.url}"

    def _silent(self) -> str:
        return f"the container engine at {self.engine.url} has not answered for {self._executor.grace_seconds:g} s"

    def warnings(self) -> tuple[str, ...]:
        return limits_not_enforced(self._container, self.engine.facts)


def removed(engine: EngineAccess, container: str) -> bool:
    """Whether it is gone now, by us or before."""
    from docker.errors import APIError

    try:
        engine.client().remove_container(container, force=True, v=True)
    except APIError as error:
        return bool(error.status_code == 404) or "already in progress" in str(error.explanation)
    except Exception:
        return False
    return True


def _limit(task: StepTask) -> str:
    memory = task.container.memory_bytes if task.container is not None else None
    return f" (limit {memory / 1e6:.0f} MB)" if memory else ""


def _explained(error: Exception) -> str:
    """The engine's own words, on one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())[:500]
