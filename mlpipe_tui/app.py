"""The terminal app: one shell around the screens, fed by the bridge. It starts nothing itself that would end with it.

`start` is called by `__main__`; everything else is the app's own. What the app knows is in a few attributes that only the UI thread sets.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import mlpipe_engine
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import ConfigError, ProjectNotFoundError, nearest
from mlpipe_engine.model.records import RunRecord
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.widgets import Input

import mlpipe_tui
from mlpipe_tui import keymap, questions
from mlpipe_tui.bridge import Answered, Bridge
from mlpipe_tui.clean import clean, one_line
from mlpipe_tui.clipboard import copy
from mlpipe_tui.glyphs import ASCII, choose
from mlpipe_tui.screens.base import View
from mlpipe_tui.themes import DEFAULT, themes
from mlpipe_tui.viewmodels import form
from mlpipe_tui.viewmodels.header import run_state
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import DefinitionShot, ProjectShot, RunShot, Trouble
from mlpipe_tui.widgets.bars import HeaderBar, KeyBar
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.tones import separated, use_ascii

if TYPE_CHECKING:
    from mlpipe_tui.watching import Watching

SCREENS: tuple[tuple[str, str, str], ...] = (
    ("1", "Pipeline", "mlpipe_tui.screens.pipeline:PipelineView"),
    ("2", "Runs", "mlpipe_tui.screens.runs:RunsView"),
    ("3", "Data", "mlpipe_tui.screens.data:DataView"),
    ("4", "Compare", "mlpipe_tui.screens.compare:CompareView"),
    ("6", "Compute", "mlpipe_tui.screens.compute:ComputeView"),
)
"""Key, name, where the class is. A screen is imported and made when it is first opened."""
PULSE_SECONDS = 0.25
_IDLE_PULSES = 2
"""With nothing going on every so many pulses look."""
_TEMPORARY_SECONDS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the app was started; `[tui]` and `[keys]` of mlpipe.toml are read beside it."""

    directory: str | None = None
    read_only: bool = False
    theme: str = ""
    glyphs: str = "auto"
    mouse: bool = True
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry of the log of commands: what was done and its command line, or what the app had to say."""

    time: str
    text: str
    words: tuple[str, ...] = ()
    bad: bool = False


class _AsciiBars(ScrollBarRender):
    """Whole cells only: what the blocks of an eighth are for, no ASCII sign can do."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "]
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "]


def _available() -> tuple[tuple[str, str, str], ...]:
    from importlib.util import find_spec

    return tuple(entry for entry in SCREENS if find_spec(entry[2].partition(":")[0]) is not None)


