"""What a person sees in a folder that is no project: four ways in, and what each writes before it writes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from mlpipe_tui.clean import one_line
from mlpipe_tui.screens.base import View
from mlpipe_tui.screens.dialogs import Ask, Choice, Pick
from mlpipe_tui.viewmodels.form import command_line
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.widgets.frame import Pane
from mlpipe_tui.widgets.tones import contents

_EXAMPLE = "mlpipe-example"
_MOST_RECENT = 10


def recent_path() -> str:
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "mlpipe-tui", "recent.json")


def recent() -> list[str]:
    """Projects that were opened before and are still there, newest first."""
    try:
        with open(recent_path(), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return []
    return [path for path in found if isinstance(path, str) and os.path.isfile(os.path.join(path, "mlpipe.toml"))][:_MOST_RECENT]


def remember(root: str) -> None:
    """For the next first run. Not being able to is no trouble."""
    path = recent_path()
    roots = [root, *(other for other in recent() if other != root)][:_MOST_RECENT]
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            json.dump(roots, file)
        os.replace(f"{path}.{os.getpid()}", path)
    except OSError:
        pass


class FirstRun(View):
    HELP = "No project here yet. Everything here is also on the command line: mlpipe-tui init --help."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(str(number), f"choose({number})", show=False) for number in range(1, 5)
    ]  # fmt: skip
    DEFAULT_CSS = """
    FirstRun OptionList { height: auto; border: none; background: $surface; padding: 0; }
    FirstRun .pane-body { height: 1fr; }
    FirstRun Static { height: auto; background: $surface; }
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._scripts: list[str] = []

    def compose(self) -> ComposeResult:
        from textual.containers import VerticalScroll

        here = self.tui.root
        self._scripts = _scripts(here)
        self.place_for_example = here if not _names(here) else os.path.join(here, _EXAMPLE)
        shown = "this folder" if self.place_for_example == here else f"./{_EXAMPLE}"
        first = f": {self._scripts[0]} is here" if self._scripts else ": there is no script here yet"
        opened = " · ".join(_short(path) for path in recent()[:3])
        options = [
            ("1", "Try the example", f"writes 5 files to {shown}; runs in seconds, no network, no Docker"),
            ("2", "New project", "writes mlpipe.toml here (shown before it is written)"),
            ("3", "Open a folder", f"recent: {opened}" if opened else "that is a project already"),
            ("4", "Wrap a script", f"makes a one-step pipeline of it{first}"),
        ]
        rows = [Option(_row(key, title, about), id=key) for key, title, about in options]
        command = Line.of("Everything here is also on the command line:  ", ("mlpipe-tui init --example", "accent"))
        below = Static(contents([Line(), *_found(), Line(), command]), markup=False)
        body = VerticalScroll(OptionList(*rows, compact=True), below, can_focus=False)
        yield Pane(body, title=f"No project here yet: {one_line(here, limit=80)}")

    def focus_first(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_choose(int(event.option.id or "1"))

    def action_choose(self, number: int) -> None:
        (self._example, self._new, self._open, self._wrap)[number - 1]()

    def _example(self) -> None:
        place = self.place_for_example
        files = ["mlpipe.toml", "pipelines/words.py", "src/split.py", "src/count.py", "data/text.txt"]
        self._confirm("Try the example", place, files, ("init", "--example"))

    def _new(self) -> None:
        self._confirm("New project", self.tui.root, ["mlpipe.toml"], ("init",))

    def _wrap(self) -> None:
        if not self._scripts:
            self.tui.tell("there is no Python script in this folder", bad=True)
            return

        def chosen(script: str | None) -> None:
            if script is not None:
                name = os.path.splitext(os.path.basename(script))[0]
                self._confirm(
                    f"Wrap {script}", self.tui.root, ["mlpipe.toml", f"pipelines/{name}.py"], ("init", "--wrap", script)
                )

        self.app.push_screen(Pick("Which script?", [(script, "") for script in self._scripts]), chosen)

    def _confirm(self, title: str, place: str, files: Sequence[str], words: tuple[str, ...]) -> None:
        lines = [Line.of("Writes into ", (place, "strong"), ":"), *(Line.of("  ", name) for name in files), Line(),
                 Line.of((command_line(("-C", place, *words) if place != self.tui.root else words), "accent"))]  # fmt: skip
        self.app.push_screen(
            Choice(title, lines, [("w", "write them"), ("l", "leave it")]),
            lambda key: self._write(place, words) if key == "w" else None,
        )

    def _write(self, place: str, words: tuple[str, ...]) -> None:
        try:
            os.makedirs(place, exist_ok=True)
        except OSError as error:
            self.tui.tell(f"cannot make {place}: {error.strerror}", bad=True)
            return
        done = subprocess.run(
            [sys.executable, "-m", "mlpipe_tui", *words, "--directory", place], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env=self.tui.child_environment(), timeout=60,
        )  # fmt: skip
        if done.returncode != 0:
            self.tui.tell(done.stderr.strip().replace("\n", "  ") or f"init ended with {done.returncode}", bad=True)
            return
        self.tui.open_project(place)

    def _open(self) -> None:
        def problem(text: str) -> str:
            path = os.path.expanduser(text)
            if not os.path.isdir(path):
                return f"{text} is no folder"
            return "" if os.path.isfile(os.path.join(path, "mlpipe.toml")) else f"{text} has no mlpipe.toml; 2 makes one here"

        def given(text: str | None) -> None:
            if text:
                self.tui.open_project(os.path.abspath(os.path.expanduser(text)))

        known = recent()
        lines = [Line.of("The folder of a project:"), *(Line.of(("  " + path, "muted")) for path in known)]
        self.app.push_screen(Ask("Open a folder", lines, known[0] if known else "", check=problem), given)


def _names(folder: str) -> list[str]:
    """None where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _row(key: str, title: str, about: str) -> Content:
    return Content.assemble((f" {key}  ", "$text-accent bold"), (f"{title:<18}", "bold"), (one_line(about), "$text-muted"))


def _scripts(folder: str) -> list[str]:
    """Python files that look like scripts: here, in src/ or in scripts/."""
    found = []
    for below in ("", "src", "scripts"):
        path = os.path.join(folder, below)
        names = _names(path)
        found += [
            os.path.join(below, name)
            for name in names
            if name.endswith(".py") and not name.startswith(("_", "test_")) and name not in ("setup.py", "conftest.py")
        ]
    return found[:50]


def _short(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def _found() -> list[Line]:
    """What is on this machine that pipelines may use."""
    import shutil

    have = [f"python {sys.version.split()[0]}"]
    lack: list[str] = []
    for name, program in (("git", "git"), ("uv", "uv"), ("Docker", "docker")):
        (have if shutil.which(program) else lack).append(name)
    rows = [Line.of(("Found      ", "muted"), " · ".join(have))]
    if lack:
        rows.append(
            Line.of(
                ("Not found  ", "muted"),
                " · ".join(lack),
                (" (steps run as local processes)" if "Docker" in lack else "", "muted"),
            )
        )
    return rows
