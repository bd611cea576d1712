"""The Docker executor: the contract of all executors, and what only containers can do. A real engine, thrown away after."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "executors"))
import contract
from contract import ExecutorContract, wait_all
from mlpipe_engine.errors import ExecutorUnavailableError
from mlpipe_engine.executors.containers.executor import DockerExecutor
from mlpipe_engine.model.execution import Container, Exited, Killed, Lost, StepTask
from private_engine import until

if TYPE_CHECKING:
    from private_engine import PrivateEngine

pytestmark = pytest.mark.needs("docker")


@pytest.fixture
def executor() -> Iterator[DockerExecutor]:
    made = DockerExecutor()
    yield made
    made.close()


Make = Callable[..., StepTask]


@pytest.fixture
def task(engine: PrivateEngine, image: str, tmp_path: Path) -> Make:
    """A task that runs `script` with the image's shell; keywords that a Container has go there."""

    def make(script: str, **more: object) -> StepTask:
        names = Container.__dataclass_fields__
        of_container = {name: more.pop(name) for name in list(more) if name in names}
        container = replace(Container(image=image, engine=engine.url, user=f"{os.getuid()}:{os.getgid()}"), **of_container)
        return contract.task(tmp_path, script, **({"container": container} | more))

    return make


def output(task: StepTask) -> str:
    return Path(task.stdout_path).read_text()


def errors(task: StepTask) -> str:
    return Path(task.stderr_path).read_text()


def left(engine: PrivateEngine) -> list[str]:
    return [row["Names"][0] for row in engine.client().containers(all=True)]


class TestDockerExecutor(ExecutorContract):
    """The same tests as of every executor; their tasks become tasks of a container."""

    many = 12

    @pytest.fixture(autouse=True)
    def _in_containers(self, monkeypatch: pytest.MonkeyPatch, engine: PrivateEngine, image: str) -> None:
        container = Container(image=image, engine=engine.url, user=f"{os.getuid()}:{os.getgid()}")
        plain = contract.task
        monkeypatch.setattr(contract, "task", lambda folder, script, **more: plain(folder, script, container=container, **more))


def test_hundreds_of_lines_of_both_streams_arrive_whole(executor: DockerExecutor, task: Make) -> None:
    started = task("for i in $(seq 500); do echo out $i; echo err $i >&2; done; printf 'no end of line'")
    executor.start(started)
    assert wait_all(executor, 1)[started.attempt_id].exit == Exited(0)
    assert output(started) == "".join(f"out {n}\n" for n in range(1, 501)) + "no end of line"
    assert errors(started) == "".join(f"err {n}\n" for n in range(1, 501))


def test_bytes_of_any_kind_arrive_as_they_are(executor: DockerExecutor, task: Make) -> None:
    code = "import os; os.write(1, bytes(range(256)) * 4000)"
    started = task("", argv=(os.path.realpath(sys.executable), "-c", code))
    executor.start(started)
    wait_all(executor, 1)
    assert Path(started.stdout_path).read_bytes() == bytes(range(256)) * 4000


def test_what_it_wrote_belongs_to_the_caller(executor: DockerExecutor, task: Make) -> None:
    started = task("id -u; echo x > made; mkdir folder")
    started = replace(started, container=replace(started.container, user="1234:2345"))  # type: ignore[type-var]
    os.chown(started.step_dir, 1234, 2345)
    executor.start(started)
    assert wait_all(executor, 1)[started.attempt_id].exit == Exited(0)
    assert output(started) == "1234\n"
    for name in ("made", "folder"):
        info = os.stat(f"{started.step_dir}/{name}")
        assert (info.st_uid, info.st_gid) == (1234, 2345)