class PipelineApp(App[int]):
    """One project, or the first run of one."""

    TITLE = "mlpipe-tui"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    CSS = """
    #views { height: 1fr; width: 1fr; background: $background; }
    Toast { padding: 0 1; max-width: 70; }
    """
    HELP = "Tab goes to the other pane, [ and ] to other tabs of it, a digit to another screen. Everything can be clicked, too."
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"screen_named('{name}')", name, show=False, id=f"app.{name.lower()}") for key, name, _ in SCREENS),
        Binding("tab", "pane(1)", "Pane", show=False, id="app.pane", priority=True),
        Binding("shift+tab", "pane(-1)", "Pane before", show=False, id="app.pane_before", priority=True),
        Binding("z", "zoom", "Zoom", id="app.zoom", tooltip="One pane alone, or both again"),
        Binding("y", "copy", "Copy", id="app.copy", tooltip="Copy the selected text, else what is under the cursor"),
        Binding(
            "Y", "copy_command", "Copy command", show=False, id="app.copy_command", tooltip="The command line of the last action"
        ),
        Binding(
            "tilde",
            "commands",
            "Commands",
            show=False,
            id="app.commands",
            tooltip="Everything that was done here, as command lines",
        ),
        Binding("colon", "command_palette", "Palette", show=False, id="app.palette"),
        Binding(
            "ctrl+t",
            "theme",
            "Theme",
            show=False,
            id="app.theme",
            tooltip="The next theme; mlpipe-ansi keeps the terminal's colours",
        ),
        Binding("ctrl+r,f5", "reload", "Reload", show=False, id="app.reload", tooltip="Read definitions and runs anew"),
        Binding("question_mark,f1", "help", "Help", id="app.help"),
        Binding("q", "leave", "Quit", id="app.quit", tooltip="Runs go on"),
        Binding("ctrl+c", "interrupt", "Quit", show=False, priority=True, system=True),
    ]

    def __init__(self, settings: Settings, engine: Engine | None) -> None:
        """`engine`: of the project that was found; it is only asked for its configuration here."""
        super().__init__()
        self.settings = settings
        self.root = engine.root if engine is not None else os.path.abspath(settings.directory or os.getcwd())
        self.project: ProjectShot | None = None
        self.project_name = engine.config.name if engine is not None else ""
        self.state_dir = engine.state_dir if engine is not None else None
        tui = engine.config.tui if engine is not None else None
        self.glyphs = choose((tui.glyphs if tui is not None and settings.glyphs == "auto" else settings.glyphs) or "auto")
        self.ascii_only = self.glyphs is ASCII
        use_ascii(self.ascii_only)
        ScrollBar.renderer = _AsciiBars if self.ascii_only else ScrollBarRender
        self.read_only = settings.read_only
        for theme in themes():
            self.register_theme(theme)
        wanted = settings.theme or (tui.theme if tui is not None else "") or DEFAULT
        self.set_reactive(App.theme, wanted if wanted in self.available_themes else DEFAULT)  # before the first style is made
        self._keys = dict(tui.keys) if tui is not None else {}
        self.has_project = engine is not None
        self._early: list[Answered] | None = []
        """Answers that came before the app was there to take them; None: it is."""
        self.bridge = Bridge(self.root, self._deliver)
        self.definitions: DefinitionShot | None = None
        self.sound_at = ""
        self.pipeline_name = (engine.config.default_pipeline or "") if engine is not None else ""
        self.shot: RunShot | None = None
        self.pinned: str | None = None
        """Id of the run that is shown instead of the newest one."""
        self.store_trouble = ""
        """Why the store cannot be read just now."""
        self.baseline: RunRecord | None = None
        self.log_of_commands: list[Logged] = []
        self.active = ""
        self._views: dict[str, View] = {}
        self._watch = questions.Watch()
        self._looking = False
        self._pulses = 0
        self._sources: dict[str, int] = {}
        self.farewell = ""
        self.animation_level = "none"
        self.watching: Watching | None = None
        """Watch mode, while it is on."""

    # Start and end

    def compose(self) -> ComposeResult:
        yield HeaderBar()
        yield Container(id="views")
        yield KeyBar()

    async def on_mount(self) -> None:
        self.set_keymap(self._keys)
        self._take_signals()
        if not self.has_project:
            gc.enable()
            await self.open_first_run()
            return
        from mlpipe_tui.screens.first_run import remember

        remember(self.root)
        await self.open_screen("Pipeline")
        early, self._early = self._early or (), None
        for answer in early:
            self.post_message(answer)
        self.bridge.look("project", questions.project, self._got_project)
        self.set_interval(PULSE_SECONDS, self._pulse)
        if not self._looking:
            self._pulse()

    def ask_ahead(self) -> None:
        """What is shown first is read while the app is still being set up. Called once, before it runs."""
        self._looking = True
        self.bridge.look("live", self._watch.look(self.pinned, self.pipeline_name), self._got_shot)

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

    def _take_signals(self) -> None:
        """The terminal is put back as it was; runs go on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                loop.add_signal_handler(number, self._signaled, number)
            except (ValueError, NotImplementedError, RuntimeError):
                return  # not the main thread: somebody else takes signals

    def _signaled(self, number: int) -> None:
        self.exit(return_code=128 + number)

    async def open_first_run(self) -> None:
        from mlpipe_tui.screens.first_run import FirstRun

        self.active = ""
        view = FirstRun()
        await self.query_one("#views").mount(view)
        view.focus_first()
        self._redraw_header()

    def open_project(self, root: str) -> None:
        """Start over in that project."""
        self.exit(result=75, message=None)
        self.farewell = ""
        self.next_root = root

    next_root: str | None = None

    async def action_leave(self) -> None:
        going = [number for number, _ in self.shot.live] if self.shot is not None else []
        if going:
            self.farewell = "\n".join(f"run {number} goes on; `mlpipe-tui attach {number}` follows it" for number in going[:5])
        self.exit(return_code=0)

    async def action_interrupt(self) -> None:
        """Ctrl-C copies what is selected, as it does elsewhere; with nothing selected it leaves, as it does elsewhere."""
        if self.screen.get_selected_text():
            await self.run_action("copy")
        else:
            await self.action_leave()

    def _handle_exception(self, error: Exception) -> None:
        """A fault of ours: one line and where the rest is; the traceback only where it was asked for."""
        if self.settings.debug or self.is_headless:
            super()._handle_exception(error)
            return
        self.bridge.note_fault("".join(traceback.format_exception(error)))
        self._return_code = 70
        self.farewell = (
            f"error: internal error: {type(error).__name__}: {clean(str(error))}\n"
            f"hint: This is a bug of mlpipe-tui. Runs go on. The traceback is in {self.bridge.log_path}; --debug shows it."
        )
        self._exception = error
        self._exception_event.set()
        self._close_messages_no_wait()

    # What the bridge brings

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
            path: _mtime(path)
            for path in {_path_of(where) for where in places} | {os.path.join(self.root, "mlpipe.toml")}
            if path
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

    def _redraw_header(self) -> None:
        bar = self.query_one(HeaderBar)
        if not self.has_project:
            bar.facts = ("mlpipe-tui", (), "", ("no project here", "muted"), "")
            return
        screens = tuple((key, name) for key, name, _ in _available())
        name = one_line(self.project_name, limit=24) + (" (read-only)" if self.read_only else "")
        text, tone = run_state(self.shot, self.glyphs, self.now())
        if self.store_trouble:
            text, tone = "the store cannot be read", "bad"
        elif self.pinned is not None and self.shot is not None and self.shot.run.number != self.shot.latest:
            text = f"earlier: {text}"
        bar.facts = (name, screens, self.active, (text, tone), self.watching.note if self.watching is not None else "")

    def now(self) -> datetime:
        return datetime.now().astimezone()

    # Screens

    async def open_screen(self, name: str) -> None:
        entry = next((entry for entry in _available() if entry[1] == name), None)
        if entry is None or not self.has_project:
            return
        if name not in self._views:
            from importlib import import_module

            module, _, kind = entry[2].partition(":")
            view = getattr(import_module(module), kind)(id=f"view-{name.lower()}")
            self._views[name] = view
            await self.query_one("#views").mount(view)
        for other, view in self._views.items():
            view.display = other == name
        self.active = name
        self._redraw_header()
        self._views[name].wake()
        self._views[name].focus_first()

    async def action_screen_named(self, name: str) -> None:
        await self.open_screen(name)

    async def on_header_bar_clicked(self, event: HeaderBar.Clicked) -> None:
        await self.open_screen(event.name)

    @property
    def view(self) -> View | None:
        return self._views.get(self.active)

    def action_pane(self, step: int) -> None:
        if self.screen.is_modal:
            (self.screen.focus_next if step > 0 else self.screen.focus_previous)()
        elif self.view is not None:
            self.view.next_pane(step)
        else:
            self.screen.focus_next()

    def action_zoom(self) -> None:
        if self.view is not None:
            self.view.toggle_class("-zoomed")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "screen_named":
            return (
                self.has_project
                and not isinstance(self.focused, Input)
                and any(entry[1] == parameters[0] for entry in _available())
            )
        if action in ("zoom", "copy", "copy_command", "commands", "theme", "reload", "leave", "help"):
            return not self.screen.is_modal and not (isinstance(self.focused, Input) and action not in ("help",))
        return True

    # Keys

    def watch_focused(self) -> None:
        self._redraw_keys()

    def on_descendant_focus(self) -> None:
        self._redraw_keys()

    def refresh_keys(self) -> None:
        self._redraw_keys()

    def _redraw_keys(self) -> None:
        self.call_after_refresh(self._set_keys)

    def _set_keys(self) -> None:
        try:
            bar = self.screen_stack[0].query_one(KeyBar)
        except Exception:
            return
        bar.keys = keymap.footer(self.screen.active_bindings.values(), self.get_key_display)

    def refresh_bindings(self) -> None:
        super().refresh_bindings()
        if self.is_running:
            self._redraw_keys()

    def action_help(self) -> None:
        from mlpipe_tui.screens.dialogs import Pages

        self.push_screen(
            Pages(
                "Help",
                keymap.help_lines(self.focused, self.view, self, self.screen.active_bindings.values(), self.get_key_display),
            )
        )

    def get_key_display(self, binding: Binding) -> str:
        return keymap.shown(binding.key)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and active.enabled and not binding.system and binding.id:
                yield SystemCommand(
                    f"{binding.description} ({keymap.shown(binding.key)})", binding.tooltip,
                    lambda active=active: self.run_action(active.binding.action, active.node),
                )  # fmt: skip
        for theme in themes():
            yield SystemCommand(f"Theme {theme.name}", "Colours of the app", lambda name=theme.name: setattr(self, "theme", name))
        yield SystemCommand("Screenshot", "Save the screen as SVG in the project's .mlpipe", self._save_picture)

    def _save_picture(self) -> None:
        self.tell(f"saved {self.save_screenshot(path=self.state_dir or os.getcwd())}")

    def action_theme(self) -> None:
        names = [theme.name for theme in themes()]
        self.theme = names[(names.index(self.theme) + 1) % len(names)] if self.theme in names else names[0]
        self.tell(f"theme {self.theme}")

    def action_reload(self) -> None:
        self._watch.forget()
        self.load_definitions()
        self.bridge.look("project", questions.project, self._got_project)
        if self.view is not None:
            self.view.wake()

    # Telling and copying

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

    # Steering runs

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

    async def compare(self, runs: tuple[RunRecord, ...]) -> None:
        """Side by side, on the Compare screen where there is one, else on the plain screen."""
        if not any(name == "Compare" for _, name, _ in _available()):
            self.leave_to(("compare", *(str(run.number) for run in runs)), wait=True)
            return
        await self.open_screen("Compare")
        self._views["Compare"].show_runs(runs)  # type: ignore[attr-defined]

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

    # Leaving the screen to another program

    def leave_to(self, words: tuple[str, ...], *, wait: bool = False) -> None:
        """A command of ours on the plain screen. `wait`: until Enter, because it ends at once."""
        self.log_command(words)
        command = [sys.executable, "-m", "mlpipe_tui", "-C", self.root, *words]
        code = self._outside(command, wait=wait, shown=form.command_line(words))
        if code not in (0, 130):
            self.tell(f"{form.command_line(words)} ended with {code}", bad=True)
        self._watch.forget()

    def edit(self, place: str) -> None:
        """$EDITOR at file:line."""
        path, line = _path_of(place), _line_of(place)
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
        try:
            words = shlex.split(editor)
        except ValueError:
            words = []
        if not words:
            self.tell(f"$EDITOR is not set; {path}{':' + str(line) if line else ''} is the place", bad=True)
            return
        name = os.path.basename(words[0])
        known = {
            "code": ["--goto", f"{path}:{line}"],
            "codium": ["--goto", f"{path}:{line}"],
            "subl": [f"{path}:{line}"],
            "hx": [f"{path}:{line}"],
        }
        arguments = known.get(name, [f"+{line}", path]) if line else [path]
        if not os.path.isfile(path):
            self.tell(f"{path} is not there any more", bad=True)
            return
        self._outside([*words, *arguments], wait=False, shown="")
        self.load_definitions()

    def child_environment(self) -> dict[str, str]:
        """For commands of ours: they find the same packages as this process."""
        places = [
            os.path.dirname(os.path.dirname(os.path.abspath(package.__file__ or ""))) for package in (mlpipe_engine, mlpipe_tui)
        ]
        return dict(os.environ) | {
            "PYTHONPATH": os.pathsep.join(filter(None, [*dict.fromkeys(places), os.environ.get("PYTHONPATH", "")]))
        }

    def _outside(self, command: list[str], *, wait: bool, shown: str) -> int:
        environment = self.child_environment() if command[0] == sys.executable else dict(os.environ)
        try:
            with self.suspend():
                if shown:
                    print(f"$ {clean(shown)}", flush=True)
                try:
                    code = subprocess.run(command, env=environment, check=False).returncode
                except KeyboardInterrupt:
                    code = 130
                except OSError as error:
                    print(f"{command[0]}: {error.strerror}", flush=True)
                    code, wait = 127, True
                if wait:
                    print("[Enter returns]", end="", flush=True)
                    try:
                        sys.stdin.readline()
                    except KeyboardInterrupt:
                        pass
        except Exception as error:  # no terminal to suspend: in the browser and in tests
            self.tell(f"not possible here: {error}", bad=True)
            return 0
        return code


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _path_of(where: str) -> str:
    parts = where.split(":")
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    return ":".join(parts)


def _line_of(where: str) -> int:
    rest = where[len(_path_of(where)) :].strip(":").split(":")[0]
    return int(rest) if rest.isdigit() else 0


def _check_theme(name: str, field: str, where: str) -> None:
    """Raises ConfigError with the nearest name. Textual's own themes are taken too; their contrast is not ours."""
    from textual.theme import BUILTIN_THEMES

    known = [theme.name for theme in themes()]
    if name not in known and name not in BUILTIN_THEMES:
        close = nearest(name, [*known, *BUILTIN_THEMES])
        raise ConfigError(
            f"there is no theme {name!r}" + (f"; did you mean {close!r}?" if close else ""), where=where, field=field,
            expected="one of " + ", ".join(known),
        )  # fmt: skip


