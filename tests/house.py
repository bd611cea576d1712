"""The whole app on a project, without a terminal: keys in, the text of the screen out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mlpipe_engine.engine import Engine

from mlpipe_tui.app import PipelineApp, Settings


def drive(root: Path, act: Callable[[PipelineApp, Any], Awaitable[None]], size: tuple[int, int] = (100, 30)) -> None:
    async def run() -> None:
        engine = Engine.open(str(root))
        app = PipelineApp(Settings(glyphs="unicode"), engine)
        engine.close()
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)
        app.bridge.close()

    asyncio.run(run())


def screen_text(app: PipelineApp) -> str:
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in app.screen._compositor.render_strips())


async def until(app: PipelineApp, pilot: Any, what: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, screen_text(app)
        await pilot.pause(0.05)
