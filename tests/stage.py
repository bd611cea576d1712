"""A small app that puts one widget on a terminal of a given size, for tests that press keys and read the screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot
from textual.widget import Widget

from mlpipe_tui import themes
from mlpipe_tui.widgets.copying import Copy


class Stage(App[None]):
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, make: Callable[[], Widget], css: str = "") -> None:
        self.CSS = css  # type: ignore[misc]
        super().__init__()
        self.make = make
        self.copies: list[str] = []
        self.heard: list[Message] = []
        for theme in themes.themes():
            self.register_theme(theme)
        self.theme = themes.DEFAULT

    def compose(self) -> ComposeResult:
        yield self.make()

    def on_copy(self, message: Copy) -> None:
        self.copies.append(message.text)


class Seat:
    """Where a test sits: the keys, the screen, the widget."""

    def __init__(self, app: Stage, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def heard(self, kind: type[Message]) -> list[Any]:
        """Messages of that kind, each once, in the order they were sent."""
        return list({id(message): message for message in self.app.heard if type(message) is kind}.values())

    def rows(self) -> list[str]:
        """What stands on the screen, row by row."""
        width, height = self.app.size
        return [
            "".join(segment.text for segment in strip)[:width].rstrip()
            for strip in self.app.screen._compositor.render_strips()[:height]
        ]

    @property
    def text(self) -> str:
        return "\n".join(self.rows())

    async def until(self, what: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait for it; fails with the screen's text."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, f"waited in vain; the screen says:\n{self.text}"
            await self.pilot.pause(0.02)


def play(
    make: Callable[[], Widget], act: Callable[[Seat], Awaitable[None]], size: tuple[int, int] = (80, 24), **more: Any
) -> None:
    """Run the app, let `act` play, end it. What goes wrong inside the app fails the test."""

    async def run() -> None:
        app = Stage(make, **more)
        async with app.run_test(size=size, message_hook=app.heard.append) as pilot:
            await pilot.pause()
            await act(Seat(app, pilot))

    asyncio.run(run())
