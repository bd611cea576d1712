"""Whole screens as text at a few fixed sizes: what a person sees changes only on purpose. MLPIPE_UPDATE=1 writes them anew, to be read."""

from __future__ import annotations

import os
import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tui.piloted import Desk, piloted
from tui.projects import small
from worlds import World

from mlpipe_tui.app import PipelineApp

FOLDER = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 40), (60, 15))
MOMENT = datetime(2026, 3, 14, 15, 30, tzinfo=UTC)
"""When the screens are looked at; the newest run ended twenty minutes before."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("snapshots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        world = small(World(folder / "churn"))
        world.run()
        world.run(parameters={"rate": 2.0})
        world.write("src/score.py", "import sys\nraise ValueError('no score for this')\n")
        world.cli("run")
    set_times(world)
    return world


def set_times(world: World) -> None:
    """Durations and moments as they are on no machine, so that screens are equal on all."""
    with sqlite3.connect(world.root / ".mlpipe/state.db") as db:
        for (number,) in db.execute("SELECT number FROM runs").fetchall():
            began, ended = f"2026-03-14T15:0{number}:00.000000Z", f"2026-03-14T15:0{number}:09.500000Z"
            db.execute(
                "UPDATE runs SET created_at = ?, started_at = ?, finished_at = ?, seconds = 9.5 WHERE number = ?",
                (began, began, ended, number),
            )
            db.execute("UPDATE step_runs SET queued_at = ? WHERE run = ?", (began, number))
            db.execute(
                "UPDATE step_runs SET started_at = ?, finished_at = ?, seconds = 1.5 + idx WHERE run = ? AND started_at IS NOT NULL",
                (began, ended, number),
            )
        db.execute("UPDATE step_runs SET expected_seconds = 2.0 + idx, cpu_seconds = 0.5, peak_memory_bytes = 20000000")
        db.execute("UPDATE results SET seconds = 2.0, finished_at = '2026-03-14T15:00:00.000000Z'")
        db.execute("UPDATE metrics SET time = '2026-03-14T15:00:00.000000Z'")
    db.close()


def as_anywhere(screen: str) -> str:
    """Without what is another each time: the id of a run, how much is installed, the folder of the test and what its length moves."""
    screen = re.sub(r"\b[0-9a-f]{32}\b", "0" * 32, screen)
    screen = re.sub(r"\b\d+ distributions", lambda found: "n distributions".rjust(len(found.group())), screen)
    screen = re.sub(r"[^│\n]*(File \"|snapshots\d+/churn)[^│\n]*", " (a path) ", screen)
    return re.sub(r"(?m)^│[ ▏▎▍▌▋▊▉█]*[▏▎▍▌▋▊▉█][ ▏▎▍▌▋▊▉█]*│$", lambda found: f"│{' ' * (len(found.group()) - 2)}│", screen)


async def pipeline(desk: Desk) -> None:
    await desk.wait("run 3 failed")
    await desk.press("home", "down", "down", "enter")
    await desk.wait("no score for this")


async def log(desk: Desk) -> None:
    await pipeline(desk)
    await desk.press("right_square_bracket")
    await desk.wait("Traceback", "ValueError: no score")


async def plan(desk: Desk) -> None:
    await desk.wait("run 3 failed")
    await desk.press("p")
    await desk.wait("plan · 1 to run")


async def runs(desk: Desk) -> None:
    await desk.wait("run 3 failed")
    await desk.press("2")
    await desk.wait("Runs · 3")


async def compare(desk: Desk) -> None:
    await runs(desk)
    await desk.press("down", "space", "down", "space", "c")
    await desk.wait("Compare 2 runs", "rate")


async def form(desk: Desk) -> None:
    await desk.wait("run 3 failed")
    await desk.press("r")
    await desk.wait("Run churn", "1 to run")


async def help_of_the_pane(desk: Desk) -> None:
    await desk.wait("run 3 failed")
    await desk.press("question_mark")
    await desk.wait("Help")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", [pipeline, log, plan, runs, compare, form, help_of_the_pane], ids=lambda scene: scene.__name__)
def test_a_screen_is_as_it_was(project: World, monkeypatch: pytest.MonkeyPatch, scene: object, size: tuple[int, int]) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(PipelineApp, "now", lambda self: MOMENT)
    shown: list[str] = []

    async def act(desk: Desk) -> None:
        await scene(desk)  # type: ignore[operator]
        await desk.pilot.pause(0.3)
        shown.append(desk.screen)

    piloted(project.root, act, size=size, glyphs="unicode")
    text = "".join(line.rstrip() + "\n" for line in as_anywhere(shown[0]).splitlines())
    path = FOLDER / f"{scene.__name__}-{size[0]}x{size[1]}.txt"  # type: ignore[attr-defined]
    if os.environ.get("MLPIPE_UPDATE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"read both; MLPIPE_UPDATE=1 keeps the new one:\n{text}"
