"""The process executor: the contract, and what only processes can do."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from contract import ExecutorContract, task, wait_all
from mlpipe_engine.executors.process import ProcessExecutor
from mlpipe_engine.model.execution import Exited


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor()
    yield made
    made.close()


class TestProcessExecutor(ExecutorContract):
    pass


def alive(pid: int) -> bool:
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (("/no/such/program",), 127, "not found"),
        (("/etc/passwd",), 126, "not executable"),
        (("/bin/echo", "x" * (3 << 20)), 126, "too long"),
    ],
)
def test_what_cannot_be_started_ends_as_a_shell_would_say_it(
    executor: ProcessExecutor, tmp_path: Path, argv: tuple[str, ...], code: int, text: str
) -> None:
    started = task(tmp_path, "", argv=argv)
    executor.start(started)
    assert wait_all(executor, 1)[started.attempt_id].exit == Exited(code)
    assert text in Path(started.stderr_path).read_text()


def test_a_binary_of_no_known_kind(executor: ProcessExecutor, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    started = task(tmp_path, "", argv=(str(program),))
    executor.start(started)
    assert wait_all(executor, 1)[started.attempt_id].exit == Exited(126)


@pytest.mark.parametrize(
    "hide",
    ["setsid sleep 60 &", "(setsid sh -c 'sleep 60 & exit' &)", "setsid env -i sleep 60 &", "sh -c 'trap \"\" TERM; sleep 60' &"],
)
def test_nothing_of_a_step_outlives_it(executor: ProcessExecutor, tmp_path: Path, hide: str) -> None:
    length = f"60.{os.getpid()}"
    hide = hide.replace("sleep 60", f"sleep {length}")
    started = task(tmp_path, f"{hide}\nsleep 0.2; exit 5")
    executor.start(started)
    assert wait_all(executor, 1)[started.attempt_id].exit == Exited(5)
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and f"sleep\0{length}".encode() in _cmdline(pid)] == []


def _cmdline(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_what_one_step_leaves_behind_does_not_end_another(executor: ProcessExecutor, tmp_path: Path) -> None:
    long = task(tmp_path, "(setsid sleep 0.8; true) & wait; echo done")
    short = task(tmp_path, "setsid sleep 60 & exit 0")
    executor.start(long)
    executor.start(short)
    found = wait_all(executor, 2)
    assert found[short.attempt_id].exit == found[long.attempt_id].exit == Exited(0)
    assert Path(long.stdout_path).read_text() == "done\n"


def test_a_step_gets_no_descriptor_of_ours(executor: ProcessExecutor, tmp_path: Path) -> None:
    started = task(tmp_path, "ls /proc/$$/fd")
    executor.start(started)
    wait_all(executor, 1)
    assert set(Path(started.stdout_path).read_text().split()) <= {"0", "1", "2", "3", "10"}


def test_cpu_time_and_memory_are_measured_with_children(executor: ProcessExecutor, tmp_path: Path) -> None:
    code = "x = bytearray(60_000_000); sum(range(3_000_000))"
    started = task(tmp_path, f'{shlex.quote(sys.executable)} -I -S -c "{code}"; exit 0')
    executor.start(started)
    finished = wait_all(executor, 1)[started.attempt_id]
    assert finished.cpu_seconds is not None and finished.cpu_seconds > 0.01
    assert finished.peak_memory_bytes is not None and finished.peak_memory_bytes > 50_000_000


def test_closing_ends_everything(tmp_path: Path) -> None:
    executor = ProcessExecutor()
    started = task(tmp_path, "trap '' TERM; echo $$; while :; do sleep 0.1; done")
    executor.start(started)
    while not os.path.exists(started.stdout_path) or not Path(started.stdout_path).read_text():
        time.sleep(0.02)
    executor.close()
    assert not alive(int(Path(started.stdout_path).read_text()))


def test_waiting_can_be_ended_from_outside(tmp_path: Path) -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    executor = ProcessExecutor(reading)
    os.write(writing, b".")
    began = time.monotonic()
    assert executor.wait(10) == []
    assert time.monotonic() - began < 5
    os.close(writing)
    os.close(reading)
