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
from mlpipe_tui.viewmodels.header import Header, header
from mlpipe_tui.widgets.tones import content

MOST_KEYS = 9
HeaderFacts = tuple[str, tuple[tuple[str, str], ...], str, tuple[str, str], str]
"""What `viewmodels.header.header` takes before the width."""


class HeaderBar(Widget):
    """Project, screens and the state of the run. A click on a screen's name opens it."""

    DEFAULT_CSS = "HeaderBar { height: 1; dock: top; background: $panel; color: $text; }"
    facts: reactive[HeaderFacts | None] = reactive(None)

    class Clicked(Message):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._shown: Header | None = None

    def render(self) -> Content:
        if self.facts is None:
            return Content("")
        self._shown = header(*self.facts, self.size.width)
        return content(self._shown.spans)

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._shown.targets if self._shown is not None else ():
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
        for key, shown, description in self._fitting():
            text = f" {shown} {clean(description)} "
            parts += [(f" {shown} ", "$footer-key-foreground bold"), (f"{clean(description)} ", "")]
            self._places.append((at, at + cell_len(text), key))
            at += cell_len(text)
        return Content.assemble(*parts)

    def _fitting(self) -> list[tuple[str, str, str]]:
        """As many as there is room for; the last two (help and quit) are the last to go."""
        keys = list(self.keys[:MOST_KEYS])
        while keys and sum(cell_len(shown) + cell_len(clean(text)) + 3 for _, shown, text in keys) > self.size.width:
            keys.pop(-3 if len(keys) > 2 else 0)
        return keys

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._places:
            if start <= event.x < end:
                self.app.simulate_key(key)
