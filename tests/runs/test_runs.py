"""Runs do what they say: order, failure, retries, time-outs, conditions, cancel, detach, attach, resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from worlds import World


def shell(name: str, text: str, **more: str) -> str:
    arguments = "".join(f", {key}={value}" for key, value in more.items())
    return f"CommandStep({text!r}, name={name!r}{arguments})"


def wait_for(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_failure_stops_what_follows_and_says_why(world: World) -> None:
    world.define(
        f"a = {shell('a', 'echo broken >&2; exit 3')}\nb = {shell('b', 'true')}\nb.run_after(a)\np = Pipeline(ws, [a, b])"
    )
    done = world.run()
    assert done.states == {"a": "failed", "b": "skipped"}
    assert done.record.state == "failed"
    assert (done.step("a").exit, done.log("a")) == ("exited 3", "broken\n")
    assert done.why("b") == "step a failed"


def test_independent_steps_go_on_when_asked_to(world: World) -> None:
    world.define(
        f"a = {shell('a', 'exit 1')}\nb = {shell('b', 'sleep 0.2')}\nc = {shell('c', 'true')}\nc.run_after(b)\np = Pipeline(ws, [a, b, c])"
    )
    assert world.run(continue_on_step_failure=True).states == {"a": "failed", "b": "succeeded", "c": "succeeded"}
    assert world.run(force=True).states["c"] == "skipped"


def test_a_missing_output_is_a_failure(world: World) -> None:
    world.define('o = PipelineData("o")\np = Pipeline(ws, [CommandStep("true", name="s", outputs=[o])])')
    done = world.run()
    assert done.states == {"s": "failed"}
    assert "declared output o missing" in done.step("s").error
    world.define('o = PipelineData("o", allow_missing=True)\np = Pipeline(ws, [CommandStep("true", name="s", outputs=[o])])')
    assert world.run().states == {"s": "succeeded"}
    assert world.run().states == {"s": "reused"}


@pytest.mark.parametrize(
    ("made", "problem"),
    [("mkfifo $o", "named pipe"), ("mkdir $o; ln -s /etc/passwd $o/x", "leads out"), ("ln -s /etc $o", "is a link")],
)
def test_an_output_that_cannot_be_stored_is_a_failure(world: World, made: str, problem: str) -> None:
    world.define(f'o = PipelineData("o")\np = Pipeline(ws, [CommandStep({made!r}, name="s", outputs=[o])])')
    done = world.run()
    assert done.states == {"s": "failed"}
    assert problem in done.step("s").error


def test_files_folders_and_links_inside_come_back_as_they_were(world: World) -> None:
    world.define("""
o, q = PipelineData("o"), PipelineData("q", is_directory=True)
make = CommandStep("mkdir -p $o/a/b; echo 1 > $o/a/b/c; ln -s a/b/c $o/l; chmod +x $o/a/b/c; echo 2 > $q/z", name="make", outputs=[o, q])
read = CommandStep("cat $o/l $q/z > $r", name="read", inputs=[o, q], outputs=[r := PipelineData("r")])
p = Pipeline(ws, [read])
""")
    done = world.run()
    assert done.output("read", "r") == b"1\n2\n"
    target = world.root.parent / "copy"
    done.engine.fetch(done.record.id, "make", "o", str(target))
    assert os.access(target / "a/b/c", os.X_OK) and os.readlink(target / "l") == "a/b/c"
    (target / "a/b/c").write_text("a private copy may be changed")
    assert world.run().ran == set()


def test_retries_until_it_works(world: World) -> None:
    counter = world.root.parent / "counter"
    text = f"echo x >> {counter}; test $(wc -l < {counter}) -ge 3"
    world.define(f"p = Pipeline(ws, [{shell('s', text, retries='2', retry_delay_seconds='0.05')}])")
    done = world.run()
    assert done.states == {"s": "succeeded"}
    assert done.step("s").attempt == 3
    folder = world.root / ".mlpipe/runs/test/1"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["s", "s.attempt-1", "s.attempt-2"]


def test_a_timeout_ends_the_whole_tree(world: World) -> None:
    pidfile = world.root.parent / "pid"
    text = f"(trap '' TERM; setsid sleep 100 & echo $! > {pidfile}; sleep 100)"
    world.define(f"p = Pipeline(ws, [{shell('s', text, timeout_seconds='0.3')}])")
    done = world.run()
    assert "timed out after 0.3 s" in done.step("s").exit
    assert not alive(int(pidfile.read_text()))


def test_a_daemon_left_behind_ends_with_its_step(world: World) -> None:
    pidfile = world.root.parent / "pid"
    world.define(f"p = Pipeline(ws, [{shell('s', f'setsid sh -c {chr(39)}sleep 100{chr(39)} & echo $! > {pidfile}')}])")
    assert world.run().states == {"s": "succeeded"}
    assert not alive(int(pidfile.read_text()))


@pytest.mark.parametrize(("value", "state"), [(1, "skipped"), (7, "succeeded")])
def test_when_asks_parameters_and_metrics(world: World, value: int, state: str) -> None:
    world.write("src/m.py", "import sys\nfrom mlpipe_run import Run\nRun.get_context().log('score', float(sys.argv[1]))\n")
    world.define("""
