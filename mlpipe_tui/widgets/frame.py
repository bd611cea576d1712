"""A pane: a frame whose upper edge is its title and its tabs, around one body. The mouse works on the tabs."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from mlpipe_tui.clean import clipped
from mlpipe_tui.widgets.tones import separated


class FrameBar(Widget):
    """The upper edge of a pane: ╭─ title   Why  [Log]  Metrics ───╮"""

    DEFAULT_CSS = """
    FrameBar { height: 1; color: $border-blurred; background: $surface; }
    """
    title: reactive[str] = reactive("")
    tabs: reactive[tuple[str, ...]] = reactive(())
    active: reactive[int] = reactive(0)

    class Clicked(Message):
        def __init__(self, bar: FrameBar, tab: int) -> None:
            super().__init__()
            self.bar, self.tab = bar, tab

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._places: list[tuple[int, int, int]] = []

    def render(self) -> Content:
        ascii_only = self.has_class("-ascii") or getattr(self.app, "ascii_only", False)
        left, line, right = ("+", "-", "+") if ascii_only else ("╭", "─", "╮")
        width = self.size.width
        tabs = sum(len(name) + 2 for name in self.tabs)
        name = separated(self.title)
        title = clipped(name, max(min(cell_len(name), 24, width - 20), width - tabs - 7, 4), "~" if ascii_only else "…")
        parts: list[tuple[str, str]] = [(f"{left}{line} ", ""), (title, "$text bold"), (" ", "")]
        at = 4 + cell_len(title)
        self._places = []
        for number in self._fitting(width - at - 3):
            name, chosen = self.tabs[number], number == self.active
            text = f"[{name}]" if chosen else f" {name} "
            self._places.append((at, at + len(text), number))
            parts.append((text, "$text-primary bold" if chosen else "$text-muted"))
            at += len(text)
        parts.append((f"{' ' if self.tabs else ''}{line * max(0, width - at - 1 - (1 if self.tabs else 0))}{right}", ""))
        return Content.assemble(*parts)

    def _fitting(self, room: int) -> list[int]:
        """The open tab and as many of its neighbours as there is room for."""
        shown = [self.active] if self.tabs else []
        for number in [*range(self.active + 1, len(self.tabs)), *range(self.active - 1, -1, -1)]:
            if sum(len(self.tabs[other]) + 2 for other in (*shown, number)) > room:
                continue
            shown.append(number)
        return sorted(shown)

    def on_click(self, event: events.Click) -> None:
        for start, end, number in self._places:
            if start <= event.x < end:
                self.post_message(self.Clicked(self, number))


class Pane(Vertical):
    """The bar and one body below it. A pane with tabs knows which one is open."""

    DEFAULT_CSS = """
    Pane { height: 1fr; width: 1fr; background: $surface; }
    Pane > .pane-body { height: 1fr; border: round $border-blurred; border-top: none; padding: 0 1; background: $surface; }
    Pane:focus-within > FrameBar { color: $border; }
    Pane:focus-within > .pane-body { border: round $border; border-top: none; }
    Pane.-ascii > .pane-body { border: ascii $border-blurred; border-top: none; }
    """

    class TabChosen(Message):
        def __init__(self, pane: Pane, name: str) -> None:
            super().__init__()
            self.pane, self.name = pane, name

        @property
        def control(self) -> Pane:
            return self.pane

    def __init__(self, *bodies: Widget, title: str = "", tabs: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(**more)
        self.bar = FrameBar()
        self.bar.title, self.bar.tabs = title, tabs
        self._bodies = bodies
        for body in bodies:
            body.add_class("pane-body")

    def compose(self) -> ComposeResult:
        yield self.bar
        yield from self._bodies

    def on_mount(self) -> None:
        self.set_class(bool(getattr(self.app, "ascii_only", False)), "-ascii")

    @property
    def tab(self) -> str:
        return self.bar.tabs[self.bar.active] if self.bar.tabs else ""

    def open_tab(self, name: str) -> None:
        if name in self.bar.tabs and name != self.tab:
            self.bar.active = self.bar.tabs.index(name)
            self.post_message(self.TabChosen(self, name))

    def turn(self, step: int) -> None:
        if self.bar.tabs:
            self.open_tab(self.bar.tabs[(self.bar.active + step) % len(self.bar.tabs)])

    def on_frame_bar_clicked(self, event: FrameBar.Clicked) -> None:
        event.stop()
        self.open_tab(self.bar.tabs[event.tab])
