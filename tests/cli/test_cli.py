"""The real command: help that costs nothing, plans that are true, a live screen, and Ctrl-C that asks."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlpipe_engine.cli import help
from mlpipe_engine.cli.commands import COMMANDS
from mlpipe_engine.cli.render import RunView
from mlpipe_engine.model.events import RunFinished, RunStarted, StepChanged
from mlpipe_engine.model.states import State
from worlds import REPOSITORY, World


@pytest.fixture
def example(world: World) -> World:
    (world.root / "mlpipe.toml").unlink()
    assert world.cli("init", "--example").returncode == 0
    return world


def test_the_example_runs_and_then_nothing_has_to(example: World) -> None:
    first, second = example.cli("run"), example.cli("run")
    assert first.returncode == second.returncode == 0
    assert re.search(r"run 1 succeeded in .*: 2 ran", first.stdout)
    assert re.search(r"run 2 is up to date in .*: 2 reused; reuse saved", second.stdout)
    assert "\x1b" not in first.stdout


def test_a_plan_says_what_a_run_does(example: World) -> None:
    assert "1 to run, 1 to be decided; some steps never ran" in example.cli("plan").stdout
    example.cli("run")
    assert "2 to reuse; nothing to do" in example.cli("plan").stdout
    planned = example.cli("plan", "--param", "top=7").stdout
    assert re.search(r"\+ count +run: top 5 -> 7 +\(about .*\)", planned), planned
    document = example.json("plan", "--param", "top=7")
    assert [(item["name"], item["decision"]) for item in document["items"]] == [("split", "reuse"), ("count", "run")]
    assert document["schema"] == "mlpipe.plan/1" and document["items"][1]["causes"][0]["text"] == "top 5 -> 7"


def test_a_plan_writes_nothing(example: World) -> None:
    before = example.files()
    example.cli("plan")
    assert example.files() == before
    example.cli("run")
    before = example.files()
    example.cli("plan", "--param", "top=7")
    after = example.files()
    assert {name: body for name, body in after.items() if not name.endswith(("-shm", "-wal"))} == {
        name: body for name, body in before.items() if not name.endswith(("-shm", "-wal"))
    }


@pytest.mark.parametrize(
    "words",
    [
        ("runs",),
        ("show",),
        ("why", "latest", "count"),
        ("pipelines",),
        ("doctor",),
        ("plan",),
        ("logs", "latest", "count"),
        ("show", "-m"),
    ],
)
def test_every_verb_that_prints_data_has_json(example: World, words: tuple[str, ...]) -> None:
    example.cli("run")
    done = example.cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        document = json.loads(line)
        assert words[0] == "logs" or document["schema"] == f"mlpipe.{words[0]}/1"


def test_run_as_json_lines(example: World) -> None:
    lines = [json.loads(line) for line in example.cli("run", "--json").stdout.splitlines()]
    assert lines[0]["_"] == "RunStarted" and lines[-2]["_"] == "RunFinished"
    assert lines[-1]["run"]["state"] == "succeeded" and [item["name"] for item in lines[-1]["items"]] == ["split", "count"]


def test_outputs_are_fetched_and_never_overwritten(example: World) -> None:
    example.cli("run")
    assert example.cli("get", "latest", "count", "counts", "-o", "c.txt").returncode == 0
    assert (example.root / "c.txt").read_text().splitlines()[0] == "6 a"
    again = example.cli("get", "1", "count", "counts", "-o", "c.txt")
    assert again.returncode == 4 and "exists" in again.stderr
    wrong = example.cli("get", "1", "count", "count")
    assert "did you mean 'counts'" in wrong.stderr and "did you mean 'count'" in example.cli("get", "1", "cuont", "counts").stderr


def test_init_never_overwrites(example: World) -> None:
    again = example.cli("init", "--example")
    assert again.returncode == 4 and "exists already; nothing was written" in again.stderr


def test_init_wraps_a_script(world: World) -> None:
    world.write("lib/train.py", "print('trained')\n")
    assert world.cli("init", "--wrap", "lib/train.py").returncode == 0
    assert world.cli("run").returncode == 0
    assert world.cli("logs", "latest", "train").stdout == "trained\n"


def test_logs_are_followed_and_cleaned_for_terminals_only(world: World) -> None:
    world.define(r'p = Pipeline(ws, [CommandStep("printf \"a\\033[31mb\\n\"; sleep 0.5; echo end", name="s")])')
    world.cli("run", "-d")
    done = world.cli("logs", "1", "s", "-f")
    assert done.stdout == "a\x1b[31mb\nend\n", "bytes into a pipe are as written"
    assert world.cli("logs", "1").stdout == "s | a␛[31mb\ns | end\n"


def test_a_reader_that_leaves_is_no_error(example: World) -> None:
    example.cli("run")
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -n 1', "sh", *example.command("show", "--metrics")],
        cwd=example.root,
        env=example.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_verb_has_help_and_is_documented(world: World, command: str) -> None:
    done = world.cli(command, "--help")
    assert done.returncode == 0 and f"mlpipe-tui {command}" in done.stdout
    assert f"## mlpipe-tui {command}\n" in (REPOSITORY / "docs/cli.md").read_text()


def test_docs_of_the_command_line_are_current() -> None:
    assert (REPOSITORY / "docs/cli.md").read_text() == help.markdown()


def test_options_of_the_app_need_a_terminal(world: World) -> None:
    done = world.cli("--theme", "mlpipe-dark")
    assert done.returncode == 2 and done.stderr.startswith("error: the app needs a terminal"), done.stderr
    assert done.stdout == "" and len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(world: World, shell: str) -> None:
    script = world.cli("completion", shell).stdout
    assert all(word in script for command in COMMANDS for word in command.name.split())
    if shell == "bash":
        test = f'{script}\nCOMP_WORDS=(mlpipe-tui run --fo); COMP_CWORD=2; _mlpipe_tui; echo "${{COMPREPLY[@]}}"'
        assert subprocess.run(["bash", "-c", test], capture_output=True, text=True, check=True).stdout == "--force --force-step\n"


def test_the_view_of_a_run_is_a_function_of_its_events() -> None:
    view = RunView()
    lines = view.take(
        RunStarted(run_id="x", number=4, pipeline="p\x1b[2J", experiment="e", steps=("one", "second"), time=""), 0.0
    )
    assert lines == ["run 4: p␛[2J (2 steps), experiment e"]
    view.take(StepChanged(run_id="x", step="one", state=State.RUNNING, time="", attempt=1, expected_seconds=10.0), 1.0)
    assert view.live(3.5, 80, 24) == ["  one     running       2.5 s of about 10.0 s"]
    assert view.take(StepChanged(run_id="x", step="one", state=State.FAILED, time="", seconds=3.0, error="exited 1"), 4.0) == [
        "  one     failed        3.0 s  exited 1"
    ]
    assert view.live(5.0, 80, 24) == []
    many = RunView(running={f"s{n}": (0.0, None, 1) for n in range(50)})
    assert len(many.live(1.0, 20, 5)) == 3 and all(len(line) < 20 for line in many.live(1.0, 20, 5)[:2])
    end = view.take(
        RunFinished(
            run_id="x",
            number=4,
            state=State.FAILED,
            time="",
            seconds=61.0,
            executed=0,
            reused=3,
            skipped=1,
            failed=1,
            canceled=0,
            saved_seconds=7200,
        ),
        5.0,
    )
    assert end == ["run 4 failed in 1 min 01 s: 3 reused, 1 skipped, 1 failed; reuse saved 2 h 00 min"]


class Terminal:
    """The command on a real pseudo-terminal."""

    def __init__(self, world: World, *words: str, **variables: str) -> None:
        self.master, slave = pty.openpty()
        environment = world.environment(TERM="xterm", **variables)
        self.process = subprocess.Popen(
            world.command(*words),
            cwd=world.root,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: None,
        )
        os.close(slave)
        self.text = ""

    def until(self, pattern: str, seconds: float = 20.0) -> str:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.plain):
            assert time.monotonic() < deadline, f"{pattern!r} never came; the screen got {self.text!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        assert re.search(pattern, self.plain), self.text
        return self.text

    @property
    def plain(self) -> str:
        return re.sub(r"\x1b\[\d+m", "", self.text)

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        os.kill(self.process.pid, 2)

    def end(self) -> int:
        code = self.process.wait(timeout=30)
        os.close(self.master)
        return code


@pytest.fixture
def gated(world: World) -> Iterator[tuple[World, Path]]:
    gate = world.root.parent / "gate"
    world.define(f'p = Pipeline(ws, [CommandStep("while ! test -e {gate}; do sleep 0.05; done", name="slow")], name="p")')
    yield world, gate
    gate.touch()


def test_a_terminal_shows_running_steps_live(gated: tuple[World, Path]) -> None:
    world, gate = gated
    terminal = Terminal(world, "run")
    terminal.until(r"slow +running +\d+ ms|slow +running +\d\.\d s")
    gate.touch()
    terminal.until(r"run 1 succeeded in .*: 1 ran")
    assert terminal.end() == 0
    assert "\x1b[1F\x1b[J" in terminal.text, "live lines are drawn in place"
    assert "\x1b[32m" in terminal.text


def test_no_colour_when_asked_for(gated: tuple[World, Path]) -> None:
    world, gate = gated
    gate.touch()
    terminal = Terminal(world, "run", NO_COLOR="1")
    terminal.until("1 ran")
    assert terminal.end() == 0
    assert not re.search(r"\x1b\[\d+m", terminal.text)


@pytest.mark.parametrize(
    ("answer", "code", "state"), [("d\n", 0, "running"), ("c\n", 130, "canceled"), ("second", 130, "canceled")]
)
def test_ctrl_c_asks_detach_or_cancel_and_a_second_one_cancels(
    gated: tuple[World, Path], answer: str, code: int, state: str
) -> None:
    world, gate = gated
    terminal = Terminal(world, "run")
    terminal.until("slow +running")
    terminal.interrupt()
    terminal.until(r"detach or cancel\?")
    if answer == "second":
        terminal.interrupt()
    else:
        terminal.send(answer)
    if code:
        terminal.until("was canceled")
    else:
        terminal.until("mlpipe-tui attach 1")
    assert terminal.end() == code
    assert world.json("runs")["items"][0]["state"] == state
    if state == "running":
        gate.touch()
        assert world.cli("attach", "1").stdout.splitlines()[-1].startswith("run 1 succeeded")


def test_a_closed_terminal_does_not_end_the_run(gated: tuple[World, Path]) -> None:
    world, gate = gated
    terminal = Terminal(world, "run")
    terminal.until("slow +running")
    os.kill(terminal.process.pid, 1)
    terminal.end()
    gate.touch()
    assert world.cli("attach", "1").returncode == 0


@pytest.mark.needs("tmux")
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 8)])
def test_in_tmux_the_screen_ends_clean(world: World, columns: int, rows: int) -> None:
    steps = ", ".join(f'CommandStep("sleep 0.3; exit {n // 3}", name="step_number_{n}")' for n in range(4))
    world.define(f"p = Pipeline(ws, [{steps}], name='p')")
    socket = f"mlpipe-{os.getpid()}-{columns}"
    variables = [
        f"-e{name}={value}" for name, value in world.environment().items() if name in ("PYTHONPATH", "XDG_RUNTIME_DIR", "PATH")
    ]
    command = shlex.join(world.command("run")) + "; echo CODE=$?; sleep 30"
    tmux = ["tmux", "-L", socket, "-f", "/dev/null"]
    try:
        subprocess.run(
            [*tmux, "new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", world.root, *variables, command],
            check=True,
            env={**os.environ, "SHELL": "/bin/sh"},  # not every user has a shell to log in with
        )
        deadline = time.monotonic() + 30
        screen = ""
        while "CODE=" not in screen and time.monotonic() < deadline:
            time.sleep(0.2)
            screen = subprocess.run([*tmux, "capture-pane", "-p", "-S", "-"], capture_output=True, text=True, check=True).stdout
        assert "CODE=1" in screen, screen
        assert "run 1 failed" in screen and screen.count("step_number_0  succeeded") == 1
        assert " running " not in screen, "no live line is left behind"
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def test_stdin_may_be_closed(example: World) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *example.command("run")],
        cwd=example.root,
        env=example.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_detached_run_survives_hangup_of_its_starter(gated: tuple[World, Path]) -> None:
    world, gate = gated
    subprocess.run(
        ["setsid", *world.command("run", "-d")], cwd=world.root, env=world.environment(), check=True, stdout=subprocess.DEVNULL
    )
    gate.touch()
    assert world.cli("attach", "latest").returncode == 0
    assert sys.platform


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("runs", "--help")], ids=" ".join)
def test_a_reader_that_leaves_is_no_trouble(world: World, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["sh", "-c", '(sleep 0.3; exec "$@") | true', "sh", *world.command(*words)], env=world.environment(), capture_output=True, check=False
    )  # fmt: skip
    assert done.stderr == b""


def test_status_tells_what_ran_last_and_what_looks_different(world: World) -> None:
    assert "no runs yet" in world.cli("status").stdout
    world.write("data.csv", "1")
    world.define('p = Pipeline(ws, [CommandStep(["/bin/cat", Path("data.csv")], name="s")])'.replace("ws, [", "ws, steps=["))
    world.write("pipeline.py", "from pathlib import Path\n" + (world.root / "pipeline.py").read_text())
    past = time.time() - 10
    for name in ("data.csv", "pipeline.py", "mlpipe.toml"):
        os.utime(world.root / name, (past, past))
    time.sleep(2.1)  # what changed within two seconds of the look is not trusted
    world.cli("run")
    assert "run 1 succeeded" in world.cli("status").stdout
    assert world.json("status")["items"][0] | {"finished_at": ""} == {
        "pipeline": "p", "run": 1, "state": "succeeded", "finished_at": "", "changed": [],
    }  # fmt: skip
    done = world.cli("run")
    assert "run 2 is up to date" in done.stdout and "s  reused     from run 1" in done.stdout
    assert "run 2 reused" in world.cli("status").stdout and "nothing has changed since" in world.cli("status").stdout
    world.write("data.csv", "2")
    assert "looks different: data.csv" in world.cli("status").stdout
    assert "1 ran" in world.cli("run").stdout