n = PipelineParameter("n", 1)
first = PythonScriptStep("m.py", name="first", arguments=[n], source_directory="src")
o = PipelineData("o")
second = CommandStep("echo 1 > $o", name="second", outputs=[o], when='metric("first", "score") > 5 and param("n") < 10')
third = CommandStep(["cat", o], name="third", inputs=[o])
after = CommandStep("true", name="after")
after.run_after(second)
p = Pipeline(ws, [first, third, after])
""")
    for expected_first in ("succeeded", "reused"):
        states = world.run(parameters={"n": value}).states
        assert states["first"] == expected_first
        assert states["after"] in ("succeeded", "reused"), "order alone does not skip"
        if state == "skipped":
            assert (states["second"], states["third"]) == ("skipped", "skipped")
        else:
            assert states["third"] in ("succeeded", "reused")


def test_an_always_step_runs_last_even_after_a_failure(world: World) -> None:
    trace = world.root.parent / "trace"
    world.define(f"""
a = {shell("a", "exit 1")}
b = {shell("b", f"echo b >> {trace}")}
last = {shell("last", f"echo last >> {trace}", trigger="'always'", allow_reuse="False")}
b.run_after(a)
p = Pipeline(ws, [last, a, b])
""")
    done = world.run()
    assert done.states == {"last": "succeeded", "a": "failed", "b": "skipped"}
    assert trace.read_text() == "last\n"


def test_steps_run_side_by_side_within_what_they_ask_for(world: World) -> None:
    marks = world.root.parent / "marks"
    marks.mkdir()
    text = f"touch {marks}/$0; n=$(ls {marks} | wc -l); echo $n >> {world.root.parent}/most; sleep 0.2; rm {marks}/$0"
    lines = "\n".join(f'CommandStep(["sh", "-c", {text!r}, "s{n}"], name="s{n}", cpus=1),' for n in range(6))
    world.write("mlpipe.toml", "[compute.local]\ncpus = 2\n")
    world.define(f"p = Pipeline(ws, [{lines}])")
    assert world.run().ran == {f"s{n}" for n in range(6)}
    seen = {int(line) for line in (world.root.parent / "most").read_text().split()}
    assert max(seen) == 2


def test_partial_runs(world: World) -> None:
    world.define("""
a, b, c = PipelineData("a"), PipelineData("b"), PipelineData("c")
one = CommandStep("echo 1 > $a", name="one", outputs=[a])
two = CommandStep("cat $a > $b", name="two", inputs=[a], outputs=[b])
three = CommandStep("cat $b > $c", name="three", inputs=[b], outputs=[c])
p = Pipeline(ws, [three])
""")
    refused = world.cli("run", "--only", "two")
    assert refused.returncode == 4 and "has no result that could be used" in refused.stderr
    assert world.run(until_steps=("two",)).states == {"two": "succeeded", "one": "succeeded"}
    assert world.run(from_steps=("two",)).states == {"three": "succeeded", "two": "reused"}
    assert world.run(only_steps=("three",), force=True).states == {"three": "succeeded"}


def start(world: World, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        world.command(*words),
        cwd=world.root,
        env=world.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def slow(world: World) -> tuple[World, Path, Path]:
    """A quick step, then one that waits for a file; it tells its pid and that of a child that ignores SIGTERM."""
    pids, gate = world.root.parent / "pids", world.root.parent / "gate"
    text = f"(trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >> {pids}; sleep 60' & echo $$ >> {pids}; while ! test -e {gate}; do sleep 0.05; done; echo 2 > $b)"
    world.define(f"""
