"""What machines do to a run: readers that leave, disks that fail or turn read-only, pids that come back, odd outputs."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import shim
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import EnvironmentProblem
from mlpipe_engine.store.database import Database
from worlds import World

TWO_STEPS = """
a, b = PipelineData("a"), PipelineData("b")
one = CommandStep("echo 1 > $a", name="one", outputs=[a])
two = CommandStep("cat $a > $b; sleep 0.3", name="two", inputs=[a], outputs=[b])
p = Pipeline(ws, [one, two], name="p")
"""


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_run_goes_on_when_the_reader_of_its_lines_leaves(world: World, words: tuple[str, ...]) -> None:
    world.define(TWO_STEPS)
    started = subprocess.Popen(
        world.command("run", *words), cwd=world.root, env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout is not None and started.stderr is not None
    started.stdout.read(1)
    started.stdout.close()
    assert started.stderr.read() == b"" and started.wait(20) == 0
    started.stderr.close()
    assert world.json("show")["run"]["state"] == "succeeded"


def test_a_run_goes_on_when_its_lines_cannot_be_written_and_the_command_says_so(world: World) -> None:
    world.define(TWO_STEPS)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            world.command("run"),
            cwd=world.root,
            env=world.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4 and "error: cannot write to stdout: No space left on device" in done.stderr
    assert world.json("show")["run"]["state"] == "succeeded"


def test_a_reader_that_leaves_a_listing_is_no_error(world: World) -> None:
    world.define(TWO_STEPS)
    world.run()
    done = subprocess.run(
        ["bash", "-c", '"$@" show --json | head -c 1; echo " ${PIPESTATUS[0]}"', "bash", *world.command()],
        cwd=world.root, env=world.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == "" and re.fullmatch(r"\{ (0|141)\n", done.stdout)


@pytest.mark.skipif(
    not sys.prefix.isascii(), reason="needs an environment at a path in ASCII: Python itself does not start there"
)
def test_no_stdin_and_no_utf_8(world: World) -> None:
    world.define(TWO_STEPS.replace("cat $a", "echo größer; cat $a"))
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *world.command("run")],
        cwd=world.root, env=world.environment(**plain), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert world.cli("why", "latest", "two", env=world.environment(**plain)).returncode == 0


@pytest.mark.needs("cc")
def test_a_database_that_cannot_be_read_is_named_with_what_to_do(world: World) -> None:
    world.define(TWO_STEPS)
    world.run()
    more = shim.variables(world.root / ".mlpipe/state.db", at=1, mode="from", errno=5, kinds="r")
    for words in (("runs",), ("run",), ("why", "latest", "two")):
        done = subprocess.run(
            shim.owned(world.command(*words)),
            cwd=world.root,
            env=world.environment(**more),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (4, 5) and "state.db" in done.stderr, (words, done)
        assert done.stderr.count("error: ") == 1 and "hint: " in done.stderr and "Traceback" not in done.stderr
    assert world.json("show")["run"]["state"] == "succeeded"


@pytest.mark.needs("cc")
def test_an_output_that_cannot_be_read_leaves_no_copy(world: World, tmp_path: Path) -> None:
    world.define(TWO_STEPS)
    world.run()
    more = shim.variables(world.root / ".mlpipe/artifacts", at=1, mode="from", errno=5, kinds="r")
    done = subprocess.run(
        shim.owned(world.command("get", "latest", "two", "b", "-o", str(tmp_path / "copy"))),
        cwd=world.root, env=world.environment(**more), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4 and "Input/output error" in done.stderr and done.stderr.count("error: ") == 1, done
    assert not list(tmp_path.glob("copy*"))


def test_a_pid_that_came_back_is_nobodys_runner(world: World) -> None:
    """The lock file of a killed runner names a process that lives: ours. Only the lock itself tells."""
    world.define(TWO_STEPS.replace("sleep 0.3", "sleep 30"))
    runner = subprocess.Popen(world.command("run"), cwd=world.root, env=world.environment(), stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    for line in runner.stdout:
        if line.lstrip().startswith("one"):
            break
    runner.kill()
    runner.wait()
    runner.stdout.close()
    record = Engine.open(str(world.root)).runs()[0]
    lock = world.root / ".mlpipe/locks/runs" / record.id
    lock.write_text(f"pid {os.getpid()}")
    engine = Engine.open(str(world.root))
    assert engine.is_interrupted(engine.runs()[0])
    world.define(TWO_STEPS)
    assert world.cli("cancel", "1").returncode == 0
    assert world.run().states == {"one": "reused", "two": "succeeded"}


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("true", "output o"),
        (": > $o", ""),
        ("mkdir $o", ""),
        ("mkdir $o && echo 1 > $o/x", ""),
        ("mkfifo $o", "o"),
        ("mkdir $o && mkfifo $o/pipe", "pipe"),
        ("ln -s /etc/passwd $o", "o"),
        ("mkdir $o && chmod 000 $o", ""),
        ("mkdir -p $o/x && echo 1 > $o/x/y && chmod 000 $o/x/y $o/x", ""),
    ],
)
def test_what_a_step_leaves_as_its_output(world: World, command: str, error: str) -> None:
    world.define(f"""
o = PipelineData("o")
p = Pipeline(ws, [CommandStep({command!r}, name="s", outputs=[o])], name="p")
""")
    done = world.cli("run")
    record = world.json("show")["items"][0]
    if not error:
        assert done.returncode == 0, done.stdout + done.stderr
        assert world.cli("run").stdout.strip().endswith("1 reused") or "up to date" in world.cli("run").stdout
    else:
        assert done.returncode == 1 and error in record["error"], record
        assert "Traceback" not in done.stdout + done.stderr


def test_an_sqlite_without_what_we_need_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.26.0")
    with pytest.raises(EnvironmentProblem, match=r"built with SQLite 3\.26\.0; expected 3\.37"):
        Database.open(str(tmp_path), create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_runner_that_is_stopped_and_goes_on_is_not_taken_for_dead(world: World) -> None:
    world.define(TWO_STEPS.replace("sleep 0.3", "sleep 1"))
    runner = subprocess.Popen(world.command("run"), cwd=world.root, env=world.environment(), stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    for line in runner.stdout:
        if line.lstrip().startswith("one"):
            break
    os.kill(runner.pid, signal.SIGSTOP)
    time.sleep(2.5)
    engine = Engine.open(str(world.root))
    assert not engine.is_interrupted(engine.runs()[0])
    engine.close()
    os.kill(runner.pid, signal.SIGCONT)
    rest = runner.stdout.read()
    assert runner.wait(20) == 0 and rest.count("two ") == 1, rest
