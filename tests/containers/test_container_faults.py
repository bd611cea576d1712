"""Runners that are killed and engines that stop, hang or come back: the right result or an honest failure, and nothing left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "executors"))
import contract
from contract import wait_all
from mlpipe_engine.engine import Engine
from mlpipe_engine.executors.containers.executor import DockerExecutor
from mlpipe_engine.model.execution import Container, Exited, Killed, Lost, StepTask
from private_engine import PrivateEngine, small_image, until
from worlds import World

if TYPE_CHECKING:
    from mlpipe_engine.model.records import RunRecord

pytestmark = pytest.mark.needs("docker")


def containers(engine: PrivateEngine) -> list[dict[str, Any]]:
    return list(engine.client().containers(all=True))


def three_steps(world: World) -> World:
    """Three steps at once; each writes a line of its log a tenth of a second, counts its starts and ends well."""
    world.write("src/work.py", """
import os, sys, time, mlpipe_run
out, number = sys.argv[1:]
print("begin", number, flush=True)
run = mlpipe_run.Run.get_context()
run.log("before", int(number))
for n in range(40):
    print("line", n, flush=True)
    time.sleep(0.1)
run.log("after", int(number))
open(out, "w").write(number)
""")  # fmt: skip
    world.define("""
steps = []
for n in range(3):
    out = PipelineData(f"out{n}")
    steps.append(PythonScriptStep("work.py", name=f"s{n}", source_directory="src", arguments=[out, n], outputs=[out], cpus=0.1))
