"""The app, its first part: what everything in it knows, messages to the person, the log of commands, copying."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from textual.app import App

from mlpipe_tui.bridge import Answered, Bridge
from mlpipe_tui.clean import one_line
from mlpipe_tui.clipboard import copy
from mlpipe_tui.screens.base import View
from mlpipe_tui.viewmodels import form
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import Trouble
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.tones import separated

if TYPE_CHECKING:
    from mlpipe_tui.glyphs import Glyphs

_TEMPORARY_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry of the log of commands: what was done and its command line, or what the app had to say."""

    time: str
    text: str
    words: tuple[str, ...] = ()
    bad: bool = False


class Telling(App[int]):
    """`app.PipelineApp` sets all attributes of its parts, in one place."""

    root: str
    state_dir: str | None
    glyphs: Glyphs
    bridge: Bridge
    active: str
    """Name of the screen that is shown."""
    log_of_commands: list[Logged]
    _views: dict[str, View]
    _early: list[Answered] | None
    """Answers that came before the app was there to take them; None: it is."""

    @property
    def view(self) -> View | None:
        return self._views.get(self.active)

    def now(self) -> datetime:
        return datetime.now().astimezone()

    def _deliver(self, answer: Answered) -> None:
        """From the threads of the bridge."""
        early = self._early
        if early is None:
            self.post_message(answer)
            return
        early.append(answer)
        if self._early is None:  # the app took what there was at this very moment
            with suppress(ValueError):
                early.remove(answer)
                self.post_message(answer)

    def tell(self, text: str, *, bad: bool = False, words: tuple[str, ...] = ()) -> None:
        """A toast of six seconds; it stays in the log of commands (~)."""
        self.log_of_commands.append(Logged(self.now().strftime("%H:%M:%S"), text, words, bad))
        if len(self._notifications) >= 2:
            self.clear_notifications()
        self.notify(
            separated(one_line(text, limit=300)),
            severity="error" if bad else "information",
            timeout=_TEMPORARY_SECONDS,
            markup=False,
        )

    def teller(self) -> Callable[[str], None]:
        """For threads: what goes on before a run starts."""
        return lambda text: self._deliver(Answered("said", text, self.tell))

    def trouble(self, found: Trouble) -> None:
        self.tell(found.what.replace(self.root + os.sep, "") + (f"  {found.hint}" if found.hint else ""), bad=True)

    def log_command(self, words: tuple[str, ...]) -> None:
        """Everything that is done here can be done on a command line: this one."""
        self.log_of_commands.append(Logged(self.now().strftime("%H:%M:%S"), "", words))

    def action_commands(self) -> None:
        from mlpipe_tui.screens.dialogs import Pages

        rows = []
        for entry in self.log_of_commands[-200:]:
            text = form.command_line(entry.words) if entry.words else entry.text
            rows.append(Line.of((f"{entry.time}  ", "muted"), (text, "accent" if entry.words else "bad" if entry.bad else "")))
        self.push_screen(Pages("Commands and messages", rows or [Line.of("Nothing was done here yet.")]))

    def action_copy_command(self) -> None:
        last = next((entry for entry in reversed(self.log_of_commands) if entry.words), None)
        if last is None:
            self.tell("nothing was done here yet that has a command line")
        else:
            self.copy_out(form.command_line(last.words))

    def action_copy(self) -> None:
        selected = self.screen.get_selected_text()
        if selected:
            self.copy_out(selected)
            self.screen.clear_selection()
            return
        copied = getattr(self.view, "copied", lambda: None)()
        if copied is not None:
            self.copy_out(copied.text)

    def on_copy(self, message: Copy) -> None:
        message.stop()
        self.copy_out(message.text)

    def copy_out(self, text: str) -> None:
        state_dir = self.state_dir if self.state_dir is not None and os.path.isdir(self.state_dir) else None
        self.tell(str(copy(text, state_dir, self._write_to_terminal)))

    def _write_to_terminal(self, text: str) -> None:
        if self._driver is not None:
            self._driver.write(text)
