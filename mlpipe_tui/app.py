"""The terminal app: one shell around the screens, fed by the bridge. It starts nothing itself that would end with it.

`start` is called by `__main__`; everything else is the app's own. What the app knows is in a few attributes that only the UI thread sets.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import ConfigError, ProjectNotFoundError, nearest
from mlpipe_engine.model.records import RunRecord
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.widgets import Input

from mlpipe_tui import keymap, questions
from mlpipe_tui.bridge import Answered, Bridge
from mlpipe_tui.clean import clean, one_line
from mlpipe_tui.following import PULSE_SECONDS
from mlpipe_tui.glyphs import ASCII, choose
from mlpipe_tui.outside import Outside
from mlpipe_tui.screens.base import View
from mlpipe_tui.telling import Logged
from mlpipe_tui.themes import DEFAULT, themes
from mlpipe_tui.viewmodels.header import run_state
from mlpipe_tui.viewmodels.shots import DefinitionShot, ProjectShot, RunShot
from mlpipe_tui.widgets.bars import HeaderBar, KeyBar
from mlpipe_tui.widgets.tones import use_ascii

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the app was started; `[tui]` and `[keys]` of mlpipe.toml are read beside it."""

    directory: str | None = None
    read_only: bool = False
    theme: str = ""
    glyphs: str = "auto"
    mouse: bool = True
    debug: bool = False


class _AsciiBars(ScrollBarRender):
    """Whole cells only: what the blocks of an eighth are for, no ASCII sign can do."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "]
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "]


def _available() -> tuple[tuple[str, str, str], ...]:
    from importlib.util import find_spec

    return tuple(entry for entry in SCREENS if find_spec(entry[2].partition(":")[0]) is not None)


class PipelineApp(Outside):
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

    # Screens

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

    async def compare(self, runs: tuple[RunRecord, ...]) -> None:
        """Side by side, on the Compare screen where there is one, else on the plain screen."""
        if not any(name == "Compare" for _, name, _ in _available()):
            self.leave_to(("compare", *(str(run.number) for run in runs)), wait=True)
            return
        await self.open_screen("Compare")
        self._views["Compare"].show_runs(runs)  # type: ignore[attr-defined]

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