a, b = PipelineData("a"), PipelineData("b")
quick = CommandStep("echo 1 > $a", name="quick", outputs=[a])
slow = CommandStep({text!r}, name="slow", inputs=[a], outputs=[b])
pipeline = Pipeline(ws, [slow], name="p")
""")
    return world, pids, gate


def running_pids(pids: Path) -> list[int]:
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) >= 2)
    return [int(pid) for pid in pids.read_text().split()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_pipe_cancels_everything(slow: tuple[World, Path, Path], number: int, code: int) -> None:
    world, pids, _ = slow
    process = start(world, "run")
    found = running_pids(pids)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert not any(map(alive, found))
    assert world.json("runs")["items"][0]["state"] == "canceled"


def test_a_detached_run_goes_on_and_can_be_attached_and_canceled(slow: tuple[World, Path, Path]) -> None:
    world, pids, gate = slow
    assert world.cli("run", "-d").returncode == 0
    found = running_pids(pids)
    attached = start(world, "attach", "1")
    canceled = world.cli("cancel", "1")
    assert (canceled.returncode, canceled.stdout) == (0, "run 1 is canceled\n")
    assert attached.communicate(timeout=30)[0].splitlines()[-1].startswith("run 1 was canceled")
    assert not any(map(alive, found))
    gate.touch()
    resumed = world.cli("resume", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert {item["name"]: item["state"] for item in world.json("show", "2")["items"]} == {"quick": "reused", "slow": "succeeded"}


def runner_pid(world: World) -> int:
    (lock,) = (world.root / ".mlpipe/locks/runs").iterdir()
    return int(lock.read_text().split()[1])


def test_a_killed_runner_leaves_no_process_and_its_run_is_resumed_with_one_command(slow: tuple[World, Path, Path]) -> None:
    world, pids, gate = slow
    assert world.cli("run", "-d").returncode == 0
    found = running_pids(pids)
    os.kill(runner_pid(world), signal.SIGKILL)
    wait_for(lambda: not any(map(alive, found)), seconds=5)
    assert world.json("runs")["items"][0]["state"] == "interrupted"
    assert "resume 1" in world.cli("show", "1").stdout
    gate.touch()
    resumed = world.cli("resume")
    assert resumed.returncode == 0, resumed.stderr
    shown = world.json("show", "1")
    assert shown["run"]["state"] == "succeeded"
    assert [item["state"] for item in shown["items"]] == ["succeeded", "succeeded"]


def supervisors(runner: int) -> list[int]:
    """The one that guards, and below it the one that starts the steps."""
    guard = int(Path(f"/proc/{runner}/task/{runner}/children").read_text().split()[-1])
    return [guard, int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])]


@pytest.mark.parametrize("which", [0, 1], ids=["guard", "supervisor"])
def test_a_killed_supervisor_is_noticed_and_its_steps_end(slow: tuple[World, Path, Path], which: int) -> None:
    world, pids, _ = slow
    process = start(world, "run")
    found = running_pids(pids)
    os.kill(supervisors(process.pid)[which], signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert not any(map(alive, found))
    assert "lost" in {item["name"]: item for item in world.json("show", "1")["items"]}["slow"]["exit"]


@pytest.mark.parametrize("which", [0, 1], ids=["guard", "supervisor"])
def test_runner_and_supervisor_killed_together_leave_no_process(slow: tuple[World, Path, Path], which: int) -> None:
    world, pids, gate = slow
    world.cli("run", "-d")
    found = running_pids(pids)
    runner = runner_pid(world)
    victim = supervisors(runner)[which]
    os.kill(runner, signal.SIGSTOP)
    os.kill(victim, signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, found)), seconds=2)
    assert world.json("runs")["items"][0]["state"] == "interrupted"
    gate.touch()
    after = world.cli("run")
    assert after.returncode == 0 and "note: run 1 was interrupted" in after.stderr


def test_what_outlived_even_the_guard_is_ended_by_the_next_run(slow: tuple[World, Path, Path]) -> None:
    world, pids, gate = slow
    world.cli("run", "-d")
    found = running_pids(pids)
    runner = runner_pid(world)
    for pid in (runner, *supervisors(runner)):
        os.kill(pid, signal.SIGSTOP)
    for pid in (*supervisors(runner), runner):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: world.json("runs")["items"][0]["state"] == "interrupted")
    assert any(map(alive, found)), "nobody was left to end them"
    gate.touch()
    after = world.cli("run")
    assert after.returncode == 0 and "note: run 1 was interrupted" in after.stderr
    wait_for(lambda: not any(map(alive, found)), seconds=5)


def test_an_interrupted_run_can_be_dropped(slow: tuple[World, Path, Path]) -> None:
    world, pids, _ = slow
    world.cli("run", "-d")
    running_pids(pids)
    os.kill(runner_pid(world), signal.SIGKILL)
    wait_for(lambda: world.json("runs")["items"][0]["state"] == "interrupted")
    assert world.cli("cancel", "1").returncode == 0
    assert world.json("runs")["items"][0]["state"] == "canceled"


def test_two_runs_at_once_make_each_result_once(world: World) -> None:
    trace = world.root.parent / "trace"
    world.define(f"""
