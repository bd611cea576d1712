"""What every executor promises. A subclass gives `executor`; tasks need nothing but /bin/sh."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest
from mlpipe_engine.model.execution import Exited, Finished, Killed, StepTask
from mlpipe_engine.model.spec import Resources
from mlpipe_engine.ports import Executor


def task(folder: Path, script: str, **more: object) -> StepTask:
    attempt = uuid4().hex
    (folder / attempt).mkdir()
    values: dict[str, object] = {
        "attempt_id": attempt, "step_dir": str(folder / attempt), "argv": ("/bin/sh", "-c", script), "cwd": str(folder / attempt),
        "environment": (("PATH", "/usr/bin:/bin"), ("MLPIPE_ATTEMPT", attempt), ("X", "a b")), "grace_seconds": 0.3,
        "stdout_path": str(folder / attempt / "out"), "stderr_path": str(folder / attempt / "err"), "resources": Resources(),
    } | more  # fmt: skip
    return StepTask(**values)  # type: ignore[arg-type]


def wait_all(executor: Executor, count: int, seconds: float = 20.0) -> dict[str, Finished]:
    found: dict[str, Finished] = {}
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, "an attempt never ended"
        for finished in executor.wait(0.1):
            assert finished.attempt_id not in found, "an end is reported once"
            found[finished.attempt_id] = finished
    return found


class ExecutorContract:
    many = 60
    """How many attempts at once are no trouble to it."""

    @pytest.mark.parametrize("code", [0, 1, 3, 126, 255])
    def test_the_exit_code_is_the_programs_own(self, executor: Executor, tmp_path: Path, code: int) -> None:
        started = task(tmp_path, f"exit {code}")
        executor.start(started)
        assert wait_all(executor, 1)[started.attempt_id].exit == Exited(code)

    def test_streams_environment_and_folder(self, executor: Executor, tmp_path: Path) -> None:
        started = task(tmp_path, 'echo "$X"; pwd; echo err >&2; env | wc -l; cat')
        executor.start(started)
        wait_all(executor, 1)
        lines = Path(started.stdout_path).read_text().splitlines()
        assert lines[:2] == ["a b", started.cwd]
        assert int(lines[2]) <= 6, "nothing is inherited but what a shell sets itself"
        assert Path(started.stderr_path).read_text() == "err\n"

    def test_many_at_once_each_ends_once(self, executor: Executor, tmp_path: Path) -> None:
        tasks = [task(tmp_path, f"exit {number % 7}") for number in range(self.many)]
        for started in tasks:
            executor.start(started)
        found = wait_all(executor, self.many, 60.0)
        assert [found[t.attempt_id].exit for t in tasks] == [Exited(number % 7) for number in range(self.many)]

    def test_a_step_killed_by_somebody_else(self, executor: Executor, tmp_path: Path) -> None:
        started = task(tmp_path, "kill -9 $$")
        executor.start(started)
        assert wait_all(executor, 1)[started.attempt_id].exit == Killed(9)

    def test_cancel_ends_what_ignores_sigterm(self, executor: Executor, tmp_path: Path) -> None:
        started = task(tmp_path, "trap '' TERM; echo ready; while :; do sleep 0.1; done")
        executor.start(started)
        while not os.path.exists(started.stdout_path) or not Path(started.stdout_path).read_text():
            executor.wait(0.05)
        executor.cancel(started.attempt_id)
        finished = wait_all(executor, 1)[started.attempt_id]
        assert finished.canceled and finished.exit == Killed(9, "canceled")

    def test_a_step_that_ends_well_on_cancel_is_canceled_all_the_same(self, executor: Executor, tmp_path: Path) -> None:
        started = task(tmp_path, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
        executor.start(started)
        while not os.path.exists(started.stdout_path) or not Path(started.stdout_path).read_text():
            executor.wait(0.05)
        executor.cancel(started.attempt_id)
        assert wait_all(executor, 1)[started.attempt_id].canceled

    def test_a_timeout_is_told(self, executor: Executor, tmp_path: Path) -> None:
        started = task(tmp_path, "sleep 30", timeout_seconds=0.2)
        executor.start(started)
        finished = wait_all(executor, 1)[started.attempt_id]
        assert finished.timed_out and str(finished.exit) == "killed by signal 15: timed out after 0.2 s"

    def test_unknown_ids_are_ignored_and_close_is_idempotent(self, executor: Executor) -> None:
        executor.cancel("nobody")
        executor.close()
        executor.close()
