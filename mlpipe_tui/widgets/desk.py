"""One thread that does one thing at a time for a widget; what was asked last is done first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable


class Desk:
    """Jobs have keys: asking again for a key that still waits moves it to the front. Results go where the job sends them."""

    def __init__(self, name: str, fault: Callable[[Exception], None] | None = None) -> None:
        """`fault` is told, in the thread, of a job that ended with an exception: a fault of ours, after which the next job is done."""
        self._fault = fault
        self._waiting: dict[Hashable, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._started = False

    def ask(self, key: Hashable, job: Callable[[], None]) -> None:
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = job
            self._changed.notify()
            if not self._started and not self._over:
                self._started = True
                self._thread.start()

    def forget(self) -> None:
        """What was not begun is not done."""
        with self._changed:
            self._waiting.clear()

    def close(self, last: Callable[[], None]) -> None:
        """End the thread after the job it is at; `last` is its last one. Does not wait."""
        with self._changed:
            self._waiting = {"last": last}
            self._over = True
            self._changed.notify()
            if not self._started:
                self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._over:
                    self._changed.wait()
                if not self._waiting:
                    return
                job = self._waiting.pop(next(reversed(self._waiting)))
            try:
                job()
            except Exception as error:
                if self._fault is not None:
                    self._fault(error)
