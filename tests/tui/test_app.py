"""What the app does when keys are pressed and when the project changes below it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.states import FINAL
from tui.piloted import Desk, piloted
from tui.projects import small
from worlds import World

from mlpipe_tui.widgets.bars import KeyBar


@pytest.fixture
def project(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return small(world)


def test_plan_form_run_and_why(project: World) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.wait("churn · plan · 1 to run", "never ran")
        await desk.press("r")
        shown = await desk.wait("Run churn", "rate", "float 0..9", "mlpipe-tui run churn --detach")
        assert "1 to run, 3 to be decided" in shown
        await desk.press("home", "1")
        await desk.wait("10.5 is out of range")
        await desk.press("enter")
        await desk.wait("10.5 is out of range")
        await desk.press("home", "ctrl+k")
        await desk.type("2.5")
        await desk.wait("--param rate=2.5")
        await desk.press("enter")
        await desk.wait("run 1 succeeded 4/4")
        await desk.press("down", "right_square_bracket")
        await desk.wait("trained with 2.5")
        await desk.press("right_square_bracket")
        await desk.wait("auc", "2.5", "▁")
        await desk.press("r")
        await desk.wait("Run churn", "1 to run")
        await desk.press("enter")
        await desk.wait("run 2 succeeded 4/4")
        await desk.press("left_square_bracket", "left_square_bracket")
        shown = await desk.wait("≠ params   rate  2.5 → 0.5")
        assert "1 of 6 facts differ" in shown and "mlpipe-tui run churn --param rate=2.5" in shown
        await desk.press("Y")
        await desk.until(lambda: (project.root / ".mlpipe/clip.txt").exists())
        assert (project.root / ".mlpipe/clip.txt").read_text() == "mlpipe-tui run churn --detach"
        await desk.press("tilde")
        await desk.wait("mlpipe-tui run churn --param rate=2.5 --detach", "run 2 started")

    piloted(project.root, scenario)
    engine = Engine.open(str(project.root))
    assert [run.source for run in engine.runs()] == ["tui", "tui"]
    engine.close()


def test_a_change_is_planned_accepted_and_kept(project: World) -> None:
    project.run()
    project.write("src/train.py", (project.root / "src/train.py").read_text() + "# a comment\n")

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 succeeded")
        await desk.press("p", "down")
        await desk.wait("plan · 1 to run", "src/train.py +1 -0", "would run")
        await desk.press("a")
        await desk.wait("Why does the change not matter")
        await desk.press("enter")
        await desk.wait("a reason is needed")
        await desk.type("only a comment")
        await desk.press("enter")
        await desk.wait("nothing to do: 4 of 4 reused", "only a comment")
        await desk.press("escape")
        await desk.wait("run 1 succeeded ·", gone="plan ·")

    piloted(project.root, scenario)
    assert project.plan()["train"] == "Reuse"


def test_a_failure_names_the_line_and_is_mended_with_one_key(project: World, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (project.root / "src/train.py").read_text()
    project.write("src/train.py", "import sys\n\ndef fit():\n    raise ValueError('NaN in column plan')\n\nfit()\n")
    project.run()
    monkeypatch.setenv("EDITOR", "")

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 failed", "- skipped" if desk.app.ascii_only else "– skipped")
        await desk.press("down")
        await desk.wait("ValueError: NaN in column plan  src/train.py:4", "E opens it")
        await desk.press("right_square_bracket")
        await desk.wait("train · stderr", "Traceback (most recent call last)")
        await desk.press("E")
        await desk.wait("$EDITOR is not set", "train.py:4 is the place")
        project.write("src/train.py", good)
        await desk.press("R")
        await desk.wait("run 2 succeeded 4/4")

    piloted(project.root, scenario, size=(120, 34))


def test_a_live_run_is_followed_and_canceled(project: World) -> None:
    project.write("src/profile.py", "import time\nprint('tick', flush=True)\ntime.sleep(60)\n")
    project.cli("run", "--detach")

    async def scenario(desk: Desk) -> None:
        await desk.wait("● running", "run 1 ● 3/4")
        assert "x Cancel" in desk.screen
        await desk.press("x")
        await desk.wait("run 1 canceled", "⊘ canceled")
        assert "x Cancel" not in await desk.wait("R Retry")

    piloted(project.root, scenario)


def test_a_lost_runner_is_told_and_resumed(project: World) -> None:
    project.write(
        "src/profile.py", "import os, time\ntime.sleep(0 if os.path.exists('/proc/1/nothing') or os.environ.get('X') else 60)\n"
    )
    project.cli("run", "--detach")
    engine = Engine.open(str(project.root))
    while not any(step.name == "profile" and step.state == "running" for step in engine.steps(engine.find_run("1").id)):
        pass
    from mlpipe_engine.store import locks

    owner = int(locks.owner_of(str(project.root / f".mlpipe/locks/runs/{engine.find_run('1').id}")).split()[1])

    async def scenario(desk: Desk) -> None:
        await desk.wait("● running")
        os.kill(owner, 9)
        await desk.wait("! interrupted", "run 1 interrupted (R goes on)")
        project.write("src/profile.py", "print('fast now')\n")
        await desk.press("R")
        await desk.wait("run 1 succeeded 4/4")

    piloted(project.root, scenario)
    assert engine.find_run("1").state in FINAL
    engine.close()


def test_runs_are_filtered_marked_and_compared_with_a_baseline(project: World) -> None:
    project.run()
    project.run(parameters={"rate": 2.0})
    project.run(parameters={"rate": 3.0})

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 3 succeeded")
        await desk.press("2")
        await desk.wait("Runs · 3", "rate=3.0", "2/4", "▁")
        await desk.press("end", "b")
        await desk.wait("(baseline)", "rate 0.5→3.0")
        await desk.press("home", "tab", "right_square_bracket")
        await desk.wait("Against run 1", "param   rate  0.5 → 3.0", "train.auc")
        await desk.press("tab", "slash")
        await desk.type("param.rate>=2 !state:failed")
        await desk.wait("Runs · 2/3")
        await desk.type(" metric.auc<1")
        await desk.wait("No run fits", "without metric.auc<1: 2 runs")
        await desk.press("escape")
        await desk.wait("Runs · 3", gone="filter:")
        await desk.press("space")
        await desk.wait("1 marked")
        await desk.press("end", "enter")
        await desk.wait("[1 Pipeline]", "run 1 succeeded", "earlier: ✓ run 1")
        await desk.press("escape")
        await desk.wait("run 3 succeeded", gone="earlier:")
        await desk.press("2", "home", "D")
        await desk.wait("into the trash", "gc --undo")
        await desk.press("D")
        assert "into the trash" in desk.screen, "the key that opened it never confirms it"
        await desk.press("t")
        await desk.wait("moved into the trash")

    piloted(project.root, scenario)


def test_a_broken_definition_keeps_the_last_good_graph(project: World) -> None:
    project.run()

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 succeeded")
        good = (project.root / "pipeline.py").read_text()
        project.write("pipeline.py", good + "\nraise RuntimeError('half written')\n")
        await desk.wait("definition broken", "half written", "train")
        await desk.press("p")
        await desk.wait("RuntimeError: half written", "line")
        project.write("pipeline.py", good)
        await desk.wait("run 1 succeeded", gone="definition broken")

    piloted(project.root, scenario)


def test_no_pipeline_and_no_project(world: World, project: World) -> None:
    (project.root / "pipeline.py").unlink()

    async def empty(desk: Desk) -> None:
        await desk.wait("No pipeline can be shown", "hint:")

    piloted(project.root, empty)
    (project.root / "mlpipe.toml").unlink()

    async def nothing(desk: Desk) -> None:
        await desk.wait(
            "No project here yet", "Try the example", "New project", "Open a folder", "Wrap a script", "clean.py is here"
        )
        await desk.press("4")
        await desk.wait("Which script?", "train.py")
        await desk.press("escape", "3")
        await desk.wait("The folder of a project")
        await desk.type("/nowhere")
        await desk.press("enter")
        await desk.wait("is no folder")

    piloted(project.root, nothing)


def test_read_only_offers_no_key_that_changes_something(project: World) -> None:
    project.run()
    before = project.files()

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 succeeded", "read-only")
        await desk.press("r", "f", "x", "R", "a")
        shown = await desk.wait("p Plan")
        assert "r Run" not in shown and not desk.app.screen.is_modal
        await desk.press("p")
        await desk.wait("nothing to do")
        await desk.press("2", "D")
        await desk.wait("Runs · 1")
        assert not desk.app.screen.is_modal

    piloted(project.root, scenario, read_only=True)
    assert {name: body for name, body in project.files().items() if ".db" not in name} == {
        name: body for name, body in before.items() if ".db" not in name
    }


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (160, 45), (200, 50)])
def test_every_screen_at_every_size(project: World, size: tuple[int, int]) -> None:
    project.run()

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 succeeded 4/4")
        for key in ("1", "2", "6"):
            await desk.press(key)
            await desk.wait("[" + key)
            rows = desk.screen.splitlines()
            assert len(rows) == size[1] and all(len(row) <= size[0] for row in rows)
            assert len(desk.app.query_one(KeyBar).keys) <= 9
            assert "? Help" in rows[-1] and "q Quit" in rows[-1]
        await desk.press("question_mark")
        await desk.wait("Help")

    piloted(project.root, scenario, size=size)


def test_ascii_only(project: World) -> None:
    project.run()

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 succeeded 4/4", "+ succeeded")
        for key in ("1", "2", "6", "question_mark"):
            await desk.press(key)
            await desk.pilot.pause(0.3)
            assert desk.screen.isascii(), {character for character in desk.screen if not character.isascii()}

    piloted(project.root, scenario, glyphs="ascii", size=(110, 32))


def test_hostile_names_are_dead_on_the_screen(project: World) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\u202e\x9b31m[@click=app.bell]"
    project.write("src/train.py", f"import sys\nprint({evil!r})\nopen(sys.argv[2], 'w').write('x')\nfrom mlpipe_run import Run\n"
                  f"Run.get_context().log({evil!r}, 1.0)\nraise ValueError({evil!r})\n")  # fmt: skip
    project.run(tags=((evil[:20], evil),))

    seen: list[str] = []

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 failed")
        for key in ("1", "down", *["right_square_bracket"] * 6, "2", "right_square_bracket", "question_mark", "escape", "tilde"):
            await desk.press(key)
            await desk.pilot.pause(0.2)
            shown = desk.screen
            seen.append(shown)
            assert not any(
                (ord(character) < 32 and character != "\n") or 0x7F <= ord(character) < 0xA0 or character == "\u202e"
                for character in shown
            )
        assert any("[red]x[/red]" in shown for shown in seen), "what looks like markup is text"

    piloted(project.root, scenario)


def test_a_store_of_a_newer_version_is_told_once_and_left_alone(project: World) -> None:
    project.run()
    path = project.root / ".mlpipe/state.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")

    def told_by_the_file() -> list[object]:
        with closing(sqlite3.connect(path)) as database:
            return [database.execute("PRAGMA user_version").fetchone(), *database.iterdump()]

    before = told_by_the_file()

    async def scenario(desk: Desk) -> None:
        await desk.wait("the store cannot be read", "schema version 99", "Install the newer mlpipe-tui")
        await desk.pilot.pause(2.0)
        told = [entry for entry in desk.app.log_of_commands if "schema version 99" in entry.text]
        assert 1 <= len(told) <= 2, "asked twice a second, told once"
        await desk.press("2")
        await desk.wait("schema version 99", "[2 Runs]")

    piloted(project.root, scenario)
    assert told_by_the_file() == before


def test_a_fault_in_a_question_ends_neither_the_app_nor_the_run(project: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe_tui import questions

    project.run()
    monkeypatch.setattr(questions, "_outputs", lambda *_: 1 / 0)

    async def scenario(desk: Desk) -> None:
        await desk.wait("internal error: ZeroDivisionError", "bug of mlpipe-tui", "run 1 succeeded")
        assert "ZeroDivisionError" in Path(desk.app.bridge.log_path).read_text()
        await desk.press("2")
        await desk.wait("Runs · 1")

    piloted(project.root, scenario)


def test_the_mouse_does_what_keys_do(project: World) -> None:
    project.run()

    async def scenario(desk: Desk) -> None:
        shown = await desk.wait("run 1 succeeded 4/4")
        rows = shown.splitlines()

        async def click(text: str) -> None:
            y = next(number for number, row in enumerate(rows) if text in row)
            await desk.pilot.click(offset=(rows[y].index(text) + 1, y))
            await desk.pilot.pause()

        await click("score")
        rows = (await desk.wait("score ✓")).splitlines()
        await click(" Code ")
        rows = (await desk.wait("[Code]", "defined in")).splitlines()
        await click("p Plan")
        rows = (await desk.wait("nothing to do")).splitlines()
        await click("2 Runs")
        await desk.wait("[2 Runs]", "Runs · 1")

    piloted(project.root, scenario)


def test_watch_mode_runs_what_a_save_touches_and_is_switched_off(project: World) -> None:
    project.run()

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 succeeded")
        await desk.press("w")
        await desk.wait("watch on", "watching churn")
        project.write("src/train.py", (project.root / "src/train.py").read_text() + "# more\n")
        await desk.wait("run 2 succeeded", "watch on")
        await desk.press("tilde")
        await desk.wait("mlpipe-tui watch", "watch: src/train.py +1 -0 -> train")
        await desk.press("escape", "w")
        shown = await desk.wait("watch off; a run that is going on goes on")
        assert "watch on" not in shown
        project.write("src/train.py", (project.root / "src/train.py").read_text() + "# and more\n")
        await desk.press("p")
        await desk.wait("plan · 1 to run")

    piloted(project.root, scenario)
    engine = Engine.open(str(project.root))
    assert [run.source for run in engine.runs()] == ["watch", "cli"]
    engine.close()


def test_watch_mode_asks_where_the_project_says_so_and_survives_a_broken_definition(project: World) -> None:
    project.write("mlpipe.toml", '[watch]\nask = ["src/train.py"]\n')
    project.run()
    sound = (project.root / "pipeline.py").read_text()

    async def scenario(desk: Desk) -> None:
        await desk.wait("run 1 succeeded")
        await desk.press("w")
        await desk.wait("watch on", "watching churn")
        project.write("src/train.py", (project.root / "src/train.py").read_text() + "# more\n")
        await desk.wait("A change", "src/train.py +1 -0 -> train", "run it")
        await desk.press("y")
        await desk.wait("run 2 succeeded")
        project.write("pipeline.py", sound + "1 / 0\n")
        await desk.wait("ZeroDivisionError")
        project.write("pipeline.py", sound + "\n")
        await desk.wait("watch on", gone="ZeroDivisionError")

    piloted(project.root, scenario)
