"""Between the app and the engine: questions go to a thread, answers come back as messages with frozen values.

Two lanes: "look" answers from the store within milliseconds and keeps its engine; "work" loads definitions, plans and starts runs,
with a new engine for each question, so that files that changed are seen. Of questions about one topic only the newest waits. A lane
that fails answers with a `Trouble`; nothing here ever touches a widget.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
from textual.message import Message

from mlpipe_tui.viewmodels.shots import Trouble

T = TypeVar("T")
Answer = Callable[[Any], None]


class Answered(Message):
    """An answer on its way to who asked. The app calls `then(value)`; `value` is what was asked for, or a Trouble."""

    def __init__(self, topic: str, value: object, then: Answer) -> None:
        super().__init__()
        self.topic, self.value, self.then = topic, value, then


class _Lane(threading.Thread):
    """One thread with its own engine."""

    def __init__(self, bridge: Bridge, name: str, *, fresh: bool) -> None:
        super().__init__(name=f"bridge-{name}", daemon=True)
        self._bridge, self._fresh = bridge, fresh
        self._ready = threading.Condition()
        self._questions: dict[str, tuple[Callable[[Engine], object], Answer]] = {}
        self._stopped = False
        self._engine: Engine | None = None

    def put(self, topic: str, question: Callable[[Engine], object], then: Answer) -> None:
        with self._ready:
            self._questions[topic] = (question, then)
            self._ready.notify()

    def stop(self) -> None:
        with self._ready:
            self._stopped = True
            self._questions.clear()
            self._ready.notify()

    def run(self) -> None:
        while True:
            with self._ready:
                while not self._questions and not self._stopped:
                    self._ready.wait()
                if self._stopped:
                    break
                topic = next(iter(self._questions))
                question, then = self._questions.pop(topic)
            self._bridge.deliver(Answered(topic, self._answer(question), then))
        if self._engine is not None:
            self._engine.close()

    def _answer(self, question: Callable[[Engine], object]) -> object:
        try:
            if self._engine is None or self._fresh:
                if self._engine is not None:
                    self._engine.close()
                self._engine = None
                self._engine = Engine.open(self._bridge.root)
            return question(self._engine)
        except (MlpipeError, OSError) as error:
            self._forget()
            return Trouble.of(error)
        except Exception as error:  # a fault of ours ends neither the app nor the run: the pane that asked says so
            self._bridge.note_fault(traceback.format_exc())
            self._forget()
            return Trouble.of(error)

    def _forget(self) -> None:
        """The next question starts with a new connection: the store may have been replaced, locked or made anew."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None


class Bridge:
    """`deliver` is called from threads and must only hand the message over (`App.post_message` does)."""

    def __init__(self, root: str, deliver: Callable[[Answered], object]) -> None:
        self.root = root
        self.deliver = deliver
        self._look = _Lane(self, "look", fresh=False)
        self._work = _Lane(self, "work", fresh=True)
        self._look.start()
        self._work.start()

    def look(self, topic: str, question: Callable[[Engine], T], then: Callable[[T | Trouble], None]) -> None:
        """A question the store answers at once. A newer one about the same topic takes the place of one that still waits."""
        self._look.put(topic, question, then)

    def work(self, topic: str, question: Callable[[Engine], T], then: Callable[[T | Trouble], None]) -> None:
        """A question that may take seconds: definitions, plans, starting a run."""
        self._work.put(topic, question, then)

    def note_fault(self, text: str) -> None:
        """Keep a traceback of ours where a person can find it; `log_path` says where."""
        try:
            with open(self.log_path, "a", encoding="utf-8") as log:
                log.write(f"{datetime.now().isoformat(timespec='seconds')}\n{text}\n")
        except OSError:
            pass  # a project that can only be read has no such file

    @property
    def log_path(self) -> str:
        return os.path.join(self.root, ".mlpipe", "tui.log")

    def close(self) -> None:
        """Does not wait: a lane that is busy ends with the process."""
        self._look.stop()
        self._work.stop()