def start(settings: Settings) -> int:
    """Run the app on this terminal. Returns the exit code; what is left to say is printed when the screen is back."""
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # what a shell exported once is not the size of the window now
    while True:
        try:
            engine: Engine | None = Engine.open(settings.directory)
        except ProjectNotFoundError:
            if not os.path.isdir(settings.directory or "."):
                raise  # there is no folder that could become a project
            engine = None
        if settings.theme:
            _check_theme(settings.theme, "--theme", "")
        if engine is not None:
            keymap.check(engine.config)
            if engine.config.tui.theme:
                _check_theme(engine.config.tui.theme, "tui.theme", engine.config.line("tui", "theme"))
        gc.disable()  # until the first frame is there: what is made by then stays
        app = PipelineApp(settings, engine)
        if engine is not None:
            app.ask_ahead()
            engine.close()
        mouse = settings.mouse and (engine is None or engine.config.tui.mouse)
        try:
            app.run(mouse=mouse)
        finally:
            gc.enable()
        if app.watching is not None:
            app.watching.stop()
        app.bridge.close()
        if app.next_root is not None:
            settings = Settings(
                directory=app.next_root,
                read_only=settings.read_only,
                theme=settings.theme,
                glyphs=settings.glyphs,
                mouse=settings.mouse,
                debug=settings.debug,
            )
            continue
        if app.farewell:
            print(app.farewell, file=sys.stderr if app.return_code else sys.stdout)
        return app.return_code or 0


__all__ = ["PipelineApp", "Settings", "start"]
