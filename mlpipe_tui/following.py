"""The app, its second part: it follows runs and definitions. Questions go out with every pulse, what the bridge brings comes in."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from mlpipe_tui import questions
from mlpipe_tui.bridge import Answered
from mlpipe_tui.telling import Telling
from mlpipe_tui.viewmodels.shots import DefinitionShot, ProjectShot, RunShot, Trouble

if TYPE_CHECKING:
    from mlpipe_tui.watching import Watching

PULSE_SECONDS = 0.25
_IDLE_PULSES = 2
"""With nothing going on every so many pulses look."""


class Following(Telling):
    """What it follows stands in attributes that only the UI thread sets."""

    project: ProjectShot | None
    definitions: DefinitionShot | None
    sound_at: str
    """When the definitions were last read without trouble."""
    pipeline_name: str
    shot: RunShot | None
    pinned: str | None
    """Id of the run that is shown instead of the newest one."""
    store_trouble: str
    """Why the store cannot be read just now."""
    read_only: bool
    watching: Watching | None
    """Watch mode, while it is on."""
    _watch: questions.Watch
    _looking: bool
    _pulses: int
    _sources: dict[str, int]

    def _redraw_header(self) -> None:
        """The header is the app's own."""

    async def on_answered(self, message: Answered) -> None:
        message.stop()
        if self.being_taken_down:  # such an answer is nobody's
            return
        message.then(message.value)
        if message.topic == "live":
            self._looking = False
            if not self._sources and self.definitions is None:  # the definitions wait until the run is on the screen
                self.call_after_refresh(self._first_frame_is_there)

    @property
    def being_taken_down(self) -> bool:
        return self._exit or self._closing or self._closed

    def _first_frame_is_there(self) -> None:
        if self.definitions is None and not self.being_taken_down:
            gc.enable()
            self.load_definitions()

    def _got_project(self, found: ProjectShot | Trouble) -> None:
        if isinstance(found, Trouble):
            self.trouble(found)
            return
        self.project = found
        if not found.writable and not self.read_only:
            self.read_only = True
            self.tell("this project can only be read here: keys that change something are off")
        for run in found.interrupted[:2]:
            self.tell(f"run {run.number} was interrupted: its runner is gone. R goes on with it", bad=True)
        self._redraw_header()
        self.refresh_bindings()

    def load_definitions(self) -> None:
        self.bridge.work("definitions", questions.definitions, self._got_definitions)

    def _got_definitions(self, found: DefinitionShot | Trouble) -> None:
        if isinstance(found, Trouble):
            found = DefinitionShot(trouble=found)
        before = self.definitions
        if found.trouble is None:
            self.sound_at = self.now().strftime("%H:%M:%S")
        if not found.pipelines and before is not None and before.pipelines:
            found = DefinitionShot(pipelines=before.pipelines, graphs=before.graphs, trouble=found.trouble)
        self.definitions = found
        places = [spec.where for spec in found.pipelines] + [found.trouble.where if found.trouble is not None else ""]
        self._sources = {
            path: _mtime(path) for path in {path_of(where) for where in places} | {os.path.join(self.root, "mlpipe.toml")} if path
        }
        view = self._views.get("Pipeline")
        if view is not None:
            view.redraw()  # type: ignore[attr-defined]
            if self.shot is None and found.pipelines and found.trouble is None and not view.wanted_plan and view.planned is None:  # type: ignore[attr-defined]
                view.plan()  # type: ignore[attr-defined]

    def _pulse(self) -> None:
        """Look whether something is new, and let time go on."""
        if self.being_taken_down:
            return
        self._pulses += 1
        busy = self.shot is not None and bool(self.shot.live)
        if not self._looking and (busy or self._pulses % _IDLE_PULSES == 0 or self._pulses == 1):
            self._looking = True
            self.bridge.look("live", self._watch.look(self.pinned, self.pipeline_name), self._got_shot)
        if self._pulses % 8 == 0 and any(_mtime(path) != seen for path, seen in self._sources.items()):
            self._sources = {path: _mtime(path) for path in self._sources}
            self.load_definitions()
        if busy and self._pulses % 2 == 0:
            self._redraw_header()
            if (view := self._views.get(self.active)) is not None:
                view.pulse()
        elif self._pulses % 8 == 0 and (view := self._views.get(self.active)) is not None:
            view.pulse()

    def _got_shot(self, found: RunShot | Trouble | None) -> None:
        before_trouble, self.store_trouble = self.store_trouble, found.what if isinstance(found, Trouble) else ""
        if before_trouble != self.store_trouble:
            self._redraw_header()
        if isinstance(found, Trouble):
            if found.what != before_trouble:  # it is asked again twice a second
                self.trouble(found)
            return
        if found is None:
            return
        before, self.shot = self.shot, found
        self._redraw_header()
        self.refresh_bindings()
        for view in self._views.values():
            changed = getattr(view, "run_changed", None)
            if changed is not None and (self.active == view.NAME or view.NAME == "Pipeline"):
                changed(before, found)
        if before is not None and before.run.id == found.run.id and before.going_on and not found.going_on:
            self.tell(f"run {found.run.number} {'was interrupted' if found.interrupted else found.run.state.value}",
                      bad=found.interrupted or found.run.state.value == "failed")  # fmt: skip


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def path_of(where: str) -> str:
    parts = where.split(":")
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    return ":".join(parts)


def line_of(where: str) -> int:
    rest = where[len(path_of(where)) :].strip(":").split(":")[0]
    return int(rest) if rest.isdigit() else 0