p = Pipeline(ws, steps, name="p")
""")
    return world


def start(world: World) -> subprocess.Popen[bytes]:
    """A runner of its own, in its own group."""
    with open(world.root / "said", "wb") as said:
        return subprocess.Popen(
            world.command("run"), cwd=world.root, env=world.environment(), stdout=said, stderr=said, start_new_session=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


def last(world: World) -> RunRecord:
    return Engine.open(str(world.root)).runs()[0]


EXPECTED_LOG = "".join(f"line {n}\n" for n in range(40))


def test_containers_of_a_killed_runner_are_gone_on_with(isolated: World, engine: PrivateEngine) -> None:
    world = three_steps(isolated)
    runner = start(world)
    until(lambda: len(engine.client().containers()) == 3, 60)
    ids = {row["Id"] for row in containers(engine)}
    time.sleep(0.7)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    assert {row["Id"] for row in engine.client().containers()} == ids, "they outlive their runner"
    resumed = world.cli("resume", "1")
    assert resumed.returncode == 0, resumed.stderr
    reader = Engine.open(str(world.root))
    run = reader.find_run("1")
    assert run.state.value == "succeeded"
    assert containers(engine) == []
    for n in range(3):
        log = Path(reader.log_path(run.id, f"s{n}", "stdout")).read_text()
        assert log == f"begin {n}\n{EXPECTED_LOG}", "not one line is lost, and none is there twice: the step ran once"
        assert [(m.name, m.value) for m in reader.metrics(run.id, f"s{n}")] == [("before", str(n)), ("after", str(n))]
        assert Path(reader.artifact(run.id, f"s{n}", f"out{n}")).read_text() == str(n)
    assert not list((world.root / ".mlpipe/locks/containers").iterdir())


def test_containers_that_ended_while_nobody_looked(isolated: World, engine: PrivateEngine) -> None:
    world = three_steps(isolated)
    runner = start(world)
    until(lambda: len(engine.client().containers()) == 3, 60)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    until(lambda: not engine.client().containers(), 30)
    assert len(containers(engine)) == 3
    ended = {row["Id"] for row in containers(engine)}
    assert world.cli("resume", "1").returncode == 0
    assert last(world).state.value == "succeeded" and containers(engine) == []
    since = engine.client().events(
        since=0, until=int(time.time()) + 1, decode=True, filters={"event": "create", "type": "container"}
    )
    assert ended == {event["id"] for event in list(since)[-3:]}, "their results are taken, nothing was made anew"


def test_containers_of_other_code_are_not_gone_on_with(isolated: World, engine: PrivateEngine) -> None:
    world = three_steps(isolated)
    runner = start(world)
    until(lambda: len(engine.client().containers()) == 3, 60)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    text = (world.root / "src/work.py").read_text().replace('open(out, "w").write(number)', 'open(out, "w").write(number * 2)')
    world.write("src/work.py", text)
    assert world.cli("resume", "1").returncode == 0
    reader = Engine.open(str(world.root))
    assert Path(reader.artifact(reader.find_run("1").id, "s1", "out1")).read_text() == "11"
    assert containers(engine) == []


def test_canceling_an_interrupted_run_ends_its_containers(isolated: World, engine: PrivateEngine) -> None:
    world = three_steps(isolated)
    runner = start(world)
    until(lambda: len(engine.client().containers()) == 3, 60)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    assert world.cli("cancel", "1").returncode == 0
    assert containers(engine) == []


def test_the_next_run_ends_what_a_finished_run_left_and_nothing_else(isolated: World, engine: PrivateEngine, image: str) -> None:
    world = three_steps(isolated)
    client = engine.client()
    foreign = client.create_container(image, ["sleep", "60"], labels={"mlpipe-tui.run": "x", "mlpipe-tui.project": "1-1"})["Id"]
    runner = start(world)
    until(lambda: len(client.containers()) == 3, 60)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    with Engine.open(str(world.root))._writable().write() as db:
        db.execute("UPDATE runs SET state = 'canceled' WHERE number = 1")
    world.define('p = Pipeline(ws, [CommandStep(command="true", name="other")], name="q")')
    assert world.cli("run").returncode == 0
    assert [row["Id"] for row in containers(engine)] == [foreign]
    client.remove_container(foreign, force=True)


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[PrivateEngine, str]]:
    """An engine that may be hurt, and an image in it."""
    with PrivateEngine() as engine:
        yield engine, small_image(engine)


Tick = Callable[..., StepTask]


@pytest.fixture
def tick(own: tuple[PrivateEngine, str], tmp_path: Path) -> Tick:
    engine, image = own

    def make(script: str, **more: object) -> StepTask:
        container = Container(image=image, engine=engine.url, user=f"{os.getuid()}:{os.getgid()}")
        return contract.task(tmp_path, script, container=container, **more)

    return make


COUNT = "for i in $(seq 30); do echo line $i; sleep 0.1; done; exit 4"


def started(executor: DockerExecutor, task: StepTask) -> StepTask:
    executor.start(task)
    until(lambda: os.path.exists(task.stdout_path) and "line 3" in Path(task.stdout_path).read_text())
    return task


def test_an_engine_that_is_stopped_or_killed(own: tuple[PrivateEngine, str], tick: Tick) -> None:
    engine, _ = own
    executor = DockerExecutor(grace_seconds=30)
    task = started(executor, tick(COUNT))
    engine.stop(signal.SIGTERM)
    engine.start()
    exit = wait_all(executor, 1, 60)[task.attempt_id].exit
    assert isinstance(exit, Lost | Killed), "it was ended from outside, and that is no success and no exit of its own"
    executor.close()
    assert engine.client().containers(all=True) == []


def test_an_engine_that_comes_back_while_the_step_goes_on(tmp_path: Path) -> None:
    with PrivateEngine(live_restore=True) as engine:
        container = Container(image=small_image(engine), engine=engine.url)
        executor = DockerExecutor(grace_seconds=30)
        task = started(executor, contract.task(tmp_path, COUNT, container=container))
        engine.stop(signal.SIGKILL)
        time.sleep(0.5)
        engine.start()
        exit = wait_all(executor, 1, 60)[task.attempt_id].exit
        assert exit == Exited(4)
        assert Path(task.stdout_path).read_text() == "".join(f"line {n}\n" for n in range(1, 31)), "the log is whole"
        executor.close()
        assert engine.client().containers(all=True) == []


def test_an_engine_that_hangs_and_goes_on(own: tuple[PrivateEngine, str], tick: Tick) -> None:
    engine, _ = own
    executor = DockerExecutor(grace_seconds=60)
    task = started(executor, tick(COUNT))
    os.kill(engine.pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(engine.pid, signal.SIGCONT)
    assert wait_all(executor, 1, 60)[task.attempt_id].exit == Exited(4)
    assert Path(task.stdout_path).read_text() == "".join(f"line {n}\n" for n in range(1, 31))
    executor.close()


def test_an_engine_that_hangs_for_good(own: tuple[PrivateEngine, str], tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpipe_engine.executors.containers import engines

    monkeypatch.setattr(engines, "REQUEST_SECONDS", 1.0)
    engine, _ = own
    executor = DockerExecutor(grace_seconds=3)
    task = started(executor, tick(COUNT))
    os.kill(engine.pid, signal.SIGSTOP)
    began = time.monotonic()
    exit = wait_all(executor, 1, 60)[task.attempt_id].exit
    assert isinstance(exit, Lost) and "has not answered for 3 s" in exit.reason and engine.url in exit.reason
    assert time.monotonic() - began < 30
    os.kill(engine.pid, signal.SIGCONT)
    executor.close()


def test_a_hung_engine_is_told_before_a_run(own: tuple[PrivateEngine, str], world: World, bare_python: Path) -> None:
    engine, _ = own
    world.write("mlpipe.toml", f'[compute.d]\nkind = "docker"\nengine = "{engine.url}"\npython = "{bare_python}"\n')
    world.define('p = Pipeline(ws, [CommandStep(command="true", name="s")], name="p")')
    os.kill(engine.pid, signal.SIGSTOP)
    done = world.cli("run", "--compute", "d")
    os.kill(engine.pid, signal.SIGCONT)
    assert done.returncode == 4 and "does not answer" in done.stderr and "Traceback" not in done.stderr


def test_a_log_of_a_hundred_megabytes_is_whole(engine: PrivateEngine, image: str, tmp_path: Path) -> None:
    code = "import sys\nline = 'x' * 99 + '\\n'\nfor _ in range(10_000): sys.stdout.write(line * 100)"
    container = Container(image=image, engine=engine.url)
    task = contract.task(tmp_path, "", argv=(os.path.realpath(sys.executable), "-c", code), container=container)
    executor = DockerExecutor()
    executor.start(task)
    assert wait_all(executor, 1, 120)[task.attempt_id].exit == Exited(0)
    executor.close()
    assert os.path.getsize(task.stdout_path) == 100_000_000
    with open(task.stdout_path, "rb") as file:
        assert all(line == b"x" * 99 + b"\n" for line in file)
