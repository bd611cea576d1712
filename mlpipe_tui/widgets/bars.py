"""The first and the last line of the screen: where one is, and which keys matter here."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from mlpipe_tui.clean import clean
from mlpipe_tui.viewmodels.header import Header
from mlpipe_tui.widgets.tones import content

MOST_KEYS = 9


class HeaderBar(Widget):
    """Project, screens and the state of the run. A click on a screen's name opens it."""

    DEFAULT_CSS = "HeaderBar { height: 1; dock: top; background: $panel; color: $text; }"
    header: reactive[Header | None] = reactive(None)

    class Clicked(Message):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def render(self) -> Content:
        return content(self.header.spans) if self.header is not None else Content("")

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self.header.targets if self.header is not None else ():
            if start <= event.x < end:
                self.post_message(self.Clicked(name))


class KeyBar(Widget):
    """At most nine keys of where the focus is. A click on one does what the key does."""

    DEFAULT_CSS = "KeyBar { height: 1; dock: bottom; background: $panel; color: $text; }"
    keys: reactive[tuple[tuple[str, str, str], ...]] = reactive(())
    """(key, as it is shown, what it does)."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._places: list[tuple[int, int, str]] = []

    def render(self) -> Content:
        parts: list[tuple[str, str]] = []
        self._places, at = [], 0
        for key, shown, description in self.keys[:MOST_KEYS]:
            text = f" {shown} {clean(description)} "
            if at + cell_len(text) > self.size.width:
                continue
            parts += [(f" {shown} ", "$footer-key-foreground bold"), (f"{clean(description)} ", "")]
            self._places.append((at, at + cell_len(text), key))
            at += cell_len(text)
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._places:
            if start <= event.x < end:
                self.app.simulate_key(key)