o = PipelineData("o")
p = Pipeline(ws, [CommandStep("echo made >> {trace}; sleep 0.5; echo 1 > $o", name="s", outputs=[o])], name="p")
""")
    world.cli("plan")
    processes = [start(world, "run") for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=60) and process.returncode == 0
    assert trace.read_text() == "made\n"


def test_git_facts_are_kept_without_credentials(world: World) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", world.root, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True
        )

    world.define(f"p = Pipeline(ws, [{shell('s', 'true')}])")
    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "x")
    git("remote", "add", "origin", "https://user:secret@example.com/x.git")
    world.write("pipeline.py", (world.root / "pipeline.py").read_text() + "# dirty\n")
    properties = dict(world.run().record.properties) or world.json("show")["run"]["properties"]
    assert properties["azureml.git.branch"] == "main"
    assert properties["azureml.git.dirty"] == "True"
    assert properties["azureml.git.repository_uri"] == "https://example.com/x.git"
    assert "# dirty" in (world.root / ".mlpipe/runs/test/1/git.diff").read_text()
    assert b":secret@" not in b"".join(body for name, body in world.files().items() if name.startswith(".mlpipe"))


def test_the_run_folder_shows_everything_and_command_sh_repeats_the_step(world: World) -> None:
    world.write("src/s.py", "import sys\nprint('hello')\nopen(sys.argv[1], 'w').write('x')\n")
    world.define(
        'o = PipelineData("o")\np = Pipeline(ws, [PythonScriptStep("s.py", name="s", arguments=[o], outputs=[o], source_directory="src")])'
    )
    world.run()
    folder = world.root / ".mlpipe/runs/test/1/s"
    assert {"code", "logs", "out", "step.json", "command.sh"} <= {path.name for path in folder.iterdir()}
    assert (folder / "out/o").read_text() == "x"
    assert json.loads((folder / "step.json").read_text())["step"] == "s"
    (folder / "out/o").unlink()
    assert subprocess.run([folder / "command.sh"], capture_output=True, check=True).stdout == b"hello\n"
    repeated = world.run()
    folder = Path(repeated.engine.run_dir(repeated.record.id))  # a run that repeats another has its folder when it is asked for
    assert folder == world.root / ".mlpipe/runs/test/2" and (folder / "s/logs/stdout.log").read_text() == "hello\n"


def test_bytecode_of_the_step_side_that_was_cut_short_is_made_anew(world: World) -> None:
    """Python leaves such a file on a full disk, and takes it for whole from then on."""
    world.write("src/main.py", "from mlpipe_run import Run\nRun.get_context().log('x', 1)\n")
    world.define('p = Pipeline(ws, [PythonScriptStep("main.py", name="s", source_directory="src")])')
    assert world.cli("run").returncode == 0
    torn = [*(world.root / ".mlpipe/sdk").rglob("*.pyc")]
    assert {path.name.split(".")[0] for path in torn} == {"mlpipe_run", "sitecustomize"}
    for path in torn:
        path.write_bytes(path.read_bytes()[:100])
    again = world.cli("run", "--force")
    assert again.returncode == 0, again.stdout + again.stderr
    assert all(path.stat().st_size > 100 for path in torn)