REFUSED = {
    "the root is read-only": "echo x > /usr/x",
    "inputs are read-only": "echo x > {lent}",
    "no network": "for d in /sys/class/net/*; do case $d in */lo) ;; *) echo $d; exit 0;; esac; done; exit 1",
    "no capabilities": "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status",
    "no new privileges": "grep -q 'NoNewPrivs:.*0' /proc/self/status",
    "no file of the machine": "cat {secret}",
    "no engine": "ls /var/run/docker.sock /run/docker.sock",
    "no mounting": "mount -t tmpfs none /mnt",
    "no other process of the machine": "test $(ls -d /proc/[0-9]* | wc -l) -gt 8",
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_step_cannot(executor: DockerExecutor, task: Make, tmp_path: Path, what: str) -> None:
    lent, secret = tmp_path / "lent", tmp_path / "secret"
    lent.write_text("data")
    secret.write_text("secret")
    started = task(REFUSED[what].format(lent=lent, secret=secret), mounts=((str(lent), str(lent)),))
    executor.start(started)
    finished = wait_all(executor, 1)[started.attempt_id]
    assert isinstance(finished.exit, Exited) and finished.exit.code != 0, f"{what}: {output(started)}"
    assert lent.read_text() == "data"


def test_what_is_lent_is_seen_and_tmp_may_run_programs(executor: DockerExecutor, task: Make, tmp_path: Path) -> None:
    lent = tmp_path / "a : name, with = all"
    lent.write_text("data")
    script = f"cat '{lent}'; printf '#!/bin/sh\\necho ran\\n' > /tmp/x; chmod +x /tmp/x; /tmp/x"
    started = task(script, mounts=((str(lent), str(lent)),))
    executor.start(started)
    assert wait_all(executor, 1)[started.attempt_id].exit == Exited(0), errors(started)
    assert output(started) == "dataran\n"


def test_more_memory_than_the_limit_ends_the_step_and_names_it(executor: DockerExecutor, task: Make) -> None:
    argv = (os.path.realpath(sys.executable), "-c", "x = []\nwhile True: x.append(bytearray(10**7))")
    started = task("", argv=argv, memory_bytes=64_000_000)
    executor.start(started)
    exit = wait_all(executor, 1)[started.attempt_id].exit
    assert exit == Killed(9, "out of memory (limit 64 MB)")


def test_a_child_that_needs_too_much_memory_is_told_of(executor: DockerExecutor, task: Make) -> None:
    child = f"{os.path.realpath(sys.executable)} -c 'x = bytearray(200_000_000)'"
    started = task(f"{child}; exit 3", memory_bytes=64_000_000)
    executor.start(started)
    assert wait_all(executor, 1)[started.attempt_id].exit == Exited(3)
    assert "out of memory (limit 64 MB)" in errors(started)


def test_more_processes_than_the_limit_are_refused(executor: DockerExecutor, task: Make) -> None:
    started = task("for i in $(seq 40); do sleep 5 & done; wait", pids=16)
    executor.start(started)
    exit = wait_all(executor, 1)[started.attempt_id].exit
    assert exit != Exited(0) and ("fork" in errors(started).lower() or "Resource" in errors(started))


def test_cpu_time_is_limited(executor: DockerExecutor, task: Make) -> None:
    code = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    started = task("", argv=(os.path.realpath(sys.executable), "-c", code), cpus=0.25)
    executor.start(started)
    wait_all(executor, 1)
    assert float(output(started)) < 1.0, "two seconds at a quarter of a CPU are half a second"


def test_usage_is_a_curve(executor: DockerExecutor, task: Make) -> None:
    code = "import time\nx = bytearray(60_000_000)\nend = time.monotonic() + 3.5\nwhile time.monotonic() < end: pass"
    started = task("", argv=(os.path.realpath(sys.executable), "-c", code))
    executor.start(started)
    finished = wait_all(executor, 1)[started.attempt_id]
    lines = (Path(started.stdout_path).parent / "usage.csv").read_text().splitlines()
    assert lines[0] == "seconds,cpus,memory_bytes" and len(lines) >= 3
    assert max(float(line.split(",")[1]) for line in lines[1:]) > 0.05, "a busy machine gives little"
    assert finished.peak_memory_bytes is not None and finished.peak_memory_bytes > 50_000_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "no-such-image:1"}, "the engine has no image no-such-image:1"),
        ({"argv": ("/no/such/program",)}, ""),
        ({"user": "nobody-here"}, "could not be started"),
    ],
)
def test_what_cannot_be_started(
    executor: DockerExecutor, task: Make, change: dict[str, object], said: str, engine: PrivateEngine
) -> None:
    started = task("true", **change)
    executor.start(started)
    exit = wait_all(executor, 1)[started.attempt_id].exit
    if "argv" in change:
        assert exit == Exited(127) and "no/such/program" in errors(started)
    else:
        assert isinstance(exit, Lost) and said in exit.reason
    until(lambda: not left(engine))


def test_an_input_that_is_gone_is_named(executor: DockerExecutor, task: Make, tmp_path: Path) -> None:
    started = task("true", mounts=((str(tmp_path / "gone"), "/gone"),))
    executor.start(started)
    exit = wait_all(executor, 1)[started.attempt_id].exit
    assert isinstance(exit, Lost) and str(tmp_path / "gone") in exit.reason
    assert not (tmp_path / "gone").exists()


def test_no_container_is_left(executor: DockerExecutor, task: Make, engine: PrivateEngine) -> None:
    for script in ("exit 0", "exit 3", "kill -9 $$"):
        executor.start(task(script))
    wait_all(executor, 3)
    executor.close()
    assert left(engine) == []


def test_closing_ends_what_runs(task: Make, engine: PrivateEngine) -> None:
    executor = DockerExecutor()
    started = task("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    executor.start(started)
    until(lambda: os.path.exists(started.stdout_path) and output(started))
    executor.close()
    assert left(engine) == []


def test_a_container_removed_by_hand_is_lost(executor: DockerExecutor, task: Make, engine: PrivateEngine) -> None:
    started = task("echo ready; sleep 30")
    executor.start(started)
    until(lambda: os.path.exists(started.stdout_path) and output(started))
    engine.client().remove_container(f"mlpipe-{started.attempt_id}", force=True)
    exit = wait_all(executor, 1)[started.attempt_id].exit
    assert exit == Killed(9) or exit == Lost("its container was removed by somebody else")


def test_no_engine_is_one_sentence_and_a_command(tmp_path: Path, task: Make) -> None:
    executor = DockerExecutor()
    with pytest.raises(ExecutorUnavailableError, match="no container engine listens at unix:///no/socket") as caught:
        executor.start(task("true", engine="unix:///no/socket"))
    assert "systemctl start docker" in caught.value.hint and "process" in caught.value.hint
    executor.close()
