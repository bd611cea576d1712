"""Watch mode in the app: a watcher of the engine in a thread. What it tells comes back as messages; the runs it starts are processes of their own.

The app may die at any time: its watcher ends with it, the runs go on.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model.spec import SubmitOptions
from mlpipe_engine.model.watch import Asked, Looked, Note, SpareReady, Told, WatchBegan
from mlpipe_engine.model.watch import Trouble as WatchTrouble

from mlpipe_tui.bridge import Answered, Bridge
from mlpipe_tui.viewmodels.shots import Trouble


class Watching(threading.Thread):
    """`told` gets what is worth a line (never the events of runs), and None when the watcher has ended by itself."""

    def __init__(self, bridge: Bridge, pipeline: str, told: Callable[[Told | Trouble | None], None]) -> None:
        super().__init__(name="watching", daemon=True)
        self.pipeline = pipeline
        self.note = "watch starts"
        """For the header."""
        self._bridge, self._told = bridge, told
        self._end: Callable[[], None] | None = None
        self._answer: Callable[[bool], None] | None = None
        self._stopped = False

    def run(self) -> None:
        try:
            engine = Engine.open(self._bridge.root)
            watcher = engine.watcher(self.pipeline or None, SubmitOptions(experiment="", source="watch"))
            self._end, self._answer = watcher.stop, watcher.answer
            if not self._stopped:
                watcher.run(self._take)
            engine.close()
        except (MlpipeError, OSError) as error:
            self._deliver(Trouble.of(error))
        except Exception as error:  # a fault of ours ends watching, not the app
            self._bridge.note_fault(traceback.format_exc())
            self._deliver(Trouble.of(error))
        if not self._stopped:
            self._deliver(None)

    def _take(self, told: Told) -> None:
        if isinstance(told, WatchBegan | SpareReady | Looked | Asked | Note | WatchTrouble):
            self._deliver(told)

    def _deliver(self, told: Told | Trouble | None) -> None:
        self._bridge.deliver(Answered("watch", told, self._told))

    def answer(self, yes: bool) -> None:
        if self._answer is not None:
            self._answer(yes)

    def stop(self) -> None:
        """Runs go on. Does not wait."""
        self._stopped = True
        if self._end is not None:
            self._end()
