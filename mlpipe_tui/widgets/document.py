"""Lines of styled text that scroll and can be selected with the mouse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from mlpipe_tui.viewmodels.rich_lines import Line, plain
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.tones import contents


class Document(VerticalScroll, can_focus=True):
    """Shows lines; the same lines again keep the place."""

    DEFAULT_CSS = """
    Document { background: $surface; scrollbar-size-vertical: 1; }
    Document > Static { width: 1fr; height: auto; background: $surface; color: $text; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "End", show=False),
        Binding("y", "copy", "Copy", id="document.copy"),
    ]

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.lines: tuple[Line, ...] = ()
        self.copied = ""
        """What `y` copies instead of the lines; "" is the lines."""

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def show(self, lines: Sequence[Line], *, copied: str = "") -> None:
        self.copied = copied
        if tuple(lines) == self.lines:
            return
        self.lines = tuple(lines)
        if self.is_mounted:
            self.query_one(Static).update(contents(self.lines))

    def on_mount(self) -> None:
        self.query_one(Static).update(contents(self.lines))

    def action_copy(self) -> None:
        self.post_message(Copy(self.copied or plain(self.lines), "this pane"))
