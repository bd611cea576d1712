"""The app, its third part: what a person does with runs, and watch mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlpipe_engine.model.records import RunRecord

from mlpipe_tui.clean import one_line
from mlpipe_tui.following import Following
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import Trouble

if TYPE_CHECKING:
    from mlpipe_tui.watching import Watching


class Steering(Following):
    """Each action is a command line, which goes into the log of commands."""

    def pin_run(self, run: RunRecord | None) -> None:
        """Show that run instead of the newest one; None: the newest again."""
        self.pinned = run.id if run is not None else None
        if run is not None and run.pipeline:
            self.pipeline_name = run.pipeline
        self._watch.forget()
        self._looking = False
        self._pulse()

    def choose_pipeline(self, name: str) -> None:
        self.pipeline_name, self.pinned, self.shot = name, None, None
        view = self._views.get("Pipeline")
        if view is not None:
            view.planned, view.table, view.planning = None, None, False  # type: ignore[attr-defined]
            view.redraw()  # type: ignore[attr-defined]
            view.plan()  # type: ignore[attr-defined]
        self.pin_run(None)

    def cancel_run(self, run: RunRecord) -> None:
        self.log_command(("cancel", str(run.number)))
        self.bridge.work("cancel", lambda engine: engine.cancel(run.id), lambda found: self._canceled(run, found))

    def _canceled(self, run: RunRecord, found: object) -> None:
        if isinstance(found, Trouble):
            self.trouble(found)
        else:
            self.tell(f"run {run.number} is being canceled")
            self._watch.forget()

    def resume_run(self, run: RunRecord, then: Callable[[RunRecord | Trouble], None]) -> None:
        self.log_command(("resume", str(run.number)))
        self.bridge.work("submit", lambda engine: engine.find_run(engine.submit_again(run.id)), then)

    # Watch mode

    def switch_watch(self) -> None:
        """On: what is saved from now on is run. Off: runs go on."""
        if self.watching is not None:
            self.watching.stop()
            self.watching = None
            self.tell("watch off; a run that is going on goes on")
        else:
            from mlpipe_tui.watching import Watching

            self.log_command(tuple(filter(None, ("watch", self.pipeline_name))))
            self.watching = Watching(self.bridge, self.pipeline_name, self._watch_told)
            self.watching.start()
        self._redraw_header()

    def _watch_told(self, told: object) -> None:
        from mlpipe_engine.model.watch import Asked, Looked, Note, WatchBegan
        from mlpipe_engine.model.watch import Trouble as WatchTrouble

        watching = self.watching
        if watching is None:
            return
        match told:
            case WatchBegan():
                watching.note = f"watch on{': polling' if told.polling else ''}"
                why = f"; polling, because {told.polling}" if told.polling else ""
                self.tell(f"watching {told.pipeline}: {told.files} files, {told.folders} folders{why}")
            case Looked(look=look):
                self.tell(f"watch: {look}")
            case Asked(look=look):
                self._ask_watch(watching, str(look))
            case Note(text=text):
                self.tell(f"watch: {text}")
            case WatchTrouble():
                self.tell(f"watch: {told.text}  {told.hint}".rstrip(), bad=True)
                self.load_definitions()
            case Trouble():
                self.trouble(told)
            case None:
                self.watching = None
                self.tell("watch ended", bad=True)
        self._redraw_header()

    def _ask_watch(self, watching: Watching, change: str) -> None:
        from mlpipe_tui.screens.dialogs import Choice

        lines = [Line.of(one_line(change, limit=300)), Line.of("mlpipe.toml asks before a change of these files runs.")]
        choices = (("y", "run it"), ("n", "leave it; the next change asks again"))
        self.push_screen(Choice("A change", lines, choices), lambda answer: watching.answer(answer == "y"))
