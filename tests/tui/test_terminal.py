"""The whole way on a real terminal: an empty folder, a run, a failure, its mending, runs, and what is left of the terminal afterwards."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from tui.projects import small
from tui.terminals import REPOSITORY, Terminal, terminal
from worlds import World

pytestmark = pytest.mark.needs("tmux")

CLEAN = {"alternate_on": "0", "mouse_any_flag": "0", "cursor_flag": "1"}


def left(flags: dict[str, str]) -> dict[str, str]:
    return {name: flags.get(name, "") for name in CLEAN}


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 30), (160, 45), (60, 15)])
def test_from_nothing_to_a_mended_run(world: World, columns: int, rows: int) -> None:
    (world.root / "mlpipe.toml").unlink()
    with terminal(world.root, columns, rows) as window:
        window.app()
        window.wait("No project here yet", "Try the example")
        window.press("1")
        window.wait("pipelines/words.py", "write them")
        window.press("w")
        window.wait("words", "would run", "never ran")
        window.press("r")
        window.wait("Run words", "mlpipe-tui run words")
        time.sleep(0.3)
        window.press("Enter")
        shown = window.wait("run 1 succeeded 2/2")
        assert "✓ succeeded" in shown
        source = world.root / "src/count.py"
        text = source.read_text()
        source.write_text(text + "\nraise ValueError('input has no words')\n")
        window.press("r")
        window.wait("1 of 2 reused")
        window.press("Enter")
        window.wait("run 2 failed 1/2")
        window.press("Down", "Enter")
        window.wait("ValueError: input has no words")
        source.write_text(text)
        window.press("R")
        window.wait("run 3")
        window.wait("2/2")
        window.press("2")
        window.wait("Runs · 3")
        window.press("/")
        window.wait("state:failed step:train")
        window.type("state:failed")
        window.wait("1/3")
        window.press("Escape", "1")
        window.wait("split", "count")
        window.press("q")
        window.wait("left with 0.")
        assert left(window.flags()) == CLEAN


def turn(window: Terminal, key: str, *texts: str) -> None:
    """Press a key that goes round until the texts are there."""
    for _ in range(8):
        if all(text in window.screen for text in texts):
            return
        window.press(key)
        time.sleep(0.5)
    window.wait(*texts)


@pytest.fixture
def sample(world: World) -> World:
    """The sample project, and two runs of its small pipeline that differ in a parameter."""
    shutil.copytree(
        REPOSITORY / "sample_project", world.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".mlpipe", "__pycache__")
    )
    for words in ((), ("--param", "neighbours=1")):
        assert world.cli("run", "iris", *words).returncode == 0
    return world


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 30), (160, 45), (60, 15)])
def test_a_day_with_the_sample_project(sample: World, columns: int, rows: int) -> None:
    """A failure, its mending in watch mode, a comparison, SQL, a profile and a difference, a run that goes on without the app."""
    source = sample.root / "iris/compare.py"
    text = source.read_text()
    with terminal(sample.root, columns, rows) as window:
        window.app()
        window.wait("flights", "would run")
        window.press("P")
        window.wait("iris  3 steps")
        window.press("Down", "Enter")
        window.wait("run 2 succeeded 3/3")
        source.write_text(text.replace("run.log(", "run.lag(", 1))
        window.press("r")
        window.wait("2 of 3 reused")
        window.press("Enter")
        window.wait("run 3 failed")
        window.press("w")
        window.wait(
            "run 4 failed", *["watch on"] * (columns > 60)
        )  # what failed is tried again; the header says so where there is room
        source.write_text(text.replace('"guessing"', '"always"'))
        window.wait("run 5 succeeded 3/3")
        window.press("w")
        window.wait("run 5 succeeded 3/3", gone="watch on")
        window.press("2")
        window.wait("Runs · 5")
        window.press("Space", "Down", "Space", "c")
        window.wait("Compare 2 runs", "metrics")
        window.press("3")
        window.wait("Data ·", "comparison")
        window.press("S")
        window.wait("SELECT * FROM")
        window.press("C-a", "C-k")
        window.type("SELECT round(accuracy, 1) + 41 AS answer FROM comparison\n")
        window.wait("SQL result", "answer")
        window.press("Escape")
        turn(window, "Tab", "missing", "different")
        turn(window, "]", "+ always", "- guessing")
        source.write_text(text.replace("import json", "import json, time; time.sleep(4)"))
        window.press("1", "r")
        window.wait("2 of 3 reused")
        window.press("Enter")
        window.wait("running")
        window.press("q")
        window.wait("left with 0.", "goes on; `mlpipe-tui attach")
        window.app()
        window.wait("flights", "would run")
        window.press("P")
        window.wait("iris  3 steps")
        window.press("Down", "Enter")
        window.wait("succeeded 3/3")
        window.press("q")
        window.wait("left with 0.", gone="╭")


def test_it_attaches_to_a_run_started_elsewhere_and_leaves_it_alone(world: World) -> None:
    small(world)
    world.write(
        "src/profile.py", "import os, time\nwhile not os.path.exists('/tmp/'): pass\nprint('tick', flush=True)\ntime.sleep(4)\n"
    )
    with terminal(world.root) as window:
        window.app()
        window.wait("churn", "would run")
        assert world.cli("run", "--detach").returncode == 0
        window.wait("run 1", "● running")
        window.press("Down", "Down", "Down", "Enter", "]")
        window.wait("tick")
        window.press("q")
        shown = window.wait("left with 0.")
        assert "run 1 goes on; `mlpipe-tui attach 1` follows it" in shown
        assert "run 1 succeeded" in world.cli("attach", "1").stdout
        window.app()
        window.wait("run 1 succeeded 4/4")
        window.press("q")
        window.wait("left with 0.", gone="╭")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_leave_the_terminal_as_it_was(world: World, number: int, code: int) -> None:
    small(world)
    with terminal(world.root) as window:
        window.app()
        window.wait("churn", "would run")
        assert window.flags()["alternate_on"] == "1"
        os.kill(window.pid(), number)
        window.wait(f"left with {code}.")
        assert left(window.flags()) == CLEAN


def test_a_fault_of_ours_is_one_line_and_leaves_the_terminal_as_it_was(world: World) -> None:
    small(world)
    world.write("crash.py", "import sys\nfrom mlpipe_tui import app, __main__\n"
                "app.PipelineApp.action_theme = lambda self: 1 / 0\nsys.argv[1:] = []\n__main__.main()\n")  # fmt: skip
    with terminal(world.root) as window:
        window.type(f"{shlex.quote(sys.executable)} crash.py; echo left with $?.\n")
        window.wait("churn", "would run")
        window.press("C-t")
        shown = window.wait("left with 70.")
        assert "error: internal error: ZeroDivisionError" in shown and "Traceback" not in shown
        assert "tui.log" in shown
        assert left(window.flags()) == CLEAN


def test_resizing_keeps_the_place(world: World) -> None:
    small(world)
    world.run()
    with terminal(world.root, 160, 45) as window:
        window.app()
        window.wait("run 1 succeeded 4/4")
        window.press("Down")
        shown = window.wait("train ✓")
        assert any("╮╭" in line for line in shown.splitlines()), "side by side where there is room"
        window.resize(80, 24)
        window.wait("train ✓", "succeeded 4/4", gone="╮╭")
        window.resize(60, 15)
        shown = window.wait("run 1 succeeded", gone="train ✓")
        assert "? Help" in shown and "q Quit" in shown
        window.press("Tab")
        window.wait("train ✓")
        window.resize(20, 6)
        time.sleep(0.5)
        window.resize(100, 30)
        window.wait("train ✓", "succeeded 4/4")


def test_the_plain_stream_the_shell_and_the_editor_come_back(world: World) -> None:
    small(world)
    world.run()
    world.write("edit.sh", f'#!/bin/sh\necho "$@" > {world.root}/edited\n', 0o755)
    with terminal(world.root) as window:
        window.type(f"export EDITOR={world.root}/edit.sh SHELL=/bin/sh\n")
        window.app()
        window.wait("run 1 succeeded 4/4")
        window.press("T")
        window.wait("$ mlpipe-tui logs 1 clean", "cleaning", "[Enter returns]")
        window.press("Enter")
        window.wait("run 1 succeeded 4/4", gone="Enter returns")
        window.press("!")
        window.wait("A shell starts in code/")
        window.type("ls; exit\n")
        window.wait("run 1 succeeded 4/4", gone="A shell starts")
        window.press("E")
        deadline = time.monotonic() + 10
        while not (world.root / "edited").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (world.root / "edited").read_text().strip() == str(world.root / "src/clean.py")
        window.wait("run 1 succeeded 4/4")


@pytest.mark.parametrize(("words", "config", "told"), [
    (("-C", "/nowhere"), "", "error: /nowhere is not a folder"),
    (("--theme", "mlpipe-drak"), "", "did you mean 'mlpipe-dark'?"),
    ((), '[tui]\ntheme = "x"\n', "mlpipe.toml:2 field tui.theme: there is no theme 'x'"),
    ((), '[keys]\n"pipeline.run" = "q"\n', "the key 'q' would mean both"),
    ((), "[tui\n", "mlpipe.toml:1:"),
])  # fmt: skip
def test_what_cannot_be_opened_is_told_in_lines(world: World, words: tuple[str, ...], config: str, told: str) -> None:
    world.write("mlpipe.toml", config)
    with terminal(world.root, 160, 24) as window:
        window.app(*words)
        shown = window.wait("left with 2.")
        assert told in shown and "Traceback" not in shown


def test_without_a_terminal_it_is_help(world: World) -> None:
    done = world.cli()
    assert done.returncode == 0 and done.stdout.startswith("mlpipe-tui runs machine-learning pipelines")
    assert world.cli("--read-only").returncode == 2


def test_the_command_line_imports_nothing_of_the_app(world: World) -> None:
    code = "import sys; sys.argv[1:] = ['--help']\nimport os; os._exit = lambda code: print([n for n in sys.modules if n.split('.')[0] in ('textual', 'rich')])\n" \
           "import mlpipe_tui.__main__ as m; m.main()"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=world.environment(), capture_output=True, text=True, check=False)
    assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr
