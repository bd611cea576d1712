"""Watch mode on a terminal or in a pipe: what changed, which steps it touches, and the runs that follow."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.cli.render import RunView, Screen
from mlpipe_engine.cli.run import options_of
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import DefinitionError
from mlpipe_engine.model import wire
from mlpipe_engine.model.events import RunFinished, RunStarted, StepChanged
from mlpipe_engine.model.spec import SubmitOptions
from mlpipe_engine.model.text import clean
from mlpipe_engine.model.watch import Asked, Looked, Note, Told, Trouble, WatchBegan

if TYPE_CHECKING:
    from mlpipe_engine.runner.watcher import Watcher


def watch(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    watcher = engine.watcher(arguments.positionals.get("PIPELINE"), _options(engine, arguments))
    engine.close()
    ends = [signal.signal(number, lambda *_: watcher.stop()) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        if arguments.flag("json"):
            watcher.run(lambda told: print(wire.dump(told), flush=True))
            return 0
        page = _Page()
        if sys.stdin.isatty() and sys.stdout.isatty():
            threading.Thread(target=_listen, args=(watcher, page), daemon=True).start()
        watcher.run(page.take)
        page.leave()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), ends):
            signal.signal(number, handler)
    return 0


def _options(engine: Engine, arguments: Arguments) -> SubmitOptions:
    """A definition that is broken now is no reason not to watch it; parameters need one that is not."""
    from dataclasses import replace

    name = arguments.positionals.get("PIPELINE")
    try:
        return replace(options_of(arguments, engine.pipeline(name)), source="watch", request=())
    except DefinitionError:
        if arguments.texts("param"):
            raise
        return SubmitOptions(
            experiment=arguments.text("experiment") or "", compute=arguments.text("compute"), source="watch",
            continue_on_step_failure=arguments.flag("continue-on-failure"),
        )  # fmt: skip


def _listen(watcher: Watcher, page: _Page) -> None:
    """Enter runs everything there is to do, y and n answer, q ends."""
    for line in sys.stdin:
        word = line.strip().lower()
        if page.asked and word in ("y", "yes", "n", "no"):
            page.asked = False
            watcher.answer(word.startswith("y"))
        elif word in ("q", "quit"):
            break
        elif not word and not page.asked:
            watcher.everything()
    watcher.stop()


class _Page:
    """Lines as things happen; several runs may be on the page at once."""

    def __init__(self) -> None:
        self._screen = Screen()
        self._screen.live = False
        self._views: dict[str, RunView] = {}
        self.asked = False

    def take(self, told: Told) -> None:
        match told:
            case WatchBegan():
                self._say(
                    f"watching {clean(told.pipeline)}: {_count(told.steps, 'step')}, {_count(told.files, 'file')} in {_count(told.folders, 'folder')}"
                )
                if told.polling:
                    self._say(f"polling: {clean(told.polling)}")
                if sys.stdin.isatty() and sys.stdout.isatty():
                    self._say("Enter runs what there is to do, q ends; a run that is going on goes on without this window")
            case Looked(look=look):
                self._say(f"{_clock()}  {clean(str(look))}")
            case Asked(look=look):
                self.asked = True
                self._say(f"{_clock()}  run it? [y/n] {clean(str(look))}")
            case Note(text=text):
                self._say(f"{_clock()}  {clean(text)}")
            case Trouble():
                self._trouble(told)
            case RunStarted() | StepChanged() | RunFinished():
                view = self._views.setdefault(told.run_id, RunView())
                self._screen.event(view, told)
                if isinstance(told, RunFinished):
                    self._ended(told, view)

    def _trouble(self, told: Trouble) -> None:
        if told.traceback:
            sys.stdout.write(clean(told.traceback, limit=1 << 16, keep_newlines=True))
        for line in told.text.split("\n"):
            self._say(f"error: {clean(line)}")
        if told.hint:
            self._say(f"hint: {clean(told.hint)}")

    def _ended(self, told: RunFinished, view: RunView) -> None:
        self._views.pop(told.run_id, None)
        if view.failed:
            self._say(f"  Read what it said: mlpipe-tui logs {told.number} {clean(view.failed[0])}")

    def leave(self) -> None:
        for view in self._views.values():
            self._say(
                f"run {view.number} goes on. Follow it with `mlpipe-tui attach {view.number}`, stop it with `mlpipe-tui cancel {view.number}`."
            )

    def _say(self, text: str) -> None:
        self._screen.say(text)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")
