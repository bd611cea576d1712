"""The app without a terminal: keys through Textual's pilot, the screen as text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import ProjectNotFoundError
from textual.pilot import Pilot

from mlpipe_tui.app import PipelineApp, Settings

PATIENCE_SECONDS = 30.0


class Desk:
    """An app that runs, and what a person at it would see."""

    def __init__(self, app: PipelineApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def screen(self) -> str:
        """Every cell as it is drawn."""
        width, height = self.app.size
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).ljust(width) for strip in strips[:height])

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        for character in text:
            await self.pilot.press("space" if character == " " else character)
        await self.pilot.pause()

    async def wait(self, *texts: str, gone: str = "") -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            await self.pilot.pause(0.05)
            shown = self.screen
            if all(text in shown for text in texts) and not (gone and gone in shown):
                return shown
        raise AssertionError(f"{texts} (without {gone!r}) did not appear on\n{self.screen}")

    async def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"it never became true; the screen is\n{self.screen}"
            await self.pilot.pause(0.05)


def piloted(
    root: Path, scenario: Callable[[Desk], Awaitable[None]], *, size: tuple[int, int] = (100, 30), **settings: Any
) -> PipelineApp:
    async def main() -> PipelineApp:
        try:
            engine: Engine | None = Engine.open(str(root))
        except ProjectNotFoundError:
            engine = None
        app = PipelineApp(Settings(directory=str(root), **settings), engine)
        async with app.run_test(size=size, notifications=True) as pilot:
            await scenario(Desk(app, pilot))
        app.bridge.close()
        return app

    return asyncio.run(main())
